//! squall as it acts: the program itself on a Swarm, or a host without one, that does what a real one does not do on
//! demand. Whatever it sends is looked at: only labels, replicas and constraints may change.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures and seeds")]

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use squall::model::Refusal;
use support::fake_daemon::{Answer, NODE_ID};
use support::fake_swarm::{Behaviour, FakeSwarm, Fault, Write, as_global, healthy_spec, looping_spec};
use tempfile::TempDir;

const HELD: &str = "squall.quarantine";
/// What a test waits for comes within a second or two; the rest is for a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Restart loops as fast as the tests want them.
const FAST: Duration = Duration::from_millis(200);
/// Nothing but what a test is about keeps squall from acting at once.
const AT_ONCE: &str = "min_age = \"0s\"\nheld_min = 1000\nactions_per_hour = 3600\n";

/// A Docker, and what squalls beside it leave behind.
struct Bench {
    swarm: FakeSwarm,
    runs: Cell<usize>,
    dir: TempDir,
}

impl Bench {
    fn swarm() -> Self {
        Self::on(FakeSwarm::start)
    }

    fn plain() -> Self {
        Self::on(FakeSwarm::start_plain)
    }

    fn on(start: impl FnOnce(&Path) -> FakeSwarm) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { swarm: start(dir.path()), runs: Cell::new(0), dir }
    }

    /// A service of this many replicas that loops five times a second.
    fn add_loop(&self, name: &str, replicas: u64, labels: &[(&str, &str)]) -> String {
        self.swarm.add_service_with(name, looping_spec(name, replicas, labels), rejected(FAST))
    }

    fn state(&self) -> String {
        self.path("state")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn squall(&self, args: &[&str]) -> Command {
        squall(&self.swarm.host(), args)
    }

    /// `watch` with its state in the usual directory.
    fn watch(&self, respond: &str, args: &[&str]) -> Watch {
        self.watch_in(&self.state(), respond, args)
    }

    fn watch_in(&self, state: &str, respond: &str, args: &[&str]) -> Watch {
        let number = self.runs.replace(self.runs.get() + 1);
        let config = self.path(&format!("squall{number}.toml"));
        fs::write(&config, format!("[respond]\n{respond}")).unwrap();
        let mut watch = self.squall(&["watch", "--log", "none", "--format", "json", "--config", &config]);
        watch.args(["--state-dir", state]).args(args).env("SQUALL_LOG", "debug");
        Watch::start(&self.path(&format!("run{number}")), watch)
    }

    /// A command by hand with the state in the usual directory.
    fn by_hand(&self, args: &[&str]) -> Output {
        self.squall(args).args(["--state-dir", &self.state()]).output().unwrap()
    }

    fn report(&self) -> Value {
        self.report_of(&self.state())
    }

    /// What the journal has. That it can be read is part of every test.
    #[track_caller]
    fn report_of(&self, state: &str) -> Value {
        let output = self.squall(&["report", "--format", "json", "--state-dir", state]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn is_held(&self, name: &str) -> bool {
        let spec = self.swarm.spec(name);
        spec["Labels"][HELD] == "held" && spec["Mode"]["Replicated"]["Replicas"] == 0
    }

    /// The writes to one service.
    fn writes_to(&self, id: &str) -> Vec<Write> {
        let path = format!("/services/{id}/update");
        self.swarm.writes().into_iter().filter(|write| write.path == path).collect()
    }

    /// How many writes to one service have arrived.
    fn arrived(&self, id: &str) -> usize {
        self.swarm.daemon().count(&format!("/services/{id}/update"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.swarm.writes().iter().for_each(assert_is_plain);
        }
    }
}

/// A write goes to the newest version of the API, without credentials, and changes of a service only what squall may.
#[track_caller]
fn assert_is_plain(write: &Write) {
    assert!(!write.has_registry_auth(), "{write:?}");
    assert_eq!(write.api_version, None, "{}", write.path);
    if write.path.starts_with("/containers/") {
        return;
    }
    let version = write.query.strip_prefix("version=");
    assert!(version.is_some_and(|version| version.parse::<u64>().is_ok()), "{}?{}", write.path, write.query);
    let bare = |spec: &Value| {
        let mut spec = spec.clone();
        if let Some(labels) = spec["Labels"].as_object_mut() {
            labels.retain(|name, _| !name.starts_with("squall.quarantine") && !name.starts_with("com.example."));
        }
        if let Some(replicated) = spec["Mode"]["Replicated"].as_object_mut() {
            replicated.remove("Replicas");
        }
        if let Some(placement) = spec["TaskTemplate"]["Placement"].as_object_mut() {
            placement.remove("Constraints");
        }
        if spec["TaskTemplate"]["Placement"] == json!({}) {
            spec["TaskTemplate"]["Placement"] = Value::Null;
        }
        spec
    };
    assert_eq!(bare(&write.body), bare(&write.spec_before));
}

fn squall(host: &str, args: &[&str]) -> Command {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.args(args).env("DOCKER_HOST", host).env("COLUMNS", "120").stdin(Stdio::null());
    for name in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "SQUALL_CONFIG", "SQUALL_LOG", "STATE_DIRECTORY"] {
        squall.env_remove(name);
    }
    squall
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `watch`. It is killed when the test ends before it.
struct Watch {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Watch {
    fn start(path: &str, mut command: Command) -> Self {
        let (out, err) = (PathBuf::from(format!("{path}.out")), PathBuf::from(format!("{path}.err")));
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
        Self { child, out, err }
    }

    /// The lines of one kind.
    fn notices(&self, notice: &str) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["notice"] == notice).collect()
    }

    /// The decisions that it has said that were refused for this reason.
    fn refusals(&self, reason: Refusal) -> Vec<Value> {
        let decisions = self.notices("decision").into_iter();
        decisions.filter(|line| line["decision"]["refusal"] == reason.as_str()).collect()
    }

    fn words(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// What its API tells.
    #[track_caller]
    fn status(&self) -> Value {
        let words = self.words();
        let url = words.split("url=http://").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        let mut stream = TcpStream::connect(url).unwrap();
        write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: {url}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// How many lines of its log have all of these words.
    fn count(&self, words: &[&str]) -> usize {
        self.words().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended by itself ({status}) before {what}: {}", self.words());
            }
            assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}\n{}", self.words());
            pause(20);
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{}", self.words());
                return;
            }
            assert!(Instant::now() < until, "it does not end 10 s after SIGTERM");
            pause(10);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn rejected(every: Duration) -> Behaviour {
    Behaviour::Rejected { error: "no".to_owned(), every }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}");
        pause(5);
    }
}

fn replicas(count: u64) -> impl Fn(&mut Value) {
    move |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(count)
}

fn decisions(report: &Value) -> Vec<Value> {
    report["decisions"].as_array().unwrap().clone()
}

/// The outcomes of the permitted decisions about one service, by time; null where one is not settled.
fn outcomes(report: &Value, name: &str) -> Vec<Value> {
    let permitted = decisions(report).into_iter().filter(|d| d["refusal"].is_null() && d["subject"]["name"] == name);
    permitted.map(|decision| decision["settlement"]["outcome"].clone()).collect()
}

/// A small generator: everything that is drawn comes from one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The seed of this run: `SQUALL_TEST_SEED`, or one that differs each time.
fn seed() -> u64 {
    let named = std::env::var("SQUALL_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let drawn = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    let seed = named.unwrap_or_else(drawn);
    println!("SQUALL_TEST_SEED={seed}");
    seed
}

/// Does these at the same time; the first panic is the test's.
fn all_at_once<T: Sync>(cases: &[T], act: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| act(case));
        }
    });
}

