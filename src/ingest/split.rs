//! Cuts a stream of bytes into JSON objects without reading them.
//!
//! Docker frames its answers in four ways: one object after another with or without a newline (`/events`), an array
//! (`/tasks`), and RS-prefixed objects (`application/json-seq`, API 1.52). All four are objects with separators
//! between them, so one rule cuts them all: outside a string, braces balance. Arrays are opened, never held: the
//! memory is that of the longest object, not of the listing.
//!
//! It does not validate: what it cuts is handed to a parser that does.

use memchr::{memchr2, memchr3};

/// What [`Splitter`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// One whole object, from its `{` to its `}`.
    Object(&'a [u8]),
    /// An object longer than the limit; it was passed over, not kept.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
    },
    /// Bytes between objects that are no separator, or an object cut off by the end of the stream.
    Garbage {
        /// How many.
        bytes: u64,
    },
}

/// Cuts a stream of bytes into JSON objects. See the module.
#[derive(Debug)]
pub struct Splitter {
    limit_bytes: usize,
    held: Vec<u8>,
    /// Length of the object so far, held or passed over.
    seen_bytes: u64,
    depth: u32,
    in_string: bool,
    escaped: bool,
    garbage_bytes: u64,
    /// How many `[` of the stream's own are open: objects inside are elements.
    open_arrays: u32,
}

