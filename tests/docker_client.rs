//! What the Docker client makes of daemons that misbehave, and how it finds one. Each test is named by its symptom.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

#[path = "docker_client/endpoint.rs"]
mod endpoint;
#[path = "docker_client/follow.rs"]
mod follow;
mod support;
#[path = "docker_client/tls.rs"]
mod tls;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use squall::docker::error::{NotManager, Phase};
use squall::docker::{Client, Endpoint, Error, EventFilter, EventStream, Limits, ListStats};
use support::fake_daemon::{
    Answer, FakeDaemon, NODE_ID, Step, container_event, manager_info, service_id, services, tasks,
};
use tempfile::TempDir;

/// Runs a test's future as the daemon runs its own: on one thread, and not for ever.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("the test hangs") })
}

fn fake() -> (TempDir, FakeDaemon) {
    let dir = tempfile::tempdir().unwrap();
    let daemon = FakeDaemon::start(dir.path());
    (dir, daemon)
}

/// Limits short enough for a test to reach, long enough for a busy machine.
fn limits() -> Limits {
    let short = Duration::from_millis(400);
    Limits { connect: short, headers: short, idle: short, ..Limits::default() }
}

fn client(daemon: &FakeDaemon) -> Client {
    client_of(&daemon.host(), limits())
}

fn client_of(host: &str, limits: Limits) -> Client {
    Client::new(&Endpoint::parse(host).unwrap(), limits).unwrap()
}

async fn elements(client: &Client, path: &str) -> (Vec<String>, Result<ListStats, Error>) {
    let mut found = Vec::new();
    let stats = client.list(path, &mut |bytes| found.push(String::from_utf8_lossy(bytes).into_owned())).await;
    (found, stats)
}

async fn take_events(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..count {
        let event = tokio::time::timeout(Duration::from_secs(2), stream.next()).await.expect("an event is withheld");
        found.push(String::from_utf8_lossy(&event.unwrap().unwrap()).into_owned());
    }
    found
}

async fn all_events(client: &Client) -> EventStream {
    client.events(None, None, &EventFilter::all()).await.unwrap()
}

// --- Versions ---------------------------------------------------------------------------------------------------------

#[test]
fn every_request_but_the_first_names_the_negotiated_version() {
    let (_dir, daemon) = fake();
    run(async {
        let client = Client::connect(&Endpoint::parse(&daemon.host()).unwrap()).await.unwrap();
        assert_eq!(client.version().unwrap().to_string(), "1.41");
        client.info().await.unwrap();
        client.services(&mut |_| ()).await.unwrap();
        let _ = all_events(&client).await;
    });
    let seen: Vec<_> = daemon.requests().into_iter().map(|request| (request.path, request.version)).collect();
    let at = |path: &str, version: Option<&str>| (path.to_owned(), version.map(str::to_owned));
    let expected =
        [at("/version", None), at("/info", Some("1.41")), at("/services", Some("1.41")), at("/events", Some("1.41"))];
    assert_eq!(seen, expected);
    assert!(daemon.writes().is_empty());
}

