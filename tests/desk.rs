//! What is told and when, on a clock of the test's own: days of storms in a moment.

#[path = "support/status.rs"]
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use squall::model::{
    Action, Alert, AlertKind, Author, Cause, ClockStep, Gap, Hold, HoldChange, HoldEnd, Labels, OnClock as _, Phase,
    Quarantine, Refusal, Response, Severity, Storm, StormState, Subject, SubjectKind, Timestamp,
};
use squall::notify::{Desk, Filter, Heard, Memory, News, Part, Settings, Silence, When};
use squall::situation::{Input, Situation};

const SEC: Duration = Duration::from_secs(1);
const MIN: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// How often figures come.
const REFRESHED_EVERY: Duration = Duration::from_secs(5);

/// 2026-11-21T08:00:00Z.
fn morning() -> Timestamp {
    Timestamp::from_nanos(1_795_248_000_000_000_000)
}

/// A desk, the situation that it hears of, their clock, and what storms and is held.
struct Stage {
    desk: Desk,
    situation: Situation,
    settings: Settings,
    now: Timestamp,
    refreshed_at: Timestamp,
    storms: BTreeMap<String, Storm>,
    holds: BTreeMap<String, Quarantine>,
    episodes: u64,
    told: Vec<Alert>,
    /// What only receivers hear that keep conversations apart.
    parts: Vec<Alert>,
}

