//! What all receivers do to a text before they put it into a format of their own.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::model::{AlertStorm, Timestamp, span_in_words};

/// What stands for what was cut.
pub(super) const ELLIPSIS: char = '…';

/// Units of a service's name in full; Docker allows 63 for a part of a name, and a stack's is put in front.
pub(super) const NAME_MAX: usize = 128;

/// Put between two characters that would mean something together; it is not seen.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// A text on one line without what steers a terminal or a reader's eye. Controls, overrides of the direction and
/// what nobody can see would let one name look like another.
pub(super) fn clean(text: &str) -> String {
    let shown = text.chars().filter_map(|char| match char {
        '\n' | '\r' | '\t' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        // Zero width, soft hyphen, byte order mark, invisible operators, tags.
        '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => None,
        '\u{e0000}'..='\u{e007f}' => None,
        // Marks, embeddings, overrides and isolates of the direction; interlinear notes.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' => Some('\u{fffd}'),
        '\u{fff9}'..='\u{fffb}' => Some('\u{fffd}'),
        char if char.is_control() => Some('\u{fffd}'),
        char => Some(char),
    });
    shown.collect::<String>().trim().to_owned()
}

/// [`clean`], and at most `max` units long.
pub(super) fn short(text: &str, max: usize) -> String {
    // What is far beyond the cut is not looked at: a text has no length that can be relied on. Four times as much leaves
    // room for what is removed.
    let looked_at = text.char_indices().nth(max.saturating_mul(4)).map_or(text.len(), |(end, _)| end);
    cut(&clean(&text[..looked_at]), max).into_owned()
}

/// The length that limits are checked against: UTF-16 units, as services written in JavaScript, Java and C# count.
/// Whoever counts code points counts no more.
pub(super) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The text, or as much of it as fits `max` units with an ellipsis.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    cut_escaped(text, max, &|char, out| out.push(char))
}

/// The text escaped char by char, or as much of it as fits `max` units with an ellipsis: an escape is whole or absent.
pub(super) fn cut_escaped<'a>(text: &'a str, max: usize, escape: &dyn Fn(char, &mut String)) -> Cow<'a, str> {
    let mut out = String::new();
    let (mut used, mut end) = (0, 0);
    for char in text.chars() {
        let from = out.len();
        escape(char, &mut out);
        used += units(&out[from..]);
        if used > max {
            out.truncate(end);
            out.truncate(out.trim_end().len());
            if max > 0 {
                out.push(ELLIPSIS);
            }
            return Cow::Owned(out);
        }
        if used < max {
            end = out.len();
        }
    }
    Cow::Owned(out)
}

/// Keeps what a service would make of a plain text from being made: a mention, a link. Escapes do not stop these. An
/// `@` within a word mentions nobody, and stays: `web@sha256:...` is there to be copied.
pub(super) fn defuse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut is_in_word = false;
    while let Some(char) = rest.next() {
        out.push(char);
        if char == '@' && !is_in_word || char == ':' && rest.peek() == Some(&'/') {
            out.push(ZERO_WIDTH_SPACE);
        }
        is_in_word = char.is_ascii_alphanumeric();
    }
    out
}

/// HTML as Telegram and Google Chat read it.
pub(super) fn escape_html(char: char, out: &mut String) {
    match char {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        char => out.push(char),
    }
}

/// A whole text through an escape.
pub(super) fn escaped(text: &str, escape: fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|char| escape(char, &mut out));
    out
}

/// `2026-11-20 14:02`
pub(super) fn day_and_time(at: Timestamp) -> String {
    formatted(at, "%Y-%m-%d %H:%M")
}

fn formatted(at: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}