#[test]
fn a_daemon_without_a_common_version_is_refused_with_both_ranges() {
    let check = |answer: &'static str, expected: &str| {
        let (_dir, daemon) = fake();
        daemon.on("/version", move |_| Answer::json(answer));
        let error = run(client(&daemon).negotiate()).unwrap_err();
        assert!(matches!(error, Error::NoCommonVersion { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(r#"{"ApiVersion":"1.60","MinAPIVersion":"1.58"}"#, "speaks API 1.58 to 1.60, squall 1.24 to 1.51");
    check(r#"{"ApiVersion":"1.18"}"#, "speaks API 1.18, squall");
}

#[test]
fn a_version_answer_that_cannot_be_decoded_falls_back_to_the_ping() {
    for odd in [r#"{"ApiVersion":7,"Components":"x"}"#, r#"{"Version":"1"}"#] {
        let (_dir, daemon) = fake();
        daemon.on("/version", move |_| Answer::json(odd));
        assert_eq!(run(client(&daemon).negotiate()).unwrap().to_string(), "1.41", "{odd}");
    }
}

#[test]
fn a_daemon_downgraded_under_us_says_so_and_a_new_negotiation_helps() {
    let (_dir, daemon) = fake();
    daemon.on("/info", |request| match request.nth {
        0 => Answer::error(400, "client version 1.41 is too new. Maximum supported API version is 1.40"),
        _ => Answer::json(manager_info().to_string()),
    });
    run(async {
        let client = client(&daemon);
        let error = client.info().await.unwrap_err();
        assert!(matches!(error, Error::VersionRefused { .. }), "{error}");
        daemon.on("/version", |_| Answer::json(r#"{"ApiVersion":"1.40"}"#));
        assert_eq!(client.negotiate().await.unwrap().to_string(), "1.40");
        client.info().await.unwrap();
    });
}

// --- Answers that typed decoding would lose (H2, H3) -------------------------------------------------------------------

#[test]
fn h2_an_unknown_word_in_an_event_ends_no_stream() {
    let (_dir, daemon) = fake();
    let odd = [
        r#"{"Type":"stack","Action":"sing","scope":"galaxy","timeNano":1}"#,
        r#"{"Type":"container","Actor":{"Attributes":{"n":7}},"timeNano":"never"}"#,
        r#"{"error":"something"}"#,
        r#"{"Type":"container","Action":"die","timeNano":4}"#,
    ];
    daemon.on("/events", move |_| Answer::json(odd.join("\n") + "\n").then(Step::Hang));
    let found = run(async {
        let mut stream = all_events(&client(&daemon)).await;
        take_events(&mut stream, 4).await
    });
    assert_eq!(found, odd);
}

#[test]
fn h3_an_unknown_task_state_costs_no_listing() {
    let (_dir, daemon) = fake();
    let odd =
        [r#"{"ID":"a","Status":{"State":"hibernating"}}"#, r#"{"ID":7}"#, r#"{"ID":"c","Status":{"State":"failed"}}"#];
    daemon.on("/tasks", move |_| Answer::json(format!("[{}]", odd.join(","))));
    let (found, stats) = run(async { elements(&client(&daemon), "/tasks").await });
    assert_eq!(found, odd);
    assert_eq!(stats.unwrap().elements, 3);
}

#[test]
fn an_empty_listing_is_empty_in_all_its_forms() {
    for body in ["[]", "null\n", "[\n]\n", ""] {
        let (_dir, daemon) = fake();
        daemon.on("/services", move |_| Answer::json(body));
        let (found, stats) = run(async { elements(&client(&daemon), "/services").await });
        assert!(found.is_empty() && stats.is_ok(), "{body:?}: {stats:?}");
    }
}

#[test]
fn an_odd_info_still_tells_the_rest() {
    let (_dir, daemon) = fake();
    daemon.on("/info", |_| {
        Answer::json(r#"{"Name":"n","Swarm":{"LocalNodeState":"dreaming","Nodes":"many"},"NCPU":[]}"#)
    });
    let info = run(async { client(&daemon).info().await }).unwrap();
    assert_eq!((info.name.as_str(), info.swarm.local_node_state.as_str(), info.swarm.nodes), ("n", "dreaming", 0));
    daemon.on("/info", |_| Answer::json("<html>"));
    let error = run(async { client(&daemon).info().await }).unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
}

#[test]
fn an_element_of_five_megabytes_is_counted_and_the_next_is_read() {
    let (_dir, daemon) = fake();
    daemon.on("/tasks", |_| Answer::json(format!(r#"[{{"ID":"{}"}},{{"ID":"b"}}]"#, "x".repeat(5 << 20))));
    let (found, stats) = run(async { elements(&client(&daemon), "/tasks").await });
    assert_eq!((found.len(), stats.unwrap().too_long), (1, 1));
}

// --- Time (H6) --------------------------------------------------------------------------------------------------------

fn assert_timeout(error: &Error, expected: Phase) {
    assert!(matches!(error, Error::Timeout { phase, .. } if *phase == expected), "{error}");
    assert!(error.is_transient());
}

#[test]
fn h6_a_body_that_stalls_ends_the_call() {
    let (_dir, daemon) = fake();
    daemon.on("/tasks", |_| Answer::json(r#"[{"ID":"a"},{"ID":"#).then(Step::Hang));
    daemon.on("/info", |_| Answer::json(r#"{"Name":"#).then(Step::Hang));
    run(async {
        let client = client(&daemon);
        let (found, stats) = elements(&client, "/tasks").await;
        assert_eq!(found, [r#"{"ID":"a"}"#]);
        assert_timeout(&stats.unwrap_err(), Phase::Body);
        assert_timeout(&client.info().await.unwrap_err(), Phase::Body);
    });
}

#[test]
fn a_body_that_dribbles_for_ever_ends_the_call() {
    let (_dir, daemon) = fake();
    daemon.on("/info", |_| Answer::chunks(vec![" "; 500]));
    let limits = Limits { small: Duration::from_millis(500), ..limits() };
    run(async {
        let error = client_of(&daemon.host(), limits).info().await.unwrap_err();
        assert_timeout(&error, Phase::Body);
    });
}

#[test]
fn a_daemon_that_accepts_and_says_nothing_ends_the_call() {
    let (_dir, daemon) = fake();
    run(async {
        let client = client(&daemon);
        client.negotiate().await.unwrap();
        daemon.set_mute(true);
        assert_timeout(&client.info().await.unwrap_err(), Phase::Headers);
        assert_timeout(&client.ping().await.unwrap_err(), Phase::Headers);
        assert_timeout(&client.negotiate().await.unwrap_err(), Phase::Headers);
    });
}

#[test]
fn an_endless_small_answer_is_cut_at_its_limit() {
    let (_dir, daemon) = fake();
    daemon.on("/info", |_| Answer::json(format!(r#"{{"Name":"{}"}}"#, "x".repeat(9 << 20))));
    let error = run(async { client(&daemon).info().await }).unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
}

// --- Framing (H7) and ends (H8) -----------------------------------------------------------------------------------------

#[test]
fn h7_an_event_comes_with_its_last_brace_however_the_bytes_are_cut() {
    let (a, b) = (container_event(1, "create", "a"), container_event(2, "die", "b"));
    let cut_at = a.len() / 2;
    let framings: Vec<Vec<String>> = vec![
        // The chunk ends with the brace, and the newline begins the next one.
        vec![a.clone(), format!("\n{b}")],
        // CR and LF apart.
        vec![format!("{a}\r"), format!("\n{b}\r"), "\n".to_owned()],
        vec![a[..cut_at].to_owned(), format!("{}\n{}", &a[cut_at..], &b[..1]), b[1..].to_owned()],
        vec![format!("{a}{b}")],
        vec![format!("\u{1e}{a}\n\u{1e}"), format!("{b}\n")],
    ];
    for pieces in framings {
        let (_dir, daemon) = fake();
        let sent = pieces.clone();
        daemon.on("/events", move |_| Answer::chunks(sent.clone()).then(Step::Hang));
        let found = run(async {
            let mut stream = all_events(&client(&daemon)).await;
            take_events(&mut stream, 2).await
        });
        assert_eq!(found, [a.clone(), b.clone()], "{pieces:?}");
    }
}

#[test]
fn an_event_of_three_megabytes_is_read() {
    let (_dir, daemon) = fake();
    daemon.on("/events", |_| Answer::json(container_event(1, "die", &"x".repeat(1 << 20))).then(Step::Hang));
    let found = run(async {
        let mut stream = all_events(&client(&daemon)).await;
        take_events(&mut stream, 1).await
    });
    assert!(found[0].len() > 3 << 20);
}

#[test]
fn h8_each_end_of_a_stream_is_told() {
    let event = container_event(1, "die", "a");
    let orderly = Answer::json(event.clone());
    let cut = Answer::json(event.clone()).then(Step::Cut);
    let half = Answer::json(event + r#"{"Type":"#);
    for (answer, is_error) in [(orderly, false), (cut, true), (half, true)] {
        let (_dir, daemon) = fake();
        let answer = std::sync::Mutex::new(Some(answer));
        daemon.on("/events", move |_| answer.lock().unwrap().take().unwrap());
        run(async {
            let mut stream = all_events(&client(&daemon)).await;
            take_events(&mut stream, 1).await;
            match stream.next().await {
                Some(Err(error)) => assert!(is_error && matches!(error, Error::Lost { .. }), "{error}"),
                other => assert!(!is_error && other.is_none(), "{other:?}"),
            }
            assert!(stream.next().await.is_none());
        });
    }
}

#[test]
fn a_listing_that_breaks_off_is_an_error_after_what_was_whole() {
    let (_dir, daemon) = fake();
    for end in [Step::Cut, Step::Send(Vec::new())] {
        daemon.on("/tasks", move |_| Answer::json(r#"[{"ID":"a"},{"ID":"b"#).then(end.clone()));
        let (found, stats) = run(async { elements(&client(&daemon), "/tasks").await });
        assert_eq!(found, [r#"{"ID":"a"}"#]);
        assert!(matches!(stats, Err(Error::Lost { .. })), "{stats:?}");
    }
}

#[test]
fn a_connection_closed_without_an_answer_is_an_error() {
    let (_dir, daemon) = fake();
    daemon.on("/info", |_| Answer::Close);
    let error = run(async { client(&daemon).info().await }).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[test]
fn dropping_a_stream_closes_its_connection() {
    let (_dir, daemon) = fake();
    run(async {
        let client = client(&daemon);
        let stream = all_events(&client).await;
        assert_eq!(daemon.open_streams(), 1);
        drop(stream);
        let started = Instant::now();
        while daemon.open_streams() > 0 {
            assert!(started.elapsed() < Duration::from_secs(5), "the connection stays open");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn an_event_stream_may_be_silent_longer_than_any_limit() {
    let (_dir, daemon) = fake();
    run(async {
        let mut stream = all_events(&client(&daemon)).await;
        let silent = tokio::time::timeout(Duration::from_millis(900), stream.next()).await;
        assert!(silent.is_err(), "{silent:?}");
        daemon.emit_container("die", "a");
        take_events(&mut stream, 1).await;
    });
}

// --- Requests ---------------------------------------------------------------------------------------------------------

#[test]
fn times_and_filters_are_sent_without_loss() {
    let (_dir, daemon) = fake();
    run(async {
        let filter = EventFilter { types: vec!["container"], actions: vec!["die", "health_status"] };
        let (since, until) = (Some(1_700_000_000_000_000_042), Some(1_700_000_001_000_000_000));
        client(&daemon).events(since, until, &filter).await.unwrap();
    });
    let request = daemon.requests().pop().unwrap();
    assert_eq!(request.parameter("since"), Some("1700000000.000000042"));
    assert_eq!(request.parameter("until"), Some("1700000001.000000000"));
    assert_eq!(request.parameter("filters"), Some(r#"{"event":["die","health_status"],"type":["container"]}"#));
}

#[test]
fn a_removed_service_costs_no_other_services_tasks() {
    let (_dir, daemon) = fake();
    let gone = service_id(3);
    daemon.on("/tasks", move |request| {
        let filters: serde_json::Value = serde_json::from_str(request.parameter("filters").unwrap()).unwrap();
        let ids: Vec<_> = filters["service"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        if ids.contains(&gone.as_str()) {
            return Answer::error(404, &format!("service {gone} not found"));
        }
        let found: Vec<_> = ids.iter().map(|id| format!(r#"{{"ServiceID":"{id}"}}"#)).collect();
        Answer::json(format!("[{}]", found.join(",")))
    });
    let ids: Vec<_> = (0..8).map(service_id).collect();
    let mut found = Vec::new();
    let stats = run(async {
        client(&daemon).tasks(&ids, &mut |task| found.push(String::from_utf8_lossy(task).into_owned())).await.unwrap()
    });
    let expected: Vec<_> =
        ids.iter().filter(|id| **id != ids[3]).map(|id| format!(r#"{{"ServiceID":"{id}"}}"#)).collect();
    assert_eq!(found, expected);
    assert_eq!((stats.elements, stats.missing), (7, 1));
}

#[test]
fn leadership_is_read_from_the_node() {
    let (_dir, daemon) = fake();
    run(async {
        let client = client(&daemon);
        let mut info = client.info().await.unwrap();
        assert!(client.is_leader(&info).await.unwrap());
        daemon.on(&format!("/nodes/{NODE_ID}"), |_| Answer::json(r#"{"ManagerStatus":{"Reachability":"reachable"}}"#));
        assert!(!client.is_leader(&info).await.unwrap());
        info.swarm.control_available = false;
        assert!(!client.is_leader(&info).await.unwrap());
    });
    assert_eq!(daemon.count(&format!("/nodes/{NODE_ID}")), 2);
}

#[test]
fn large_listings_pass_through_in_the_memory_of_one_element() {
    let (_dir, daemon) = fake();
    daemon.on("/services", |_| services(10_000));
    daemon.on("/tasks", |_| tasks(50_000, 10_000));
    run(async {
        let client = client_of(&daemon.host(), Limits::default());
        let (mut longest, mut last) = (0, Vec::new());
        let stats = client.services(&mut |element| longest = longest.max(element.len())).await.unwrap();
        assert_eq!((stats.elements, stats.garbage_bytes, stats.too_long), (10_000, 0, 0));
        let none: [&str; 0] = [];
        let stats = client
            .tasks(&none, &mut |element| {
                last.clear();
                last.extend_from_slice(element);
            })
            .await
            .unwrap();
        assert_eq!(stats.elements, 50_000);
        let last: serde_json::Value = serde_json::from_slice(&last).unwrap();
        assert_eq!(last["ServiceID"].as_str().unwrap(), service_id(9_999));
        assert!(longest < 2_000);
    });
}

// --- Errors -----------------------------------------------------------------------------------------------------------

#[test]
fn errors_of_the_daemon_are_told_apart() {
    let (_dir, daemon) = fake();
    let of = |status: u16, message: &'static str| {
        daemon.on("/services", move |_| Answer::error(status, message));
        run(async { client(&daemon).services(&mut |_| ()).await }).unwrap_err()
    };
    let worker =
        of(503, "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.");
    assert!(matches!(worker, Error::NotManager { why: NotManager::Worker, .. }), "{worker}");
    let outside = of(503, "This node is not a swarm manager. Use \"docker swarm init\" or ...");
    assert!(matches!(outside, Error::NotManager { why: NotManager::NoSwarm, .. }), "{outside}");
    let quorum = of(500, "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that ...");
    assert!(matches!(quorum, Error::NoLeader { .. }) && quorum.is_transient(), "{quorum}");
    let broken = of(500, "rpc error: out of sequence");
    assert!(matches!(&broken, Error::Status { status: 500, .. }) && broken.is_transient(), "{broken}");
    assert!(of(404, "no such thing").is_not_found());
}

#[test]
fn an_absent_socket_is_named_with_what_chose_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.sock");
    let error = run(client_of(&format!("unix://{}", path.display()), limits()).ping()).unwrap_err();
    assert!(matches!(&error, Error::NoSocket { path: found, .. } if *found == path), "{error}");
}

#[test]
fn a_socket_that_nobody_listens_on_refuses() {
    let (dir, daemon) = fake();
    let path = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = run(client_of(&format!("unix://{}", path.display()), limits()).negotiate()).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    drop(daemon);
}

#[test]
fn an_unanswered_tcp_port_refuses_and_an_unknown_name_is_said() {
    let refused = run(client_of("tcp://127.0.0.1:1", limits()).ping()).unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    let unknown = run(client_of("tcp://no-such-host.invalid:2375", limits()).ping()).unwrap_err();
    assert!(matches!(unknown, Error::Connect { .. } | Error::Timeout { .. }), "{unknown}");
}

// --- ssh --------------------------------------------------------------------------------------------------------------

fn fake_ssh(dir: &Path, script: &str) -> Limits {
    use std::os::unix::fs::PermissionsExt as _;
    let program = dir.join("ssh");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Limits { ssh_program: program, headers: Duration::from_secs(5), ..Limits::default() }
}

#[test]
fn ssh_is_run_as_docker_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"printf '%s\n' "$*" > "$0.args"
read -r _ path _
case $path in
    /version) body='{"ApiVersion":"1.41"}' ;;
    *) body='{"Name":"remote"}' ;;
esac
printf 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' "${#body}" "$body""#;
    let client = client_of("ssh://me@far:2222/run/d.sock", fake_ssh(dir.path(), script));
    assert_eq!(run(client.info()).unwrap().name, "remote");
    let arguments = std::fs::read_to_string(dir.path().join("ssh.args")).unwrap();
    let expected = "-o ConnectTimeout=10 -T -l me -p 2222 -- far docker --host unix:///run/d.sock system dial-stdio";
    assert_eq!(arguments.trim(), expected);
}

#[test]
fn the_last_words_of_ssh_are_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo Warning: something >&2; echo 'ssh: connect to host far port 22: No route to host' >&2; exit 255";
    let limits = fake_ssh(dir.path(), script);
    let error = run(client_of("ssh://far", limits.clone()).negotiate()).unwrap_err();
    assert!(matches!(&error, Error::Ssh { detail, .. } if detail.contains("No route to host")), "{error}");
    let absent = Limits { ssh_program: dir.path().join("absent"), ..limits };
    let error = run(client_of("ssh://far", absent).negotiate()).unwrap_err();
    assert!(matches!(&error, Error::Ssh { detail, .. } if detail.contains("cannot run")), "{error}");
}

#[test]
fn an_ssh_that_hangs_is_given_up_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut limits = fake_ssh(dir.path(), r#"echo $$ > "$0.pid"; exec sleep 100"#);
    limits.headers = Duration::from_millis(500);
    run(async {
        let client = client_of("ssh://far", limits);
        assert_timeout(&client.negotiate().await.unwrap_err(), Phase::Headers);
        drop(client);
        let pid = std::fs::read_to_string(dir.path().join("ssh.pid")).unwrap();
        let process = format!("/proc/{}", pid.trim());
        let started = Instant::now();
        while Path::new(&process).exists() {
            assert!(started.elapsed() < Duration::from_secs(5), "ssh lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}
