//! The evidence of a storm: failures of one slot, of one specification, under one name; and how sure it is.

#[path = "support/scenario.rs"]
mod scenario;

use std::collections::BTreeMap;

use scenario::{
    HOUR, MIN, SEC, SWARM3_FILES, Scenario, Service, TASK_VIEWS, VIEWS, View, check, check_calm, check_calm_in,
    check_in, moment, swarm3_file,
};
use serde_json::{Value, json};
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, Recording, Source, read_line};
use squall::model::{Cause, FindingKind, Notice, Storm, StormState, Timestamp};

const BIND: &str = r#"invalid mount config for type "bind": bind source path does not exist: /data/x"#;

/// Each replica fails so often when it starts, and runs well from then on.
fn start_up(s: &mut Scenario, service: &Service, replicas: u64, failures: u64, from: i64) -> i64 {
    let mut end = from;
    for slot in 1..=replicas {
        let at = s.crash_loop(service, slot, from, failures, SEC, 1);
        s.run(service, slot, &format!("node{}", slot % 3 + 1), at);
        end = end.max(at);
    }
    end
}

// --- by slot -------------------------------------------------------------------------------------------

#[test]
fn six_replicas_that_fail_once_at_their_first_start_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(6);
    s.service(&web, 0);
    let at = start_up(&mut s, &web, 6, 1, 0);
    s.idle(at, at + 10 * MIN);
    check_calm(&s);
}

#[test]
fn replicas_that_fail_twice_until_their_database_is_up_are_calm() {
    for replicas in [3, 12] {
        let mut s = Scenario::new();
        let web = Service::new("web").replicas(replicas);
        s.service(&web, 0);
        let at = start_up(&mut s, &web, replicas, 2, 0);
        s.idle(at, at + 10 * MIN);
        check_calm(&s);
    }
}

#[test]
fn replicas_that_fail_once_at_one_moment_are_calm_though_their_log_lines_come_first() {
    let mut s = Scenario::new();
    s.run(&Service::new("other"), 1, "node1", -MIN);
    let web = Service::new("web").replicas(8);
    s.service(&web, 0);
    for slot in 1..=8 {
        let task = s.unlisted(&web, slot, "node1", 0);
        s.fatal(&task, 200, BIND);
        s.list_since(&task, 20 * SEC, 200, "rejected", "shutdown", BIND, None);
        s.run(&web, slot, "node1", 5 * SEC);
    }
    s.idle(20 * SEC, 5 * MIN);
    check_calm_in(&s, &[View::All]);
    assert_eq!(s.live(View::All).storm_lines(), [""; 0]);
}

#[test]
fn failures_whose_slots_are_not_listed_yet_are_a_storm_if_one_slot_must_keep_failing() {
    for (replicas, failures) in [(1_u64, 6_u64), (3, 7), (5, 11)] {
        let mut s = Scenario::new();
        s.run(&Service::new("other"), 1, "node1", -MIN);
        let web = Service::new("web").replicas(replicas);
        s.service(&web, 0);
        let mut at = 0;
        for number in 0..failures {
            let task = s.unlisted(&web, number % replicas + 1, "node1", at);
            s.fatal(&task, at + 200, BIND);
            at += SEC / 2;
        }
        s.idle(MIN, 10 * MIN);
        let storms = s.replay(View::All).storms;
        let after: Vec<u64> = storms.iter().map(|storm| storm.detected_after_failures).collect();
        assert_eq!(after, [failures], "{replicas} replicas");
    }
}

#[test]
fn slots_that_failed_before_a_service_was_scaled_down_are_no_evidence_of_fewer_that_keep_failing() {
    let mut s = Scenario::new();
    let wide = Service::new("web").replicas(12);
    s.service(&wide, 0);
    start_up(&mut s, &wide, 12, 2, 0);
    let narrow = Service::new("web").replicas(3);
    s.service(&narrow, 10 * SEC);
    let task = s.unlisted(&narrow, 1, "node1", 11 * SEC);
    s.fatal(&task, 11 * SEC + 200, BIND);
    s.idle(30 * SEC, 10 * MIN);
    check_calm_in(&s, &[View::All]);
}

