//! What an alert says, before any format: lines of spans, as much of it as a receiver has room for.
//!
//! Room is found by saying less, never by cutting a finished text: first the storms are told in full, then a line each,
//! then by name, and only then are some of them only counted. The title, the services and the next step go last.

use std::fmt::Write as _;

use super::FormatError;
use super::steps::{self, STEPS_MAX};
use super::text::{self, NAME_MAX, name};
use crate::model::{Alert, AlertKind, AlertStorm, Severity};

/// How a span is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Words.
    Plain,
    /// What the eye looks for.
    Strong,
    /// The name of a service or an image, to be copied.
    Name,
    /// What an engine said.
    Quote,
}

/// A piece of a line. Its text is clean, and not escaped.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// Spans that follow each other without a space of their own.
pub(super) type Line = Vec<Span>;

/// Lines that belong together.
pub(super) type Block = Vec<Line>;

/// How much is said.
#[derive(Clone, Copy, Debug)]
struct Depth {
    storm: StormDepth,
    storms_max: usize,
    lines_max: usize,
    steps_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StormDepth {
    /// Several lines each.
    Full,
    /// A line each.
    Compact,
    /// The name and the cause; the name has so many units.
    Named(usize),
}

/// What is tried until it fits. Five storms in full are a screen of a phone. The last step has at most
/// 1,000 units, title and all, which leaves every receiver room for its escapes.
const LADDER: [Depth; 10] = [
    Depth { storm: StormDepth::Full, storms_max: 5, lines_max: 20, steps_max: STEPS_MAX },
    Depth { storm: StormDepth::Full, storms_max: 5, lines_max: 4, steps_max: STEPS_MAX },
    Depth { storm: StormDepth::Compact, storms_max: 20, lines_max: 20, steps_max: STEPS_MAX },
    Depth { storm: StormDepth::Compact, storms_max: 20, lines_max: 8, steps_max: STEPS_MAX },
    Depth { storm: StormDepth::Named(64), storms_max: 20, lines_max: 8, steps_max: STEPS_MAX },
    Depth { storm: StormDepth::Named(64), storms_max: 20, lines_max: 2, steps_max: 3 },
    Depth { storm: StormDepth::Named(24), storms_max: 20, lines_max: 1, steps_max: 1 },
    Depth { storm: StormDepth::Named(24), storms_max: 10, lines_max: 0, steps_max: 1 },
    Depth { storm: StormDepth::Named(24), storms_max: 3, lines_max: 0, steps_max: 1 },
    Depth { storm: StormDepth::Named(24), storms_max: 0, lines_max: 0, steps_max: 1 },
];

/// Units of a title: the 300 bytes of [`Alert::title`] and no more.
pub(super) const TITLE_MAX: usize = 300;
/// Units of a further line, of costs and answers: three lines on a phone.
pub(super) const LINE_MAX: usize = 300;
/// Units of the engine's own words: all of [`AlertStorm::detail`].
pub(super) const DETAIL_MAX: usize = 512;
/// Units of a node's name: a label of DNS has 63.
const NODE_MAX: usize = 64;
/// Nodes by name, in full and in a line.
const NODES_FULL: usize = 5;
const NODES_COMPACT: usize = 2;

/// The first rendering that `render` finds room for: it returns none where there is none.
pub(super) fn fitting<T>(
    receiver: &'static str,
    alert: &Alert,
    mut render: impl FnMut(&[Block]) -> Option<T>,
) -> Result<T, FormatError> {
    LADDER
        .iter()
        .filter(|depth| depth.storm != StormDepth::Full || alert.storms.len() <= depth.storms_max)
        .find_map(|depth| render(&blocks(alert, *depth)))
        .ok_or(FormatError::TooLarge { receiver })
}

/// The one line that says it all, never empty.
pub(super) fn title(alert: &Alert) -> String {
    let title = text::short(&alert.title, TITLE_MAX);
    if title.is_empty() { format!("squall: {}", alert.kind) } else { title }
}

/// Whether a person is to do something now, so that a receiver may ping one.
pub(super) fn wants_mention(alert: &Alert) -> bool {
    let asks = match alert.kind {
        AlertKind::Onset
        | AlertKind::Baseline
        | AlertKind::CauseChanged
        | AlertKind::Escalation
        | AlertKind::Quarantine
        | AlertKind::Repeat
        | AlertKind::Gap
        | AlertKind::Trouble
        | AlertKind::Digest
        | AlertKind::Drill => true,
        AlertKind::Release | AlertKind::Subsided | AlertKind::Recovered | AlertKind::Summary => false,
    };
    asks && alert.severity == Severity::Critical && !alert.ends
}

/// Whether it tells that something is over.
pub(super) fn is_over(alert: &Alert) -> bool {
    // A drill may end in itself and is to look like the real thing.
    alert.kind != AlertKind::Drill
        && (alert.ends || matches!(alert.kind, AlertKind::Subsided | AlertKind::Recovered | AlertKind::Release))
}

/// `critical onset, said by manager1 at 2026-11-20 14:25 UTC`
pub(super) fn origin(alert: &Alert) -> String {
    let mut origin = format!("{} {}", alert.severity, alert.kind);
    let node = text::short(&alert.node, NODE_MAX);
    if !node.is_empty() {
        let _ = write!(origin, ", said by {node}");
    }
    let _ = write!(origin, " at {} UTC", text::day_and_time(alert.at));
    origin
}

/// The storm in lines.
pub(super) fn storm_in_full(alert: &Alert, storm: &AlertStorm) -> Block {
    let mut place = String::new();
    if let Some(stack) = stack(storm) {
        let _ = write!(place, " in stack {stack}");
    }
    let nodes = text::names(&storm.nodes, NODES_FULL, NODE_MAX);
    if !nodes.is_empty() {
        let _ = write!(place, " on {nodes}");
    }
    let mut first = vec![span(Tone::Name, name(storm, NAME_MAX))];
    if !place.is_empty() {
        first.push(span(Tone::Plain, place));
    }
    let when = format!("{}, {}", text::since(storm.onset, storm.ended, storm.exact, alert.at), text::frequency(storm));
    let detail = text::short(&storm.detail, DETAIL_MAX);
    let why = if detail.is_empty() {
        labelled("Why:", Tone::Plain, storm.cause.as_str().to_owned())
    } else {
        let cause = format!(" {}: ", storm.cause);
        vec![span(Tone::Strong, "Why:".to_owned()), span(Tone::Plain, cause), span(Tone::Quote, detail)]
    };
    let mut block = vec![first, vec![span(Tone::Plain, when)], why];
    let facts = [
        ("Image:", Tone::Name, &storm.image),
        ("Cost:", Tone::Plain, &storm.cost),
        ("squall:", Tone::Plain, &storm.answer),
    ];
    for (label, tone, fact) in facts {
        let fact = text::short(fact, LINE_MAX);
        if !fact.is_empty() {
            block.push(labelled(label, tone, fact));
        }
    }
    block
}

fn storm_in_a_line(alert: &Alert, storm: &AlertStorm) -> Line {
    let mut place = String::new();
    if let Some(stack) = stack(storm) {
        let _ = write!(place, " ({stack})");
    }
    let nodes = text::names(&storm.nodes, NODES_COMPACT, NODE_MAX);
    if !nodes.is_empty() {
        let _ = write!(place, " on {nodes}");
    }
    let since = text::since(storm.onset, storm.ended, storm.exact, alert.at);
    // What each try costs; the pace is said already.
    let cost = match storm.severity {
        Severity::Critical if storm.ended.is_none() => {
            format!(", each try asks {}", text::short(&storm.registry, NODE_MAX))
        }
        _ => String::new(),
    };
    let rest = format!("{place}: {}, {}{cost}, {since}", storm.cause, text::frequency(storm));
    vec![bullet(), span(Tone::Name, name(storm, NODE_MAX)), span(Tone::Plain, rest)]
}

fn stack(storm: &AlertStorm) -> Option<String> {
    storm.subject.stack.as_ref().map(|stack| text::short(stack, NODE_MAX)).filter(|stack| !stack.is_empty())
}

fn blocks(alert: &Alert, depth: Depth) -> Vec<Block> {
    let mut blocks = vec![vec![vec![span(Tone::Plain, origin(alert))]]];
    let storms = &alert.storms[..alert.storms.len().min(depth.storms_max)];
    match depth.storm {
        StormDepth::Full => blocks.extend(storms.iter().map(|storm| storm_in_full(alert, storm))),
        StormDepth::Compact => blocks.push(storms.iter().map(|storm| storm_in_a_line(alert, storm)).collect()),
        StormDepth::Named(max) => {
            let named = |storm: &AlertStorm| {
                let rest = format!(": {}, failed {}", storm.cause, storm.failed_in_words());
                vec![bullet(), span(Tone::Name, name(storm, max)), span(Tone::Plain, rest)]
            };
            blocks.push(storms.iter().map(named).collect());
        }
    }
    if let Some(more) = left_out(alert, storms.len()) {
        blocks.push(vec![vec![span(Tone::Plain, more)]]);
    }
    blocks.push(lines(alert, depth.lines_max));
    blocks.push(match <[String; 1]>::try_from(steps::lines(alert, depth.steps_max)) {
        Ok([step]) => vec![labelled("Next:", Tone::Plain, step)],
        Err(steps) => {
            let label = steps.first().map(|_| vec![span(Tone::Strong, "Next:".to_owned())]);
            label.into_iter().chain(steps.into_iter().map(|step| vec![bullet(), span(Tone::Plain, step)])).collect()
        }
    });
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// `and 300 more storms`, where only `told` are told.
pub(super) fn left_out(alert: &Alert, told: usize) -> Option<String> {
    let untold = u64::try_from(alert.storms.len().saturating_sub(told)).unwrap_or(u64::MAX);
    match alert.storms_left_out.saturating_add(untold) {
        0 => None,
        1 => Some("and 1 more storm".to_owned()),
        count => Some(format!("and {count} more storms")),
    }
}

fn lines(alert: &Alert, max: usize) -> Block {
    // A line that begins with a bullet begins no heading, quotation or list of Markdown.
    let said = alert.lines.iter().take(max).map(|line| text::short(line, LINE_MAX)).filter(|line| !line.is_empty());
    let mut block: Block = said.map(|line| vec![bullet(), span(Tone::Plain, line)]).collect();
    if alert.lines.len() > max {
        block.push(vec![span(Tone::Plain, format!("and {} more lines", alert.lines.len() - max))]);
    }
    block
}

fn labelled(label: &str, tone: Tone, text: String) -> Line {
    // The space is outside: Markdown does not end a strong span behind one.
    let label = span(Tone::Strong, label.to_owned());
    match tone {
        Tone::Plain => vec![label, span(Tone::Plain, format!(" {text}"))],
        tone => vec![label, span(Tone::Plain, " ".to_owned()), span(tone, text)],
    }
}

fn bullet() -> Span {
    span(Tone::Plain, "• ".to_owned())
}

fn span(tone: Tone, text: String) -> Span {
    Span { tone, text }
}

/// Blocks as one text: `mark` puts a span into the format.
pub(super) fn flat(blocks: &[Block], line_end: &str, mark: impl Fn(&Span) -> String) -> String {
    let line = |line: &Line| line.iter().map(&mark).collect::<String>();
    let block = |block: &Block| block.iter().map(line).collect::<Vec<_>>().join(line_end);
    blocks.iter().map(block).collect::<Vec<_>>().join(&line_end.repeat(2))
}

/// A span where there is no format.
pub(super) fn unmarked(span: &Span) -> String {
    match span.tone {
        Tone::Plain | Tone::Strong | Tone::Name => span.text.clone(),
        Tone::Quote => format!("“{}”", span.text),
    }
}
