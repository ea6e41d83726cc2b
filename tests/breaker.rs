//! The breaker on a real Docker Swarm: the one that tests/run starts and SQUALL_LAB names. The registry's own access log
//! is the judge of what was asked for. The tests take turns with those of tests/swarm.rs.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lab::{Lab, Watch, checked, now};
use serde_json::{Value, json};
use squall::model::Timestamp;

/// Services that loop at a delay of 1 s, in the ways that the breaker has to stop.
const LOOPS: [&str; 4] = ["s-mount", "s-mount-global", "s-missing", "s-exit"];
/// How long after the breaker tripped a manifest may still be asked for: what was under way ends.
const ASKED_AFTER: Duration = Duration::from_secs(3);
/// How many attempts a loop may have made until it stands still.
const ATTEMPTS_MAX: usize = 10;

/// A configuration that stops everything, whatever its share of the services.
fn stop_all(dir: &Path, more: &str) -> String {
    config(dir, &format!("act = true\nenforce = \"all\"\nheld_min = 1000\n{more}"))
}

fn config(dir: &Path, respond: &str) -> String {
    let path = dir.join("squall.toml");
    fs::write(&path, format!("[respond]\n{respond}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The settlements of one action that were done, by service.
fn done(watch: &Watch, action: &str) -> BTreeMap<String, Timestamp> {
    let settled = watch.notices("settlement").into_iter();
    settled
        .filter(|line| line["settlement"]["outcome"] == "done" && line["decision"]["action"] == action)
        .map(|line| (text(&line["decision"]["subject"]["name"]), time(&line["settlement"]["at"])))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn time(value: &Value) -> Timestamp {
    Timestamp::parse(value.as_str().unwrap()).unwrap()
}

/// The ids of all tasks of these services.
fn tasks(lab: &Lab, names: &[&str]) -> BTreeSet<String> {
    let ids = |name: &&str| lab.docker(&["service", "ps", "--quiet", "--no-trunc", name]);
    names.iter().flat_map(|name| ids(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn running(lab: &Lab, name: &str) -> usize {
    let states =
        lab.docker(&["service", "ps", "--filter", "desired-state=running", "--format", "{{.CurrentState}}", name]);
    states.lines().filter(|state| state.starts_with("Running")).count()
}

#[track_caller]
fn wait<T>(what: &str, secs: u64, mut answer: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(secs);
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < until, "not in {secs} s: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn what_loops_is_stopped_and_nothing_else_is_touched() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let controls = ["c-ok", "c-roll", "c-scale", "c-pending", "c-gives-up", "c-onfailure"];
    lab.storms("create", &controls);
    wait("controls run", 30, || (running(&lab, "c-roll") == 3 && running(&lab, "c-ok") == 1).then_some(()));
    wait("c-gives-up gives up", 30, || {
        let states = lab.docker(&["service", "ps", "--format", "{{.DesiredState}}", "c-gives-up"]);
        (states.lines().count() == 3 && states.lines().all(|state| state == "Shutdown")).then_some(())
    });
    let before = tasks(&lab, &controls);
    let config = stop_all(dir.path(), "response = \"scale-to-zero\"");
    let mut watch = Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", &config]);
    let began = now();
    lab.storms("create", &LOOPS);
    let services = lab.services();
    let held = watch.until("each loop is held", 40, |watch| {
        let held = done(watch, "quarantine");
        LOOPS.iter().all(|name| held.contains_key(*name)).then_some(held)
    });
    std::thread::sleep(Duration::from_secs(12));
    let mut wrong = Vec::new();
    for name in LOOPS {
        let tripped = held[name];
        let pulls = lab.pulls(name, began);
        let late = pulls.iter().filter(|at| **at > tripped.plus(ASKED_AFTER)).count();
        println!("{name}: held {:?} after its creation, {} pulls", tripped.since(services[name].1), pulls.len());
        if pulls.len() > ATTEMPTS_MAX || late > 0 {
            wrong.push(format!("{name}: {} pulls, {late} of them late", pulls.len()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(tasks(&lab, &controls), before, "tasks of the controls");

    let status = lab.squall_says(&["status"]);
    for name in LOOPS {
        assert!(status.contains(name), "{status}");
    }
    assert!(status.lines().all(|line| line.chars().count() <= 80), "{status}");
    let audit: Value = serde_json::from_slice(
        &lab.squall(&["audit", "--log", lab.log(), "--format", "json"]).output().unwrap().stdout,
    )
    .unwrap();
    for storm in audit["storms"].as_array().unwrap() {
        assert_eq!(storm["state"], "quarantined", "{storm}");
    }
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let report: Value =
        serde_json::from_str(&lab.squall_says(&["report", "--format", "json", "--state-dir", state])).unwrap();
    let quarantined = report["decisions"].as_array().unwrap().iter().filter(|d| d["settlement"]["outcome"] == "done");
    assert_eq!(quarantined.count(), LOOPS.len(), "{report}");
    println!("watch: {}", watch.usage());
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn a_watch_that_is_not_told_to_act_says_what_it_would_have_done() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), "enforce = \"all\"\nresponse = \"pause\"");
    let mut watch = Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", &config]);
    lab.storms("create", &["s-mount"]);
    let version = lab.docker(&["service", "inspect", "--format", "{{.Version.Index}}", "s-mount"]);
    let decision = watch.until("a decision", 30, |watch| {
        watch.notices("decision").into_iter().find(|line| line["decision"]["refusal"] == "not-enforced")
    });
    assert_eq!(decision["decision"]["response"], "pause");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(lab.docker(&["service", "inspect", "--format", "{{.Version.Index}}", "s-mount"]), version);
    assert!(watch.words().contains("would have acted"), "{}", watch.words());
    assert_eq!(watch.notices("decision").len(), 1, "once");
}

/// Waits until a service has no container, and removes its private image from the node.
fn forget_image(lab: &Lab, name: &str) {
    let label = format!("label=com.docker.swarm.service.name={name}");
    wait("its containers are gone", 60, || {
        lab.docker(&["ps", "--quiet", "--filter", &label]).trim().is_empty().then_some(())
    });
    // Swarm removes those that ended too, some time.
    wait("what is left of them is gone", 60, || {
        let ended = lab.docker(&["ps", "--all", "--quiet", "--filter", &label]);
        ended.lines().for_each(|id| drop(lab.docker_says(&["rm", id])));
        ended.trim().is_empty().then_some(())
    });
    let repository = format!("{}/{name}", lab.var("REGISTRY_AUTH"));
    let images = || lab.docker(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", &repository]);
    for image in images().lines() {
        lab.docker(&["rmi", image]);
    }
    assert_eq!(images().trim(), "", "the node has not got the image");
}

#[test]
fn a_rich_service_is_given_back_byte_for_byte_and_keeps_its_credentials() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    for response in ["scale-to-zero", "pause"] {
        lab.storms("create", &["c-rich"]);
        wait("it runs", 60, || (running(&lab, "c-rich") == 2).then_some(()));
        let before = lab.spec("c-rich");
        let refused =
            lab.squall(&["quarantine", "c-rich", "--response", response, "--state-dir", state]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "healthy replicas are kept");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--even-healthy"));
        assert_eq!(lab.spec("c-rich"), before);

        lab.squall_says(&["quarantine", "c-rich", "--even-healthy", "--response", response, "--state-dir", state]);
        assert_ne!(lab.spec("c-rich"), before);
        // Swarm takes healthy replicas of a paused service away one at a time, each when the one before is replaced.
        if response != "pause" {
            forget_image(&lab, "c-rich");
        }

        assert_eq!(lab.squall_says(&["release", "c-rich", "--state-dir", state]), "c-rich released\n");
        assert_eq!(lab.spec("c-rich").to_string(), before.to_string(), "{response}");
        wait("it runs again, by its own credentials", 60, || (running(&lab, "c-rich") == 2).then_some(()));
        let again = lab.squall(&["release", "c-rich", "--state-dir", state]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&again.stderr), "squall: c-rich: it is not held\n");
        assert_eq!(again.status.code(), Some(2));
        lab.storms("remove", &["c-rich"]);
    }
}

#[test]
fn a_service_on_backoff_comes_back_by_itself_when_its_mount_appears() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mount = lab.appears();
    let _ = fs::remove_dir(&mount);
    let more = "response = \"backoff\"\nbackoff_min = \"5s\"\nstable_for = \"10s\"\ncool_down = \"1s\"";
    let config = stop_all(dir.path(), more);
    let mut watch = Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", &config]);
    let began = now();
    lab.storms("create", &["s-mount-path"]);
    let before = lab.spec("s-mount-path");
    watch.until("it is held", 30, |watch| done(watch, "quarantine").remove("s-mount-path"));
    std::thread::sleep(Duration::from_secs(30));
    fs::create_dir(&mount).unwrap();
    watch.until("it is released", 120, |watch| done(watch, "release").remove("s-mount-path"));
    assert_eq!(running(&lab, "s-mount-path"), 3);
    assert_eq!(lab.spec("s-mount-path").to_string(), before.to_string());

    // Each watched attempt that fails has a successor, which Swarm prepares at once and which may ask once more for
    // each second, the service's delay, that the try goes on; each replica that comes back pulls once.
    let settled = watch.notices("settlement");
    let steps: Vec<(String, Timestamp)> =
        settled.iter().map(|line| (text(&line["decision"]["action"]), time(&line["settlement"]["at"]))).collect();
    let pulls = lab.pulls("s-mount-path", began);
    println!("{} pulls: {steps:?}", pulls.len());
    let between = |from: Timestamp, to: Timestamp| pulls.iter().filter(|at| **at >= from && **at < to).count();
    let mut failed = 0;
    for pair in steps.windows(2) {
        let ((action, at), (next, until)) = (&pair[0], &pair[1]);
        match (&**action, &**next) {
            ("quarantine", "probe") => {
                let asked = between(at.plus(ASKED_AFTER), *until);
                assert_eq!(asked, 0, "{asked} pulls while it was held, from {at} to {until}");
            }
            ("probe", "quarantine") => {
                failed += 1;
                let most = 2 + usize::try_from(until.since(*at).as_secs()).unwrap();
                let asked = between(*at, until.plus(ASKED_AFTER));
                assert!((1..=most).contains(&asked), "{asked} pulls for the try from {at} to {until}");
            }
            _ => {}
        }
    }
    assert!((1..=4).contains(&failed), "{failed} tries failed");
    let last = steps.iter().filter(|(action, _)| action == "probe").map(|(_, at)| *at).max().unwrap();
    assert_eq!(between(last, now()), 3, "a pull for each of three replicas, from {last} on");
    fs::remove_dir(&mount).unwrap();
}

#[test]
fn whoever_edits_a_held_service_wins() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let config = stop_all(dir.path(), "response = \"scale-to-zero\"\ncool_down = \"20s\"");
    let mut watch = Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", &config]);
    lab.storms("create", &["s-mount"]);
    let first = watch.until("it is held", 30, |watch| done(watch, "quarantine").remove("s-mount"));
    lab.docker(&["service", "scale", "--detach", "s-mount=2"]);
    watch.until("squall lets go", 10, |watch| watch.notices("let-go").pop());
    watch.until("it cools down", 20, |watch| {
        watch.notices("decision").into_iter().find(|line| line["decision"]["refusal"] == "cool-down")
    });
    assert_eq!(lab.spec("s-mount")["Mode"], json!({"Replicated": {"Replicas": 2}}));
    let second = watch
        .until("it is held again", 40, |watch| done(watch, "quarantine").remove("s-mount").filter(|at| *at > first));
    assert!(second.since(first) >= Duration::from_secs(20), "{:?}", second.since(first));
    assert_eq!(lab.spec("s-mount")["Labels"]["squall.quarantine.replicas"], "2", "what the person had set");

    // A new specification is another matter.
    let image = format!("{}/app:1", lab.var("REGISTRY"));
    lab.docker(&[
        "service",
        "update",
        "--quiet",
        "--detach",
        "--image",
        &image,
        "--mount-rm",
        "/nope",
        "--replicas",
        "1",
        "s-mount",
    ]);
    wait("the new one runs", 30, || (running(&lab, "s-mount") == 1).then_some(()));
}

#[test]
fn thirty_services_at_once_are_stopped_within_a_minute() {
    const SERVICES: usize = 30;
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (1..=SERVICES).map(|n| format!("storm{n}")).collect();
    names.iter().for_each(|name| lab.create_loop(name));
    // Held by the configuration as it comes: three by what a person has to undo, the others by what undoes itself.
    let began = Instant::now();
    let args = ["--log", lab.log(), "--enforce=all", "--response", "scale-to-zero"];
    let mut watch = Watch::start_with(&lab, dir.path(), &args);
    watch.until("all of them are held", 60, |watch| (done(watch, "quarantine").len() == SERVICES).then_some(()));
    println!("{SERVICES} services held {:?} after the start of the watch", began.elapsed());
    // Only what was done counts: on a busy machine some decisions are refused, or lose a race, and are made again.
    let settlements = watch.notices("settlement");
    let is_held_for_good = |line: &&Value| {
        let (decision, outcome) = (&line["decision"], &line["settlement"]["outcome"]);
        decision["action"] == "quarantine" && outcome == "done" && decision["response"] == "scale-to-zero"
    };
    let held_for_good: BTreeSet<String> =
        settlements.iter().filter(is_held_for_good).map(|line| text(&line["decision"]["subject"]["name"])).collect();
    assert_eq!(held_for_good.len(), SERVICES * 3 / 10, "a share of the services waits for a person");
    let status: Value = serde_json::from_str(&lab.squall_says(&["status", "--format", "json"])).unwrap();
    assert_eq!(status["held"].as_array().unwrap().len(), SERVICES);
    watch.kill();
    let state = dir.path().join("state");
    let out = lab.squall(&["release", "--all", "--state-dir", state.to_str().unwrap()]).output().unwrap();
    assert_eq!(checked(out, "release").lines().count(), SERVICES);
}

#[test]
fn a_watch_that_is_killed_at_any_moment_forgets_and_repeats_nothing() {
    const KILLS: u64 = 6;
    let lab = Lab::enter();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    for turn in 0..KILLS {
        let dir = tempfile::tempdir().unwrap();
        let config = stop_all(dir.path(), "response = \"scale-to-zero\"");
        lab.storms("create", &["s-mount"]);
        let before = lab.spec("s-mount");
        let id = lab.services()["s-mount"].0.clone();
        wait("it loops", 30, || (lab.failures(&id).len() >= 5).then_some(()));
        let args = ["--log", lab.log(), "--config", &config];
        let watch = Watch::start_with(&lab, dir.path(), &args);
        // Somewhere between the first look and the end of the action.
        let pause =
            (seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn * 1_442_695_040_888_963_407) >> 33) % 400;
        std::thread::sleep(Duration::from_millis(pause));
        watch.kill();
        let watch = Watch::start_with(&lab, dir.path(), &args);
        wait("it is held", 30, || (lab.spec("s-mount")["Mode"]["Replicated"]["Replicas"] == 0).then_some(()));
        let state = dir.path().join("state");
        let state = state.to_str().unwrap();
        let permitted = || -> Vec<Value> {
            let report = lab.squall_says(&["report", "--format", "json", "--state-dir", state]);
            let report: Value = serde_json::from_str(&report).unwrap();
            let decisions = report["decisions"].as_array().unwrap().iter();
            decisions.filter(|decision| decision["refusal"].is_null()).cloned().collect()
        };
        wait("each decision is settled", 30, || {
            let permitted = permitted();
            let is_settled = |decision: &Value| !decision["settlement"].is_null();
            (!permitted.is_empty() && permitted.iter().all(is_settled)).then_some(())
        });
        // A second action would follow the first at once.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(watch.terminate(), Some(0));
        let permitted = permitted();
        let done = permitted.iter().filter(|decision| decision["settlement"]["outcome"] == "done").count();
        assert_eq!(done, 1, "killed after {pause} ms: held once: {permitted:#?}");
        assert!(permitted.iter().all(|decision| !decision["settlement"].is_null()), "each is settled: {permitted:#?}");
        lab.squall_says(&["release", "s-mount", "--state-dir", state]);
        assert_eq!(lab.spec("s-mount").to_string(), before.to_string());
        lab.storms("remove", &["s-mount"]);
    }
}
