//! The double of a Swarm that other tests trust: it does what Docker 20.10 was seen to do.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use support::fake_daemon::NODE_ID;
use support::fake_swarm::{Behaviour, FakeSwarm, Fault, as_global, healthy_spec, looping_spec};
use tempfile::TempDir;

const NOWHERE: &str = "node.labels.squall==none";

fn swarm() -> (TempDir, FakeSwarm) {
    let dir = tempfile::tempdir().unwrap();
    let swarm = FakeSwarm::start(dir.path());
    (dir, swarm)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Rejected five times a second.
fn rejected() -> Behaviour {
    Behaviour::Rejected { error: "no".to_owned(), every: millis(200) }
}

/// A service of this many replicas that loops five times a second.
fn add_loop(swarm: &FakeSwarm, name: &str, replicas: u64) {
    swarm.add_service_with(name, looping_spec(name, replicas, &[("team", "shop")]), rejected());
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "not in 10 s: {what}");
        std::thread::sleep(millis(5));
    }
}

/// One request on a connection of its own; None when it is closed without an answer.
fn ask_with(swarm: &FakeSwarm, method: &str, path: &str, header: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(swarm.daemon().socket()).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: docker\r\n{header}Content-Length: {length}\r\n\r\n{body}")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, mut rest) = answer.split_once("\r\n\r\n")?;
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, serde_json::from_str(&body).unwrap_or_default()))
}

#[track_caller]
fn ask(swarm: &FakeSwarm, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask_with(swarm, method, path, "", &body).expect("there is an answer")
}

