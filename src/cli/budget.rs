//! `squall budget`: what is left at registries.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::args::{Budget as Command, ReportFormat};
use super::exit::{Exit, NAGIOS_UNKNOWN};
use super::{live, render};
use crate::budget::{HUB, Meter};
use crate::config::{Config, DEFAULT_PATH, Registry};
use crate::daemon::{target, unasked, wall_clock};
use crate::journal::History;
use crate::model::{BudgetAnswer, BudgetReading, BudgetStanding, Exhaustion, Span, span_in_words};
use crate::registry::Prober;

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.budget/1";
/// Nagios warns when less of the limit is left, in percent: enough for a deployment of a stack, and time to look.
const LOW_PERCENT: i64 = 20;
/// How far back the journal is read: every window that is known, and most that may be configured.
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    registries: &'a [Answer],
}

/// What a registry says, and what a journal knows of it.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    reading: BudgetReading,
    /// Null without a journal.
    standing: Option<BudgetStanding>,
}

pub(super) fn run(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    render::for_nagios(command.format, ask(command, path))
}

fn ask(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    let wanted = wanted(&command.registries, path)?;
    let prober = Prober::new()?;
    let readings = live::runtime()?.block_on(async {
        let mut readings = Vec::new();
        for registry in &wanted {
            // A login that cannot be read keeps no other registry from being asked.
            readings.push(match target(registry) {
                Ok(target) => prober.ask(&target, wall_clock()).await,
                Err(error) => {
                    live::complain(&format!("{error:#}"));
                    unasked(registry, "it was not asked: its login, or its url, cannot be used".to_owned())
                }
            });
        }
        readings
    });
    let known = standings(command, path, &readings)?;
    let with = |reading: BudgetReading| {
        let standing = known.iter().find(|standing| standing.registry == reading.registry).cloned();
        Answer { reading, standing }
    };
    let readings: Vec<Answer> = readings.into_iter().map(with).collect();
    match command.format {
        ReportFormat::Json => {
            render::say(&serde_json::to_string(&Report { schema: SCHEMA, registries: &readings })?)?;
        }
        ReportFormat::Table => {
            render::list(&["REGISTRY", "ACCOUNT", "COUNTS FOR", "LEFT", "OF", "WINDOW", ""], rows(&readings))?;
        }
        ReportFormat::Nagios => {
            let (code, line) = nagios(&readings);
            render::say(&line)?;
            return Ok(Exit::Nagios(code));
        }
    }
    let is_unknown = readings.iter().any(|answer| standing(&answer.reading) == Standing::Unknown);
    let is_spent = readings.iter().any(|answer| standing(&answer.reading) == Standing::Spent);
    Ok(if is_spent { Exit::Storms } else { Exit::Calm }.despite(is_unknown))
}

/// What the journal of a squall that watches knows of the registries; nothing where there is none.
fn standings(
    command: &Command,
    path: Option<&Path>,
    readings: &[BudgetReading],
) -> anyhow::Result<Vec<BudgetStanding>> {
    let config = Config::load(path)?;
    let Ok(settings) = live::journal(&config, &command.journal) else { return Ok(Vec::new()) };
    let history = match History::open(&settings.dir) {
        Ok(history) => history,
        Err(error) if command.journal.state_dir.is_some() => return Err(error.into()),
        Err(_) => return Ok(Vec::new()),
    };
    let now = wall_clock();
    let since = now.minus(DAY);
    let mut meter = Meter::new(config.registries());
    for (minute, registry, pulls, requests) in history.pulls_since(since)? {
        meter.add(minute, &registry, pulls, requests);
    }
    // How fast others spend is seen by what was left before.
    history.readings(Span { from: since, to: now })?.into_iter().for_each(|reading| meter.read(reading));
    readings.iter().for_each(|reading| meter.read(reading.clone()));
    Ok(meter.standings(now))
}

/// Those of the configuration, or those of them that are named; Docker Hub where there are none.
fn wanted(named: &[String], path: Option<&Path>) -> anyhow::Result<Vec<Registry>> {
    let config = Config::load(path)?;
    let mut known = config.registry;
    if !known.iter().any(|registry| registry.name == HUB) {
        known.push(Registry::docker_hub());
    }
    known.retain(Registry::may_be_asked);
    if let Some(name) = named.iter().find(|name| !known.iter().any(|registry| registry.name == **name)) {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH)).display();
        bail!("no [[registry]] named {name} with a repository that may be asked for is in {file}");
    }
    known.retain(|registry| named.is_empty() || named.contains(&registry.name));
    Ok(known)
}