// --- Guards ------------------------------------------------------------------------------------------------------------

/// A situation in which squall may not act.
struct Guarded {
    refusal: Refusal,
    respond: &'static str,
    args: &'static [&'static str],
    is_plain: bool,
    /// Before the watch starts.
    arrange: fn(&Bench),
    /// While it runs, until what is to be refused is so.
    meanwhile: fn(&Bench, &mut Watch),
    /// The writes that it takes to come there.
    writes: usize,
}

impl Default for Guarded {
    fn default() -> Self {
        Self {
            refusal: Refusal::Observe,
            respond: "",
            args: &["--enforce"],
            is_plain: false,
            arrange: |bench| drop(bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")])),
            meanwhile: |_, _| (),
            writes: 0,
        }
    }
}

fn guarded() -> Vec<Guarded> {
    vec![
        Guarded {
            refusal: Refusal::Ignored,
            arrange: |bench| {
                let labels = [("squall.response", "scale-to-zero"), ("squall.ignore", "true")];
                bench.add_loop("web", 2, &labels);
            },
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::BadLabel,
            args: &["--enforce=all", "--response=scale-to-zero"],
            arrange: |bench| drop(bench.add_loop("web", 2, &[("squall.response", "Backoff")])),
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::Observe,
            args: &["--enforce=all", "--response=scale-to-zero"],
            arrange: |bench| drop(bench.add_loop("web", 2, &[("squall.response", "observe")])),
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::NotOptedIn,
            args: &["--enforce", "--response=scale-to-zero"],
            arrange: |bench| drop(bench.add_loop("web", 2, &[])),
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::Unsupported,
            is_plain: true,
            arrange: |bench| drop(bench.swarm.add_container("web", "always", 0, &[("squall.response", "backoff")])),
            ..Guarded::default()
        },
        Guarded {
            // Its events are all that is left of it.
            refusal: Refusal::Gone,
            args: &["--enforce=all", "--response=pause"],
            is_plain: true,
            arrange: |bench| emit_loop(bench, "web"),
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::Rollout,
            arrange: |bench| {
                bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
                bench.swarm.set_update_status("web", Some("updating"));
            },
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::TooFewFailures,
            respond: "min_failures = 16\n",
            arrange: |bench| {
                let spec = looping_spec("web", 1, &[("squall.response", "scale-to-zero")]);
                bench.swarm.add_service_with("web", spec, rejected(Duration::from_millis(600)));
            },
            meanwhile: |bench, watch| {
                watch.until("it storms", |watch| !watch.notices("onset").is_empty());
                bench.swarm.set_behaviour("web", Behaviour::Healthy);
            },
            ..Guarded::default()
        },
        Guarded { refusal: Refusal::TooYoung, respond: "min_age = \"1h\"\n", ..Guarded::default() },
        Guarded {
            refusal: Refusal::EvidenceGap,
            arrange: |bench| {
                bench.add_loop("web", 1, &[("squall.response", "observe")]);
                bench.swarm.daemon().emit_container("create", "before");
            },
            meanwhile: |bench, watch| {
                watch.until("it storms", |watch| !watch.refusals(Refusal::Observe).is_empty());
                bench.swarm.set_behaviour("web", rejected(Duration::from_secs(30)));
                lose_events(bench);
                watch.until("the gap is known", |watch| !watch.notices("gap").is_empty());
                bench.swarm.edit("web", |spec| spec["Labels"]["squall.response"] = json!("scale-to-zero"));
            },
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::HealthyReplica,
            arrange: |bench| {
                let spec = healthy_spec("web", 1, &[("squall.response", "scale-to-zero")]);
                bench.swarm.add_service("web", spec);
                until("one runs", || bench.swarm.running("web") == 1);
                bench.swarm.set_behaviour("web", rejected(FAST));
                bench.swarm.edit("web", replicas(2));
            },
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::CoolDown,
            meanwhile: |bench, watch| {
                watch.until("it is held", |_| bench.is_held("web"));
                watch.until("that is said", |watch| !watch.notices("settlement").is_empty());
                bench.swarm.edit("web", replicas(2));
            },
            writes: 1,
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::NotLeader,
            arrange: |bench| {
                bench.swarm.set_leader(false);
                bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
            },
            ..Guarded::default()
        },
        Guarded {
            refusal: Refusal::NoJournal,
            is_plain: true,
            arrange: |bench| {
                fs::write(bench.state(), "in its place").unwrap();
                bench.swarm.add_container("web", "always", 0, &[("squall.response", "pause")]);
            },
            ..Guarded::default()
        },
        Guarded { refusal: Refusal::NotEnforced, args: &[], ..Guarded::default() },
        Guarded {
            refusal: Refusal::ActionBudget,
            respond: "actions_per_hour = 4\n",
            arrange: |bench| {
                for name in ["web", "also", "third", "fourth", "fifth"] {
                    bench.add_loop(name, 2, &[("squall.response", "scale-to-zero")]);
                }
            },
            writes: 4,
            ..Guarded::default()
        },
    ]
}

/// What can be refused, and not by a watch.
const BY_HAND_ONLY: [(Refusal, &str); 1] =
    [(Refusal::Held, "what is held is gone on with: only a person proposes to hold it once more")];

/// The daemon is another one from here: it remembers nothing.
fn lose_events(bench: &Bench) {
    bench.swarm.daemon().forget_events();
    bench.swarm.daemon().end_streams();
}

/// A container that was restarted every second and is there no more, in the events that the daemon remembers.
fn emit_loop(bench: &Bench, name: &str) {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    for turn in (0..8).rev() {
        for (offset, action) in [(0, "start"), (500_000_000, "die")] {
            let nanos = now - turn * 1_000_000_000 - 1_000_000_000 + offset;
            let id = format!("{name:0>64}");
            let mut attributes = json!({"image": "app:1", "name": name});
            if action == "die" {
                attributes["exitCode"] = json!("1");
            }
            let event = json!({
                "status": action, "id": id, "from": "app:1", "Type": "container", "Action": action,
                "Actor": {"ID": id, "Attributes": attributes}, "scope": "local",
                "time": nanos / 1_000_000_000, "timeNano": nanos,
            });
            bench.swarm.daemon().emit(nanos, event.to_string());
        }
    }
}

#[test]
fn every_guard_keeps_squall_from_writing_and_says_so_everywhere() {
    let guarded = guarded();
    let from_watch: BTreeSet<Refusal> = guarded.iter().map(|case| case.refusal).collect();
    let by_hand: BTreeSet<Refusal> = BY_HAND_ONLY.iter().map(|(refusal, _)| *refusal).collect();
    assert!(from_watch.is_disjoint(&by_hand));
    assert_eq!(from_watch.union(&by_hand).copied().collect::<Vec<_>>(), Refusal::ALL.to_vec());
    all_at_once(&guarded, |case| {
        let bench = if case.is_plain { Bench::plain() } else { Bench::swarm() };
        (case.arrange)(&bench);
        // What a case sets goes before what all have.
        let named = |line: &&str| !case.respond.contains(line.split(' ').next().unwrap());
        let common: Vec<&str> = AT_ONCE.lines().filter(named).collect();
        let mut watch = bench.watch(&format!("{}\n{}", common.join("\n"), case.respond), case.args);
        (case.meanwhile)(&bench, &mut watch);
        let word = case.refusal.as_str();
        watch.until(word, |watch| !watch.refusals(case.refusal).is_empty());
        pause(1500);
        let said = watch.refusals(case.refusal);
        assert_eq!(said.len(), 1, "{word} is said once: {said:#?}");
        let name = said[0]["decision"]["subject"]["name"].as_str().unwrap();
        let what = if case.refusal == Refusal::NotEnforced { "would have acted" } else { "refused" };
        assert_eq!(watch.count(&[what, &format!("reason={word}"), name]), 1, "{word}: {}", watch.words());
        assert_eq!(bench.swarm.writes().len(), case.writes, "{word}: {:#?}", bench.swarm.writes());
        if case.refusal == Refusal::NoJournal {
            // What is kept in memory goes to the disk at the end, if there is one by then.
            fs::remove_file(bench.state()).unwrap();
        }
        watch.terminate();
        let report = bench.report();
        let kept = decisions(&report).into_iter().filter(|decision| decision["refusal"] == word);
        let kept: Vec<Value> = kept.map(|decision| decision["id"].clone()).collect();
        assert_eq!(kept, [said[0]["decision"]["id"].clone()], "{word}: {report:#}");
        assert_eq!(bench.swarm.writes().len(), case.writes, "{word}: nothing at the end either");
    });
}

/// An image brings labels with it, and whoever may start a container gives it more: so it may be taken for a task of a
/// service that it has nothing to do with. Accused it is, but what runs is not stopped for it.
#[test]
fn a_container_that_wears_the_labels_of_a_service_does_not_get_it_held() {
    let bench = Bench::swarm();
    let id = bench.swarm.add_service("web", healthy_spec("web", 1, &[("squall.response", "scale-to-zero")]));
    until("one runs", || bench.swarm.running("web") == 1);
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it watches", |_| bench.swarm.daemon().open_streams() > 0);
    for turn in 0..8 {
        let id_of_container = format!("{turn:0>64}");
        for action in ["create", "start", "die"] {
            let nanos = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
            let event = json!({
                "Type": "container", "Action": action, "scope": "local",
                "Actor": {"ID": id_of_container, "Attributes": {
                    "image": "app:1", "name": "disguised", "exitCode": "1",
                    "com.docker.swarm.service.id": id, "com.docker.swarm.service.name": "web",
                    "com.docker.swarm.task.id": format!("{turn:0>25}"), "com.docker.swarm.task.name": "web.1.x",
                    "com.docker.swarm.node.id": NODE_ID,
                }},
                "time": nanos / 1_000_000_000, "timeNano": nanos,
            });
            bench.swarm.daemon().emit(nanos, event.to_string());
            pause(20);
        }
    }
    watch.until("it is refused", |watch| !watch.refusals(Refusal::HealthyReplica).is_empty());
    pause(1500);
    assert_eq!(bench.writes_to(&id).len(), 0, "{}", watch.words());
    assert_eq!(bench.swarm.running("web"), 1);
}

/// It takes a moment after a reconnect until it is known whether events are missing. Till then they may be.
#[test]
fn what_failed_before_a_reconnect_does_not_count_while_a_gap_may_be_found() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "observe")]);
    bench.swarm.daemon().emit_container("create", "before");
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it storms", |watch| !watch.refusals(Refusal::Observe).is_empty());
    bench.swarm.set_behaviour("web", rejected(Duration::from_secs(30)));
    pause(500);
    bench.swarm.edit("web", |spec| spec["Labels"]["squall.response"] = json!("scale-to-zero"));
    lose_events(&bench);
    watch.until("the gap is known", |watch| !watch.notices("gap").is_empty());
    pause(1000);
    assert_eq!(bench.writes_to(&id).len(), 0, "{}", watch.words());
}

