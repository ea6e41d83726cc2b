//! How it stands with each registry: what is left, who spent it, and when it runs out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::forecast::{Outlook, exhaustion};
use super::registries::Registries;
use crate::model::{
    Budget, BudgetAnswer, BudgetReading, BudgetStanding, ClockStep, Exhaustion, OnClock, Timestamp, on_clock,
};

/// How far back is remembered what was asked: the longest window that may be configured would take a week, and all
/// that are known take 6 hours. Of a longer one the older part counts as spent by others.
const MINUTES_MAX: usize = 24 * 60;
/// How many registries are told apart; more are not metered.
const REGISTRIES_MAX: usize = 1000;
/// Over how long a pace is taken: Swarm's default delay makes 120 attempts of it.
const PACE_OVER: Duration = Duration::from_secs(600);
/// The shortest span whose pace is believed: counts come by the minute.
const PACE_MIN: Duration = Duration::from_secs(120);

/// See the module. Pure: time comes with what it is asked.
#[derive(Debug, Default)]
pub struct Meter {
    registries: Registries,
    /// Since when it was counted; `None`: it is not known.
    watched_since: Option<Timestamp>,
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    reading: Option<Read>,
    /// Of each minute, oldest first, the pulls and the requests.
    minutes: VecDeque<(Timestamp, u64, u64)>,
    /// Pulls and requests, all of them.
    total: u64,
    requests: u64,
    /// The requests of the minute in which there were most, and that minute.
    peak: (u64, Timestamp),
    /// The last answer, where that was no budget.
    answer: Option<BudgetReading>,
}

/// What a registry said, and what was known then: counts come by the minute, and what comes later was made later.
#[derive(Debug)]
struct Read {
    reading: BudgetReading,
    budget: Budget,
    /// Pulls of its window that were known.
    own: u64,
    /// [`Known::total`].
    total: u64,
    /// Pulls a minute that others made since the answer before it; 0 where there is none to compare it with.
    others_per_min: f64,
}

impl Read {
    /// What is gone since `last` and is not squall's, for each minute between the two. What comes back to a rolling
    /// window meanwhile hides some of it.
    fn others_since(&self, last: &Self) -> f64 {
        let (new, old) = (&self.reading, &last.reading);
        if (&new.account, &new.source, self.budget.limit) != (&old.account, &old.source, last.budget.limit) {
            return 0.0;
        }
        let gone = last.budget.remaining.saturating_sub(self.budget.remaining);
        let others = gone.saturating_sub_unsigned(self.total.saturating_sub(last.total)).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
        let others = others as f64;
        others * 60.0 / new.at.since(old.at).max(MINUTE).as_secs_f64()
    }
}

impl Meter {
    /// A meter that has counted nothing.
    pub fn new(registries: Registries) -> Self {
        Self { registries, watched_since: None, known: BTreeMap::new() }
    }

    /// Goes by other terms from now on; what was counted and answered stays.
    pub fn set_registries(&mut self, registries: Registries) {
        self.registries = registries;
    }

    /// It is counted since then: what was pulled before may be squall's own Swarm's, and counts as others'.
    pub fn watch_since(&mut self, since: Timestamp) {
        self.watched_since = Some(since);
    }

    /// Counts what a minute asked of a registry: what attempts ask, and what a journal remembers.
    pub fn add(&mut self, minute: Timestamp, registry: &str, pulls: u64, requests: u64) {
        let Some(known) = self.known(registry) else { return };
        known.total = known.total.saturating_add(pulls);
        known.requests = known.requests.saturating_add(requests);
        let place = known.minutes.partition_point(|(at, ..)| *at < minute);
        match known.minutes.get_mut(place) {
            Some(entry) if entry.0 == minute => (entry.1, entry.2) = (entry.1 + pulls, entry.2 + requests),
            _ => known.minutes.insert(place, (minute, pulls, requests)),
        }
        if let Some(entry) = known.minutes.get(place).filter(|entry| entry.2 > known.peak.0) {
            known.peak = (entry.2, entry.0);
        }
        if known.minutes.len() > MINUTES_MAX {
            known.minutes.pop_front();
        }
    }

