//! The guards: each lets a proposal pass or refuses it for its own reason.

use super::health::healthy;
use super::mark::Mark;
use super::settings::{Enforce, Settings};
use super::spec::View;
use crate::model::{Action, Author, Mode, Refusal, Response, Storm, TaskFact, Timestamp};

/// What is so around a service at the moment of a decision.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// This node leads the Swarm.
    pub leads: bool,
    /// Events or listings were lost, and not everything has been listed since.
    pub is_blind: bool,
    /// The end of the last gap, where there was one.
    pub gap_end: Option<Timestamp>,
    /// The subject's storm as it is now, where it storms.
    pub storm: Option<Storm>,
    /// Its failures since the last gap, as far as they are remembered: up to 16.
    pub failures_since_gap: u64,
    /// Its failures since squall let it go or gave it back, up to 16; `None` where squall did not.
    pub failures_since_hold: Option<u64>,
    /// The journal is on disk: the state of containers has no other place.
    pub has_journal: bool,
    /// The ids of the nodes that may be given tasks.
    pub nodes: Vec<String>,
}

/// A proposal to hold a service.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
    pub(super) by: Author,
    pub(super) view: &'a View,
    pub(super) tasks: &'a [TaskFact<'a>],
    pub(super) scene: &'a Scene,
    /// What is asked for.
    pub(super) response: Response,
    pub(super) is_opted_in: bool,
    /// Somebody undid the last quarantine of this template, or there was one, within the cool-down.
    pub(super) is_cooling: bool,
}

impl Scene {
    /// The failures that speak against the subject: those of its storm, or where it was held meanwhile those since.
    pub(super) fn failures(&self) -> u64 {
        let failed = self.storm.as_ref().map_or(0, |storm| storm.failed);
        self.failures_since_hold.map_or(failed, |since| since.min(failed))
    }
}

type Guard = fn(&Case<'_>) -> bool;

/// What keeps a service from being held, in the order in which it is asked. The budget is asked after all of them, as
/// asking spends it.
const GUARDS: [(Refusal, Guard); 14] = [
    (Refusal::Ignored, |case| !case.is_by_hand() && case.view.is_ignored == Ok(true)),
    (Refusal::BadLabel, |case| case.has_bad_label()),
    (Refusal::Observe, |case| case.response == Response::Observe),
    (Refusal::NotOptedIn, |case| !case.is_by_hand() && !case.is_opted_in),
    (Refusal::Held, |case| matches!(&case.view.mark, Ok(Some(mark)) if case.view.is_as(&mark.set))),
    (Refusal::Unsupported, |case| case.view.before(case.response).is_none()),
    (Refusal::Rollout, |case| case.view.is_rolling),
    (Refusal::TooFewFailures, |case| case.storm().is_some() && case.scene.failures() < case.settings.min_failures),
    (Refusal::TooYoung, |case| case.storm().is_some_and(|storm| case.now.since(storm.onset) < case.settings.min_age)),
    (Refusal::EvidenceGap, |case| case.has_gap()),
    (Refusal::HealthyReplica, |case| case.takes_healthy()),
    (Refusal::CoolDown, |case| !case.is_by_hand() && case.is_cooling),
    (Refusal::NotLeader, |case| !case.is_by_hand() && !case.scene.leads),
    (Refusal::NotEnforced, |case| !case.is_by_hand() && !case.settings.act),
];

impl Case<'_> {
    /// The first guard that refuses.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        GUARDS.iter().find(|(_, refuses)| refuses(self)).map(|(refusal, _)| *refusal)
    }

    fn is_by_hand(&self) -> bool {
        self.by == Author::Hand
    }

    /// What a person holds by hand need not storm.
    fn storm(&self) -> Option<&Storm> {
        self.scene.storm.as_ref().filter(|_| !self.is_by_hand())
    }

    /// A person's own command goes before a label; a damaged quarantine is not overwritten by anybody.
    fn has_bad_label(&self) -> bool {
        let is_unclear = self.view.response.is_err() || self.view.is_ignored.is_err();
        self.view.mark.is_err() || (!self.is_by_hand() && is_unclear)
    }

    fn has_gap(&self) -> bool {
        let Some(storm) = self.storm() else { return false };
        let has_gap = self.scene.gap_end.is_some_and(|end| end >= storm.onset);
        self.scene.is_blind || (has_gap && self.scene.failures_since_gap < self.settings.min_failures)
    }

    fn takes_healthy(&self) -> bool {
        let onset = self.scene.storm.as_ref().map_or(Timestamp::from_secs(0), |storm| storm.onset);
        !self.settings.allow_healthy && !healthy(self.tasks, onset, self.now).is_empty()
    }
}

/// What refuses a further step of a quarantine, the budget apart.
pub(super) fn refusal_of_step(
    settings: &Settings,
    view: &View,
    scene: &Scene,
    action: Action,
    mark: &Mark,
) -> Option<Refusal> {
    // A paused replicated service is in a rollout that never ends: squall's own.
    let is_own = mark.is_by_placement() && matches!(view.mode, Mode::Replicated(_));
    let is_rolling = view.is_rolling && !is_own && matches!(action, Action::Probe | Action::Raise);
    // Any update resumes a rollout that Swarm has paused, over what still runs of the specification before.
    let would_resume = view.is_rollout_paused && !is_own && !mark.set.holds_all();
    match () {
        () if view.is_ignored == Ok(true) => Some(Refusal::Ignored),
        () if view.is_ignored.is_err() => Some(Refusal::BadLabel),
        () if is_rolling || would_resume => Some(Refusal::Rollout),
        () if !scene.leads => Some(Refusal::NotLeader),
        () if scene.is_blind => Some(Refusal::EvidenceGap),
        () if !settings.act => Some(Refusal::NotEnforced),
        () => None,
    }
}

/// The response to a service's storm, and whether it is opted in: its label goes before the configuration.
pub(super) fn response_to(settings: &Settings, name: &str, label: Option<Response>) -> (Response, bool) {
    match label {
        Some(response) => (response, true),
        None => (settings.response, settings.enforce == Enforce::All || settings.allows(name)),
    }
}
