//! The one list of cases: whatever the detector and the responder say, in whatever order, a case goes the way that is
//! drawn, keeps its id, and is over once.

#[path = "support/status.rs"]
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use squall::model::{
    Author, Case, CaseKey, Cause, Hold, HoldChange, HoldEnd, Labels, Phase, Quarantine, Refusal, Response, Step, Storm,
    StormState, Timestamp, Transition,
};
use squall::situation::{Input, Situation};

const HOLD_DOWN: Duration = Duration::from_secs(60);

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_795_248_000).plus(Duration::from_secs(secs))
}

fn storm(now: Timestamp, name: &str, cause: Cause) -> Storm {
    let id = format!("{:016x}", squall::model::fnv_64([name.as_bytes(), &now.as_nanos().to_be_bytes()]));
    Storm { id, onset: now, detected: now, ..status::storm(now, name, cause, 6, 60.0, 0) }
}

fn held(now: Timestamp, storm: &Storm, phase: Phase, tries: u32) -> Input {
    let hold = Hold { response: Response::Backoff, by: Author::Breaker, since: now, until: None, tries };
    let (subject, cause) = (storm.subject.clone(), storm.cause);
    Input::Hold(HoldChange::Held(Box::new(Quarantine {
        subject,
        storm: storm.id.clone(),
        cause,
        image: String::new(),
        phase,
        hold,
    })))
}

fn ended(storm: &Storm, end: HoldEnd) -> Input {
    Input::Hold(HoldChange::Ended(storm.subject.clone(), end))
}

fn calm(now: Timestamp, storm: &Storm) -> Input {
    Input::Calm(Arc::new(Storm { state: StormState::Subsided, ended: Some(now), ..storm.clone() }))
}

/// A situation and what it said.
struct Stage {
    situation: Situation,
    said: Vec<Transition>,
}

impl Stage {
    fn new() -> Self {
        Self { situation: Situation::new(HOLD_DOWN), said: Vec::new() }
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        self.situation.take(now, input, &Labels::new());
        self.said.extend(self.situation.drain());
    }

    fn advance(&mut self, now: Timestamp) {
        self.situation.advance(now);
        self.said.extend(self.situation.drain());
    }

    fn steps(&self) -> Vec<Step> {
        self.said.iter().map(|transition| transition.step).filter(|step| *step != Step::Updated).collect()
    }

    fn phase(&self) -> Option<Phase> {
        self.situation.cases().next().map(|case| case.phase)
    }
}

#[test]
fn a_held_service_that_fails_no_more_is_not_over_until_it_has_come_back() {
    let mut stage = Stage::new();
    let first = storm(at(0), "web", Cause::Mount);
    stage.take(at(0), Input::Storm(Arc::new(first.clone())));
    stage.take(at(1), held(at(1), &first, Phase::Held, 0));
    stage.take(at(61), calm(at(1), &first));
    assert_eq!(stage.phase(), Some(Phase::Held), "it fails no more because squall holds it");
    let shown = Arc::clone(&stage.situation.cases().next().expect("a case").storm);
    assert_eq!((shown.state, shown.ended), (StormState::Quarantined, None), "Alertmanager would take it for resolved");
    for tries in 1..=3 {
        stage.take(at(100), held(at(1), &first, Phase::Probation, tries - 1));
        // To the detector each failed attempt may look like the onset of another storm.
        stage.take(at(101), Input::Storm(Arc::new(storm(at(101), "web", Cause::Mount))));
        stage.take(at(102), held(at(1), &first, Phase::Held, tries));
    }
    stage.take(at(200), held(at(1), &first, Phase::Probation, 3));
    stage.take(at(260), held(at(1), &first, Phase::Returning, 3));
    stage.take(at(270), ended(&first, HoldEnd::Returned));
    use Step::{AttemptFailed, Began, Held, Over, Returning, Tried};
    let failed = [Tried, AttemptFailed];
    assert_eq!(stage.steps(), [&[Began, Held][..], &failed, &failed, &failed, &[Tried, Returning, Over]].concat());
    assert!(stage.said.iter().all(|transition| transition.case.id == first.id), "one case, one id");
    assert_eq!(stage.phase(), None);
}