impl Stage {
    /// A desk that has led for a while.
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut stage = Self::at_start(settings, morning(), Memory::default());
        stage.pass(HOUR);
        stage
    }

    /// A desk that begins and leads.
    fn at_start(settings: Settings, now: Timestamp, memory: Memory) -> Self {
        let settings = Settings { node: "node1".to_owned(), ..settings };
        let mut desk = Desk::new(settings.clone(), now, memory);
        desk.hear(now, News::Leads(true));
        desk.hear(now, News::Listed);
        Self {
            desk,
            situation: Situation::new(MIN),
            settings,
            now,
            refreshed_at: now,
            storms: BTreeMap::new(),
            holds: BTreeMap::new(),
            episodes: 0,
            told: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn silenced(names: &[(&str, &str, Duration, Duration)]) -> Self {
        let at = morning().plus(HOUR);
        let silences = names.iter().map(|(name, services, from, to)| Silence {
            name: (*name).to_owned(),
            filter: Filter { services: vec![(*services).to_owned()], ..Filter::default() },
            when: When::Between { from: at.plus(*from), to: at.plus(*to) },
        });
        Self::with(Settings { silences: silences.collect(), ..Settings::default() })
    }

    /// A storm that is detected now.
    fn storm(&self, name: &str, cause: Cause) -> Storm {
        let storm = status::storm(self.now, name, cause, 5, 12.0, 0);
        Storm { onset: self.now.minus(5 * SEC), detected: self.now, registry: String::new(), ..storm }
    }

    fn begin(&mut self, name: &str, cause: Cause) {
        let storm = self.storm(name, cause);
        self.begin_as(storm);
    }

    fn begin_at(&mut self, name: &str, cause: Cause, registry: &str) {
        let storm = Storm { registry: registry.to_owned(), ..self.storm(name, cause) };
        self.begin_as(storm);
    }

    fn begin_as(&mut self, mut storm: Storm) {
        self.episodes += 1;
        storm.id =
            format!("{:016x}", squall::model::fnv_64([storm.subject.name.as_bytes(), &self.episodes.to_le_bytes()]));
        self.storms.insert(storm.subject.name.clone(), storm.clone());
        self.take(Input::Storm(Arc::new(storm)));
    }

    fn take(&mut self, input: Input) {
        self.situation.take(self.now, input, &Labels::new());
        self.pump();
    }

    /// The desk hears of each transition.
    fn pump(&mut self) {
        let heard = self.situation.drain().map(|one| Heard { case: one.case, steps: BTreeSet::from([one.step]) });
        let heard: Vec<Heard> = heard.collect();
        if !heard.is_empty() {
            self.desk.hear(self.now, News::Cases(heard));
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Storm)) {
        change(self.storms.get_mut(name).expect("it storms"));
    }

    fn change_cause(&mut self, name: &str, to: Cause) {
        self.change(name, |storm| storm.cause = to);
        self.take(Input::Storm(Arc::new(self.storms[name].clone())));
    }

    fn end(&mut self, name: &str) {
        let storm = self.storms.remove(name).expect("it storms");
        self.take(Input::Calm(Arc::new(Storm { state: StormState::Subsided, ended: Some(self.now), ..storm })));
    }

    fn subject(&self, name: &str) -> Subject {
        status::storm(self.now, name, Cause::Mount, 5, 12.0, 0).subject
    }

    fn settle(&mut self, name: &str, action: Action) {
        let subject = self.subject(name);
        let phase = match action {
            Action::Quarantine => Phase::Held,
            Action::Probe => Phase::Probation,
            Action::Raise => Phase::Returning,
            Action::Release => {
                self.holds.remove(name);
                return self.take(Input::Hold(HoldChange::Ended(subject, HoldEnd::Returned)));
            }
        };
        let known = self.holds.get(name);
        let tries = known.map_or(0, |held| held.hold.tries + u32::from(phase == Phase::Held));
        let since = known.map_or(self.now, |held| held.hold.since);
        let storm = self.storms.get(name).map(|storm| storm.id.clone()).unwrap_or_default();
        let hold = Hold { response: Response::Backoff, by: Author::Breaker, since, until: None, tries };
        let held = Quarantine { subject, storm, cause: Cause::Mount, image: String::new(), phase, hold };
        self.holds.insert(name.to_owned(), held.clone());
        self.take(Input::Hold(HoldChange::Held(Box::new(held))));
        // It fails no more: the detector's storm subsides.
        if self.storms.contains_key(name) {
            self.end(name);
        }
    }

    fn let_go(&mut self, name: &str, why: &str) {
        self.holds.remove(name);
        self.take(Input::Hold(HoldChange::Ended(self.subject(name), HoldEnd::LetGo(why.to_owned()))));
    }

    /// Time passes: figures come, and what is due is told. Returns what was, to people.
    #[track_caller]
    fn pass(&mut self, span: Duration) -> Vec<Alert> {
        let (until, from) = (self.now.plus(span), self.told.len());
        loop {
            self.situation.advance(self.now);
            self.pump();
            let (parts, alerts): (Vec<Alert>, _) =
                self.desk.tell(self.now).into_iter().partition(|alert| alert.part_of.is_some());
            self.told.extend(alerts);
            self.parts.extend(parts);
            let deadline = self.desk.next_deadline().into_iter().chain(self.situation.next_deadline()).min();
            assert!(deadline.is_none_or(|at| at > self.now), "a busy loop: {deadline:?} at {}", self.now);
            if self.now >= until {
                return self.told[from..].to_vec();
            }
            self.now = deadline.unwrap_or(until).min(self.refreshed_at.plus(REFRESHED_EVERY)).min(until);
            if self.now >= self.refreshed_at.plus(REFRESHED_EVERY) {
                self.refreshed_at = self.now;
                let fresh = self.storms.values().cloned().filter_map(|storm| self.situation.refresh(storm, None));
                let fresh: Vec<Heard> = fresh.map(|case| Heard { case, steps: BTreeSet::new() }).collect();
                self.desk.hear(self.now, News::Cases(fresh));
            }
        }
    }

    /// What a new process makes of what is on disk, this much later.
    fn restarted(&self, after: Duration) -> Self {
        let text = serde_json::to_string(&self.desk.memory()).expect("JSON");
        let memory = serde_json::from_str(&text).expect("it reads back");
        let mut next = Self::at_start(self.settings.clone(), self.now.plus(after), memory);
        next.episodes = self.episodes;
        next.storms = self.storms.clone();
        next.holds = self.holds.clone();
        // The journal has what went on, and it finds what still does.
        next.situation.recall(self.situation.cases().map(|case| case.told((*case.storm).clone())));
        next.situation.listed(next.now);
        let storms: Vec<Storm> = next.storms.values().cloned().collect();
        storms.into_iter().for_each(|storm| next.take(Input::Storm(Arc::new(storm))));
        let holds: Vec<Quarantine> = next.holds.values().cloned().collect();
        holds.into_iter().for_each(|held| next.take(Input::Hold(HoldChange::Held(Box::new(held)))));
        next
    }
}

fn kinds(alerts: &[Alert]) -> Vec<AlertKind> {
    alerts.iter().map(|alert| alert.kind).collect()
}

/// The services that alerts name, each once.
fn named(alerts: &[Alert]) -> BTreeSet<&str> {
    alerts.iter().flat_map(|alert| &alert.storms).map(|storm| &*storm.subject.name).collect()
}

fn names(wanted: &[&'static str]) -> BTreeSet<&'static str> {
    wanted.iter().copied().collect()
}

#[track_caller]
fn only(alerts: &[Alert]) -> &Alert {
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    &alerts[0]
}

// --- Grouping ----------------------------------------------------------------------------------------------------------

#[test]
fn storms_that_begin_within_the_wait_are_one_message() {
    let mut stage = Stage::new();
    for (name, cause) in [("a", Cause::Mount), ("b", Cause::AppExit), ("c", Cause::Oom)] {
        stage.begin(name, cause);
        assert!(stage.pass(4 * SEC).is_empty());
    }
    let alerts = stage.pass(4 * SEC);
    assert_eq!(kinds(&alerts), [AlertKind::Onset]);
    assert_eq!(named(&alerts), names(&["a", "b", "c"]));
    assert!(stage.pass(30 * SEC).is_empty());
}

#[test]
fn storms_far_apart_are_messages_of_their_own() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.begin("b", Cause::AppExit);
    stage.pass(MIN);
    assert_eq!(kinds(&stage.told), [AlertKind::Onset, AlertKind::Onset]);
    assert_ne!(stage.told[0].conversation, stage.told[1].conversation);
}

#[test]
fn one_registry_that_fails_is_one_conversation_however_far_apart() {
    let mut stage = Stage::new();
    for (name, cause) in [("a", Cause::RegistryQuota), ("b", Cause::RegistryAbuse), ("c", Cause::RegistryError)] {
        stage.begin_at(name, cause, "registry.example");
        stage.pass(5 * MIN);
    }
    stage.begin_at("elsewhere", Cause::RegistryQuota, "other.example");
    stage.pass(5 * MIN);
    let of = |name: &str| {
        let mut with = stage.told.iter().filter(|alert| alert.storms.iter().any(|storm| storm.subject.name == name));
        with.next().expect("it was told").conversation.clone()
    };
    assert_eq!(of("a"), of("b"));
    assert_eq!(of("a"), of("c"));
    assert_ne!(of("a"), of("elsewhere"));
}

// --- Distances ---------------------------------------------------------------------------------------------------------

#[test]
fn messages_of_a_conversation_keep_a_distance_that_doubles_up_to_sixteen_times() {
    let mut stage = Stage::new();
    let mut at = Vec::new();
    for number in 0..300 {
        stage.begin_at(&format!("s{number}"), Cause::RegistryQuota, "registry.example");
        at.extend(stage.pass(20 * SEC).into_iter().map(|alert| alert.at));
    }
    let distances: Vec<u64> = at.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert_eq!(distances[..5], [60, 120, 240, 480, 960], "{distances:?}");
    assert!(distances[5..].iter().all(|secs| (960..1000).contains(secs)), "{distances:?}");
}

#[test]
fn what_storms_on_is_told_after_an_hour_two_four_up_to_a_day() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    let alerts = stage.pass(100 * HOUR);
    assert!(alerts[1..].iter().all(|alert| alert.kind == AlertKind::Repeat), "{:?}", kinds(&alerts));
    let hours: Vec<u64> = alerts.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs() / 3600).collect();
    assert_eq!(hours, [1, 2, 4, 8, 16, 24, 24]);
}