/// How it stands with a budget; the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Good,
    Unknown,
    Low,
    Spent,
}

fn standing(reading: &BudgetReading) -> Standing {
    match &reading.answer {
        BudgetAnswer::Limited(budget) if budget.remaining <= 0 => Standing::Spent,
        BudgetAnswer::Limited(budget)
            if budget.remaining.saturating_mul(100) < budget.limit.saturating_mul(LOW_PERCENT) =>
        {
            Standing::Low
        }
        BudgetAnswer::Limited(_) | BudgetAnswer::Unlimited => Standing::Good,
        BudgetAnswer::TooMany => Standing::Spent,
        BudgetAnswer::Denied { .. } | BudgetAnswer::Failed { .. } => Standing::Unknown,
    }
}

/// What is to be said besides the figures.
fn words(reading: &BudgetReading) -> String {
    match &reading.answer {
        BudgetAnswer::Limited(budget) if budget.remaining <= 0 => "spent".to_owned(),
        BudgetAnswer::Limited(_) => String::new(),
        BudgetAnswer::Unlimited => "no limit stated".to_owned(),
        BudgetAnswer::TooMany => "429: too many requests of any kind, or an outage".to_owned(),
        BudgetAnswer::Denied { why } | BudgetAnswer::Failed { why } => why.clone(),
    }
}

/// Who else spends it, and when it runs out, where that is known.
fn outlook(standing: &BudgetStanding) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(others) = standing.others {
        said.push(format!("{} in the journal, {others} of others or before it", standing.own));
    }
    match standing.exhaustion {
        Some(Exhaustion::Between { from, to: Some(to) }) => {
            said.push(format!("gone between {} and {}", render::clock(from), render::clock(to)));
        }
        Some(Exhaustion::Between { from, to: None }) => {
            said.push(format!("gone at {} at the earliest", render::clock(from)));
        }
        Some(Exhaustion::Never) => said.push("lasts at this pace".to_owned()),
        Some(Exhaustion::Now) | None => {}
    }
    said
}

fn rows(answers: &[Answer]) -> Vec<Vec<String>> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let row = |answer: &Answer| {
        let reading = &answer.reading;
        let mut said = vec![words(reading)];
        said.extend(answer.standing.iter().flat_map(outlook));
        said.retain(|said| !said.is_empty());
        let [left, of, window] = match &reading.answer {
            BudgetAnswer::Limited(budget) => [
                budget.remaining.to_string(),
                budget.limit.to_string(),
                budget.window().map_or_else(|| "?".to_owned(), span_in_words),
            ],
            _ => ["-"; 3].map(str::to_owned),
        };
        vec![reading.registry.clone(), text(&reading.account), text(&reading.source), left, of, window, said.join("; ")]
    };
    answers.iter().map(row).collect()
}

/// One line for Nagios, and its code. What is known to be bad goes before what is not known.
fn nagios(answers: &[Answer]) -> (u8, String) {
    let readings: Vec<&BudgetReading> = answers.iter().map(|answer| &answer.reading).collect();
    let (code, word) = match readings.iter().map(|reading| standing(reading)).max().unwrap_or(Standing::Unknown) {
        Standing::Good => (0, "OK"),
        Standing::Low => (1, "WARNING"),
        Standing::Spent => (2, "CRITICAL"),
        Standing::Unknown => (NAGIOS_UNKNOWN, "UNKNOWN"),
    };
    let said = readings.iter().map(|reading| match &reading.answer {
        BudgetAnswer::Limited(budget) => {
            format!("{}: {} of {} pulls left", reading.registry, budget.remaining, budget.limit)
        }
        _ => format!("{}: {}", reading.registry, words(reading)),
    });
    let said = said.collect::<Vec<_>>().join(", ");
    let figures = readings.iter().filter_map(|reading| match &reading.answer {
        BudgetAnswer::Limited(budget) => {
            let low = budget.limit.saturating_mul(LOW_PERCENT) / 100;
            Some(format!("'{}'={};{low}:;1:;;{}", reading.registry, budget.remaining, budget.limit))
        }
        _ => None,
    });
    let figures = figures.collect::<Vec<_>>().join(" ");
    let line = format!("SQUALL {word} - {}", render::nagios_words(&said));
    (code, if figures.is_empty() { line } else { format!("{line} | {figures}") })
}
