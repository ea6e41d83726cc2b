//! What squall says that attempts cost, against what the registry of the recording wrote in its own access log.
#![expect(clippy::expect_used, reason = "a test panics on a surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::{Value, json};
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, read_line};
use squall::model::{
    Budget, BudgetAnswer, BudgetReading, BudgetStanding, ClockStep, FindingKind, OnClock as _, Subject, Timestamp,
};

const RECORDING: &str = "tests/recordings/swarm3";

/// What a repository was asked for: its name is its service's.
#[derive(serde::Deserialize)]
struct Asked {
    heads: u64,
    gets: u64,
    /// The access log has whole seconds: so many of them may have come after the recording was cut.
    in_last_second: u64,
}

fn asked() -> BTreeMap<String, Asked> {
    let text = fs::read_to_string(format!("{RECORDING}.requests.json")).expect("the registry's counts");
    serde_json::from_str(&text).expect("JSON")
}

fn replay(files: &[PathBuf]) -> Value {
    let output =
        cargo_bin_cmd!("squall").arg("replay").args(files).args(["--format", "json"]).output().expect("it runs");
    serde_json::from_slice(&output.stdout).expect("a report")
}

/// Per service the HEADs, the GETs, and how many requests were measured, derived and assumed.
fn stated(report: &Value) -> BTreeMap<String, [u64; 5]> {
    let figure = |row: &Value, name: &str| row[name].as_u64().expect("a count");
    let rows = report["spend"].as_array().expect("a list").iter();
    rows.map(|row| {
        let figures = ["manifest_heads", "manifest_gets", "measured", "derived", "assumed"];
        (row["subject"]["name"].as_str().expect("a name").to_owned(), figures.map(|name| figure(row, name)))
    })
    .collect()
}

/// Whether a figure is within 2 %, or 1, of the truth, whose last second may not be in the recording.
fn is_right(stated: u64, truth: u64, uncertain: u64) -> bool {
    let slack = (truth / 50).max(1);
    (truth.saturating_sub(uncertain + slack)..=truth + slack).contains(&stated)
}