#[test]
fn what_was_let_go_is_over_after_the_hold_down_and_storms_again_if_it_still_fails() {
    for still_fails in [false, true] {
        let mut stage = Stage::new();
        let first = storm(at(0), "web", Cause::Mount);
        stage.take(at(0), Input::Storm(Arc::new(first.clone())));
        stage.take(at(1), held(at(1), &first, Phase::Held, 0));
        stage.take(at(20), ended(&first, HoldEnd::LetGo("its replicas were changed: 0 to 3".to_owned())));
        if still_fails {
            stage.take(at(20), Input::Storm(Arc::new(first.clone())));
        }
        stage.advance(at(79));
        assert_eq!(stage.phase(), Some(Phase::LetGo));
        assert_eq!(stage.situation.next_deadline(), Some(at(80)));
        stage.advance(at(80));
        let last = if still_fails { Step::Resumed } else { Step::Over };
        assert_eq!(stage.steps(), [Step::Began, Step::Held, Step::LetGo, last]);
    }
}

#[test]
fn a_held_service_that_is_removed_is_over_and_says_why() {
    let mut stage = Stage::new();
    let first = storm(at(0), "web", Cause::Mount);
    stage.take(at(0), Input::Storm(Arc::new(first.clone())));
    stage.take(at(1), held(at(1), &first, Phase::Held, 0));
    stage.take(at(2), ended(&first, HoldEnd::Gone));
    let last = stage.said.last().expect("it is over");
    assert_eq!((last.step, &*last.case.why), (Step::Over, "it was removed"));
}

#[test]
fn a_quarantine_that_was_there_at_the_start_is_a_case_with_the_id_on_its_service() {
    let mut stage = Stage::new();
    let first = storm(at(0), "web", Cause::Mount);
    stage.take(at(500), held(at(1), &first, Phase::Held, 4));
    let case = stage.situation.cases().next().expect("a case");
    assert_eq!((case.phase, &case.id), (Phase::Held, &first.id));
    assert_eq!(case.answer(), "squall holds it (backoff); 4 watched attempts failed");
}

#[test]
fn a_case_whose_subject_learns_its_name_goes_on_under_it() {
    let mut stage = Stage::new();
    let named = storm(at(0), "web", Cause::Mount);
    let mut unnamed = named.clone();
    unnamed.subject.name.clone_from(&unnamed.subject.id);
    stage.take(at(0), Input::Storm(Arc::new(unnamed)));
    stage.take(at(1), Input::Storm(Arc::new(named.clone())));
    stage.take(at(90), calm(at(30), &named));
    assert_eq!(stage.steps(), [Step::Began, Step::Over]);
}

#[test]
fn why_it_is_not_held_is_kept_until_it_is_held() {
    let mut stage = Stage::new();
    let first = storm(at(0), "web", Cause::Mount);
    stage.take(at(0), Input::Storm(Arc::new(first.clone())));
    let (subject, response) = (first.subject.clone(), Response::Backoff);
    stage.take(at(1), Input::Refused { subject, refusal: Refusal::NotEnforced, response });
    let answer = |stage: &Stage| stage.situation.cases().next().expect("a case").answer();
    assert_eq!(answer(&stage), "squall would have held it (backoff)");
    stage.take(at(2), held(at(2), &first, Phase::Held, 0));
    assert_eq!(answer(&stage), "squall holds it (backoff)");
}