#[test]
fn what_is_held_is_told_once_a_day() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    assert_eq!(kinds(&stage.pass(23 * HOUR)), [AlertKind::Quarantine]);
    assert_eq!(kinds(&stage.pass(49 * HOUR)), [AlertKind::Repeat, AlertKind::Repeat]);
}

// --- Changes -----------------------------------------------------------------------------------------------------------

#[test]
fn ten_times_as_many_failures_are_told_once() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(2 * MIN);
    stage.change("a", |storm| storm.failed = 49);
    assert!(stage.pass(MIN).is_empty());
    stage.change("a", |storm| storm.failed = 50);
    let alerts = stage.pass(10 * MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Escalation]);
    assert_eq!(alerts[0].storms[0].failed, 50);
    stage.change("a", |storm| storm.failed = 500);
    assert_eq!(kinds(&stage.pass(10 * MIN)), [AlertKind::Escalation]);
}

#[test]
fn another_cause_is_told_and_none_before_the_first_message() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::PullFailed);
    stage.change_cause("a", Cause::ImageMissing);
    let first = stage.pass(MIN);
    assert_eq!(kinds(&first), [AlertKind::Onset]);
    assert_eq!(first[0].storms[0].cause, Cause::ImageMissing);
    stage.change_cause("a", Cause::RegistryQuota);
    let next = stage.pass(2 * MIN);
    assert_eq!(kinds(&next), [AlertKind::CauseChanged]);
    assert_eq!(next[0].storms[0].cause, Cause::RegistryQuota);
    assert!(stage.pass(20 * MIN).is_empty());
}

#[test]
fn a_held_service_is_one_conversation_that_is_over_once_when_it_has_come_back() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    for _ in 0..20 {
        stage.pass(5 * MIN);
        stage.settle("a", Action::Probe);
        stage.pass(MIN);
        stage.settle("a", Action::Quarantine);
    }
    assert_eq!(kinds(&stage.told), [AlertKind::Onset, AlertKind::Quarantine]);
    stage.settle("a", Action::Raise);
    stage.settle("a", Action::Release);
    let alerts = stage.pass(20 * MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Subsided]);
    assert!(alerts[0].ends && alerts[0].title.contains("as it was"), "{}", alerts[0].title);
    let conversations: BTreeSet<&String> = stage.told.iter().map(|alert| &alert.conversation).collect();
    assert_eq!(conversations.len(), 1);
    assert!(stage.pass(48 * HOUR).is_empty());
}

#[test]
fn a_held_service_is_never_over_while_squall_holds_it() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    assert!(stage.pass(20 * HOUR).iter().all(|alert| !alert.ends));
    let refresh = stage.desk.refresh(stage.now).expect("Alertmanager hears that it goes on");
    assert!(refresh.storms[0].answer.contains("squall holds it"), "{}", refresh.storms[0].answer);
}

