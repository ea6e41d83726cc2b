//! When to ask what. Each task has a lane of its own: it is done beside the others, and never twice at once. Pure: it is
//! told the time.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::detect::Suspect;

/// The shortest time between two listings of suspects' tasks: faster loops than 1 s a try do not exist in Swarm
/// unless the delay is 0.
const SUSPECTS_SHORTEST: Duration = Duration::from_millis(250);
/// The longest: a suspect whose period is not known loops at Swarm's default of 5 s, more often than not.
const SUSPECTS_LONGEST: Duration = Duration::from_secs(15);
/// The shortest time between two listings of images: a pull that follows a removal takes longer than that.
const IMAGES_SHORTEST: Duration = Duration::from_millis(100);
/// Where the period is not known yet.
const SUSPECTS_UNKNOWN: Duration = Duration::from_millis(500);
/// How often it is found out who is suspect.
const REVIEW_EVERY: Duration = Duration::from_millis(100);
/// The longest pause after a sweep that failed; each is twice the one before.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Asking takes at most one part in so many of the time...
const SHARE: u32 = 50;
/// ...but no pause is longer than this for it, as a daemon is slowest in the storms that are to be found,
const REST_LONGEST: Duration = SUSPECTS_LONGEST;
/// as long as asking takes no more than one part in so many.
const SHARE_WORST: u32 = 10;
/// After a failed listing, the next one waits at least so long.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// All services with their status.
    Services,
    /// The tasks of suspects.
    Suspects,
    /// All tasks, and the nodes.
    Sweep,
    /// The images of this node, of which some have gone.
    Images,
    /// What is done about storms.
    Respond,
}

/// When each is due next.
#[derive(Debug)]
pub(super) struct Plan {
    services_every: Duration,
    sweep_every: Duration,
    services_at: Instant,
    suspects_at: Option<Instant>,
    /// Not before: the last listing of suspects took so long.
    suspects_rest: Instant,
    sweep_at: Instant,
    images_at: Option<Instant>,
    /// Not before: the last listing of images took so long.
    images_rest: Instant,
    respond_at: Option<Instant>,
    /// Not before: the last time it failed.
    respond_rest: Instant,
    /// The last pause after a sweep that failed.
    sweep_pause: Duration,
    /// When it is worth finding out again who is suspect.
    review_at: Instant,
    /// What is being done.
    under_way: BTreeSet<Task>,
    /// What of it began before it was asked for, and is to be done once more.
    again: BTreeSet<Task>,
}

impl Plan {
    pub(super) fn new(services_every: Duration, sweep_every: Duration, now: Instant) -> Self {
        Self {
            services_every,
            sweep_every,
            services_at: now,
            suspects_at: None,
            suspects_rest: now,
            sweep_at: now,
            images_at: None,
            images_rest: now,
            respond_at: None,
            respond_rest: now,
            sweep_pause: Duration::ZERO,
            review_at: now,
            under_way: BTreeSet::new(),
            again: BTreeSet::new(),
        }
    }

    /// What to begin next, and when; nothing where everything is being done.
    pub(super) fn next(&self) -> Option<(Instant, Task)> {
        let respond = self.respond_at.map(|at| (at.max(self.respond_rest), Task::Respond));
        let suspects = self.suspects_at.map(|at| (at, Task::Suspects));
        let images = self.images_at.map(|at| (at.max(self.images_rest), Task::Images));
        let rest = [(self.services_at, Task::Services), (self.sweep_at, Task::Sweep)];
        let first = |a: (Instant, Task), b: (Instant, Task)| if b.0 < a.0 { b } else { a };
        let all = rest.into_iter().chain(images).chain(suspects).chain(respond);
        all.filter(|(_, task)| !self.under_way.contains(task)).reduce(first)
    }

    /// A task begins.
    pub(super) fn begin(&mut self, task: Task) {
        self.under_way.insert(task);
    }

    /// A task is wanted: once more where it has begun already.
    fn want(&mut self, task: Task) {
        if self.under_way.contains(&task) {
            self.again.insert(task);
        }
    }

    /// A task has ended. Returns whether it is wanted once more.
    fn end(&mut self, task: Task) -> bool {
        self.under_way.remove(&task);
        self.again.remove(&task)
    }

