//! audit, watch and record against a Docker daemon that does what a real one will not do on demand.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

mod support;

use std::fs::{self, File, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use squall::model::Timestamp;
use support::fake_daemon::{Answer, FakeDaemon, NODE_ID, Step, manager_info, service, service_id, services, tasks};
use tempfile::TempDir;

/// What an audit of a large cluster may hold. The debug build is no larger, only slower.
const AUDIT_PEAK_KB: u64 = 64 << 10;
const MOUNT_ERROR: &str = r#"invalid mount config for type "bind": bind source path does not exist: /nope"#;

fn fake() -> (TempDir, FakeDaemon) {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::start(dir.path());
    (dir, daemon)
}

fn squall(host: &str, args: &[&str]) -> Command {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.args(args).env("DOCKER_HOST", host).env("COLUMNS", "80").stdin(Stdio::null());
    for name in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "SQUALL_CONFIG", "SQUALL_LOG"] {
        squall.env_remove(name);
    }
    squall
}

fn audit(daemon: &FakeDaemon) -> Output {
    squall(&daemon.host(), &["audit", "--log", "none", "--format", "json"]).output().unwrap()
}

#[track_caller]
fn report(output: &Output) -> Value {
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {words}"))
}

/// The storms of a report as `NAME CAUSE`.
#[track_caller]
fn storms(output: &Output) -> Vec<String> {
    let report = report(output);
    let storms = report["storms"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    storms.map(|storm| format!("{} {}", text(&storm["subject"]["name"]), text(&storm["cause"]))).collect()
}

/// The audit did not work, and says why in one sentence that has all these words.
#[track_caller]
fn assert_one_sentence(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    assert!(stderr.starts_with("squall: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "it says {word:?}: {stderr}");
    }
}

fn now_nanos() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

fn secs_ago(secs: i64) -> String {
    Timestamp::from_nanos(now_nanos() - secs * 1_000_000_000).to_string()
}

/// A manager whose clock is right.
fn info_now() -> Value {
    let mut info = manager_info();
    info["SystemTime"] = json!(secs_ago(0));
    info
}

/// A task of a service that was rejected for its mount so many seconds ago.
fn rejected_task(number: usize, service_number: usize, secs: i64) -> Value {
    json!({
        "ID": format!("failedtask{number:016}"), "Version": {"Index": number}, "CreatedAt": secs_ago(secs + 1),
        "UpdatedAt": secs_ago(secs), "ServiceID": service_id(service_number), "Slot": 1, "NodeID": NODE_ID,
        "Spec": {"ContainerSpec": {"Image": "registry.example.com/team/app0:1.2.3"},
            "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000}, "ForceUpdate": 0},
        "Status": {"Timestamp": secs_ago(secs), "State": "rejected", "Message": "preparing", "Err": MOUNT_ERROR},
        "DesiredState": "shutdown",
    })
}

/// The history of a service that fails every second: what Swarm keeps of a slot.
fn failing_tasks() -> Vec<Value> {
    (0..5).map(|n| rejected_task(n, 0, 9 - 2 * i64::try_from(n).unwrap())).collect()
}

fn serve_storm(daemon: &FakeDaemon) {
    daemon.on("/info", |_| Answer::json(info_now().to_string()));
    daemon.on("/services", |_| services(3));
    daemon.on("/tasks", |_| Answer::json(Value::Array(failing_tasks()).to_string()));
}

// --- Answers -----------------------------------------------------------------------------------------------------------

#[test]
fn words_that_docker_may_invent_hide_no_storm() {
    let (_dir, daemon) = fake();
    serve_storm(&daemon);
    daemon.on("/services", |_| {
        let mut odd: Value = serde_json::from_str(&service(1)).unwrap();
        odd["Spec"]["Mode"] = json!({"Quantum": {"Superpositions": 2}});
        odd["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"] = json!("sometimes");
        odd["Spec"]["TaskTemplate"]["Runtime"] = json!("wasm");
        odd["UpdateStatus"] = json!({"State": "sideways", "StartedAt": "soon"});
        odd["ServiceStatus"] = json!({"RunningTasks": "two"});
        Answer::json(format!("[{odd},{},7,\"x\",null]", service(0)))
    });
    daemon.on("/tasks", |_| {
        let mut tasks = failing_tasks();
        for state in ["levitating", "", "orphaned"] {
            let mut odd = rejected_task(90 + tasks.len(), 1, 3);
            odd["Status"]["State"] = json!(state);
            odd["DesiredState"] = json!("elsewhere");
            odd["Slot"] = json!("first");
            tasks.push(odd);
        }
        tasks.push(json!({"ID": 7, "Status": [], "Spec": "none"}));
        Answer::json(Value::Array(tasks).to_string())
    });
    daemon.on("/nodes", |_| Answer::json(r#"[{"ID":"n","Status":{"State":"dreaming"},"Spec":{"Role":"king"}}]"#));
    let output = audit(&daemon);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(storms(&output), ["service0 mount"]);
    assert!(daemon.writes().is_empty());
}

#[test]
fn a_listing_that_is_split_within_its_letters_is_whole() {
    let (_dir, daemon) = fake();
    serve_storm(&daemon);
    daemon.on("/tasks", |_| {
        let mut tasks = failing_tasks();
        for task in &mut tasks {
            task["Status"]["Err"] = json!(format!("{MOUNT_ERROR}/Ünïcödé☂"));
        }
        let text = Value::Array(tasks).to_string().into_bytes();
        Answer::chunks(text.chunks(113).map(<[u8]>::to_vec))
    });
    let output = audit(&daemon);
    assert_eq!(storms(&output), ["service0 mount"]);
    let detail = report(&output)["storms"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("/nope/Ünïcödé☂"), "{detail}");
}

#[test]
fn a_daemon_that_falls_silent_is_given_up_with_a_sentence() {
    let (_dir, daemon) = fake();
    daemon.on("/tasks", |_| Answer::json("[").then(Step::Hang));
    let began = Instant::now();
    let output = audit(&daemon);
    println!("silence within a listing: {:?}", began.elapsed());
    assert_one_sentence(&output, &["/tasks", &daemon.host()]);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[test]
fn a_daemon_that_never_answers_is_given_up_with_a_sentence() {
    let (_dir, daemon) = fake();
    daemon.set_mute(true);
    let began = Instant::now();
    let output = audit(&daemon);
    println!("silence from the start: {:?}", began.elapsed());
    assert_one_sentence(&output, &[&daemon.host()]);
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}

#[test]
fn an_error_of_the_daemon_is_told_in_its_own_words() {
    for path in ["/info", "/services", "/tasks", "/nodes"] {
        let (_dir, daemon) = fake();
        daemon.on(path, |_| Answer::error(500, "rpc error: code = Unknown desc = context deadline exceeded"));
        assert_one_sentence(&audit(&daemon), &["context deadline exceeded", path]);
    }
}

#[test]
fn a_listing_that_is_cut_off_is_no_calm_cluster() {
    let (_dir, daemon) = fake();
    daemon.on("/services", |_| Answer::json(format!("[{},", service(0))).then(Step::Cut));
    assert_one_sentence(&audit(&daemon), &["/services"]);
}

#[test]
fn nagios_gets_its_own_code_when_docker_cannot_be_asked() {
    let (_dir, daemon) = fake();
    daemon.on("/services", |_| Answer::error(500, "a | b"));
    let output = squall(&daemon.host(), &["audit", "--log", "none", "--format", "nagios"]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{line}");
    assert!(line.starts_with("SQUALL UNKNOWN - ") && line.lines().count() == 1 && !line.contains('|'), "{line}");
}

// --- Roles -------------------------------------------------------------------------------------------------------------

fn serve_worker(daemon: &FakeDaemon) {
    daemon.on("/info", |_| {
        let mut info = info_now();
        info["Name"] = json!("worker7");
        info["Swarm"]["ControlAvailable"] = json!(false);
        info["Swarm"].as_object_mut().unwrap().remove("Cluster");
        Answer::json(info.to_string())
    });
    for path in ["/services", "/tasks", "/nodes"] {
        daemon.on(path, |_| {
            let why = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.";
            Answer::error(503, why)
        });
    }
}

#[test]
fn a_worker_tells_of_its_own_containers_and_where_to_ask() {
    let (_dir, daemon) = fake();
    serve_worker(&daemon);
    emit_loop(&daemon, "web", 8);
    let output = audit(&daemon);
    assert_one_sentence(&output, &["worker7", "worker", "manager"]);
    assert_eq!(storms(&output), ["web app-exit"]);
    let listings = ["/services", "/tasks", "/nodes"].map(|path| daemon.count(path));
    assert_eq!(listings, [0; 3], "a worker is not asked what it cannot know");
}

/// One node hears of some tasks of a service, and a worker can neither ask what became of them nor be told what to do.
#[test]
fn a_worker_accuses_no_service_and_complains_of_nothing() {
    let (dir, daemon) = fake();
    serve_worker(&daemon);
    let log = dir.path().join("dockerd.log");
    fs::write(&log, "").unwrap();
    let watch = squall(&daemon.host(), &["watch", "--format", "json", "--log", log.to_str().unwrap()]);
    let mut watch = Running::start(dir.path(), watch);
    watch.until("the event stream is open", |_| daemon.open_streams() > 0);
    let mut lines = String::new();
    for turn in 0..12 {
        for (offset, action) in [(0, "create"), (1, "start"), (2, "die")] {
            let nanos = now_nanos() + offset;
            let event = json!({
                "Type": "container", "Action": action, "scope": "local", "time": nanos / 1_000_000_000,
                "timeNano": nanos,
                "Actor": {"ID": format!("{turn:0>64}"), "Attributes": {
                    "image": "app:1", "name": format!("shop_api.1.{turn:0>25}"), "exitCode": "1",
                    "com.docker.swarm.service.id": service_id(0), "com.docker.swarm.service.name": "shop_api",
                    "com.docker.swarm.task.id": format!("{turn:0>25}"),
                    "com.docker.swarm.task.name": format!("shop_api.1.{turn:0>25}"),
                    "com.docker.swarm.node.id": NODE_ID,
                }},
            });
            daemon.emit(nanos, event.to_string());
        }
        let line = format!(
            "time=\"{}\" level=error msg=\"fatal task error\" error={} module=node/agent/taskmanager node.id={NODE_ID} service.id={} task.id=task{turn:021}\n",
            secs_ago(0),
            json!(MOUNT_ERROR),
            service_id(1)
        );
        lines.push_str(&line);
    }
    fs::write(&log, lines).unwrap();
    emit_loop(&daemon, "web", 8);
    watch.until("what runs beside Swarm is told", |watch| !watch.notices("onset").is_empty());
    std::thread::sleep(Duration::from_secs(8));
    let onsets = watch.notices("onset");
    let names: Vec<&Value> = onsets.iter().map(|line| &line["storm"]["subject"]["name"]).collect();
    assert_eq!(names, ["web"], "{}", watch.words());
    assert_eq!(watch.words().matches("ERROR").count(), 0, "{}", watch.words());
    assert_eq!(watch.notices("trouble").len(), 0);
    // It becomes a manager, and sees all.
    daemon.off("/nodes");
    serve_storm(&daemon);
    watch.until("a service is told", |watch| watch.notices("onset").len() == 2);
    assert_eq!(watch.notices("onset")[1]["storm"]["subject"]["name"], "service0");
    assert_eq!(watch.terminate(), Some(0));
}

/// A container that its engine restarts every second, in the events that the daemon remembers; the last is now.
fn emit_loop(daemon: &FakeDaemon, name: &str, times: i64) {
    let now = now_nanos();
    for turn in 0..times {
        let base = now - (times - turn) * 1_000_000_000;
        for (offset, action) in [(0, "start"), (500_000_000, "die")] {
            let nanos = base + offset;
            let exit = if action == "die" { r#","exitCode":"1""# } else { "" };
            let id = format!("{name:0>64}");
            daemon.emit(
                nanos,
                format!(
                    r#"{{"status":"{action}","id":"{id}","from":"app:1","Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"image":"app:1","name":"{name}"{exit}}}}},"scope":"local","time":{},"timeNano":{nanos}}}"#,
                    nanos / 1_000_000_000
                ),
            );
        }
    }
}

fn serve_plain(daemon: &FakeDaemon) {
    daemon.on("/info", |_| {
        let mut info = info_now();
        info["Swarm"] = json!({"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": false});
        Answer::json(info.to_string())
    });
}

#[test]
fn a_plain_host_s_restart_loop_is_a_storm_by_its_events() {
    let (_dir, daemon) = fake();
    serve_plain(&daemon);
    emit_loop(&daemon, "web", 8);
    let output = audit(&daemon);
    assert_eq!(storms(&output), ["web app-exit"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_container_that_waits_for_its_next_start_is_a_storm_by_its_count() {
    let (_dir, daemon) = fake();
    serve_plain(&daemon);
    let container = |name: &str, state: &str, restarts: u64| {
        let id = format!("{name:0>64}");
        let brief = json!({"Id": id, "Names": [format!("/{name}")], "Image": "app:1", "State": state, "Labels": {}});
        let whole = json!({
            "Id": id, "Name": format!("/{name}"), "Created": secs_ago(9000), "RestartCount": restarts, "Image": "sha256:0",
            "State": {"Status": state, "Running": true, "Restarting": state == "restarting", "ExitCode": 1,
                "OOMKilled": false, "Error": "", "StartedAt": secs_ago(30), "FinishedAt": secs_ago(29)},
            "Config": {"Image": "app:1", "Labels": {}, "Env": ["PASSWORD=x"]},
            "HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
        });
        (id, brief, whole)
    };
    let all = [
        container("loops", "restarting", 400),
        container("stumbled", "restarting", 1),
        container("runs", "running", 50),
    ];
    let list = Value::Array(all.iter().map(|(_, brief, _)| brief.clone()).collect()).to_string();
    daemon.on("/containers/json", move |_| Answer::json(list.clone()));
    for (id, _, whole) in all {
        daemon.on(&format!("/containers/{id}/json"), move |_| Answer::json(whole.to_string()));
    }
    let output = audit(&daemon);
    assert_eq!(storms(&output), ["loops app-exit"]);
    assert_eq!(output.status.code(), Some(1));
}

// --- No daemon -----------------------------------------------------------------------------------------------------------

#[test]
fn without_a_socket_a_sentence_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.sock");
    let host = format!("unix://{}", path.display());
    let output = squall(&host, &["audit"]).output().unwrap();
    assert_one_sentence(&output, &[path.to_str().unwrap(), "DOCKER_HOST"]);
    let out = dir.path().join("out");
    let output = squall(&host, &["record", "--output", out.to_str().unwrap()]).output().unwrap();
    assert_one_sentence(&output, &[path.to_str().unwrap()]);
    assert!(!out.exists(), "nothing was recorded, so nothing is left behind");
}

#[test]
fn without_permission_a_sentence_says_what_to_do() {
    let (dir, daemon) = fake();
    fs::set_permissions(daemon.socket(), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    // Root may open everything: then a copy of the program runs as nobody, from where nobody may run it.
    let program = dir.path().join("squall");
    fs::copy(env!("CARGO_BIN_EXE_squall"), &program).unwrap();
    // Nobody is given the permission by itself, so watch does not wait for it.
    for command in ["audit", "watch"] {
        let mut squall = Command::new(&program);
        squall.args([command, "--log", "none"]).env("DOCKER_HOST", daemon.host()).env("HOME", "/").current_dir("/");
        squall.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_CONFIG").env_remove("SQUALL_CONFIG");
        if fs::metadata(dir.path()).unwrap().uid() == 0 {
            squall.uid(65534).gid(65534);
        }
        assert_one_sentence(&squall.output().unwrap(), &[daemon.socket().to_str().unwrap(), "permission", "docker"]);
    }
}

#[test]
fn watch_does_not_wait_for_a_docker_that_cannot_be_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), "no certificate").unwrap();
    for (variables, words) in [
        (&[("DOCKER_CONTEXT", "nowhere"), ("DOCKER_HOST", "")][..], &["nowhere", "context"][..]),
        (&[("DOCKER_HOST", "tcp://h:99999")], &["DOCKER_HOST", "port"]),
        (
            &[
                ("DOCKER_HOST", "tcp://127.0.0.1:1"),
                ("DOCKER_TLS_VERIFY", "1"),
                ("DOCKER_CERT_PATH", dir.path().to_str().unwrap()),
            ],
            &["certificates", "127.0.0.1:1"],
        ),
    ] {
        for command in [&["watch", "--log", "none"][..], &["config", "check"]] {
            let mut squall = squall("", command);
            squall.envs(variables.iter().copied()).env("DOCKER_CONFIG", dir.path());
            assert_one_sentence(&squall.output().unwrap(), words);
        }
    }
}

#[test]
fn watch_waits_for_a_docker_that_is_away_at_its_start_and_says_so_once() {
    let (dir, mut daemon) = fake();
    serve_storm(&daemon);
    daemon.stop();
    let mut watch = Running::start(dir.path(), squall(&daemon.host(), &["watch", "--log", "none", "--format", "json"]));
    let said = |watch: &Running| watch.words().matches("Docker is away").count();
    watch.until("it says that Docker is away", |watch| said(watch) == 1);
    // A try after one second and another after two.
    std::thread::sleep(Duration::from_secs(4));
    watch.until("it still waits", |_| true);
    assert_eq!(said(&watch), 1, "{}", watch.words());
    // The socket is there, and nobody answers at it: another reason.
    let dead = std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap();
    drop(dead);
    watch.until("it says what else is wrong", |watch| said(watch) == 2);
    fs::remove_file(daemon.socket()).unwrap();
    daemon.resume();
    watch.until("it watches", |watch| watch.words().contains("watching") && daemon.open_streams() > 0);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn a_watch_that_waits_for_docker_ends_at_once_when_it_is_told_to() {
    let (dir, mut daemon) = fake();
    daemon.stop();
    let mut watch = Running::start(dir.path(), squall(&daemon.host(), &["watch", "--log", "none"]));
    watch.until("it waits", |watch| watch.words().contains("Docker is away"));
    // In the pause before a later try.
    std::thread::sleep(Duration::from_secs(4));
    let began = Instant::now();
    assert_eq!(watch.terminate(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn all_services_are_not_enforced_by_a_response_that_holds_none() {
    let (dir, daemon) = fake();
    let config = |text: &str| {
        let path = dir.path().join("squall.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let words = &["respond.response", "observe holds nothing", "--response", "backoff"];
    assert_one_sentence(&squall(&daemon.host(), &["watch", "--enforce=all"]).output().unwrap(), words);
    let bad = config("[respond]\nact = true\nenforce = \"all\"\n");
    for command in [&["watch", "-c", &bad][..], &["config", "check", &bad]] {
        assert_one_sentence(&squall(&daemon.host(), command).output().unwrap(), words);
    }
    assert_eq!(daemon.requests().len(), 0, "Docker is not asked");
    let mended =
        squall(&daemon.host(), &["watch", "-c", &bad, "--response=backoff", "--log", "none", "--format", "json"]);
    let mut watch = Running::start(dir.path(), mended);
    watch.until("it watches", |watch| watch.words().contains("watching"));
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn config_check_finds_all_for_which_watch_would_not_start() {
    let (dir, daemon) = fake();
    let path = dir.path().join("mistakes.toml");
    let settings = "\
[log]
source = \"/nowhere/dockerd.log\"
[alert]
dead_man = { env = \"SQUALL_TEST_NOT_SET\" }
[serve]
listen = \"0.0.0.0:0\"
[[receiver]]
name = \"file\"
type = \"slack\"
secret = { file = \"/nowhere/slack\" }
[[receiver]]
name = \"url\"
type = \"webhook\"
url = \"http://\"
[[silence]]
name = \"night\"
cron = \"61 * * * *\"
lasts = \"1h\"
[[registry]]
name = \"docker.io\"
login = { file = \"/nowhere/login\" }
";
    fs::write(&path, settings).unwrap();
    let file = path.to_str().unwrap();
    let keys = [
        (2, "log.source"),
        (4, "alert.dead_man"),
        (6, "serve.listen"),
        (10, "[[receiver]] file: secret"),
        (14, "[[receiver]] url: url"),
        (17, "[[silence]] night: cron"),
        (21, "[[registry]] docker.io: login"),
    ];
    for args in [&["config", "check", file][..], &["-c", file, "config", "check"]] {
        let output = squall(&daemon.host(), args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(2), keys.len()), "{stderr}");
        for ((line, key), said) in keys.iter().zip(stderr.lines()) {
            assert!(said.starts_with(&format!("squall: {file}:{line}:1: {key}: ")), "line {line}, {key}: {said}");
        }
    }
    // Each by itself: what is refused there is refused here.
    let parts: Vec<&str> = settings.split_inclusive('\n').collect();
    for (at, (_, key)) in [0..2, 2..4, 4..6, 6..10, 10..14, 14..18, 18..21].into_iter().zip(keys) {
        fs::write(&path, parts[at].concat()).unwrap();
        let watch = squall(&daemon.host(), &["watch", "-c", file]).output().unwrap();
        assert_one_sentence(&watch, &[key]);
    }
    fs::write(&path, "").unwrap();
    let output = squall(&daemon.host(), &["config", "check", file]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(daemon.requests().is_empty(), "Docker is not asked");
    let absent = dir.path().join("absent.toml");
    let output = squall(&daemon.host(), &["config", "check", absent.to_str().unwrap()]).output().unwrap();
    assert_one_sentence(&output, &[absent.to_str().unwrap()]);
}

#[test]
fn a_refused_connection_is_told_with_its_address() {
    let output = squall("tcp://127.0.0.1:1", &["audit", "--log", "none"]).output().unwrap();
    assert_one_sentence(&output, &["127.0.0.1:1", "refused"]);
}

// --- Size ----------------------------------------------------------------------------------------------------------------

#[test]
fn a_large_cluster_is_audited_in_bounded_memory() {
    for (service_count, task_count) in [(5_000, 50_000), (10_000, 50_000)] {
        let (_dir, daemon) = fake();
        serve_storm(&daemon);
        daemon.on("/services", move |_| services(service_count));
        daemon.on("/tasks", move |_| tasks(task_count, service_count));
        let (peak_kb, took, output) = measured(squall(&daemon.host(), &["audit", "--log", "none", "--format", "json"]));
        println!("{service_count} services, {task_count} tasks: {took:?}, {peak_kb} kB at most");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(report(&output)["calm"], service_count);
        assert!(peak_kb < AUDIT_PEAK_KB, "{peak_kb} kB at most, for {service_count} services");
    }
}

/// A command's peak of memory, in kB, by looking at it all the time; how long it took, and its output.
fn measured(mut command: Command) -> (u64, Duration, Output) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut peak_kb = 0;
    let status = loop {
        if let Ok(text) = fs::read_to_string(format!("/proc/{}/status", child.id()))
            && let Some(peak) = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            peak_kb = peak.trim().trim_end_matches(" kB").parse().unwrap();
        }
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let took = began.elapsed();
    let mut stderr = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    (peak_kb, took, Output { status, stdout: reader.join().unwrap(), stderr })
}

// --- Watching ------------------------------------------------------------------------------------------------------------

/// A child whose output goes to files; it is killed when the test ends before it.
struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    fn start(dir: &Path, mut command: Command) -> Self {
        let (out, err) = (dir.join("out"), dir.join("err"));
        command.env("STATE_DIRECTORY", dir.join("state"));
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
        Self { child, out, err }
    }

    fn watch(dir: &Path, daemon: &FakeDaemon) -> Self {
        let watch = squall(&daemon.host(), &["watch", "--log", "none", "--format", "json"]);
        let mut watch = Self::start(dir, watch);
        watch.until("the event stream is open", |_| daemon.open_streams() > 0);
        watch
    }

    /// The lines of one kind.
    fn notices(&self, notice: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["notice"] == notice).collect()
    }

    fn words(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    #[track_caller]
    fn until(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_within(20, what, holds);
    }

    #[track_caller]
    fn until_within(&mut self, secs: u64, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(secs);
        while !holds(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended by itself ({status}) before {what}: {}", self.words());
            }
            assert!(Instant::now() < until, "not in {secs} s: {what}\n{}", self.words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end 10 s after SIGTERM");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nothing_is_ever_written_to_docker() {
    let (dir, daemon) = fake();
    serve_storm(&daemon);
    assert_eq!(storms(&audit(&daemon)), ["service0 mount"]);
    let risks = squall(&daemon.host(), &["audit", "--risks", "--for", "1s", "--log", "none"]).output().unwrap();
    assert_eq!(risks.status.code(), Some(1));
    let out = dir.path().join("recording");
    let record = squall(&daemon.host(), &["record", "--for", "2s", "--log", "none", "-o", out.to_str().unwrap()]);
    let record = { record }.output().unwrap();
    assert_eq!(record.status.code(), Some(0), "{}", String::from_utf8_lossy(&record.stderr));
    let mut watch = Running::watch(dir.path(), &daemon);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    assert_eq!(watch.terminate(), Some(0));
    assert!(daemon.requests().len() > 20);
    assert_eq!(daemon.writes().iter().map(|request| request.path.clone()).collect::<Vec<_>>(), [] as [String; 0]);
}

#[test]
fn watch_outlives_its_daemon_and_says_what_it_missed() {
    let (dir, mut daemon) = fake();
    serve_storm(&daemon);
    daemon.emit_container("create", "before");
    let mut watch = Running::watch(dir.path(), &daemon);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    daemon.emit_container("create", "seen");
    std::thread::sleep(Duration::from_millis(300));
    daemon.stop();
    watch.until("the loss is said", |watch| watch.notices("lost").len() == 1);
    std::thread::sleep(Duration::from_secs(1));
    daemon.forget_events();
    daemon.resume();
    watch.until("it is back, with a gap", |watch| watch.notices("back").len() == 1 && watch.notices("gap").len() == 1);
    assert_eq!(watch.notices("gap")[0]["gap"]["why"], "daemon-restarted");
    let listed = daemon.count("/tasks");
    watch.until("everything is listed again", |_| daemon.count("/tasks") > listed);
    assert_eq!(watch.notices("lost").len(), 1, "one loss is one line: {}", watch.words());
    assert_eq!(watch.notices("onset").len(), 1, "a known storm is not said again: {}", watch.words());
    assert_eq!(watch.notices("subsided").len(), 0);
    assert_eq!(watch.terminate(), Some(0));
    let mut command = squall(&daemon.host(), &["report", "--format", "json"]);
    let output = command.env("STATE_DIRECTORY", dir.path().join("state")).output().unwrap();
    let kept = report(&output)["gaps"].as_array().map_or(0, Vec::len);
    assert_eq!(kept, 1, "the journal has the gap: {}", String::from_utf8_lossy(&output.stdout));
}

/// The try that was under way fails a moment after its service was removed.
#[test]
fn a_removed_service_s_last_failure_is_no_new_storm() {
    let (dir, daemon) = fake();
    serve_storm(&daemon);
    let log = dir.path().join("dockerd.log");
    fs::write(&log, "").unwrap();
    let watch = squall(&daemon.host(), &["watch", "--format", "json", "--log", log.to_str().unwrap()]);
    let mut watch = Running::start(dir.path(), watch);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    daemon.on("/services", |_| Answer::json("[]"));
    daemon.on("/tasks", |_| Answer::json("[]"));
    let nanos = now_nanos();
    daemon.emit(
        nanos,
        format!(
            r#"{{"Type":"service","Action":"remove","Actor":{{"ID":"{}","Attributes":{{"name":"service0"}}}},"scope":"swarm","time":{},"timeNano":{nanos}}}"#,
            service_id(0),
            nanos / 1_000_000_000
        ),
    );
    // A service that comes under its name within the hold-down would continue it.
    watch.until_within(80, "it is over", |watch| watch.notices("subsided").len() == 1);
    let line = format!(
        "time=\"{}\" level=error msg=\"fatal task error\" error={} module=node/agent/taskmanager node.id={NODE_ID} service.id={} task.id=lasttask00000000000000000\n",
        secs_ago(0),
        json!(MOUNT_ERROR),
        service_id(0)
    );
    fs::write(&log, line).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(watch.notices("onset").len(), 1, "{}", watch.words());
    assert_eq!(watch.terminate(), Some(0));
}

/// The log remembers storms of services that are gone by now, and time passes while the end of it is held against what
/// there is.
#[test]
fn a_service_that_was_removed_before_the_start_is_no_storm() {
    let (dir, daemon) = fake();
    serve_storm(&daemon);
    daemon.on("/images/json", |_| Answer::json("[]").after(Duration::from_secs(2)));
    let log = dir.path().join("dockerd.log");
    let line = |secs: i64| {
        format!(
            "time=\"{}\" level=error msg=\"fatal task error\" error={} module=node/agent/taskmanager node.id={NODE_ID} service.id={} task.id=gonetask{secs:016}\n",
            secs_ago(secs),
            json!(MOUNT_ERROR),
            service_id(7)
        )
    };
    fs::write(&log, (3..15).rev().map(line).collect::<String>()).unwrap();
    let watch = squall(&daemon.host(), &["watch", "--format", "json", "--log", log.to_str().unwrap()]);
    let mut watch = Running::start(dir.path(), watch);
    watch.until("a storm is known", |watch| !watch.notices("onset").is_empty());
    std::thread::sleep(Duration::from_secs(3));
    let onsets = watch.notices("onset");
    let names: Vec<&Value> = onsets.iter().map(|line| &line["storm"]["subject"]["name"]).collect();
    assert_eq!(names, ["service0"], "{}", watch.words());
    assert_eq!(watch.terminate(), Some(0));
}

/// An hour that nobody lived through ends no storm and begins none.
#[test]
fn a_daemon_whose_clock_is_set_loses_no_storm_and_invents_none() {
    for by in [3600_i64, -3600] {
        let (dir, daemon) = fake();
        serve_storm(&daemon);
        let mut watch = Running::watch(dir.path(), &daemon);
        watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
        daemon.on("/info", move |_| {
            let mut info = info_now();
            info["SystemTime"] = json!(secs_ago(-by));
            Answer::json(info.to_string())
        });
        let nanos = now_nanos() + by * 1_000_000_000;
        daemon.emit(
            nanos,
            format!(
                r#"{{"Type":"container","Action":"create","Actor":{{"ID":"{:0>64}","Attributes":{{"name":"x"}}}},"scope":"local","time":{},"timeNano":{nanos}}}"#,
                "x",
                nanos / 1_000_000_000
            ),
        );
        watch.until("the step is said", |watch| watch.notices("gap").len() == 1);
        assert_eq!(watch.notices("gap")[0]["gap"]["why"], "clock-stepped");
        let listed = daemon.count("/services");
        watch.until("it is listed on", |_| daemon.count("/services") > listed + 1);
        assert_eq!(watch.notices("onset").len(), 1, "{by} s: {}", watch.words());
        assert_eq!(watch.notices("subsided").len(), 0, "{by} s: {}", watch.words());
        assert_eq!(watch.notices("gap").len(), 1, "{by} s: {}", watch.words());
        assert_eq!(watch.terminate(), Some(0));
    }
}

/// A manager that starts reads its Raft log again, and says what happened in it a second time, at the old times.
/// These events prove nothing of what the node itself has seen.
#[test]
fn a_restarted_manager_s_old_swarm_events_hide_no_gap() {
    let (dir, mut daemon) = fake();
    daemon.on("/info", |_| Answer::json(info_now().to_string()));
    let mut watch = Running::watch(dir.path(), &daemon);
    let nanos = now_nanos();
    let created = format!(
        r#"{{"Type":"service","Action":"create","Actor":{{"ID":"{}","Attributes":{{"name":"service0"}}}},"scope":"swarm","time":{},"timeNano":{nanos}}}"#,
        service_id(0),
        nanos / 1_000_000_000
    );
    daemon.emit(nanos, created.clone());
    std::thread::sleep(Duration::from_millis(300));
    daemon.stop();
    watch.until("the loss is said", |watch| watch.notices("lost").len() == 1);
    daemon.forget_events();
    daemon.emit(nanos, created);
    daemon.resume();
    watch.until("it is back", |watch| watch.notices("back").len() == 1);
    watch.until("a gap is said", |watch| watch.notices("gap").len() == 1);
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn a_manager_that_becomes_a_worker_is_still_watched() {
    let (dir, daemon) = fake();
    serve_storm(&daemon);
    let mut watch = Running::watch(dir.path(), &daemon);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    serve_worker(&daemon);
    watch.until("the refusal is said", |watch| !watch.notices("trouble").is_empty());
    let asked = daemon.count("/info");
    watch.until("it goes on asking", |_| daemon.count("/info") > asked);
    assert_eq!(watch.notices("trouble").len(), 1, "said once: {}", watch.words());
    assert_eq!(watch.notices("role").len(), 1, "{}", watch.words());
    serve_storm(&daemon);
    let listed = daemon.count("/tasks");
    watch.until("it lists tasks again", |_| daemon.count("/tasks") > listed + 1);
    assert_eq!(watch.notices("onset").len(), 1, "a known storm is not said again: {}", watch.words());
    assert_eq!(watch.terminate(), Some(0));
}

#[test]
fn watch_sees_a_plain_host_s_restart_loop_begin() {
    let (dir, daemon) = fake();
    serve_plain(&daemon);
    let mut watch = Running::watch(dir.path(), &daemon);
    emit_loop(&daemon, "web", 8);
    watch.until("the storm is known", |watch| watch.notices("onset").len() == 1);
    assert_eq!(watch.notices("onset")[0]["storm"]["subject"]["name"], "web");
    assert_eq!(watch.terminate(), Some(0));
}
