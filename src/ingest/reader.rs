use std::borrow::Cow;
use std::io::{self, Read};

use memchr::memchr;

use super::split::{Piece, Splitter};

/// The longest line or object that is kept, in bytes. A task with a large configuration is some 100 kB; a line
/// beyond this is no line of Docker's, and is passed over without being held.
pub const LINE_LIMIT_BYTES: usize = 4 << 20;

/// How much is read at a time. Larger gains nothing; a line longer than it makes the buffer grow.
const CHUNK_BYTES: usize = 128 << 10;

/// Cuts an input into lines, and arrays and pretty-printed objects into their objects. It holds one of them.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    is_at_end: bool,
    /// Inside an array or a pretty-printed object.
    splitter: Option<Splitter>,
    /// What comes next there begins a line.
    is_line_start: bool,
    /// Where that line ends, or the buffer; to be looked for where it is no longer ahead.
    line_end: usize,
    item: Item,
    /// The object that the splitter gave, or the text of a line that was no UTF-8.
    own: String,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    /// A part of the buffer.
    Line(usize, usize),
    /// What is in `own`.
    Own,
    TooLong,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; CHUNK_BYTES],
            start: 0,
            end: 0,
            is_at_end: false,
            splitter: None,
            is_line_start: false,
            line_end: 0,
            item: Item::TooLong,
            own: String::new(),
        }
    }

    /// The line or object that [`advance`](Self::advance) came to; `None` where it was longer than
    /// [`LINE_LIMIT_BYTES`].
    pub fn current(&self) -> Option<Cow<'_, str>> {
        match self.item {
            Item::Line(from, to) => {
                let bytes = &self.buffer[from..to];
                Some(std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed))
            }
            Item::Own => Some(Cow::Borrowed(&self.own)),
            Item::TooLong => None,
        }
    }

    /// Goes on to the next line or object; false at the end of the input.
    ///
    /// # Errors
    /// What the input gives: the lines before it were given whole.
    pub fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.splitter.is_some() {
                if self.next_object()? {
                    return Ok(true);
                }
                continue;
            }
            let Some((from, to)) = self.next_line()? else { return Ok(false) };
            if from == usize::MAX {
                self.item = Item::TooLong;
                return Ok(true);
            }
            if starts_structure(&self.buffer[from..to]) {
                // The line is read again, as the start of what it begins.
                self.start = from;
                self.splitter = Some(Splitter::new(LINE_LIMIT_BYTES));
                self.is_line_start = false;
                self.line_end = 0;
                continue;
            }
            self.item = Item::Line(from, to);
            return Ok(true);
        }
    }

    /// The place of the next line in the buffer, without its newline; `usize::MAX` for one that was too long.
    fn next_line(&mut self) -> io::Result<Option<(usize, usize)>> {
        let mut searched = 0;
        let mut is_too_long = false;
        loop {
            if let Some(offset) = memchr(b'\n', &self.buffer[self.start + searched..self.end]) {
                let from = self.start;
                let to = from + searched + offset;
                self.start = to + 1;
                return Ok(Some(if is_too_long { (usize::MAX, 0) } else { (from, to) }));
            }
            // An array may be on one line of any length: its objects are cut out instead.
            if starts_array(&self.buffer[self.start..self.end]) && !is_too_long {
                return Ok(Some((self.start, self.end)));
            }
            if self.end - self.start > LINE_LIMIT_BYTES {
                is_too_long = true;
            }
            if is_too_long {
                self.start = self.end;
            }
            searched = self.end - self.start;
            if self.is_at_end {
                let (from, to) = (self.start, self.end);
                self.start = self.end;
                return Ok(match (is_too_long, from == to) {
                    (true, _) => Some((usize::MAX, 0)),
                    (false, true) => None,
                    (false, false) => Some((from, to)),
                });
            }
            self.fill()?;
        }
    }

    fn next_object(&mut self) -> io::Result<bool> {
        let Some(splitter) = &mut self.splitter else { return Ok(false) };
        while self.start < self.end {
            let rest = &self.buffer[self.start..self.end];
            if self.is_line_start && !self.is_at_end && rest.len() == 1 {
                break;
            }
            if self.is_line_start && starts_line_of_its_own(rest) && splitter.give_up() {
                if splitter.is_between() {
                    self.splitter = None;
                }
                self.say("{");
                return Ok(true);
            }
            if self.line_end <= self.start {
                self.line_end = memchr(b'\n', rest).map_or(self.end, |newline| self.start + newline + 1);
            }
            let rest = &rest[..self.line_end - self.start];
            let (taken, piece) = splitter.take(rest);
            if taken > 0 {
                self.is_line_start = rest[taken - 1] == b'\n';
            }
            self.start += taken;
            self.item = match piece {
                Some(Piece::Object(bytes)) => {
                    self.own.clear();
                    self.own.push_str(&String::from_utf8_lossy(bytes));
                    Item::Own
                }
                Some(Piece::TooLong { .. }) => Item::TooLong,
                Some(Piece::Garbage { .. }) => {
                    self.own.clear();
                    self.own.push_str("between objects");
                    Item::Own
                }
                None => continue,
            };
            self.leave_structure();
            return Ok(true);
        }
        if self.is_at_end {
            let mut is_cut = false;
            splitter.finish(&mut |_| is_cut = true);
            self.splitter = None;
            self.say("{");
            return Ok(is_cut);
        }
        if splitter.is_between() {
            self.splitter = None;
            return Ok(false);
        }
        self.fill()?;
        Ok(false)
    }

    /// Gives a text in the place of what cannot be given.
    fn say(&mut self, text: &str) {
        self.own.clear();
        self.own.push_str(text);
        self.item = Item::Own;
    }

    /// Goes back to lines where the array or object has ended.
    fn leave_structure(&mut self) {
        let Some(splitter) = &mut self.splitter else { return };
        if let Some(rest) = memchr(b'\n', &self.buffer[self.start..self.end])
            && self.buffer[self.start..self.start + rest].iter().all(|byte| matches!(byte, b']' | b' ' | b'\r' | b'\t'))
        {
            splitter.take(&self.buffer[self.start..self.start + rest]);
            self.start += rest + 1;
            self.is_line_start = true;
        }
        if splitter.is_between() {
            self.splitter = None;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            self.line_end = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        self.is_at_end = read == 0;
        Ok(())
    }
}