/// The daemon answers all but its events, and everything is listed meanwhile: the listing proves nothing of what the
/// events would have told.
#[test]
fn nothing_is_written_while_the_event_stream_is_lost_although_the_daemon_lists_everything() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "observe")]);
    bench.swarm.daemon().emit_container("create", "before");
    let settings =
        format!("{AT_ONCE}[watch]\nsweep_every = \"10s\"\n[serve]\nenabled = true\nlisten = \"127.0.0.1:0\"\n");
    let mut watch = bench.watch(&settings, &["--enforce"]);
    watch.until("it storms", |watch| !watch.refusals(Refusal::Observe).is_empty());
    bench.swarm.daemon().on("/events", |_| Answer::error(500, "no events today"));
    bench.swarm.daemon().end_streams();
    watch.until("the loss is said", |watch| !watch.notices("lost").is_empty());
    let listed = bench.swarm.daemon().count("/nodes");
    until("everything is listed", || bench.swarm.daemon().count("/nodes") > listed);
    bench.swarm.edit("web", |spec| spec["Labels"]["squall.response"] = json!("scale-to-zero"));
    watch.until("it is refused", |watch| !watch.refusals(Refusal::EvidenceGap).is_empty());
    let gap = watch.status()["gaps"][0].clone();
    assert_eq!((&gap["open"], &gap["why"]), (&json!(true), &json!("events-lost")), "{gap}");
    pause(2500);
    assert_eq!(bench.writes_to(&id).len(), 0, "{}", watch.words());
    assert_eq!(watch.notices("gap").len(), 0, "it is not over");
    bench.swarm.daemon().off("/events");
    watch.until("it is held", |_| bench.is_held("web"));
    assert_eq!(watch.notices("gap").len(), 0, "no event is missing");
    watch.until("the page shows no gap", |watch| watch.status()["gaps"] == json!([]));
}

#[test]
fn a_permit_that_waits_for_the_journal_is_not_used_once_the_event_stream_is_lost() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "observe")]);
    bench.swarm.daemon().emit_container("create", "before");
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it storms", |watch| !watch.refusals(Refusal::Observe).is_empty());
    let journal = rusqlite::Connection::open(Path::new(&bench.state()).join(squall::journal::FILE)).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    let look = format!("/services/{id}");
    let looks = bench.swarm.daemon().count(&look);
    bench.swarm.edit("web", |spec| spec["Labels"]["squall.response"] = json!("scale-to-zero"));
    until("it is looked at", || bench.swarm.daemon().count(&look) > looks);
    pause(300);
    bench.swarm.daemon().on("/events", |_| Answer::error(500, "no events today"));
    bench.swarm.daemon().end_streams();
    watch.until("it is settled", |watch| !watch.notices("settlement").is_empty());
    let settlement = watch.notices("settlement")[0]["settlement"].clone();
    assert_eq!(settlement["outcome"], "not-done", "{settlement}");
    pause(1500);
    assert_eq!(bench.writes_to(&id).len(), 0, "{}", watch.words());
    journal.execute_batch("COMMIT").unwrap();
    bench.swarm.daemon().off("/events");
    watch.until("it is held", |_| bench.is_held("web"));
}

/// A listing that fails is mended by the next one: that is no gap, but till then nothing is known of what it would have
/// told.
#[test]
fn nothing_is_written_between_a_listing_that_fails_and_the_next_of_everything() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "observe")]);
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it storms", |watch| !watch.refusals(Refusal::Observe).is_empty());
    for path in ["/services", "/nodes"] {
        bench.swarm.daemon().on(path, |_| Answer::error(500, "the swarm has no leader"));
    }
    watch.until("the failure is said", |watch| !watch.notices("trouble").is_empty());
    // Services are listed again, but not everything.
    bench.swarm.daemon().off("/services");
    bench.swarm.edit("web", |spec| spec["Labels"]["squall.response"] = json!("scale-to-zero"));
    watch.until("it is refused", |watch| !watch.refusals(Refusal::EvidenceGap).is_empty());
    pause(2500);
    assert_eq!(bench.writes_to(&id).len(), 0, "{}", watch.words());
    bench.swarm.daemon().off("/nodes");
    watch.until("it is held", |_| bench.is_held("web"));
    assert_eq!(watch.notices("gap").len(), 0, "{}", watch.words());
}

