//! squall beside a real Prometheus and a real Alertmanager: what it serves is read, the rules and the dashboard ask for
//! what there is, and a storm becomes an alert and stops being one.
//!
//! Needs the programs of Debian's `prometheus` and `prometheus-alertmanager` in the path. Each test has processes,
//! ports and directories of its own; nothing outlives it.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use squall::model::Cause;
use support::fake_swarm::{Behaviour, FakeSwarm, looping_spec};
use tempfile::TempDir;

/// What a test waits for comes within some seconds: the rest is for a slow machine, and what the README promises.
const PATIENCE: Duration = Duration::from_secs(60);
/// Restart loops as fast as the tests want them.
const FAST: Duration = Duration::from_millis(200);
/// The registry of the doubles' images.
const REGISTRY: &str = "registry.example.com";

/// A process of this test's, ended by its own id, also on a panic.
struct Process {
    child: Child,
    err: PathBuf,
}

impl Process {
    fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let err = dir.join(format!("{name}.err"));
        let output = File::create(&err).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { child, err }
    }

    fn words(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until this is something.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended by itself ({status}) before {what}: {}", self.words());
            }
            assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}\n{}", self.words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Swarm, a squall that watches it, and a place for what is beside them.
struct Bench {
    watch: Process,
    address: String,
    swarm: FakeSwarm,
    dir: TempDir,
}

impl Bench {
    fn new(config: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let swarm = FakeSwarm::start(dir.path());
        let path = dir.path().join("squall.toml");
        let text = format!("[serve]\nlisten = \"127.0.0.1:0\"\n[detect]\nhold_down = \"1s\"\n{config}");
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        command.args(["watch", "--log", "none", "--config"]).arg(&path).args(args);
        command.arg("--state-dir").arg(dir.path().join("state")).env("DOCKER_HOST", swarm.host());
        for name in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "SQUALL_CONFIG", "SQUALL_LOG", "STATE_DIRECTORY"] {
            command.env_remove(name);
        }
        let mut watch = Process::start(dir.path(), "squall", &mut command);
        let address = watch.until("it serves", |watch| {
            let words = watch.words();
            let address = words.split("http://").nth(1)?.split(|c: char| c != ':' && c != '.' && !c.is_ascii_digit());
            words.contains("status page").then(|| address.map(str::to_owned).next())?
        });
        Self { watch, address, swarm, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A service that loops five times a second, and asks the registry each time.
    fn add_loop(&self, name: &str, labels: &[(&str, &str)]) {
        let rejected = Behaviour::Rejected { error: "no".to_owned(), every: FAST };
        self.swarm.add_service_with(name, looping_spec(name, 1, labels), rejected);
    }

    fn metrics(&self) -> String {
        get(&self.address, "/metrics").unwrap()
    }

    /// The value of a series as the metrics spell it.
    fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

/// The body of an answer with status 200.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
}

fn get_json(address: &str, path: &str) -> Option<Value> {
    serde_json::from_str(&get(address, path)?).ok()
}

/// An address that nothing listened at a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(packaged(name)).unwrap()
}

fn promtool(args: &[&str]) -> Command {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(packaged("prometheus"));
    command
}

#[track_caller]
fn assert_well(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// The names of metrics and of recorded series in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c))
        .filter(|word| word.contains("squall_"))
        .map(|word| word.trim_matches(':').to_owned())
        .collect()
}

/// What all keys of this name hold.
fn all_of<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|value| all_of(value, key, found));
        }
        Value::Array(list) => list.iter().for_each(|value| all_of(value, key, found)),
        _ => {}
    }
}

