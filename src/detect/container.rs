//! A container that its engine restarts: plain Docker, compose, and ECS.
//!
//! Only what the engine itself does again is a failure: a container that died and is started again without anybody
//! having stopped it. A container that is removed when it ends (`--rm`) is started by somebody each time. ECS makes a
//! new container at every try and uses no restart policy, so there the end itself counts.

use std::time::Duration;

use super::arena::{SubjectId, keyed};
use super::key::Key;
use crate::model::{Cause, ContainerAction, Timestamp, on_clock};

/// How many events of one container wait to be put in order; more in two seconds are taken as they come.
const PENDING_MAX: usize = 64;
/// How long after its death an engine starts a container again: its back-off ends at a minute, and half a minute is for
/// networks and volumes. A later start was ordered by somebody, as cron does with `docker start`.
const ENGINE_STARTS_WITHIN: Duration = Duration::from_secs(90);

/// What is kept of one container.
#[derive(Debug, Default)]
pub(super) struct PlainContainer {
    pub(super) key: Key,
    pub(super) subject: SubjectId,
    pub(super) last_seen: Timestamp,
    is_ecs: bool,
    /// Events that are not judged yet, in order.
    pending: Vec<(Timestamp, Step)>,
    started: Option<Timestamp>,
    death: Option<Death>,
    killed: bool,
    out_of_memory: bool,
    unhealthy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Death {
    at: Timestamp,
    exit_code: i32,
    cause: Cause,
    was_ordered: bool,
}

keyed!(PlainContainer);

on_clock!(PlainContainer { last_seen, pending, started, death } rest {
    key, subject, is_ecs, killed, out_of_memory, unhealthy,
});
on_clock!(Death { at } rest { exit_code, cause, was_ordered });

/// The events that matter, without what names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Create,
    Oom,
    Unhealthy,
    Kill,
    Die(i32),
    Stop,
    Start,
    Destroy,
}

/// What judging a container came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was started: an attempt.
    Attempt { at: Timestamp },
    /// An attempt has failed.
    Failed { at: Timestamp, started: Timestamp, cause: Cause, exit_code: i32 },
    /// It is gone.
    Removed,
}

impl PlainContainer {
    pub(super) fn new(key: Key, subject: SubjectId, is_ecs: bool, at: Timestamp) -> Self {
        Self { key, subject, last_seen: at, is_ecs, ..Self::default() }
    }

    /// Whether it runs, as far as its events tell.
    pub(super) fn is_running(&self) -> bool {
        self.started.is_some() && self.death.is_none()
    }

    /// Takes an event; whether it was new. Docker may give one twice.
    pub(super) fn take(&mut self, at: Timestamp, action: ContainerAction) -> bool {
        let step = match action {
            ContainerAction::Create => Step::Create,
            ContainerAction::Start => Step::Start,
            // What ended without telling how has not ended well.
            ContainerAction::Die { exit_code } => Step::Die(exit_code.unwrap_or(-1)),
            ContainerAction::Kill => Step::Kill,
            ContainerAction::Stop => Step::Stop,
            ContainerAction::Oom => Step::Oom,
            ContainerAction::Unhealthy => Step::Unhealthy,
            ContainerAction::Destroy => Step::Destroy,
        };
        self.last_seen = self.last_seen.max(at);
        match self.pending.binary_search(&(at, step)) {
            Ok(_) => false,
            Err(place) => {
                self.pending.insert(place, (at, step));
                true
            }
        }
    }

