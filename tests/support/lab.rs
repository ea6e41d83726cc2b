//! The private Swarm that tests/run starts, and squall run against it.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use squall::model::Timestamp;

/// Clock ticks a second in /proc/PID/stat: Linux has no other on any machine of today.
const TICKS_PER_SEC: f64 = 100.0;
/// How long a removal of services may take.
const REMOVAL: Duration = Duration::from_secs(60);

/// A running lab, for one test at a time. Services go with it.
pub(crate) struct Lab {
    dir: PathBuf,
    env: BTreeMap<String, String>,
    /// nextest runs each test in a process of its own, so only the file system can make them take turns.
    _turn: File,
    /// It was started for this test, and ends with it.
    is_own: bool,
}

impl Lab {
    /// Waits for this test's turn; no service runs when it has come.
    pub(crate) fn enter() -> Self {
        let dir = std::env::var_os("SQUALL_LAB")
            .expect("SQUALL_LAB must name the directory of a running lab: use tests/run, or tests/lab/lab start DIR");
        let dir = PathBuf::from(dir);
        let env = read_env(&dir);
        let turn = File::create(dir.join("turn")).unwrap();
        turn.lock().unwrap();
        let lab = Self { dir, env, _turn: turn, is_own: false };
        lab.clear();
        lab.await_clear();
        lab
    }

    /// A lab of three managers beside the first, for as long as this test has its turn.
    pub(crate) fn enter_managers() -> Self {
        let first = Self::enter();
        let dir = first.dir.with_file_name("lab3");
        checked(run_lab(&["start3m", dir.to_str().unwrap()]), "lab start3m");
        Self { env: read_env(&dir), dir, _turn: first._turn.try_clone().unwrap(), is_own: true }
    }

    /// The dockerd of a node is killed and stays away.
    pub(crate) fn kill_docker(&self, node: usize) {
        checked(run_lab(&["kill-docker", self.dir.to_str().unwrap(), &node.to_string()]), "lab kill-docker");
    }

    /// It comes back.
    pub(crate) fn revive_docker(&self, node: usize) {
        checked(run_lab(&["revive-docker", self.dir.to_str().unwrap(), &node.to_string()]), "lab revive-docker");
    }

    /// A node's dockerd stands still.
    pub(crate) fn freeze_docker(&self, node: usize) {
        checked(run_lab(&["freeze-docker", self.dir.to_str().unwrap(), &node.to_string()]), "lab freeze-docker");
    }

    /// It goes on.
    pub(crate) fn thaw_docker(&self, node: usize) {
        checked(run_lab(&["thaw-docker", self.dir.to_str().unwrap(), &node.to_string()]), "lab thaw-docker");
    }

    /// A node and the others are out of each other's reach.
    pub(crate) fn cut_network(&self, node: usize) {
        checked(run_lab(&["cut-network", self.dir.to_str().unwrap(), &node.to_string()]), "lab cut-network");
    }

    /// They reach each other again.
    pub(crate) fn mend_network(&self, node: usize) {
        checked(run_lab(&["mend-network", self.dir.to_str().unwrap(), &node.to_string()]), "lab mend-network");
    }

    /// The same lab, seen from another of its nodes.
    pub(crate) fn at_node(&self, node: usize) -> Self {
        let mut env = self.env.clone();
        if node > 1 {
            for name in ["DOCKER_HOST", "LOG"] {
                env.insert(name.to_owned(), self.var(&format!("{name}_{node}")).to_owned());
            }
        }
        Self { dir: self.dir.clone(), env, _turn: self._turn.try_clone().unwrap(), is_own: false }
    }