// --- What is served ----------------------------------------------------------------------------------------------------

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let mut bench = Bench::new("", &[]);
    bench.add_loop("shop_api", &[]);
    let series = "squall_storm_attempts_per_minute{service=\"shop_api\"}";
    let address = bench.address.clone();
    bench.watch.until("a storm is there", |_| get(&address, "/metrics")?.contains(series).then_some(()));
    let mut command = promtool(&["check", "metrics"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("promtool");
    child.stdin.take().unwrap().write_all(bench.metrics().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_well(&output);
    assert_eq!(
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        ("".into(), "".into())
    );
}

#[test]
fn rules_and_dashboard_ask_for_what_is_served_and_explained() {
    let bench =
        Bench::new("[[receiver]]\nname = \"ops\"\ntype = \"alertmanager\"\nurl = \"http://127.0.0.1:9\"\n", &[]);
    let metrics = bench.metrics();
    let mut served: BTreeSet<String> = BTreeSet::new();
    let mut explained: BTreeSet<String> = BTreeSet::new();
    for line in metrics.lines() {
        match line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            Some((name, help)) => explained.extend((!help.is_empty()).then(|| name.to_owned())),
            None if line.starts_with("# TYPE ") => served.extend(line.split(' ').nth(2).map(str::to_owned)),
            None => served.extend(line.split(['{', ' ']).next().map(str::to_owned)),
        }
    }
    let rules = read("prometheus/squall.rules.yml");
    let recorded: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let dashboard: Value = serde_json::from_str(&read("grafana/squall.json")).unwrap();
    let mut asked = Vec::new();
    ["expr", "definition"].into_iter().for_each(|key| all_of(&dashboard, key, &mut asked));
    assert!(asked.len() > 30, "{asked:?}");
    for name in names(&rules).union(&names(&asked.join("\n"))) {
        if name.contains(':') {
            assert!(recorded.contains(&**name), "{name} is not recorded");
            continue;
        }
        assert!(served.contains(name), "{name} is not served");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        assert!(explained.contains(family), "{name} is not explained");
    }
}

#[test]
fn the_causes_of_an_incident_are_those_of_a_registry() {
    let rules = read("prometheus/squall.rules.yml");
    let pattern = rules.split("cause=~\"").nth(1).unwrap().split('"').next().unwrap();
    let (prefix, rest) = pattern.split_once('(').unwrap();
    let (ends, more) = rest.split_once(')').unwrap();
    let mut named: BTreeSet<String> = ends.split('|').map(|end| format!("{prefix}{end}")).collect();
    named.extend(more.split('|').filter(|word| !word.is_empty()).map(str::to_owned));
    let causes = Cause::ALL.iter().filter(|cause| cause.is_of_registry()).map(|cause| cause.as_str().to_owned());
    assert_eq!(named, causes.collect());
}

#[test]
fn every_alert_says_what_is_and_how_bad_and_has_a_case_and_a_reason() {
    let (rules, cases) = (read("prometheus/squall.rules.yml"), read("prometheus/squall.rules.test.yml"));
    let lines: Vec<&str> = rules.lines().collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].trim().starts_with("- alert: ")).collect();
    assert!(starts.len() >= 12);
    for start in starts {
        let name = lines[start].trim().trim_start_matches("- alert: ");
        let body: Vec<&str> = lines[start + 1..].iter().take_while(|line| !line.trim().is_empty()).copied().collect();
        for key in ["expr:", "for:", "severity:", "summary:", "description:"] {
            assert!(body.iter().any(|line| line.trim().starts_with(key)), "{name} has no {key}");
        }
        assert!(lines[start - 1].trim().starts_with('#'), "{name}: nothing argues for it");
        assert!(cases.contains(name), "{name} has no case");
    }
}

// --- What promtool says --------------------------------------------------------------------------------------------------

#[test]
fn promtool_takes_the_rules_and_each_does_what_its_case_says() {
    assert_well(&promtool(&["check", "rules", "squall.rules.yml"]).output().expect("promtool"));
    assert_well(&promtool(&["test", "rules", "squall.rules.test.yml"]).output().expect("promtool"));
}

#[test]
fn promtool_takes_the_example_of_a_scrape() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "s3cret").unwrap();
    let example = read("prometheus/scrape.yml");
    let text = example.replace("/etc/prometheus/squall-token", token.to_str().unwrap());
    assert_ne!(text, example, "it names a token");
    fs::write(dir.path().join("prometheus.yml"), text).unwrap();
    fs::copy(packaged("prometheus/squall.rules.yml"), dir.path().join("squall.rules.yml")).unwrap();
    assert_well(&promtool(&["check", "config"]).arg(dir.path().join("prometheus.yml")).output().expect("promtool"));
}

/// The dashboard's questions are sentences of PromQL.
#[test]
fn promtool_takes_every_question_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("grafana/squall.json")).unwrap();
    let mut asked = Vec::new();
    all_of(&dashboard, "expr", &mut asked);
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (at, expr) in asked.iter().enumerate() {
        let expr = serde_json::to_string(&expr.replace("$__rate_interval", "1m").replace("$swarm", ".*")).unwrap();
        rules += &format!("      - {{record: \"panel:{at}\", expr: {expr}}}\n");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dashboard.yml");
    fs::write(&path, rules.replace("panel:", "panel_")).unwrap();
    assert_well(&promtool(&["check", "rules"]).arg(path).output().expect("promtool"));
}

// --- Prometheus ----------------------------------------------------------------------------------------------------------