#[test]
fn ten_new_tasks_that_fail_once_and_are_rolled_back_are_calm() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(10);
    s.service(&web, 0);
    let tasks: Vec<_> = (1..=10).map(|slot| s.run(&web, slot, "node1", 0)).collect();
    let bad = web.deployed(2);
    s.order(&bad, MIN, "update", &[("image.new", "shop/web:2"), ("image.old", "shop/web:1")]);
    for task in &tasks {
        s.stop(task, MIN, 143, "shutdown");
        s.crash(&bad, task.slot, "node2", MIN + SEC, SEC, 1);
    }
    let at = MIN + 10 * SEC;
    s.order(&web, at, "update", &[("updatestate.new", "rollback_started"), ("updatestate.old", "updating")]);
    for slot in 1..=10 {
        s.run(&web, slot, "node1", at);
    }
    s.idle(at, at + 10 * MIN);
    check_calm(&s);
}

#[test]
fn five_hundred_services_that_fail_twice_after_power_came_back_are_calm() {
    let mut s = Scenario::new();
    for number in 0..500 {
        let service = Service::new(&format!("svc{number}")).replicas(3);
        s.service(&service, 0);
        start_up(&mut s, &service, 3, 2, number % 7 * SEC);
    }
    s.idle(MIN, 10 * MIN);
    check_calm_in(&s, &TASK_VIEWS);
}

#[test]
fn a_program_that_ends_well_every_hour_is_calm() {
    let mut s = Scenario::new();
    let backup = Service::new("backup");
    s.service(&backup, 0);
    let at = s.crash_loop(&backup, 1, 0, 120, HOUR, 0);
    s.idle(at, at + 5 * MIN);
    check_calm(&s);
}

#[test]
fn one_slot_of_twenty_that_fails_is_a_storm_that_names_it() {
    let mut s = Scenario::new();
    let web = Service::new("web").replicas(20);
    s.service(&web, 0);
    for slot in (1..=20).filter(|slot| *slot != 7) {
        s.run(&web, slot, "node1", 0);
    }
    let mut at = 0;
    for _ in 0..20 {
        at = s.crash(&web, 7, "node2", at, SEC, 1);
    }
    for view in VIEWS {
        let storm = &s.replay(view).storms[0];
        assert_eq!((storm.slots.as_slice(), storm.nodes.len()), (&[7][..], 1), "{view:?}");
        assert_eq!(storm.detected_after_failures, 6, "{view:?}");
    }
    let storm = &s.replay(View::All).storms[0];
    assert_eq!(storm.slots_in_words().as_deref(), Some("slot 7 of 20 fails, on node2"));
}

#[test]
fn slots_that_all_fail_are_a_storm_when_one_of_them_has_failed_for_the_third_time() {
    for replicas in [2_u64, 4, 10] {
        let mut s = Scenario::new();
        let web = Service::new("web").replicas(replicas);
        s.service(&web, 0);
        for slot in 1..=replicas {
            s.crash_loop(&web, slot, 0, 12, SEC, 1);
        }
        for view in VIEWS {
            let verdict = s.replay(view);
            assert_eq!(verdict.storms.len(), 1, "{view:?}: {:?}", verdict.notice_lines());
            let storm = &verdict.storms[0];
            let after = storm.detected_after_failures;
            assert!((6..=3 * replicas).contains(&after), "{replicas} replicas, {view:?}: after {after}");
            assert_eq!(storm.slots_in_words(), None, "{view:?}: all of them fail");
        }
    }
}

// --- by name -------------------------------------------------------------------------------------------

