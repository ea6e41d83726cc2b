//! Times, spans, figures and texts as the page writes them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use maud::{Markup, html};

use crate::model::Timestamp;

/// A text of a daemon's with what is not seen made visible, so that it cannot pass for another: control characters,
/// and those that turn or hide others. Maud escapes what HTML would read.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        let code = u32::from(char);
        if !is_unseen(char) {
            shown.push(char);
        } else if let Some(picture) = char::from_u32(0x2400 + code).filter(|_| code < 0x20) {
            shown.push(picture);
        } else {
            // A String takes everything: no error can come.
            let _ = write!(shown, "⟨U+{code:04X}⟩");
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those of Unicode's that direct, join, tag or have no width.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(
            u32::from(char),
            0xad | 0x61c
                | 0x115f
                | 0x1160
                | 0x180e
                | 0x200b..=0x200f
                | 0x2028..=0x202e
                | 0x2060..=0x206f
                | 0x3164
                | 0xfe00..=0xfe0f
                | 0xfeff
                | 0xffa0
                | 0xfff9..=0xfffb
                | 0xe0000..=0xe0fff
        )
}

/// The two largest units of a span: `40 s`, `3 h 20 min`.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}\u{a0}{unit}"),
        _ => format!("{large}\u{a0}{unit} {small}\u{a0}{small_unit}"),
    };
    match secs {
        0..60 => format!("{secs}\u{a0}s"),
        60..3600 => format!("{}\u{a0}min", secs / 60),
        3600..86_400 => two(secs / 3600, "h", secs % 3600 / 60, "min"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

/// How long before or after `now`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    match (now.since(at), at.since(now)) {
        (Duration::ZERO, ahead) if ahead > Duration::ZERO => format!("in {}", span(ahead)),
        (ago, _) if ago < Duration::from_secs(1) => "now".to_owned(),
        (ago, _) => format!("{} ago", span(ago)),
    }
}

/// The time of day, with the day where that is another than now's.
pub(super) fn clock(at: Timestamp, now: Timestamp) -> String {
    let form = if at.as_nanos().div_euclid(DAY_NANOS) == now.as_nanos().div_euclid(DAY_NANOS) {
        "%H:%M"
    } else {
        "%-d\u{a0}%b\u{a0}%H:%M"
    };
    format!("{}\u{a0}UTC", formatted(at, form))
}

/// A time by `strftime`'s letters.
pub(super) fn formatted(at: Timestamp, form: &str) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())) {
        Ok(time) => time.strftime(form).to_string(),
        Err(_) => at.to_string(),
    }
}

const DAY_NANOS: i64 = 86_400_000_000_000;

/// A moment in both ways, the exact one for machines and at the pointer.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at) title=(formatted(at, "%Y-%m-%d %H:%M:%S UTC")) {
            span .rel { (relative(at, now)) } " " span .dim { (clock(at, now)) }
        }
    }
}

/// A figure with its thousands apart.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Tries a minute: whole ones from ten on.
pub(super) fn pace(per_min: f64) -> String {
    if !per_min.is_finite() {
        "?".to_owned()
    } else if per_min == 0.0 {
        // The sum of none is -0.
        "0".to_owned()
    } else if per_min >= 10.0 {
        format!("{per_min:.0}")
    } else {
        format!("{per_min:.1}")
    }
}

/// `1 storm`, `2 storms`.
pub(super) fn many(count: u64, one: &str) -> String {
    format!("{}\u{a0}{one}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown() {
        assert_eq!(visible("plain ünï"), "plain ünï");
        assert_eq!(visible("a\nb\u{1b}[31m"), "a␊b␛[31m");
        assert_eq!(visible("x\u{202e}gpj.exe\u{7f}\u{85}"), "x⟨U+202E⟩gpj.exe⟨U+007F⟩⟨U+0085⟩");
    }

    #[test]
    fn spans_have_two_units() {
        let check = |secs, expected: &str| assert_eq!(span(Duration::from_secs(secs)).replace('\u{a0}', " "), expected);
        check(0, "0 s");
        check(59, "59 s");
        check(3599, "59 min");
        check(12_000, "3 h 20 min");
        check(172_800, "2 d");
    }

    #[test]
    fn figures() {
        assert_eq!(grouped(1_234_567).replace('\u{202f}', " "), "1 234 567");
        assert_eq!(pace([].iter().sum()), "0");
        assert_eq!((pace(59.6), pace(1.25), pace(f64::NAN)), ("60".to_owned(), "1.2".to_owned(), "?".to_owned()));
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!(relative(now.plus(Duration::from_secs(90)), now).replace('\u{a0}', " "), "in 1 min");
        assert_eq!(relative(now, now), "now");
        assert_eq!(clock(now, now).replace('\u{a0}', " "), "13:46 UTC");
        assert_eq!(clock(Timestamp::from_secs(0), now).replace('\u{a0}', " "), "1 Jan 00:00 UTC");
    }
}