    /// A registry said what is left. What was pulled before is to be counted first; an older answer than the last is
    /// no news.
    pub fn read(&mut self, reading: BudgetReading) {
        let terms = self.registries.terms(&reading.registry);
        let Some(known) = self.known(&reading.registry) else { return };
        let BudgetAnswer::Limited(budget) = reading.answer else {
            // A registry that was not reached keeps what it said before; one that states no limit does not.
            known.reading = known.reading.take().filter(|_| reading.answer != BudgetAnswer::Unlimited);
            known.answer = Some(reading);
            return;
        };
        if known.reading.as_ref().is_some_and(|last| last.reading.at > reading.at) {
            return;
        }
        let window = terms.window_of(Some(budget));
        let by_the_minute = known.pulls(window, reading.at);
        // An answer of before this process comes with all that is remembered, its own minute to its end.
        let own = reading.own.unwrap_or(by_the_minute).min(by_the_minute);
        let later = known.minutes.iter().filter(|(minute, ..)| *minute > reading.at).map(|(_, pulls, _)| pulls);
        let total = known.total - later.sum::<u64>() - (by_the_minute - own);
        let mut read = Read { reading, budget, own, total, others_per_min: 0.0 };
        read.others_per_min = known.reading.as_ref().map_or(0.0, |last| read.others_since(last));
        known.reading = Some(read);
        known.answer = None;
    }

    /// An answer with what is counted of its window by now, for whoever remembers it.
    pub fn with_own(&self, reading: BudgetReading) -> BudgetReading {
        let BudgetAnswer::Limited(budget) = reading.answer else { return reading };
        let window = self.registries.terms(&reading.registry).window_of(Some(budget));
        let own = self.known.get(&reading.registry).map_or(0, |known| known.pulls(window, reading.at));
        BudgetReading { own: Some(own), ..reading }
    }

    /// Pulls of a registry within a window, and its requests of the last minute: of the minute before this one as much
    /// as falls into it.
    pub fn asked(&self, registry: &str, window: Option<Duration>, now: Timestamp) -> (u64, u64) {
        let Some(known) = self.known.get(registry) else { return (0, 0) };
        let requests_of = |minute: Timestamp| {
            let found = known.minutes.iter().rev().find(|entry| entry.0 == minute);
            found.map_or(0, |entry| entry.2)
        };
        let left = 60_u64.saturating_sub(now.since(now.minute()).as_secs());
        let before = requests_of(now.minute().minus(MINUTE)) * left / 60;
        (known.pulls(window, now), requests_of(now.minute()) + before)
    }

    /// Of each registry all pulls and requests, and the requests of the minute in which there were
    /// most, with that minute.
    pub fn totals(&self) -> impl Iterator<Item = (&str, u64, u64, (u64, Timestamp))> {
        let asked = self.known.iter().filter(|(_, known)| known.requests > 0);
        asked.map(|(registry, known)| (&**registry, known.total, known.requests, known.peak))
    }

    /// How it stands with each registry that was asked, or that said something, by name.
    pub fn standings(&self, now: Timestamp) -> Vec<BudgetStanding> {
        self.known
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, known)| self.standing(name, known, now))
            .collect()
    }

    fn known(&mut self, registry: &str) -> Option<&mut Known> {
        if self.known.len() >= REGISTRIES_MAX && !self.known.contains_key(registry) {
            return None;
        }
        Some(self.known.entry(registry.to_owned()).or_default())
    }

    fn standing(&self, name: &str, known: &Known, now: Timestamp) -> BudgetStanding {
        let terms = self.registries.terms(name);
        let stated = known.reading.as_ref();
        let is_unlimited = known.answer.as_ref().is_some_and(|reading| reading.answer == BudgetAnswer::Unlimited);
        let reading = stated.map(|read| &read.reading).or(known.answer.as_ref());
        let terms_apply = !is_unlimited && stated.is_none();
        let window = terms.window_of(stated.map(|read| read.budget));
        let others = stated.map(|read| read.budget.spent().saturating_sub(read.own));
        let (pulls_per_min, requests_per_min) = known.pace(now);
        BudgetStanding {
            registry: name.to_owned(),
            account: reading.and_then(|reading| reading.account.clone()),
            source: reading.and_then(|reading| reading.source.clone()),
            asked: reading.map(|reading| reading.at),
            limit: match stated {
                Some(read) => u64::try_from(read.budget.limit).ok(),
                None => terms.pulls.filter(|_| terms_apply).map(|(pulls, _)| pulls),
            },
            terms_from: terms.source.to_owned(),
            remaining: stated.map(|read| read.budget.remaining.saturating_sub_unsigned(known.total - read.total)),
            window_secs: window.filter(|_| !is_unlimited).map(|window| window.as_secs()),
            own: known.pulls(window, now),
            others,
            watched_since: self.watched_since,
            pulls_per_min,
            requests_per_min,
            requests_per_min_max: terms.requests_per_min,
            without_image: None,
            exhaustion: stated.map(|read| runs_out(known, read, now)),
        }
    }
}

on_clock!(Meter { watched_since, known } rest { registries });
on_clock!(Read { reading } rest { budget, own, total, others_per_min });