#[track_caller]
fn get(swarm: &FakeSwarm, path: &str) -> Value {
    let (status, body) = ask(swarm, "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// The tasks of a service, in the order of their creation.
fn tasks(swarm: &FakeSwarm, name: &str) -> Vec<Value> {
    let filter = format!("%7B%22service%22%3A%5B%22{name}%22%5D%7D");
    let tasks = get(swarm, &format!("/v1.41/tasks?filters={filter}"));
    let mut tasks = tasks.as_array().unwrap().clone();
    tasks.sort_by_key(|task| task["CreatedAt"].as_str().unwrap().to_owned());
    tasks
}

/// `STATE desired DESIRED`, of each task.
fn states(swarm: &FakeSwarm, name: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let word = |task: &Value| format!("{} desired {}", text(&task["Status"]["State"]), text(&task["DesiredState"]));
    tasks(swarm, name).iter().map(word).collect()
}

/// The update that a client makes: the whole specification, at the version that it has read.
fn change(swarm: &FakeSwarm, name: &str, change: impl Fn(&mut Value)) -> Option<(u16, Value)> {
    let service = get(swarm, &format!("/services/{name}"));
    let mut spec = service["Spec"].clone();
    change(&mut spec);
    let path =
        format!("/v1.41/services/{}/update?version={}", service["ID"].as_str().unwrap(), service["Version"]["Index"]);
    ask_with(swarm, "POST", &path, "", &spec.to_string())
}

#[track_caller]
fn changed(swarm: &FakeSwarm, name: &str, act: impl Fn(&mut Value)) {
    assert_eq!(change(swarm, name, act), Some((200, json!({"Warnings": null}))));
}

fn replicas(count: u64) -> impl Fn(&mut Value) {
    move |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(count)
}

fn constraint(text: &str) -> impl Fn(&mut Value) {
    move |spec| spec["TaskTemplate"]["Placement"]["Constraints"] = json!([text])
}

fn update_state(swarm: &FakeSwarm, name: &str) -> Value {
    get(swarm, &format!("/services/{name}"))["UpdateStatus"]["State"].clone()
}

// --- Tasks -------------------------------------------------------------------------------------------------------------

#[test]
fn a_loop_keeps_five_tasks_of_a_slot() {
    let (_dir, swarm) = swarm();
    add_loop(&swarm, "web", 2);
    until("there were many tries", || swarm.attempts("web") >= 14);
    let tasks = tasks(&swarm, "web");
    for slot in 1..=2 {
        let of_slot: Vec<_> = tasks.iter().filter(|task| task["Slot"] == slot).collect();
        assert_eq!(of_slot.len(), 5);
        assert!(of_slot[..4].iter().all(|task| task["DesiredState"] == "shutdown"));
        let versions: Vec<_> = of_slot.iter().map(|task| task["Version"]["Index"].as_u64().unwrap()).collect();
        assert!(versions.is_sorted(), "{versions:?}");
    }
    assert_eq!(tasks[0]["Status"]["State"], "rejected");
    assert_eq!(tasks[0]["Status"]["Err"], "no");
    assert_eq!(tasks[0]["CreatedAt"].as_str().unwrap().len(), "2026-11-20T10:00:00.000000000Z".len());
    assert_eq!(swarm.running("web"), 0);
}

#[test]
fn a_service_behaves_anew_from_its_next_task_on() {
    let (_dir, swarm) = swarm();
    let exits = Behaviour::Exits { code: 3, lives: millis(100), every: millis(200) };
    swarm.add_service_with("web", healthy_spec("web", 1, &[]), exits.clone());
    until("it failed", || tasks(&swarm, "web").iter().any(|task| task["Status"]["State"] == "failed"));
    let failed = tasks(&swarm, "web").into_iter().find(|task| task["Status"]["State"] == "failed").unwrap();
    assert_eq!(failed["Status"]["Err"], "task: non-zero exit (3)");
    assert_eq!(failed["Status"]["ContainerStatus"]["ExitCode"], 3);
    swarm.set_behaviour("web", Behaviour::Healthy);
    until("it runs", || swarm.running("web") == 1);
    let healed = swarm.attempts("web");
    swarm.set_behaviour("web", exits);
    std::thread::sleep(millis(500));
    assert_eq!((swarm.running("web"), swarm.attempts("web")), (1, healed), "what runs goes on");
    swarm.crash("web");
    assert_eq!(swarm.running("web"), 0);
}

#[test]
fn listings_are_as_docker_s() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 2, &[("team", "shop")]));
    until("it runs", || swarm.running("web") == 2);
    let services = get(&swarm, "/v1.41/services?status=true");
    assert_eq!(services[0]["ServiceStatus"], json!({"RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0}));
    assert_eq!(services[0]["Spec"]["Labels"], json!({"team": "shop"}));
    assert_eq!(get(&swarm, "/services")[0].get("ServiceStatus"), None);
    assert_eq!(get(&swarm, "/tasks").as_array().unwrap().len(), 2);
    for path in ["/services/nope", "/tasks?filters=%7B%22service%22%3A%5B%22web%22%2C%22nope%22%5D%7D"] {
        let gone = json!({"message": "service nope not found"});
        assert_eq!(ask(&swarm, "GET", path, &Value::Null), (404, gone));
    }
    assert_eq!(get(&swarm, &format!("/nodes/{NODE_ID}"))["ManagerStatus"]["Leader"], true);
    swarm.set_leader(false);
    swarm.add_node("node2", "fake2");
    assert_eq!(get(&swarm, "/nodes").as_array().unwrap().len(), 2);
    assert_eq!(get(&swarm, &format!("/nodes/{NODE_ID}"))["ManagerStatus"].get("Leader"), None);
    assert!(get(&swarm, "/info")["SystemTime"].as_str().unwrap() > services[0]["CreatedAt"].as_str().unwrap());
}

// --- Holding and releasing -----------------------------------------------------------------------------------------------

#[test]
fn no_replicas_end_a_loop_and_the_next_update_forgets_it() {
    let (_dir, swarm) = swarm();
    add_loop(&swarm, "web", 2);
    until("it loops", || swarm.attempts("web") >= 12);
    changed(&swarm, "web", replicas(0));
    let held = SystemTime::now();
    std::thread::sleep(millis(500));
    assert_eq!(swarm.attempts_since("web", held), 0);
    let states = states(&swarm, "web");
    assert_eq!(states, vec!["rejected desired shutdown"; 8], "the last of each slot is removed, as Docker does");
    let service = get(&swarm, "/services/web");
    assert_eq!(service["PreviousSpec"]["Mode"]["Replicated"]["Replicas"], 2);
    assert_eq!(service.get("UpdateStatus"), None);
    changed(&swarm, "web", |spec| spec["Labels"]["squall.quarantine"] = json!("1"));
    assert_eq!(tasks(&swarm, "web").len(), 0);
    swarm.set_behaviour("web", Behaviour::Healthy);
    changed(&swarm, "web", replicas(1));
    until("one runs", || swarm.running("web") == 1);
    changed(&swarm, "web", replicas(3));
    until("three run", || swarm.running("web") == 3);
    let mut slots: Vec<_> = tasks(&swarm, "web").iter().map(|task| task["Slot"].as_u64().unwrap()).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2, 3]);
    assert_eq!(swarm.attempts_since("web", held), 3, "what runs is left alone");
}

