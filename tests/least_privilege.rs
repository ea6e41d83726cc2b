//! squall through the proxy of packaging/stack.yml on a real Docker Swarm: what it asks for, that it asks for nothing
//! else, and that nothing else would be let through.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::{Lab, Watch, now};
use proxy::{Proxy, Seen, listed};
use serde_json::Value;

/// A container that its engine starts again and again; it goes with this.
struct LoopingContainer<'a> {
    lab: &'a Lab,
    /// Never the same: Docker remembers the events of an earlier one, and a storm of that name would be an old one.
    name: String,
}

impl<'a> LoopingContainer<'a> {
    fn start(lab: &'a Lab) -> Self {
        let name = format!("loops-{}", now().as_nanos());
        lab.docker(&["run", "--detach", "--restart", "always", "--name", &name, "app:1", "false"]);
        Self { lab, name }
    }

    fn inspect(&self, format: &str) -> String {
        self.lab.docker(&["inspect", "--format", format, &self.name]).trim().to_owned()
    }
}

impl Drop for LoopingContainer<'_> {
    fn drop(&mut self) {
        self.lab.docker_says(&["rm", "--force", &self.name]);
    }
}

fn docker_socket(lab: &Lab) -> PathBuf {
    PathBuf::from(lab.var("DOCKER_HOST").strip_prefix("unix://").unwrap())
}

/// A configuration that would stop whatever storms.
fn stop_all(dir: &Path, more: &str) -> String {
    let path = dir.join("squall.toml");
    fs::write(&path, format!("[respond]\nenforce = \"all\"\nresponse = \"pause\"\nheld_min = 1000\n{more}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn endpoints(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in seen {
        *counts.entry(request.endpoint()).or_default() += 1;
    }
    counts
}

#[track_caller]
fn assert_none_refused(proxy: &Proxy) {
    let refused: Vec<Seen> = proxy.seen().into_iter().filter(|seen| !seen.is_handed_on).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!proxy.words().contains("refused"), "{}", proxy.words());
}

#[test]
fn observing_takes_the_endpoints_of_the_list_each_of_them_and_no_other() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start(&dir.path().join("proxy"), &docker_socket(&lab), false);
    let host = proxy.host();
    let config = stop_all(dir.path(), "");
    let mut watch = Watch::start_with(&lab, dir.path(), &["--host", &host, "--log", lab.log(), "--config", &config]);
    lab.storms("create", &["c-ok", "c-pending", "c-onfailure", "s-mount", "s-missing"]);
    let container = LoopingContainer::start(&lab);
    let began = Instant::now();
    let decided = watch.until("what would be done is said of each storm", 60, |watch| {
        let decisions = watch.notices("decision").into_iter();
        let refused = decisions.filter(|line| line["decision"]["refusal"] == "not-enforced");
        let names: BTreeSet<String> =
            refused.map(|line| line["decision"]["subject"]["name"].as_str().unwrap().to_owned()).collect();
        (names.len() >= 3).then_some(names)
    });
    assert_eq!(decided, BTreeSet::from(["s-mount", "s-missing", &container.name].map(str::to_owned)));
    let storms = watch.by_service("onset");
    assert!(decided.iter().all(|name| storms.contains_key(name)), "{storms:#?}");
    assert!(storms.keys().all(|name| !name.starts_with("c-")), "{storms:#?}");
    // The log tells why a pull failed; where it comes late the cause is corrected.
    watch.until("the cause is known", 20, |watch| {
        let mut storms: Vec<Value> = watch.by_service("onset").into_values().collect();
        storms.extend(watch.notices("cause-changed"));
        let is = |name: &str, cause: &str| {
            storms.iter().any(|line| line["storm"]["subject"]["name"] == name && line["storm"]["cause"] == cause)
        };
        (is("s-mount", "mount") && is("s-missing", "image-missing")).then_some(())
    });
    drop(container);
    println!("found {:?} after the start", began.elapsed());

    let audit = lab
        .squall(&["audit", "--host", &host, "--log", lab.log(), "--format", "json", "--risks", "--for", "1s"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&audit.stderr).into_owned();
    assert_eq!(audit.status.code(), Some(1), "{words}");
    let report: Value = serde_json::from_slice(&audit.stdout).unwrap();
    let found: BTreeSet<&str> =
        report["storms"].as_array().unwrap().iter().map(|storm| storm["subject"]["name"].as_str().unwrap()).collect();
    assert!(found.contains("s-mount") && found.contains("s-missing"), "{report}");
    assert!(found.iter().all(|name| !name.starts_with("c-")), "{report}");
    assert!(report["calm"].as_u64().unwrap() >= 3, "{report}");

    println!("audited {:?} after it", began.elapsed());
    lab.squall_says(&["status", "--host", &host]);
    let recording = dir.path().join("recording");
    lab.squall_says(&["record", "--host", &host, "--log", "none", "--for", "1s", "-o", recording.to_str().unwrap()]);
    watch.until("it has pinged", 20, |_| proxy.seen().iter().any(|seen| seen.uri == "/_ping").then_some(()));
    assert_eq!(watch.terminate(), Some(0));
    // What is still open is logged when it ends.
    proxy.stop();

    assert_none_refused(&proxy);
    let used = endpoints(&proxy.seen());
    println!("{used:#?}");
    assert_eq!(used.into_keys().collect::<BTreeSet<_>>(), listed("proxy.conf"), "asked for, and let through");
}

