//! The detail pane: all that is known of the selected thing, as labelled lines.

use super::rows::{Section, Tone, state, waits};
use super::text::{bars, rate};
use super::trend::SAMPLES_MAX;
use super::view::View;
use crate::cli::render::{clock, short};
use crate::model::{
    Finding, QuarantineStatus, ReceiverStatus, RegistryStatus, Status, Storm, StormState, SubjectKind, Timestamp,
    span_in_words,
};

/// One thing that is said, and how it is called.
pub(super) struct Said {
    pub(super) label: &'static str,
    pub(super) text: String,
    pub(super) tone: Tone,
}

fn said(label: &'static str, text: impl Into<String>) -> Said {
    Said { label, text: text.into(), tone: Tone::Plain }
}

fn toned(label: &'static str, text: impl Into<String>, tone: Tone) -> Said {
    Said { label, text: text.into(), tone }
}

/// The name of the selected thing, and what is known of it.
pub(super) fn detail(view: &View) -> Option<(String, Vec<Said>)> {
    let (row, status) = (view.selected()?, view.status.as_deref()?);
    Some(match view.section {
        Section::Storms => {
            let storm = status.storms.get(row.index)?;
            (title(storm), of_storm(view, status, storm))
        }
        Section::Held => {
            let held = status.quarantines.get(row.index)?;
            (held.service.clone(), of_held(status, held))
        }
        Section::Registries => {
            let registry = status.registries.get(row.index)?;
            (registry.registry.clone(), of_registry(status, registry))
        }
        Section::Waiting => {
            let finding = status.findings.get(row.index)?;
            (finding.subject.name.clone(), of_finding(status, finding))
        }
        Section::Receivers => {
            let receiver = status.receivers.get(row.index)?;
            (receiver.name.clone(), of_receiver(status, receiver))
        }
        Section::Health => {
            let words = [("state", 1), ("seen", 2), ("in words", 3)];
            let line =
                |(label, cell): (&'static str, usize)| toned(label, &*row.cells[cell].text, row.cells[cell].tone);
            (row.cells[0].text.clone(), words.map(line).into())
        }
    })
}

fn title(storm: &Storm) -> String {
    let kind = match storm.subject.kind {
        SubjectKind::SwarmService => "service",
        SubjectKind::ComposeService => "compose service",
        _ => "container",
    };
    match &storm.subject.stack {
        Some(stack) => format!("{} · {kind} of {stack}", storm.subject.name),
        None => format!("{} · {kind}", storm.subject.name),
    }
}

/// A moment, and how long ago it was.
fn moment(status: &Status, at: Timestamp) -> String {
    let ago = status.at.since(at);
    // The day matters where it is another one.
    let time = if ago.as_secs() < 64_800 { clock(at) } else { short(at) };
    format!("{time}, {} ago", span_in_words(ago))
}

fn of_storm(view: &View, status: &Status, storm: &Storm) -> Vec<Said> {
    let (state, mark, tone) = state(status, storm);
    let mut lines = vec![toned("state", format!("{mark} {}", in_words(storm, state)), tone)];
    if let Some(held) = status.quarantines.iter().find(|held| !held.storm.is_empty() && held.storm == storm.id) {
        lines.push(said("answer", format!("{}, {}: {}", held.response, held.phase, held.next)));
    }
    let words = if storm.detail.is_empty() { "nothing that was seen says why" } else { &storm.detail };
    lines.push(toned("why", words, Tone::Strong));
    lines.push(toned("do", &*storm.advice, Tone::Good));
    let causes: Vec<String> = storm.causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    lines.push(said("causes", causes.join(" · ")));
    let (failed, per_min) = (storm.failed_in_words(), rate(storm.attempts_per_min));
    let pace = format!("{failed} of {} tries failed, {per_min}/min", storm.attempts);
    lines.push(said("tries", pace));
    let samples = view.trends.samples(&storm.id, SAMPLES_MAX);
    lines.push(said("trend", format!("{} of the last 5 min", bars(&samples).trim_start())));
    lines.push(said("cost", storm.cost()));
    let quota = status.registries.iter().find(|registry| storm.pulls && registry.registry == storm.registry);
    lines.extend(quota.and_then(quota_words).map(|words| said("quota", words)));
    let pin = match (storm.image.is_empty(), storm.pinned) {
        (true, _) => "not seen".to_owned(),
        (false, true) => format!("{} (a digest)", storm.image),
        (false, false) => format!("{} (a tag)", storm.image),
    };
    lines.push(said("image", pin));
    lines.push(said("nodes", format!("{}: {}", storm.nodes.len(), storm.nodes.join(", "))));
    lines.extend(storm.slots_in_words().map(|slots| said("slots", slots)));
    let after = storm.detected.since(storm.onset);
    let onset = format!(
        "{}; detected after {} failures, {}",
        if storm.exact { moment(status, storm.onset) } else { storm.onset_in_words(&moment(status, storm.onset)) },
        storm.detected_after_failures,
        span_in_words(after)
    );
    lines.push(said("onset", onset));
    lines.extend(storm.updated.map(|updated| said("changed", moment(status, updated))));
    lines.extend(storm.ended.map(|ended| said("ended", moment(status, ended))));
    lines.push(toned("storm", &*storm.id, Tone::Dim));
    lines
}

fn in_words(storm: &Storm, state: &str) -> String {
    match (storm.state, state) {
        (StormState::Subsided, _) => "it has subsided".to_owned(),
        (_, "storms") => "it goes on, and is not held".to_owned(),
        (_, phase) => phase.to_owned(),
    }
}

fn quota_words(registry: &RegistryStatus) -> Option<String> {
    let left = registry.remaining()?;
    let of = registry.limit().map_or(String::new(), |limit| format!(" of {limit}"));
    let gone = registry.exhausted().map_or(String::new(), |at| format!(", gone about {} UTC", clock(at)));
    Some(format!("{}{of} pulls left{gone}", left.max(0)))
}

fn of_held(status: &Status, held: &QuarantineStatus) -> Vec<Said> {
    let mut lines = vec![
        toned("state", format!("{} ({})", held.phase, held.response), Tone::Warn),
        toned("next", &*held.next, Tone::Strong),
        said("cause", held.cause.as_str()),
        said("since", moment(status, held.since)),
        said("tries", format!("{} watched attempts failed", held.tries)),
    ];
    lines.extend(held.until.map(|until| said("until", format!("{} UTC", short(until)))));
    lines.push(toned("by hand", format!("squall release {}", held.service), Tone::Good));
    if !held.storm.is_empty() {
        lines.push(toned("storm", &*held.storm, Tone::Dim));
    }
    lines
}

fn of_registry(status: &Status, registry: &RegistryStatus) -> Vec<Said> {
    let asked = format!("{}/min, by {} storms", rate(registry.attempts_per_min), registry.storms);
    let quota = quota_words(registry).unwrap_or_else(|| "not known".to_owned());
    let mut lines = vec![said("asked", asked), said("quota", quota)];
    if let Some(at) = registry.exhausted().filter(|at| *at > status.at) {
        lines.push(toned(
            "runs out",
            format!("in {}, at {} UTC", span_in_words(at.since(status.at)), clock(at)),
            Tone::Bad,
        ));
    }
    for (name, per_min) in &registry.spenders {
        lines.push(said("asked by", format!("{name} {}/min", rate(*per_min))));
    }
    lines
}

fn of_finding(status: &Status, finding: &Finding) -> Vec<Said> {
    let tasks = if finding.tasks == 1 { "1 task waits".to_owned() } else { format!("{} tasks wait", finding.tasks) };
    vec![
        toned("state", format!("{tasks} {}", waits(finding.kind)), Tone::Warn),
        toned("why", &*finding.detail, Tone::Strong),
        said("cause", finding.cause.as_str()),
        said("since", moment(status, finding.since)),
        said("nodes", finding.nodes.join(", ")),
    ]
}

fn of_receiver(status: &Status, receiver: &ReceiverStatus) -> Vec<Said> {
    let mut lines = vec![said("kind", &*receiver.kind), said("waiting", format!("{} alerts", receiver.waiting))];
    if !receiver.trouble.is_empty() {
        lines.push(toned("trouble", &*receiver.trouble, Tone::Bad));
    }
    lines.extend(receiver.oldest.map(|at| said("oldest", moment(status, at))));
    lines.extend(receiver.delivered_at.map(|at| said("took", moment(status, at))));
    let outcomes: Vec<String> = receiver.outcomes.iter().map(|(word, count)| format!("{word} {count}")).collect();
    lines.push(said("so far", if outcomes.is_empty() { "nothing sent".to_owned() } else { outcomes.join(" · ") }));
    lines
}
