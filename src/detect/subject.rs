//! What is kept of one subject, and its way from calm through suspect to storm and back.

use std::collections::VecDeque;
use std::time::Duration;

use super::account::{ImageKey, Unpriced};
use super::arena::{AttemptId, Keyed};
use super::failing::Failing;
use super::key::{Key, Slot};
use super::quota::Quotas;
use super::run::{Change, Episode, Failure, Run};
use super::settings::Settings;
use super::spec::Specs;
use super::spent::Spent;
use crate::model::{Cause, Condition, ImageRef, RestartPolicy, Subject, SubjectKind, Timestamp, on_clock};

/// The longest pause between two starts by an engine's restart policy (moby's `restartmanager.go`).
pub(super) const ENGINE_BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How many attempts wait for an image to be priced by; what is more has no registry.
pub(super) const UNPRICED_MAX: usize = 64;
/// How many orders are remembered.
const ORDERS_MAX: usize = 4;
/// How long an error text is kept, in bytes.
pub(super) const DETAIL_LIMIT_BYTES: usize = 512;
/// `MaxAttempts` up to which a service is waited for to give up. Beyond it, it storms before it does.
const GIVES_UP_MAX: u64 = 20;
/// Failures in a row of one slot from which history alone tells a loop: Swarm keeps 5 tasks a slot, one of them
/// mostly the attempt under way.
const HISTORY_FAILURES: usize = 4;
/// The slowest loop that history alone tells: five of them are what the slow quota trips at.
const HISTORY_PERIOD_MAX: Duration = Duration::from_secs(12 * 60);

/// What is kept of one subject.
#[derive(Debug, Default)]
pub(super) struct SubjectState {
    pub(super) subject: Subject,
    pub(super) key: Key,
    pub(super) image: Box<str>,
    /// The key of `image`, once it is among those that are wanted.
    pub(super) image_key: ImageKey,
    /// The key of the image in the specification: a task may have another, before or after it.
    pub(super) spec_image: ImageKey,
    /// It was deployed by tag, and nothing has pulled for it since.
    pub(super) is_new: bool,
    /// `image` has changed since.
    pub(super) is_image_new: bool,
    /// When its specification was deployed; the epoch while no listing has told.
    pub(super) deployed: Timestamp,
    /// When it was last changed, as listings tell.
    pub(super) updated: Option<Timestamp>,
    /// How many replicas it wants, if it is replicated and a listing told.
    pub(super) replicas: Option<u32>,
    /// A listing told that it is global: each of its slots is a node.
    pub(super) is_global: bool,
    /// The specification that its newest attempt was made from, and the one that its listing tells.
    pub(super) specs: Specs,
    /// When it was removed; a service that comes under its name within the hold-down continues it.
    pub(super) removed: Option<Timestamp>,
    /// Ids that it had before: the last ones.
    pub(super) former: Vec<Key>,
    pub(super) spent: Spent,
    /// What its attempts asked before any observation told its image; at most [`UNPRICED_MAX`].
    pub(super) unpriced: Vec<Unpriced>,
    /// How many more attempts it has had than pulls were told of.
    pub(super) pulls_lacking: i64,
    pub(super) policy: Option<Policy>,
    pub(super) last_seen: Timestamp,
    /// When the listing of services that last had it began.
    pub(super) listed: Timestamp,
    /// Attempts that have not been judged.
    pub(super) open: Vec<AttemptId>,
    /// Attempts that have been, oldest first.
    pub(super) settled: VecDeque<AttemptId>,
    /// The highest `Version.Index` of attempts forgotten: an unknown task below it is one of them, listed again.
    pub(super) forgotten_version: u64,
    pub(super) ran_out_of_memory: bool,
    /// The service has a quarantine's label.
    pub(super) is_held: bool,
    /// When the last changes were ordered.
    orders: Vec<Timestamp>,
    pub(super) episodes: u32,
    /// How many containers are known that an engine restarts and that are its.
    pub(super) containers: u32,
    /// There once it has failed.
    pub(super) failing: Option<Box<Failing>>,
}

