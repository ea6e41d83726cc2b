//! squall on a real Docker Swarm: the one that tests/run starts and SQUALL_LAB names. `tests/lab/storms` has the
//! services, with what each of them does. The tests take turns; run by hand, `--no-capture` shows their figures.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/lab.rs"]
mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use lab::{Lab, Watch, checked, now};
use serde_json::Value;
use squall::model::Timestamp;

/// Every service that storms, by what it really fails of.
const STORMS: [(&str, &str); 14] = [
    ("s-exit", "app-exit"),
    ("s-exit-pinned", "app-exit"),
    ("s-mount", "mount"),
    ("s-mount-global", "mount"),
    ("s-missing", "image-missing"),
    ("s-noauth", "registry-auth"),
    ("s-quota", "registry-quota"),
    ("s-abuse", "registry-abuse"),
    ("s-503", "registry-error"),
    ("s-refused", "registry-unreachable"),
    ("s-oom", "oom"),
    ("s-health", "health-check"),
    ("s-entry", "entrypoint"),
    ("s-zero", "app-exit"),
];
/// Those of them whose cause only dockerd's log tells.
const ONLY_THE_LOG: [&str; 6] = ["s-missing", "s-noauth", "s-quota", "s-abuse", "s-503", "s-refused"];
/// The controls that do what they do without help.
const CONTROLS: [&str; 6] = ["c-ok", "c-job", "c-cron", "c-onfailure", "c-gives-up", "c-pending"];
/// The controls that something is done to while the storms run; `c-drain` has a time of its own.
const EXERCISED: [&str; 5] = ["c-roll", "c-scale", "c-cron", "c-job", "c-rm"];
/// How long after its creation an audit has to find a storm.
const FOUND_SECS: f64 = 20.0;
/// How many failures may pass until a storm is known.
const FAILURES_MAX: u64 = 6;
/// By how much two ways of counting attempts may differ: one is on its way while the other has ended.
const ATTEMPTS_OFF: u64 = 2;
/// The storms whose attempts are counted to their end, before the node is drained.
const COUNTED: [&str; 10] =
    ["s-exit", "s-mount", "s-missing", "s-noauth", "s-quota", "s-abuse", "s-503", "s-oom", "s-health", "s-entry"];

type Causes = BTreeMap<String, String>;

#[test]
fn a_calm_swarm_has_no_storm() {
    let lab = Lab::enter();
    let audit = || {
        let output = lab.squall(&["audit", "--log", lab.log()]).output().unwrap();
        let text = checked(output, "audit of a calm swarm");
        assert!(text.starts_with("no storm"), "{text}");
    };
    audit();
    lab.storms("create", &CONTROLS);
    // By then the job has ended, c-gives-up has given up, and c-onfailure and c-cron have exited 0.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(2));
        audit();
    }
    let output = lab.squall(&["audit", "--log", "none", "--format", "nagios"]).output().unwrap();
    let text = checked(output, "nagios on a calm swarm");
    assert!(text.starts_with("SQUALL OK"), "{text}");
}

