//! Reports as people, programs and Nagios read them. What a daemon said is printed without its control characters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};

use super::args::ReportFormat;
use super::exit::{Exit, NAGIOS_UNKNOWN};
use crate::model::{
    Cause, Finding, FindingKind, RegistryReport, Report, Risk, Storm, StormState, SubjectKind, Timestamp, span_in_words,
};

/// The width where none can be found out, and the least that is used.
const WIDTH_DEFAULT: u16 = 80;

/// Prints a report; returns how the command ended.
pub(super) fn print(report: &Report, format: ReportFormat) -> io::Result<Exit> {
    let exit = if report.storms.is_empty() { Exit::Calm } else { Exit::Storms };
    match format {
        ReportFormat::Json => {
            say(&serde_json::to_string(report)?)?;
            Ok(exit)
        }
        ReportFormat::Table => {
            let paint = Paint { is_wanted: wants_colour() };
            let text = table(report, width(), paint);
            ended(io::stdout().lock().write_all(text.as_bytes()))?;
            Ok(exit)
        }
        ReportFormat::Nagios => {
            let (code, text) = nagios(report);
            ended(writeln!(io::stdout().lock(), "{text}"))?;
            Ok(Exit::Nagios(code))
        }
    }
}

/// How a command ended whose format may be Nagios': there it has a line and a code for what it could not find out.
pub(super) fn for_nagios(format: ReportFormat, ended: anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    match ended {
        Err(error) if format == ReportFormat::Nagios => {
            say(&format!("SQUALL UNKNOWN - {}", nagios_words(&format!("{error:#}"))))?;
            Ok(Exit::Nagios(NAGIOS_UNKNOWN))
        }
        ended => ended,
    }
}

/// A text within a plugin's line, where a bar would begin the figures.
pub(super) fn nagios_words(text: &str) -> String {
    printable(text).replace('|', "/")
}

/// What is printed where nothing is held.
pub(super) const NOTHING_HELD: &str = "nothing is held";

/// Prints a table as wide as the terminal.
pub(super) fn list(header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut table = plain_table(width(), header);
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    say(&trimmed(&table))
}

/// Prints a name, what is said of it, and the step that follows from it, wrapped to the terminal.
pub(super) fn passage(name: &str, lines: &[String], step: Option<&str>) -> io::Result<()> {
    let mut text = String::new();
    let (width, paint) = (width(), Paint { is_wanted: wants_colour() });
    let (last, before) = lines.split_last().map_or(("", &[][..]), |(last, before)| (last, before));
    let mut name = name;
    for line in before {
        paragraph(&mut text, name, line, None, width, paint);
        name = "";
    }
    paragraph(&mut text, name, last, step, width, paint);
    say(text.trim_end())
}

/// How long ago something was.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", span_in_words(now.since(then)))
}

/// Prints one line.
pub(super) fn say(line: &str) -> io::Result<()> {
    ended(writeln!(io::stdout().lock(), "{line}"))
}