    /// Whether more waits than is kept: the earliest is to be judged at once.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() > PENDING_MAX
    }

    /// Judges the events up to `until`, in order.
    pub(super) fn settle(&mut self, until: Timestamp, sink: &mut impl FnMut(Verdict)) {
        let forced = self.pending.len().saturating_sub(PENDING_MAX);
        let ripe = self.pending.iter().take_while(|entry| entry.0 <= until).count().max(forced);
        let later = self.pending.split_off(ripe);
        for (at, step) in std::mem::replace(&mut self.pending, later) {
            self.step(at, step, sink);
        }
    }

    fn step(&mut self, at: Timestamp, step: Step, sink: &mut impl FnMut(Verdict)) {
        match step {
            Step::Create => sink(Verdict::Attempt { at }),
            Step::Kill | Step::Stop => {
                self.killed = true;
                if let Some(death) = &mut self.death {
                    death.was_ordered |= step == Step::Stop;
                }
            }
            Step::Oom => self.out_of_memory = true,
            Step::Unhealthy => self.unhealthy = true,
            Step::Die(exit_code) => self.die(at, exit_code, sink),
            Step::Start => {
                if let Some(death) = self.death.take() {
                    // The attempt before its failure: whoever counts those that run finds this one.
                    sink(Verdict::Attempt { at });
                    if !death.was_ordered && at.since(death.at) <= ENGINE_STARTS_WITHIN {
                        self.fail(death, sink);
                    }
                }
                self.started = Some(at);
                self.killed = false;
                self.out_of_memory = false;
                self.unhealthy = false;
            }
            Step::Destroy => sink(Verdict::Removed),
        }
    }

    fn die(&mut self, at: Timestamp, exit_code: i32, sink: &mut impl FnMut(Verdict)) {
        let cause = if self.out_of_memory {
            Cause::Oom
        } else if self.unhealthy && self.killed {
            Cause::HealthCheck
        } else {
            Cause::AppExit
        };
        let was_ordered = self.killed && !self.out_of_memory;
        let death = Death { at, exit_code, cause, was_ordered };
        if self.is_ecs {
            if exit_code != 0 && !was_ordered {
                self.fail(death, sink);
            }
            self.started = None;
            return;
        }
        self.death = Some(death);
    }

    fn fail(&self, death: Death, sink: &mut impl FnMut(Verdict)) {
        let started = self.started.unwrap_or(death.at);
        sink(Verdict::Failed { at: death.at, started, cause: death.cause, exit_code: death.exit_code });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIE: ContainerAction = ContainerAction::Die { exit_code: Some(1) };
    const START: ContainerAction = ContainerAction::Start;

    fn failures(is_ecs: bool, events: &[(i64, ContainerAction)]) -> usize {
        let mut container = PlainContainer::new(Key::new("c"), SubjectId::default(), is_ecs, Timestamp::from_secs(0));
        for (at, action) in events {
            container.take(Timestamp::from_secs(*at), *action);
        }
        let mut failed = 0;
        container.settle(Timestamp::from_secs(10_000), &mut |verdict| {
            failed += usize::from(matches!(verdict, Verdict::Failed { .. }));
        });
        failed
    }

    #[test]
    fn only_what_the_engine_starts_again_has_failed() {
        assert_eq!(failures(false, &[(1, START), (2, DIE), (3, START), (4, DIE)]), 1);
        assert_eq!(failures(false, &[(1, START), (2, DIE), (2, ContainerAction::Destroy)]), 0, "--rm");
        let restart = [(1, START), (2, ContainerAction::Kill), (3, DIE), (3, ContainerAction::Stop), (4, START)];
        assert_eq!(failures(false, &restart), 0, "docker restart");
    }

    #[test]
    fn a_container_that_cron_starts_every_five_minutes_has_not_been_restarted() {
        let runs = (0..12).flat_map(|run| [(run * 300, START), (run * 300 + 20, DIE)]);
        assert_eq!(failures(false, &runs.collect::<Vec<_>>()), 0);
        let backed_off = (0..12).flat_map(|run| [(run * 61, START), (run * 61 + 1, DIE)]);
        assert_eq!(failures(false, &backed_off.collect::<Vec<_>>()), 11, "the engine waits for a minute at most");
    }

    #[test]
    fn order_and_doubles_do_not_matter() {
        let doubled = [(3, START), (2, DIE), (1, START), (2, DIE), (3, START)];
        assert_eq!(failures(false, &doubled), 1);
    }

    #[test]
    fn an_ecs_task_fails_when_it_ends() {
        assert_eq!(failures(true, &[(1, START), (2, DIE)]), 1);
        assert_eq!(failures(true, &[(1, START), (2, ContainerAction::Kill), (3, DIE)]), 0, "stopped by the agent");
    }
}