impl OnClock for Known {
    fn step(&mut self, step: ClockStep) {
        let Self { reading, minutes, total: _, requests: _, peak: (_, peak_at), answer } = self;
        reading.step(step);
        answer.step(step);
        *peak_at = step.carry_minute(*peak_at);
        // Of a clock that was set back there may be a minute twice.
        let mut carried: BTreeMap<Timestamp, (u64, u64)> = BTreeMap::new();
        for (minute, pulls, requests) in minutes.drain(..) {
            let asked = carried.entry(step.carry_minute(minute)).or_default();
            *asked = (asked.0 + pulls, asked.1 + requests);
        }
        minutes.extend(carried.into_iter().map(|(minute, (pulls, requests))| (minute, pulls, requests)));
    }
}

const MINUTE: Duration = Duration::from_secs(60);

impl Known {
    /// Pulls of the window up to a moment.
    fn pulls(&self, window: Option<Duration>, to: Timestamp) -> u64 {
        let from = window.map(|window| to.minus(window).minute());
        let is_in = |minute: Timestamp| minute <= to && from.is_none_or(|from| minute >= from);
        self.minutes.iter().filter(|(minute, ..)| is_in(*minute)).map(|(_, pulls, _)| pulls).sum()
    }

    /// Pulls a minute, over the last ten minutes and over the last two: a storm that has just begun, or just ended, is in
    /// the second.
    fn paces(&self, now: Timestamp) -> (f64, f64) {
        let from = now.minus(PACE_MIN).minute();
        let newest = self.minutes.iter().filter(|(minute, ..)| *minute >= from && *minute <= now);
        let first = newest.clone().find(|entry| entry.1 > 0).map(|entry| entry.0);
        let pulls: u64 = newest.map(|entry| entry.1).sum();
        let span = first.map_or(PACE_MIN, |first| now.since(first).clamp(MINUTE, PACE_MIN));
        #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
        let fast = pulls as f64 * 60.0 / span.as_secs_f64();
        (self.pace(now).0, fast)
    }

    /// Pulls and requests a minute of late.
    fn pace(&self, now: Timestamp) -> (f64, f64) {
        let from = now.minus(PACE_OVER);
        let late: Vec<_> = self.minutes.iter().filter(|(minute, ..)| *minute >= from && *minute <= now).collect();
        let Some((first, ..)) = late.first() else { return (0.0, 0.0) };
        let minutes = now.since(*first).max(PACE_MIN).as_secs_f64() / 60.0;
        #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
        let pace = |count: u64| (count as f64 / minutes * 10.0).round() / 10.0;
        (pace(late.iter().map(|entry| entry.1).sum()), pace(late.iter().map(|entry| entry.2).sum()))
    }
}