/// A Prometheus that scrapes a squall each second, and waits a second where the rules wait for minutes.
fn prometheus(bench: &Bench) -> (Process, String) {
    let mut rules = String::new();
    for line in read("prometheus/squall.rules.yml").lines() {
        let is_for = line.trim().starts_with("for: ");
        rules += if is_for { "        for: 1s" } else { line };
        rules.push('\n');
    }
    fs::write(bench.path("rules.yml"), rules).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         scrape_configs:\n  - job_name: squall\n    static_configs:\n      - targets: ['{}']\n        \
         labels: {{swarm: test}}\n",
        bench.address
    );
    fs::write(bench.path("prometheus.yml"), config).unwrap();
    let address = free_address();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", bench.path("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", bench.path("tsdb").display()));
    command.args([&*format!("--web.listen-address={address}"), "--log.level=warn"]);
    let mut process = Process::start(bench.dir.path(), "prometheus", &mut command);
    process.until("Prometheus is ready", |_| get(&address, "/-/ready"));
    (process, address)
}

/// The alerts that fire: each name, and the service or registry that it is about.
fn firing(address: &str) -> Option<BTreeSet<String>> {
    let answer = get_json(address, "/api/v1/alerts")?;
    let alerts = answer["data"]["alerts"].as_array()?.iter().filter(|alert| alert["state"] == "firing");
    let of = |alert: &Value| {
        let labels = &alert["labels"];
        let about = labels["service"].as_str().or(labels["registry"].as_str()).unwrap_or("squall");
        format!("{} {about}", labels["alertname"].as_str().unwrap_or_default())
    };
    Some(alerts.map(of).collect())
}

#[track_caller]
fn until_firing(prometheus: &mut Process, address: &str, expected: &[&str]) -> Duration {
    let began = Instant::now();
    let expected: BTreeSet<String> = expected.iter().map(|&text| text.to_owned()).collect();
    let mut seen = None;
    let until = began + PATIENCE;
    prometheus.until("it answers", |_| {
        seen = firing(address);
        (seen.as_ref() == Some(&expected) || Instant::now() > until - Duration::from_secs(1)).then_some(())
    });
    assert_eq!(seen, Some(expected), "the alerts that fire after {PATIENCE:?}");
    began.elapsed()
}

#[test]
fn a_storm_fires_in_prometheus_and_stops_when_it_has_subsided_or_is_removed() {
    let bench = Bench::new("", &[]);
    let (mut process, address) = prometheus(&bench);
    until_firing(&mut process, &address, &[]);
    bench.add_loop("shop_api", &[]);
    bench.add_loop("shop_web", &[]);
    let spent = format!("SquallRegistrySpent {REGISTRY}");
    let all = ["SquallStorm shop_api", "SquallStorm shop_web", &*spent];
    let fired = until_firing(&mut process, &address, &all);
    bench.swarm.remove_service("shop_api");
    let removed = until_firing(&mut process, &address, &all[1..]);
    bench.swarm.set_behaviour("shop_web", Behaviour::Healthy);
    let subsided = until_firing(&mut process, &address, &[]);
    println!("fires after {fired:?}, gone {removed:?} after the removal, {subsided:?} after the mend");
}

/// Its pace is that of its last tries, which are none.
#[test]
fn what_is_held_is_told_as_held_and_no_longer_as_a_storm() {
    let bench = Bench::new("[respond]\nmin_age = \"0s\"\n", &["--enforce"]);
    bench.add_loop("shop_api", &[("squall.response", "scale-to-zero")]);
    let (mut process, address) = prometheus(&bench);
    until_firing(&mut process, &address, &["SquallQuarantineHeldLong squall"]);
    assert_eq!(bench.metric("squall_quarantined{phase=\"held\"}"), Some(1.0));
}

#[test]
fn a_squall_that_is_away_is_told() {
    let mut bench = Bench::new("", &[]);
    let (mut process, address) = prometheus(&bench);
    until_firing(&mut process, &address, &[]);
    bench.watch.child.kill().unwrap();
    let told = until_firing(&mut process, &address, &["SquallDown squall", "SquallBlind squall"]);
    println!("told after {told:?}");
}

// --- Alertmanager --------------------------------------------------------------------------------------------------------