/// What goes on with a quarantine has guards too.
#[test]
fn a_watched_attempt_is_refused_where_a_label_or_another_leader_says_so() {
    let respond = format!("{AT_ONCE}backoff_min = \"2s\"\n");
    type Change = fn(&FakeSwarm);
    let cases: [(Refusal, Change, Change); 3] = [
        (
            Refusal::Ignored,
            |swarm| swarm.edit("web", |spec| spec["Labels"]["squall.ignore"] = json!("true")),
            |swarm| swarm.edit("web", |spec| spec["Labels"]["squall.ignore"] = json!("false")),
        ),
        (
            Refusal::BadLabel,
            |swarm| swarm.edit("web", |spec| spec["Labels"]["squall.ignore"] = json!("perhaps")),
            |swarm| swarm.edit("web", |spec| spec["Labels"]["squall.ignore"] = json!("false")),
        ),
        (Refusal::NotLeader, |swarm| swarm.set_leader(false), |swarm| swarm.set_leader(true)),
    ];
    all_at_once(&cases, |(refusal, forbid, allow)| {
        let bench = Bench::swarm();
        let id = bench.add_loop("web", 2, &[("squall.response", "backoff")]);
        let mut watch = bench.watch(&respond, &["--enforce"]);
        watch.until("it is held", |_| bench.is_held("web"));
        forbid(&bench.swarm);
        watch.until(refusal.as_str(), |watch| !watch.refusals(*refusal).is_empty());
        pause(2500);
        assert_eq!(bench.writes_to(&id).len(), 1, "{refusal}: {}", watch.words());
        assert_eq!(watch.refusals(*refusal).len(), 1, "{refusal} is said once");
        allow(&bench.swarm);
        watch.until("it is tried", |_| bench.writes_to(&id).len() > 1);
        watch.terminate();
    });
}

// --- Slow answers ------------------------------------------------------------------------------------------------------

/// A Swarm of thousands of services takes minutes for it where its disk is slow.
#[test]
fn a_list_of_all_tasks_that_takes_ten_seconds_delays_no_response() {
    let bench = Bench::swarm();
    let mut watch = bench.watch(&format!("{AT_ONCE}[watch]\nsweep_every = \"10s\"\n"), &["--enforce"]);
    watch.until("it watches", |_| bench.swarm.daemon().count("/tasks") > 0);
    let sweeps = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&sweeps);
    bench.swarm.daemon().delay(move |request| {
        if request.path != "/tasks" || request.parameter("filters").is_some() {
            return Duration::ZERO;
        }
        seen.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs(10)
    });
    watch.until("everything is being listed", |_| sweeps.load(Ordering::Relaxed) > 0);
    let began = Instant::now();
    let leader = format!("/nodes/{NODE_ID}");
    let asked = bench.swarm.daemon().count(&leader);
    bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    watch.until("it is held", |_| bench.is_held("web"));
    println!("held after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}: {}", began.elapsed(), watch.words());
    assert!(bench.swarm.daemon().count(&leader) > asked, "it is asked who leads");
    assert_eq!(sweeps.load(Ordering::Relaxed), 1, "there is one list of all tasks at a time");
}

#[test]
fn a_write_that_is_answered_late_keeps_no_other_storm_unseen() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "scale-to-zero")]);
    bench.swarm.fail_next(Fault::Delay(Duration::from_secs(12)));
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it is being held", |_| bench.arrived(&id) > 0);
    let began = Instant::now();
    bench.add_loop("also", 1, &[]);
    watch.until("the other storm is said", |watch| watch.notices("onset").len() == 2);
    assert!(began.elapsed() < Duration::from_secs(9), "after {:?}: {}", began.elapsed(), watch.words());
    assert_eq!(watch.notices("settlement").len(), 0, "it is not answered yet");
}

/// A list of services shows what was so when it was asked for, and squall goes on meanwhile.
#[test]
fn a_list_of_services_that_is_older_than_a_release_lets_go_of_nothing() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 1, &[("squall.response", "backoff")]);
    let settings = format!("{AT_ONCE}backoff_min = \"4s\"\nstable_for = \"3s\"\n");
    let mut watch = bench.watch(&settings, &["--enforce"]);
    watch.until("it is held", |_| bench.is_held("web"));
    bench.swarm.set_behaviour("web", Behaviour::Healthy);
    let lists = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&lists);
    bench.swarm.daemon().delay(move |request| {
        let is_first = request.path == "/services" && seen.fetch_add(1, Ordering::Relaxed) == 0;
        Duration::from_secs(if is_first { 14 } else { 0 })
    });
    watch.until("services are being listed", |_| lists.load(Ordering::Relaxed) > 0);
    let began = Instant::now();
    assert!(bench.is_held("web"), "the list has it as held");
    watch.until("it is given back", |_| bench.swarm.spec("web")["Labels"][HELD].is_null());
    assert_eq!(lists.load(Ordering::Relaxed), 1, "the list is not answered yet");
    until("the list is answered", || began.elapsed() > Duration::from_secs(15));
    assert_eq!(watch.notices("let-go").len(), 0, "{}", watch.words());
    let last = bench.writes_to(&id).pop().unwrap();
    assert!(last.body["Labels"][HELD].is_null(), "it is not held again");
}

// --- Kills -------------------------------------------------------------------------------------------------------------

/// What a quarantine's writes have set one after another: the phase and the replicas.
fn steps(writes: &[Write]) -> Vec<(String, u64)> {
    let applied = writes.iter().filter(|write| write.is_applied);
    applied
        .map(|write| {
            let phase = write.body["Labels"][HELD].as_str().unwrap_or("released").to_owned();
            (phase, write.body["Mode"]["Replicated"]["Replicas"].as_u64().unwrap())
        })
        .collect()
}

/// Whether the journal says of every permitted decision what has become of it.
fn is_all_settled(report: &Value) -> bool {
    decisions(report).iter().all(|decision| !decision["refusal"].is_null() || !decision["settlement"].is_null())
}

