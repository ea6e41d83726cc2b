//! What others wrote, made fit for a terminal's cells: no control, no turning of direction, a bounded length, and
//! widths counted in cells, of which a CJK character takes two.

use ratatui::style::Style;
use ratatui::text::Span;

use crate::cli::render::printable;
use crate::model::{Status, Subject};

/// The longest name that is kept, in characters.
const NAME_CHARS_MAX: usize = 256;
/// The longest sentence that is kept, in characters.
const WORDS_CHARS_MAX: usize = 1024;
/// How many marks one character may carry.
const MARKS_MAX: usize = 2;
/// How many entries of each list are kept; the daemon sends fewer.
const ENTRIES_MAX: usize = 1000;
/// How many nodes, spenders or checks one entry has at most.
const PARTS_MAX: usize = 100;

/// How many cells a text takes: as ratatui places it, one character with its marks after another. As a whole some
/// scripts would be narrower, by ligatures that a terminal's cells do not have.
pub(super) fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    let graphemes = Span::raw(text);
    graphemes.styled_graphemes(Style::new()).map(|grapheme| Span::raw(grapheme.symbol).width()).sum()
}

/// The text without what could move the cursor, hide or turn text, and of at most so many characters.
fn clean(text: &mut String, chars_max: usize) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.len() <= chars_max {
        return;
    }
    let (mut kept, mut marks) = (String::new(), 0);
    for char in printable(text).chars().filter(|char| !is_hidden(*char)).take(chars_max) {
        let char = if matches!(char, '\u{2028}' | '\u{2029}') { ' ' } else { char };
        marks = if width(char.encode_utf8(&mut [0; 4])) == 0 { marks + 1 } else { 0 };
        if marks <= MARKS_MAX {
            kept.push(char);
        }
    }
    *text = kept;
}