#[test]
fn a_held_service_that_is_removed_is_over() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    stage.pass(5 * MIN);
    stage.take(Input::Hold(HoldChange::Ended(stage.subject("a"), HoldEnd::Gone)));
    let alerts = stage.pass(5 * MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Subsided]);
    assert!(alerts[0].title.contains("removed"), "{}", alerts[0].title);
}

#[test]
fn a_restart_while_a_service_is_held_continues_its_conversation() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    stage.pass(5 * MIN);
    let conversation = stage.told[0].conversation.clone();
    let mut next = stage.restarted(SEC);
    assert!(next.pass(HOUR).is_empty());
    next.settle("a", Action::Probe);
    next.settle("a", Action::Release);
    let alerts = next.pass(5 * MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Subsided]);
    assert_eq!(alerts[0].storms[0].failed, 5, "the figures that were told last: {}", alerts[0].title);
    assert_eq!(alerts[0].conversation, conversation);
}

#[test]
fn two_managers_that_saw_cases_begin_in_another_order_name_their_conversation_alike() {
    let conversation = |names: [&str; 3]| {
        let mut stage = Stage::new();
        for name in names {
            let storm = stage.storm(name, Cause::Mount);
            let id = format!("{:016x}", squall::model::fnv_64([name.as_bytes()]));
            stage.take(Input::Storm(Arc::new(Storm { id, ..storm })));
        }
        stage.pass(MIN)[0].conversation.clone()
    };
    assert_eq!(conversation(["a", "b", "c"]), conversation(["c", "a", "b"]));
}

#[test]
fn what_squall_lets_go_is_told_with_its_reason() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.settle("a", Action::Quarantine);
    stage.pass(5 * MIN);
    stage.let_go("a", "its replicas were changed");
    let alerts = stage.pass(5 * MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Release, AlertKind::Subsided], "it did not fail since");
    assert!(alerts[0].storms[0].answer.contains("its replicas"));
    assert_eq!(alerts[0].conversation, stage.told[0].conversation);
}

#[test]
fn what_would_have_been_done_is_in_the_first_message() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    let (refusal, response) = (Refusal::NotEnforced, Response::Backoff);
    stage.take(Input::Refused { subject: stage.subject("a"), refusal, response });
    let alerts = stage.pass(MIN);
    assert!(only(&alerts).storms[0].answer.contains("would have held"));
}

#[test]
fn what_is_held_by_hand_without_a_storm_is_told() {
    let mut stage = Stage::new();
    stage.settle("calm", Action::Quarantine);
    let alerts = stage.pass(MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Quarantine]);
    assert!(alerts[0].title.contains("calm"), "{}", alerts[0].title);
}

#[test]
fn an_end_is_told_only_when_all_are_over() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.begin("b", Cause::Mount);
    stage.pass(5 * MIN);
    stage.end("a");
    assert!(stage.pass(10 * MIN).is_empty());
    stage.end("b");
    let alerts = stage.pass(MIN);
    let end = only(&alerts);
    assert_eq!((end.kind, end.ends, end.severity), (AlertKind::Subsided, true, Severity::Info));
    assert_eq!(named(&alerts), names(&["a", "b"]));
    assert_eq!(end.conversation, stage.told[0].conversation);
    assert!(stage.pass(48 * HOUR).is_empty());
}

#[test]
fn what_is_over_before_anybody_heard_of_it_is_not_told() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(5 * SEC);
    stage.end("a");
    assert!(stage.pass(HOUR).is_empty());
}

// --- Many --------------------------------------------------------------------------------------------------------------

#[test]
fn more_than_ten_within_five_minutes_are_digests() {
    let mut stage = Stage::new();
    for number in 0..60 {
        // Nothing in common, and too far apart to be one.
        stage.begin(&format!("s{number}"), Cause::AppExit);
        stage.pass(16 * SEC);
    }
    stage.pass(10 * MIN);
    let alone = stage.told.iter().filter(|alert| alert.kind == AlertKind::Onset).count();
    let digests = stage.told.iter().filter(|alert| alert.kind == AlertKind::Digest).count();
    assert!((10..=45).contains(&alone), "{:?}", kinds(&stage.told));
    assert!((1..=5).contains(&digests), "{:?}", kinds(&stage.told));
    let told: u64 = stage.told.iter().map(|a| u64::try_from(a.storms.len()).expect("few") + a.storms_left_out).sum();
    assert_eq!(told, 60, "each once");

    // Whoever keeps conversations apart hears of each, and of its end.
    for number in 0..60 {
        stage.end(&format!("s{number}"));
    }
    stage.pass(HOUR);
    let digests: BTreeSet<&str> = stage.told.iter().filter(|a| a.kind == AlertKind::Digest).map(|a| &*a.id).collect();
    assert!(stage.parts.iter().all(|part| part.part_of.as_deref().is_some_and(|whole| digests.contains(whole))));
    let apart: Vec<&Alert> = stage.told.iter().filter(|a| a.kind != AlertKind::Digest).chain(&stage.parts).collect();
    let begun: BTreeSet<&str> = apart.iter().filter(|a| !a.ends).map(|a| &*a.conversation).collect();
    let ended: BTreeSet<&str> = apart.iter().filter(|a| a.ends).map(|a| &*a.conversation).collect();
    assert_eq!((begun.len(), &begun), (60, &ended));
}