/// A service that is made, fails three times and is removed, every 15 s; each has its own id.
fn made_again(s: &mut Scenario, generations: i64) -> Service {
    let mut service = Service::new("ci_test").delay(SEC);
    for generation in 0..generations {
        let at = generation * 15 * SEC;
        service = Service { id: format!("{:0<25}", format!("gen{generation}x")), ..service };
        s.service(&service, at);
        s.crash_loop(&service, 1, at, 3, SEC, 1);
        s.order(&service, at + 10 * SEC, "remove", &[]);
    }
    service
}

fn moved_to(notice: &Notice) -> Option<&str> {
    match notice {
        Notice::Moved { storm, .. } => Some(&storm.subject.id),
        _ => None,
    }
}

#[test]
fn a_service_that_is_removed_and_made_again_under_its_name_is_one_storm() {
    let mut s = Scenario::new();
    let last = made_again(&mut s, 20);
    check(&s, &["ci_test: app-exit ongoing 60/60"]);
    for view in VIEWS {
        let verdict = s.replay(view);
        let moves: Vec<&str> = verdict.notices.iter().filter_map(|(_, notice)| moved_to(notice)).collect();
        assert_eq!(verdict.notices.len() - moves.len(), 1, "{view:?}: {:?}", verdict.notice_lines());
        // The third of the twenty, or the fourth, is the first that was made while its name stormed.
        assert!((17..=18).contains(&moves.len()), "{view:?}: {:?}", verdict.notice_lines());
        assert_eq!(moves.last(), Some(&&*last.id), "{view:?}");
        assert_eq!(verdict.storms[0].subject.id, last.id, "{view:?}");
        assert_eq!(verdict.storms[0].detected_after_failures, 6, "{view:?}");
    }
    s.idle(20 * 15 * SEC, 22 * 15 * SEC + MIN);
    check_in(&s, &VIEWS, &["ci_test: app-exit subsided 60/60"]);
}