/// Whether a line begins an array of objects, or an object that is printed over many lines. A line that is merely
/// cut off begins neither: the lines after it are read.
fn starts_structure(line: &[u8]) -> bool {
    line.trim_ascii() == b"{" || starts_array(line)
}

/// Whether a line begins as objects begin that have a line each. Within an object that is printed over many lines none
/// begins so: that one was cut off.
fn starts_line_of_its_own(line: &[u8]) -> bool {
    line.starts_with(b"{\"")
}

fn starts_array(line: &[u8]) -> bool {
    let Some(rest) = line.trim_ascii_start().strip_prefix(b"[") else { return false };
    matches!(rest.trim_ascii_start().first(), None | Some(b'{' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Vec<String> {
        let mut reader = Reader::new(input);
        let mut items = Vec::new();
        while reader.advance().expect("memory reads") {
            items.push(reader.current().map_or("too long".to_owned(), Cow::into_owned));
        }
        items
    }

    #[test]
    fn lines_arrays_and_pretty_objects_mix() {
        let input = b"a\n[{\"x\":1},{\"x\":2}]\nb\n[\n  {\n  \"x\": 3\n  }\n]\n{\n \"y\": {}\n}\nc";
        assert_eq!(read(input), ["a", r#"{"x":1}"#, r#"{"x":2}"#, "b", "{\n  \"x\": 3\n  }", "{\n \"y\": {}\n}", "c"]);
    }

    #[test]
    fn a_line_that_is_cut_off_does_not_swallow_the_next() {
        assert_eq!(read(b"{\"a\":\"x\",\n{\"b\":1}\n[info] x\ny"), ["{\"a\":\"x\",", "{\"b\":1}", "[info] x", "y"]);
    }

    #[test]
    fn a_line_of_which_only_a_brace_is_left_does_not_swallow_the_rest_of_the_file() {
        assert_eq!(read(b"{\n{\"b\":1}\n{\"c\":2}\nx"), ["{", "{\"b\":1}", "{\"c\":2}", "x"]);
        assert_eq!(read(b"{\n  \"a\": \"cut\n{\"b\":1}\n{\n  \"c\": {}\n}\n"), ["{", "{\"b\":1}", "{\n  \"c\": {}\n}"]);
        assert_eq!(read(b"[]{\"a\":\n{\"b\":1}\nx"), ["{", "{\"b\":1}", "x"]);
        assert_eq!(read(b"[\n{\"a\":\n{\"b\":1},\n{\"c\":2}\n]\nx"), ["{", "{\"b\":1}", "{\"c\":2}", "x"]);
        let mut one_by_one = Reader::new(OneByOne(b"{\n{\"b\":1}\nx"));
        let mut items = Vec::new();
        while one_by_one.advance().expect("memory reads") {
            items.push(one_by_one.current().map(Cow::into_owned));
        }
        assert_eq!(items, [Some("{".to_owned()), Some("{\"b\":1}".to_owned()), Some("x".to_owned())]);
    }

    struct OneByOne(&'static [u8]);

    impl Read for OneByOne {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over() {
        let mut input = vec![b'x'; LINE_LIMIT_BYTES * 3];
        input.extend_from_slice(b"\nafter\n");
        assert_eq!(read(&input), ["too long", "after"]);
        let mut object = format!("[{{\"x\":\"{}\"}},", "y".repeat(LINE_LIMIT_BYTES)).into_bytes();
        object.extend_from_slice(b"{\"x\":2}]\nafter");
        assert_eq!(read(&object), ["too long", "{\"x\":2}", "after"]);
    }

    #[test]
    fn an_array_longer_than_the_buffer_is_never_held() {
        let element = format!("{{\"x\":\"{}\"}}", "y".repeat(1000));
        let array = format!("[{}]", vec![element.as_str(); 2000].join(","));
        let mut reader = Reader::new(array.as_bytes());
        let mut count = 0;
        while reader.advance().expect("memory reads") {
            assert_eq!(reader.current().as_deref(), Some(element.as_str()));
            count += 1;
        }
        assert_eq!(count, 2000);
        assert!(reader.buffer.len() <= 2 * CHUNK_BYTES);
    }

    #[test]
    fn what_is_no_utf_8_is_still_a_line() {
        assert_eq!(read(b"a\xff\nb"), ["a\u{fffd}", "b"]);
    }

    #[test]
    fn an_array_cut_off_is_said() {
        assert_eq!(read(b"[{\"x\":1},{\"x\""), [r#"{"x":1}"#, "{"]);
    }
}