#[test]
fn a_thousand_at_once_are_one_message_with_their_number() {
    let mut stage = Stage::new();
    for number in 0..1100 {
        stage.begin(&format!("s{number:04}"), Cause::Mount);
    }
    let alerts = stage.pass(MIN);
    let alert = only(&alerts);
    assert!(alert.title.contains("1100"), "{}", alert.title);
    assert_eq!((alert.storms.len(), alert.storms_left_out), (1000, 100));
}

// --- Starts ------------------------------------------------------------------------------------------------------------

#[test]
fn what_stormed_before_the_start_is_one_baseline() {
    let mut stage = Stage::at_start(Settings::default(), morning(), Memory::default());
    stage.pass(SEC);
    for number in 0..30_u64 {
        let storm = stage.storm(&format!("s{number}"), Cause::AppExit);
        stage.begin_as(Storm { onset: morning().minus(Duration::from_secs(60 * number + 10)), ..storm });
    }
    let alerts = stage.pass(10 * MIN);
    let alert = only(&alerts);
    assert_eq!(alert.kind, AlertKind::Baseline);
    assert!(alert.title.contains("30"), "{}", alert.title);
}

#[test]
fn a_restart_tells_nothing_again() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.begin("b", Cause::AppExit);
    stage.pass(5 * MIN);
    let mut next = stage.restarted(10 * SEC);
    // The detector begins anew: it finds them once more, with fewer failures, as its own first episodes.
    for name in ["a", "b"] {
        next.change(name, |storm| storm.failed = 5);
        next.take(Input::Storm(Arc::new(next.storms[name].clone())));
    }
    assert!(next.pass(30 * MIN).is_empty());
    next.end("a");
    next.end("b");
    let alerts = next.pass(MIN);
    assert_eq!(only(&alerts).kind, AlertKind::Subsided);
    assert_eq!(alerts[0].conversation, stage.told[0].conversation);
}

#[test]
fn what_ended_while_nobody_watched_is_told_as_over_after_two_minutes() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(5 * MIN);
    stage.storms.clear();
    let mut next = stage.restarted(10 * MIN);
    assert!(next.pass(119 * SEC).is_empty());
    assert_eq!(kinds(&next.pass(MIN)), [AlertKind::Subsided]);
}

#[test]
fn a_restart_keeps_the_distance_between_messages() {
    let mut stage = Stage::new();
    stage.begin("a", Cause::Mount);
    stage.pass(30 * MIN);
    let mut next = stage.restarted(SEC);
    assert!(next.pass(29 * MIN).is_empty());
    assert_eq!(kinds(&next.pass(2 * MIN)), [AlertKind::Repeat]);
}

// --- Silences ----------------------------------------------------------------------------------------------------------

#[test]
fn a_silenced_storm_is_told_in_the_summary_at_the_silences_end() {
    let mut stage = Stage::silenced(&[("move", "*", Duration::ZERO, HOUR)]);
    stage.begin("a", Cause::Mount);
    stage.pass(MIN);
    stage.begin("b", Cause::AppExit);
    assert!(stage.pass(58 * MIN).is_empty());
    let alerts = stage.pass(2 * MIN);
    let summary = only(&alerts);
    assert_eq!(summary.kind, AlertKind::Summary);
    assert!(summary.title.contains("move") && summary.title.contains('2'), "{}", summary.title);
    assert_eq!(named(&alerts), names(&["a", "b"]));
}

#[test]
fn a_silenced_storm_is_told_at_once_when_its_silence_is_taken_away() {
    let mut stage = Stage::silenced(&[("move", "*", Duration::ZERO, HOUR), ("night", "b", Duration::ZERO, HOUR)]);
    stage.begin("a", Cause::Mount);
    stage.begin("b", Cause::AppExit);
    assert!(stage.pass(MIN).is_empty());
    let mut settings = stage.settings.clone();
    settings.silences.remove(0);
    stage.desk.set_settings(stage.now, settings);
    assert_eq!(named(&stage.pass(SEC)), names(&["a"]), "the other silence goes on");
}

#[test]
fn what_began_and_ended_within_a_silence_is_in_its_summary() {
    let mut stage = Stage::silenced(&[("move", "*", Duration::ZERO, HOUR)]);
    stage.begin("a", Cause::Mount);
    stage.pass(5 * MIN);
    stage.end("a");
    let alerts = stage.pass(HOUR);
    assert_eq!(only(&alerts).kind, AlertKind::Summary);
    assert_eq!(named(&alerts), names(&["a"]));
    assert!(stage.pass(48 * HOUR).is_empty());
}

