//! What the detector has found: storms, what waits, and how many are calm.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::advice::advice;
use super::detector::Detector;
use super::key::Slot;
use super::subject::{SlotHistory, SubjectState};
use crate::model::{
    Cause, Finding, FindingKind, ImageRef, Notice, Storm, StormState, SubjectKind, TaskState, Timestamp, fnv_64,
};

/// How many nodes a finding names.
const NODES_MAX: usize = 100;

impl Detector {
    /// The storms that were found: ongoing ones first, then by onset.
    pub fn storms(&self) -> Vec<Storm> {
        let mut storms: Vec<Storm> = self.ongoing().chain(self.ended.iter().cloned()).collect();
        storms.sort_by(|a, b| {
            let rank = |storm: &Storm| (storm.state == StormState::Subsided, storm.onset);
            rank(a).cmp(&rank(b)).then_with(|| a.subject.cmp(&b.subject)).then_with(|| a.id.cmp(&b.id))
        });
        storms
    }

    /// Those of them that have not subsided, in no order; each is made as it is asked for.
    pub fn ongoing(&self) -> impl Iterator<Item = Storm> + '_ {
        self.storming.iter().filter_map(|index| self.storm_of(*index))
    }

    /// The next of them for whoever asks for all of them part by part, `after` the last of the part before; and what
    /// the next part comes after, where there may be one.
    pub fn ongoing_after(&self, after: Option<u32>, max: usize) -> (Vec<Storm>, Option<u32>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let indices: Vec<u32> = self.storming.range((start, Bound::Unbounded)).take(max).copied().collect();
        let next = indices.last().copied().filter(|_| indices.len() == max);
        (indices.into_iter().filter_map(|index| self.storm_of(index)).collect(), next)
    }

    /// How many subjects are held that had no storm.
    pub fn calm(&self) -> u64 {
        self.subjects.iter().flatten().filter(|subject| subject.episodes == 0).count() as u64
    }

    /// The engine versions of the nodes that were listed, by hostname.
    pub fn engines(&self) -> BTreeMap<&str, &str> {
        self.nodes.iter().filter(|node| !node.engine.is_empty()).map(|node| (&*node.hostname, &*node.engine)).collect()
    }

    /// What waits for longer than it ought to at `now`.
    pub fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.waits(now).into_values().collect();
        findings.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        findings
    }

    pub(super) fn find_waiting(&mut self) {
        let waits = self.waits(self.now);
        self.found.retain(|entry| waits.contains_key(entry));
        for (entry, finding) in waits {
            if self.found.insert(entry) {
                self.notify(Notice::Found(Box::new(finding)));
            }
        }
    }

    fn waits(&self, now: Timestamp) -> BTreeMap<(FindingKind, u32), Finding> {
        let mut waits: BTreeMap<(FindingKind, u32), Finding> = BTreeMap::new();
        for index in &self.waiting {
            let attempt = &self.attempts[*index as usize];
            let (kind, since, limit) = match attempt.state {
                TaskState::Preparing => (FindingKind::HangingPull, attempt.state_since, self.settings.hanging_after),
                _ => (FindingKind::Pending, attempt.created, self.settings.pending_after),
            };
            let Some(subject) = self.subject(attempt.subject).filter(|_| now.since(since) > limit) else { continue };
            let cause = match kind {
                FindingKind::Pending => attempt.task_cause.unwrap_or(Cause::Unschedulable),
                FindingKind::HangingPull => attempt.pull_cause.unwrap_or(Cause::RegistryUnreachable),
            };
            let detail = subject.failing.as_ref().map_or("", |failing| failing.detail(cause));
            let finding = waits.entry((kind, attempt.subject)).or_insert_with(|| Finding {
                kind,
                subject: subject.subject.clone(),
                cause,
                since,
                tasks: 0,
                detail: detail.to_owned(),
                nodes: Vec::new(),
            });
            finding.tasks += 1;
            finding.since = finding.since.min(since);
            let node = self.node_name(attempt.node);
            if attempt.node != 0 && finding.nodes.len() < NODES_MAX && !finding.nodes.contains(&node) {
                finding.nodes.push(node);
                finding.nodes.sort_unstable();
            }
        }
        waits
    }

    /// Looks at the kept history of every subject that has failed and does not storm: Swarm keeps five tasks of a
    /// slot, whose times tell the current rate. For the first listing of a daemon, and for the end of a recording.
    pub fn judge_history(&mut self, now: Timestamp) {
        let mut begun = Vec::new();
        let attempts = &self.attempts;
        for (index, state) in self.subjects.iter_mut().enumerate() {
            let Some(state) = state else { continue };
            let history = |state: &SubjectState, slot: Slot| slot_history(state, slot, attempts);
            let open = |state: &SubjectState, since: Timestamp| {
                state.open.iter().filter(|index| attempts[**index as usize].created >= since).count() as u64
            };
            if state.judge_history(now, &self.settings, history, open) {
                begun.extend(u32::try_from(index));
            }
        }
        for index in begun {
            self.announce_onset(index);
        }
    }

    pub(super) fn storm_of(&self, index: u32) -> Option<Storm> {
        let state = self.subject(index)?;
        let failing = state.failing.as_ref()?;
        let episode = failing.storm.as_ref()?;
        let run = &episode.run;
        let cause = run.causes().top().unwrap_or(Cause::Unknown);
        let image = ImageRef::parse(&state.image).ok();
        let pinned = image.as_ref().is_some_and(ImageRef::is_pinned);
        let kind = state.subject.kind;
        let is_asked_again = matches!(kind, SubjectKind::SwarmService | SubjectKind::EcsFamily);
        Some(Storm {
            id: storm_id(state),
            subject: state.subject.clone(),
            state: if state.is_held { StormState::Quarantined } else { StormState::Ongoing },
            cause,
            causes: run.causes().clone(),
            detail: failing.detail(cause).to_owned(),
            onset: run.since(),
            detected: episode.detected,
            ended: None,
            detected_after_failures: episode.detected_after,
            attempts: episode.attempts.max(run.failed()),
            failed: run.failed(),
            attempts_per_min: (failing.rate_per_min() * 10.0).round() / 10.0,
            registry: image.map(|image| image.registry.to_owned()).unwrap_or_default(),
            image: state.image.to_string(),
            pinned,
            pulls: cause.is_pull() || (is_asked_again && !pinned),
            nodes: self.node_names(run.nodes()),
            spend: None,
            advice: advice(cause, kind, &state.subject.name, pinned),
        })
    }

    fn node_names(&self, nodes: impl Iterator<Item = u32>) -> Vec<String> {
        let mut names: Vec<String> = nodes.map(|node| self.node_name(node)).collect();
        names.sort_unstable();
        names
    }

    fn node_name(&self, node: u32) -> String {
        let node = &self.nodes[node as usize];
        if node.hostname.is_empty() { node.id.to_string() } else { node.hostname.to_string() }
    }
}

