//! One sentence that says how it is, and the figures behind it.

use maud::{Markup, html};

use super::words::{clock, grouped, many, pace, visible};
use crate::model::{RegistryStatus, Status, StormState, Timestamp};
use crate::serve::routes::staleness;

/// How it is.
pub(super) struct Verdict {
    /// `calm`, `held`, `storm` or `blind`: what the page is coloured by.
    tone: &'static str,
    sentence: String,
    /// What else is to be known at once; may be empty.
    more: String,
    /// Of the browser's window.
    pub(super) title: String,
}

impl Verdict {
    pub(super) fn of(status: &Status, now: Timestamp) -> Self {
        let storms = ongoing(status);
        let held = status.quarantines.iter().filter(|held| held.phase != "let-go").count() as u64;
        let calm = many(status.calm, "service");
        let said = match (storms, held) {
            (0, 0) => format!("calm: {calm}"),
            (0, _) => format!("no storm, {held} held, all else calm"),
            (_, 0) => format!("{}, all else calm", many(storms, "storm")),
            (_, _) => format!("{}, {held} held, all else calm", many(storms, "storm")),
        };
        let node = if status.node.is_empty() { "squall".to_owned() } else { visible(&status.node).into_owned() };
        if let Some(why) = blind(status, now) {
            let more = if staleness(status, now).is_some() || said.starts_with("calm") {
                "What is below is what it saw last.".to_owned()
            } else {
                format!("What it saw last: {said}.")
            };
            let sentence = format!("squall does not see the Swarm: {why}");
            return Self { tone: "blind", sentence, more, title: format!("⚠ blind · {node} · squall") };
        }
        let (tone, title) = match (storms, held) {
            (0, 0) => ("calm", format!("calm · {node} · squall")),
            (0, _) => ("held", format!("{held} held · {node} · squall")),
            (_, _) => {
                ("storm", format!("({storms}) {} · {node} · squall", if storms == 1 { "storm" } else { "storms" }))
            }
        };
        let mut sentence = said;
        if let Some(first) = sentence.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self { tone, sentence, more: worst(status, now), title }
    }
}

/// Storms that go on and are not held.
fn ongoing(status: &Status) -> u64 {
    let listed = status.storms.iter().filter(|storm| storm.state == StormState::Ongoing).count() as u64;
    listed + status.storms_left_out
}

/// Why it sees nothing, where that is so.
fn blind(status: &Status, now: Timestamp) -> Option<String> {
    staleness(status, now).or_else(|| {
        let failed = status.health.checks.iter().find(|check| !check.is_ok);
        let why = failed.map(|check| format!("{}: {}", visible(&check.name), visible(&check.detail)));
        (!status.health.is_ready).then(|| why.unwrap_or_else(|| "it is not ready".to_owned()))
    })
}

/// What the storm that asks the registry most is about.
fn worst(status: &Status, now: Timestamp) -> String {
    let asking = status.storms.iter().filter(|storm| storm.pulls && storm.state == StormState::Ongoing);
    let worst = asking.max_by(|a, b| a.attempts_per_min.total_cmp(&b.attempts_per_min));
    let or_any = worst.or_else(|| status.storms.iter().find(|storm| storm.state == StormState::Ongoing));
    or_any.map_or_else(String::new, |storm| {
        let name = visible(&storm.subject.name);
        let quota = status.registries.iter().find(|registry| storm.pulls && registry.registry == storm.registry);
        let quota = quota.map_or_else(String::new, |registry| left(registry, now));
        format!("Worst: {name}, {}, {}.{quota}", storm.cause, visible(&storm.cost()))
    })
}

/// What is left of a registry's quota, and until when, where that is known.
fn left(registry: &RegistryStatus, now: Timestamp) -> String {
    let (Some(left), Some(limit)) = (registry.remaining(), registry.limit()) else { return String::new() };
    let until = registry.exhausted().map_or_else(String::new, |at| format!(", gone about {}", clock(at, now)));
    format!(" {} of {} pulls are left{until}.", grouped(u64::try_from(left).unwrap_or(0)), grouped(limit))
}

pub(super) fn section(status: &Status, now: Timestamp) -> Markup {
    let verdict = Verdict::of(status, now);
    html! {
        section #verdict class={ "verdict " (verdict.tone) } data-title=(verdict.title) aria-labelledby="verdict-name" {
            div .says {
                p .where {
                    @if !status.node.is_empty() { span .node { (visible(&status.node)) } }
                    @if !status.role.is_empty() {
                        span .tag { (visible(&status.role)) @if status.leads { ", leads" } }
                    }
                    span .tag { @if status.acts { "acts" } @else { "observes only" } }
                }
                h1 #verdict-name { span .lamp aria-hidden="true" {} span { (verdict.sentence) } }
                @if !verdict.more.is_empty() { p .more { (verdict.more) } }
            }
            dl .figures { (figures(status)) }
        }
    }
}

fn figures(status: &Status) -> Markup {
    let of_all: f64 = status.storms.iter().map(|storm| storm.attempts_per_min).filter(|pace| pace.is_finite()).sum();
    let asking: f64 = status.storms.iter().filter(|storm| storm.pulls).map(|storm| storm.attempts_per_min).sum();
    let (attempts, failed) =
        status.history.iter().fold((0, 0), |sum, bucket| (sum.0 + bucket.attempts, sum.1 + bucket.failed));
    let waiting: u64 = status.receivers.iter().map(|receiver| receiver.waiting).sum();
    let (all, bad) = (status.receivers.len(), status.receivers.iter().filter(|one| !one.trouble.is_empty()).count());
    let receivers = match (all, bad) {
        (0, _) => "nobody is told".to_owned(),
        (_, 0) => format!("for {}", many(all as u64, "receiver")),
        (_, _) => format!("{bad} of {} in trouble", many(all as u64, "receiver")),
    };
    html! {
        (figure("Failed tries", &pace(of_all), "a minute, now", false))
        (figure("Asked of registries", &pace(asking), "tries a minute", false))
        (figure("Failed in 24\u{a0}h", &grouped(failed), &format!("of {} tries", grouped(attempts)), false))
        (figure("Calm", &grouped(status.calm), "services", false))
        (figure("Alerts waiting", &grouped(waiting), &receivers, bad > 0))
    }
}

fn figure(name: &str, value: &str, unit: &str, is_bad: bool) -> Markup {
    html! { div { dt { (name) } dd { span .value { (value) } " " span class=(if is_bad { "unit bad" } else { "unit" }) { (unit) } } } }
}
