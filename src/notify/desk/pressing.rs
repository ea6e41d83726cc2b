//! What is told besides cases: gaps, and squall's own trouble.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words;
use super::{Settings, id_of, severity_of};
use crate::model::{Alert, AlertKind, ClockStep, Gap, OnClock, Timestamp, on_clock, span_in_words};
use crate::notify::news::{Part, Trouble};

/// How many gaps one alert names; the others are counted.
const LINES_MAX: usize = 20;

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pressing {
    troubles: BTreeMap<Part, Trouble>,
    /// When each was told last, and how often in a row: one that comes and goes is told less and less often.
    #[serde(default)]
    told: BTreeMap<Part, (Timestamp, u32)>,
    #[serde(skip)]
    recovered: Vec<(Part, Trouble, Timestamp)>,
    #[serde(skip)]
    gaps: Gathered,
    /// The newest gap's alert, and how many there were: the next ones keep a growing distance.
    gap_told: Option<Timestamp>,
}

/// Lines that wait a moment for others.
#[derive(Clone, Debug, Default)]
struct Gathered {
    since: Option<Timestamp>,
    lines: Vec<String>,
    left_out: u64,
}

impl Gathered {
    fn add(&mut self, now: Timestamp, line: String) {
        self.since.get_or_insert(now);
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else {
            self.left_out += 1;
        }
    }

    fn take(&mut self) -> Vec<String> {
        let Self { mut lines, left_out, .. } = std::mem::take(self);
        if left_out > 0 {
            lines.push(format!("and {left_out} more"));
        }
        lines
    }
}

on_clock!(Gathered { since } rest { lines, left_out });

impl OnClock for Pressing {
    fn step(&mut self, step: ClockStep) {
        let Self { troubles, told, recovered, gaps, gap_told } = self;
        troubles.step(step);
        told.values_mut().for_each(|(at, _)| at.step(step));
        for (_, trouble, at) in recovered {
            trouble.step(step);
            at.step(step);
        }
        gaps.step(step);
        gap_told.step(step);
    }
}

impl Pressing {
    pub(super) fn gap(&mut self, now: Timestamp, gap: Gap) {
        self.gaps.add(now, words::gap(&gap));
    }

    pub(super) fn trouble(&mut self, now: Timestamp, part: Part, why: String) {
        let new = Trouble { since: now, why: String::new(), is_told: false, is_heard: true };
        let trouble = self.troubles.entry(part).or_insert(new);
        trouble.why = why;
        trouble.is_heard = true;
    }

    pub(super) fn recovered(&mut self, now: Timestamp, part: Part) {
        if let Some(trouble) = self.troubles.remove(&part).filter(|trouble| trouble.is_told) {
            self.recovered.push((part, trouble, now));
        }
    }

    /// What an earlier process told and this one has not heard of is over.
    pub(super) fn settle(&mut self, now: Timestamp) {
        let over: Vec<Part> =
            self.troubles.iter().filter(|(_, trouble)| !trouble.is_heard).map(|(part, _)| *part).collect();
        over.into_iter().for_each(|part| self.recovered(now, part));
    }

    pub(super) fn tell(&mut self, now: Timestamp, settings: &Settings, leads: bool) -> Vec<Alert> {
        let mut alerts = Vec::new();
        // Each node tells of its own trouble: nobody else knows it.
        for (part, trouble, at) in self.recovered.drain(..) {
            let lines = vec![format!("it lasted {}", span_in_words(at.since(trouble.since)))];
            let title = format!("{}: squall works again ({} is over)", settings.node, part.words());
            alerts.push(alert(
                now,
                settings,
                AlertKind::Recovered,
                conversation(settings, part, &trouble),
                title,
                lines,
            ));
        }
        for (part, trouble) in &mut self.troubles {
            if !trouble.is_told && trouble_due(&self.told, *part, trouble, settings) <= now {
                trouble.is_told = true;
                let (at, times) = self.told.entry(*part).or_insert((now, 0));
                *times = if now.since(*at) > settings.repeat_min * 2 { 1 } else { times.saturating_add(1) };
                *at = now;
                let title = format!("{}: {}", settings.node, part.words());
                let lines = vec![trouble.why.clone(), format!("since {}", words::moment(trouble.since))];
                let of = conversation(settings, *part, trouble);
                let mut alert = alert(now, settings, AlertKind::Trouble, of, title, lines);
                part.next_step().clone_into(&mut alert.next_step);
                alerts.push(alert);
            }
        }
        if self.gap_due(settings).is_some_and(|at| at <= now) {
            self.gap_told = Some(now);
            alerts.extend(told(now, settings, AlertKind::Gap, self.gaps.take(), leads));
        }
        alerts
    }

    pub(super) fn next_deadline(&self, settings: &Settings) -> Option<Timestamp> {
        let waiting = self.troubles.iter().filter(|(_, trouble)| !trouble.is_told);
        let troubles = waiting.map(|(part, trouble)| trouble_due(&self.told, *part, trouble, settings));
        let recovered = self.recovered.iter().map(|(_, _, at)| *at);
        troubles.chain(recovered).chain(self.gap_due(settings)).min()
    }

    /// Gaps come in rows, as a dockerd that restarts makes them: the next message waits as long as a digest.
    fn gap_due(&self, settings: &Settings) -> Option<Timestamp> {
        let since = self.gaps.since?.plus(settings.wait);
        Some(self.gap_told.map_or(since, |told| since.max(told.plus(settings.digest_per))))
    }
}

/// When a trouble is told: once it has lasted, and at a distance from the last one of that part, which doubles from a
/// digest's to that of the first repeat.
fn trouble_due(
    told: &BTreeMap<Part, (Timestamp, u32)>,
    part: Part,
    trouble: &Trouble,
    settings: &Settings,
) -> Timestamp {
    let lasted = trouble.since.plus(settings.trouble_after);
    told.get(&part).map_or(lasted, |(at, times)| {
        let doubled = settings.digest_per.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1)));
        lasted.max(at.plus(doubled.min(settings.repeat_min)))
    })
}

/// What only the node that leads tells.
fn told(now: Timestamp, settings: &Settings, kind: AlertKind, lines: Vec<String>, leads: bool) -> Option<Alert> {
    let title = words::title_of_lines(kind, &settings.node, &lines);
    let of = id_of(&[kind.as_str(), &settings.node, &now.to_string()]);
    leads.then(|| alert(now, settings, kind, of, title, lines))
}

fn conversation(settings: &Settings, part: Part, trouble: &Trouble) -> String {
    id_of(&["trouble", &settings.node, part.words(), &trouble.since.to_string()])
}

fn alert(
    now: Timestamp,
    settings: &Settings,
    kind: AlertKind,
    conversation: String,
    title: String,
    lines: Vec<String>,
) -> Alert {
    Alert {
        id: id_of(&[&conversation, kind.as_str()]),
        conversation,
        kind,
        severity: severity_of(kind, false),
        at: now,
        node: settings.node.clone(),
        title,
        lines,
        storms: Vec::new(),
        storms_left_out: 0,
        next_step: String::new(),
        ends: kind == AlertKind::Recovered,
        part_of: None,
    }
}
