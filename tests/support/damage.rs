//! Damages lines, the same way at every run: a case is its seed.
#![allow(unreachable_pub, reason = "a test binary has no public face")]

/// A small generator for what is drawn by the thousand: a case is its seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit.max(1)
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// One change to a line: a bit, a cut, something put in, or a value that is something else.
pub fn damage(line: &[u8], random: &mut Random) -> Vec<u8> {
    const ODD: [&str; 26] = [
        "null",
        "true",
        "-1",
        "0",
        "1e400",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "\"\"",
        "[]",
        "{}",
        "[{}]",
        "{\"a\":",
        "\"",
        "\\",
        "\\u0000",
        "\\ud800",
        "\u{feff}",
        "\u{202e}",
        "}",
        "]",
        ",",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "time=\"",
        "\u{1e}",
    ];
    let mut damaged = line.to_vec();
    for _ in 0..=random.below(3) {
        if damaged.is_empty() {
            break;
        }
        let at = random.index(damaged.len());
        match random.below(6) {
            0 => damaged[at] ^= 1 << random.below(8),
            1 => damaged.truncate(at),
            2 => {
                let odd = ODD[random.index(ODD.len())].as_bytes();
                damaged.splice(at..at, odd.iter().copied());
            }
            3 => {
                // What stands after a colon becomes something else.
                let colon = damaged[at..].iter().position(|byte| *byte == b':').map_or(at, |colon| at + colon);
                let end =
                    damaged[colon..].iter().position(|byte| matches!(byte, b',' | b'}')).map_or(colon, |e| colon + e);
                let odd = ODD[random.index(ODD.len())].as_bytes();
                let from = (colon + 1).min(end);
                damaged.splice(from..end, odd.iter().copied());
            }
            4 => {
                let end = (at + random.index(40)).min(damaged.len());
                let part = damaged[at..end].to_vec();
                damaged.splice(at..at, part);
            }
            _ => {
                let end = (at + random.index(40)).min(damaged.len());
                damaged.drain(at..end);
            }
        }
    }
    damaged
}
