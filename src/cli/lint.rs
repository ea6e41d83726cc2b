//! `squall lint`: what a stack would cost if it looped, before it is deployed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::args::{Lint as Command, LintFormat};
use super::exit::Exit;
use super::render;
use crate::budget::{HUB, HUB_PULLS};
use crate::config::Config;
use crate::lint::{
    self, Assumption, FILE_BYTES_MAX, Finding, Level, LintReport, Rule, ServiceCost, Settings, Surroundings, sarif,
};
use crate::model::span_in_words;

/// The name of standard input.
const STDIN: &str = "-";

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let of_config = Config::load(config)?.registries().terms(HUB).pulls.map(|(pulls, _)| pulls);
    let budget = command.budget.or(of_config).unwrap_or(HUB_PULLS);
    let settings = Settings { nodes: command.nodes, budget };
    let linted = match lint::lint(&command.files, settings, &Host { looks: !command.no_host }) {
        Ok(linted) => linted,
        // The place comes first, so that an editor jumps to it.
        Err(error) => {
            eprintln!("{}", render::printable(&error.to_string()));
            return Ok(Exit::Trouble);
        }
    };
    for warning in &linted.warnings {
        eprintln!("{}", render::printable(&warning.to_string()));
    }
    let report = &linted.report;
    match command.format {
        LintFormat::Json => render::say(&serde_json::to_string(report)?)?,
        LintFormat::Sarif => render::say(&serde_json::to_string(&sarif(report, env!("CARGO_PKG_VERSION")))?)?,
        LintFormat::Table => table(report)?,
    }
    Ok(if report.has(command.fail_on.into()) { Exit::Storms } else { Exit::Calm })
}

/// This host.
struct Host {
    /// Whether the sources of bind mounts are looked for.
    looks: bool,
}

impl Surroundings for Host {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, String> {
        // One more than is taken tells that there is more.
        let limit = FILE_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        let read = if file == STDIN {
            io::stdin().lock().take(limit).read_to_end(&mut bytes)
        } else if Path::new(file).is_dir() {
            return Err("is a directory: name a file in it".to_owned());
        } else {
            File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
        };
        read.map(|_| bytes).map_err(|error| format!("cannot be read: {error}"))
    }

    fn is_there(&self, path: &Path) -> Option<bool> {
        if self.looks { path.try_exists().ok() } else { None }
    }
}

fn table(report: &LintReport) -> anyhow::Result<()> {
    render::say(&headline(report))?;
    if !report.services.is_empty() {
        costs(report)?;
    }
    for group in groups(&report.findings) {
        let Some(first) = group.first() else { continue };
        render::say("")?;
        let places = group.iter().map(|finding| {
            let service = finding.service.as_deref().unwrap_or_default();
            format!("{}:{}:{} {service}", finding.file, finding.line, finding.column).trim_end().to_owned()
        });
        let lines: Vec<String> = places.chain([first.message.clone()]).collect();
        let title = format!("{}: {}", first.level.as_str(), first.rule.id());
        render::passage(&title, &lines, Some(&first.advice))?;
    }
    Ok(())
}

/// What the services cost, and what that takes for granted.
fn costs(report: &LintReport) -> anyhow::Result<()> {
    render::say("\nIf they looped, at worst:")?;
    let header = ["SERVICE", "SLOTS", "EVERY", "TRIES", "REQUESTS/MIN", "PULLS/MIN", "BUDGET SPENT"];
    let mut rows: Vec<Vec<String>> = report.services.iter().map(row).collect();
    if rows.len() > 1 {
        let totals = report.totals;
        let is_elsewhere = |service: &ServiceCost| service.registry != HUB && service.pulls_per_min > 0.0;
        let budget = match totals.budget_spent_secs {
            None if report.services.iter().any(is_elsewhere) => "not known".to_owned(),
            secs => spent(secs),
        };
        let figures = [figure(totals.requests_per_min), figure(totals.pulls_per_min), budget];
        let mut row = vec!["all of them".to_owned(), totals.slots.to_string(), String::new(), String::new()];
        row.extend(figures);
        rows.push(row);
    }
    render::list(&header, rows)?;
    render::say("")?;
    render::passage("Taken for granted:", &taken_for_granted(report), None)?;
    Ok(())
}

/// Findings that say the same, together: thirty services without a limit are one thing to read. The worst come first.
fn groups(findings: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let mut known: BTreeMap<(Rule, &str, &str), usize> = BTreeMap::new();
    for finding in findings {
        let index = *known.entry((finding.rule, &finding.message, &finding.advice)).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    // Stable: of one level they stay in the order of the files.
    groups.sort_by_key(|group| group.first().map(|finding| Reverse(finding.level)));
    groups
}

fn headline(report: &LintReport) -> String {
    let counted = |number: usize, what: &str| match number {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    };
    let of = |level: Level| report.findings.iter().filter(|finding| finding.level == level).count();
    let levels = [Level::Error, Level::Warning, Level::Note].into_iter();
    let found = levels.filter(|level| of(*level) > 0).map(|level| counted(of(level), level.as_str()));
    let found = found.collect::<Vec<_>>().join(", ");
    let services = counted(report.services.len(), "service");
    if found.is_empty() { format!("{services}: nothing found") } else { format!("{services}: {found}") }
}

fn row(service: &ServiceCost) -> Vec<String> {
    let every = service.period_secs.map_or_else(
        || "-".to_owned(),
        |secs| {
            let span = Duration::from_secs_f64(secs);
            if secs < 2.0 { format!("{secs:.1} s") } else { span_in_words(span) }
        },
    );
    let tries = service.tries_max.map_or_else(|| "for ever".to_owned(), |tries| tries.to_string());
    let is_known = service.registry == HUB;
    let budget = if is_known || service.pulls_per_min == 0.0 {
        spent(service.budget_spent_secs)
    } else {
        "not known".to_owned()
    };
    vec![
        service.name.clone(),
        service.slots.to_string(),
        every,
        tries,
        figure(service.requests_per_min),
        figure(service.pulls_per_min),
        budget,
    ]
}

/// A rate: small ones with a tenth.
fn figure(per_min: f64) -> String {
    if per_min == 0.0 || per_min >= 10.0 { format!("{per_min:.0}") } else { format!("{per_min:.1}") }
}

fn spent(secs: Option<f64>) -> String {
    secs.map_or_else(|| "no".to_owned(), |secs| format!("in {}", span_in_words(Duration::from_secs_f64(secs.max(1.0)))))
}

/// The assumptions of all services, each once, and the budget that the figures are of.
fn taken_for_granted(report: &LintReport) -> Vec<String> {
    let all: BTreeSet<Assumption> = report.services.iter().flat_map(|service| service.assumptions.clone()).collect();
    let mut lines: Vec<String> = all
        .into_iter()
        .map(|assumption| match assumption {
            Assumption::SlotOnEachNode => format!("{}, here {}", assumption.sentence(), report.nodes),
            _ => assumption.sentence().to_owned(),
        })
        .collect();
    lines.push(format!("the budget: {} pulls in 6 h at docker.io (--budget)", report.budget));
    lines
}