#[test]
fn what_runs_is_removed_with_its_replica() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 3, &[]));
    until("it runs", || swarm.running("web") == 3);
    changed(&swarm, "web", replicas(1));
    let mut words = states(&swarm, "web");
    words.sort();
    assert_eq!(words, ["running desired remove", "running desired remove", "running desired running"]);
    until("two are gone", || tasks(&swarm, "web").len() == 1);
    assert_eq!(tasks(&swarm, "web")[0]["Slot"], 1);
}

#[test]
fn labels_and_harmless_placement_restart_nothing() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 2, &[]));
    until("it runs", || swarm.running("web") == 2);
    changed(&swarm, "web", |spec| spec["Labels"]["a"] = json!("b"));
    changed(&swarm, "web", constraint(&format!("node.id == {NODE_ID}")));
    changed(&swarm, "web", |_| ());
    std::thread::sleep(millis(200));
    assert_eq!((swarm.running("web"), swarm.attempts("web")), (2, 2));
    assert_eq!(update_state(&swarm, "web"), Value::Null);
}

#[test]
fn another_template_replaces_slot_by_slot() {
    let (_dir, swarm) = swarm();
    let mut spec = healthy_spec("web", 2, &[]);
    spec["UpdateConfig"] = json!({"Parallelism": 1, "Monitor": 300_000_000, "FailureAction": "pause"});
    swarm.add_service("web", spec);
    until("it runs", || swarm.running("web") == 2);
    changed(&swarm, "web", |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["MODE=other"]));
    let version = swarm.version("web");
    until("it is updating", || update_state(&swarm, "web") == "updating");
    assert!(swarm.version("web") > version, "the status moves the version");
    until("it is updated", || update_state(&swarm, "web") == "completed");
    assert_eq!((swarm.running("web"), swarm.attempts("web")), (2, 4));
    assert_eq!(states(&swarm, "web")[..2], ["shutdown desired shutdown", "shutdown desired shutdown"]);
}

/// What a release from an unmeetable constraint comes to while the cause is still there.
#[test]
fn a_rollout_that_fails_is_paused_and_leaves_the_other_slots_behind() {
    let (_dir, swarm) = swarm();
    add_loop(&swarm, "web", 3);
    until("it loops", || swarm.attempts("web") >= 6);
    changed(&swarm, "web", constraint(NOWHERE));
    let pending = || states(&swarm, "web").iter().filter(|words| **words == "pending desired running").count();
    until("all wait for a node", || pending() == 3);
    let held = SystemTime::now();
    std::thread::sleep(millis(500));
    assert_eq!(swarm.attempts_since("web", held), 0);
    assert_eq!(update_state(&swarm, "web"), "updating", "for ever");
    changed(&swarm, "web", |spec| spec["TaskTemplate"]["Placement"] = json!({}));
    until("the rollout is paused", || update_state(&swarm, "web") == "paused");
    std::thread::sleep(millis(500));
    assert_eq!(pending(), 2, "they wait by the old specification");
    assert!(swarm.attempts_since("web", held) > 1, "and the first loops");
}

#[test]
fn a_global_service_goes_and_comes_by_its_constraint() {
    let (_dir, swarm) = swarm();
    swarm.add_node("node2", "fake2");
    swarm.add_service_with("web", as_global(looping_spec("web", 0, &[])), rejected());
    until("it loops on both", || swarm.attempts("web") >= 4);
    changed(&swarm, "web", constraint(NOWHERE));
    let held = SystemTime::now();
    std::thread::sleep(millis(500));
    assert_eq!(swarm.attempts_since("web", held), 0);
    assert!(states(&swarm, "web").iter().all(|words| words.ends_with("desired shutdown")));
    assert_eq!(update_state(&swarm, "web"), Value::Null);
    swarm.set_behaviour("web", Behaviour::Healthy);
    changed(&swarm, "web", constraint("node.id==node2"));
    until("one runs", || swarm.running("web") == 1);
    changed(&swarm, "web", |spec| spec["TaskTemplate"]["Placement"]["Constraints"] = json!([]));
    until("both run", || swarm.running("web") == 2);
    swarm.add_node("node3", "fake3");
    until("all three run", || swarm.running("web") == 3);
    assert_eq!(swarm.attempts_since("web", held), 3);
    changed(&swarm, "web", constraint("node.id!=node2"));
    until("two run", || swarm.running("web") == 2);
    until("the third has ended", || {
        let tasks = tasks(&swarm, "web");
        let last = tasks.iter().rfind(|task| task["NodeID"] == "node2").unwrap();
        last["Status"]["State"] == "shutdown" && last["DesiredState"] == "shutdown"
    });
}