impl Splitter {
    /// A splitter that passes over objects longer than `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held: Vec::new(),
            seen_bytes: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            garbage_bytes: 0,
            open_arrays: 0,
        }
    }

    /// Whether the stream stands between two top-level values: nothing is half read.
    pub fn is_between(&self) -> bool {
        self.depth == 0 && self.open_arrays == 0
    }

    /// Takes the next bytes of the stream and hands each object that they complete to `sink`.
    pub fn push(&mut self, chunk: &[u8], sink: &mut dyn FnMut(Piece<'_>)) {
        let mut at = 0;
        while at < chunk.len() {
            let (taken, piece) = self.take(&chunk[at..]);
            if let Some(piece) = piece {
                sink(piece);
            }
            at += taken;
        }
    }

    /// Takes bytes of the stream up to the end of the next piece. Returns how many it took, all of them where they
    /// complete none; never zero of a chunk that is not empty, but where the piece is garbage.
    pub fn take<'a>(&'a mut self, chunk: &'a [u8]) -> (usize, Option<Piece<'a>>) {
        let mut at = 0;
        let mut scanned = 0;
        if self.depth == 0 {
            at = self.skip_separators(chunk);
            if at == chunk.len() {
                return (at, None);
            }
            if self.garbage_bytes > 0 {
                let bytes = std::mem::take(&mut self.garbage_bytes);
                return (at, Some(Piece::Garbage { bytes }));
            }
            self.depth = 1;
            self.seen_bytes = 0;
            self.held.clear();
            scanned = at + 1;
        }
        let end = self.scan_object(chunk, scanned);
        let part = &chunk[at..end];
        self.seen_bytes += part.len() as u64;
        if self.depth > 0 {
            self.hold(part);
            return (end, None);
        }
        (end, Some(self.complete(part)))
    }

    /// Gives up the object that is half read; false where there is none. The arrays around it stay open.
    pub fn give_up(&mut self) -> bool {
        let is_inside = self.depth > 0;
        if is_inside {
            *self = Self { open_arrays: self.open_arrays, ..Self::new(self.limit_bytes) };
        }
        is_inside
    }

    /// Says that the stream has ended: what is half read is garbage.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Piece<'_>)) {
        let bytes = self.garbage_bytes + if self.depth > 0 { self.seen_bytes } else { 0 };
        if bytes > 0 {
            sink(Piece::Garbage { bytes });
        }
        *self = Self::new(self.limit_bytes);
    }

    /// The place of the next `{`, or the chunk's end.
    fn skip_separators(&mut self, chunk: &[u8]) -> usize {
        for (at, byte) in chunk.iter().enumerate() {
            match byte {
                b'{' => return at,
                b'[' => self.open_arrays = self.open_arrays.saturating_add(1),
                b']' => self.open_arrays = self.open_arrays.saturating_sub(1),
                b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x1e => {}
                _ => self.garbage_bytes += 1,
            }
        }
        chunk.len()
    }

    /// Walks on inside an object; returns the place after its last brace, or the chunk's end.
    fn scan_object(&mut self, chunk: &[u8], from: usize) -> usize {
        let mut at = from;
        while at < chunk.len() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                match memchr2(b'"', b'\\', &chunk[at..]) {
                    None => return chunk.len(),
                    Some(offset) => {
                        at += offset + 1;
                        if chunk[at - 1] == b'"' {
                            self.in_string = false;
                        } else {
                            self.escaped = true;
                        }
                    }
                }
                continue;
            }
            match memchr3(b'"', b'{', b'}', &chunk[at..]) {
                None => return chunk.len(),
                Some(offset) => {
                    at += offset + 1;
                    match chunk[at - 1] {
                        b'"' => self.in_string = true,
                        b'{' => self.depth = self.depth.saturating_add(1),
                        _ => {
                            self.depth -= 1;
                            if self.depth == 0 {
                                return at;
                            }
                        }
                    }
                }
            }
        }
        at
    }

    fn hold(&mut self, part: &[u8]) {
        if self.seen_bytes <= self.limit_bytes as u64 {
            self.held.extend_from_slice(part);
        } else if !self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    fn complete<'a>(&'a mut self, part: &'a [u8]) -> Piece<'a> {
        if self.seen_bytes > self.limit_bytes as u64 {
            self.held = Vec::new();
            return Piece::TooLong { bytes: self.seen_bytes };
        }
        if self.held.is_empty() {
            return Piece::Object(part);
        }
        self.held.extend_from_slice(part);
        Piece::Object(&self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]], limit_bytes: usize) -> Vec<String> {
        let mut found = Vec::new();
        let mut sink = |piece: Piece<'_>| {
            found.push(match piece {
                Piece::Object(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Piece::TooLong { bytes } => format!("too long: {bytes}"),
                Piece::Garbage { bytes } => format!("garbage: {bytes}"),
            });
        };
        let mut splitter = Splitter::new(limit_bytes);
        for chunk in chunks {
            splitter.push(chunk, &mut sink);
        }
        splitter.finish(&mut sink);
        found
    }

    #[test]
    fn every_framing_gives_the_same_objects() {
        let objects = [r#"{"a":{"b":"}\"{"}}"#, r#"{"c":[{},{}]}"#];
        for stream in [
            objects.join("\n"),
            objects.join(""),
            format!("[{}]", objects.join(",")),
            format!("[\n  {}\n]\n", objects.join(",\n  ")),
            format!("\u{1e}{}\n\u{1e}{}\n", objects[0], objects[1]),
        ] {
            assert_eq!(cut(&[stream.as_bytes()], 100), objects, "{stream}");
        }
    }

    #[test]
    fn any_chunking_gives_the_same_objects() {
        let stream = br#"[{"a":"x\\"},{"b":"\"]{"},{}]"#;
        let whole = cut(&[stream], 100);
        assert_eq!(whole.len(), 3);
        for cut_at in 0..stream.len() {
            assert_eq!(cut(&[&stream[..cut_at], &stream[cut_at..]], 100), whole);
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(cut(&bytes, 100), whole);
    }

    #[test]
    fn a_long_object_is_passed_over_and_the_next_is_read() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(50));
        let stream = format!("{long}\n{{}}");
        assert_eq!(cut(&[stream.as_bytes()], 20), ["too long: 58", "{}"]);
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(7).collect();
        assert_eq!(cut(&bytes, 20), ["too long: 58", "{}"]);
    }

    #[test]
    fn what_is_no_object_is_counted() {
        assert_eq!(cut(&[b"abc {} 17"], 20), ["garbage: 3", "{}", "garbage: 2"]);
        assert_eq!(cut(&[br#"{"a":"#], 20), ["garbage: 5"]);
    }
}