on_clock!(SubjectState {
    deployed, spent, unpriced, last_seen, listed, orders, failing, specs, updated, removed,
} rest {
    subject, key, image, image_key, spec_image, is_new, is_image_new, pulls_lacking, policy, open, settled,
    forgotten_version, ran_out_of_memory, is_held, episodes, containers, replicas, is_global, former,
});

impl Keyed for SubjectState {
    type Key = (SubjectKind, Key);

    fn keys(&self) -> impl Iterator<Item = Self::Key> {
        self.former.iter().chain([&self.key]).map(|key| (self.subject.kind, *key))
    }
}

/// What the specification says about retrying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) restart: RestartPolicy,
    pub(super) is_job: bool,
    pub(super) force_update: u64,
    pub(super) has_memory_limit: bool,
}

impl SubjectState {
    pub(super) fn new(subject: Subject, key: Key, at: Timestamp) -> Self {
        let listed = Timestamp::from_nanos(i64::MIN);
        Self { subject, key, last_seen: at, listed, ..Self::default() }
    }

    /// A service of its name has come after it: it goes on under that one's id. Returns an id of which there were more
    /// than are remembered.
    pub(super) fn succeeded_by(&mut self, later: &Self, former_max: usize) -> Option<Key> {
        let former = std::mem::replace(&mut self.key, later.key);
        self.subject.id.clone_from(&later.subject.id);
        self.removed = None;
        // Listings tell of it anew, and its specification is no update of the one before.
        (self.deployed, self.spec_image) = (Timestamp::default(), ImageKey::default());
        self.specs = later.specs;
        self.take_in(former, later, former_max)
    }

    /// The listing has it under this id: whatever was heard of it, it is there. Returns the id before, if it had another.
    pub(super) fn is_listed_as(&mut self, id: &str, former_max: usize) -> Option<String> {
        self.removed = None;
        let key = Key::new(id);
        if self.key == key {
            return None;
        }
        self.former.push(std::mem::replace(&mut self.key, key));
        self.former.retain(|former| *former != key);
        if self.former.len() > former_max {
            self.former.remove(0);
        }
        Some(std::mem::replace(&mut self.subject.id, id.to_owned()))
    }

    /// Another service of its name is the same, and had an id before. Returns an id of which there were more than are
    /// remembered.
    pub(super) fn take_in(&mut self, former: Key, other: &Self, former_max: usize) -> Option<Key> {
        self.former.push(former);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.open.extend(&other.open);
        self.settled.extend(&other.settled);
        self.unpriced.extend(&other.unpriced);
        self.pulls_lacking += other.pulls_lacking;
        self.spent.total.add(&other.spent.total.since(Default::default()));
        (self.former.len() > former_max).then(|| self.former.remove(0))
    }

    /// The registry of its image; empty where that cannot be read.
    pub(super) fn registry(&self) -> &str {
        ImageRef::parse(&self.image).map_or("", |image| image.registry)
    }

    /// A container, or more of that name, that is gone and has never stormed.
    pub(super) fn has_left(&self) -> bool {
        self.subject.kind == SubjectKind::Container && self.containers == 0 && self.episodes == 0
    }

    /// It has nothing to its account: it never failed, and no registry was asked for its image.
    pub(super) fn is_blank(&self) -> bool {
        self.failing.is_none() && self.spent.is_nothing()
    }

    pub(super) fn storm(&self) -> Option<&Episode> {
        self.failing.as_ref()?.storm.as_ref()
    }

    pub(super) fn storm_mut(&mut self) -> Option<&mut Episode> {
        self.failing.as_mut()?.storm.as_mut()
    }