/// Characters that take no cell, and joiners and selectors whose width each terminal decides for itself.
fn is_hidden(char: char) -> bool {
    matches!(char,
        '\u{61c}' | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Makes all of a status fit to be shown, and no larger than what can be.
pub(super) fn clean_status(status: &mut Status) {
    for name in [&mut status.node, &mut status.engine, &mut status.role, &mut status.version] {
        clean(name, NAME_CHARS_MAX);
    }
    status.storms.truncate(crate::model::STATUS_STORMS_MAX);
    for storm in &mut status.storms {
        clean_subject(&mut storm.subject);
        clean(&mut storm.id, NAME_CHARS_MAX);
        clean(&mut storm.image, WORDS_CHARS_MAX);
        clean(&mut storm.registry, NAME_CHARS_MAX);
        clean(&mut storm.detail, WORDS_CHARS_MAX);
        clean(&mut storm.advice, WORDS_CHARS_MAX);
        clean_names(&mut storm.nodes);
    }
    status.quarantines.truncate(ENTRIES_MAX);
    for held in &mut status.quarantines {
        for name in [&mut held.service, &mut held.phase, &mut held.response, &mut held.storm] {
            clean(name, NAME_CHARS_MAX);
        }
        clean(&mut held.next, WORDS_CHARS_MAX);
    }
    status.findings.truncate(ENTRIES_MAX);
    for finding in &mut status.findings {
        clean_subject(&mut finding.subject);
        clean(&mut finding.detail, WORDS_CHARS_MAX);
        clean_names(&mut finding.nodes);
    }
    status.gaps.truncate(PARTS_MAX);
    status.gaps.iter_mut().for_each(|gap| clean(&mut gap.why, WORDS_CHARS_MAX));
    status.registries.truncate(ENTRIES_MAX);
    for registry in &mut status.registries {
        clean(&mut registry.registry, NAME_CHARS_MAX);
        registry.spenders.truncate(PARTS_MAX);
        registry.spenders.iter_mut().for_each(|(name, _)| clean(name, NAME_CHARS_MAX));
    }
    status.receivers.truncate(PARTS_MAX);
    for receiver in &mut status.receivers {
        clean(&mut receiver.name, NAME_CHARS_MAX);
        clean(&mut receiver.kind, NAME_CHARS_MAX);
        clean(&mut receiver.trouble, WORDS_CHARS_MAX);
    }
    status.history.truncate(PARTS_MAX);
    status.health.checks.truncate(PARTS_MAX);
    for check in &mut status.health.checks {
        clean(&mut check.name, NAME_CHARS_MAX);
        clean(&mut check.detail, WORDS_CHARS_MAX);
    }
}

/// One sentence of trouble, fit to be shown.
pub(super) fn cleaned(mut words: String) -> String {
    clean(&mut words, WORDS_CHARS_MAX);
    words
}

fn clean_subject(subject: &mut Subject) {
    clean(&mut subject.name, NAME_CHARS_MAX);
    if subject.name.trim().is_empty() {
        "(no name)".clone_into(&mut subject.name);
    }
    clean(&mut subject.id, NAME_CHARS_MAX);
    if let Some(stack) = &mut subject.stack {
        clean(stack, NAME_CHARS_MAX);
    }
}

fn clean_names(names: &mut Vec<String>) {
    names.truncate(PARTS_MAX);
    names.iter_mut().for_each(|name| clean(name, NAME_CHARS_MAX));
}

/// The text in at most so many cells; what is cut off is said by an ellipsis.
pub(super) fn fit(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for char in text.chars() {
        let wide = width(char.encode_utf8(&mut [0; 4]));
        if used + wide + 1 > cells {
            break;
        }
        used += wide;
        kept.push(char);
    }
    if cells > 0 {
        kept.push('…');
    }
    kept
}

/// The text in exactly so many cells.
pub(super) fn pad(text: &str, cells: usize, is_right: bool) -> String {
    let text = fit(text, cells);
    let space = " ".repeat(cells.saturating_sub(width(&text)));
    if is_right { space + &text } else { text + &space }
}

/// Lines of at most so many cells, broken at spaces; a word longer than a line is broken too.
pub(super) fn wrap(text: &str, cells: usize) -> Vec<String> {
    // A character may take two cells.
    let cells = cells.max(2);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide <= cells {
            line.push(' ');
            line.push_str(word);
            used += 1 + wide;
            continue;
        }
        if used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for char in word.chars() {
            let wide = width(char.encode_utf8(&mut [0; 4]));
            if used + wide > cells {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(char);
            used += wide;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// A count in at most four cells.
pub(super) fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => "lots".to_owned(),
    }
}

/// A rate: with a decimal where that says something.
pub(super) fn rate(per_min: f64) -> String {
    match per_min {
        rate if !rate.is_finite() || rate <= 0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9999.5 => format!("{rate:.0}"),
        rate if rate < 999_500.0 => format!("{:.0}k", rate / 1e3),
        _ => "lots".to_owned(),
    }
}

/// Bars for these values, the highest of which is a full one; nothing yet is a space.
pub(super) fn bars(values: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) if top > 0.0 && *value > 0.0 => {
            let steps = BARS.iter().zip(1_u8..).find(|(_, step)| *value <= top * f64::from(*step) / 8.0);
            steps.map_or('█', |(bar, _)| *bar)
        }
        Some(_) => '▁',
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_asked() {
        let text = format!("a bb {} 漢字かな交じり文 c", "x".repeat(50));
        for cells in [2, 7, 20, 80] {
            let lines = wrap(&text, cells);
            assert!(lines.iter().all(|line| width(line) <= cells), "{cells}: {lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
            assert!(width(&fit(&text, cells)) <= cells);
            assert_eq!(width(&pad(&text, cells, true)), cells);
        }
        assert_eq!((fit("漢字", 3), fit("abc", 0), pad("漢", 3, false)), ("漢…".into(), String::new(), "漢 ".into()));
    }

    #[test]
    fn a_ligature_takes_the_cells_of_its_letters() {
        assert_eq!(width("\u{644}\u{627}"), 2);
        assert_eq!(width("漢z\u{301}"), 3);
    }

    #[test]
    fn a_hostile_text_is_tamed() {
        let mut text = format!("a\x1b[2J\u{202e}b\u{200b}c{}", "\u{301}".repeat(900));
        clean(&mut text, 300);
        assert_eq!(text, "a\u{fffd}[2J\u{fffd}bc\u{301}\u{301}");
        let mut long = "x".repeat(5000);
        clean(&mut long, NAME_CHARS_MAX);
        assert_eq!(long.len(), NAME_CHARS_MAX);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(["0", "3.5", "35", "12k", "lots"].map(str::to_owned), [0.0, 3.54, 35.2, 12e3, 1e9].map(rate));
        assert_eq!(["9999", "10k", "2M"].map(str::to_owned), [9999, 10_000, 2_500_000].map(count));
        assert_eq!(bars(&[None, Some(0.0), Some(1.0), Some(8.0), Some(f64::NAN)]), " ▁▁█▁");
    }
}