// --- Writes ----------------------------------------------------------------------------------------------------------------

#[test]
fn docker_s_refusals_change_nothing() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 1, &[]));
    let (old, spec) = (swarm.version("web"), swarm.spec("web"));
    let post = |path: &str, spec: &Value| {
        let (status, body) = ask(&swarm, "POST", path, spec);
        (status, body["message"].as_str().unwrap().to_owned())
    };
    swarm.touch("web");
    let version = swarm.version("web");
    assert!(version > old);
    let stale = (500, "rpc error: code = Unknown desc = update out of sequence".to_owned());
    assert_eq!(post(&format!("/v1.41/services/web/update?version={old}"), &spec), stale);
    let path = format!("/v1.41/services/web/update?version={version}");
    assert_eq!(post(&path, &as_global(spec.clone())).0, 501);
    let mut renamed = spec.clone();
    renamed["Name"] = json!("other");
    assert_eq!(post(&path, &renamed).0, 501);
    assert_eq!(post("/services/nope/update?version=1", &spec), (404, "service nope not found".to_owned()));
    assert_eq!(post("/services/web/update", &spec).0, 400);
    assert_eq!((swarm.version("web"), swarm.spec("web")), (version, spec));
    let writes = swarm.writes();
    assert_eq!(writes.iter().map(|write| write.status.unwrap()).collect::<Vec<_>>(), [500, 501, 501, 404, 400]);
    assert!(writes.iter().all(|write| !write.is_applied));
}

#[test]
fn writes_fail_as_they_are_told() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 1, &[]));
    let replicas_of = |swarm: &FakeSwarm| swarm.spec("web")["Mode"]["Replicated"]["Replicas"].clone();
    swarm.fail_next(Fault::CutBefore);
    swarm.fail_next(Fault::CutAfter);
    assert_eq!(change(&swarm, "web", replicas(2)), None);
    assert_eq!(replicas_of(&swarm), 1);
    assert_eq!(change(&swarm, "web", replicas(3)), None);
    assert_eq!(replicas_of(&swarm), 3);
    swarm.fail_next(Fault::Error(500, "rpc error: code = Unknown desc = context deadline exceeded"));
    assert_eq!(change(&swarm, "web", replicas(4)).unwrap().0, 500);
    assert_eq!(replicas_of(&swarm), 3);
    swarm.fail_next(Fault::Race);
    assert_eq!(change(&swarm, "web", replicas(5)).unwrap().0, 500, "it comes too late");
    assert_eq!(replicas_of(&swarm), 3);
    swarm.fail_next(Fault::Delay(millis(300)));
    let began = Instant::now();
    changed(&swarm, "web", replicas(6));
    assert!(began.elapsed() >= millis(300));
    changed(&swarm, "web", replicas(7));
    let writes = swarm.writes();
    let outcomes: Vec<_> = writes.iter().map(|write| (write.status, write.is_applied)).collect();
    let refused = (Some(500), false);
    let done = (Some(200), true);
    assert_eq!(outcomes, [(None, false), (None, true), refused, refused, done, done]);
    assert_eq!(writes[0].path, format!("/services/{}/update", swarm.service_id("web")));
    assert_eq!(writes[0].body["Mode"]["Replicated"]["Replicas"], 2);
    assert!(!writes[0].has_registry_auth());
    let path = format!("/services/web/update?version={}", swarm.version("web"));
    ask_with(&swarm, "POST", &path, "X-Registry-Auth: e30=\r\n", &swarm.spec("web").to_string());
    assert!(swarm.writes()[6].has_registry_auth());
}

#[test]
fn somebody_else_changes_a_service_too() {
    let (_dir, swarm) = swarm();
    swarm.add_service("web", healthy_spec("web", 1, &[]));
    let version = swarm.version("web");
    swarm.edit("web", replicas(2));
    assert!(swarm.version("web") > version);
    swarm.rollback("web");
    assert_eq!(swarm.spec("web")["Mode"]["Replicated"]["Replicas"], 1);
    swarm.set_update_status("web", Some("rollback_started"));
    assert_eq!(update_state(&swarm, "web"), "rollback_started");
    swarm.set_update_status("web", None);
    assert_eq!(update_state(&swarm, "web"), Value::Null);
    assert!(swarm.writes().is_empty(), "only what came by HTTP is a write");
    swarm.remove_service("web");
    assert_eq!(ask(&swarm, "GET", "/services/web", &Value::Null).0, 404);
}