#[test]
fn a_watch_killed_at_any_moment_holds_once_and_forgets_nothing() {
    const BENCHES: u64 = 3;
    const ROUNDS: u64 = 5;
    const KILLS: u64 = 2;
    let seed = seed();
    let began = Instant::now();
    all_at_once(&(0..BENCHES).collect::<Vec<_>>(), |number| {
        let mut random = Random(seed.wrapping_add(*number));
        let bench = Bench::swarm();
        for round in 0..ROUNDS {
            let name = format!("web{round}");
            let id = bench.add_loop(&name, 2, &[("squall.response", "scale-to-zero")]);
            until("it loops", || bench.swarm.attempts(&name) >= 8);
            let fault = match random.below(5) {
                0 | 1 => Some(Fault::Delay(Duration::from_millis(200))),
                2 => Some(Fault::Late(Duration::from_millis(random.below(300)))),
                3 => Some(Fault::CutBefore),
                _ => None,
            };
            fault.iter().for_each(|fault| bench.swarm.fail_next(fault.clone()));
            let mut moments = Vec::new();
            for _ in 0..KILLS {
                let watch = bench.watch(AT_ONCE, &["--enforce"]);
                if random.below(2) == 0 && !bench.is_held(&name) {
                    let arrived = bench.arrived(&id);
                    let until = Instant::now() + Duration::from_secs(3);
                    while bench.arrived(&id) == arrived && Instant::now() < until {
                        pause(1);
                    }
                    let moment = random.below(30);
                    pause(moment);
                    moments.push(format!("{moment} ms after the write"));
                } else {
                    let moment = random.below(600);
                    pause(moment);
                    moments.push(format!("{moment} ms after the start"));
                }
                watch.kill();
            }
            let what = format!("bench {number}, {name}, {fault:?}, killed {moments:?}");
            let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
            watch.until(&what, |_| bench.is_held(&name));
            watch.until("all is settled", |_| is_all_settled(&bench.report()));
            pause(700);
            watch.terminate();
            bench.swarm.forget_faults();
            let is_late = matches!(fault, Some(Fault::Late(_)));
            let writes = bench.writes_to(&id);
            assert_eq!(steps(&writes), [("held".to_owned(), 0)], "{what}: {writes:#?}");
            let after = writes.iter().skip_while(|write| !write.is_applied).skip(1).count();
            // Somebody who had read it before it came true may have tried, and was refused.
            assert!(after == 0 || is_late, "{what}: repeated: {writes:#?}");
            assert_eq!(bench.swarm.spec(&name)["Labels"]["squall.quarantine.replicas"], "2", "{what}");
            let outcomes = outcomes(&bench.report(), &name);
            let done = outcomes.iter().filter(|outcome| *outcome == "done").count();
            println!("{what}: {outcomes:?}");
            assert!(done == 1 || is_late && done == 0, "{what}: {outcomes:?}");
        }
        for round in 0..ROUNDS {
            assert!(bench.is_held(&format!("web{round}")), "what was held stays so");
        }
    });
    println!("{} kills in {:?}", BENCHES * ROUNDS * KILLS, began.elapsed());
}

/// Each step follows the one before it, and none is done twice.
#[track_caller]
fn assert_is_a_backoff(steps: &[(String, u64)], all: u64, what: &str) {
    assert_eq!(steps.first(), Some(&("held".to_owned(), 0)), "{what}: {steps:?}");
    for pair in steps.windows(2) {
        let is_right = match (&*pair[0].0, &*pair[1].0) {
            ("held", "probation") => pair[1].1 == pair[0].1 + 1,
            ("probation" | "returning", "held") => pair[1].1 < pair[0].1,
            ("probation" | "returning", "returning") => pair[1].1 > pair[0].1,
            ("probation" | "returning", "released") => pair[1].1 == all,
            _ => false,
        };
        assert!(is_right, "{what}: {pair:?} of {steps:?}");
    }
}

#[test]
fn a_watch_killed_around_a_watched_attempt_repeats_and_forgets_nothing() {
    const BENCHES: u64 = 2;
    const KILLS: u64 = 7;
    let seed = seed();
    let began = Instant::now();
    let respond =
        format!("{AT_ONCE}backoff_min = \"1s\"\nbackoff_max = \"1s\"\nstable_for = \"1s\"\ncool_down = \"1s\"\n");
    all_at_once(&(0..BENCHES).collect::<Vec<_>>(), |number| {
        let mut random = Random(seed.wrapping_mul(31).wrapping_add(*number));
        let bench = Bench::swarm();
        let id = bench.add_loop("web", 2, &[("squall.response", "backoff")]);
        let before = bench.swarm.spec("web");
        let mut watch = bench.watch(&respond, &["--enforce"]);
        watch.until("it is held", |_| bench.is_held("web"));
        let mut moments = Vec::new();
        for _ in 0..KILLS {
            if random.below(3) == 0 {
                let moment = random.below(1500);
                pause(moment);
                moments.push(format!("{moment} ms later"));
            } else {
                let time = Duration::from_millis(random.below(300));
                let fault = if random.below(2) == 0 { Fault::Delay(time) } else { Fault::CutAfter };
                bench.swarm.fail_next(fault.clone());
                let arrived = bench.arrived(&id);
                watch.until("the next step", |_| bench.arrived(&id) > arrived);
                let moment = random.below(50);
                pause(moment);
                moments.push(format!("{moment} ms after a write with {fault:?}"));
            }
            watch.kill();
            watch = bench.watch(&respond, &["--enforce"]);
        }
        let what = format!("bench {number}, killed {moments:#?}");
        bench.swarm.forget_faults();
        bench.swarm.set_behaviour("web", Behaviour::Healthy);
        watch.until(&what, |_| bench.swarm.spec("web") == before);
        watch.until("all is settled", |_| is_all_settled(&bench.report()));
        pause(700);
        watch.terminate();
        let steps = steps(&bench.writes_to(&id));
        println!("{what}: {steps:?}");
        assert_is_a_backoff(&steps, 2, &what);
        assert_eq!(bench.swarm.spec("web").to_string(), before.to_string());
        let report = bench.report();
        let done = outcomes(&report, "web").iter().filter(|outcome| *outcome == "done").count();
        assert_eq!(done, steps.len(), "{what}: {steps:?} {report:#}");
    });
    println!("{} kills in {:?}", BENCHES * KILLS, began.elapsed());
}

#[test]
fn what_was_decided_about_a_service_that_is_gone_since_is_settled_too() {
    let bench = Bench::swarm();
    let id = bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    bench.swarm.fail_next(Fault::CutBefore);
    let watch = bench.watch(AT_ONCE, &["--enforce"]);
    until("it was tried", || bench.arrived(&id) == 1);
    watch.kill();
    bench.swarm.remove_service("web");
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    pause(4000);
    watch.terminate();
    let report = bench.report();
    assert_eq!(outcomes(&report, "web"), ["not-done"], "{report:#}");
}

/// What its journal says of services cannot be asked there any more.
#[test]
fn a_node_that_has_left_its_swarm_still_stops_containers() {
    let swarm = Bench::swarm();
    let id = swarm.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    swarm.swarm.fail_next(Fault::CutBefore);
    let watch = swarm.watch(AT_ONCE, &["--enforce"]);
    until("it was tried", || swarm.arrived(&id) == 1);
    watch.kill();
    let bench = Bench::plain();
    bench.swarm.add_container("web", "always", 0, &[("squall.response", "pause")]);
    let mut watch = bench.watch_in(&swarm.state(), AT_ONCE, &["--enforce"]);
    watch.until("it is stopped", |_| bench.swarm.container("web")["State"]["Status"] == "exited");
    watch.terminate();
}

#[test]
fn a_stop_of_a_container_that_was_cut_short_does_not_lose_its_restart_policy() {
    let bench = Bench::plain();
    bench.swarm.add_container("web", "on-failure", 500, &[("squall.response", "pause")]);
    let id = bench.swarm.container("web")["Id"].as_str().unwrap().to_owned();
    bench.swarm.fail_next(Fault::Delay(Duration::from_secs(5)));
    let watch = bench.watch(AT_ONCE, &["--enforce"]);
    until("the policy is taken away", || bench.swarm.daemon().count(&format!("/containers/{id}/update")) == 1);
    watch.kill();
    let stops = bench.swarm.daemon().count(&format!("/containers/{id}/stop"));
    assert_eq!(stops, 0, "it was killed in between");
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    pause(3000);
    watch.until("all is settled", |_| is_all_settled(&bench.report()));
    watch.terminate();
    let policy = &bench.swarm.container("web")["HostConfig"]["RestartPolicy"];
    if *policy == json!({"Name": "no", "MaximumRetryCount": 0}) {
        let release = bench.by_hand(&["release", "web"]);
        assert_eq!(release.status.code(), Some(0), "squall took it, and does not know it: {}", stderr(&release));
    }
    let policy = &bench.swarm.container("web")["HostConfig"]["RestartPolicy"];
    assert_eq!(*policy, json!({"Name": "on-failure", "MaximumRetryCount": 500}));
}