    /// Takes over what a listing says about retrying; a changed specification starts the count afresh.
    pub(super) fn set_policy(&mut self, policy: Policy, image: &str) {
        if self.policy.is_some_and(|known| known != policy) || (!self.image.is_empty() && *self.image != *image) {
            self.spec_changed();
        }
        self.policy = Some(policy);
        if *self.image != *image && !image.is_empty() {
            self.image = image.into();
            self.is_image_new = true;
        }
    }

    /// Swarm counts attempts by specification.
    pub(super) fn spec_changed(&mut self) {
        if let Some(failing) = &mut self.failing {
            for slot in &mut failing.slots {
                slot.failures = 0;
            }
        }
    }

    /// A listing shows an attempt that was not listed before, made at `created` from a specification.
    pub(super) fn see_spec(&mut self, spec: u64, created: Timestamp, quotas: &Quotas) {
        if let Some(account) = self.specs.see_attempt(spec, created) {
            self.begin_account(account, quotas);
        }
    }

    /// A listing of the service tells its specification, as it was changed last at `updated`.
    pub(super) fn see_listed_spec(&mut self, spec: u64, updated: Timestamp, now: Timestamp, quotas: &Quotas) {
        if let Some(account) = self.specs.see_listing(spec, updated, now) {
            self.begin_account(account, quotas);
        }
    }

    pub(super) fn begin_account(&mut self, account: Timestamp, quotas: &Quotas) {
        let failing = self.failing.get_or_insert_with(|| Box::new(Failing::new(quotas, account)));
        if account > failing.account {
            failing.begin_account(account, quotas);
        }
    }

    fn failing_or_new(&mut self, quotas: &Quotas) -> &mut Failing {
        self.failing.get_or_insert_with(|| Box::new(Failing::new(quotas, Timestamp::from_nanos(i64::MIN))))
    }

    /// Keeps the engine's words for a cause.
    pub(super) fn say(&mut self, quotas: &Quotas, cause: Cause, text: &str) {
        let text = cut(text);
        let failing = self.failing_or_new(quotas);
        match failing.details.iter_mut().find(|entry| entry.0 == cause) {
            Some(entry) if *entry.1 == *text => {}
            Some(entry) => entry.1 = text.into(),
            None => {
                failing.details.reserve_exact(1);
                failing.details.push((cause, text.into()));
            }
        }
    }

    /// The cause of words that were heard before.
    pub(super) fn heard(&self, text: &str) -> Option<Cause> {
        let text = cut(text);
        self.failing.as_ref()?.details.iter().find(|entry| *entry.1 == *text).map(|entry| entry.0)
    }

    /// An attempt that did not fail was judged.
    pub(super) fn went_otherwise(&mut self, created: Timestamp) {
        let Some(failing) = &mut self.failing else { return };
        if failing.storm.is_none() {
            for run in [&mut failing.fast, &mut failing.slow] {
                run.others += u64::from(run.failed > 0 && created >= run.first_created);
            }
        }
    }

