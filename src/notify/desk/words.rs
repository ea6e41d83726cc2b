//! What alerts say.

use std::collections::{BTreeMap, BTreeSet};

use super::{id_of, severity_of};
use crate::model::{
    ALERT_STORMS_KNOWN_MAX, ALERT_STORMS_MAX, Alert, AlertKind, AlertStorm, Case, Cause, Gap, Timestamp, span_in_words,
};

/// The longest title, in bytes.
const TITLE_MAX: usize = 300;
/// How many services or causes a title names.
const NAMED_MAX: usize = 3;

/// One line that says what these storms are about.
pub(super) fn title(kind: AlertKind, storms: &[&Case], now: Timestamp) -> String {
    let what = match storms {
        [] => "nothing storms".to_owned(),
        [case] => one(kind, case, now),
        storms => many(kind, storms),
    };
    cut(match kind {
        AlertKind::Baseline => format!("already so when squall started: {what}"),
        AlertKind::Escalation => format!("ten times as bad as told: {what}"),
        AlertKind::Repeat => format!("still: {what}"),
        AlertKind::Subsided => format!("over: {what}"),
        _ => what,
    })
}

fn one(kind: AlertKind, case: &Case, now: Timestamp) -> String {
    let storm = &case.storm;
    let name = &storm.subject.name;
    let span = span_in_words(storm.ended.unwrap_or(now).since(storm.onset));
    let times = match storm.exact {
        // squall was started again while it held the service.
        _ if storm.attempts == 0 => format!("held since {}", moment(storm.onset)),
        true => format!("{} failures in {span}", storm.failed),
        false => format!("{} failures, since before {}", storm.failed_in_words(), moment(storm.onset)),
    };
    let slots = storm.slots_in_words().map(|slots| format!("; {slots}")).unwrap_or_default();
    match kind {
        AlertKind::Subsided if case.why.is_empty() => format!("{name} fails no more ({}, {times})", storm.cause),
        AlertKind::Subsided => format!("{name}: {} ({}, {times})", case.why, storm.cause),
        AlertKind::Quarantine if storm.attempts == 0 => format!("squall holds {name}"),
        AlertKind::Quarantine => format!("squall holds {name} ({}, {times})", storm.cause),
        AlertKind::Release => format!("{name} is no longer held ({}, {times})", storm.cause),
        AlertKind::CauseChanged => format!("{name} storms for another reason: {} ({times})", storm.cause),
        _ => format!("{name} storms on {}: {}, {times}{slots}", nodes(&[case]), storm.cause),
    }
}

fn many(kind: AlertKind, storms: &[&Case]) -> String {
    let count = storms.len();
    let causes: BTreeSet<Cause> = storms.iter().map(|case| case.storm.cause).collect();
    let registries: BTreeSet<&str> = storms.iter().map(|case| &*case.storm.registry).collect();
    let on = nodes(storms);
    let registry = match (registries.len(), registries.first()) {
        (1, Some(registry)) if !registry.is_empty() => Some(*registry),
        _ => None,
    };
    let is_429 = |cause: &Cause| matches!(cause, Cause::RegistryQuota | Cause::RegistryAbuse | Cause::RegistryLimit);
    match kind {
        AlertKind::Subsided => format!("{count} services fail no more: {}", names(storms)),
        AlertKind::Quarantine => format!("squall holds {count} services: {}", names(storms)),
        AlertKind::Release => format!("{count} services are no longer held: {}", names(storms)),
        _ => match registry {
            Some(registry) if causes.iter().all(is_429) => {
                format!("{registry} answers 429 to {count} services on {on}")
            }
            Some(registry) if causes.iter().all(|cause| cause.is_of_registry()) => {
                format!("{count} services fail at {registry} on {on}: {}", counted(storms))
            }
            _ => format!("{count} services storm on {on}: {}", counted(storms)),
        },
    }
}

