//! `squall report --by`: who asked registries how often, from the journal.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::{By, ListFormat};
use super::render;
use crate::journal::History;
use crate::model::{Basis, BudgetAnswer, BudgetReading, Span, Spend, SpendCount, Timestamp};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.spend/1";
/// What has no name of that kind: a service of no stack, a node that is not known.
const NAMELESS: &str = "-";

#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    span: Span,
    by: By,
    rows: Vec<Row>,
    windows: Vec<Window>,
}

#[derive(Debug, Serialize)]
struct Row {
    key: String,
    registry: String,
    /// When the deployment began; null where there is more than one, or it is not known.
    deployed: Option<Timestamp>,
    #[serde(flatten)]
    spend: Spend,
}

/// What a registry's last answer of the span says of others behind the same address or account.
#[derive(Debug, Serialize)]
struct Window {
    registry: String,
    account: Option<String>,
    at: Timestamp,
    limit: i64,
    remaining: i64,
    window_secs: Option<u64>,
    /// Pulls that squall accounts for.
    own: u64,
    /// Those that it cannot explain.
    others: u64,
}

pub(super) fn print(
    history: &History,
    span: Span,
    by: By,
    service: Option<&str>,
    format: ListFormat,
) -> anyhow::Result<()> {
    let mut counts = history.spends(span)?;
    counts.retain(|count| service.is_none_or(|wanted| wanted == count.subject.name || wanted == count.subject.id));
    let report = Report { schema: SCHEMA, span, by, rows: rows(counts, by, span), windows: windows(history, span)? };
    match format {
        ListFormat::Json => render::say(&serde_json::to_string(&report)?)?,
        ListFormat::Table => table(&report)?,
    }
    Ok(())
}

fn rows(counts: Vec<SpendCount>, by: By, span: Span) -> Vec<Row> {
    let mut sums: BTreeMap<(String, String, Option<Timestamp>), Spend> = BTreeMap::new();
    for count in counts {
        let deployed = Some(count.deployed).filter(|at| by == By::Deployment && *at != Timestamp::default());
        *sums.entry((key(&count, by), count.registry, deployed)).or_default() += count.spend;
    }
    let length = span.to.since(span.from);
    let row = |((key, registry, deployed), spend): ((String, String, _), Spend)| {
        let spend = spend.over(length);
        Row { key, registry, deployed, spend }
    };
    let mut rows: Vec<Row> = sums.into_iter().map(row).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.spend.pulls, row.spend.requests)));
    rows
}

fn key(count: &SpendCount, by: By) -> String {
    let named = |name: &str| if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() };
    match by {
        By::Service => count.subject.name.clone(),
        By::Stack => named(count.subject.stack.as_deref().unwrap_or_default()),
        By::Registry => named(&count.registry),
        By::Node => named(&count.node),
        By::Deployment if count.deployed == Timestamp::default() => count.subject.name.clone(),
        By::Deployment => format!("{} of {}", count.subject.name, render::short(count.deployed)),
    }
}

/// Of each registry and account the last answer of the span, and what of its window is squall's.
fn windows(history: &History, span: Span) -> anyhow::Result<Vec<Window>> {
    let mut last: BTreeMap<(String, Option<String>), BudgetReading> = BTreeMap::new();
    for reading in history.readings(span)? {
        last.insert((reading.registry.clone(), reading.account.clone()), reading);
    }
    let mut windows = Vec::new();
    for (_, reading) in last {
        let BudgetAnswer::Limited(budget) = reading.answer else { continue };
        let own = match reading.own {
            Some(own) => own,
            None => {
                let from = budget.window().map_or(span.from, |window| reading.at.minus(window));
                let pulls = history.pulls_since(from.minute())?.into_iter();
                let own = pulls.filter(|(at, registry, ..)| *registry == reading.registry && *at <= reading.at);
                own.map(|(_, _, pulls, _)| pulls).sum()
            }
        };
        windows.push(Window {
            registry: reading.registry,
            account: reading.account,
            at: reading.at,
            limit: budget.limit,
            remaining: budget.remaining,
            window_secs: budget.window_secs,
            own,
            others: budget.spent().saturating_sub(own),
        });
    }
    Ok(windows)
}

fn table(report: &Report) -> anyhow::Result<()> {
    if report.rows.is_empty() {
        render::say(&format!("no registry was asked since {}", render::short(report.span.from)))?;
    } else {
        let title = report.by.as_str().to_ascii_uppercase();
        let rows = report.rows.iter().map(|row| {
            let Spend { pulls, requests, kinds, .. } = row.spend;
            let counts = [pulls, requests, kinds.manifest_heads, kinds.manifest_gets].map(|count| count.to_string());
            let [pulls, requests, heads, gets] = counts;
            let registry = if row.registry.is_empty() { NAMELESS } else { &row.registry };
            vec![row.key.clone(), registry.to_owned(), pulls, requests, heads, gets, basis(&row.spend).to_owned()]
        });
        render::list(&[&title, "REGISTRY", "PULLS", "REQUESTS", "HEAD", "GET", "BASIS"], rows.collect())?;
    }
    for window in &report.windows {
        let whose = window.account.as_ref().map_or_else(|| "this address".to_owned(), |account| account.clone());
        render::say(&format!(
            "{} for {}: {} of {} pulls were left at {}; of those spent {} are in this journal, {} are others' or before it",
            window.registry,
            render::printable(&whose),
            window.remaining,
            window.limit,
            render::short(window.at),
            window.own,
            window.others
        ))?;
    }
    Ok(())
}

/// What most of a figure rests on.
fn basis(spend: &Spend) -> &'static str {
    let parts = [(spend.measured, Basis::Measured), (spend.derived, Basis::Derived), (spend.assumed, Basis::Assumed)];
    let most = parts.into_iter().find(|(part, _)| part * 10 >= spend.requests * 9);
    most.map_or("mixed", |(_, basis)| basis.as_str())
}