    /// Counts a failed attempt. `open_since` says how many attempts made at or after a moment are open; `tells_slots`,
    /// whether a slot that is not known will be.
    pub(super) fn fail(
        &mut self,
        failure: Failure,
        settings: &Settings,
        quotas: &Quotas,
        tells_slots: bool,
        open_since: impl Fn(&Self, Timestamp) -> u64,
    ) -> Change {
        let gives_up_after = self.gives_up_after();
        let (asked_before, is_held, replicas) = (self.spent.mark, self.is_held, self.settled_replicas());
        let failing = self.failing_or_new(quotas);
        if failure.created <= failing.account {
            // It counts, and proves nothing: its specification is in force no more.
            failing.storm.iter_mut().for_each(|storm| storm.add(&failure, settings));
            return Change::None;
        }
        let is_late = failure.at < failing.last;
        let period = failing.period();
        let slot = failing.slot(failure.slot, quotas);
        let is_late_in_slot = failure.at < slot.last;
        let in_slot = slot.count(&failure, settings.hold_down_min, quotas);
        let slot_keeps_failing = slot.keeps_failing();
        // What is held is tried by squall itself, at growing distances: that is no slow loop.
        let is_of_loop = !is_held && !is_late_in_slot && !failure.exit_zero;
        let slow_trips = is_of_loop && quotas.trips(&slot.limiter, failure.at);
        // A failure whose slot will be told is judged then, unless there are too many to be start-up failures anyhow.
        let (is_placed, keeps_failing) = match replicas {
            _ if failure.slot != Slot::default() => (true, slot_keeps_failing),
            Some(replicas) => {
                let keeps_failing = failing.one_keeps_failing(replicas, failure.at, settings.hold_down_min);
                (keeps_failing || !tells_slots, keeps_failing)
            }
            None => (!tells_slots, slot_keeps_failing),
        };
        failing.remember(failure);
        let fast_trips = if is_late {
            failing.judge_again(quotas)
        } else {
            failure.is_short_lived() && quotas.trips(&failing.limiter, failure.at)
        };
        failing.fast.add(&failure, failing.last, settings.per.saturating_mul(settings.failures.get()), asked_before);
        let gap = if period.is_zero() { settings.slow_per } else { settings.hold_down_min.max(period * 3) };
        failing.slow.add(&failure, failing.last, gap, asked_before);
        failing.last = failing.last.max(failure.at);
        if let Some(storm) = &mut failing.storm {
            storm.add(&failure, settings);
            return failing.cause_change();
        }
        let may_give_up = gives_up_after.is_some_and(|limit| failure.slot == Slot::default() || in_slot <= limit);
        let fast_trips = fast_trips && keeps_failing;
        if may_give_up || !is_placed || !(fast_trips || slow_trips) {
            return Change::None;
        }
        let run = if fast_trips { failing.fast.clone() } else { failing.slow.clone() };
        self.begin(run, failure.at, open_since);
        Change::Onset
    }

    /// The slot of a failure that was counted without one: its log line, which does not tell it, came before its task.
    pub(super) fn learn_slot(
        &mut self,
        at: Timestamp,
        slot: Slot,
        settings: &Settings,
        quotas: &Quotas,
        open_since: impl Fn(&Self, Timestamp) -> u64,
    ) -> Change {
        let (gives_up_after, is_held) = (self.gives_up_after(), self.is_held);
        let Some(failing) = &mut self.failing else { return Change::None };
        let is_it = |failure: &&mut Failure| failure.at == at && failure.slot == Slot::default();
        let Some(failure) = failing.recent.iter_mut().find(is_it) else { return Change::None };
        failure.slot = slot;
        let failure = *failure;
        failing.uncount_slotless(quotas);
        if failure.created <= failing.account {
            return Change::None;
        }
        let known = failing.slot(slot, quotas);
        let in_slot = known.count(&failure, settings.hold_down_min, quotas);
        let is_of_loop = !is_held && !failure.exit_zero;
        let slow_trips = is_of_loop && quotas.trips(&known.limiter, at);
        let fast_trips = known.keeps_failing() && failing.judge_again(quotas);
        let may_give_up = gives_up_after.is_some_and(|limit| in_slot <= limit);
        if failing.storm.is_some() || may_give_up || !(fast_trips || slow_trips) {
            return Change::None;
        }
        let run = if fast_trips { failing.fast.clone() } else { failing.slow.clone() };
        let detected = failing.last;
        self.begin(run, detected, open_since);
        Change::Onset
    }

    /// One failure turned out to have another cause.
    pub(super) fn correct(&mut self, at: Timestamp, slot: Slot, from: Cause, to: Cause) -> Change {
        let Some(failing) = &mut self.failing else { return Change::None };
        if let Some(failure) = failing.recent.iter_mut().find(|f| f.at == at && f.slot == slot && f.cause == from) {
            failure.cause = to;
        }
        let runs =
            [Some(&mut failing.fast), Some(&mut failing.slow), failing.storm.as_mut().map(|storm| &mut storm.run)];
        for run in runs.into_iter().flatten().filter(|run| at >= run.since) {
            run.causes.remove(from);
            run.causes.add(to);
        }
        failing.cause_change()
    }

