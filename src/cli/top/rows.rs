//! A status as the rows of tables: of each section its columns, its cells, and by what they are sorted.

use std::cmp::Ordering;

use super::text::{bars, count, rate};
use super::trend::Trends;
use crate::cli::render::clock;
use crate::model::{
    Check, Finding, FindingKind, Gap, QuarantineStatus, ReceiverStatus, RegistryStatus, Status, Storm, StormState,
    span_in_words,
};

/// A part of the view, with a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What storms.
    Storms,
    /// What is held, and what happens next.
    Held,
    /// What storms ask of registries.
    Registries,
    /// What waits and ought not to.
    Waiting,
    /// Where alerts go.
    Receivers,
    /// What squall sees, and what it could not.
    Health,
}

impl Section {
    /// Every section, in the order of the tabs.
    pub const ALL: [Self; 6] =
        [Self::Storms, Self::Held, Self::Registries, Self::Waiting, Self::Receivers, Self::Health];

    /// Its name on the tab.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Storms => "Storms",
            Self::Held => "Held",
            Self::Registries => "Registries",
            Self::Waiting => "Waiting",
            Self::Receivers => "Receivers",
            Self::Health => "Health",
        }
    }

    /// What its tab counts.
    pub(super) fn count(self, status: &Status) -> u64 {
        let entries = match self {
            Self::Storms => status.storms.len(),
            Self::Held => status.quarantines.len(),
            Self::Registries => status.registries.len(),
            Self::Waiting => status.findings.len(),
            Self::Receivers => status.receivers.len(),
            Self::Health => status.health.checks.iter().filter(|check| !check.is_ok).count() + status.gaps.len(),
        };
        let more = if self == Self::Storms { status.storms_left_out } else { 0 };
        u64::try_from(entries).unwrap_or(u64::MAX).saturating_add(more)
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Storms => &STORMS,
            Self::Held => &HELD,
            Self::Registries => &REGISTRIES,
            Self::Waiting => &WAITING,
            Self::Receivers => &RECEIVERS,
            Self::Health => &HEALTH,
        }
    }

    /// The column that it is sorted by at first; none where the order is the daemon's.
    pub(super) const fn sorted_by(self) -> Option<usize> {
        match self {
            Self::Storms => Some(RATE_COLUMN),
            Self::Registries => Some(2),
            _ => None,
        }
    }
}

/// A column of a table.
pub(super) struct Column {
    pub(super) title: &'static str,
    /// The least cells that it takes, those that read well, and the most.
    pub(super) min: usize,
    pub(super) good: usize,
    pub(super) max: usize,
    /// The highest goes first where there is no room for all.
    pub(super) rank: u8,
    pub(super) is_right: bool,
    /// Whether the largest comes first when it is sorted by.
    pub(super) descends: bool,
}

const fn words(title: &'static str, (min, good, max): (usize, usize, usize), rank: u8) -> Column {
    Column { title, min, good, max, rank, is_right: false, descends: false }
}

const fn figure(title: &'static str, cells: usize, rank: u8) -> Column {
    Column { title, min: cells, good: cells, max: cells, rank, is_right: true, descends: true }
}

/// Where the storms' tries a minute are.
const RATE_COLUMN: usize = 4;
/// How many bars a row has.
const TREND_BARS: usize = 8;

/// A service's name, its cause, and a sentence.
const NAME: (usize, usize, usize) = (14, 20, 48);
const CAUSE: (usize, usize, usize) = (8, 14, 20);
const SENTENCE: (usize, usize, usize) = (16, 24, 200);

