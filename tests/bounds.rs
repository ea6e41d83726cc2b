//! State stays bounded: a million subjects, most of them calm, and what storms among them is never forgotten.

use std::collections::BTreeSet;
use std::process::Command;

use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, read_line};
use squall::model::{
    ContainerAction, ContainerFact, ContainerOrigin, Fact, Observation, Owner, StormState, SubjectKind, TaskFact,
    TaskState, Timestamp,
};

/// 2026-11-21T08:00:00Z.
const BASE_SECS: i64 = 1_795_248_000;
/// Subjects that come and go.
const SUBJECTS: u64 = 1_000_000;
/// Attempts that are never seen to end.
const UNDER_WAY: u64 = 600_000;
/// How much 100,000 subjects may cost: 2 KiB each, and what the allocator keeps of what they were made from.
const GROWTH_MAX_MIB: u64 = 220;
/// The storms among them.
const STORMS: u64 = 20;

/// Set in the process that runs a single test.
const ALONE: &str = "SQUALL_TESTS_BOUNDS_ALONE";

/// Runs a test in a process of its own, as it measures that process's memory.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let program = std::env::current_exe().expect("a test knows its program");
    let output = Command::new(program).args(["--exact", name]).env(ALONE, "1").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_nanos(BASE_SECS * 1_000_000_000 + millis * 1_000_000)
}

/// A number that looks like chance, the same at every run.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Makes observations quickly: the first of a kind is read from what Docker writes, the others are made like it.
struct Maker {
    task: TaskFact<'static>,
}

impl Maker {
    fn new() -> Self {
        let line = r#"{"ID":"t","Version":{"Index":1},"CreatedAt":"2026-11-21T08:00:00Z","UpdatedAt":"2026-11-21T08:00:00Z","Spec":{"ContainerSpec":{"Image":"a:1"}},"ServiceID":"s","Slot":1,"NodeID":"n","Status":{"Timestamp":"2026-11-21T08:00:00Z","State":"running"},"DesiredState":"running"}"#;
        let Reading::Observation(Observation { fact: Fact::Task(task), .. }) = read_line(line, 0) else {
            panic!("a task is read as one")
        };
        Self { task: *task }
    }

    /// A task of service `service`, attempt `attempt`.
    fn task(&self, detector: &mut Detector, service: u64, attempt: u64, millis: i64, state: TaskState) {
        let at = time(millis);
        let desired = if state == TaskState::Running { TaskState::Running } else { TaskState::Shutdown };
        let error = if state == TaskState::Failed { "task: non-zero exit (1)" } else { "" };
        let fact = TaskFact {
            id: format!("t{service:012}{attempt:012}").into(),
            version: 1000 + u64::try_from(millis).expect("not negative"),
            created: time(millis - 900),
            service_id: format!("s{service:024}").into(),
            node_id: format!("n{:024}", service % 50).into(),
            state,
            desired,
            status_at: at,
            error: error.into(),
            image: format!("registry.example:5000/team/service-{service}:1").into(),
            ..self.task.clone()
        };
        detector.observe(&Observation { at, origin: 0, fact: Fact::Task(Box::new(fact)) });
    }
}

/// A container of its own name is made, starts and dies.
fn container(detector: &mut Detector, subject: u64, millis: i64) {
    for action in [ContainerAction::Create, ContainerAction::Start, ContainerAction::Die { exit_code: Some(1) }] {
        container_event(detector, &format!("job-{subject}"), subject, action, millis);
    }
}

fn container_event(detector: &mut Detector, name: &str, id: u64, action: ContainerAction, millis: i64) {
    let owner = Owner { name: name.to_owned().into(), ..Owner::default() };
    let fact = ContainerFact {
        id: format!("{id:064x}").into(),
        action,
        task_id: "".into(),
        origin: ContainerOrigin::Read(Box::new((owner, "a:1".into()))),
    };
    detector.observe(&Observation { at: time(millis), origin: 0, fact: Fact::Container(fact) });
}

/// The storms of services 0 to `STORMS`, which fail every few seconds throughout, among what `other` makes.
fn feed(detector: &mut Detector, rounds: u64, mut other: impl FnMut(&mut Detector, &Maker, u64, i64)) {
    let maker = Maker::new();
    let every = rounds / 1000;
    for round in 0..rounds {
        let millis = i64::try_from(round).expect("small") * 5;
        other(detector, &maker, round, millis);
        if round % every == 0 {
            for service in 0..STORMS {
                maker.task(detector, service, round / every, millis, TaskState::Failed);
            }
        }
    }
}