#[test]
fn a_silence_holds_back_its_part_of_a_conversation() {
    let mut stage = Stage::silenced(&[("move", "shop_*", Duration::ZERO, HOUR)]);
    stage.begin("shop_a", Cause::Mount);
    stage.begin("b", Cause::Mount);
    let alerts = stage.pass(MIN);
    assert_eq!(kinds(&alerts), [AlertKind::Onset]);
    assert_eq!(named(&alerts), names(&["b"]));
    let alerts = stage.pass(HOUR);
    let summary: Vec<Alert> = alerts.into_iter().filter(|alert| alert.kind == AlertKind::Summary).collect();
    assert_eq!(named(&summary), names(&["shop_a"]));
}

#[test]
fn two_silences_that_share_a_conversation_lose_none_of_it() {
    let mut stage = Stage::silenced(&[("one", "one_*", Duration::ZERO, HOUR), ("two", "two_*", Duration::ZERO, HOUR)]);
    stage.begin("one_a", Cause::Mount);
    stage.begin("two_a", Cause::Mount);
    let alerts = stage.pass(2 * HOUR);
    assert_eq!(named(&alerts), names(&["one_a", "two_a"]), "{:?}", kinds(&alerts));
    stage.end("one_a");
    stage.end("two_a");
    let ends = stage.pass(HOUR);
    assert_eq!(named(&ends), names(&["one_a", "two_a"]));
    assert!(ends.iter().all(|alert| alert.kind == AlertKind::Subsided), "{:?}", kinds(&ends));
}

#[test]
fn storms_that_join_a_silenced_part_one_after_another_are_all_in_its_summary() {
    let mut stage = Stage::silenced(&[("move", "shop_*", Duration::ZERO, HOUR)]);
    for name in ["b", "shop_a", "c", "shop_d"] {
        stage.begin_at(name, Cause::RegistryQuota, "registry.example");
        stage.pass(5 * MIN);
    }
    let alerts = stage.pass(2 * HOUR);
    let summary: Vec<Alert> = alerts.into_iter().filter(|alert| alert.kind == AlertKind::Summary).collect();
    assert_eq!(named(&summary), names(&["shop_a", "shop_d"]));
}

#[test]
fn a_silenced_newcomer_makes_nobody_hear_of_the_others_again() {
    let mut stage = Stage::silenced(&[("move", "shop_*", Duration::ZERO, 3 * HOUR)]);
    stage.begin_at("b", Cause::RegistryQuota, "registry.example");
    stage.pass(5 * MIN);
    stage.begin_at("shop_a", Cause::RegistryQuota, "registry.example");
    assert_eq!(kinds(&stage.pass(10 * MIN)), []);
}

// --- Gaps and trouble --------------------------------------------------------------------------------------------------

#[test]
fn gaps_are_gathered_and_keep_a_distance() {
    let mut stage = Stage::new();
    let mut alerts = Vec::new();
    for _ in 0..60 {
        let gap =
            Gap { from: stage.now.minus(3 * SEC), to: stage.now, why: "the daemon restarted".to_owned(), open: false };
        stage.desk.hear(stage.now, News::Gap(gap));
        alerts.extend(stage.pass(10 * SEC));
    }
    assert!((2..=3).contains(&alerts.len()), "{:?}", kinds(&alerts));
    assert!(alerts.iter().all(|alert| alert.kind == AlertKind::Gap));
}

#[test]
fn trouble_is_told_when_it_lasts_and_so_is_its_end() {
    let mut stage = Stage::new();
    let trouble = |stage: &mut Stage| {
        stage.desk.hear(stage.now, News::Trouble { part: Part::Docker, why: "connection refused".to_owned() });
    };
    trouble(&mut stage);
    stage.pass(50 * SEC);
    stage.desk.hear(stage.now, News::Recovered(Part::Docker));
    assert!(stage.pass(10 * MIN).is_empty(), "an election is no trouble");
    trouble(&mut stage);
    let alerts = stage.pass(10 * MIN);
    let told = only(&alerts);
    assert_eq!((told.kind, told.severity, told.ends), (AlertKind::Trouble, Severity::Critical, false));
    assert!(told.lines.iter().any(|line| line.contains("connection refused")));
    stage.desk.hear(stage.now, News::Recovered(Part::Docker));
    let alerts = stage.pass(SEC);
    let over = only(&alerts);
    assert_eq!((over.kind, over.ends), (AlertKind::Recovered, true));
    assert_eq!(over.conversation, told.conversation);
}

#[test]
fn trouble_that_is_gone_after_a_restart_is_told_as_over() {
    let mut stage = Stage::new();
    stage.desk.hear(stage.now, News::Trouble { part: Part::Docker, why: "connection refused".to_owned() });
    assert_eq!(kinds(&stage.pass(2 * MIN)), [AlertKind::Trouble]);
    // The new process reaches Docker from its start on: it has no news of it.
    let mut next = stage.restarted(10 * SEC);
    let alerts = next.pass(HOUR);
    assert_eq!(only(&alerts).kind, AlertKind::Recovered);
    assert_eq!(alerts[0].conversation, stage.told[0].conversation);
}

