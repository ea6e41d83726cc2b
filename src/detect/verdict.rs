//! What the detector has found: storms, what waits, and how many are calm.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::advice::{Facts, advice};
use super::detector::{Detector, hanging_incident};
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

    /// What waits for longer than it ought to at `now`, and which registries fail.
    pub fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings = self.waits(now);
        self.fold_hanging(&mut findings);
        findings.extend(self.registry_findings(now));
        findings.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        findings.dedup_by(|a, b| (a.kind, &a.subject) == (b.kind, &b.subject));
        findings
    }

    pub(super) fn say_findings(&mut self) {
        let findings = self.findings(self.now);
        let entry = |finding: &Finding| (finding.kind, finding.subject.id.clone());
        let current: BTreeSet<(FindingKind, String)> = findings.iter().map(entry).collect();
        self.found.retain(|entry| current.contains(entry));
        for finding in findings {
            if self.found.insert(entry(&finding)) {
                self.notify(Notice::Found(Box::new(finding)));
            }
        }
    }

    fn waits(&self, now: Timestamp) -> Vec<Finding> {
        let mut waits: BTreeMap<(FindingKind, u32), Finding> = BTreeMap::new();
        for index in &self.waiting {
            let attempt = &self.attempts[*index as usize];
            let is_hanging = attempt.state == TaskState::Preparing;
            let (kind, since, limit) = if is_hanging {
                (FindingKind::HangingPull, attempt.state_since, self.settings.hanging_after)
            } else {
                (FindingKind::Pending, attempt.created, self.settings.pending_after)
            };
            let Some(subject) = self.subject(attempt.subject).filter(|_| now.since(since) > limit) else { continue };
            let cause = if is_hanging {
                attempt.pull_cause.unwrap_or(Cause::RegistryUnreachable)
            } else {
                attempt.task_cause.unwrap_or(Cause::Unschedulable)
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
        waits.into_values().collect()
    }

    /// Unrelated services whose pulls hang at one registry are one finding about the registry.
    fn fold_hanging(&self, findings: &mut Vec<Finding>) {
        let mut registries: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, finding) in findings.iter().enumerate() {
            let index = self.index_of(finding.subject.kind, &finding.subject.id);
            if finding.kind == FindingKind::HangingPull
                && let Some(state) =
                    index.and_then(|index| self.subject(index)).filter(|state| !state.registry().is_empty())
            {
                registries.entry(state.registry()).or_default().push(place);
            }
        }
        let mut incidents = Vec::new();
        let mut folded = BTreeSet::new();
        for (registry, places) in registries {
            let hanging: Vec<&Finding> = places.iter().map(|place| &findings[*place]).collect();
            if let Some(incident) = hanging_incident(registry, &hanging) {
                incidents.push(incident);
                folded.extend(places);
            }
        }
        let mut place = 0..;
        findings.retain(|_| !place.next().is_some_and(|place| folded.contains(&place)));
        findings.extend(incidents);
    }

    /// Looks at the kept history of every subject that has failed and does not storm: Swarm keeps five tasks of a
    /// slot, whose times tell the current rate. For what a listing shows that nobody has watched, and for the end of a
    /// recording. What is held is no loop: its tries are squall's own.
    pub fn judge_history(&mut self, now: Timestamp) {
        let mut begun = Vec::new();
        let attempts = &self.attempts;
        for (index, state) in self.subjects.iter_mut().enumerate() {
            let Some(state) = state.as_mut().filter(|state| !state.is_held) else { continue };
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
        let attempts = episode.attempts.max(run.failed());
        let attempts_per_min = (failing.rate_per_min() * 10.0).round() / 10.0;
        let spend = state.spent.total.since(run.asked_before()).at_pace(attempts, attempts_per_min);
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
            attempts,
            failed: run.failed(),
            attempts_per_min,
            registry: image.map(|image| image.registry.to_owned()).unwrap_or_default(),
            image: state.image.to_string(),
            pinned,
            pulls: cause.is_pull() || (is_asked_again && !pinned),
            nodes: self.node_names(run.nodes()),
            spend: Some(spend),
            advice: advice(&Facts {
                cause,
                kind,
                name: &state.subject.name,
                image: &state.image,
                registry: state.registry(),
                detail: failing.detail(cause),
                is_pinned: pinned,
                is_held: state.is_held,
            }),
        })
    }

    fn node_names(&self, nodes: impl Iterator<Item = u32>) -> Vec<String> {
        let mut names: Vec<String> = nodes.map(|node| self.node_name(node)).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn node_name(&self, node: u32) -> String {
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
