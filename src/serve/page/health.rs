//! What squall does not see, what waits, and whether it is well itself.

use maud::{Markup, html};

use super::Head::Text;
use super::storms::{cause, nodes};
use super::words::{clock, grouped, many, moment, span, visible};
use super::{left_out, section as in_section, table};
use crate::model::{Check, Finding, FindingKind, Gap, Status, Timestamp};

/// How many gaps and findings are listed: those that are old tell little.
const ROWS_MAX: usize = 20;

/// Gaps and findings.
pub(super) fn sight(status: &Status, now: Timestamp) -> Markup {
    let body = html! { div .pair { (findings(status, now)) (gaps(status, now)) } };
    in_section("sight", "Sight", &html! {}, &body)
}

fn findings(status: &Status, now: Timestamp) -> Markup {
    let shown = &status.findings[..status.findings.len().min(ROWS_MAX)];
    let rows = html! { tbody { @for finding in shown { (finding_row(finding, now)) } } };
    html! {
        div {
            h3 { "What waits and ought not to" }
            @if shown.is_empty() { p .empty { "Nothing waits." } } @else {
                (table("finding-list", "Tasks that wait", &[Text("Service"), Text("Waits"), Text("Cause"), Text("Where")], &rows))
                (left_out((status.findings.len() - shown.len()) as u64, "finding"))
            }
        }
    }
}

fn finding_row(finding: &Finding, now: Timestamp) -> Markup {
    let what = match finding.kind {
        FindingKind::Pending => "no node takes it",
        FindingKind::HangingPull => "its pull hangs",
        FindingKind::RegistryIncident => "the registry fails",
        FindingKind::BudgetSpent => "it has had enough",
    };
    html! {
        tr {
            th .service scope="row" data-label="Service" {
                span .name { (visible(&finding.subject.name)) }
                span .sub { (many(finding.tasks, "task")) ", " (what) }
                @if !finding.detail.is_empty() { span .sub.said { (visible(&finding.detail)) } }
            }
            td data-label="Waits" { (moment(finding.since, now)) }
            td data-label="Cause" { (cause(finding.cause)) }
            td .nodes data-label="Where" { (nodes(&finding.nodes)) }
        }
    }
}

fn gaps(status: &Status, now: Timestamp) -> Markup {
    let shown = &status.gaps[..status.gaps.len().min(ROWS_MAX)];
    let rows = html! { tbody { @for gap in shown { (gap_row(gap, now)) } } };
    html! {
        div {
            h3 { "Spans that nobody watched" }
            @if shown.is_empty() { p .empty { "No gap: all that is shown was watched." } } @else {
                (table("gap-list", "Gaps, newest first", &[Text("From"), Text("For"), Text("Why")], &rows))
                (left_out((status.gaps.len() - shown.len()) as u64, "gap"))
            }
        }
    }
}

fn gap_row(gap: &Gap, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" data-label="From" { time datetime=(gap.from) { (clock(gap.from, now)) } }
            td data-label="For" { @if gap.open { "still" } @else { (span(gap.to.since(gap.from))) } }
            td .text data-label="Why" { (visible(&gap.why)) }
        }
    }
}

pub(super) fn section(status: &Status) -> Markup {
    let checks = &status.health.checks;
    let bad = checks.iter().filter(|check| !check.is_ok).count() as u64;
    let note = html! { @if bad > 0 { span .count.bad { (grouped(bad)) " not well" } } };
    let body = html! {
        @if checks.is_empty() { p .empty { "Nothing has been checked yet." } } @else {
            ul .checks { @for check in checks.iter().take(ROWS_MAX) { (check_item(check)) } }
        }
    };
    in_section("health", "Health", &note, &body)
}

fn check_item(check: &Check) -> Markup {
    html! {
        li {
            span class=(if check.is_ok { "state ok" } else { "state bad" }) {
                (visible(&check.name)) span .hidden { (if check.is_ok { ": well" } else { ": not well" }) }
            }
            span .detail { (visible(&check.detail)) }
            @if let Some(age) = check.age_secs.and_then(|secs| std::time::Duration::try_from_secs_f64(secs).ok()) {
                span .dim { "seen " (span(age)) " ago" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_is_not_over_has_no_length() {
        let now = Timestamp::from_secs(1_800_000_000);
        let row = |open| gap_row(&Gap { from: now, to: now, why: "not-listed".to_owned(), open }, now).into_string();
        assert!(row(true).contains("still") && !row(false).contains("still"), "{}", row(true));
    }
}