#[test]
fn updates_are_events_as_docker_s() {
    let (_dir, swarm) = swarm();
    let mut stream = UnixStream::connect(swarm.daemon().socket()).unwrap();
    write!(stream, "GET /v1.41/events HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    until("the stream is open", || swarm.daemon().open_streams() == 1);
    swarm.add_service_with("web", healthy_spec("web", 1, &[]), Behaviour::Healthy);
    until("it runs", || swarm.running("web") == 1);
    changed(&swarm, "web", replicas(0));
    changed(&swarm, "web", |spec| spec["Labels"]["a"] = json!("b"));
    swarm.set_update_status("web", Some("completed"));
    swarm.remove_service("web");
    let mut seen = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(event) = line.starts_with('{').then(|| serde_json::from_str::<Value>(&line).unwrap()) else {
            continue;
        };
        let mut attributes = event["Actor"]["Attributes"].clone();
        if event["Type"] == "service" {
            assert_eq!((&event["scope"], attributes["name"].take()), (&json!("swarm"), json!("web")));
            seen.push((event["Action"].clone(), attributes));
        } else {
            assert_eq!(attributes["com.docker.swarm.service.name"], "web");
            seen.push((event["Action"].clone(), Value::Null));
        }
        if seen.last().unwrap().0 == "remove" {
            break;
        }
    }
    let of_service = |action: &str, attributes: Value| (json!(action), attributes);
    let of_container = |action: &str| (json!(action), Value::Null);
    // The update that forgets a task that is on its way out forgets its container as well.
    assert_eq!(
        seen[..4],
        [
            of_service("create", json!({"name": null})),
            of_container("create"),
            of_container("start"),
            of_service("update", json!({"name": null, "replicas.old": "1", "replicas.new": "0"})),
        ]
    );
    let rest: Vec<_> = seen[4..].iter().filter(|(_, attributes)| !attributes.is_null()).cloned().collect();
    assert_eq!(
        rest,
        [
            of_service("update", json!({"name": null})),
            of_service("update", json!({"name": null, "updatestate.new": "completed"})),
            of_service("remove", json!({"name": null})),
        ]
    );
}

// --- Plain hosts -----------------------------------------------------------------------------------------------------------

#[test]
fn a_container_loops_until_it_is_stopped_or_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let swarm = FakeSwarm::start_plain(dir.path());
    assert_eq!(get(&swarm, "/info")["Swarm"]["LocalNodeState"], "inactive");
    assert_eq!(ask(&swarm, "GET", "/services", &Value::Null).0, 503);
    let id = swarm.add_container("web", "always", 0, &[("team", "shop")]);
    until("it loops", || swarm.container("web")["RestartCount"] == 2);
    until("it waits", || swarm.container("web")["State"]["Restarting"] == true);
    assert_eq!(get(&swarm, "/containers/json?all=true")[0]["State"], "restarting");
    let post = |path: &str, body: &Value| ask(&swarm, "POST", &format!("/v1.41/containers/{path}"), body).0;
    assert_eq!(post(&format!("{id}/stop"), &Value::Null), 204);
    assert_eq!(post("web/stop", &Value::Null), 304);
    let starts = swarm.starts("web");
    std::thread::sleep(millis(1200));
    assert_eq!(swarm.starts("web"), starts);
    assert_eq!(get(&swarm, "/containers/json"), json!([]));
    let policy = json!({"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}});
    assert_eq!(post("web/update", &policy), 200);
    assert_eq!(get(&swarm, "/containers/web/json")["HostConfig"]["RestartPolicy"]["Name"], "no");
    assert_eq!(post("web/start", &Value::Null), 204);
    assert_eq!(post("web/start", &Value::Null), 304);
    until("it is let go", || swarm.container("web")["State"]["Status"] == "exited");
    assert_eq!(swarm.starts("web"), starts + 1);
    swarm.set_container_fails("web", false);
    assert_eq!(post("web/start", &Value::Null), 204);
    std::thread::sleep(millis(700));
    assert_eq!(swarm.container("web")["State"]["Status"], "running");
    assert_eq!(post("nope/stop", &Value::Null), 404);
    assert_eq!(swarm.writes().len(), 7);
}