fn assert_right(report: &Value, services: impl Iterator<Item = (String, Asked)>) {
    let stated = stated(report);
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (service, asked) in services {
        let [heads, gets, ..] = stated.get(&service).copied().unwrap_or_default();
        let is_well = is_right(heads, asked.heads, asked.in_last_second)
            && is_right(gets, asked.gets, asked.in_last_second)
            && is_right(heads + gets, asked.heads + asked.gets, asked.in_last_second);
        if !is_well {
            wrong.push(format!(
                "{service}: stated {heads} HEADs and {gets} GETs, was {} and {}",
                asked.heads, asked.gets
            ));
        }
        compared += 1;
    }
    assert!(compared >= 8, "{compared} services");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_service_of_the_recording_costs_what_the_registry_says() {
    let report = replay(&[RECORDING.into()]);
    // The image itself was pushed and looked at by hand.
    assert_right(&report, asked().into_iter().filter(|(service, _)| service != "app"));
    for (service, [.., measured, derived, assumed]) in stated(&report) {
        assert_eq!(derived, 0, "{service}: every node is heard");
        // A client that resolved the tag is in no event.
        assert!(assumed <= 4, "{service}: {assumed} assumed");
        assert!(measured > 0, "{service}");
    }
}

#[test]
fn a_storm_costs_what_its_service_does() {
    let report = replay(&[RECORDING.into()]);
    let stated = stated(&report);
    let storms = report["storms"].as_array().expect("a list");
    assert!(storms.len() > 9, "{}", storms.len());
    for storm in storms {
        let name = storm["subject"]["name"].as_str().expect("a name");
        let spend = &storm["spend"];
        assert_eq!(spend["manifest_heads"], stated[name][0], "{name}");
        assert_eq!(spend["manifest_gets"], stated[name][1], "{name}");
        let (requests, attempts) = (spend["requests"].as_f64(), storm["attempts"].as_f64());
        let each = requests.expect("a count") / attempts.expect("a count");
        // A pinned image that is present was asked for before, and no attempt asks now.
        let asks = if storm["pulls"] == true { each } else { 0.0 };
        let pace = storm["attempts_per_min"].as_f64().expect("a pace") * asks;
        let stated = spend["requests_per_min"].as_f64().expect("a pace");
        assert!((stated - pace).abs() < 0.2, "{name}: {stated} stated, {pace}");
    }
}

/// The task list alone tells what each attempt by tag asks; the log, which is not there, what became of its pull.
#[test]
fn without_events_and_logs_what_tasks_ask_is_derived() {
    let files = ["tasks.ndjson.gz", "services.json", "nodes.json"].map(|name| Path::new(RECORDING).join(name));
    let report = replay(&files);
    let by_tag = asked().into_iter().filter(|(service, _)| service.starts_with("s-") && service != "s-exit-pinned");
    assert_right(&report, by_tag);
    for (service, [.., measured, _, _]) in stated(&report) {
        assert_eq!(measured, 0, "{service}");
    }
}

/// Each node hears only its own pulls; the tasks of the others stand for theirs.
#[test]
fn a_manager_that_hears_one_node_derives_what_the_others_ask() {
    let names = ["node1.events.ndjson.gz", "node1.dockerd.log.gz", "tasks.ndjson.gz", "services.json", "nodes.json"];
    let report = replay(&names.map(|name| Path::new(RECORDING).join(name)));
    let by_tag = asked().into_iter().filter(|(service, _)| service.starts_with("s-") && service != "s-exit-pinned");
    assert_right(&report, by_tag);
    let [_, _, measured, derived, _] = stated(&report)["s-mount-global"];
    assert!(derived > measured && measured > 0, "a third is heard: {measured} measured, {derived} derived");
}

/// dockerd does not take back a pull that has its answer: its event comes after its service is gone.
#[test]
fn a_pull_that_ends_just_after_its_service_is_the_services() {
    // The clock is stepped meanwhile, or not.
    for step in [0, 3600, -3600] {
        let heads = heads_after_a_removal(step);
        assert_eq!(heads, BTreeMap::from([("web".to_owned(), 2), (Subject::nobody().name, 1)]), "by {step} s");
    }
}

/// The manifest requests of a service, and of nobody, whose image is pulled before it is removed, just after and later.
fn heads_after_a_removal(step: i64) -> BTreeMap<String, u64> {
    const BEGAN: i64 = 1_800_000_000;
    let mut detector = Detector::new(Settings { by_minute: true, ..Settings::default() });
    let event = |secs: i64, kind: &str, action: &str, id: &str, name: &str| {
        let at = BEGAN + secs;
        json!({
            "Type": kind, "Action": action, "scope": "local", "time": at, "timeNano": at * 1_000_000_000,
            "Actor": {"ID": id, "Attributes": {"name": name}},
        })
    };
    let (image, repository) = ("registry.example.com/web:1", "registry.example.com/web");
    let lines = [
        json!({
            "ID": "web-id", "Version": {"Index": 7}, "CreatedAt": "2027-01-15T08:00:00Z",
            "UpdatedAt": "2027-01-15T08:00:00Z", "Endpoint": {"Spec": {}},
            "Spec": {"Name": "web", "Labels": {}, "TaskTemplate": {"ContainerSpec": {"Image": image}},
                "Mode": {"Replicated": {"Replicas": 1}}},
        }),
        event(10, "image", "pull", image, repository),
        event(20, "service", "remove", "web-id", "web"),
        event(22 + step, "image", "pull", image, repository),
        event(300 + step, "image", "pull", image, repository),
    ];
    for line in lines {
        let text = line.to_string();
        let Reading::Observation(observation) = read_line(&text, 0) else { panic!("not read: {text}") };
        detector.observe(&observation);
        if line["Action"] == "remove" {
            detector.begin_listing(Timestamp::from_secs(BEGAN + 21));
            detector.end_listing();
            let (expected, said) = (Timestamp::from_secs(BEGAN + 21), Timestamp::from_secs(BEGAN + 21 + step));
            detector.step(ClockStep { expected, said });
        }
    }
    detector.settle_pulls();
    let mut heads = BTreeMap::<String, u64>::new();
    for count in detector.drain_spend(usize::MAX) {
        *heads.entry(count.subject.name).or_default() += count.spend.kinds.manifest_heads;
    }
    heads
}

/// An hour by which a clock is set back while a registry refuses three services loses nothing that was counted, and leaves
/// nothing in the future.
#[test]
fn a_clock_that_is_set_back_loses_no_spend_and_no_incident() {
    const BEGAN: i64 = 1_800_000_000;
    const REGISTRY: &str = "docker.io";
    let at = |secs: i64| Timestamp::from_secs(BEGAN + secs);
    let mut detector = Detector::new(Settings { by_minute: true, ..Settings::default() });
    detector.count_by_minute(at(0));
    let take = |detector: &mut Detector, object: &Value| {
        let text = object.to_string();
        let Reading::Observation(observation) = read_line(&text, 0) else { panic!("not read: {text}") };
        detector.take(&observation);
    };
    let fail = |detector: &mut Detector, service: usize, secs: i64| {
        let task = json!({
            "ID": format!("task{service}at{secs}"), "Version": {"Index": secs + 10_000}, "CreatedAt": at(secs - 1),
            "UpdatedAt": at(secs), "ServiceID": format!("service{service}"), "Slot": 1, "NodeID": "node1",
            "Spec": {"ContainerSpec": {"Image": format!("team/app{service}:1")}, "ForceUpdate": 0,
                "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000}},
            "Status": {"Timestamp": at(secs), "State": "rejected", "Message": "preparing",
                "Err": "toomanyrequests: You have reached your pull rate limit."},
            "DesiredState": "shutdown",
        });
        take(detector, &task);
        detector.advance(at(secs + 1));
    };
    for service in 0..3 {
        let object = json!({
            "ID": format!("service{service}"), "Version": {"Index": 7}, "CreatedAt": at(-7000), "UpdatedAt": at(-7000),
            "Endpoint": {"Spec": {}},
            "Spec": {"Name": format!("service{service}"), "Labels": {"com.docker.stack.namespace": format!("s{service}")},
                "TaskTemplate": {"ContainerSpec": {"Image": format!("team/app{service}:1")}},
                "Mode": {"Replicated": {"Replicas": 1}}},
        });
        take(&mut detector, &object);
    }
    for secs in (10..200).step_by(5) {
        (0..3).for_each(|service| fail(&mut detector, service, secs));
    }
    let reading = |secs: i64| BudgetReading {
        registry: REGISTRY.to_owned(),
        at: at(secs),
        account: None,
        source: None,
        own: None,
        answer: BudgetAnswer::Limited(Budget { limit: 100, remaining: 40, window_secs: Some(21_600) }),
    };
    detector.meter_mut().read(reading(190));
    let standing = |detector: &Detector, now: Timestamp| -> BudgetStanding {
        let mut standings = detector.meter().standings(now).into_iter();
        standings.find(|standing| standing.registry == REGISTRY).expect("it was asked")
    };
    let is_incident = |detector: &Detector, now: Timestamp| {
        let findings = detector.findings(now);
        assert!(findings.iter().all(|finding| finding.since <= now), "{findings:#?}");
        findings.iter().any(|f| matches!(f.kind, FindingKind::RegistryIncident | FindingKind::BudgetSpent))
    };
    let (expected, said) = (at(210), at(210 - 3600));
    detector.advance(expected);
    let before = (standing(&detector, expected), detector.registries(), detector.storms());
    assert!(is_incident(&detector, expected) && before.2.len() == 3, "{before:#?}");

    detector.step(ClockStep { expected, said });
    let after = (standing(&detector, said), detector.registries(), detector.storms());
    assert!(is_incident(&detector, said), "it goes on");
    assert_eq!((after.0.own, after.0.remaining), (before.0.own, before.0.remaining));
    assert!((after.0.requests_per_min - before.0.requests_per_min).abs() < 0.1, "{after:#?}");
    assert_eq!((after.0.asked, after.0.watched_since), (Some(at(190 - 3600)), Some(at(-3600))));
    let of_registry = (&before.1[0], &after.1[0]);
    assert_eq!(of_registry.0.requests, of_registry.1.requests);
    assert!(of_registry.1.peak_at <= said && of_registry.1.refused.is_some_and(|refused| refused <= said));
    assert_eq!(after.2.len(), 3);
    for storm in &after.2 {
        assert!(storm.onset <= said && storm.detected <= said && storm.ended.is_none(), "{storm:#?}");
    }

    // It goes on on the clock as it is now.
    (0..3).for_each(|service| fail(&mut detector, service, 215 - 3600));
    let now = at(220 - 3600);
    detector.advance(now);
    detector.meter_mut().read(reading(219 - 3600));
    assert_eq!(standing(&detector, now).asked, Some(at(219 - 3600)), "a new answer is news");
    assert!(detector.registries()[0].requests > of_registry.0.requests, "it is counted on");
    detector.settle_pulls();
    let spends = detector.drain_spend(usize::MAX);
    let minutes = detector.drain_minutes(usize::MAX);
    assert!(spends.iter().all(|spend| spend.minute <= now) && minutes.iter().all(|count| count.minute <= now));
    assert!(
        spends
            .iter()
            .map(|spend| spend.minute)
            .chain(minutes.iter().map(|count| count.minute))
            .all(|at| at == at.minute())
    );
    assert_eq!(spends.iter().map(|spend| spend.spend.requests).sum::<u64>(), detector.registries()[0].requests);
    assert_eq!(minutes.iter().map(|count| count.failed).sum::<u64>(), 3 * 39);
}

#[test]
fn the_incident_is_told_with_its_registry() {
    let report = replay(&["examples/incident".into()]);
    // Its nodes joined a while before: that is no part of what was recorded.
    let span = report["span"]["from"].as_str().expect("a time");
    let first = report["storms"].as_array().expect("a list").iter().filter_map(|storm| storm["onset"].as_str()).min();
    assert!(span <= first.expect("a storm") && span.starts_with("2026-11-21T09:13:"), "{span}");
    let pace = |list: &str, name: &str, at: &str| {
        let named = |entry: &&Value| entry["subject"]["name"] == name;
        let found = report[list].as_array().expect("a list").iter().find(named).expect("it is there").clone();
        found.pointer(at).and_then(Value::as_f64).expect("a pace")
    };
    let (of_storm, of_all) =
        (pace("storms", "shop_cart", "/spend/requests_per_min"), pace("spend", "shop_cart", "/requests_per_min"));
    assert!((of_storm - of_all).abs() < of_storm * 0.3, "{of_storm} a minute in the storm, {of_all} in the recording");
    let registry = &report["registries"][0];
    assert_eq!(registry["registry"], "registry.example.com");
    assert_eq!(registry["refused_as"], "registry-abuse");
    let refused = registry["refused"].as_str().expect("it was refused");
    assert!(refused.starts_with("2026-11-21T09:13:"), "the minute in which it was too much: {refused}");
    assert!(registry["requests_per_min_peak"].as_u64().expect("a count") > 300, "more than it lets pass: {registry}");
    let finding = &report["findings"][0];
    assert_eq!((&finding["kind"], &finding["subject"]["kind"]), (&"budget-spent".into(), &"registry".into()));
    let detail = finding["detail"].as_str().expect("words");
    assert!(detail.contains("HAP429") && detail.contains("this Swarm asked"), "{detail}");
}