#[test]
fn every_storm_is_found_by_one_look_and_in_a_recording() {
    let lab = Lab::enter();
    lab.storms("create", &["c-ok", "c-onfailure", "c-gives-up"]);
    let names = STORMS.map(|(name, _)| name);
    lab.storms("create", &names);
    let services = lab.services();
    let (report, secs) = found_in_time(&lab, &services);
    assert!(report["calm"].as_u64().unwrap() >= 1, "{report}");

    // Without the log, the same storms; with less to say of those that fail to pull.
    // Of a slot's five tasks two may be under way, and three failures are no loop yet: a moment later there are four.
    let until = Instant::now() + Duration::from_secs(20);
    let (code, report) = loop {
        let (code, report) = lab.audit("none");
        if causes(&report) == truth_without_log() || Instant::now() > until {
            break (code, report);
        }
    };
    assert_eq!(code, Some(1));
    assert_eq!(causes(&report), truth_without_log());

    let began = Instant::now();
    let output = lab.squall(&["audit", "--log", lab.log()]).output().unwrap();
    println!("audit of 14 storms: {:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("14 storms"), "{table}");
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }

    let output = lab.squall(&["audit", "--log", lab.log(), "--format", "nagios"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.starts_with(b"SQUALL CRITICAL - 14 storms"), "{}", String::from_utf8_lossy(&output.stdout));

    // A busy machine makes fewer attempts in the same time.
    recorded(&lab, 20.0_f64.max(2.0 * secs));
}

/// Audits until all storms are there; each has to be in time. Returns how many seconds the last one took.
fn found_in_time(lab: &Lab, services: &BTreeMap<String, (String, Timestamp)>) -> (Value, f64) {
    let mut found_after = BTreeMap::<String, f64>::new();
    loop {
        let (code, report) = lab.audit(lab.log());
        let at = now();
        let found = causes(&report);
        assert_eq!(code, Some(i32::from(!found.is_empty())), "{report}");
        for (name, cause) in &found {
            assert_eq!(truth().get(name), Some(cause), "{name} is said to storm with {cause}: {report}");
            let after = at.since(services[name].1).as_secs_f64();
            found_after.entry(name.clone()).or_insert(after);
        }
        let late = |name: &&str| !found.contains_key(*name) && at.since(services[*name].1).as_secs_f64() > FOUND_SECS;
        let late: Vec<_> = STORMS.map(|(name, _)| name).into_iter().filter(late).collect();
        let failures: Vec<_> = late.iter().map(|name| lab.failures(&services[*name].0).len()).collect();
        assert!(late.is_empty(), "not found within {FOUND_SECS} s: {late:?}, which have failed {failures:?} times");
        if found == truth() {
            println!("found after seconds from creation: {found_after:.1?}");
            return (report, found_after.values().copied().fold(0.0, f64::max));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A recording of what runs tells the same, and nobody's secrets.
fn recorded(lab: &Lab, secs: f64) {
    let image = format!("{}/app:1", lab.var("REGISTRY"));
    lab.docker(&[
        "service",
        "create",
        "--quiet",
        "--detach",
        "--name",
        "secretive",
        "--env",
        "PASSWORD=hunter2",
        "--no-resolve-image",
        "--restart-delay",
        "1s",
        &image,
        "sh",
        "-c",
        "exit 3 # hunter2",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("recording");
    let path = output.to_str().unwrap();
    let span = format!("{secs:.0}s");
    let run = lab.squall(&["record", "--log", lab.log(), "--for", &span, "--output", path]).output().unwrap();
    checked(run, "record");
    for file in fs::read_dir(&output).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for secret in ["hunter2", "\"Env\""] {
            assert!(!text.contains(secret), "{} has {secret}", path.display());
        }
    }
    let replay = lab.squall(&["replay", path, "--format", "json"]).output().unwrap();
    assert_eq!(replay.status.code(), Some(1), "{}", String::from_utf8_lossy(&replay.stderr));
    let report: Value = serde_json::from_slice(&replay.stdout).unwrap();
    let mut expected = truth();
    expected.insert("secretive".to_owned(), "app-exit".to_owned());
    assert_eq!(causes(&report), expected, "replay of a recording of {span}");
}

#[test]
fn watch_says_each_storm_once_and_accuses_nobody_else() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::start(&lab, dir.path());
    let began = now();
    lab.storms("create", &CONTROLS);
    lab.storms("create", &["c-roll", "c-scale", "c-drain", "c-rm"]);
    lab.storms("create", &STORMS.map(|(name, _)| name));
    let services = lab.services();
    let created = Instant::now();
    let exercises = EXERCISED.map(|name| (name, lab.spawn_storms("exercise", &[name])));

    let onsets = watch.until("an onset of each storm", 40, |watch| {
        let onsets = watch.by_service("onset");
        (onsets.len() >= STORMS.len()).then_some(onsets)
    });
    assert_early(&lab, &services, &onsets, began);
    for (name, exercise) in exercises {
        checked(exercise.wait_with_output().unwrap(), &format!("exercise of {name}"));
    }
    std::thread::sleep(Duration::from_secs(40).saturating_sub(created.elapsed()));

    // Removed, a storm is over when nothing has come under its name for the hold-down.
    let removed = now();
    lab.storms("remove", &COUNTED);
    let ends = watch.until("an end of each removed storm", 80, |watch| {
        let ends = watch.by_service("subsided");
        COUNTED.iter().all(|name| ends.contains_key(*name)).then_some(ends)
    });
    assert_counted(&lab, &services, &ends, began);
    let last = COUNTED.iter().map(|name| time(&ends[*name]["at"])).max().unwrap();
    println!("the last of {} removed storms subsided after {:?}", COUNTED.len(), last.since(removed));
    println!("watch of {} storms: {}", STORMS.len(), watch.usage());

    lab.storms("exercise", &["c-drain"]);
    lab.storms("remove", &["s-exit-pinned", "s-mount-global", "s-refused", "s-zero"]);
    watch.until("an end of each storm", 80, |watch| {
        let ends = watch.by_service("subsided");
        STORMS.iter().all(|(name, _)| ends.contains_key(*name)).then_some(())
    });
    // A removed service's last words come late; they make no new storm.
    std::thread::sleep(Duration::from_secs(3));
    let mut expected = STORMS.map(|(name, _)| name.to_owned());
    expected.sort_unstable();
    for notice in ["onset", "subsided"] {
        assert_eq!(names(&watch.notices(notice)), expected, "{notice} of each storm, once\n{}", watch.words());
    }
    assert_eq!(watch.notices("gap"), [] as [Value; 0]);
    assert_eq!(watch.terminate(), Some(0));
}

/// Each onset has its cause and came within a few failures, by squall's count and by dockerd's.
fn assert_early(
    lab: &Lab,
    services: &BTreeMap<String, (String, Timestamp)>,
    onsets: &BTreeMap<String, Value>,
    began: Timestamp,
) {
    let mut late = Vec::new();
    for (name, cause) in STORMS {
        let line = &onsets[name];
        let storm = &line["storm"];
        assert_eq!(storm["cause"], *cause, "{name}: {storm}");
        let own = storm["detected_after_failures"].as_u64().unwrap();
        // s-zero fails without an error, and so without a line: what is pulled again has ended before.
        let failures = match name {
            "s-zero" => lab.pulls(name, began).split_off(1),
            _ => lab.failures(&services[name].0),
        };
        let until = |end: Timestamp| failures.iter().filter(|at| **at <= end).count();
        let (detected, said) = (until(time(&storm["detected"])), until(time(&line["at"])));
        println!("{name}: onset after {own} failures; dockerd has {detected} by then, {said} when it was said");
        if own > FAILURES_MAX || detected as u64 > FAILURES_MAX {
            late.push(format!("{name}: {own} failures by squall's count, {detected} by dockerd's"));
        }
    }
    assert!(late.is_empty(), "detected late: {late:#?}");
}

/// Each removed storm has as many attempts as dockerd and the registry have seen.
fn assert_counted(
    lab: &Lab,
    services: &BTreeMap<String, (String, Timestamp)>,
    ends: &BTreeMap<String, Value>,
    began: Timestamp,
) {
    let mut wrong = Vec::new();
    for name in COUNTED {
        let storm = &ends[name]["storm"];
        let (attempts, failed) = (storm["attempts"].as_u64().unwrap(), storm["failed"].as_u64().unwrap());
        let failures = lab.failures(&services[name].0).len() as u64;
        let pulls = lab.pulls(name, began).len() as u64;
        println!("{name}: {attempts} attempts, {failed} failed; dockerd {failures} failed, registry {pulls} pulls");
        let asks_there = ["s-exit", "s-mount", "s-missing", "s-oom", "s-health", "s-entry"].contains(&name);
        if failed.abs_diff(failures) > ATTEMPTS_OFF
            || attempts.abs_diff(failures) > ATTEMPTS_OFF
            || (asks_there && attempts.abs_diff(pulls) > ATTEMPTS_OFF)
        {
            wrong.push(format!("{name}: {attempts} attempts, {failed} failed, but {failures} failures, {pulls} pulls"));
        }
    }
    assert!(wrong.is_empty(), "counted wrongly: {wrong:#?}");
}

#[test]
fn watch_goes_on_when_dockerd_is_restarted() {
    const RESTARTED: [&str; 3] = ["s-exit", "s-mount", "s-missing"];
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::start(&lab, dir.path());
    let image = format!("{}/app:1", lab.var("REGISTRY"));
    lab.docker(&[
        "service",
        "create",
        "--quiet",
        "--detach",
        "--name",
        "healthy",
        "--replicas",
        "8",
        "--restart-delay",
        "1s",
        &image,
        "sleep",
        "600",
    ]);
    lab.storms("create", &RESTARTED);
    let services = lab.services();
    watch.until("an onset of each storm", 30, |watch| {
        RESTARTED.iter().all(|name| watch.by_service("onset").contains_key(*name)).then_some(())
    });
    let before: BTreeMap<_, _> =
        RESTARTED.iter().map(|name| (*name, lab.failures(&services[*name].0).len() as u64)).collect();

    lab.restart_docker();
    let gap = watch.until("a gap", 30, |watch| watch.notices("gap").pop());
    println!("restart: {gap}");
    let loops_again =
        |lab: &Lab| RESTARTED.iter().all(|name| lab.failures(&services[*name].0).len() as u64 >= before[name] + 6);
    watch.until("six more failures of each storm", 60, |_| loops_again(&lab).then_some(()));
    // A dockerd that stops removes its socket first and ends its connections last, so there may be more than one loss.
    let losses = watch.notices("lost").len();
    assert!((1..=3).contains(&losses), "{losses} losses: {}", watch.words());
    assert_eq!(watch.notices("back").len(), losses, "{}", watch.words());

    lab.storms("remove", &RESTARTED);
    let ends = watch.until("an end of each storm", 80, |watch| {
        let ends = watch.by_service("subsided");
        RESTARTED.iter().all(|name| ends.contains_key(*name)).then_some(ends)
    });
    for name in RESTARTED {
        let failed = ends[name]["storm"]["failed"].as_u64().unwrap();
        let failures = lab.failures(&services[name].0).len() as u64;
        println!("{name}: {failed} failed; dockerd says {failures}, {} before its restart", before[name]);
        assert!(failed >= before[name] + 4, "{name}: {failed} failed, but {failures} failures; it was not counted on");
        assert!(failed <= failures + ATTEMPTS_OFF, "{name}: {failed} failed, but only {failures} failures");
    }
    std::thread::sleep(Duration::from_secs(3));
    let onsets = names(&watch.notices("onset"));
    assert_eq!(onsets, ["s-exit", "s-missing", "s-mount"], "onset of each storm, once\n{}", watch.words());
    println!("watch over a restart: {}", watch.usage());
    assert_eq!(watch.terminate(), Some(0));
}

fn truth() -> Causes {
    STORMS.iter().map(|(name, cause)| ((*name).to_owned(), (*cause).to_owned())).collect()
}

fn truth_without_log() -> Causes {
    let mut truth = truth();
    for name in ONLY_THE_LOG {
        truth.insert(name.to_owned(), "pull-failed".to_owned());
    }
    truth
}

/// The storms of a report, with their causes.
fn causes(report: &Value) -> Causes {
    let storms = report["storms"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    storms.map(|storm| (text(&storm["subject"]["name"]), text(&storm["cause"]))).collect()
}

/// The services that lines of watch are about, in order.
fn names(lines: &[Value]) -> Vec<String> {
    let name = |line: &Value| line["storm"]["subject"]["name"].as_str().unwrap().to_owned();
    let mut names: Vec<_> = lines.iter().map(name).collect();
    names.sort_unstable();
    names
}

fn time(value: &Value) -> Timestamp {
    Timestamp::parse(value.as_str().unwrap()).unwrap()
}