fn assert_storms(detector: &mut Detector, rounds: u64) {
    let end = time(i64::try_from(rounds).expect("small") * 5);
    detector.finish(end);
    let storms = detector.storms();
    let storming: BTreeSet<String> = storms
        .iter()
        .filter(|storm| storm.state == StormState::Ongoing)
        .map(|storm| storm.subject.id.clone())
        .collect();
    let expected: BTreeSet<String> = (0..STORMS).map(|service| format!("s{service:024}")).collect();
    assert_eq!(storming, expected, "what storms is never dropped");
    for storm in &storms {
        assert_eq!((storm.failed, storm.attempts), (1000, 1000), "{}", storm.subject.id);
    }
}

#[test]
fn a_million_services_stay_within_the_cap() {
    alone("a_million_services_stay_within_the_cap", || {
        let before = resident_mib();
        let settings = Settings::default();
        let cap = u64::try_from(settings.subjects_max).expect("small");
        let mut detector = Detector::new(settings);
        let mut most = 0;
        feed(&mut detector, SUBJECTS, |detector, maker, round, millis| {
            // Mostly new services; some fail once or twice, some come again.
            let service = STORMS + if round % 7 == 0 { mix(round) % (round + 1) } else { round };
            let state = match mix(round) % 4 {
                0 => TaskState::Failed,
                1 => TaskState::Complete,
                _ => TaskState::Running,
            };
            maker.task(detector, service, round, millis, state);
            if round % 10_000 == 0 {
                assert!(detector.counters().subjects <= cap, "{:?}", detector.counters());
                detector.drain().for_each(drop);
                most = most.max(resident_mib());
            }
        });
        let grown = most.max(resident_mib()) - before;
        let counters = detector.counters();
        assert!(counters.subjects <= cap && counters.subjects > cap / 2, "{counters:?}");
        assert!(counters.subjects_forgotten > SUBJECTS / 2, "{counters:?}");
        assert!(grown <= GROWTH_MAX_MIB, "{grown} MiB for {} subjects", counters.subjects);
        assert_storms(&mut detector, SUBJECTS);
    });
}

#[test]
fn a_million_containers_stay_within_the_cap() {
    alone("a_million_containers_stay_within_the_cap", || {
        let before = resident_mib();
        let settings = Settings::default();
        let cap = u64::try_from(settings.subjects_max).expect("small");
        let mut detector = Detector::new(settings);
        let mut most = 0;
        feed(&mut detector, SUBJECTS, |detector, _, round, millis| {
            container(detector, round, millis);
            if round % 10_000 == 0 {
                assert!(detector.counters().subjects <= cap, "{:?}", detector.counters());
                detector.drain().for_each(drop);
                most = most.max(resident_mib());
            }
        });
        let grown = most.max(resident_mib()) - before;
        let counters = detector.counters();
        assert!(counters.subjects <= cap, "{counters:?}");
        assert!(counters.subjects_forgotten + counters.containers_forgotten > SUBJECTS / 2, "{counters:?}");
        assert!(grown <= GROWTH_MAX_MIB, "{grown} MiB");
        assert_storms(&mut detector, SUBJECTS);
    });
}

/// A host that runs its jobs in containers of ever new names needs no more room on its hundredth day.
#[test]
fn containers_that_came_and_went_are_forgotten_and_no_others() {
    use ContainerAction::{Create, Destroy, Start};
    let died = |exit_code| ContainerAction::Die { exit_code: Some(exit_code) };
    let mut detector = Detector::new(Settings::default());
    // One runs on, one has failed once and is gone.
    for action in [Create, Start] {
        container_event(&mut detector, "runs", 1_000_000, action, 0);
    }
    for (step, action) in [Create, Start, died(1), Start, died(0), Destroy].into_iter().enumerate() {
        container_event(&mut detector, "failed", 1_000_001, action, i64::try_from(step).expect("small") * 100);
    }
    for turn in 0..5000_u64 {
        let millis = i64::try_from(turn).expect("small") * 1000;
        for (step, action) in [Create, Start, died(0), Destroy].into_iter().enumerate() {
            let millis = millis + i64::try_from(step).expect("small") * 100;
            container_event(&mut detector, &format!("job-{turn}"), turn, action, millis);
        }
    }
    let counters = detector.counters();
    assert!((600..700).contains(&counters.subjects), "those of ten minutes: {counters:?}");
    assert_eq!((counters.subjects_forgotten, counters.containers_forgotten), (0, 0), "no cap was reached");
    assert_eq!(detector.failures_since(SubjectKind::Container, "failed", time(0)), 1);
    for turn in 0..8 {
        let millis = 5_000_000 + turn * 2000;
        container_event(&mut detector, "runs", 1_000_000, died(1), millis);
        container_event(&mut detector, "runs", 1_000_000, Start, millis + 100);
    }
    detector.finish(time(5_020_000));
    let storms: Vec<String> = detector.storms().into_iter().map(|storm| storm.subject.name).collect();
    assert_eq!(storms, ["runs"]);
    detector.advance(time(5 * 3_600_000 + 60_000));
    assert_eq!(detector.counters().subjects, 1, "what has failed is forgotten when its quota is whole");
    assert_eq!(detector.failures_since(SubjectKind::Container, "failed", time(0)), 0);
}