/// A reader that has gone (`squall ... | head`) is no fault.
fn ended(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether standard output shows colour, and it is not unwanted.
pub(super) fn wants_colour() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn width() -> u16 {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || Table::new().set_content_arrangement(ContentArrangement::Dynamic).width();
    columns.or_else(terminal).unwrap_or(WIDTH_DEFAULT).clamp(40, 160)
}

/// Colour on a terminal, nothing elsewhere.
#[derive(Clone, Copy)]
struct Paint {
    is_wanted: bool,
}

impl Paint {
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The report for people.
fn table(report: &Report, width: u16, paint: Paint) -> String {
    let mut text = String::new();
    let ongoing = report.storms.iter().filter(|storm| storm.state == StormState::Ongoing).count();
    let held = report.storms.iter().filter(|storm| storm.state == StormState::Quarantined).count();
    let headline = match (report.storms.len(), ongoing, held) {
        (0, ..) => "no storm".to_owned(),
        (1, 1, _) => "1 storm".to_owned(),
        (1, _, 1) => "1 storm, held".to_owned(),
        (all, ongoing, _) if all == ongoing => format!("{all} storms"),
        (all, 0, held) if all == held => format!("{all} storms, all of them held"),
        (all, ongoing, 0) => format!("{all} storms, {ongoing} of them ongoing"),
        (all, ongoing, held) => format!("{all} storms, {ongoing} of them ongoing, {held} held"),
    };
    let headline = if ongoing > 0 { paint.red(&headline) } else { headline };
    let _ = writeln!(text, "{}; {} calm", paint.bold(&headline), report.calm);
    if !report.storms.is_empty() {
        for line in pressure(report) {
            paragraph_line(&mut text, &line, width);
        }
        let _ = writeln!(text, "\n{}\n", storms(&report.storms, width));
        for storms in by_cause(&report.storms) {
            let first = storms[0];
            let mut said = if storms.len() == 1 {
                detail(first).to_owned()
            } else {
                format!("{}: {}", first.subject.name, detail(first))
            };
            said.extend(first.slots_in_words().map(|slots| format!("; {slots}")));
            if let Some(updated) = first.updated.filter(|_| !first.exact) {
                let _ = write!(said, "; the service was last changed at {}", short(updated));
            }
            paragraph(&mut text, &title(&storms), &said, Some(&first.advice), width, paint);
        }
    }
    let (of_registries, waiting): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|finding| finding.subject.kind == SubjectKind::Registry);
    for finding in of_registries {
        text.push('\n');
        let title = format!("{} of {}", finding.kind.as_str(), finding.subject.name);
        let line = format!("since {}: {}", short(finding.since), finding.detail);
        paragraph(&mut text, &title, &line, None, width, paint);
    }
    if !waiting.is_empty() {
        let _ = writeln!(text, "\n{}", paint.bold("Waiting, no storm:"));
        for finding in waiting {
            paragraph(&mut text, &finding.subject.name, &waits(finding), None, width, paint);
        }
    }
    if let Some(risks) = &report.risks {
        let _ = writeln!(text, "\n{}", risk_table(risks, width, paint));
    }
    for origin in &report.origins {
        for gap in &origin.gaps {
            let line = format!("{} to {}: {}; counts are lower bounds", short(gap.from), short(gap.to), gap.why);
            paragraph(&mut text, &format!("gap of {}", origin.id), &line, None, width, paint);
        }
    }
    if report.forgotten > 0 {
        let _ = writeln!(text, "{} calm subjects were forgotten for want of room", report.forgotten);
    }
    if report.skipped.lines > 0 {
        let reasons: Vec<_> = report.skipped.reasons.iter().map(|(why, count)| format!("{why} {count}")).collect();
        let _ = writeln!(text, "{}", paint.dim(&format!("skipped: {}", reasons.join(", "))));
    }
    text
}

fn storms(storms: &[Storm], width: u16) -> String {
    let mut table = plain_table(width, &["STORM", "CAUSE", "FAILED", "PER MIN", "SINCE", "REQUESTS", "NODES"]);
    for storm in storms {
        let failed = format!("{}/{}", storm.failed_in_words(), storm.attempts);
        let onset = if storm.exact { clock(storm.onset) } else { storm.onset_in_words(&clock(storm.onset)) };
        let since = match storm.ended {
            Some(ended) => format!("{onset} to {}", clock(ended)),
            None => onset,
        };
        let requests = match (storm.spend, storm.pulls) {
            (Some(spend), _) => spend.requests.to_string(),
            (None, true) => "?".to_owned(),
            (None, false) => "0".to_owned(),
        };
        let name = printable(&storm.subject.name);
        let rate = format!("{:.0}", storm.attempts_per_min);
        table.add_row([&name, storm.cause.as_str(), &failed, &rate, &since, &requests, &storm.nodes.len().to_string()]);
    }
    for right in [2, 3, 5, 6] {
        if let Some(column) = table.column_mut(right) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

fn risk_table(risks: &[Risk], width: u16, paint: Paint) -> String {
    if risks.is_empty() {
        return "no service would make a costly storm".to_owned();
    }
    let mut table = plain_table(width, &["RISK", "REQUESTS/MIN", "IMAGE", "ATTEMPTS"]);
    for risk in risks {
        let limit = match (risk.limited, risk.window_shorter_than_delay) {
            (true, _) => "limited",
            (false, true) => "window < delay",
            (false, false) => "unlimited",
        };
        let pinned = if risk.pinned { "pinned" } else { "tag" };
        let name = printable(&risk.subject.name);
        table.add_row([&name, &format!("{:.0}", risk.worst_requests_per_min), pinned, limit]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n{}", paint.bold("If they failed, at worst:"), trimmed(&table))
}

fn plain_table(width: u16, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
        column.set_constraint(ColumnConstraint::UpperBoundary(Width::Percentage(40)));
    }
    table
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// What the registries bear, and when it was too much.
fn pressure(report: &Report) -> Vec<String> {
    let mut per_min: BTreeMap<&str, (f64, usize)> = BTreeMap::new();
    for storm in report.storms.iter().filter(|storm| storm.pulls && storm.state == StormState::Ongoing) {
        let entry = per_min.entry(&storm.registry).or_default();
        let pace = storm.spend.map_or(storm.attempts_per_min, |spend| spend.requests_per_min);
        *entry = (entry.0 + pace, entry.1 + 1);
    }
    let mut lines = Vec::new();
    for (registry, (pace, services)) in per_min.into_iter().filter(|(registry, _)| !registry.is_empty()) {
        let of = if services == 1 { "1 of them asks".to_owned() } else { format!("{services} of them ask") };
        lines.push(format!("{of} {registry} at every try: {pace:.0} requests a minute"));
    }
    lines.extend(report.registries.iter().filter_map(too_much));
    lines
}

/// When a registry had enough, and whether that could have been kept off.
fn too_much(registry: &RegistryReport) -> Option<String> {
    let (at, cause) = (registry.refused?, registry.refused_as?);
    let asked = registry.asked_before_refusal.unwrap_or(0);
    let first = format!(
        "{} first answered 429 ({cause}) at {}, asked {asked} times in the minute before",
        registry.registry,
        clock(at)
    );
    if !registry.is_own {
        return Some(format!("{first}: that is not what it has had enough of"));
    }
    let known = registry.detected.filter(|detected| *detected < at);
    Some(match known {
        Some(detected) => format!(
            "{first}; what squall knew at {}, {} earlier, would have kept it answering",
            clock(detected),
            span_in_words(at.since(detected))
        ),
        None => format!("{first}; stopped before that minute it would answer still"),
    })
}

/// Storms of one cause together, the most first: thirty services that miss one mount are one thing to read.
fn by_cause(storms: &[Storm]) -> Vec<Vec<&Storm>> {
    let mut groups: BTreeMap<(Cause, &str), Vec<&Storm>> = BTreeMap::new();
    for storm in storms {
        let registry = if storm.cause.is_pull() { &*storm.registry } else { "" };
        groups.entry((storm.cause, registry)).or_default().push(storm);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

/// The cause, and whom it hits.
fn title(storms: &[&Storm]) -> String {
    let named: Vec<&str> = storms.iter().take(3).map(|storm| &*storm.subject.name).collect();
    let more = storms.len() - named.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}: {}{rest}", storms[0].cause, named.join(", "))
}

/// Why, in the engine's own words.
fn detail(storm: &Storm) -> &str {
    if storm.detail.is_empty() { storm.cause.as_str() } else { &storm.detail }
}

fn waits(finding: &Finding) -> String {
    let tasks = if finding.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", finding.tasks) };
    let what = match finding.kind {
        FindingKind::Pending => "pending",
        FindingKind::HangingPull => "preparing: the pull hangs",
        FindingKind::RegistryIncident => "not served by the registry",
        FindingKind::BudgetSpent => "refused by the registry",
    };
    let detail = if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
    format!("{tasks} {what} since {}{detail}", short(finding.since))
}

/// A name, where there is one, and what is said of it, wrapped to the width.
fn paragraph(text: &mut String, name: &str, line: &str, step: Option<&str>, width: u16, paint: Paint) {
    for line in wrap(&printable(name), usize::from(width)).iter().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "{}", paint.bold(line));
    }
    for line in wrap(&printable(line), usize::from(width) - 2) {
        let _ = writeln!(text, "  {line}");
    }
    for (index, line) in step.into_iter().flat_map(|step| wrap(&printable(step), usize::from(width) - 4)).enumerate() {
        let _ = writeln!(text, "  {} {line}", if index == 0 { ">" } else { " " });
    }
}

fn paragraph_line(text: &mut String, line: &str, width: u16) {
    for line in wrap(&printable(line), usize::from(width)) {
        let _ = writeln!(text, "{line}");
    }
}

/// Breaks a text into lines at spaces; a word longer than a line is broken too.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let gap = usize::from(used > 0);
            let room = width.saturating_sub(used + gap);
            let fits = rest.len() <= room;
            if !fits && used > 0 && rest.len() <= width {
                lines.push(String::new());
                continue;
            }
            let part: String = rest.drain(..rest.len().min(room)).collect();
            if let Some(line) = lines.last_mut()
                && !part.is_empty()
            {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(&part);
            }
            if rest.is_empty() {
                break;
            }
            lines.push(String::new());
        }
    }
    lines
}

/// One line for Nagios, and its code: 0 OK, 1 WARNING where what stormed is held, 2 CRITICAL.
fn nagios(report: &Report) -> (u8, String) {
    let ongoing: Vec<&Storm> = report.storms.iter().filter(|storm| storm.state == StormState::Ongoing).collect();
    let per_min: f64 = ongoing.iter().map(|storm| storm.attempts_per_min).sum();
    let data = format!("storms={};;0 attempts_per_min={per_min:.1} calm={}", ongoing.len(), report.calm);
    let held = report.storms.iter().filter(|storm| storm.state == StormState::Quarantined).count();
    if ongoing.is_empty() {
        return match held {
            0 => (0, format!("SQUALL OK - no storm | {data}")),
            held => (1, format!("SQUALL WARNING - {held} held, see squall status | {data}")),
        };
    }
    let named = ongoing.iter().take(5).map(|storm| format!("{} ({})", storm.subject.name, storm.cause));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if ongoing.len() > 5 {
        let _ = write!(named, " and {} more", ongoing.len() - 5);
    }
    let plural = if ongoing.len() == 1 { "storm" } else { "storms" };
    let named = nagios_words(&named);
    (2, format!("SQUALL CRITICAL - {} {plural}: {named} | {data}", ongoing.len()))
}

/// A text of another's without control characters: they could rewrite the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| match char {
            '\n' | '\t' => ' ',
            char if char.is_control()
                || matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                '\u{fffd}'
            }
            char => char,
        })
        .collect()
}

/// A time to the second.
pub(super) fn short(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(secs, _)| format!("{secs}Z"))
}

/// The time of day, UTC.
pub(super) fn clock(time: Timestamp) -> String {
    short(time).get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_asked() {
        let text = format!("a bb {} c", "x".repeat(50));
        for width in [1, 7, 20, 80] {
            let lines = wrap(&text, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
            let joined: String = lines.concat().replace(' ', "");
            assert_eq!(joined, text.replace(' ', ""));
        }
    }

    #[test]
    fn a_hostile_text_cannot_rewrite_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb c\u{fffd}d");
    }
}
