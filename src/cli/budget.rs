//! `squall budget`: what is left at registries.

use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::args::{Budget as Command, ReportFormat};
use super::exit::{Exit, NAGIOS_UNKNOWN};
use super::{live, render};
use crate::config::{self, Config, DEFAULT_PATH, Registry};
use crate::daemon::{target, wall_clock};
use crate::model::{BudgetAnswer, BudgetReading, span_in_words};
use crate::registry::{Prober, Target};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.budget/1";
/// Nagios warns when less of the limit is left, in percent: enough for a deployment of a stack, and time to look.
const LOW_PERCENT: i64 = 20;

#[derive(Debug, Serialize)]
struct Report<'a> {
    schema: &'static str,
    registries: &'a [BudgetReading],
}

pub(super) fn run(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    let targets = targets(&command.registries, path)?;
    let prober = Prober::new()?;
    let readings = live::runtime()?.block_on(async {
        let mut readings = Vec::new();
        for target in &targets {
            readings.push(prober.ask(target, wall_clock()).await);
        }
        readings
    });
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
    let is_unknown = readings.iter().any(|reading| standing(reading) == Standing::Unknown);
    let is_spent = readings.iter().any(|reading| standing(reading) == Standing::Spent);
    Ok(if is_spent { Exit::Storms } else { Exit::Calm }.despite(is_unknown))
}

/// Those of the configuration, or those of them that are named; Docker Hub where there are none.
fn targets(named: &[String], path: Option<&Path>) -> anyhow::Result<Vec<Target>> {
    let config = Config::load(path)?;
    let mut known = config.registry;
    if !known.iter().any(|registry| registry.name == config::DOCKER_HUB) {
        known.push(Registry::docker_hub());
    }
    known.retain(Registry::may_be_asked);
    if let Some(name) = named.iter().find(|name| !known.iter().any(|registry| registry.name == **name)) {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH)).display();
        bail!("no [[registry]] named {name} with a repository that may be asked for is in {file}");
    }
    let wanted = known.iter().filter(|registry| named.is_empty() || named.contains(&registry.name));
    wanted.map(target).collect()
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

fn rows(readings: &[BudgetReading]) -> Vec<Vec<String>> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let row = |reading: &BudgetReading| {
        let [left, of, window] = match &reading.answer {
            BudgetAnswer::Limited(budget) => [
                budget.remaining.to_string(),
                budget.limit.to_string(),
                budget.window().map_or_else(|| "?".to_owned(), span_in_words),
            ],
            _ => ["-"; 3].map(str::to_owned),
        };
        vec![reading.registry.clone(), text(&reading.account), text(&reading.source), left, of, window, words(reading)]
    };
    readings.iter().map(row).collect()
}

/// One line for Nagios, and its code. What is known to be bad goes before what is not known.
fn nagios(readings: &[BudgetReading]) -> (u8, String) {
    let (code, word) = match readings.iter().map(standing).max().unwrap_or(Standing::Unknown) {
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
    // A bar begins the figures.
    let line = format!("SQUALL {word} - {}", render::printable(&said).replace('|', "/"));
    (code, if figures.is_empty() { line } else { format!("{line} | {figures}") })
}