// --- Faults ------------------------------------------------------------------------------------------------------------

#[test]
fn whatever_goes_wrong_with_a_write_it_is_done_once_and_told_once() {
    const SEQUENCE: &str = "rpc error: code = Unknown desc = update out of sequence";
    const DEADLINE: &str = "rpc error: code = Unknown desc = context deadline exceeded";
    // What becomes of the first decision.
    let cases = [
        (Fault::CutBefore, "not-done"),
        (Fault::CutAfter, "done"),
        (Fault::Error(500, SEQUENCE), "raced"),
        (Fault::Error(500, DEADLINE), "not-done"),
        (Fault::Error(400, "rpc error: code = InvalidArgument desc = no"), "failed"),
        (Fault::Error(403, "authorization denied by plugin"), "failed"),
        (Fault::Delay(Duration::from_secs(1)), "done"),
        (Fault::Late(Duration::from_secs(1)), "done"),
        (Fault::Race, "raced"),
    ];
    all_at_once(&cases, |(fault, first)| {
        let bench = Bench::swarm();
        let id = bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
        bench.swarm.fail_next(fault.clone());
        let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
        watch.until("it is held", |_| bench.is_held("web"));
        let settled = |watch: &Watch, outcome: &str| {
            watch.notices("settlement").iter().filter(|line| line["settlement"]["outcome"] == outcome).count()
        };
        watch.until(&format!("that is settled after {fault:?}"), |watch| settled(watch, "done") == 1);
        pause(1500);
        watch.terminate();
        let writes = bench.writes_to(&id);
        assert_eq!(steps(&writes), [("held".to_owned(), 0)], "{fault:?}");
        let outcomes = outcomes(&bench.report(), "web");
        let expected = if *first == "done" { vec!["done"] } else { vec![first, "done"] };
        assert_eq!(outcomes, expected, "{fault:?}: {}", watch.words());
        let count = |words: &[&str]| watch.count(words);
        assert_eq!(count(&["INFO", " done decision="]), 1, "{fault:?}: {}", watch.words());
        let has_failed = usize::from(*first != "done");
        assert_eq!(count(&["not done"]), has_failed, "{fault:?}: {}", watch.words());
        assert_eq!(count(&["permitted"]), expected.len(), "{fault:?}: {}", watch.words());
        assert!(count(&["a request to Docker failed"]) <= 1, "{fault:?}: {}", watch.words());
        if let Fault::Error(_, why) = fault
            && *why != SEQUENCE
        {
            assert!(count(&[*why]) >= 1, "{fault:?}: {}", watch.words());
        }
    });
}

#[test]
fn a_manager_that_refuses_every_write_is_asked_seldom_and_watched_on() {
    let bench = Bench::swarm();
    for _ in 0..100 {
        bench.swarm.fail_next(Fault::Error(403, "authorization denied by plugin"));
    }
    let id = bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it is tried", |_| !bench.writes_to(&id).is_empty());
    bench.add_loop("other", 2, &[]);
    watch.until("another storm is found", |watch| watch.notices("onset").len() == 2);
    pause(10_000);
    let tries = bench.writes_to(&id).len();
    println!("{tries} tries in 10 s");
    assert!((2..=5).contains(&tries), "{tries} tries: {}", watch.words());
    // As an error of a request, and as the end of a decision.
    let told = watch.count(&["authorization denied by plugin"]);
    assert!((1..=2).contains(&told), "{told} lines: {}", watch.words());
    bench.swarm.forget_faults();
    watch.until("it is held in the end", |_| bench.is_held("web"));
    watch.until("all is settled", |_| is_all_settled(&bench.report()));
    watch.terminate();
    assert_eq!(watch.count(&["not done", "subject=web"]), 1, "the same is said once: {}", watch.words());
}

/// Each pause after a failure is longer than the one before, up to a minute.
#[test]
fn a_write_that_always_fails_is_tried_less_and_less() {
    let bench = Bench::swarm();
    for _ in 0..100 {
        bench.swarm.fail_next(Fault::Error(400, "rpc error: code = InvalidArgument desc = no"));
    }
    let id = bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    let _watch = bench.watch(AT_ONCE, &["--enforce"]);
    until("it is tried three times", || bench.writes_to(&id).len() == 3);
    pause(15_000);
    let at: Vec<SystemTime> = bench.writes_to(&id).iter().map(|write| write.at).collect();
    let pauses: Vec<Duration> = at.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect();
    println!("{pauses:?}");
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0].mul_f64(1.5)), "{pauses:?}");
}

// --- Two squalls -------------------------------------------------------------------------------------------------------

#[test]
fn two_squalls_on_one_manager_hold_each_service_once() {
    let bench = Bench::swarm();
    let names: Vec<String> = (0..6).map(|number| format!("web{number}")).collect();
    let labels = [("squall.response", "scale-to-zero")];
    let ids: Vec<String> = names.iter().map(|name| bench.add_loop(name, 2, &labels)).collect();
    until("they loop", || names.iter().all(|name| bench.swarm.attempts(name) >= 8));
    let states = ["first", "second"].map(|name| bench.path(name));
    let mut watches = states.each_ref().map(|state| bench.watch_in(state, AT_ONCE, &["--enforce"]));
    until("all are held", || names.iter().all(|name| bench.is_held(name)));
    pause(1500);
    watches.iter_mut().for_each(Watch::terminate);
    let reports = states.map(|state| bench.report_of(&state));
    for (name, id) in names.iter().zip(&ids) {
        assert_eq!(steps(&bench.writes_to(id)), [("held".to_owned(), 0)], "{name}");
        let outcomes: Vec<Value> = reports.iter().flat_map(|report| outcomes(report, name)).collect();
        println!("{name}: {outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "done").count(), 1, "{name}: {outcomes:?}");
        assert!(outcomes.iter().all(|outcome| *outcome == "done" || *outcome == "raced"), "{name}: {outcomes:?}");
    }
    let let_go: usize = watches.iter().map(|watch| watch.notices("let-go").len()).sum();
    assert_eq!(let_go, 0, "what the one does is no meddling to the other");
}

#[test]
fn two_squalls_on_one_manager_make_one_watched_attempt_at_a_time() {
    let bench = Bench::swarm();
    let respond = format!("{AT_ONCE}backoff_min = \"1s\"\nbackoff_max = \"1s\"\nstable_for = \"1s\"\n");
    let id = bench.add_loop("web", 2, &[("squall.response", "backoff")]);
    let before = bench.swarm.spec("web");
    let states = ["first", "second"].map(|name| bench.path(name));
    let mut watches = states.each_ref().map(|state| bench.watch_in(state, &respond, &["--enforce"]));
    until("it was tried twice", || {
        steps(&bench.writes_to(&id)).iter().filter(|(phase, _)| phase == "probation").count() == 2
    });
    bench.swarm.set_behaviour("web", Behaviour::Healthy);
    until("it is as it was", || bench.swarm.spec("web") == before);
    pause(1500);
    until("all is settled", || states.iter().all(|state| is_all_settled(&bench.report_of(state))));
    watches.iter_mut().for_each(Watch::terminate);
    let steps = steps(&bench.writes_to(&id));
    println!("{steps:?}");
    assert_is_a_backoff(&steps, 2, "two squalls");
    assert_eq!(bench.swarm.spec("web").to_string(), before.to_string());
    let let_go: Vec<Value> = watches.iter().flat_map(|watch| watch.notices("let-go")).collect();
    assert_eq!(let_go, [] as [Value; 0], "what the one does is no meddling to the other");
}

// --- What is sent --------------------------------------------------------------------------------------------------------

/// That each write is so is asserted of all tests; here are all the ways to hold.
#[test]
fn a_service_is_held_and_given_back_by_its_labels_replicas_and_constraints_only() {
    let bench = Bench::swarm();
    let rich = |name: &str, response: &'static str| {
        let mut spec = looping_spec(name, 3, &[("squall.response", response), ("team", "shop")]);
        spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = json!([{"SecretID": "s", "File": {"Name": "token"}}]);
        spec["UpdateConfig"] = json!({"Parallelism": 2, "FailureAction": "pause", "Unheard": {"of": [1, null]}});
        spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.role==manager"]);
        spec
    };
    let mut specs = BTreeMap::new();
    for response in ["pause", "scale-to-zero", "backoff"] {
        specs.insert(response.to_owned(), rich(response, response));
    }
    specs.insert("global".to_owned(), as_global(rich("global", "scale-to-zero")));
    for (name, spec) in &specs {
        bench.swarm.add_service_with(name, spec.clone(), rejected(FAST));
    }
    let before: BTreeMap<&String, Value> = specs.keys().map(|name| (name, bench.swarm.spec(name))).collect();
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("all are held", |_| specs.keys().all(|name| bench.swarm.spec(name)["Labels"][HELD] == "held"));
    watch.terminate();
    for (name, set) in [("pause", true), ("scale-to-zero", false), ("backoff", false), ("global", true)] {
        let spec = bench.swarm.spec(name);
        let constraints = &spec["TaskTemplate"]["Placement"]["Constraints"];
        assert_eq!(constraints.as_array().unwrap().len(), 1 + usize::from(set), "{name}: {constraints}");
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"] == 0, !set, "{name}");
    }
    let released = bench.by_hand(&["release", "--all"]);
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    for (name, before) in before {
        assert_eq!(bench.swarm.spec(name).to_string(), before.to_string(), "{name}");
    }
    assert_eq!(bench.swarm.writes().iter().filter(|write| write.is_applied).count(), 8);
}

