//! What the detector has found: storms, what waits, and how many are calm.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::advice::{Facts, advice};
use super::arena::{NodeId, SubjectId};
use super::attempt::{Attempt, Attempts, Outcome};
use super::detector::{Detector, hanging_incident};
use super::failing::Failing;
use super::key::Slot;
use super::run::Run;
use super::settings::Settings;
use super::subject::{ENGINE_BACKOFF_MAX, SlotHistory, SubjectState};
use crate::model::{
    Cause, Finding, FindingKind, ImageRef, Notice, Storm, StormState, SubjectKind, TaskState, Timestamp, fnv_64,
};

/// How many nodes a finding names.
const NODES_MAX: usize = 100;
/// How many slots a storm names.
const SLOTS_MAX: usize = 20;
/// How many failures of a slot's history are looked at.
const HISTORY_MAX: usize = 16;
/// How long after its deployment a specification's first attempt is made, at least.
const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// The words of a finding for which the engine has none.
const NO_REASON: &str = "no reason given by Swarm";

impl Detector {
    /// The storms that were found: ongoing ones first, then by onset.
    pub fn storms(&self) -> Vec<Storm> {
        let mut storms: Vec<Storm> = self.ongoing().chain(self.said.ended.iter().cloned()).collect();
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
    pub fn ongoing_after(&self, after: Option<SubjectId>, max: usize) -> (Vec<Storm>, Option<SubjectId>) {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let indices: Vec<SubjectId> = self.storming.range((start, Bound::Unbounded)).take(max).copied().collect();
        let next = indices.last().copied().filter(|_| indices.len() == max);
        (indices.into_iter().filter_map(|index| self.storm_of(index)).collect(), next)
    }

    /// How many subjects are held that had no storm.
    pub fn calm(&self) -> u64 {
        self.subjects.values().filter(|subject| subject.episodes == 0).count() as u64
    }

    /// The engine versions of the nodes that were listed, by hostname.
    pub fn engines(&self) -> BTreeMap<&str, &str> {
        let known = self.nodes.values().filter(|node| !node.engine.is_empty());
        known.map(|node| (&*node.hostname, &*node.engine)).collect()
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
        let findings = self.findings(self.clock.now);
        let entry = |finding: &Finding| (finding.kind, finding.subject.id.clone());
        let current: BTreeSet<(FindingKind, String)> = findings.iter().map(entry).collect();
        self.said.found.retain(|entry| current.contains(entry));
        for finding in findings {
            if self.said.found.insert(entry(&finding)) {
                self.notify(Notice::Found(Box::new(finding)));
            }
        }
    }

    fn waits(&self, now: Timestamp) -> Vec<Finding> {
        let mut waits: BTreeMap<(FindingKind, SubjectId), Finding> = BTreeMap::new();
        for index in &self.waiting {
            let attempt = &self.attempts[*index];
            let is_hanging = attempt.state == TaskState::Preparing;
            let (kind, since, limit) = if is_hanging {
                (FindingKind::HangingPull, attempt.state_since, self.settings.hanging_after)
            } else {
                (FindingKind::Pending, attempt.created, self.settings.pending_after)
            };
            let Some(subject) = self.subjects.get(attempt.subject).filter(|_| now.since(since) > limit) else {
                continue;
            };
            if subject.removed.is_some() || self.is_succeeded(subject, attempt) {
                continue;
            }
            let cause = if is_hanging {
                attempt.pull_cause.unwrap_or(Cause::RegistryUnreachable)
            } else {
                attempt.task_cause.unwrap_or(Cause::Unschedulable)
            };
            let said = subject.failing.as_ref().map(|failing| failing.detail(cause));
            let detail = said.filter(|said| !said.is_empty()).unwrap_or(NO_REASON);
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
            if attempt.node.is_known() && finding.nodes.len() < NODES_MAX && !finding.nodes.contains(&node) {
                finding.nodes.push(node);
                finding.nodes.sort_unstable();
            }
        }
        waits.into_values().collect()
    }

    /// Whether a newer attempt of its slot is known: then it waits no more, and Swarm has forgotten it.
    fn is_succeeded(&self, subject: &SubjectState, attempt: &Attempt) -> bool {
        let known = subject.settled.iter().rev().chain(&subject.open).map(|index| &self.attempts[*index]);
        let mut of_slot = known.filter(|other| other.slot == attempt.slot && attempt.slot != Slot::default());
        of_slot.any(|other| other.created > attempt.created)
    }

    /// Unrelated services whose pulls hang at one registry are one finding about the registry.
    fn fold_hanging(&self, findings: &mut Vec<Finding>) {
        let mut registries: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, finding) in findings.iter().enumerate() {
            let index = self.index_of(finding.subject.kind, &finding.subject.id);
            if finding.kind == FindingKind::HangingPull
                && let Some(state) =
                    index.and_then(|index| self.subjects.get(index)).filter(|state| !state.registry().is_empty())
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
        let (attempts, settings) = (&self.attempts, &self.settings);
        for (index, state) in self.subjects.iter_mut().filter(|(_, state)| !state.is_held) {
            let history = |state: &SubjectState, slot: Slot| slot_history(state, slot, attempts, settings);
            let open = |state: &SubjectState, since: Timestamp| {
                state.open.iter().filter(|index| attempts[**index].created >= since).count() as u64
            };
            if state.judge_history(now, settings, history, open) {
                begun.push(index);
            }
        }
        for index in begun {
            self.announce_onset(index);
        }
    }

    /// Whether the first failed attempt of a storm that begins is known to be the first: the attempt before it in its slot
    /// is known, or it ran long, or it came with the deployment. Only the task list tells all attempts of a service.
    fn is_whole(&self, state: &SubjectState, failing: &Failing, run: &Run, first: Option<&Attempt>) -> bool {
        let (period, slot) = (failing.period(), first.map(|attempt| attempt.slot));
        let first = first.map_or(run.first_created, |attempt| attempt.created);
        if state.subject.kind != SubjectKind::SwarmService {
            return self.books.began.is_some_and(|began| first.since(began) >= ENGINE_BACKOFF_MAX * 2);
        }
        if !self.listing.has_tasks {
            return false;
        }
        let came_with_it = first.plus(FIRST_WITHIN) >= state.deployed
            && first.since(state.deployed) <= FIRST_WITHIN.max(period / 2)
            && state.deployed != Timestamp::default();
        let known = || state.settled.iter().chain(&state.open).map(|index| &self.attempts[*index]);
        let has_one_before = known().any(|attempt| Some(attempt.slot) == slot && attempt.created < first);
        let ran_long = run.since.since(first) >= self.settings.hold_down_min.max(period * 3);
        came_with_it || has_one_before || ran_long
    }

    /// Looks up the first attempt of a storm that begins. Returns the number for [`Storm::id`], and whether no failure of
    /// the storm came before.
    pub(super) fn first_of(&self, index: SubjectId) -> Option<(u64, bool)> {
        let state = self.subjects.get(index)?;
        let failing = state.failing.as_ref()?;
        let episode = failing.storm.as_ref()?;
        let run = &episode.run;
        // The engine's own count does not tell when it began.
        let is_counted = episode.counted_until > Timestamp::from_nanos(i64::MIN);
        let known = state.settled.iter().map(|index| &self.attempts[*index]);
        let first = known.rev().find(|attempt| attempt.ended == Some(run.since) && attempt.outcome.is_some());
        let created = first.map_or(run.first_created, |attempt| attempt.created);
        let second = created.as_nanos().div_euclid(1_000_000_000).to_be_bytes();
        let id = fnv_64([state.subject.kind.as_str().as_bytes(), state.subject.name.as_bytes(), &second]);
        Some((id, !is_counted && self.is_whole(state, failing, run, first)))
    }

    pub(super) fn storm_of(&self, index: SubjectId) -> Option<Storm> {
        let state = self.subjects.get(index)?;
        let failing = state.failing.as_ref()?;
        let episode = failing.storm.as_ref()?;
        let run = &episode.run;
        let cause = run.causes.top().unwrap_or(Cause::Unknown);
        let image = ImageRef::parse(&state.image).ok();
        let pinned = image.as_ref().is_some_and(ImageRef::is_pinned);
        let kind = state.subject.kind;
        let is_asked_again = matches!(kind, SubjectKind::SwarmService | SubjectKind::EcsFamily);
        let attempts = episode.attempts.max(run.failed);
        let attempts_per_min = (failing.rate_per_min() * 10.0).round() / 10.0;
        let pulls = cause.is_pull() || (is_asked_again && !pinned);
        let spend = state.spent.total.since(run.asked_before);
        let slots: BTreeSet<u64> =
            failing.slots.iter().filter(|slot| slot.last >= run.since).filter_map(|slot| slot.slot.number()).collect();
        let is_all = state.replicas.is_some_and(|replicas| slots.len() as u64 >= u64::from(replicas));
        Some(Storm {
            id: format!("{:016x}", episode.id),
            subject: state.subject.clone(),
            state: if state.is_held { StormState::Quarantined } else { StormState::Ongoing },
            cause,
            causes: run.causes.clone(),
            detail: failing.detail(cause).to_owned(),
            onset: run.since,
            exact: episode.is_whole && run.since >= self.clock.blind_until,
            updated: state.updated,
            detected: episode.detected,
            ended: None,
            detected_after_failures: episode.detected_after,
            attempts,
            failed: run.failed,
            attempts_per_min,
            registry: image.map(|image| image.registry.to_owned()).unwrap_or_default(),
            image: state.image.to_string(),
            pinned,
            pulls,
            nodes: self.node_names(run.nodes.iter().copied()),
            slots: if is_all { Vec::new() } else { slots.into_iter().take(SLOTS_MAX).collect() },
            replicas: state.replicas,
            // An attempt that asks nothing makes no pace of what was asked before it.
            spend: Some(spend.at_pace(attempts, if pulls { attempts_per_min } else { 0.0 })),
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

    fn node_names(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<String> {
        let mut names: Vec<String> = nodes.map(|node| self.node_name(node)).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn node_name(&self, node: NodeId) -> String {
        let node = &self.nodes[node];
        if node.hostname.is_empty() { node.id.to_string() } else { node.hostname.to_string() }
    }
}

/// The failures of a slot up to its newest attempt: those of the specification in force that follow one another without
/// a long time between them.
fn slot_history(state: &SubjectState, slot: Slot, attempts: &Attempts, settings: &Settings) -> SlotHistory {
    let Some(failing) = &state.failing else { return SlotHistory::default() };
    let mut of_slot: Vec<&Attempt> = state
        .open
        .iter()
        .chain(&state.settled)
        .map(|index| &attempts[*index])
        .filter(|attempt| attempt.slot == slot)
        .collect();
    of_slot.sort_by_key(|attempt| Reverse((attempt.created, attempt.key)));
    let mut history = SlotHistory::default();
    let mut first = None;
    for (place, attempt) in of_slot.into_iter().enumerate() {
        let is_over = attempt.created <= failing.account || attempt.ended.is_some_and(|ended| ended <= failing.over);
        match attempt.outcome {
            _ if is_over || history.failures.len() == HISTORY_MAX => {
                history.is_whole = is_over;
                break;
            }
            Some(Outcome::Failed { exit_zero, .. }) => {
                history.failures.extend(attempt.ended);
                history.has_exit_zero |= exit_zero;
            }
            Some(Outcome::Completed) => {
                history.is_whole = true;
                break;
            }
            // Somebody has ended the slot, and no attempt came after it.
            Some(Outcome::Intended) if place == 0 => return SlotHistory::default(),
            None if place == 0 && attempt.state == TaskState::Running => {
                history.running_since = Some(attempt.state_since);
            }
            Some(Outcome::Intended) | None => {}
        }
        first = Some(attempt.created);
    }
    history.failures.sort_unstable();
    history.cut(settings.hold_down_min);
    // A listing tells when the specification was deployed: the first attempt was made then.
    history.is_whole |= first.zip(history.period()).is_some_and(|(first, period)| {
        let (from, to) = (state.deployed.minus(FIRST_WITHIN), state.deployed.plus(FIRST_WITHIN.max(period / 2)));
        from <= first && first <= to
    });
    history
}
