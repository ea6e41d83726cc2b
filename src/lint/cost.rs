//! What a service asks of its registry while it loops, at worst.

use std::time::Duration;

use super::report::Assumption;
use super::service::Mode;
use crate::budget::{Authentication, Engine, HUB_WINDOW, Pulled, requests};
use crate::model::{Condition, Requests, RestartPolicy};

/// From the end of a restart delay to that of the next, besides the delay. A real Swarm made 167 tries in 170 s at a
/// delay of 1 s where the mount was missing: 18 ms. A failing program takes longer, 0.2 to 0.7 s; the worst is shown.
const TURNAROUND: Duration = Duration::from_millis(20);
/// The shortest time between two tries that Swarm manages, where the delay is 0: `squall audit --risks` has it too.
const PERIOD_SHORTEST: Duration = Duration::from_millis(100);

/// A service that is tried again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Loop {
    pub(super) slots: u64,
    /// From one try of a slot to the next.
    pub(super) period: Duration,
    /// The tries of a slot, the first one with them; `None`: nothing ends it.
    pub(super) tries_max: Option<u64>,
    /// What a try asks for.
    pub(super) asked: Requests,
}

/// What the limit of a restart policy comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// There is none.
    None,
    /// So many restarts of a slot.
    Restarts(u64),
    /// The restarts never fall into the window together.
    WindowTooShort,
    /// The mode has none, whatever is written.
    NotEnforced,
}

/// From one try of a slot to the next, where it fails at once.
pub(super) fn period(policy: RestartPolicy) -> Duration {
    (policy.delay + TURNAROUND).max(PERIOD_SHORTEST)
}

/// What a policy's limit comes to.
///
/// Swarm counts the restarts of a slot that lie less than the window back (swarmkit's `restart.go`), so the window must
/// hold all of them: one shorter than the delay holds none (swarmkit#2936). It looks a global job's slots up under
/// another name than it counts them: of a limit of 2 it made 10 tasks in 20 s.
pub(super) fn limit(policy: RestartPolicy, mode: Mode) -> Limit {
    let restarts = policy.max_attempts;
    if restarts == 0 {
        return Limit::None;
    }
    if mode == Mode::GlobalJob {
        return Limit::NotEnforced;
    }
    let needed = period(policy).checked_mul(u32::try_from(restarts).unwrap_or(u32::MAX));
    if policy.window.is_zero() || needed.is_some_and(|needed| policy.window > needed) {
        Limit::Restarts(restarts)
    } else {
        Limit::WindowTooShort
    }
}

impl Loop {
    /// The loop of a service; `None` where it is not tried again.
    pub(super) fn of(policy: RestartPolicy, mode: Mode, slots: u64, is_pinned: bool) -> Option<Self> {
        if policy.condition == Condition::Never || slots == 0 {
            return None;
        }
        let tries_max = match limit(policy, mode) {
            Limit::Restarts(restarts) => Some(restarts.saturating_add(1)),
            Limit::None | Limit::WindowTooShort | Limit::NotEnforced => None,
        };
        // With a token: as Docker Hub, and at worst any other, wants it.
        let pulled = if is_pinned { Pulled::Nothing } else { Pulled::Refused };
        let asked = requests(Engine::Graph, Authentication::Bearer, is_pinned, pulled);
        Some(Self { slots, period: period(policy), tries_max, asked })
    }

    /// Tries in its worst minute, of all slots.
    fn tries_per_min(&self) -> f64 {
        let rate = 60.0 / self.period.as_secs_f64();
        float(self.slots) * self.tries_max.map_or(rate, |most| rate.min(float(most)))
    }

    /// Requests in its worst minute.
    pub(super) fn requests_per_min(&self) -> f64 {
        self.tries_per_min() * float(self.asked.all())
    }

    /// GETs of a manifest in its worst minute: what Docker Hub counts as pulls.
    pub(super) fn pulls_per_min(&self) -> f64 {
        self.tries_per_min() * float(self.asked.manifest_gets)
    }

    /// Pulls until then, all slots beginning at once.
    fn pulls_until(&self, millis: u64) -> u64 {
        let period = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX).max(1);
        let tries = (millis / period + 1).min(self.tries_max.unwrap_or(u64::MAX));
        tries.saturating_mul(self.slots).saturating_mul(self.asked.manifest_gets)
    }
}