#[test]
fn a_follower_tells_of_its_own_trouble_and_of_no_storm() {
    let mut stage = Stage::new();
    stage.desk.hear(stage.now, News::Leads(false));
    stage.begin("a", Cause::Mount);
    stage.desk.hear(stage.now, News::Trouble { part: Part::Journal, why: "disk full".to_owned() });
    assert_eq!(kinds(&stage.pass(HOUR)), [AlertKind::Trouble]);
}

// --- Leadership --------------------------------------------------------------------------------------------------------

#[test]
fn who_leads_within_a_minute_says_what_the_last_leader_would_have_said_under_its_id() {
    let (mut leader, mut follower) = (Stage::new(), Stage::new());
    follower.desk.hear(follower.now, News::Leads(false));
    for stage in [&mut leader, &mut follower] {
        stage.begin("a", Cause::Mount);
        stage.pass(40 * SEC);
    }
    assert!(follower.told.is_empty());
    follower.desk.hear(follower.now, News::Leads(true));
    follower.pass(MIN);
    let ids = |stage: &Stage| stage.told.iter().map(|alert| alert.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&leader), ids(&follower));
}

#[test]
fn who_leads_later_does_not_tell_what_was_told() {
    let mut stage = Stage::new();
    stage.desk.hear(stage.now, News::Leads(false));
    stage.begin("a", Cause::Mount);
    stage.pass(5 * MIN);
    stage.desk.hear(stage.now, News::Leads(true));
    assert!(stage.pass(10 * MIN).is_empty());
    stage.end("a");
    assert_eq!(kinds(&stage.pass(MIN)), [AlertKind::Subsided]);
}

#[test]
fn an_election_is_no_flood() {
    let mut stage = Stage::new();
    stage.desk.hear(stage.now, News::Leads(false));
    for number in 0..200 {
        let storm = stage.storm(&format!("s{number}"), Cause::AppExit);
        let onset = stage.now.minus(Duration::from_secs(20 * number));
        stage.begin_as(Storm { onset, ..storm });
    }
    stage.pass(30 * SEC);
    stage.desk.hear(stage.now, News::Leads(true));
    let alerts = stage.pass(5 * MIN);
    assert!(alerts.len() <= 12, "{} alerts", alerts.len());
}

// --- Any sequence ------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Begin(usize, usize),
    End(usize),
    Worse(usize),
    Hold(usize),
    Release(usize),
    LetGo(usize),
    Cause(usize, usize),
    Gap,
    Trouble(usize),
    Recovered(usize),
    Leads(bool),
    Restart,
    Pass(u64),
}

const CAUSES: [Cause; 4] = [Cause::Mount, Cause::RegistryQuota, Cause::AppExit, Cause::NodeDown];
const PARTS: [Part; 3] = [Part::Docker, Part::Journal, Part::Log];

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..25, 0_usize..CAUSES.len()).prop_map(|(name, cause)| Step::Begin(name, cause)),
        4 => (0_usize..25).prop_map(Step::End),
        2 => (0_usize..25).prop_map(Step::Worse),
        2 => (0_usize..25).prop_map(Step::Hold),
        1 => (0_usize..25).prop_map(Step::Release),
        1 => (0_usize..25).prop_map(Step::LetGo),
        2 => (0_usize..25, 0_usize..CAUSES.len()).prop_map(|(name, cause)| Step::Cause(name, cause)),
        1 => Just(Step::Gap),
        1 => (0_usize..PARTS.len()).prop_map(Step::Trouble),
        1 => (0_usize..PARTS.len()).prop_map(Step::Recovered),
        1 => any::<bool>().prop_map(Step::Leads),
        1 => Just(Step::Restart),
        8 => (1_u64..400).prop_map(Step::Pass),
    ]
}

/// What a desk makes of these steps; time passes to the end of everything. Within it no deadline is in the past.
fn play(steps: &[Step], may_restart: bool) -> Stage {
    let mut stage = Stage::new();
    for step in steps {
        match step {
            Step::Begin(name, cause) => {
                let name = format!("s{name}");
                if !stage.storms.contains_key(&name) {
                    stage.begin_at(&name, CAUSES[*cause], "registry.example");
                }
            }
            Step::End(name) if stage.storms.contains_key(&format!("s{name}")) => stage.end(&format!("s{name}")),
            Step::Worse(name) if stage.storms.contains_key(&format!("s{name}")) => {
                stage.change(&format!("s{name}"), |storm| storm.failed *= 4);
            }
            Step::Hold(name) => stage.settle(&format!("s{name}"), Action::Quarantine),
            Step::Release(name) => stage.settle(&format!("s{name}"), Action::Release),
            Step::LetGo(name) => stage.let_go(&format!("s{name}"), "its replicas were changed"),
            Step::Cause(name, cause) if stage.storms.contains_key(&format!("s{name}")) => {
                let (name, to) = (format!("s{name}"), CAUSES[*cause]);
                stage.change_cause(&name, to);
            }
            Step::Gap => {
                let gap = Gap { from: stage.now.minus(SEC), to: stage.now, why: "lost".to_owned(), open: false };
                stage.desk.hear(stage.now, News::Gap(gap));
            }
            Step::Trouble(part) => {
                stage.desk.hear(stage.now, News::Trouble { part: PARTS[*part], why: "no".to_owned() });
            }
            Step::Recovered(part) => stage.desk.hear(stage.now, News::Recovered(PARTS[*part])),
            Step::Leads(leads) => stage.desk.hear(stage.now, News::Leads(*leads)),
            Step::Restart if may_restart => {
                let told = std::mem::take(&mut stage.told);
                stage = stage.restarted(5 * SEC);
                stage.told = told;
            }
            Step::Pass(secs) => drop(stage.pass(Duration::from_secs(*secs))),
            _ => {}
        }
    }
    stage.desk.hear(stage.now, News::Leads(true));
    stage.pass(MIN);
    let held: Vec<String> = stage.holds.keys().cloned().collect();
    held.iter().for_each(|name| stage.settle(name, Action::Release));
    let names: Vec<String> = stage.storms.keys().cloned().collect();
    names.iter().for_each(|name| stage.end(name));
    for part in PARTS {
        stage.desk.hear(stage.now, News::Recovered(part));
    }
    stage.pass(2 * HOUR);
    stage
}

