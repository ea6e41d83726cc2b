//! The spans for which a session cannot vouch: events were missed, listings failed, or a clock was stepped. Nothing is
//! decided while such a span goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::plan::Task;
use crate::model::{Gap, Timestamp, on_clock};

/// A shorter span of which no event is missing is no gap. What the Swarm did in a longer one is not known: it keeps the
/// last five tasks of a slot. An election takes less than this.
const UNLISTED_MIN: Duration = Duration::from_secs(30);
/// How many gaps are kept for the report; the oldest go first.
const GAPS_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Why the daemon cannot be reached, if it cannot.
    pub(super) lost: Option<String>,
    /// Why its log cannot be read.
    pub(super) no_log: Option<String>,
    /// Why tasks of the plan failed.
    pub(super) trouble: BTreeMap<Task, String>,
    /// The time of the last event.
    pub(super) event_at: Option<Timestamp>,
    /// It is not known yet whether events were missed while the daemon was lost.
    pub(super) is_in_doubt: bool,
    /// Everything has been listed since the start, since the daemon was lost, and since a listing failed.
    pub(super) is_fresh: bool,
    /// The span that is not over.
    open: Option<OpenGap>,
    /// When sight was lost last.
    lost_at: Option<Timestamp>,
    /// Grows when sight is lost and when the daemon is back: a sweep that began before vouches for nothing after it.
    epoch: u64,
    gaps: Vec<Gap>,
    /// The end of the last gap, on the daemon's clock as it is now.
    pub(super) gap_end: Option<Timestamp>,
}

/// A span that cannot be vouched for, and that lasts until everything has been listed again.
#[derive(Debug)]
struct OpenGap {
    from: Timestamp,
    why: String,
    /// Events are known to be missing.
    has_missed: bool,
    /// Everything has been listed since.
    is_listed: bool,
}

impl Sight {
    /// Whether nothing may be decided now.
    pub(super) const fn is_blind(&self) -> bool {
        !self.is_fresh || self.open.is_some()
    }

    /// Whether a sweep is all that is lacking.
    pub(super) fn wants_sweep(&self) -> bool {
        self.lost.is_none() && self.open.as_ref().is_some_and(|open| !open.is_listed)
    }

    /// Whether all that happened since a moment was seen: what was decided then may still be done.
    pub(super) fn has_lasted_since(&self, at: Timestamp) -> bool {
        !self.is_blind() && self.lost_at.is_none_or(|lost| lost < at)
    }

    /// Events or listings are lost from now on. Returns whether they were not before.
    pub(super) fn lose(&mut self, now: Timestamp, why: &str) -> bool {
        self.epoch += 1;
        self.lost_at = Some(now);
        let is_new = self.open.is_none();
        let new = || OpenGap { from: now, why: why.to_owned(), has_missed: false, is_listed: false };
        self.open.get_or_insert_with(new).is_listed = false;
        is_new
    }

    /// The daemon cannot be reached. Returns whether that is news.
    pub(super) fn lose_daemon(&mut self, now: Timestamp, why: &str) -> bool {
        self.is_fresh = false;
        self.lose(now, "events-lost");
        let is_news = self.lost.is_none();
        if is_news {
            self.lost = Some(why.to_owned());
        }
        is_news
    }

    /// The daemon can be reached. Returns whether it could not before.
    pub(super) fn find_daemon(&mut self, is_in_doubt: bool) -> bool {
        self.epoch += 1;
        self.is_in_doubt = is_in_doubt;
        self.lost.take().is_some()
    }

    /// Events since `from` are missing.
    pub(super) fn miss(&mut self, now: Timestamp, from: Timestamp, why: &str) {
        if self.open.is_none() {
            self.lose(now, why);
        }
        if let Some(open) = &mut self.open {
            open.from = open.from.min(from);
            if !open.has_missed {
                (open.has_missed, open.why) = (true, why.to_owned());
            }
        }
    }

    /// A sweep begins: what [`Sight::swept`] wants to know of it.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything was listed by a sweep that began in this epoch.
    pub(super) fn swept(&mut self, epoch: u64) {
        self.is_fresh = true;
        if let Some(open) = &mut self.open {
            open.is_listed |= self.lost.is_none() && self.epoch == epoch;
        }
    }