    /// A value of the lab's own environment.
    pub(crate) fn var(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("the lab's env has no {name}"))
    }

    /// Where all of it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// dockerd's log.
    pub(crate) fn log(&self) -> &str {
        self.var("LOG")
    }

    /// The directory that `s-mount-path` waits for.
    pub(crate) fn appears(&self) -> PathBuf {
        self.dir.join("appears")
    }

    /// `tests/lab/storms COMMAND DIR NAME...`.
    pub(crate) fn storms(&self, command: &str, names: &[&str]) {
        checked(self.spawn_storms(command, names).wait_with_output().unwrap(), &format!("storms {command} {names:?}"));
    }

    /// The same, without waiting for its end.
    pub(crate) fn spawn_storms(&self, command: &str, names: &[&str]) -> Child {
        // Debian's dockerd panics now and then when a service is removed that loops, and the lab starts it again.
        let answers = || self.docker_command(&["version"]).output().is_ok_and(|output| output.status.success());
        let until = Instant::now() + Duration::from_secs(60);
        while !answers() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/storms");
        let mut run = Command::new(script);
        run.arg(command).arg(&self.dir).args(names);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `tests/lab/lab restart-docker`.
    pub(crate) fn restart_docker(&self) {
        checked(run_lab(&["restart-docker", self.dir.to_str().unwrap()]), "lab restart-docker");
    }

    /// Creates a service each of whose attempts fails, as the source of its mount is missing.
    pub(crate) fn create_loop(&self, name: &str) {
        let image = format!("{}/app:1", self.var("REGISTRY"));
        let mount = "type=bind,source=/nope,target=/nope";
        self.docker(&[
            "service",
            "create",
            "--quiet",
            "--detach",
            "--name",
            name,
            "--no-resolve-image",
            "--restart-delay",
            "1s",
            "--mount",
            mount,
            &image,
            "sleep",
            "600",
        ]);
    }

    /// What a docker command prints.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        checked(self.docker_command(args).output().unwrap(), &format!("docker {args:?}"))
    }

    /// The same; `None` where it fails.
    pub(crate) fn docker_says(&self, args: &[&str]) -> Option<String> {
        let output = self.docker_command(args).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A docker command that goes on by itself, and prints into a file.
    pub(crate) fn spawn_docker(&self, args: &[&str], out: File) -> Child {
        self.docker_command(args).stdout(out).stderr(Stdio::null()).spawn().unwrap()
    }

    /// squall, as somebody who sits at this Docker runs it.
    pub(crate) fn squall(&self, args: &[&str]) -> Command {
        // A release build of it, where tests/survive was given one.
        let program = std::env::var_os("SQUALL").unwrap_or_else(|| env!("CARGO_BIN_EXE_squall").into());
        let mut squall = Command::new(program);
        squall.args(args).env("DOCKER_HOST", self.var("DOCKER_HOST")).env("DOCKER_CONFIG", self.var("DOCKER_CONFIG"));
        squall.env_remove("DOCKER_CONTEXT").env_remove("SQUALL_CONFIG").env_remove("SQUALL_LOG").env("COLUMNS", "80");
        squall.stdin(Stdio::null());
        squall
    }

    /// What a squall command prints; it has to succeed.
    pub(crate) fn squall_says(&self, args: &[&str]) -> String {
        checked(self.squall(args).output().unwrap(), &format!("squall {args:?}"))
    }

    /// A service's specification, by name.
    pub(crate) fn spec(&self, name: &str) -> Value {
        let Value::Array(mut services) = serde_json::from_str(&self.docker(&["service", "inspect", name])).unwrap()
        else {
            panic!("no array")
        };
        services[0]["Spec"].take()
    }

    /// The exit status and the report of an audit.
    pub(crate) fn audit(&self, log: &str) -> (Option<i32>, Value) {
        let output = self.squall(&["audit", "--log", log, "--format", "json"]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("audit prints no JSON: {words}"));
        (output.status.code(), report)
    }

    /// The services, by name: their id and when they were created.
    pub(crate) fn services(&self) -> BTreeMap<String, (String, Timestamp)> {
        let ids = self.docker(&["service", "ls", "--quiet"]);
        let mut args = vec!["service", "inspect"];
        args.extend(ids.lines());
        let Value::Array(services) = serde_json::from_str(&self.docker(&args)).unwrap() else { panic!("no array") };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entry = |service: &Value| {
            let created = Timestamp::parse(&text(&service["CreatedAt"])).unwrap();
            (text(&service["Spec"]["Name"]), (text(&service["ID"]), created))
        };
        services.iter().map(entry).collect()
    }

    /// When each failed attempt of a service failed, in dockerd's own words.
    pub(crate) fn failures(&self, service_id: &str) -> Vec<Timestamp> {
        let log = String::from_utf8_lossy(&fs::read(self.log()).unwrap()).into_owned();
        let of_service = format!("service.id={service_id} ");
        let lines = log.lines().filter(|line| line.contains("msg=\"fatal task error\"") && line.contains(&of_service));
        lines.map(|line| Timestamp::parse(line.split('"').nth(1).unwrap()).unwrap()).collect()
    }

    /// When a repository's manifest was asked for, in the registry's own words: once for each pull.
    pub(crate) fn pulls(&self, repository: &str, since: Timestamp) -> Vec<Timestamp> {
        let log = fs::read_to_string(self.var("REGISTRY_ACCESS_LOG")).unwrap();
        let asks = format!(" HEAD /v2/{repository}/manifests/");
        let lines = log.lines().filter(|line| line.contains(&asks));
        let at = lines.map(|line| {
            let (seconds, millis) = line.split(' ').next().unwrap().split_once('.').unwrap();
            let nanos = format!("{seconds}{millis}000000").parse().unwrap();
            Timestamp::from_nanos(nanos)
        });
        at.filter(|at| *at >= since).collect()
    }

    /// Removes all services and the containers that are none's.
    fn clear(&self) {
        let output = self.docker_command(&["service", "ls", "--quiet"]).output().unwrap();
        let ids = String::from_utf8_lossy(&output.stdout).into_owned();
        if !ids.trim().is_empty() {
            let mut args = vec!["service", "rm"];
            args.extend(ids.lines());
            let _ = self.docker_command(&args).output();
        }
    }

    /// Until no container is left: what a removed service leaves behind would be the next test's business.
    fn await_clear(&self) {
        let until = Instant::now() + REMOVAL;
        loop {
            let ended = self.docker(&["ps", "--all", "--quiet", "--filter", "status=exited"]);
            let mut args = vec!["rm"];
            args.extend(ended.lines());
            if args.len() > 1 {
                let _ = self.docker_command(&args).output();
            }
            if self.docker(&["ps", "--all", "--quiet"]).trim().is_empty() {
                return;
            }
            assert!(Instant::now() < until, "containers are left {REMOVAL:?} after their services were removed");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// A docker command, to be given more.
    pub(crate) fn docker_command(&self, args: &[&str]) -> Command {
        // As the lab's own scripts: Debian's docker, whatever else is installed here.
        let mut docker = Command::new("/usr/bin/docker");
        docker.args(args).env("DOCKER_HOST", self.var("DOCKER_HOST")).env("DOCKER_CONFIG", self.var("DOCKER_CONFIG"));
        docker.env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        docker
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match (self.is_own, self.dir.ends_with("lab3")) {
            (true, _) => drop(run_lab(&["stop", self.dir.to_str().unwrap()])),
            // Seen from another node.
            (false, true) => {}
            (false, false) => self.clear(),
        }
    }
}

fn run_lab(args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab");
    Command::new(script).args(args).stdin(Stdio::null()).output().unwrap()
}

fn read_env(dir: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(dir.join("env")).expect("the lab of SQUALL_LAB has a file env: is it running?");
    let env = text.lines().filter_map(|line| line.split_once('='));
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `squall watch --format json`, and what it has said.
pub(crate) struct Watch {
    child: Child,
    out: PathBuf,
    words: PathBuf,
    started: Instant,
}

impl Watch {
    /// Starts it, and waits until it watches.
    pub(crate) fn start(lab: &Lab, dir: &Path) -> Self {
        Self::start_with(lab, dir, &["--log", lab.log()])
    }

    /// The same with further arguments. `dir` holds what it says and its journal, and may be used again.
    pub(crate) fn start_with(lab: &Lab, dir: &Path, args: &[&str]) -> Self {
        let mut watch = lab.squall(&["watch", "--format", "json", "--state-dir"]);
        watch.arg(dir.join("state")).args(args);
        Self::run(watch, dir)
    }

    /// The same of a command that is a watch already.
    pub(crate) fn run(mut watch: Command, dir: &Path) -> Self {
        let (out, words) = (dir.join("watch.json"), dir.join("watch.log"));
        let child = watch.stdout(File::create(&out).unwrap()).stderr(File::create(&words).unwrap()).spawn().unwrap();
        let mut watch = Self { child, out, words, started: Instant::now() };
        watch.until("it watches", 30, |watch| watch.words().contains("watching").then_some(()));
        watch
    }

    /// Its lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap();
        // The last line may not be whole yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// The lines of one kind.
    pub(crate) fn notices(&self, notice: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["notice"] == notice).collect()
    }

    /// The storms in the lines of one kind, by service; the first line of each.
    pub(crate) fn by_service(&self, notice: &str) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        for line in self.notices(notice) {
            found.entry(line["storm"]["subject"]["name"].as_str().unwrap().to_owned()).or_insert(line);
        }
        found
    }

    /// What it has logged.
    pub(crate) fn words(&self) -> String {
        fs::read_to_string(&self.words).unwrap()
    }

    /// Polls until there is an answer. Panics after `secs`, or when the watch has ended.
    pub(crate) fn until<T>(&mut self, what: &str, secs: u64, mut answer: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(secs);
        loop {
            if let Some(answer) = answer(self) {
                return answer;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("watch ended by itself ({status}): {}", self.words());
            }
            assert!(Instant::now() < until, "not in {secs} s: {what}\n{}", self.words());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it has used so far, in words.
    pub(crate) fn usage(&self) -> String {
        let (peak, lived) = (self.resident_kb("VmHWM:"), self.started.elapsed().as_secs());
        format!("at most {peak} kB resident, {:.2} s of processor time in {lived} s", self.processor_secs())
    }

    /// A line of its `/proc/PID/status`: `VmRSS:` is what is resident, `VmHWM:` the most that ever was.
    pub(crate) fn resident_kb(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The processor time that it has used.
    pub(crate) fn processor_secs(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let fields = stat.rsplit(") ").next().unwrap().split(' ').collect::<Vec<_>>();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / TICKS_PER_SEC
    }

    /// Ends it at once, wherever it is.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as a service manager does; returns its exit status.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "watch does not end 10 s after SIGTERM");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Now, on the clock that the lab's daemon has too.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap())
}

/// Standard output of a command that has to succeed.
pub(crate) fn checked(output: Output, what: &str) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{words}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