fn config(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(11), failure_persistence: None, ..Config::default() }
}

#[test]
fn whatever_happens_each_conversation_ends_and_an_hour_has_few_alerts() {
    proptest!(config(300), |(steps in prop::collection::vec(any_step(), 0..80))| {
        let leads_always = !steps.iter().any(|step| matches!(step, Step::Leads(false)));
        let stage = play(&steps, true);
        // All is over: nothing is left to tell.
        prop_assert_eq!(stage.desk.next_deadline(), None, "{:?}", steps);
        let mut ids = BTreeSet::new();
        let mut storms: BTreeMap<&str, bool> = BTreeMap::new();
        for alert in &stage.told {
            prop_assert!(ids.insert((&alert.id, alert.at)), "twice at once: {:?}", alert.title);
            prop_assert!(alert.title.len() <= 300 && !alert.title.is_empty());
            for storm in &alert.storms {
                storms.insert(&storm.subject.name, alert.ends || storm.ended.is_some());
            }
        }
        // A follower keeps an end to itself: the leader said it.
        if leads_always {
            let open: Vec<_> = storms.iter().filter(|(_, is_over)| !**is_over).map(|(id, _)| *id).collect();
            prop_assert!(open.is_empty(), "never told as over: {:?} {:?}", open, steps);
        }
        for (number, alert) in stage.told.iter().enumerate() {
            let hour = stage.told[number..].iter().filter(|other| other.at.since(alert.at) < HOUR).count();
            prop_assert!(hour <= 200, "{hour} alerts within an hour");
        }
    });
}

#[test]
fn an_id_is_one_alert() {
    proptest!(config(200), |(steps in prop::collection::vec(any_step(), 0..60))| {
        let stage = play(&steps, false);
        let ids: BTreeSet<&String> = stage.told.iter().map(|alert| &alert.id).collect();
        prop_assert_eq!(ids.len(), stage.told.len(), "{:?}", steps);
    });
}

#[test]
fn the_same_news_gives_the_same_bytes() {
    proptest!(config(60), |(steps in prop::collection::vec(any_step(), 0..60))| {
        let bytes = |stage: &Stage| serde_json::to_string(&stage.told).expect("JSON");
        prop_assert_eq!(bytes(&play(&steps, true)), bytes(&play(&steps, true)));
    });
}

#[test]
fn a_clock_that_is_set_back_delays_no_message_by_an_hour() {
    let mut stage = Stage::new();
    stage.begin("web", Cause::Mount);
    stage.pass(5 * SEC);
    let expected = stage.now;
    stage.now = expected.minus(HOUR);
    stage.refreshed_at = stage.now;
    stage.desk.step(ClockStep { expected, said: stage.now });
    stage.pass(MIN);
    assert_eq!(stage.told.len(), 1, "{:#?}", stage.told);
}

#[test]
fn a_manager_that_is_demoted_says_nothing_more_of_services() {
    let mut stage = Stage::new();
    stage.begin("web", Cause::Mount);
    let mut container = stage.storm("cache", Cause::Mount);
    container.subject.kind = SubjectKind::Container;
    stage.begin_as(container);
    assert_eq!(stage.pass(MIN).len(), 1);
    stage.desk.hear(stage.now, News::SeesServices(false));
    stage.storms.remove("web");
    let later = stage.pass(48 * HOUR);
    assert!(!later.is_empty(), "the container's storm goes on");
    for alert in &later {
        let names: Vec<&str> = alert.storms.iter().map(|storm| storm.subject.name.as_str()).collect();
        assert_eq!(names, ["cache"], "{}", alert.title);
        assert!(!alert.ends, "{}", alert.title);
    }
    // What was on its way to the desk.
    let late = stage.storm("late", Cause::Mount);
    stage.begin_as(late);
    assert_eq!(stage.pass(MIN), []);
}