/// See [`Storm::id`].
fn storm_id(state: &SubjectState) -> String {
    let episode = state.episodes.to_be_bytes();
    let hash = fnv_64([state.subject.kind.as_str().as_bytes(), state.subject.id.as_bytes(), &episode]);
    format!("{hash:016x}")
}

fn slot_history(state: &SubjectState, slot: Slot, attempts: &[super::attempt::Attempt]) -> SlotHistory {
    use super::attempt::Outcome;
    let mut of_slot: Vec<&super::attempt::Attempt> = state
        .open
        .iter()
        .chain(&state.settled)
        .map(|index| &attempts[*index as usize])
        .filter(|attempt| attempt.slot == slot)
        .collect();
    of_slot.sort_by_key(|attempt| (attempt.created, attempt.key));
    let mut history = SlotHistory::default();
    for attempt in of_slot {
        match attempt.outcome {
            Some(Outcome::Failed { exit_zero, .. }) => {
                history.failures.extend(attempt.ended);
                history.has_exit_zero |= exit_zero;
                history.running_since = None;
            }
            Some(Outcome::Completed) => history = SlotHistory::default(),
            Some(Outcome::Intended) => {}
            None => {
                history.running_since = (attempt.state == TaskState::Running).then_some(attempt.state_since);
            }
        }
    }
    history.failures.sort_unstable();
    history
}
