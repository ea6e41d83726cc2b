//! Integers, as go-yaml reads those of YAML's core schema, and durations and sizes, as docker writes them.

use std::time::Duration;

/// An integer: decimal, 0x, 0b, 0o and 0 for octal, with `_` between digits.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        // As Go has it: 010 is 8.
        Some(octal) if octal.starts_with('0') && octal != "0." => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|char: char| char.is_digit(radix)) || digits.ends_with('_') {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
}

/// A duration as Go's `time.ParseDuration` reads it: `1h30m`, `1.5s`, `500ms`, `0`. None below zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let is_number = |char: char| char.is_ascii_digit() || char == '.';
        let end = rest.find(|char| !is_number(char))?;
        let (number, after) = rest.split_at(end);
        let end = after.find(is_number).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit_nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        if !number.contains(|char: char| char.is_ascii_digit()) {
            return None;
        }
        nanos += number.parse::<f64>().ok()? * unit_nanos;
        rest = after;
    }
    // Go counts nanoseconds in 63 bits, some 292 years.
    if nanos > 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 9.2e18")]
    Some(Duration::from_nanos(nanos as u64))
}

/// Whether a text is a size as docker's go-units reads it: `64m`, `1.5GiB`, `1024`.
pub(super) fn is_size(text: &str) -> bool {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').filter(|unit| !unit.is_empty()).unwrap_or(unit);
    number.parse::<f64>().is_ok() && matches!(unit, "" | "k" | "m" | "g" | "t" | "p")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_go_reads_it() {
        for (text, millis) in [
            ("5s", Some(5000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            (".5s", Some(500)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("+1s", Some(1000)),
            ("", None),
            ("5", None),
            ("5 s", None),
            ("s", None),
            (".s", None),
            ("-5s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration(text).map(|duration| duration.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn an_integer_is_read_as_go_yaml_reads_it() {
        for (text, number) in [
            ("12", Some(12)),
            ("-3", Some(-3)),
            ("0x1f", Some(31)),
            ("1_000", Some(1000)),
            ("+1", Some(1)),
            ("010", Some(8)),
            ("0", Some(0)),
        ]
        .into_iter()
        .chain([
            ("", None),
            ("_1", None),
            ("1_", None),
            ("1.0", None),
            ("0x", None),
            ("--1", None),
            ("08", None),
            ("0.5", None),
        ]) {
            assert_eq!(integer(text), number, "{text}");
        }
    }

    #[test]
    fn a_size_is_known_when_it_is_seen() {
        assert!(["64m", "1.5GiB", "1024", "10 MB", "512KB"].into_iter().all(is_size));
        assert!(!["", "m", "64q", "-1m", "64 m b"].into_iter().any(is_size));
    }
}