/// `since 14:02 UTC (23 min)`, `from 14:02 to 14:25 UTC (23 min)`; with the day if that is not the day of `at`. A storm
/// that began before it was seen reads `before 14:02 UTC`.
pub(super) fn since(onset: Timestamp, ended: Option<Timestamp>, exact: bool, at: Timestamp) -> String {
    let moment = |time: Timestamp| {
        let is_today = formatted(time, "%Y-%m-%d") == formatted(at, "%Y-%m-%d");
        if is_today { formatted(time, "%H:%M") } else { day_and_time(time) }
    };
    match ended {
        None if !exact => format!("before {} UTC", moment(onset)),
        Some(end) if !exact => format!("from before {} to {} UTC", moment(onset), moment(end)),
        None => format!("since {} UTC ({})", moment(onset), span_in_words(at.since(onset))),
        Some(end) => format!("from {} to {} UTC ({})", moment(onset), moment(end), span_in_words(end.since(onset))),
    }
}

/// The name of a storm's service, never empty.
pub(super) fn name(storm: &AlertStorm, max: usize) -> String {
    let subject = &storm.subject;
    [&subject.name, &subject.id]
        .into_iter()
        .map(|name| short(name, max))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "(no name)".to_owned())
}

/// `failed 128 times, 60/min`
pub(super) fn frequency(storm: &AlertStorm) -> String {
    let times = if storm.failed == 1 { "time" } else { "times" };
    let pace = storm.attempts_per_min;
    let mut text = format!("failed {} {times}", storm.failed_in_words());
    // What is over has no pace, and a broken number is not worth a word.
    if storm.ended.is_none() && pace.is_finite() && pace >= 0.05 {
        let digits = usize::from(pace < 10.0 && pace.fract() >= 0.05);
        let _ = write!(text, ", {pace:.digits$}/min");
    }
    text
}

/// A few of the names, and how many more there are. Empty if there is none.
pub(super) fn names(names: &[String], max: usize, name_max: usize) -> String {
    let mut text = names.iter().take(max).map(|name| short(name, name_max)).collect::<Vec<_>>().join(", ");
    if names.len() > max {
        let _ = write!(text, " and {} more", names.len() - max);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_reader_is_gone() {
        assert_eq!(clean("a\u{202e}b\u{200b}c\nd\x07\u{feff}é😀"), "a\u{fffd}bc d\u{fffd}é😀");
        assert_eq!(clean("  \r\n\u{2066}"), "\u{fffd}");
        assert_eq!(clean("\u{200b} \n"), "");
    }

    #[test]
    fn a_cut_keeps_characters_and_escapes_whole() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("😀😀", 3), "😀…");
        assert_eq!(cut("😀😀", 2), "…");
        assert_eq!(cut("a", 0), "");
        assert_eq!(cut_escaped("<<<", 9, &escape_html), "&lt;&lt;…");
        assert_eq!(cut_escaped("<<<", 8, &escape_html), "&lt;…");
        assert_eq!(short(&"\u{200b}x".repeat(5_000), 4), "xxx…");
    }

    #[test]
    fn times_are_said_in_utc() {
        let at = |text: &str| Timestamp::parse(text).expect("a time");
        let now = at("2026-11-20T14:25:00Z");
        assert_eq!(since(at("2026-11-20T14:02:00Z"), None, true, now), "since 14:02 UTC (23 min)");
        assert_eq!(since(at("2026-11-18T14:02:00Z"), None, true, now), "since 2026-11-18 14:02 UTC (2 d)");
        let ended = Some(at("2026-11-20T14:03:00Z"));
        assert_eq!(since(at("2026-11-20T14:02:00Z"), ended, true, now), "from 14:02 to 14:03 UTC (60 s)");
        // A clock that is ahead.
        assert_eq!(since(at("2026-11-20T14:02:00Z"), None, false, now), "before 14:02 UTC");
        assert_eq!(since(at("2026-11-20T14:26:00Z"), None, true, now), "since 14:26 UTC (0 s)");
    }

    #[test]
    fn mentions_and_links_are_taken_apart() {
        assert_eq!(defuse("@here http://x a:b"), "@\u{200b}here http:\u{200b}//x a:b");
        assert_eq!(defuse("web:7@sha256:0f .@all"), "web:7@sha256:0f .@\u{200b}all");
    }
}