/// When loops that begin together have spent a budget of pulls; `None` where they do not within its window.
pub(super) fn spent_after(loops: &[Loop], budget: u64) -> Option<Duration> {
    let is_spent = |millis| loops.iter().map(|each| each.pulls_until(millis)).fold(0, u64::saturating_add) >= budget;
    let (mut before, mut after) = (0, u64::try_from(HUB_WINDOW.as_millis()).unwrap_or(u64::MAX));
    if !is_spent(after) {
        return None;
    }
    while before < after {
        let middle = before.midpoint(after);
        if is_spent(middle) { after = middle } else { before = middle + 1 }
    }
    Some(Duration::from_millis(after))
}

/// What the figures of a service take for granted.
pub(super) fn assumptions(looped: Option<&Loop>, mode: Mode, is_pinned: bool) -> Vec<Assumption> {
    let mut all = Vec::new();
    if looped.is_none() {
        all.push(Assumption::NoRestart);
    } else if is_pinned {
        all.push(Assumption::PresentDigest);
    } else {
        all.extend([Assumption::UnresolvedTag, Assumption::RefusedPull]);
    }
    if mode.is_global() {
        all.push(Assumption::SlotOnEachNode);
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people: beyond 2^53 its last digits do not matter")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(delay_secs: u64, max_attempts: u64, window_secs: u64) -> RestartPolicy {
        RestartPolicy {
            delay: Duration::from_secs(delay_secs),
            max_attempts,
            window: Duration::from_secs(window_secs),
            ..RestartPolicy::default()
        }
    }

    #[test]
    fn a_limit_holds_only_where_the_window_holds_all_restarts() {
        for (delay, restarts, window, expected) in [
            (5, 0, 0, Limit::None),
            (5, 3, 0, Limit::Restarts(3)),
            (5, 3, 120, Limit::Restarts(3)),
            (5, 3, 16, Limit::Restarts(3)),
            (5, 3, 15, Limit::WindowTooShort),
            (5, 1, 4, Limit::WindowTooShort),
            (5, 1, 5, Limit::WindowTooShort),
            (5, u64::MAX, 100, Limit::WindowTooShort),
        ] {
            assert_eq!(
                limit(policy(delay, restarts, window), Mode::Replicated),
                expected,
                "{delay} {restarts} {window}"
            );
        }
        assert_eq!(limit(policy(5, 2, 0), Mode::GlobalJob), Limit::NotEnforced);
        assert_eq!(limit(policy(5, 2, 0), Mode::ReplicatedJob), Limit::Restarts(2));
    }

    #[test]
    fn a_loop_costs_what_its_tries_do() {
        let looped = Loop::of(policy(1, 0, 0), Mode::Replicated, 3, false).expect("a loop");
        // The incident: a try each second, four requests and a pull each.
        assert_eq!((looped.requests_per_min().round(), looped.pulls_per_min().round()), (706.0, 176.0));
        assert_eq!(spent_after(&[looped], 100), Some(Duration::from_millis(33 * 1020)));
        let pinned = Loop::of(policy(1, 0, 0), Mode::Replicated, 3, true).expect("a loop");
        assert_eq!((pinned.requests_per_min(), spent_after(&[pinned], 100)), (0.0, None));
        assert_eq!(spent_after(&[], 1), None);
    }

    #[test]
    fn a_loop_that_ends_costs_no_more_than_its_tries() {
        let looped = Loop::of(policy(5, 3, 0), Mode::Replicated, 2, false).expect("a loop");
        assert_eq!((looped.requests_per_min(), looped.pulls_per_min()), (32.0, 8.0));
        assert_eq!(spent_after(&[looped], 9), None);
        assert_eq!(spent_after(&[looped], 8), Some(Duration::from_millis(3 * 5020)));
        assert_eq!(spent_after(&[looped, looped], 9), Some(Duration::from_millis(2 * 5020)));
    }

    #[test]
    fn what_is_not_tried_again_is_no_loop() {
        let never = RestartPolicy { condition: Condition::Never, ..RestartPolicy::default() };
        assert_eq!(Loop::of(never, Mode::Replicated, 1, false), None);
        assert_eq!(Loop::of(RestartPolicy::default(), Mode::Replicated, 0, false), None);
        let at_once = RestartPolicy { delay: Duration::ZERO, ..RestartPolicy::default() };
        assert_eq!(period(at_once), PERIOD_SHORTEST);
    }
}
