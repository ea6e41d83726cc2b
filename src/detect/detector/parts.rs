//! The parts of a detector beside the things themselves.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::budget::Meter;
use crate::detect::account::Account;
use crate::detect::arena::{AttemptId, Handle, SubjectId};
use crate::detect::incident::Incidents;
use crate::detect::key::Due;
use crate::model::{
    AttemptCount, ClockStep, FindingKind, Notice, OnClock, Pace, Storm, Timestamp, on_clock, step_keys,
};

/// The time, and what falls due.
#[derive(Debug)]
pub(in crate::detect) struct Clock {
    pub(in crate::detect) now: Timestamp,
    pub(super) pace: Pace,
    pub(super) due: BinaryHeap<Reverse<Due>>,
    /// No storm subsides before this.
    pub(super) next_subside: Timestamp,
    pub(super) next_waiting: Timestamp,
    /// Nothing is known of the time up to this.
    pub(in crate::detect) blind_until: Timestamp,
}

/// The order in which attempts and subjects are forgotten.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    pub(super) settled: VecDeque<Handle<AttemptId>>,
    pub(super) open: VecDeque<Handle<AttemptId>>,
    /// Subjects whose last container was removed, and when; and of those the ones that are to be remembered longer.
    pub(super) left: [VecDeque<Left>; 2],
}

/// When the last container of a subject was removed.
pub(super) type Left = (Timestamp, Handle<SubjectId>);

/// The listings under way.
#[derive(Debug)]
pub(in crate::detect) struct Listing {
    /// When the one of services began.
    pub(super) services: Timestamp,
    /// The number of the full one of tasks.
    pub(super) tasks: u32,
    /// Tasks are listed: then a slot that an attempt's log line did not tell will be known.
    pub(in crate::detect) has_tasks: bool,
}

/// Counts of attempts, and of requests to registries.
#[derive(Debug)]
pub(in crate::detect) struct Books {
    /// Attempts and failures by minute and subject, if they are counted.
    pub(super) minutes: BTreeMap<(SubjectId, Timestamp), (u64, u64)>,
    /// Those of subjects that are gone.
    pub(super) minutes_of_gone: Vec<AttemptCount>,
    pub(super) account: Account,
    pub(super) meter: Meter,
    pub(super) incidents: Incidents,
    /// The first event or line of a log.
    pub(in crate::detect) began: Option<Timestamp>,
    /// Attempts and requests before this are neither counted by minute nor metered.
    pub(super) counted_from: Timestamp,
}

/// Notices that wait, and a record of those that were said.
#[derive(Debug, Default)]
pub(in crate::detect) struct Said {
    pub(super) notices: VecDeque<Notice>,
    /// Storms that are to be said again, before the notices: each takes room only as it is drained.
    pub(super) restated: VecDeque<SubjectId>,
    /// The findings that hold, by their subjects' ids.
    pub(in crate::detect) found: BTreeSet<(FindingKind, String)>,
    pub(in crate::detect) ended: VecDeque<Storm>,
}

// Everything that was due has been judged, and the next end of a storm is calculated anew.
on_clock!(Clock { now, pace, next_waiting, blind_until } rest { due, next_subside });
on_clock!(Listing { services } rest { tasks, has_tasks });
on_clock!(Oldest { left } rest { settled, open });
on_clock!(Said { ended, notices } rest { restated, found });

impl OnClock for Books {
    fn step(&mut self, step: ClockStep) {
        let Self { minutes, minutes_of_gone, account, meter, incidents, began, counted_from } = self;
        let carry_minute = |(_, minute): &mut (SubjectId, Timestamp)| *minute = step.carry_minute(*minute);
        step_keys(minutes, carry_minute, |known, more| *known = (known.0 + more.0, known.1 + more.1));
        minutes_of_gone.step(step);
        account.step(step);
        meter.step(step);
        incidents.step(step);
        began.step(step);
        counted_from.step(step);
    }
}