/// When it runs out: at the pace that squall sees, and at most as fast as others spent beside it, over the window or
/// since the answer before the last, whichever was faster.
fn runs_out(known: &Known, read: &Read, now: Timestamp) -> Exhaustion {
    let budget = read.budget;
    let left = budget.remaining.saturating_sub_unsigned(known.total - read.total);
    let (slow, fast) = known.paces(now);
    let others = budget.spent().saturating_sub(read.own);
    #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
    let of_others = budget.window().map_or(0.0, |window| others as f64 / (window.as_secs_f64() / 60.0).max(1.0));
    let spent: Vec<(Timestamp, u64)> =
        known.minutes.iter().filter(|(_, pulls, _)| *pulls > 0).map(|(minute, pulls, _)| (*minute, *pulls)).collect();
    let budget = Budget { remaining: left, ..budget };
    let of_others = of_others.max(read.others_per_min);
    exhaustion(&Outlook { budget, at: now, spent: &spent, pace: slow.min(fast)..=slow.max(fast) + of_others })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + secs)
    }

    fn limited(secs: i64, remaining: i64) -> BudgetReading {
        BudgetReading {
            registry: "docker.io".to_owned(),
            at: at(secs),
            account: None,
            source: Some("203.0.113.7".to_owned()),
            own: None,
            answer: BudgetAnswer::Limited(Budget { limit: 100, remaining, window_secs: Some(21_600) }),
        }
    }

    fn standing(meter: &Meter, secs: i64) -> BudgetStanding {
        meter.standings(at(secs)).pop().expect("a registry")
    }

    #[test]
    fn what_the_header_lost_and_squall_cannot_explain_is_others() {
        let mut meter = Meter::default();
        for minute in 0..42 {
            meter.add(at(minute * 60), "docker.io", 1, 3);
        }
        meter.read(limited(42 * 60, 0));
        let found = standing(&meter, 42 * 60);
        assert_eq!((found.own, found.others, found.limit, found.remaining), (42, Some(58), Some(100), Some(0)));
        assert_eq!(found.exhaustion, Some(Exhaustion::Now));
        assert_eq!((found.pulls_per_min, found.requests_per_min), (1.0, 3.0));
    }

    #[test]
    fn what_was_spent_since_the_answer_is_left_no_more() {
        let mut meter = Meter::default();
        meter.read(limited(0, 100));
        meter.add(at(120), "docker.io", 7, 7);
        assert_eq!(standing(&meter, 200).remaining, Some(93));
        meter.read(limited(180, 80));
        let found = standing(&meter, 200);
        assert_eq!((found.own, found.others, found.remaining), (7, Some(13), Some(80)));
        meter.read(limited(60, 100));
        assert_eq!(standing(&meter, 200).remaining, Some(80), "an older answer");
    }

    #[test]
    fn a_pull_comes_back_after_the_window() {
        let mut meter = Meter::default();
        meter.add(at(0), "docker.io", 30, 90);
        assert_eq!(standing(&meter, 21_500).own, 30);
        assert_eq!(standing(&meter, 21_700).own, 0);
    }

    #[test]
    fn a_storm_after_quiet_is_foreseen_at_its_own_pace() {
        let mut meter = Meter::default();
        meter.add(at(0), "docker.io", 1, 1);
        meter.read(limited(420, 100));
        meter.add(at(480), "docker.io", 60, 240);
        let truth = at(480 + 100);
        let Some(Exhaustion::Between { from, .. }) = standing(&meter, 540).exhaustion else { panic!("it runs out") };
        assert!(from <= truth.plus(Duration::from_secs(4)), "{from} is later than {truth} by more than a tenth");
        assert!(from > at(540), "{from} is past");
    }

    /// Over the whole window they spent little; since the last answer, 12 a minute.
    #[test]
    fn others_that_spend_in_a_burst_are_foreseen_at_their_pace() {
        let mut meter = Meter::default();
        meter.read(limited(0, 100));
        meter.read(limited(300, 40));
        let truth = at(300 + 200);
        let Some(Exhaustion::Between { from, .. }) = standing(&meter, 300).exhaustion else { panic!("it runs out") };
        assert!(from <= truth.plus(Duration::from_secs(20)), "{from} is later than {truth} by more than a tenth");
        assert!(from > at(300), "{from} is past");
        // Of another address it says nothing.
        meter.read(BudgetReading { source: Some("203.0.113.8".to_owned()), ..limited(360, 20) });
        let Some(Exhaustion::Between { from, .. }) = standing(&meter, 360).exhaustion else { panic!("it runs out") };
        assert!(from > at(3600), "{from}");
    }

    #[test]
    fn what_was_pulled_later_in_the_minute_of_an_answer_is_not_before_it() {
        let mut live = Meter::default();
        live.add(at(0), "docker.io", 55, 55);
        let reading = live.with_own(limited(5, 40));
        assert_eq!(reading.own, Some(55));
        // After a restart the whole minute is known, and no more.
        let mut meter = Meter::default();
        meter.add(at(0), "docker.io", 60, 60);
        meter.read(reading);
        let found = standing(&meter, 50);
        assert_eq!((found.others, found.remaining), (Some(5), Some(35)));
    }

    #[test]
    fn a_registry_that_was_not_reached_keeps_what_it_said() {
        let mut meter = Meter::default();
        meter.read(limited(0, 50));
        meter.read(BudgetReading { answer: BudgetAnswer::Failed { why: "timeout".to_owned() }, ..limited(300, 0) });
        assert_eq!(standing(&meter, 310).remaining, Some(50));
        meter.read(BudgetReading { answer: BudgetAnswer::Unlimited, ..limited(600, 0) });
        let found = standing(&meter, 610);
        assert_eq!((found.remaining, found.limit), (None, None));
    }

    #[test]
    fn an_answer_of_before_a_restart_is_less_what_came_after_it() {
        let mut meter = Meter::default();
        meter.add(at(0), "docker.io", 10, 10);
        meter.add(at(600), "docker.io", 20, 20);
        meter.read(limited(300, 50));
        let found = standing(&meter, 900);
        assert_eq!((found.remaining, found.others), (Some(30), Some(40)));
    }

    #[test]
    fn without_an_answer_no_time_is_stated() {
        let mut meter = Meter::default();
        meter.add(at(0), "docker.io", 30, 90);
        let found = standing(&meter, 60);
        assert_eq!((found.limit, found.remaining, found.others, found.exhaustion), (Some(100), None, None, None));
        assert_eq!(found.requests_per_min_max, Some(2000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut meter = Meter::default();
        for registry in 0..2000 {
            meter.add(at(0), &format!("r{registry}.example"), 1, 1);
        }
        for minute in 0..5000 {
            meter.add(at(minute * 60), "r7.example", 1, 1);
        }
        assert_eq!(meter.known.len(), REGISTRIES_MAX);
        assert_eq!(meter.known["r7.example"].minutes.len(), MINUTES_MAX);
    }
}