const STORMS: [Column; 11] = [
    words("SERVICE", NAME, 0),
    words("STATE", (7, 9, 9), 2),
    words("CAUSE", CAUSE, 1),
    figure("FAILED", 6, 4),
    figure("/MIN", 4, 0),
    words("TREND", (TREND_BARS, TREND_BARS, TREND_BARS), 8),
    figure("FOR", 6, 3),
    words("PULLS", (5, 5, 5), 5),
    words("REGISTRY", (9, 16, 32), 6),
    figure("NODES", 5, 7),
    words("WHY", SENTENCE, 9),
];
const HELD: [Column; 7] = [
    words("SERVICE", NAME, 0),
    words("STATE", (9, 9, 9), 1),
    words("CAUSE", CAUSE, 3),
    words("RESPONSE", (8, 13, 13), 4),
    figure("FOR", 6, 2),
    figure("TRIES", 5, 5),
    words("NEXT", SENTENCE, 2),
];
const REGISTRIES: [Column; 6] = [
    words("REGISTRY", (14, 28, 48), 0),
    figure("STORMS", 6, 2),
    figure("/MIN", 4, 0),
    figure("LEFT", 9, 1),
    words("RUNS OUT", (9, 9, 9), 3),
    words("ASKED MOST BY", SENTENCE, 4),
];
const WAITING: [Column; 6] = [
    words("SERVICE", NAME, 0),
    words("WAITS", (7, 13, 13), 1),
    words("CAUSE", CAUSE, 2),
    figure("TASKS", 5, 3),
    figure("FOR", 6, 1),
    words("WHY", SENTENCE, 4),
];
const RECEIVERS: [Column; 6] = [
    words("RECEIVER", NAME, 0),
    words("KIND", (7, 10, 16), 3),
    figure("WAITING", 7, 1),
    figure("OLDEST", 6, 4),
    figure("LAST TOOK", 9, 2),
    words("TROUBLE", SENTENCE, 1),
];
const HEALTH: [Column; 4] = [
    words("WHAT", (8, 10, 20), 0),
    words("STATE", (5, 8, 8), 0),
    figure("SEEN", 10, 2),
    words("IN WORDS", SENTENCE, 1),
];

/// What a cell or line means, which colour and weight say once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Dim,
    Bad,
    Warn,
    Good,
}

/// What a cell is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    Text(String),
    Number(f64),
}

impl Order {
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
        }
    }
}

pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
    pub(super) order: Order,
}

fn cell(text: impl Into<String>, tone: Tone) -> Cell {
    let text = text.into();
    Cell { order: Order::Text(text.to_lowercase()), text, tone }
}

fn number(text: String, value: f64, tone: Tone) -> Cell {
    Cell { text, tone, order: Order::Number(value) }
}

#[expect(clippy::cast_precision_loss, reason = "it is sorted by, no more")]
fn whole(value: u64, tone: Tone) -> Cell {
    number(count(value), value as f64, tone)
}

/// How long something has gone on.
fn age(status: &Status, since: crate::model::Timestamp) -> Cell {
    let lasted = status.at.since(since);
    number(span_in_words(lasted), lasted.as_secs_f64(), Tone::Plain)
}

pub(super) struct Row {
    /// What it is selected by: the same as long as the thing is the same.
    pub(super) key: String,
    /// Says without colour what it is.
    pub(super) mark: char,
    pub(super) tone: Tone,
    pub(super) cells: Vec<Cell>,
    /// What a filter is looked for in, in lower case.
    pub(super) haystack: String,
    /// Where in its list of the status it is.
    pub(super) index: usize,
}

/// The rows of a section, in the status' order.
pub(super) fn rows(section: Section, status: &Status, trends: &Trends) -> Vec<Row> {
    match section {
        Section::Storms => each(&status.storms, |storm| storm_row(status, storm, trends)),
        Section::Held => each(&status.quarantines, |held| held_row(status, held)),
        Section::Registries => each(&status.registries, |registry| registry_row(status, registry)),
        Section::Waiting => each(&status.findings, |finding| finding_row(status, finding)),
        Section::Receivers => each(&status.receivers, |receiver| receiver_row(status, receiver)),
        Section::Health => {
            let mut rows = each(&status.health.checks, check_row);
            rows.extend(each(&status.gaps, |gap| gap_row(status, gap)));
            rows
        }
    }
}

fn each<T>(entries: &[T], row: impl Fn(&T) -> Row) -> Vec<Row> {
    entries.iter().enumerate().map(|(index, entry)| Row { index, ..row(entry) }).collect()
}

fn row(key: String, mark: char, tone: Tone, cells: Vec<Cell>, words: &[&str]) -> Row {
    Row { key, mark, tone, cells, haystack: words.join("\n").to_lowercase(), index: 0 }
}