    /// Whether the history of its slots alone tells that it loops; if so a storm has begun.
    pub(super) fn judge_history(
        &mut self,
        now: Timestamp,
        settings: &Settings,
        history: impl Fn(&Self, Slot) -> SlotHistory,
        open_since: impl Fn(&Self, Timestamp) -> u64,
    ) -> bool {
        let gives_up_after = self.gives_up_after();
        let Some(failing) = self.failing.as_ref().filter(|failing| failing.storm.is_none()) else { return false };
        if self.removed.is_some() || self.replicas == Some(0) {
            // Nothing of it is wanted.
            return false;
        }
        let loops = failing.slots.iter().any(|slot| {
            let found = history(self, slot.slot);
            let Some(period) = found.period() else { return false };
            let stable = settings.hold_down_min.max(period * 3);
            let is_recent = found.failures.last().is_some_and(|last| now.since(*last) <= stable);
            let is_stable = found.running_since.is_some_and(|since| now.since(since) >= stable);
            let gives_up = gives_up_after.is_some_and(|limit| u64::from(slot.failures) <= limit);
            let is_slow = period > if found.has_exit_zero { settings.per } else { HISTORY_PERIOD_MAX };
            // Where nothing is cut off, the quotas have counted all that there is.
            let is_enough = found.failures.len() >= HISTORY_FAILURES && !found.is_whole;
            is_enough && is_recent && !is_stable && !gives_up && !is_slow
        });
        if loops {
            let run = failing.slow.clone();
            let at = failing.last;
            self.begin(run, at, open_since);
        }
        loops
    }

    /// When its storm subsides if nothing fails till then.
    pub(super) fn hold_down_ends(&self, settings: &Settings, blind_until: Timestamp) -> Option<Timestamp> {
        let failing = self.failing.as_ref()?;
        failing.storm.as_ref()?;
        // An engine backs off: the loop period that is to come is a minute.
        let engine_restarts = matches!(self.subject.kind, SubjectKind::Container | SubjectKind::ComposeService);
        let period = failing.period().max(if engine_restarts { ENGINE_BACKOFF_MAX } else { Duration::ZERO });
        let ends = failing.last.max(blind_until).plus(settings.hold_down_min.max(period * 3));
        Some(self.removed.map_or(ends, |removed| ends.min(removed.plus(settings.hold_down_min))))
    }

    /// Its storm is over: it is judged as if it had never failed.
    pub(super) fn subside(&mut self, quotas: &Quotas) {
        if let Some(failing) = &mut self.failing {
            let details = std::mem::take(&mut failing.details);
            let (last, account) = (failing.last, failing.account);
            **failing = Failing { details, last, over: last, ..Failing::new(quotas, account) };
        }
    }

    /// Somebody ordered a change.
    pub(super) fn order(&mut self, at: Timestamp) {
        if self.orders.contains(&at) {
            return;
        }
        if self.orders.len() == ORDERS_MAX {
            self.orders.remove(0);
        }
        self.orders.push(at);
    }

    /// How many replicas it wants, unless a change was ordered that its last listing may not show.
    fn settled_replicas(&self) -> Option<u32> {
        self.replicas.filter(|_| self.orders.iter().all(|order| *order < self.listed))
    }

    /// Whether a change was ordered within a span.
    pub(super) fn was_ordered(&self, from: Timestamp, to: Timestamp) -> bool {
        self.orders.iter().any(|order| from <= *order && *order <= to)
    }