/// Several alerts as one, and behind it they themselves as its parts. Empty where there are none.
pub(super) fn gathered(now: Timestamp, node: &str, mut parts: Vec<Alert>, kind: AlertKind, of: &str) -> Vec<Alert> {
    if parts.is_empty() {
        return parts;
    }
    let ids: Vec<&str> = parts.iter().map(|part| &*part.id).collect();
    let conversation = id_of(&ids);
    let spends =
        parts.iter().flat_map(|part| &part.storms).any(|storm| storm.ended.is_none() && !storm.registry.is_empty());
    let about: u64 =
        parts.iter().map(|part| u64::try_from(part.storms.len()).unwrap_or(0) + part.storms_left_out).sum();
    let title = cut(match kind {
        AlertKind::Summary => format!("while {of} was silenced: {about} storms"),
        _ => format!("{about} storms in {} conversations", parts.len()),
    });
    let lines = parts.iter().take(ALERT_STORMS_MAX).map(|part| part.title.clone()).collect();
    let next_step = parts.iter().map(|part| part.next_step.clone()).find(|step| !step.is_empty()).unwrap_or_default();
    let mut storms: Vec<&AlertStorm> = parts.iter().flat_map(|part| &part.storms).collect();
    storms.sort_by(|a, b| b.failed.cmp(&a.failed).then_with(|| a.id.cmp(&b.id)));
    storms.truncate(ALERT_STORMS_KNOWN_MAX);
    let storms: Vec<AlertStorm> = storms.into_iter().cloned().collect();
    let ends = storms.iter().all(|storm| storm.ended.is_some());
    let id = id_of(&[&conversation, kind.as_str()]);
    parts.iter_mut().for_each(|part| part.part_of = Some(id.clone()));
    let whole = Alert {
        id,
        conversation,
        kind,
        severity: severity_of(kind, spends),
        at: now,
        node: node.to_owned(),
        title,
        lines,
        storms_left_out: about.saturating_sub(u64::try_from(storms.len()).unwrap_or(0)),
        storms,
        next_step,
        ends,
        part_of: None,
    };
    parts.insert(0, whole);
    parts
}

/// The title of an alert that is made of lines.
pub(super) fn title_of_lines(kind: AlertKind, node: &str, lines: &[String]) -> String {
    let first = lines.first().map_or("", |line| line);
    cut(match (kind, lines.len()) {
        (AlertKind::Gap, 1) => format!("{node}: nobody watched {first}"),
        (AlertKind::Gap, count) => format!("{node}: nobody watched, {count} times"),
        _ => first.to_owned(),
    })
}

/// When nobody watched, and why.
pub(super) fn gap(gap: &Gap) -> String {
    format!("from {} for {}: {}", moment(gap.from), span_in_words(gap.to.since(gap.from)), gap.why)
}

/// A moment, for people.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(clock)) => format!("{day} {clock} UTC"),
        _ => text,
    }
}

fn nodes(storms: &[&Case]) -> String {
    let nodes: BTreeSet<&str> = storms.iter().flat_map(|case| case.storm.nodes.iter().map(String::as_str)).collect();
    match (nodes.len(), nodes.first()) {
        (0, _) => "no node that is known".to_owned(),
        (1, Some(node)) => (*node).to_owned(),
        (count, _) => format!("{count} nodes"),
    }
}

fn names(storms: &[&Case]) -> String {
    let named: Vec<&str> = storms.iter().take(NAMED_MAX).map(|case| &*case.storm.subject.name).collect();
    let more = storms.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// The causes, those of most services first.
fn counted(storms: &[&Case]) -> String {
    let mut counts: BTreeMap<Cause, usize> = BTreeMap::new();
    storms.iter().for_each(|case| *counts.entry(case.storm.cause).or_default() += 1);
    let mut counts: Vec<(Cause, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    if let [(cause, _)] = counts[..] {
        return cause.as_str().to_owned();
    }
    let named: Vec<String> = counts.iter().take(NAMED_MAX).map(|(cause, count)| format!("{count} {cause}")).collect();
    let more = if counts.len() > NAMED_MAX { " ..." } else { "" };
    format!("{}{more}", named.join(", "))
}

fn cut(mut title: String) -> String {
    if title.len() > TITLE_MAX {
        let end = (0..=TITLE_MAX - 3).rev().find(|end| title.is_char_boundary(*end));
        title.truncate(end.unwrap_or(0));
        title.push_str("...");
    }
    title
}