    /// A task was done at `now`, in `took`.
    pub(super) fn done(&mut self, task: Task, now: Instant, took: Duration) {
        let is_wanted = self.end(task);
        // Once more: after as long as it took.
        let at = |every: Duration| now + if is_wanted { took.min(SWEEP_PAUSE_MAX) } else { every.max(rest(took)) };
        self.review_at = now;
        match task {
            Task::Services => self.services_at = at(self.services_every),
            Task::Sweep => {
                self.sweep_pause = Duration::ZERO;
                self.sweep_at = at(self.sweep_every);
            }
            Task::Suspects => {
                // Its answer is what verdicts wait for, so it may take its share at once.
                self.suspects_rest = now + SUSPECTS_SHORTEST.max(took * SHARE_WORST);
                self.suspects_at = Some(self.suspects_rest);
            }
            Task::Images => {
                self.images_at = is_wanted.then_some(now);
                self.images_rest = now + IMAGES_SHORTEST.max(took * SHARE_WORST);
            }
            Task::Respond => self.respond_at = None,
        }
    }

    /// A task failed at `now`: it is tried again, not at once.
    pub(super) fn failed(&mut self, task: Task, now: Instant) {
        self.end(task);
        match task {
            Task::Services => self.services_at = now + self.services_every.max(AFTER_FAILURE),
            Task::Sweep => {
                self.sweep_pause =
                    (self.sweep_pause * 2).clamp(self.services_every.max(AFTER_FAILURE), SWEEP_PAUSE_MAX);
                self.sweep_at = now + self.sweep_pause;
            }
            Task::Suspects => {
                self.suspects_rest = now + AFTER_FAILURE;
                self.suspects_at = Some(self.suspects_rest);
            }
            Task::Images => self.images_rest = now + AFTER_FAILURE,
            Task::Respond => self.respond_rest = now + AFTER_FAILURE,
        }
    }

    /// Images have gone: which are left is to be seen, before one of them is pulled again.
    pub(super) fn see_images(&mut self, now: Instant) {
        self.want(Task::Images);
        self.images_at.get_or_insert(now);
    }

    /// The stream was interrupted: everything is to be seen again.
    pub(super) fn resync(&mut self, now: Instant) {
        self.services_at = now;
        self.sweep_at = now;
        self.want(Task::Services);
        self.want(Task::Sweep);
    }

    /// After the services were asked for: not again before `every` has passed.
    pub(super) fn rest_services(&mut self, every: Duration, now: Instant) {
        self.services_at = self.services_at.max(now + every);
    }

    /// Whether it is time to find out who is suspect: not at every event of a storm.
    pub(super) fn wants_review(&mut self, now: Instant) -> bool {
        let wants = now >= self.review_at;
        if wants {
            self.review_at = now + REVIEW_EVERY;
        }
        wants
    }

    /// After the first failure of a listing: everything is to be seen again once it works.
    pub(super) fn resync_sweep(&mut self, now: Instant) {
        self.sweep_at = self.sweep_at.min(now + AFTER_FAILURE);
        self.want(Task::Sweep);
    }

    /// Sets when suspects are looked at: none, or after `every`, not before what [`done`](Self::done) said.
    pub(super) fn suspect(&mut self, every: Option<Duration>, now: Instant) {
        self.suspects_at = every.map(|every| match self.suspects_at {
            Some(at) if at <= now => at,
            Some(at) => at.min(now + every).max(self.suspects_rest),
            None => (now + every.min(SUSPECTS_UNKNOWN)).max(self.suspects_rest),
        });
    }

    /// Sets when storms are to be answered.
    pub(super) fn respond(&mut self, at: Option<Instant>) {
        self.respond_at = at;
    }

    /// After the suspects were listed: not again before `every` has passed.
    pub(super) fn rest_suspects(&mut self, every: Duration, now: Instant) {
        self.suspects_at = self.suspects_at.map(|at| at.max(now + every));
    }
}

/// The pause after what took so long.
fn rest(took: Duration) -> Duration {
    (took * SHARE).min(REST_LONGEST.max(took * SHARE_WORST))
}