/// Where Alertmanager tells what it tells.
struct Hook {
    address: String,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        // It ends with the process of the test: it waits for nothing but connections.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(body) = stream.ok().and_then(taken) {
                    kept.lock().unwrap().push(body);
                }
            }
        });
        Self { address, told }
    }

    /// The last that was told of each alert: the service, the severity, and whether it fires.
    fn last(&self) -> BTreeMap<(String, String), String> {
        let told = self.told.lock().unwrap();
        let alerts = told.iter().flat_map(|body| body["alerts"].as_array().unwrap());
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |alert: &Value| {
            ((word(&alert["labels"]["service"]), word(&alert["labels"]["severity"])), word(&alert["status"]))
        };
        alerts.map(of).collect()
    }
}

/// The JSON of one request.
fn taken(mut stream: TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1 << 14];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok())?;
        if body.len() >= length {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
            return serde_json::from_str(body).ok();
        }
    }
}

fn alertmanager(dir: &Path, hook: &Hook) -> (Process, String) {
    let config = format!(
        "route: {{receiver: hook, group_by: [alertname, registry], group_wait: 1s, group_interval: 1s, \
         repeat_interval: 1h}}\nreceivers:\n  - name: hook\n    webhook_configs:\n      \
         - {{url: 'http://{}/', send_resolved: true}}\n",
        hook.address
    );
    let path = dir.join("alertmanager.yml");
    fs::write(&path, config).unwrap();
    let checked = Command::new("amtool").arg("check-config").arg(&path).output();
    assert_well(&checked.expect("amtool"));
    let address = free_address();
    let mut command = Command::new("prometheus-alertmanager");
    command.arg(format!("--config.file={}", path.display()));
    command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
    command.args([&*format!("--web.listen-address={address}"), "--cluster.listen-address=", "--log.level=warn"]);
    let mut process = Process::start(dir, "alertmanager", &mut command);
    process.until("Alertmanager is ready", |_| get(&address, "/-/ready"));
    (process, address)
}

/// The services that alerts are active for.
fn active(address: &str) -> Option<Vec<String>> {
    let alerts = get_json(address, "/api/v2/alerts?active=true")?;
    let service = |alert: &Value| alert["labels"]["service"].as_str().unwrap_or("none").to_owned();
    let mut services: Vec<String> = alerts.as_array()?.iter().map(service).collect();
    services.sort_unstable();
    Some(services)
}

#[test]
fn storms_are_alerts_of_one_group_in_alertmanager_and_are_resolved_after_their_end() {
    let (hook, dir) = (Hook::start(), tempfile::tempdir().unwrap());
    let (mut process, address) = alertmanager(dir.path(), &hook);
    let config = format!(
        "[alert]\nwait = \"0s\"\nspacing = \"1s\"\n[[receiver]]\nname = \"ops\"\ntype = \"alertmanager\"\n\
         url = \"http://{address}/\"\n"
    );
    let bench = Bench::new(&config, &[]);
    let began = Instant::now();
    bench.add_loop("shop_api", &[]);
    bench.add_loop("shop_web", &[]);
    let both = vec!["shop_api".to_owned(), "shop_web".to_owned()];
    process.until("both are there", |_| (active(&address)? == both).then_some(()));
    let arrived = began.elapsed();

    let groups = get_json(&address, "/api/v2/alerts/groups").unwrap();
    let of_storms: Vec<&Value> = groups.as_array().unwrap().iter().collect();
    assert_eq!(of_storms.len(), 1, "{groups}");
    assert_eq!(of_storms[0]["labels"], serde_json::json!({"alertname": "SquallStorm", "registry": REGISTRY}));
    assert_eq!(of_storms[0]["alerts"].as_array().unwrap().len(), 2, "{groups}");
    let key = |name: &str| (name.to_owned(), "critical".to_owned());
    let fires =
        |last: &BTreeMap<_, String>| both.iter().all(|name| last.get(&key(name)).is_some_and(|s| s == "firing"));
    process.until("both are told", |_| fires(&hook.last()).then_some(()));

    let began = Instant::now();
    bench.swarm.set_behaviour("shop_api", Behaviour::Healthy);
    bench.swarm.remove_service("shop_web");
    process.until("neither is active", |_| active(&address)?.is_empty().then_some(()));
    let ended = began.elapsed();
    let is_over =
        |last: &BTreeMap<_, String>| both.iter().all(|name| last.get(&key(name)).is_some_and(|s| s == "resolved"));
    process.until("the end is told", |_| is_over(&hook.last()).then_some(()));
    println!("there after {arrived:?}, over after {ended:?}, told so after {:?}", began.elapsed());
    println!("{:?}", hook.last());
    assert!(bench.metrics().contains("squall_alerts_total{receiver=\"ops\",outcome=\"dead\"} 0"));
}