#[test]
fn enforcing_behind_the_observing_proxy_changes_nothing_and_says_so_in_few_words() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start(&dir.path().join("proxy"), &docker_socket(&lab), false);
    let config = stop_all(dir.path(), "act = true");
    let mut watch = Watch::start_with(
        &lab,
        dir.path(),
        &["--host", &proxy.host(), "--log", lab.log(), "--config", &config, "--enforce=all"],
    );
    lab.storms("create", &["s-mount"]);
    let version = lab.docker(&["service", "inspect", "--format", "{{.Version.Index}}", "s-mount"]);
    let refused = watch.until("the proxy refuses", 40, |watch| {
        watch.notices("settlement").into_iter().find(|line| line["settlement"]["outcome"] == "failed")
    });
    let detail = refused["settlement"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("POST /services/{id}/update with HTTP 403: refused by the proxy before Docker"),
        "{detail}"
    );
    assert!(detail.contains("proxy-enforce.conf"), "{detail}");
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(lab.docker(&["service", "inspect", "--format", "{{.Version.Index}}", "s-mount"]), version);
    let by_hand = lab
        .squall(&["quarantine", "s-mount", "--host", &proxy.host(), "--state-dir", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(by_hand.status.code(), Some(2));
    let words = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(words.contains("refused by the proxy before Docker"), "{words}");
    assert_eq!(watch.terminate(), Some(0));
    proxy.stop();
    let posts: Vec<Seen> = proxy.seen().into_iter().filter(|seen| seen.method != "GET").collect();
    println!("{} refused requests", posts.len());
    assert!(posts.iter().all(|seen| seen.status == 403 && !seen.is_handed_on), "{posts:#?}");
}

#[test]
fn enforcing_takes_the_posts_of_its_list_and_no_other() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let mut proxy = Proxy::start(&dir.path().join("proxy"), &docker_socket(&lab), true);
    let host = proxy.host();
    let config = stop_all(dir.path(), "act = true");
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let mut watch = Watch::start_with(
        &lab,
        dir.path(),
        &["--host", &host, "--log", lab.log(), "--config", &config, "--enforce=all"],
    );
    lab.storms("create", &["c-ok", "s-mount"]);
    let before = lab.spec("s-mount");
    let container = LoopingContainer::start(&lab);
    let held = |watch: &Watch, name: &str| {
        let done =
            |line: &Value| line["settlement"]["outcome"] == "done" && line["decision"]["subject"]["name"] == name;
        watch.notices("settlement").iter().any(done)
    };
    watch.until("both are held", 60, |watch| (held(watch, "s-mount") && held(watch, &container.name)).then_some(()));
    assert_eq!(container.inspect("{{.HostConfig.RestartPolicy.Name}} {{.State.Running}}"), "no false");
    assert_eq!(watch.terminate(), Some(0));
    let held = lab.spec("s-mount");
    assert_ne!(held, before);
    assert_eq!(held["Labels"]["squall.quarantine"], "held", "{held}");

    lab.squall_says(&["release", "s-mount", &container.name, "--host", &host, "--state-dir", state]);
    assert_eq!(lab.spec("s-mount").to_string(), before.to_string());
    assert_eq!(container.inspect("{{.HostConfig.RestartPolicy.Name}}"), "always");
    drop(container);
    proxy.stop();

    assert_none_refused(&proxy);
    let seen = proxy.seen();
    let posts: Vec<&Seen> = seen.iter().filter(|seen| seen.method != "GET").collect();
    println!("{posts:#?}");
    let used: BTreeSet<String> = posts.iter().map(|seen| seen.endpoint()).collect();
    assert_eq!(used, listed("proxy-enforce.conf"), "asked for, and let through");
    let updates = posts.iter().filter(|seen| seen.endpoint() == "POST /services/{id}/update");
    assert_eq!(updates.count(), 2, "one to hold it, one to give it back");
}