/// How often suspects' tasks are listed: a quarter of the shortest loop period among those that are not said to storm
/// yet; those that do are only counted, for which twice their period is enough, as Swarm keeps five tasks a slot.
pub(super) fn suspects_every<'a>(suspects: impl IntoIterator<Item = Suspect<'a>>, others: bool) -> Option<Duration> {
    let shortest = suspects
        .into_iter()
        .map(|suspect| match (suspect.period.is_zero(), suspect.storms) {
            (true, _) => SUSPECTS_UNKNOWN,
            (false, false) => suspect.period / 4,
            (false, true) => suspect.period * 2,
        })
        .chain(others.then_some(SUSPECTS_UNKNOWN))
        .min()?;
    Some(shortest.clamp(SUSPECTS_SHORTEST, SUSPECTS_LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn suspect(period_ms: u64, storms: bool) -> Suspect<'static> {
        Suspect {
            service_id: "s",
            last_failure: Timestamp::from_secs(0),
            period: Duration::from_millis(period_ms),
            storms,
        }
    }

    #[test]
    fn suspects_are_seen_at_a_quarter_of_their_period() {
        assert_eq!(suspects_every([suspect(5000, false)], false), Some(Duration::from_millis(1250)));
        assert_eq!(suspects_every([suspect(400, false)], false), Some(SUSPECTS_SHORTEST));
        assert_eq!(suspects_every([suspect(600_000, false)], false), Some(SUSPECTS_LONGEST));
        assert_eq!(suspects_every([suspect(1000, true)], false), Some(Duration::from_secs(2)));
        assert_eq!(suspects_every([suspect(1000, true), suspect(0, false)], false), Some(SUSPECTS_UNKNOWN));
        assert_eq!(suspects_every([], false), None);
    }

    #[test]
    fn a_slow_daemon_is_asked_less() {
        let now = Instant::now();
        let mut plan = Plan::new(Duration::from_secs(2), Duration::from_secs(300), now);
        plan.done(Task::Sweep, now, Duration::from_millis(10));
        plan.done(Task::Services, now, Duration::from_millis(10));
        assert_eq!(plan.next(), Some((now + Duration::from_secs(2), Task::Services)));
        for (took, every) in [(100, 5000), (1000, 15_000), (5000, 50_000)] {
            plan.done(Task::Services, now, Duration::from_millis(took));
            assert_eq!(plan.next(), Some((now + Duration::from_millis(every), Task::Services)), "{took} ms");
        }
    }

    #[test]
    fn a_slow_daemon_is_still_asked_for_the_tasks_of_suspects() {
        let now = Instant::now();
        let mut plan = Plan::new(Duration::from_secs(60), Duration::from_secs(300), now);
        plan.done(Task::Sweep, now, Duration::ZERO);
        plan.done(Task::Services, now, Duration::ZERO);
        for (took, every) in [(10, 250), (100, 1000), (600, 6000)] {
            plan.done(Task::Suspects, now, Duration::from_millis(took));
            assert_eq!(plan.next(), Some((now + Duration::from_millis(every), Task::Suspects)), "{took} ms");
        }
    }

    #[test]
    fn after_a_gap_everything_is_seen_again() {
        let now = Instant::now();
        let mut plan = Plan::new(Duration::from_secs(2), Duration::from_secs(300), now);
        plan.done(Task::Sweep, now, Duration::ZERO);
        plan.done(Task::Services, now, Duration::ZERO);
        plan.resync(now);
        assert_eq!(plan.next().map(|(at, _)| at), Some(now));
    }

    #[test]
    fn a_sweep_that_takes_long_keeps_nothing_else_waiting_and_is_not_begun_twice() {
        let now = Instant::now();
        let mut plan = Plan::new(Duration::from_secs(2), Duration::from_secs(300), now);
        plan.begin(Task::Sweep);
        plan.begin(Task::Services);
        assert_eq!(plan.next(), None);
        plan.done(Task::Services, now, Duration::ZERO);
        assert_eq!(plan.next(), Some((now + Duration::from_secs(2), Task::Services)));
        // It began before the daemon was back.
        plan.resync(now);
        let later = now + Duration::from_secs(60);
        plan.done(Task::Sweep, later, Duration::from_secs(60));
        plan.begin(Task::Services);
        assert_eq!(plan.next(), Some((later + SWEEP_PAUSE_MAX, Task::Sweep)));
    }
}