    /// A storm that a listing tells of: the engine counted `restarts`.
    pub(super) fn begin_by_count(&mut self, restarts: u64, failure: Failure, quotas: &Quotas) -> bool {
        let failing = self.failing_or_new(quotas);
        if failing.storm.is_some() {
            return false;
        }
        failing.remember(failure);
        failing.last = failing.last.max(failure.at);
        let mut run = Run::default();
        run.add(&failure, failure.at, Duration::ZERO, self.spent.mark);
        run.failed = restarts;
        self.begin(run, failure.at, |_, _| 1);
        if let Some(episode) = self.storm_mut() {
            episode.counted_until = failure.at;
        }
        true
    }

    /// How many of the last failures were at `since` or later.
    pub(super) fn failures_since(&self, since: Timestamp) -> u64 {
        let recent = self.failing.iter().flat_map(|failing| &failing.recent);
        recent.filter(|failure| failure.at >= since).count() as u64
    }

    /// Failures in its last moments, by which it is suspected; zero when it is calm.
    pub(super) fn suspicion(&self) -> Option<(Timestamp, Duration)> {
        let failing = self.failing.as_ref()?;
        (!failing.recent.is_empty()).then(|| (failing.last, failing.period()))
    }

    fn begin(&mut self, run: Run, detected: Timestamp, open_since: impl Fn(&Self, Timestamp) -> u64) {
        let attempts = run.failed + run.others + open_since(self, run.first_created);
        self.episodes += 1;
        let said = run.causes.top().unwrap_or(Cause::Unknown);
        let detected_after = run.failed;
        if let Some(failing) = &mut self.failing {
            let counted_until = Timestamp::from_nanos(i64::MIN);
            failing.storm = Some(Episode {
                run,
                attempts,
                detected,
                detected_after,
                said,
                counted_until,
                // Both are set when it is announced, as its first attempt is looked up then.
                id: 0,
                is_whole: false,
            });
        }
    }

    /// How many failures of a slot it takes at least to prove that it does not give up; `None` when it is not meant to.
    fn gives_up_after(&self) -> Option<u64> {
        let restart = self.policy?.restart;
        if restart.condition == Condition::Never {
            return Some(1);
        }
        (1..=GIVES_UP_MAX).contains(&restart.max_attempts).then_some(restart.max_attempts + 1)
    }
}

/// What the kept attempts of one slot tell.
#[derive(Debug, Default)]
pub(super) struct SlotHistory {
    /// When its last attempts failed, one after another, oldest first; none between them ended well.
    pub(super) failures: Vec<Timestamp>,
    /// One of them is an exit 0.
    pub(super) has_exit_zero: bool,
    /// Since when the attempt after them runs.
    pub(super) running_since: Option<Timestamp>,
    /// The first of them is known to be the first: before it the slot ran well, or had no attempt.
    pub(super) is_whole: bool,
}

impl SlotHistory {
    /// Leaves out what was before the last long time without a failure: `hold_down_min`, or three times the usual spacing
    /// where that is more.
    pub(super) fn cut(&mut self, hold_down_min: Duration) {
        let spaces = || self.failures.windows(2).map(|pair| pair[1].since(pair[0]));
        let mut sorted: Vec<Duration> = spaces().collect();
        sorted.sort_unstable();
        let Some(usual) = sorted.get(sorted.len().saturating_sub(1) / 2) else { return };
        let long = hold_down_min.max(*usual * 3);
        if let Some(place) = spaces().collect::<Vec<_>>().iter().rposition(|space| *space >= long) {
            self.failures.drain(..=place);
            self.is_whole = true;
        }
    }

    pub(super) fn period(&self) -> Option<Duration> {
        let (first, last) = (self.failures.first()?, self.failures.last()?);
        let spaces = u32::try_from(self.failures.len() - 1).ok().filter(|spaces| *spaces > 0)?;
        Some(last.since(*first) / spaces)
    }
}

/// A text cut to the length that is kept.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(DETAIL_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