/// Something that listens as a Docker does, and writes down the first line of what it is asked.
struct Recorder {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(length) if length > 0 => head.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                shared.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
            }
        });
        Self { asked }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// The status and the text of the answer to these very bytes; `None` where the connection is closed without one.
fn send(socket: &Path, request: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !is_whole(&text, request.starts_with("HEAD ")) {
        match stream.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {request}")) {
            0 => break,
            length => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text))
}

/// Whether an answer has all that its head announces.
fn is_whole(text: &str, is_head: bool) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let announced = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    is_head || announced.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

/// What nobody needs from squall's place, and ways to say it so that a proxy may misread it.
const FORBIDDEN: &[&str] = &[
    // What changes something.
    "POST /v1.41/services/create",
    "POST /v1.41/services/s1/update",
    "POST /v1.41/services/s1/update?version=1&rollback=previous",
    "POST /v1.41/services/s1/update?version=1&registryAuthFrom=previous-spec",
    "POST /v1.41/services/s1/update?version=",
    "DELETE /v1.41/services/s1",
    "POST /v1.41/containers/create",
    "POST /v1.41/containers/c1/exec",
    "POST /v1.41/exec/e1/start",
    "POST /v1.41/containers/c1/kill",
    "POST /v1.41/containers/c1/restart",
    "POST /v1.41/containers/c1/attach?stream=1",
    "POST /v1.41/containers/prune",
    "DELETE /v1.41/containers/c1?force=1",
    "PUT /v1.41/containers/c1/archive?path=/",
    "POST /v1.41/images/create?fromImage=app",
    "POST /v1.41/images/prune",
    "DELETE /v1.41/images/app",
    "POST /v1.41/build",
    "POST /v1.41/nodes/n1/update?version=1",
    "POST /v1.41/swarm/leave?force=1",
    "POST /v1.41/secrets/create",
    "POST /v1.41/configs/create",
    "POST /v1.41/networks/create",
    "POST /v1.41/volumes/create",
    "POST /v1.41/plugins/pull",
    "POST /v1.41/auth",
    "POST /grpc",
    "POST /session",
    // What reads more than squall needs.
    "GET /v1.41/services",
    "GET /v1.41/services?status=true&filters=x",
    "GET /v1.41/services/s1?insertDefaults=true",
    "GET /v1.41/services/s1/logs?stdout=1",
    "GET /v1.41/tasks/t1",
    "GET /v1.41/tasks/t1/logs?stdout=1",
    "GET /v1.41/secrets",
    "GET /v1.41/configs",
    "GET /v1.41/swarm",
    "GET /v1.41/swarm/unlockkey",
    "GET /v1.41/networks",
    "GET /v1.41/volumes",
    "GET /v1.41/system/df",
    "GET /v1.41/distribution/app/json",
    "GET /v1.41/containers/json",
    "GET /v1.41/containers/json?all=true&size=true",
    "GET /v1.41/containers/c1/json?size=true",
    "GET /v1.41/containers/c1/logs?stdout=1",
    "GET /v1.41/containers/c1/archive?path=/etc/shadow",
    "GET /v1.41/containers/c1/export",
    "GET /v1.41/containers/c1/top",
    "GET /v1.41/containers/c1/attach/ws?stream=1",
    "GET /v1.41/images/json?all=true",
    "GET /v1.41/images/app/get",
    "GET /metrics",
    "GET /debug/pprof/heap",
    "GET /",
    "HEAD /v1.41/info",
    "OPTIONS /v1.41/info",
    "TRACE /v1.41/info",
    // The same by other ways.
    "GET //v1.41/secrets",
    "GET //v1.41//info",
    "GET /v1.41//info",
    "GET /./v1.41/info",
    "GET /v1.41/info/",
    "GET /v1.41/info?",
    "GET /v1.41/info?x=/../../secrets",
    "GET /v1.41/info/../secrets",
    "GET /v1.41/services/../secrets",
    "GET /v1.41/services/s1/../../secrets",
    "GET /v1.41/services/..",
    "GET /v1.41/services/%2e%2e/secrets",
    "GET /v1.41/services/..%2fsecrets",
    "GET /v1.41/services/s1%2f..%2f..%2fsecrets",
    "GET /v1.41/services/s1%3Fx",
    "GET /v1.41/services/s1%00",
    "GET /v1.41/services/s1;x",
    "GET /v1.41/services/s1\\..\\secrets",
    "GET /v1.41/containers/c1/../../secrets/json",
    "GET /v1.41/containers/c1%2Fjson",
    "GET /v1.41/%69nfo",
    "GET /v1.41/v1.41/info",
    "GET /v1.41.1/info",
    "GET /v2.0/info",
    "GET /v1./info",
    "GET /libpod/info",
    "GET /../v1.41/secrets",
    "GET /%2e%2e/secrets",
    "GET /%zz",
    "GET http://docker/v1.41/secrets",
    "GET http://docker",
    "GET /v1.41/events?filters={}",
    "GET /v1.41/events?since=1&&until=2",
    "GET /v1.41/tasks?filters=",
    "GET /v1.41/tasks?filters=x&all=1",
    "get /v1.41/info",
    "POST /v1.41/info",
    "CONNECT docker:80",
];