/// At its start squall lists what is there, and then reads events of the hour before.
#[test]
fn events_of_a_removed_service_of_that_name_do_not_hide_the_one_that_is_there() {
    let now = Timestamp::parse("2026-11-20T20:00:00Z").expect("a time");
    let mut detector = Detector::new(Settings::default());
    let take = |detector: &mut Detector, object: Value| match read_line(&object.to_string(), 0) {
        Reading::Observation(observation) => detector.take(&observation),
        other => panic!("{other:?}"),
    };
    let service = json!({
        "ID": "now", "Version": {"Index": 9}, "CreatedAt": "2026-11-20T19:50:00Z", "UpdatedAt": "2026-11-20T19:50:00Z",
        "Spec": {"Name": "web", "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"ContainerSpec": {"Image": "shop/web:2"}, "ForceUpdate": 0}},
    });
    detector.begin_listing(now);
    take(&mut detector, service);
    detector.end_listing();
    for (action, time) in [("create", 1_795_203_000_i64), ("remove", 1_795_203_600)] {
        take(
            &mut detector,
            json!({"Type": "service", "Action": action, "scope": "swarm", "time": time,
            "timeNano": time * 1_000_000_000, "Actor": {"ID": "before", "Attributes": {"name": "web"}}}),
        );
    }
    detector.advance(now);
    for second in 0..8 {
        take(
            &mut detector,
            json!({"ID": format!("t{second}"), "ServiceID": "now", "Slot": 1,
            "Version": {"Index": 20 + second}, "CreatedAt": format!("2026-11-20T20:00:0{second}Z"),
            "Status": {"State": "rejected", "Err": BIND, "Timestamp": format!("2026-11-20T20:00:0{second}Z")},
            "DesiredState": "shutdown"}),
        );
    }
    detector.advance(now.plus(std::time::Duration::from_secs(30)));
    let storms: Vec<Storm> = detector.ongoing().collect();
    assert_eq!(storms.len(), 1, "{:?}", detector.storms());
    assert_eq!((&*storms[0].subject.name, &*storms[0].subject.id), ("web", "now"));
}

#[test]
fn services_made_again_that_cannot_pull_are_no_unrelated_services() {
    let error = "received unexpected HTTP status: 503 Service Temporarily Unavailable";
    let mut s = Scenario::new();
    for generation in 0..8 {
        let at = generation * 15 * SEC;
        let service = Service { id: format!("{:0<25}", format!("gen{generation}x")), ..Service::new("ci_test") };
        s.service(&service, at);
        for attempt in 0..3 {
            let at = at + attempt * 3 * SEC;
            let task = s.task(&service, 1, if attempt == 1 { "node2" } else { "node1" }, at);
            s.pull_failed(&task, at + 150, error);
            s.reject(&task, at + 200, "No such image: shop/ci_test:1");
        }
        s.order(&service, at + 10 * SEC, "remove", &[]);
    }
    let verdict = s.replay(View::All);
    assert_eq!(verdict.storm_lines(), ["ci_test: registry-error ongoing 24/24"], "{:?}", verdict.notice_lines());
    assert_eq!(verdict.findings, []);
}

#[test]
fn a_storm_goes_on_though_a_listing_comes_between_a_service_and_its_successor() {
    let mut s = Scenario::new();
    made_again(&mut s, 6);
    let mut detector = Detector::new(Settings::default());
    let mut next_listing = 0;
    s.observe(View::Tasks, |observation| {
        let now = observation.at;
        if now.as_nanos() >= next_listing {
            // Nothing is there when it is looked.
            next_listing = now.plus(std::time::Duration::from_secs(12)).as_nanos();
            detector.begin_listing(now);
            detector.end_listing();
        }
        detector.take(observation);
        detector.advance(now);
    });
    let last = detector.now();
    detector.finish(last);
    let storms = detector.storms();
    assert_eq!(storms.len(), 1, "{storms:#?}");
    assert_eq!((storms[0].failed, storms[0].state), (18, StormState::Ongoing));
    // It does not come back.
    let later = last.plus(std::time::Duration::from_secs(61));
    detector.begin_listing(later);
    detector.end_listing();
    assert_eq!(detector.storms()[0].state, StormState::Subsided);
    assert_eq!((detector.counters().subjects, detector.ongoing().count()), (0, 0));
}

// --- by specification ----------------------------------------------------------------------------------

#[test]
fn failures_of_the_specification_before_are_no_evidence_against_the_new_one() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 5, SEC, 1);
    let mended = web.deployed(2);
    s.order(&mended, at, "update", &[("image.new", "shop/web:2"), ("image.old", "shop/web:1")]);
    let at = s.crash_loop(&mended, 1, at, 3, SEC, 1);
    s.run(&mended, 1, "node1", at);
    s.idle(at, at + 10 * MIN);
    check_calm_in(&s, &TASK_VIEWS);
}

#[test]
fn a_new_specification_that_fails_too_is_a_storm_at_its_sixth_failure() {
    let mut s = Scenario::new();
    let web = Service::new("web").delay(SEC);
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 5, SEC, 1);
    s.crash_loop(&web.deployed(2), 1, at, 20, SEC, 1);
    check_in(&s, &TASK_VIEWS, &["web: app-exit ongoing 20/20"]);
}

#[test]
fn failures_before_a_long_healthy_run_are_no_evidence_after_it() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    let at = s.crash_loop(&web, 1, 0, 5, SEC, 1);
    let at = s.crash(&web, 1, "node1", at, 30 * MIN, 1);
    s.run(&web, 1, "node1", at);
    s.idle(at, at + 10 * MIN);
    check_calm(&s);
}

/// A slot's kept tasks: when each was made and how long it lived; the last one runs, where `runs_from` says since when.
fn kept(s: &mut Scenario, lives: &[(i64, i64, &Service)], running: Option<(i64, &Service)>) {
    let mut rest = Scenario::new();
    rest.task(&Service::new("other"), 1, "node1", 0);
    for (made, life, service) in lives {
        let task = rest.task(service, 1, "node1", *made);
        let ended = made + life;
        s.list_since(&task, ended, ended, "failed", "shutdown", "task: non-zero exit (1)", Some(1));
    }
    if let Some((since, service)) = running {
        let task = rest.task(service, 1, "node1", since);
        s.list_since(&task, since + SEC, since + SEC, "running", "running", "", Some(0));
    }
}