// --- Without a journal ---------------------------------------------------------------------------------------------------

#[test]
fn without_a_journal_services_are_held_all_the_same_and_that_is_said_once() {
    let bench = Bench::swarm();
    fs::write(bench.state(), "in its place").unwrap();
    bench.add_loop("web", 2, &[("squall.response", "scale-to-zero")]);
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it is held", |_| bench.is_held("web"));
    bench.add_loop("other", 2, &[("squall.response", "scale-to-zero")]);
    watch.until("so is the next", |_| bench.is_held("other"));
    pause(1500);
    assert_eq!(watch.count(&["ERROR", "the journal cannot be written"]), 1, "{}", watch.words());
    assert_eq!(watch.count(&["ERROR"]), 1, "{}", watch.words());
    assert_eq!(watch.notices("no-journal").len(), 1);
    let why = watch.notices("no-journal")[0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains(&bench.state()), "it says which: {why}");
    watch.terminate();
    assert_eq!(fs::read_to_string(bench.state()).unwrap(), "in its place");
    assert_eq!(bench.swarm.writes().len(), 2);
}

#[test]
fn without_a_journal_a_person_is_told_so_and_obeyed() {
    let bench = Bench::swarm();
    fs::write(bench.state(), "in its place").unwrap();
    bench.add_loop("web", 2, &[]);
    until("it loops", || bench.swarm.attempts("web") >= 4);
    let output = bench.by_hand(&["quarantine", "web"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("not journaled") && stderr(&output).lines().count() == 1, "{}", stderr(&output));
    assert!(bench.is_held("web"));
}

// --- Without Swarm -------------------------------------------------------------------------------------------------------

#[test]
fn a_container_that_loops_is_stopped_and_given_back_as_it_was() {
    let bench = Bench::plain();
    let id = bench.swarm.add_container("web", "on-failure", 500, &[("squall.response", "pause")]);
    bench.swarm.add_container("control", "always", 0, &[]);
    let before = bench.swarm.container("web")["HostConfig"].clone();
    let control = bench.swarm.container("control")["HostConfig"].clone();
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it is stopped", |_| bench.swarm.container("web")["State"]["Status"] == "exited");
    watch.until("that is settled", |watch| watch.notices("settlement").len() == 1);
    let paths: Vec<String> = bench.swarm.writes().into_iter().map(|write| write.path).collect();
    assert_eq!(paths, [format!("/containers/{id}/update"), format!("/containers/{id}/stop")], "the policy goes first");
    let starts = bench.swarm.starts("web");
    let control_starts = bench.swarm.starts("control");
    pause(2500);
    assert_eq!(bench.swarm.starts("web"), starts, "it stays so");
    assert!(bench.swarm.starts("control") > control_starts);
    assert_eq!(bench.swarm.container("control")["HostConfig"], control);
    assert_eq!(bench.swarm.writes().len(), 2);

    watch.terminate();
    bench.swarm.set_container_fails("web", false);
    let released = bench.by_hand(&["release", "web"]);
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    assert_eq!(String::from_utf8_lossy(&released.stdout), "web released\n");
    let container = bench.swarm.container("web");
    assert_eq!(container["HostConfig"], before);
    assert_eq!(container["State"]["Status"], "running");
    assert_eq!(outcomes(&bench.report(), "web"), ["done", "done"]);
    let again = bench.by_hand(&["release", "web"]);
    assert_one_sentence(&again, "web: ");
}

/// An image's labels are its containers': one that loops may say that it is of somebody else's compose service, and that
/// this is opted in.
#[test]
fn an_image_that_passes_for_a_compose_service_gets_none_of_it_stopped() {
    let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "db")];
    let opted_in = [compose[0], compose[1], ("squall.response", "pause")];
    for (labels, refusal) in [(&compose[..], Refusal::NotOptedIn), (&opted_in[..], Refusal::HealthyReplica)] {
        let bench = Bench::plain();
        bench.swarm.add_container("db", "always", 0, labels);
        bench.swarm.set_container_fails("db", false);
        bench.swarm.add_container("disguised", "always", 0, &opted_in);
        let mut watch = bench.watch(&format!("{AT_ONCE}response = \"pause\"\n"), &["--enforce"]);
        watch.until("it is refused", |watch| !watch.refusals(refusal).is_empty());
        // Whatever has just been started is not healthy yet by its time.
        for _ in 0..4 {
            post(&bench, "/containers/db/stop");
            post(&bench, "/containers/db/start");
            pause(1500);
        }
        assert_eq!(watch.notices("settlement").len(), 0, "{}", watch.words());
        for name in ["db", "disguised"] {
            assert_eq!(bench.swarm.container(name)["HostConfig"]["RestartPolicy"]["Name"], "always", "{name}");
        }
        assert_eq!(bench.swarm.container("db")["State"]["Status"], "running");
        watch.terminate();
    }
}

#[test]
fn squall_lets_go_of_a_container_that_somebody_starts() {
    let bench = Bench::plain();
    bench.swarm.add_container("web", "always", 0, &[("squall.response", "pause")]);
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("that is settled", |watch| watch.notices("settlement").len() == 1);
    bench.swarm.set_container_fails("web", false);
    let started = post(&bench, "/containers/web/start");
    assert_eq!(started, 204);
    watch.until("squall lets go", |watch| watch.notices("let-go").len() == 1);
    pause(1000);
    assert_eq!(bench.swarm.writes().len(), 3, "policy, stop, and that start");
    watch.terminate();
    assert_eq!(bench.swarm.container("web")["State"]["Status"], "running");
    assert_one_sentence(&bench.by_hand(&["release", "web"]), "web: ");
}