#[derive(Clone, Debug)]
enum Event {
    Storm(usize, usize),
    Calm(usize),
    Held(usize, usize, u32),
    Ended(usize, usize),
    Refused(usize),
    Pass(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let name = || 0_usize..4;
    prop_oneof![
        4 => (name(), 0_usize..3).prop_map(|(name, cause)| Event::Storm(name, cause)),
        3 => name().prop_map(Event::Calm),
        4 => (name(), 0_usize..3, 0_u32..4).prop_map(|(name, phase, tries)| Event::Held(name, phase, tries)),
        2 => (name(), 0_usize..3).prop_map(|(name, end)| Event::Ended(name, end)),
        1 => name().prop_map(Event::Refused),
        4 => (1_u64..90).prop_map(Event::Pass),
    ]
}

/// Where the transitions lead; each has to begin where the one before it has ended.
fn fold(said: &[Transition]) -> Result<BTreeMap<CaseKey, Arc<Case>>, TestCaseError> {
    let mut cases: BTreeMap<CaseKey, Arc<Case>> = BTreeMap::new();
    for transition in said {
        let (case, key) = (&transition.case, transition.case.key());
        let known = cases.remove(&key);
        prop_assert_eq!(known.as_ref(), transition.before.as_ref(), "a transition that nobody was told of");
        prop_assert_eq!(known.is_none(), transition.step == Step::Began);
        if let Some(known) = known.filter(|_| !case.phase.is_held()) {
            prop_assert_eq!(&known.id, &case.id);
        }
        prop_assert_eq!(case.phase == Phase::Over, transition.step == Step::Over);
        prop_assert!(case.phase.is_held() <= case.hold.is_some());
        if case.phase != Phase::Over {
            cases.insert(key, Arc::clone(case));
        }
    }
    Ok(cases)
}

/// The debug assertions of the situation hold on the way: phases change as drawn.
#[test]
fn whatever_is_found_each_case_goes_the_drawn_way_and_its_transitions_say_all_of_it() {
    const CAUSES: [Cause; 3] = [Cause::Mount, Cause::AppExit, Cause::RegistryQuota];
    const PHASES: [Phase; 3] = [Phase::Held, Phase::Probation, Phase::Returning];
    let config = Config { cases: 500, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Config::default() };
    proptest!(config, |(events in prop::collection::vec(any_event(), 0..60))| {
        let mut stage = Stage::new();
        let mut now = 0;
        let mut last: BTreeMap<usize, Storm> = BTreeMap::new();
        for event in &events {
            let mut known = |name: usize| {
                last.entry(name).or_insert_with(|| storm(at(now), &format!("s{name}"), Cause::Mount)).clone()
            };
            match *event {
                Event::Storm(name, cause) => {
                    let storm = Storm { cause: CAUSES[cause], ..known(name) };
                    last.insert(name, storm.clone());
                    stage.take(at(now), Input::Storm(Arc::new(storm)));
                }
                Event::Calm(name) => {
                    stage.take(at(now), calm(at(now), &known(name)));
                    last.remove(&name);
                }
                Event::Held(name, phase, tries) => {
                    stage.take(at(now), held(at(now), &known(name), PHASES[phase], tries));
                }
                Event::Ended(name, end) => {
                    let end = [HoldEnd::Returned, HoldEnd::LetGo("it was changed".to_owned()), HoldEnd::Gone][end].clone();
                    stage.take(at(now), ended(&known(name), end));
                }
                Event::Refused(name) => {
                    let subject = known(name).subject;
                    let (refusal, response) = (Refusal::HealthyReplica, Response::Pause);
                    stage.take(at(now), Input::Refused { subject, refusal, response });
                }
                Event::Pass(secs) => {
                    now += secs;
                    stage.advance(at(now));
                }
            }
        }
        let told = fold(&stage.said)?;
        let is: BTreeMap<CaseKey, Arc<Case>> = stage.situation.cases().map(|case| (case.key(), Arc::clone(case))).collect();
        prop_assert_eq!(told, is);
        // All that was let go is over or storms again in the end.
        stage.advance(at(now + 61));
        prop_assert!(stage.situation.cases().all(|case| case.phase != Phase::LetGo));
    });
}

// What went on when the process before this one ended.

#[test]
fn a_storm_that_is_found_again_after_a_restart_goes_on_under_its_id_and_from_its_onset() {
    let mut stage = Stage::new();
    let before = storm(at(0), "web", Cause::Mount);
    stage.situation.recall([before.clone()]);
    // The first word of it may be that somebody has changed its quarantine.
    stage.take(at(100), ended(&before, HoldEnd::LetGo("deployed anew".to_owned())));
    let found = Storm { exact: false, ..storm(at(90), "web", Cause::Mount) };
    stage.take(at(101), Input::Storm(Arc::new(found)));
    let case = stage.situation.cases().next().expect("a case");
    assert_eq!((&case.id, case.storm.onset, case.storm.exact), (&before.id, at(0), false));
}

#[test]
fn a_storm_whose_beginning_was_seen_after_a_restart_is_another() {
    let mut stage = Stage::new();
    let before = storm(at(0), "web", Cause::Mount);
    stage.situation.recall([before.clone()]);
    let other = Storm { exact: true, ..storm(at(1000), "web", Cause::Mount) };
    stage.take(at(1010), Input::Storm(Arc::new(other.clone())));
    let case = stage.situation.cases().next().expect("a case");
    assert_eq!((&case.id, case.storm.onset), (&other.id, at(1000)));
}

#[test]
fn a_storm_that_is_not_found_again_is_forgotten_two_minutes_after_the_listing() {
    let mut stage = Stage::new();
    let before = storm(at(0), "web", Cause::Mount);
    stage.situation.recall([before]);
    stage.situation.listed(at(100));
    stage.advance(at(219));
    assert_eq!(stage.situation.recalled().count(), 1);
    stage.advance(at(220));
    assert_eq!(stage.situation.recalled().count(), 0);
    assert!(stage.situation.take_lapse() && !stage.situation.take_lapse());
}