/// The storms that `audit` finds at `now`, from one listing.
fn audit(s: &Scenario, now: i64) -> Vec<Storm> {
    let mut detector = Detector::new(Settings::default());
    s.observe(View::Tasks, |observation| detector.take(observation));
    let now = moment(now);
    detector.advance(now);
    detector.judge_history(now);
    detector.storms()
}

#[test]
fn a_listing_after_a_mend_tells_no_storm_of_what_was_before() {
    let (web, mended) = (Service::new("web"), Service::new("web").deployed(2));
    let lives = [0, 7, 14, 21].map(|made| (made * SEC, 6 * SEC, &web));
    let mut s = Scenario::new();
    kept(&mut s, &lives, Some((28 * SEC, &mended)));
    assert_eq!(audit(&s, 40 * SEC), [], "the mended one runs");
    let mut s = Scenario::new();
    kept(&mut s, &lives, Some((28 * SEC, &web)));
    assert_eq!(audit(&s, 40 * SEC).len(), 1, "nothing was changed, and the next attempt runs for 12 s");
}

#[test]
fn a_listing_with_a_long_healthy_run_between_failures_tells_no_storm() {
    let web = Service::new("web");
    let mut s = Scenario::new();
    kept(
        &mut s,
        &[(0, 6 * SEC, &web), (7 * SEC, 6 * SEC, &web), (14 * SEC, 6 * SEC, &web), (21 * SEC, 10 * MIN, &web)],
        Some((10 * MIN + 22 * SEC, &web)),
    );
    assert_eq!(audit(&s, 10 * MIN + 40 * SEC), []);
}

#[test]
fn a_listing_of_a_service_that_is_scaled_to_zero_tells_no_storm() {
    let tell = |replicas| {
        let web = Service::new("web").replicas(replicas);
        let mut s = Scenario::new();
        s.service(&web, -HOUR);
        kept(&mut s, &[0, 7, 14, 21].map(|made| (made * SEC, 6 * SEC, &web)), None);
        audit(&s, 30 * SEC).len()
    };
    assert_eq!((tell(0), tell(1)), (0, 1), "storms of what is wanted no more, and of what is");
}

#[test]
fn a_listing_that_has_all_attempts_of_a_new_service_tells_no_more_than_they_prove() {
    let tell = |created| {
        let web = Service::new("web");
        let mut s = Scenario::new();
        s.service(&web, created);
        kept(&mut s, &[0, 7, 14, 21].map(|made| (made * SEC, 6 * SEC, &web)), None);
        audit(&s, 30 * SEC).len()
    };
    assert_eq!((tell(0), tell(-HOUR)), (0, 1), "four failures in all, and the last four of an hour");
}

#[test]
fn one_failure_after_a_gap_does_not_revive_a_storm_that_was_mended() {
    let mut s = Scenario::new();
    s.mended_loop(&Service::new("web"), 20 * MIN);
    let mut detector = Detector::new(Settings::default());
    s.observe(View::All, |observation| {
        detector.take(observation);
        detector.advance(observation.at);
    });
    let now = detector.now().plus(std::time::Duration::from_secs(5));
    detector.blind(now);
    detector.advance(now);
    detector.judge_history(now);
    let storms = detector.storms();
    assert_eq!(storms.len(), 1, "{storms:#?}");
    assert_eq!(storms[0].state, StormState::Subsided);
}

