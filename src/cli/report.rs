//! `squall report`: what was, from the journal.

use std::path::Path;

use serde::Serialize;

use super::args::{ListFormat, Report as Command};
use super::exit::Exit;
use super::{live, render, spend};
use crate::config::Config;
use crate::daemon::wall_clock;
use crate::journal::{History, ServiceHistory, StormHistory};
use crate::model::{Action, Cause, Decision, Gap, Outcome, Settlement, Span, Timestamp};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.history/1";

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    span: Span,
    services: Vec<ServiceHistory>,
    storms: Vec<StormHistory>,
    decisions: Vec<Entry>,
    gaps: Vec<OriginGap>,
}

/// A decision and how it ended.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    decision: Decision,
    settlement: Option<Settlement>,
}

#[derive(Debug, Serialize)]
struct OriginGap {
    origin: String,
    #[serde(flatten)]
    gap: Gap,
}

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let settings = live::journal(&Config::load(config)?, &command.journal)?;
    let history = History::open(&settings.dir)?;
    let now = wall_clock();
    let (span, service) = (Span { from: now.minus(command.since), to: now }, command.service.as_deref());
    if let Some(by) = command.by {
        spend::print(&history, span, by, service, command.format)?;
        return Ok(Exit::Calm);
    }
    let report = read(&history, span, service)?;
    match command.format {
        ListFormat::Json => render::say(&serde_json::to_string(&report)?)?,
        ListFormat::Table => table(&report)?,
    }
    Ok(Exit::Calm)
}

fn read(history: &History, span: Span, service: Option<&str>) -> anyhow::Result<Report> {
    let is_wanted = |name: &str, id: &str| service.is_none_or(|wanted| wanted == name || wanted == id);
    let mut services = history.services(span)?;
    services.retain(|service| is_wanted(&service.subject.name, &service.subject.id));
    services.sort_by(|a, b| b.failed.cmp(&a.failed).then_with(|| a.subject.cmp(&b.subject)));
    let mut storms = history.storms(span)?;
    storms.retain(|storm| is_wanted(&storm.subject.name, &storm.subject.id));
    let decisions = history.decisions(span)?.into_iter();
    let decisions = decisions
        .filter(|(decision, _)| is_wanted(&decision.subject.name, &decision.subject.id))
        .map(|(decision, settlement)| Entry { decision, settlement })
        .collect();
    let gaps = history.gaps(span)?.into_iter().map(|(origin, gap)| OriginGap { origin, gap }).collect();
    Ok(Report { schema: SCHEMA, span, services, storms, decisions, gaps })
}

fn table(report: &Report) -> anyhow::Result<()> {
    let shown: Vec<&ServiceHistory> = report
        .services
        .iter()
        .filter(|service| service.storms > 0 || service.failed > 0 || !service.done.is_empty())
        .collect();
    let quiet = report.services.len() - shown.len();
    if shown.is_empty() {
        render::say(&format!("no storm and no failure since {}", render::short(report.span.from)))?;
    } else {
        let rows = shown.iter().map(|service| service_row(service)).collect();
        render::list(&["SERVICE", "STORMS", "FAILED", "ATTEMPTS", "CAUSE", "ACTIONS", "REFUSED"], rows)?;
    }
    if quiet > 0 {
        render::say(&format!("{quiet} more had attempts and no failure"))?;
    }
    let done: Vec<&Entry> = report.decisions.iter().filter(|entry| entry.decision.refusal.is_none()).collect();
    if !done.is_empty() {
        render::say("")?;
        let rows = done.iter().map(|entry| decision_row(entry)).collect();
        render::list(&["AT", "SERVICE", "ACTION", "RESPONSE", "CAUSE", "BY", "ENDED"], rows)?;
    }
    for OriginGap { origin, gap } in &report.gaps {
        render::say(&format!(
            "gap of {origin}, {} to {}: {}; counts are lower bounds",
            render::short(gap.from),
            render::short(gap.to),
            render::printable(&gap.why)
        ))?;
    }
    Ok(())
}

fn service_row(service: &ServiceHistory) -> Vec<String> {
    let actions: Vec<String> = Action::ALL
        .iter()
        .filter_map(|action| Some((action, service.done.get(action).filter(|count| **count > 0)?)))
        .map(|(action, count)| format!("{count} {action}"))
        .collect();
    vec![
        service.subject.name.clone(),
        service.storms.to_string(),
        service.failed.to_string(),
        service.attempts.to_string(),
        service.cause.map_or("-", Cause::as_str).to_owned(),
        if actions.is_empty() { "-".to_owned() } else { actions.join(", ") },
        service.refusals.to_string(),
    ]
}

fn decision_row(Entry { decision, settlement }: &Entry) -> Vec<String> {
    let day_and_time = |at: Timestamp| render::short(at).replace('T', " ").trim_end_matches('Z').to_owned();
    vec![
        day_and_time(decision.at),
        decision.subject.name.clone(),
        decision.action.to_string(),
        decision.response.to_string(),
        decision.cause.to_string(),
        decision.by.to_string(),
        settlement.as_ref().map_or("not known", |settlement| Outcome::as_str(settlement.outcome)).to_owned(),
    ]
}
