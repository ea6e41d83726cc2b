//! What a service manager and a container see of squall: its notifications, and `squall health`.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

#[path = "support/status.rs"]
mod status;
mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall::model::{Check, Status};
use squall::serve::{Server, Settings};
use support::fake_daemon::{Answer, FakeDaemon, Request, Step};
use tempfile::TempDir;
use tokio::sync::watch;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn squall(args: &[&str]) -> Command {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.args(args).stdin(Stdio::null());
    for name in [
        "DOCKER_CONTEXT",
        "DOCKER_CONFIG",
        "SQUALL_CONFIG",
        "SQUALL_LOG",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    ] {
        squall.env_remove(name);
    }
    squall
}

// --- Notifications -------------------------------------------------------------------------------------------------------

/// A service manager: what it starts, and the socket that it listens at.
struct Manager {
    dir: TempDir,
    daemon: FakeDaemon,
    socket: UnixDatagram,
    heard: Vec<String>,
    child: Option<Child>,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = FakeDaemon::start(dir.path());
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { dir, daemon, socket, heard: Vec::new(), child: None }
    }

    /// Starts the daemon, and waits for a sign of life twice a second.
    fn start(&mut self) {
        fs::write(self.dir.path().join("squall.toml"), "[serve]\nenabled = false\n").unwrap();
        let mut watch = squall(&["watch", "--log", "none"]);
        watch.env("DOCKER_HOST", self.daemon.host()).env("SQUALL_CONFIG", self.dir.path().join("squall.toml"));
        watch.env("STATE_DIRECTORY", self.dir.path().join("state"));
        watch.env("NOTIFY_SOCKET", self.dir.path().join("notify")).env("WATCHDOG_USEC", "1000000");
        self.child = Some(watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// Listens until something is told that has these words.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        let mut bytes = [0; 4096];
        while !self.heard.last().is_some_and(|line| line.contains(wanted)) {
            let length = self.socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            self.heard.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
        }
    }

    /// Listens to so many signs of life.
    #[track_caller]
    fn until_beats(&mut self, count: usize) {
        for _ in 0..count {
            self.heard.push(String::new());
            self.until("WATCHDOG=1");
        }
    }

    fn count(&self, wanted: &str) -> usize {
        self.heard.iter().filter(|line| line.starts_with(wanted)).count()
    }

    fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap().code()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn systemd_hears_that_it_is_ready_how_it_goes_that_it_lives_and_that_it_ends() {
    let mut manager = Manager::new();
    manager.start();
    manager.until("READY=1");
    assert!(manager.daemon.count("/tasks") > 0, "it has looked");
    manager.until("STATUS=0 storms, ");
    manager.until_beats(3);
    manager.daemon.stop();
    manager.until("0 held; events: ");
    manager.until_beats(3);
    assert_eq!(manager.terminate(), Some(0));
    manager.until("STOPPING=1");
    assert_eq!(manager.count("READY=1"), 1, "{:?}", manager.heard);
    assert_eq!(manager.count("STOPPING=1"), 1, "{:?}", manager.heard);
}

#[test]
fn while_docker_answers_nothing_it_lives_and_is_not_ready() {
    let mut manager = Manager::new();
    manager.daemon.on("/tasks", |_| Answer::json("[").then(Step::Hang));
    manager.start();
    manager.until_beats(4);
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.heard);
    // The answer is given up. To be started anew would not help.
    manager.until("READY=1");
    manager.until_beats(2);
}

#[test]
fn while_docker_is_away_at_its_start_it_lives_and_is_not_ready() {
    let mut manager = Manager::new();
    manager.daemon.stop();
    manager.start();
    manager.until("STATUS=not ready: ");
    assert_eq!(manager.count("EXTEND_TIMEOUT_USEC="), 1, "{:?}", manager.heard);
    manager.until_beats(6);
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.heard);
    manager.daemon.resume();
    manager.until("READY=1");
    manager.until_beats(2);
    assert_eq!(manager.terminate(), Some(0));
}

#[test]
fn while_the_past_is_read_it_lives_and_is_not_ready() {
    let mut manager = Manager::new();
    // The events that the daemon remembers have an end; those that come have none.
    let events = |request: &Request| {
        if request.parameter("until").is_some() { Answer::Never } else { Answer::Events }
    };
    manager.daemon.on("/events", events);
    manager.start();
    manager.until_beats(6);
    assert!(manager.daemon.count("/tasks") > 0, "it has listed");
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.heard);
    manager.until("READY=1");
    manager.until_beats(2);
}

// --- Health --------------------------------------------------------------------------------------------------------------

fn health(args: &[&str]) -> Output {
    let mut health = squall(&["health"]);
    // A proxy has another loopback.
    health.args(args).env("http_proxy", "http://127.0.0.1:1").env("no_proxy", "").env_remove("NO_PROXY");
    health.output().unwrap()
}

fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("squall.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[track_caller]
fn assert_sentence(output: &Output, code: i32, words: &[&str]) {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}{complained}");
    let sentence = if code == 2 { complained } else { said };
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "it says {word:?}: {sentence}");
    }
}

#[test]
fn a_container_is_healthy_as_long_as_its_squall_sees_docker() {
    let mut manager = Manager::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = config(manager.dir.path(), &format!("[serve]\nlisten = \"{address}\"\n"));
    let mut watch = squall(&["watch", "--log", "none", "-c", &settings]);
    watch.env("DOCKER_HOST", manager.daemon.host()).env("STATE_DIRECTORY", manager.dir.path().join("state"));
    assert_sentence(&health(&["-c", &settings]), 2, &[&address.to_string(), "refused"]);
    manager.daemon.stop();
    manager.child = Some(watch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let until = |code: i32| {
        let began = Instant::now();
        loop {
            let output = health(&["-c", &settings]);
            if output.status.code() == Some(code) {
                return output;
            }
            assert!(began.elapsed() < PATIENCE, "{output:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // It waits for a Docker that is away at its start.
    assert_sentence(&until(1), 1, &["events: ", "docker.sock"]);
    manager.daemon.resume();
    assert_sentence(&until(0), 0, &["ok"]);
    manager.daemon.stop();
    assert_sentence(&until(1), 1, &["events: "]);
    manager.daemon.resume();
    assert_sentence(&until(0), 0, &["ok"]);
    assert_eq!(manager.terminate(), Some(0));
    assert_sentence(&health(&["-c", &settings]), 2, &["refused"]);
}

#[test]
fn settings_by_which_nothing_answers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let off = config(dir.path(), "[serve]\nenabled = false\n");
    assert_sentence(&health(&["-c", &off]), 2, &["serve.enabled"]);
    let broken = config(dir.path(), "[serve]\nlisten = 7\n");
    assert_sentence(&health(&["-c", &broken]), 2, &["listen"]);
    assert_sentence(&health(&["--url", "ftp://127.0.0.1"]), 2, &["--url"]);
}

/// Asks a server that shows this.
async fn health_of(status: Status) -> Output {
    let settings = Settings { listen: "127.0.0.1:0".parse().unwrap(), token: None, insecure: false, hosts: Vec::new() };
    let (_shown, receiver) = watch::channel(Arc::new(status));
    let server = Server::bind(settings, receiver).await.unwrap();
    let address: SocketAddr = server.address();
    let served = tokio::spawn(server.run(std::future::pending()));
    let output = tokio::task::spawn_blocking(move || {
        let mut health = squall(&["health", "--url", &format!("http://{address}/")]);
        health.env("no_proxy", "*").output().unwrap()
    });
    let output = output.await.unwrap();
    served.abort();
    output
}

#[tokio::test]
async fn a_view_that_is_old_is_told_and_a_receiver_that_is_away_is_no_reason_to_start_anew() {
    let rich = status::rich(status::now());
    assert_sentence(&health_of(rich.clone()).await, 0, &["ok"]);
    let stale = status::rich(status::now().minus(Duration::from_secs(45)));
    assert_sentence(&health_of(stale).await, 1, &["has not turned over for 4"]);
    assert_sentence(&health_of(Status::default()).await, 1, &["has not looked yet"]);

    let fail = |status: &mut Status, name: &str, detail: &str| {
        status.health.is_ready = false;
        status.health.checks.retain(|check| check.is_ok);
        let check = Check { name: name.to_owned(), is_ok: false, detail: detail.to_owned(), age_secs: None };
        status.health.checks.push(check);
    };
    let mut away = rich.clone();
    fail(&mut away, "outbox", "pager has not taken an alert for 15 min");
    assert_sentence(&health_of(away).await, 0, &["ok"]);
    let mut lost = rich;
    fail(&mut lost, "events", "gone\u{1b}[31m\nok");
    let output = health_of(lost).await;
    assert_sentence(&output, 1, &["events: gone"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains('\u{1b}'));
}

/// A minimal Debian has none.
#[test]
fn without_ca_certificates_only_what_is_encrypted_fails() {
    for (url, words) in [("http://127.0.0.1:1", "refused"), ("https://127.0.0.1:1", "refused")] {
        let mut squall = squall(&["health", "--url", url]);
        let output = squall.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent").output().unwrap();
        assert_sentence(&output, 2, &[words]);
    }
}

#[test]
fn who_answers_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let output = squall(&["health", "--url", &format!("http://{address}")]).env("no_proxy", "*").output().unwrap();
    assert_sentence(&output, 2, &["no answer within 3 s"]);
}