/// The storms that go on at the end of a recording of which all that was said before `from` is dropped, but for the
/// listing at that moment.
fn storms_from(files: &[(String, Vec<String>)], from: i64) -> BTreeMap<String, Cause> {
    let kept: Vec<(String, String)> = files
        .iter()
        .map(|(name, lines)| {
            let mut latest: BTreeMap<String, String> = BTreeMap::new();
            let mut text = String::new();
            for line in lines {
                let Reading::Observation(observation) = read_line(line, 0) else {
                    text += &format!("{line}\n");
                    continue;
                };
                let is_listed = name.starts_with("tasks");
                if observation.at.as_nanos() >= from || name.ends_with(".json") {
                    text += &format!("{line}\n");
                } else if is_listed {
                    let task: Value = serde_json::from_str(line).expect("a task is JSON");
                    latest.insert(task["ID"].to_string(), line.clone());
                }
            }
            let mut slots: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
            for line in latest.into_values() {
                let task: Value = serde_json::from_str(&line).expect("a task is JSON");
                let slot = format!(
                    "{} {} {}",
                    task["ServiceID"],
                    task["Slot"],
                    if task["Slot"].is_null() { &task["NodeID"] } else { &Value::Null }
                );
                slots.entry(slot).or_default().push((task["CreatedAt"].to_string(), line));
            }
            let mut listed = String::new();
            for tasks in slots.values_mut() {
                tasks.sort();
                tasks.iter().rev().take(5).for_each(|(_, line)| listed += &format!("{line}\n"));
            }
            (name.clone(), listed + &text)
        })
        .collect();
    let sources = kept.iter().map(|(name, text)| Source {
        name: name.clone(),
        origin: name.split('.').next().unwrap_or_default().to_owned(),
        input: text.as_bytes(),
    });
    let mut detector = Detector::new(Settings::default());
    Recording::new(sources.collect()).read(|observation| detector.observe(observation));
    let now = detector.now();
    detector.finish(now);
    detector.ongoing().map(|storm| (storm.subject.name, storm.cause)).collect()
}

#[test]
fn a_watch_that_begins_anywhere_finds_the_storms_of_one_that_saw_it_all() {
    let files: Vec<(String, Vec<String>)> = SWARM3_FILES
        .iter()
        .map(|name| {
            ((*name).trim_end_matches(".gz").to_owned(), swarm3_file(name).lines().map(str::to_owned).collect())
        })
        .collect();
    let times =
        files.iter().flat_map(|(name, lines)| lines.iter().filter(|_| name.contains("events"))).filter_map(|line| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["timeNano"].as_i64()
        });
    let times: Vec<i64> = times.collect();
    let (first, last) = (*times.iter().min().expect("events"), *times.iter().max().expect("events"));
    let all = storms_from(&files, i64::MIN);
    assert_eq!(all.len(), 11);
    // To the last 3 s: then a listing is all there is.
    for part in 1..=8 {
        let from = first + (last - 3_000_000_000 - first) / 8 * part;
        let found = storms_from(&files, from);
        assert_eq!(found.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>(), "from {part} eighths on");
    }
}

// --- what waits ----------------------------------------------------------------------------------------

#[test]
fn a_task_that_was_seen_once_and_pruned_does_not_wait() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    s.pending(&web, 1, 0, "");
    s.run(&web, 1, "node1", SEC);
    s.idle(SEC, 10 * MIN);
    check_calm_in(&s, &TASK_VIEWS);
}

#[test]
fn a_finding_has_words_though_swarm_gave_none() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    s.pending(&web, 1, 0, "");
    s.idle(SEC, 10 * MIN);
    let findings = s.replay(View::Tasks).findings;
    assert_eq!((findings[0].kind, &*findings[0].detail), (FindingKind::Pending, "no reason given by Swarm"));
}

// --- how sure it is ------------------------------------------------------------------------------------

#[test]
fn a_storm_known_from_five_kept_tasks_says_that_its_figures_are_bounds() {
    let web = Service::new("web");
    let mut s = Scenario::new();
    s.service(&web, -HOUR);
    kept(&mut s, &[0, 7, 14, 21].map(|made| (made * SEC, 6 * SEC, &web)), None);
    let storm = &audit(&s, 30 * SEC)[0];
    assert_eq!((storm.exact, &*storm.failed_in_words()), (false, ">= 4"));
    assert_eq!(storm.onset_in_words("08:00:06"), "before 08:00:06");
    assert_eq!(storm.updated.map(|at| at.to_string()).as_deref(), Some("2026-11-21T07:00:00Z"));
}