/// Requests that are in the list, with more in their heads or bodies than belongs there.
const SMUGGLED: &[&str] = &[
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{}",
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /v1.41/info HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\nGET /x HT",
    "GET /v1.41/info\tHTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /v1.41/info\0 HTTP/1.1\r\nHost: d\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// What is let through, with what enforcing adds.
const ALLOWED: &[(&str, bool)] = &[
    ("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n", false),
    ("GET /info HTTP/1.1\r\nHost: d\r\n\r\n", false),
    ("GET /v1.52/info HTTP/1.1\r\nHost: d\r\n\r\n", false),
    ("GET /v1.41/services/s1 HTTP/1.1\r\nHost: d\r\n\r\n", false),
    ("GET /v1.41/services/my_stack-1.web HTTP/1.1\r\nHost: d\r\n\r\n", false),
    (
        "POST /services/s1/update?version=7 HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: eA==\r\nContent-Length: 2\r\n\r\n{}",
        true,
    ),
    ("POST /containers/c1/stop HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", true),
];

#[test]
fn what_is_not_in_the_list_never_reaches_docker() {
    let dir = tempfile::tempdir().unwrap();
    let docker = dir.path().join("recorder.sock");
    let recorder = Recorder::start(&docker);
    for is_enforcing in [false, true] {
        let proxy = Proxy::start(&dir.path().join(format!("proxy-{is_enforcing}")), &docker, is_enforcing);
        let whole = FORBIDDEN.iter().map(|line| format!("{line} HTTP/1.1\r\nHost: d\r\n\r\n"));
        let mut requests: Vec<String> = whole.chain(SMUGGLED.iter().map(|text| (*text).to_owned())).collect();
        requests
            .extend(ALLOWED.iter().filter(|(_, wants)| *wants && !is_enforcing).map(|(text, _)| (*text).to_owned()));
        let mut refused = 0;
        for request in &requests {
            // 400 and 405 are nginx's own, for what is no request at all or a method that it does not know.
            match send(&proxy.socket(), request) {
                Some((403, text)) => {
                    // The answer to a HEAD has no body.
                    assert!(
                        request.starts_with("HEAD")
                            || text.contains("{\"message\":\"refused by the proxy before Docker"),
                        "{request}: {text}"
                    );
                    refused += 1;
                }
                Some((status, _)) => assert!([400, 405].contains(&status), "{status}: {request}"),
                None => {}
            }
            assert_eq!(recorder.take(), [""; 0], "{request}");
        }
        println!("{} requests, {refused} of them answered 403", requests.len());
        assert!(refused * 10 > requests.len() * 8, "most of them are requests: {refused} of {}", requests.len());
        for (request, wants_enforcing) in ALLOWED {
            if *wants_enforcing && !is_enforcing {
                continue;
            }
            assert_eq!(send(&proxy.socket(), request).unwrap().0, 200, "{request}");
            let asked = recorder.take();
            let line = request.lines().next().unwrap();
            assert_eq!(asked.len(), 1, "{request}");
            assert_eq!(asked[0].lines().next(), Some(line), "handed on as it came");
            assert!(!asked[0].to_ascii_lowercase().contains("x-registry-auth"), "{}", asked[0]);
        }
    }
}