/// The word for what is with a storm, and whether it is answered.
pub(super) fn state<'a>(status: &'a Status, storm: &Storm) -> (&'a str, char, Tone) {
    let held = status.quarantines.iter().find(|held| !held.storm.is_empty() && held.storm == storm.id);
    match (storm.state, held) {
        (StormState::Subsided, _) => ("over", '○', Tone::Dim),
        (_, Some(held)) if held.phase != "let-go" => (&held.phase, '■', Tone::Warn),
        (StormState::Quarantined, _) => ("held", '■', Tone::Warn),
        (StormState::Ongoing, _) => ("storms", '●', Tone::Bad),
    }
}

fn storm_row(status: &Status, storm: &Storm, trends: &Trends) -> Row {
    let (state, mark, tone) = state(status, storm);
    let is_over = tone == Tone::Dim;
    let plain = if is_over { Tone::Dim } else { Tone::Plain };
    let why = if storm.detail.is_empty() { &storm.advice } else { &storm.detail };
    let nodes = u64::try_from(storm.nodes.len()).unwrap_or(u64::MAX);
    let mut failed = whole(storm.failed, plain);
    if !storm.exact {
        failed.text.insert_str(0, ">= ");
    }
    let cells = vec![
        cell(&*storm.subject.name, if is_over { Tone::Dim } else { Tone::Strong }),
        cell(state, tone),
        cell(storm.cause.as_str(), plain),
        failed,
        number(rate(storm.attempts_per_min), storm.attempts_per_min, plain),
        number(bars(&trends.bars(&storm.id, TREND_BARS)), storm.attempts_per_min, Tone::Dim),
        age(status, storm.onset),
        cell(if storm.pulls { "yes" } else { "no" }, if storm.pulls { plain } else { Tone::Dim }),
        cell(&*storm.registry, if storm.pulls { plain } else { Tone::Dim }),
        whole(nodes, plain),
        cell(&**why, Tone::Dim),
    ];
    let mut words = vec![&*storm.subject.name, storm.cause.as_str(), &storm.registry, state];
    words.extend(storm.subject.stack.as_deref());
    words.extend(storm.nodes.iter().map(|node| &**node));
    row(storm.id.clone(), mark, tone, cells, &words)
}

fn held_row(status: &Status, held: &QuarantineStatus) -> Row {
    let is_let_go = held.phase == "let-go";
    let (mark, tone) = if is_let_go { ('○', Tone::Dim) } else { ('■', Tone::Warn) };
    let cells = vec![
        cell(&*held.service, Tone::Strong),
        cell(&*held.phase, tone),
        cell(held.cause.as_str(), Tone::Plain),
        cell(&*held.response, Tone::Plain),
        age(status, held.since),
        whole(held.tries.into(), Tone::Plain),
        cell(&*held.next, Tone::Plain),
    ];
    let words = [&*held.service, held.cause.as_str(), &held.phase, &held.response];
    row(held.service.clone(), mark, tone, cells, &words)
}

fn registry_row(status: &Status, registry: &RegistryStatus) -> Row {
    let spent = registry.remaining().is_some_and(|left| left <= 0);
    let (mark, tone) = if spent { ('●', Tone::Bad) } else { (' ', Tone::Plain) };
    let left = match (registry.remaining(), registry.limit()) {
        (Some(left), Some(limit)) => format!("{}/{}", left.max(0), count(limit)),
        (Some(left), None) => left.max(0).to_string(),
        (None, _) => "?".to_owned(),
    };
    let runs_out = match registry.exhausted() {
        _ if spent => cell("spent", Tone::Bad),
        Some(at) if at <= status.at => cell("now", Tone::Bad),
        Some(at) => Cell { text: format!("in {}", span_in_words(at.since(status.at))), ..age(status, at) },
        None => cell("-", Tone::Dim),
    };
    let spenders: Vec<_> =
        registry.spenders.iter().map(|(name, per_min)| format!("{name} {}", rate(*per_min))).collect();
    #[expect(clippy::cast_precision_loss, reason = "it is sorted by, no more")]
    let remaining = registry.remaining().map_or(f64::INFINITY, |left| left as f64);
    let cells = vec![
        cell(&*registry.registry, Tone::Strong),
        whole(registry.storms, Tone::Plain),
        number(rate(registry.attempts_per_min), registry.attempts_per_min, Tone::Plain),
        number(left, remaining, tone),
        runs_out,
        cell(spenders.join(", "), Tone::Plain),
    ];
    let mut words = vec![&*registry.registry];
    words.extend(registry.spenders.iter().map(|(name, _)| &**name));
    row(registry.registry.clone(), mark, tone, cells, &words)
}