    /// Ends the open span if everything has been listed since and it is known whether events are missing; it is a
    /// gap if they are, or if it was long.
    pub(super) fn close(&mut self, now: Timestamp) -> Option<Gap> {
        let is_over = |open: &mut OpenGap| open.is_listed && !self.is_in_doubt && self.lost.is_none();
        let open = self.open.take_if(is_over)?;
        let is_gap = open.has_missed || now.since(open.from) > UNLISTED_MIN;
        is_gap.then(|| Gap { from: open.from, to: now.max(open.from), why: open.why, open: false })
    }

    /// The gaps, newest first; one that is not over lasts until now.
    pub(super) fn gaps(&self, now: Timestamp) -> impl Iterator<Item = Gap> + '_ {
        let open = self.open.as_ref().map(|open| Gap {
            from: open.from,
            to: now.max(open.from),
            why: open.why.clone(),
            open: true,
        });
        open.into_iter().chain(self.gaps.iter().rev().cloned())
    }

    pub(super) fn keep(&mut self, gap: Gap) {
        if self.gaps.len() >= GAPS_MAX {
            self.gaps.remove(0);
        }
        self.gap_end = self.gap_end.max(Some(gap.to));
        self.gaps.push(gap);
    }
}

on_clock!(Sight { open, lost_at, gaps, gap_end, event_at } rest { lost, no_log, trouble, is_in_doubt, is_fresh, epoch });
on_clock!(OpenGap { from } rest { why, has_missed, is_listed });

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    /// One that has seen everything so far.
    fn seeing() -> Sight {
        let mut sight = Sight::default();
        sight.swept(sight.epoch());
        assert!(!sight.is_blind());
        sight
    }

    #[test]
    fn a_sweep_while_the_event_stream_is_lost_gives_no_sight_back() {
        let mut sight = seeing();
        assert!(sight.lose_daemon(at(10), "gone"));
        assert!(!sight.lose_daemon(at(11), "still gone"), "the loss is said once");
        sight.swept(sight.epoch());
        assert!(sight.is_blind() && sight.close(at(12)).is_none());
        // Nor does one that began before the stream was back.
        let epoch = sight.epoch();
        assert!(sight.find_daemon(true));
        sight.swept(epoch);
        sight.is_in_doubt = false;
        assert_eq!(sight.close(at(13)), None);
        assert!(sight.is_blind());
        sight.swept(sight.epoch());
        assert_eq!(sight.close(at(14)), None, "four seconds of which nothing is missing");
        assert!(!sight.is_blind());
    }

    #[test]
    fn a_loss_is_one_gap_from_its_first_moment_to_the_listing_after_it() {
        let mut sight = seeing();
        sight.lose_daemon(at(10), "gone");
        let open: Vec<Gap> = sight.gaps(at(15)).collect();
        assert_eq!(open, [Gap { from: at(10), to: at(15), why: "events-lost".to_owned(), open: true }]);
        sight.find_daemon(true);
        sight.swept(sight.epoch());
        assert_eq!(sight.close(at(16)), None, "events may be missing");
        sight.is_in_doubt = false;
        sight.miss(at(17), at(8), "daemon-restarted");
        let gap = Gap { from: at(8), to: at(18), why: "daemon-restarted".to_owned(), open: false };
        assert_eq!(sight.close(at(18)), Some(gap));
        assert_eq!(sight.close(at(19)), None);
    }

    #[test]
    fn a_listing_that_fails_once_is_no_gap_and_what_was_permitted_before_it_is_old() {
        let mut sight = seeing();
        let decided = at(9);
        assert!(sight.has_lasted_since(decided));
        assert!(sight.lose(at(10), "not-listed") && !sight.lose(at(11), "not-listed"));
        assert!(sight.is_blind() && !sight.has_lasted_since(decided));
        sight.swept(sight.epoch());
        assert_eq!(sight.close(at(12)), None);
        assert!(!sight.is_blind() && sight.gaps(at(12)).next().is_none());
        assert!(!sight.has_lasted_since(decided) && sight.has_lasted_since(at(12)));
        sight.lose(at(20), "not-listed");
        sight.swept(sight.epoch());
        assert_eq!(sight.close(at(51)).map(|gap| gap.why), Some("not-listed".to_owned()));
    }
}