/// A stop that Docker refuses is none: nobody has started anything.
#[test]
fn a_stop_that_docker_refuses_is_tried_again() {
    let bench = Bench::plain();
    bench.swarm.add_container("web", "always", 0, &[("squall.response", "pause")]);
    bench.swarm.fail_next(Fault::Error(500, "cannot update a container that is being removed"));
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("it is told", |watch| watch.count(&["not done"]) == 1);
    let until = Instant::now() + Duration::from_secs(25);
    while bench.swarm.container("web")["State"]["Status"] != "exited" && Instant::now() < until {
        pause(50);
    }
    assert_eq!(watch.notices("let-go"), [] as [Value; 0], "nobody has touched it");
    assert_eq!(bench.swarm.container("web")["State"]["Status"], "exited", "{}", watch.words());
}

/// A status of a request of somebody else's.
fn post(bench: &Bench, path: &str) -> u16 {
    let mut stream = std::os::unix::net::UnixStream::connect(bench.swarm.daemon().socket()).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

// --- By hand -------------------------------------------------------------------------------------------------------------

/// It was not done, and why is one sentence that has these words.
#[track_caller]
fn assert_one_sentence(output: &Output, words: &str) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    assert!(stderr.starts_with("squall: ") && stderr.contains(words), "it says {words:?}: {stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn what_cannot_be_done_by_hand_is_refused_with_a_sentence() {
    let bench = Bench::swarm();
    bench.add_loop("loops", 2, &[]);
    bench.swarm.add_service("runs", healthy_spec("runs", 2, &[]));
    let mut job = healthy_spec("job", 0, &[]);
    job["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}});
    bench.swarm.add_service("job", job);
    bench.add_loop("rolls", 2, &[]);
    bench.swarm.set_update_status("rolls", Some("updating"));
    bench.add_loop("damaged", 2, &[("squall.quarantine", "x")]);
    until("it runs", || bench.swarm.running("runs") == 2 && bench.swarm.attempts("loops") >= 6);

    let quarantine = |name| bench.by_hand(&["quarantine", name]);
    assert_one_sentence(&quarantine("nope"), "no service nope");
    assert_one_sentence(&quarantine("job"), "job: a job cannot be held");
    assert_one_sentence(&quarantine("runs"), "runs: healthy replicas would be taken away: --even-healthy");
    assert_one_sentence(&quarantine("rolls"), "rolls: a rollout");
    assert_one_sentence(&quarantine("damaged"), "damaged: its labels squall.quarantine* were changed");
    assert_one_sentence(&bench.by_hand(&["quarantine", "loops", "--response", "observe"]), "to observe holds nothing");
    let release = |name| bench.by_hand(&["release", name]);
    assert_one_sentence(&release("nope"), "nope");
    assert_one_sentence(&release("runs"), "runs: it is not held");
    assert_one_sentence(&release("job"), "job: it is not held");
    assert_one_sentence(&release("damaged"), "damaged: its labels squall.quarantine* were changed");
    assert_eq!(bench.swarm.writes().len(), 0);

    let held = quarantine("loops");
    assert_eq!((held.status.code(), stderr(&held)), (Some(0), String::new()));
    assert_eq!(String::from_utf8_lossy(&held.stdout), "loops held (scale-to-zero)\n");
    assert_one_sentence(&quarantine("loops"), "loops: it is held already");
    assert_eq!(bench.swarm.writes().len(), 1);

    // Of several, those that can be are.
    let both = bench.by_hand(&["release", "nope", "loops"]);
    assert_eq!(both.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&both.stdout), "loops released\n");
    assert_eq!(stderr(&both).lines().count(), 1, "{}", stderr(&both));
}

#[test]
fn with_nothing_held_there_is_nothing_to_release() {
    let bench = Bench::swarm();
    let output = bench.by_hand(&["release", "--all"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing is held\n");
    assert!(bench.swarm.writes().is_empty());
}

#[test]
fn all_that_is_released_has_what_is_stopped_of_a_host_without_swarm() {
    let bench = Bench::plain();
    for name in ["web", "also"] {
        bench.swarm.add_container(name, "always", 0, &[("squall.response", "pause")]);
    }
    let mut watch = bench.watch(AT_ONCE, &["--enforce"]);
    watch.until("both are stopped", |watch| watch.notices("settlement").len() == 2);
    watch.terminate();
    let released = bench.by_hand(&["release", "--all"]);
    assert_eq!(released.status.code(), Some(0), "{}", stderr(&released));
    for name in ["web", "also"] {
        let container = bench.swarm.container(name);
        assert_eq!(container["HostConfig"]["RestartPolicy"], json!({"Name": "always", "MaximumRetryCount": 0}));
        assert_ne!(container["State"]["Status"], "exited");
    }
}

#[test]
fn status_without_swarm_is_no_stack_of_errors() {
    let bench = Bench::plain();
    let output = bench.squall(&["status"]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nothing is held\n");
}

#[test]
fn a_worker_says_where_to_ask() {
    let bench = Bench::swarm();
    let why = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.";
    bench.swarm.daemon().on("/info", |_| {
        let mut info = support::fake_daemon::manager_info();
        info["Name"] = json!("worker7");
        info["Swarm"]["ControlAvailable"] = json!(false);
        Answer::json(info.to_string())
    });
    for path in ["/services", "/tasks", "/nodes", "/services/web"] {
        bench.swarm.daemon().on(path, move |_| Answer::error(503, why));
    }
    for args in [&["quarantine", "web"][..], &["release", "web"], &["release", "--all"]] {
        assert_one_sentence(&bench.by_hand(args), "is a swarm worker: run squall on a manager");
    }
    let status = bench.squall(&["status"]).output().unwrap();
    assert_one_sentence(&status, "is a swarm worker: run squall on a manager");
    assert!(status.stdout.is_empty(), "that nothing is held is not known here");
    assert!(bench.swarm.writes().is_empty());
}

#[test]
fn without_docker_a_sentence_names_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let host = format!("unix://{}", socket.display());
    for args in [&["quarantine", "web"][..], &["release", "web"], &["release", "--all"]] {
        let output = squall(&host, args).args(["--state-dir", state]).output().unwrap();
        assert_one_sentence(&output, socket.to_str().unwrap());
    }
    assert_one_sentence(&squall(&host, &["status"]).output().unwrap(), socket.to_str().unwrap());
    assert_one_sentence(&squall(&host, &["report", "--state-dir", state]).output().unwrap(), "no journal");
}

#[test]
fn wrong_arguments_are_told_before_anything_is_asked() {
    let bench = Bench::swarm();
    for (args, words) in [
        (&["watch", "--enforce=everyone"][..], "everyone"),
        (&["watch", "--response", "stop"], "`stop` is no response"),
        (&["quarantine"], "SERVICE"),
        (&["quarantine", "web", "--response", "x"], "`x` is no response"),
        (&["release"], "SERVICE"),
        (&["release", "--all", "web"], "--all"),
        (&["report", "--since", "yesterday"], "yesterday"),
    ] {
        let output = bench.squall(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let stderr = stderr(&output);
        let first = stderr.split("\n\n").next().unwrap();
        assert!(first.starts_with("error: ") && first.contains(words), "{args:?}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
    assert!(bench.swarm.daemon().requests().is_empty());
}