#[test]
fn a_storm_that_was_seen_from_its_beginning_has_exact_figures() {
    let mut s = Scenario::new();
    let (new, old) = (Service::new("new"), Service::new("old"));
    s.service(&new, 0);
    s.crash_loop(&new, 1, 0, 20, SEC, 1);
    s.service(&old, -HOUR);
    let at = s.crash(&old, 1, "node1", -HOUR, 58 * MIN, 1);
    s.crash_loop(&old, 1, at, 20, SEC, 1);
    for view in TASK_VIEWS {
        let exact: Vec<_> = s.replay(view).storms.iter().map(|storm| (storm.exact, storm.failed_in_words())).collect();
        assert_eq!(exact, [(true, "20".to_owned()), (true, "21".to_owned())], "{view:?}");
    }
    assert!(!s.replay(View::Events).storms[0].exact, "one node's events do not tell all attempts");
}

#[test]
fn a_gap_during_a_storm_makes_its_figures_bounds() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let mut detector = Detector::new(Settings::default());
    s.observe(View::All, |observation| detector.observe(observation));
    assert!(detector.storms()[0].exact);
    detector.blind(detector.now());
    assert!(!detector.storms()[0].exact);
}

#[test]
fn a_storms_id_is_made_of_its_name_and_the_second_of_its_first_attempt() {
    let ids = |id: &str| {
        let mut s = Scenario::new();
        let web = Service { id: format!("{id:0<25}"), ..Service::new("web") };
        s.service(&web, 0);
        s.crash_loop(&web, 1, 0, 20, SEC, 1);
        TASK_VIEWS.map(|view| s.replay(view).storms[0].id.clone())
    };
    let [all, tasks] = ids("a");
    assert_eq!(all, tasks);
    assert_eq!(ids("b"), [all, tasks], "another Swarm's id of the same service");
}

#[test]
fn a_pinned_image_that_is_present_is_not_said_to_be_asked_for() {
    let mut s = Scenario::new();
    let web = Service { image: format!("ghcr.io/shop/web:1@{}", scenario::DIGEST), ..Service::new("web") };
    s.service(&web, 0);
    s.event("node1", 100, "image", "pull", &web.image, &[("name", "ghcr.io/shop/web")]);
    s.crash_loop(&web, 1, 0, 20, SEC, 1);
    let storm = &s.replay(View::All).storms[0];
    assert!(storm.spend.is_some_and(|spend| spend.requests > 0 && spend.requests_per_min == 0.0), "{:?}", storm.spend);
    let cost = storm.cost();
    assert!(cost.starts_with("asks no registry now: ") && cost.ends_with(" requests to ghcr.io before"), "{cost}");
    let tagged = Storm { pinned: false, pulls: true, ..storm.clone() };
    assert!(tagged.cost().contains("requests/min"), "{}", tagged.cost());
}

#[test]
fn a_node_that_says_why_is_not_outvoted_by_two_that_do_not() {
    let mut s = Scenario::new();
    let web = Service::new("web");
    s.service(&web, 0);
    for attempt in 0..24 {
        let at = attempt * 5 * SEC;
        let task = s.task(&web, 1, &format!("node{}", attempt % 3 + 1), at);
        if attempt % 3 == 0 {
            s.pull_failed(&task, at + 150, "unauthorized: authentication required");
        }
        s.reject(&task, at + 200, "No such image: shop/web:1");
    }
    let storm = &s.replay(View::All).storms[0];
    assert_eq!(storm.cause, Cause::RegistryAuth, "{:?}", storm.causes);
    assert_eq!(json!(storm.causes), json!({"registry-auth": 8, "pull-failed": 16}));
}