/// What a finding waits for, in a word.
pub(super) const fn waits(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Pending => "for a node",
        FindingKind::HangingPull => "for the image",
        FindingKind::RegistryIncident => "for the registry",
        FindingKind::BudgetSpent => "for its budget",
    }
}

fn finding_row(status: &Status, finding: &Finding) -> Row {
    let cells = vec![
        cell(&*finding.subject.name, Tone::Strong),
        cell(waits(finding.kind), Tone::Warn),
        cell(finding.cause.as_str(), Tone::Plain),
        whole(finding.tasks, Tone::Plain),
        age(status, finding.since),
        cell(&*finding.detail, Tone::Dim),
    ];
    let mut words = vec![&*finding.subject.name, finding.cause.as_str(), finding.kind.as_str()];
    words.extend(finding.subject.stack.as_deref());
    words.extend(finding.nodes.iter().map(|node| &**node));
    let key = format!("{} {}", finding.kind.as_str(), finding.subject.id);
    row(key, '▲', Tone::Warn, cells, &words)
}

fn receiver_row(status: &Status, receiver: &ReceiverStatus) -> Row {
    let is_well = receiver.trouble.is_empty();
    let (mark, tone) = if is_well { ('✓', Tone::Good) } else { ('▲', Tone::Bad) };
    let ago = |at: Option<crate::model::Timestamp>| match at {
        Some(at) => age(status, at),
        None => number("-".to_owned(), -1.0, Tone::Dim),
    };
    let cells = vec![
        cell(&*receiver.name, Tone::Strong),
        cell(&*receiver.kind, Tone::Plain),
        whole(receiver.waiting, if receiver.waiting > 0 { Tone::Warn } else { Tone::Plain }),
        ago(receiver.oldest),
        ago(receiver.delivered_at),
        cell(if is_well { "-" } else { &*receiver.trouble }, if is_well { Tone::Dim } else { Tone::Bad }),
    ];
    row(receiver.name.clone(), mark, tone, cells, &[&receiver.name, &receiver.kind, &receiver.trouble])
}

fn check_row(check: &Check) -> Row {
    let (mark, state, tone) = if check.is_ok { ('✓', "well", Tone::Good) } else { ('▲', "not well", Tone::Bad) };
    let seen = match check.age_secs.filter(|secs| secs.is_finite() && *secs >= 0.0) {
        Some(secs) => {
            let ago = std::time::Duration::try_from_secs_f64(secs).unwrap_or_default();
            number(format!("{} ago", span_in_words(ago)), secs, Tone::Plain)
        }
        None => number("-".to_owned(), -1.0, Tone::Dim),
    };
    let cells = vec![cell(&*check.name, Tone::Strong), cell(state, tone), seen, cell(&*check.detail, Tone::Plain)];
    row(format!("check {}", check.name), mark, tone, cells, &[&check.name, &check.detail])
}

fn gap_row(status: &Status, gap: &Gap) -> Row {
    let span = span_in_words(gap.to.since(gap.from));
    let words = if gap.open {
        format!("nobody watches, for {span} by now: {}", gap.why)
    } else {
        format!("nobody watched for {span}: {}", gap.why)
    };
    let cells = vec![
        cell("gap", Tone::Strong),
        cell("gap", Tone::Warn),
        Cell { text: clock(gap.from), ..age(status, gap.from) },
        cell(words, Tone::Plain),
    ];
    row(format!("gap {} {}", gap.from, gap.why), '▲', Tone::Warn, cells, &["gap", &gap.why])
}