#[test]
fn a_million_attempts_under_way_stay_within_the_cap() {
    alone("a_million_attempts_under_way_stay_within_the_cap", || {
        let before = resident_mib();
        let mut detector = Detector::new(Settings::default());
        let mut most = 0;
        // Tasks of a few services that are never seen to end: a stream whose ends are lost.
        feed(&mut detector, UNDER_WAY, |detector, maker, round, millis| {
            maker.task(detector, STORMS + round % 1000, round, millis, TaskState::Running);
            if round % 10_000 == 0 {
                detector.drain().for_each(drop);
                most = most.max(resident_mib());
            }
        });
        let grown = most.max(resident_mib()) - before;
        assert!(grown <= GROWTH_MAX_MIB, "{grown} MiB");
        assert!(detector.counters().attempts_forgotten > UNDER_WAY / 10, "{:?}", detector.counters());
        assert_storms(&mut detector, UNDER_WAY);
    });
}

#[test]
fn storms_beyond_half_the_cap_are_all_held() {
    alone("storms_beyond_half_the_cap_are_all_held", || {
        let before = resident_mib();
        let settings = Settings { subjects_max: 20_000, ..Settings::default() };
        let mut detector = Detector::new(settings);
        let maker = Maker::new();
        for attempt in 0..8 {
            for service in 0..10_000 {
                let millis = i64::try_from(attempt * 10_000 + service).expect("small");
                maker.task(&mut detector, service, attempt, millis, TaskState::Failed);
            }
            detector.drain().for_each(drop);
        }
        let grown = resident_mib() - before;
        detector.finish(time(80_000));
        assert_eq!(detector.storms().len(), 10_000);
        assert!(grown <= GROWTH_MAX_MIB, "{grown} MiB for 10,000 storms");
    });
}

#[test]
fn notices_that_nobody_takes_are_dropped_and_counted() {
    alone("notices_that_nobody_takes_are_dropped_and_counted", || {
        let mut detector = Detector::new(Settings::default());
        let maker = Maker::new();
        // Each of 60,000 services storms once: an onset and an end.
        for service in 0..60_000_u64 {
            for attempt in 0..7 {
                let millis = i64::try_from(service * 20 + attempt).expect("small");
                maker.task(&mut detector, service, attempt, millis, TaskState::Failed);
            }
        }
        detector.advance(time(10_000_000));
        let counters = detector.counters();
        let drained = detector.drain().count() as u64;
        assert!(counters.notices_dropped > 0, "{counters:?}");
        assert_eq!(drained + counters.notices_dropped, 120_000);
    });
}

#[test]
fn one_subject_of_a_million_attempts_costs_no_more_than_one_of_a_thousand() {
    alone("one_subject_of_a_million_attempts_costs_no_more_than_one_of_a_thousand", || {
        let mut detector = Detector::new(Settings::default());
        let maker = Maker::new();
        let mut at_first = 0;
        for attempt in 0..300_000_u64 {
            maker.task(&mut detector, 1, attempt, i64::try_from(attempt).expect("small") * 1000, TaskState::Failed);
            if attempt == 100_000 {
                at_first = resident_mib();
            }
        }
        let grown = resident_mib().saturating_sub(at_first);
        assert!(grown <= 16, "{grown} MiB more after 200,000 further attempts");
        detector.finish(time(300_000_000));
        let storm = &detector.storms()[0];
        assert_eq!((storm.failed, storm.attempts), (300_000, 300_000));
    });
}
