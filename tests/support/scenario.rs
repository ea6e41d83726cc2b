//! Scenarios on event time: what Docker would have said of a service's life, as the JSON and log lines that it says it
//! in; and what squall makes of them. Times are milliseconds since the scenario's start.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a test binary has no public face")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, Recording, Source, read_line};
use squall::model::{Finding, Notice, Observation, Storm, StormState, Timestamp};

/// 2026-11-21T08:00:00Z.
const BASE_SECS: i64 = 1_795_248_000;
/// A second of a scenario.
pub const SEC: i64 = 1000;
/// A minute of a scenario.
pub const MIN: i64 = 60 * SEC;
/// An hour of a scenario.
pub const HOUR: i64 = 60 * MIN;
/// From a task's assignment to its container's creation.
const PREPARES: i64 = 200;
/// From a container's end to the task of the next attempt.
const NOTICES: i64 = 300;
/// A digest, for references that are pinned.
pub const DIGEST: &str = "sha256:278bb8801d74e7456853073158d48b05d19319795a773d7b864c630c9a951a55";

/// What one says of a service.
#[derive(Clone, Debug)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub image: String,
    pub stack: Option<String>,
    /// `null` in the API where it is `None`.
    pub condition: Option<&'static str>,
    pub delay: i64,
    pub max_attempts: u64,
    pub window: i64,
    /// The words of `Spec.Mode`.
    pub mode: Value,
    pub memory_limit: u64,
    pub force_update: u64,
}

impl Service {
    /// One replica of `shop/NAME:1`, condition any, delay 5 s: Swarm's defaults.
    pub fn new(name: &str) -> Self {
        Self {
            id: format!("{:0<25}", format!("svc{}", name.replace(['_', '-'], "0"))),
            name: name.to_owned(),
            image: format!("shop/{name}:1"),
            stack: None,
            condition: Some("any"),
            delay: 5 * SEC,
            max_attempts: 0,
            window: 0,
            mode: json!({"Replicated": {"Replicas": 1}}),
            memory_limit: 0,
            force_update: 0,
        }
    }

    pub fn delay(self, delay: i64) -> Self {
        Self { delay, ..self }
    }

    pub fn condition(self, condition: &'static str) -> Self {
        Self { condition: Some(condition), ..self }
    }

    pub fn max_attempts(self, max_attempts: u64, window: i64) -> Self {
        Self { max_attempts, window, ..self }
    }

    pub fn mode(self, mode: Value) -> Self {
        Self { mode, ..self }
    }

    pub fn replicas(self, replicas: u64) -> Self {
        self.mode(json!({"Replicated": {"Replicas": replicas}}))
    }

    pub fn memory_limit(self, memory_limit: u64) -> Self {
        Self { memory_limit, ..self }
    }

    /// The next deployment: another image.
    pub fn deployed(&self, tag: u64) -> Self {
        Self { image: format!("shop/{}:{tag}", self.name), ..self.clone() }
    }

    /// After `docker service update --force`.
    pub fn forced(&self) -> Self {
        Self { force_update: self.force_update + 1, ..self.clone() }
    }

    fn is_job(&self) -> bool {
        self.mode.get("ReplicatedJob").is_some() || self.mode.get("GlobalJob").is_some()
    }

    fn restart_policy(&self) -> Value {
        self.condition.map_or(Value::Null, |condition| {
            json!({"Condition": condition, "Delay": self.delay * 1_000_000, "MaxAttempts": self.max_attempts,
                "Window": self.window * 1_000_000})
        })
    }

    fn task_spec(&self) -> Value {
        let limits = if self.memory_limit > 0 { json!({"MemoryBytes": self.memory_limit}) } else { json!({}) };
        let mut spec = json!({
            "ContainerSpec": {"Image": self.image, "Args": ["run"], "Env": ["SECRET=x"], "Init": false, "Isolation": "default"},
            "Resources": {"Limits": limits, "Reservations": {}},
            "Placement": {},
            "ForceUpdate": self.force_update,
        });
        let policy = self.restart_policy();
        if !policy.is_null() {
            spec["RestartPolicy"] = policy;
        }
        spec
    }
}

/// One attempt of a service.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub container: String,
    /// 0 for a global service.
    pub slot: u64,
    pub node: String,
    pub created: i64,
    pub service: Service,
}

impl Task {
    fn name(&self) -> String {
        let slot = if self.slot > 0 { self.slot.to_string() } else { node_id(&self.node) };
        format!("{}.{slot}.{}", self.service.name, self.id)
    }
}

/// A container that no Swarm made.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    pub labels: Vec<(String, String)>,
}

/// What of a scenario squall is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    All,
    /// Task, service and node listings.
    Tasks,
    Events,
    EventsAndLogs,
}

/// Every view.
pub const VIEWS: [View; 4] = [View::All, View::Tasks, View::Events, View::EventsAndLogs];
/// Those with the task list.
pub const TASK_VIEWS: [View; 2] = [View::All, View::Tasks];
/// Those with events.
pub const EVENT_VIEWS: [View; 3] = [View::All, View::Events, View::EventsAndLogs];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Listing,
    Event,
    Log,
}

#[derive(Clone, Debug)]
struct Line {
    /// When it reaches squall.
    arrival: i64,
    kind: Kind,
    node: String,
    text: String,
}

/// What was said, by whom and when.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    lines: Vec<Line>,
    next: u64,
    version: u64,
    nodes: BTreeMap<String, i64>,
    /// How much later than its stamp a log line arrives.
    pub log_arrives_after: i64,
}

/// What squall made of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub storms: Vec<Storm>,
    pub findings: Vec<Finding>,
    /// With the time of the observation after which each was drained.
    pub notices: Vec<(i64, Notice)>,
    pub calm: u64,
    pub subjects_forgotten: u64,
}

impl Scenario {
    pub fn new() -> Self {
        Self { version: 100, ..Self::default() }
    }

    /// A node whose clock is so much ahead. Without it, a node's clock is right.
    pub fn skew(&mut self, node: &str, ahead: i64) {
        self.node(node);
        self.nodes.insert(node.to_owned(), ahead);
    }

    /// A service as it is listed, and the event of its creation.
    pub fn service(&mut self, service: &Service, at: i64) {
        self.list_service(service, at, at);
        self.order(service, at, "create", &[]);
    }

    fn list_service(&mut self, service: &Service, created: i64, at: i64) {
        self.version += 1;
        let mut labels = Map::new();
        if let Some(stack) = &service.stack {
            labels.insert("com.docker.stack.namespace".to_owned(), json!(stack));
        }
        let object = json!({
            "ID": service.id, "Version": {"Index": self.version}, "CreatedAt": stamp(created), "UpdatedAt": stamp(at),
            "Spec": {"Name": service.name, "Labels": labels, "TaskTemplate": service.task_spec(), "Mode": service.mode,
                "EndpointSpec": {"Mode": "vip"}},
            "Endpoint": {"Spec": {}},
        });
        self.push(at, Kind::Listing, "", object.to_string());
    }

    /// A service event, as every manager emits it.
    pub fn order(&mut self, service: &Service, at: i64, action: &str, attributes: &[(&str, &str)]) {
        let mut all = vec![("name", service.name.as_str())];
        all.extend(attributes);
        self.event("node1", at, "service", action, &service.id, &all);
    }

    /// A task that the manager has made: pending, then prepared by its node.
    pub fn task(&mut self, service: &Service, slot: u64, node: &str, at: i64) -> Task {
        self.node(node);
        self.next += 1;
        let task = Task {
            id: format!("task{:0>21}", self.next),
            container: format!("{:064x}", 0xc0ff_ee00_0000_u64 + self.next),
            slot,
            node: node.to_owned(),
            created: at,
            service: service.clone(),
        };
        self.list(&task, at, "assigned", "ready", "", None);
        task
    }

    /// A task that is not listed as long as it is under way, as a poll may miss it.
    pub fn unlisted(&mut self, service: &Service, slot: u64, node: &str, at: i64) -> Task {
        self.node(node);
        Task { node: node.to_owned(), ..self.task_unlisted(service, slot, at) }
    }

    /// A task that no node takes.
    pub fn pending(&mut self, service: &Service, slot: u64, at: i64, error: &str) -> Task {
        let task = Task { node: String::new(), ..self.task_unlisted(service, slot, at) };
        self.list(&task, at, "pending", "running", error, None);
        task
    }

    fn task_unlisted(&mut self, service: &Service, slot: u64, at: i64) -> Task {
        self.next += 1;
        Task {
            id: format!("task{:0>21}", self.next),
            container: String::new(),
            slot,
            node: String::new(),
            created: at,
            service: service.clone(),
        }
    }

    /// One version of a task, as the task list shows it.
    pub fn list(&mut self, task: &Task, at: i64, state: &str, desired: &str, error: &str, exit_code: Option<i32>) {
        self.list_since(task, at, at, state, desired, error, exit_code);
    }

    /// The same, of a task that has been in that state since `since`.
    #[expect(clippy::too_many_arguments, reason = "a status has as many fields")]
    pub fn list_since(
        &mut self,
        task: &Task,
        at: i64,
        since: i64,
        state: &str,
        desired: &str,
        error: &str,
        exit_code: Option<i32>,
    ) {
        self.version += 1;
        let mut status = json!({"Timestamp": self.stamp_of(&task.node, since), "State": state, "Message": state,
            "PortStatus": {}});
        if !error.is_empty() {
            status["Err"] = json!(error);
        }
        if let Some(code) = exit_code {
            status["ContainerStatus"] = json!({"ContainerID": task.container, "PID": 0, "ExitCode": code});
        }
        let mut object = json!({
            "ID": task.id, "Version": {"Index": self.version}, "CreatedAt": stamp(task.created), "UpdatedAt": stamp(at),
            "Labels": {}, "Spec": task.service.task_spec(), "ServiceID": task.service.id, "Status": status,
            "DesiredState": desired,
        });
        if task.slot > 0 {
            object["Slot"] = json!(task.slot);
        }
        if !task.node.is_empty() {
            object["NodeID"] = json!(node_id(&task.node));
        }
        if task.service.is_job() {
            object["JobIteration"] = json!({});
        }
        self.push(at, Kind::Listing, "", object.to_string());
    }

    /// Its node pulls and makes the container.
    pub fn create(&mut self, task: &Task, at: i64) {
        if !task.service.image.contains('@') {
            let image = task.service.image.clone();
            let name = image.split(':').next().unwrap_or_default().to_owned();
            self.event(&task.node, at - 50, "image", "pull", &image, &[("name", &name)]);
        }
        self.container_event(task, at, "create", &[]);
        self.list(task, at, "ready", "ready", "", None);
    }

    /// Its container starts.
    pub fn start(&mut self, task: &Task, at: i64) {
        self.container_event(task, at, "start", &[]);
        let desired = if task.service.is_job() { "complete" } else { "running" };
        self.list(task, at, "running", desired, "", Some(0));
    }

    /// Its container ends by itself.
    pub fn die(&mut self, task: &Task, at: i64, code: i32) {
        self.container_event(task, at, "die", &[("exitCode", &code.to_string())]);
        let is_job = task.service.is_job();
        if code == 0 {
            let desired = if is_job { "complete" } else { "shutdown" };
            self.list(task, at + 80, "complete", desired, "", Some(0));
        } else {
            let error = format!("task: non-zero exit ({code})");
            self.fatal(task, at + 20, &error);
            self.list(task, at + 80, "failed", "shutdown", &error, Some(code));
        }
    }

    /// It fails before its container starts.
    pub fn reject(&mut self, task: &Task, at: i64, error: &str) {
        self.fatal(task, at, error);
        self.list(task, at + 60, "rejected", "shutdown", error, None);
    }

    /// dockerd's line `fatal task error`.
    pub fn fatal(&mut self, task: &Task, at: i64, error: &str) {
        self.task_log(task, at, "fatal task error", error);
    }

    /// dockerd's line `pulling image failed`.
    pub fn pull_failed(&mut self, task: &Task, at: i64, error: &str) {
        self.task_log(task, at, "pulling image failed", error);
    }

    fn task_log(&mut self, task: &Task, at: i64, message: &str, error: &str) {
        let text = format!(
            "level=error msg={message:?} error={error:?} module=node/agent/taskmanager node.id={} service.id={} task.id={}",
            node_id(&task.node),
            task.service.id,
            task.id
        );
        self.log(&task.node, at, &text);
    }

    /// The manager orders it down, and its node stops it: SIGTERM, and SIGKILL where that is what ends it.
    pub fn stop(&mut self, task: &Task, at: i64, code: i32, desired: &str) {
        self.list_since(task, at, at - SEC, "running", desired, "", Some(0));
        self.container_event(task, at + 300, "kill", &[("signal", "15")]);
        let mut end = at + 400;
        if code == 137 {
            end = at + 1400;
            self.container_event(task, end - 50, "kill", &[("signal", "9")]);
        }
        self.container_event(task, end, "stop", &[]);
        self.container_event(task, end + 1, "die", &[("exitCode", &code.to_string())]);
        self.list(task, end + 100, "shutdown", desired, "", Some(code));
    }

    /// The reaper removes its container.
    pub fn destroy(&mut self, task: &Task, at: i64) {
        self.container_event(task, at, "destroy", &[]);
    }

    /// A task that runs well from `at` + 0.7 s on.
    pub fn run(&mut self, service: &Service, slot: u64, node: &str, at: i64) -> Task {
        let task = self.task(service, slot, node, at);
        self.create(&task, at + PREPARES);
        self.start(&task, at + 700);
        task
    }

    /// One attempt whose container starts a delay after it was made, lives so long, and ends. Returns when the next
    /// one is made.
    pub fn crash(&mut self, service: &Service, slot: u64, node: &str, at: i64, life: i64, code: i32) -> i64 {
        let task = self.task(service, slot, node, at);
        self.create(&task, at + PREPARES);
        let start = at + service.delay.max(2 * PREPARES);
        self.start(&task, start);
        self.die(&task, start + life, code);
        start + life + NOTICES
    }

    /// Attempts of one slot that end one after another, over nodes 1 to 3. Returns when the next one would be made.
    pub fn crash_loop(&mut self, service: &Service, slot: u64, from: i64, count: u64, life: i64, code: i32) -> i64 {
        (0..count).fold(from, |at, attempt| {
            self.crash(service, slot, &format!("node{}", (attempt + slot) % 3 + 1), at, life, code)
        })
    }

    /// A storm of twenty failures that is mended, and one failure more after a healthy run of `healthy`; returns when
    /// that was. The service runs on.
    pub fn mended_loop(&mut self, service: &Service, healthy: i64) -> i64 {
        self.service(service, 0);
        let mended = self.crash_loop(service, 1, 0, 20, SEC, 1);
        let task = self.run(service, 1, "node1", mended);
        self.idle(mended, mended + healthy);
        self.die(&task, mended + healthy, 1);
        self.run(service, 1, "node1", mended + healthy + NOTICES);
        mended + healthy
    }

    /// Attempts of one slot that are rejected one after another. Returns when the next one would be made.
    pub fn reject_loop(&mut self, service: &Service, slot: u64, from: i64, count: u64, error: &str) -> i64 {
        (0..count).fold(from, |at, attempt| {
            let task = self.task(service, slot, &format!("node{}", (attempt + slot) % 3 + 1), at);
            self.reject(&task, at + PREPARES, error);
            at + service.delay.max(PREPARES + 100)
        })
    }

    /// Nothing of interest happens, but time passes: somebody pulls, and a healthy service is listed again.
    pub fn idle(&mut self, from: i64, until: i64) {
        let bystander = Service::new("bystander");
        let task = Task { node: "node1".to_owned(), ..self.task_unlisted(&bystander, 1, from) };
        self.node("node1");
        let mut at = from;
        while at <= until {
            self.list_since(&task, at, from, "running", "running", "", Some(0));
            self.event("node1", at, "image", "pull", "other:1", &[("name", "other")]);
            at += ((until - from) / 50).clamp(SEC, 5 * MIN);
        }
    }

    /// An event of a task's container.
    pub fn container_event(&mut self, task: &Task, at: i64, action: &str, extra: &[(&str, &str)]) {
        let (name, node) = (task.name(), node_id(&task.node));
        let mut attributes = vec![
            ("com.docker.swarm.node.id", node.as_str()),
            ("com.docker.swarm.service.id", &task.service.id),
            ("com.docker.swarm.service.name", &task.service.name),
            ("com.docker.swarm.task", ""),
            ("com.docker.swarm.task.id", &task.id),
            ("com.docker.swarm.task.name", &name),
            ("image", &task.service.image),
            ("name", &name),
        ];
        if let Some(stack) = &task.service.stack {
            attributes.push(("com.docker.stack.namespace", stack));
        }
        attributes.extend(extra);
        self.event(&task.node, at, "container", action, &task.container, &attributes);
    }

    /// A container of plain Docker; `labels` are copied into its events.
    pub fn container(&mut self, name: &str, labels: &[(&str, &str)]) -> Container {
        self.next += 1;
        Container {
            id: format!("{:064x}", 0xdead_0000_0000_u64 + self.next),
            name: name.to_owned(),
            image: "shop/plain:1".to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// An event of a container of plain Docker.
    pub fn plain(&mut self, container: &Container, at: i64, action: &str, extra: &[(&str, &str)]) {
        let mut attributes: Vec<(&str, &str)> =
            container.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        attributes.push(("image", &container.image));
        attributes.push(("name", &container.name));
        attributes.extend(extra);
        self.event("node1", at, "container", action, &container.id, &attributes);
    }

    /// An event as Docker 20.10 to 28 writes it.
    pub fn event(&mut self, node: &str, at: i64, kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
        let attributes: Map<String, Value> =
            attributes.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let nanos = self.nanos_of(node, at);
        let scope = if kind == "service" { "swarm" } else { "local" };
        let attributes = Value::Object(attributes);
        let text = match kind {
            "container" => {
                let image = attributes["image"].as_str().unwrap_or_default().to_owned();
                format!(
                    r#"{{"status":{0},"id":{1},"from":{2},"Type":"container","Action":{0},"Actor":{{"ID":{1},"Attributes":{attributes}}},"scope":"local","time":{3},"timeNano":{nanos}}}"#,
                    json!(action),
                    json!(id),
                    json!(image),
                    nanos / 1_000_000_000,
                )
            }
            _ => format!(
                r#"{{"Type":"{kind}","Action":{},"Actor":{{"ID":{},"Attributes":{attributes}}},"scope":"{scope}","time":{},"timeNano":{nanos}}}"#,
                json!(action),
                json!(id),
                nanos / 1_000_000_000,
            ),
        };
        self.push(at, Kind::Event, node, text);
    }

    /// A line of dockerd's log: what follows `time=`.
    pub fn log(&mut self, node: &str, at: i64, text: &str) {
        let line = format!("time=\"{}\" {text}", self.stamp_of(node, at));
        let arrival = at + self.log_arrives_after;
        self.push(arrival, Kind::Log, node, line);
    }

    /// Every line as it is, of all sources, in the order of arrival, `kept` ones only.
    pub fn lines(&self, view: View) -> Vec<String> {
        self.arrivals(view).into_iter().map(|line| line.text.clone()).collect()
    }

    /// Changes each line of the task list with its arrival; for what Docker says twice, or not.
    pub fn relist(&mut self, times: usize) {
        let again: Vec<Line> = self.lines.iter().filter(|line| line.kind == Kind::Listing).cloned().collect();
        let end = self.lines.iter().map(|line| line.arrival).max().unwrap_or(0);
        for round in 0..times {
            let shift = i64::try_from(round).unwrap_or(0) * 10;
            self.lines.extend(again.iter().map(|line| Line { arrival: end + shift + 1, ..line.clone() }));
        }
    }

    /// The same said in another order and in part twice: each line arrives up to `within` later, and of `doubled` in a
    /// hundred lines there is another one. `random` gives a number below its argument.
    #[must_use]
    pub fn shaken(&self, within: i64, doubled: u64, mut random: impl FnMut(u64) -> u64) -> Self {
        let mut shaken = self.clone();
        let late = |random: &mut dyn FnMut(u64) -> u64| {
            i64::try_from(random(u64::try_from(within).unwrap_or(0) + 1)).unwrap_or(0)
        };
        for line in &self.lines {
            if random(100) < doubled {
                shaken.lines.push(Line { arrival: line.arrival + late(&mut random), ..line.clone() });
            }
        }
        for line in &mut shaken.lines[..self.lines.len()] {
            line.arrival += late(&mut random);
        }
        shaken
    }

    /// Hands what is seen to `take`, in the order of its arrival.
    pub fn observe(&self, view: View, mut take: impl FnMut(&Observation<'_>)) {
        for line in self.arrivals(view) {
            match read_line(&line.text, 0) {
                Reading::Observation(observation) => take(&observation),
                other => assert_eq!(other, Reading::Nothing, "{}", line.text),
            }
        }
    }

    /// Judged as `squall replay` judges files: merged by the time that the lines carry.
    pub fn replay(&self, view: View) -> Verdict {
        let mut files: BTreeMap<(Kind, String), String> = BTreeMap::new();
        for line in self.arrivals(view) {
            let file = files.entry((line.kind, line.node.clone())).or_default();
            let _ = writeln!(file, "{}", line.text);
        }
        let sources = files.iter().map(|((kind, node), text)| Source {
            name: format!("{kind:?} {node}"),
            origin: if *kind == Kind::Listing { "swarm".to_owned() } else { node.clone() },
            input: text.as_bytes(),
        });
        let mut detector = Detector::new(Settings::default());
        let mut notices = Vec::new();
        let end = Recording::new(sources.collect()).read(|observation| {
            detector.observe(observation);
            notices.extend(detector.drain().map(|notice| (millis(observation.at), notice)));
        });
        assert!(end.faults.is_empty() && end.skipped.lines == 0, "{:?} {:?}", end.faults, end.skipped);
        let last = end.span.map(|span| span.to).unwrap_or_default();
        verdict(detector, notices, last)
    }

    /// Judged as the daemon does: each line when it arrives, whatever its stamp.
    pub fn live(&self, view: View) -> Verdict {
        let mut detector = Detector::new(Settings::default());
        let mut notices = Vec::new();
        let mut last = Timestamp::from_secs(BASE_SECS);
        for line in self.arrivals(view) {
            let now = moment(line.arrival);
            match read_line(&line.text, 0) {
                Reading::Observation(observation) => detector.take(&observation),
                other => assert_eq!(other, Reading::Nothing, "{}", line.text),
            }
            detector.advance(now);
            last = last.max(now);
            notices.extend(detector.drain().map(|notice| (millis(now), notice)));
        }
        verdict(detector, notices, last)
    }

    fn arrivals(&self, view: View) -> Vec<&Line> {
        let is_seen = |kind: Kind| match view {
            View::All => true,
            View::Tasks => kind == Kind::Listing,
            View::Events => kind == Kind::Event,
            View::EventsAndLogs => kind != Kind::Listing,
        };
        let mut lines: Vec<&Line> = self.lines.iter().filter(|line| is_seen(line.kind)).collect();
        lines.sort_by_key(|line| line.arrival);
        lines
    }

    fn node(&mut self, name: &str) {
        if self.nodes.contains_key(name) || name.is_empty() {
            return;
        }
        self.nodes.insert(name.to_owned(), 0);
        let object = json!({
            "ID": node_id(name), "Version": {"Index": 7}, "CreatedAt": stamp(-HOUR), "UpdatedAt": stamp(-HOUR),
            "Spec": {"Role": "worker", "Availability": "active"},
            "Description": {"Hostname": name, "Engine": {"EngineVersion": "28.5.2"}}, "Status": {"State": "ready"},
        });
        self.push(-HOUR, Kind::Listing, "", object.to_string());
    }

    fn push(&mut self, arrival: i64, kind: Kind, node: &str, text: String) {
        self.lines.push(Line { arrival, kind, node: node.to_owned(), text });
    }

    fn nanos_of(&self, node: &str, at: i64) -> i64 {
        nanos(at + self.nodes.get(node).copied().unwrap_or(0))
    }

    fn stamp_of(&self, node: &str, at: i64) -> String {
        stamp(at + self.nodes.get(node).copied().unwrap_or(0))
    }
}

fn verdict(mut detector: Detector, mut notices: Vec<(i64, Notice)>, last: Timestamp) -> Verdict {
    detector.finish(last);
    notices.extend(detector.drain().map(|notice| (millis(last), notice)));
    Verdict {
        storms: detector.storms(),
        findings: detector.findings(last),
        notices,
        calm: detector.calm(),
        subjects_forgotten: detector.counters().subjects_forgotten,
    }
}

impl Verdict {
    /// One line a storm: what, why, whether it goes on, and failed of attempts.
    pub fn storm_lines(&self) -> Vec<String> {
        self.storms.iter().map(storm_line).collect()
    }

    /// One line a notice, with the second at which it was said.
    pub fn notice_lines(&self) -> Vec<String> {
        self.notices
            .iter()
            .map(|(at, notice)| {
                let what = match notice {
                    Notice::Onset(storm) => format!("onset of {} by {}", storm.subject.name, storm.cause),
                    Notice::CauseChanged { storm, from, to } => format!("{} from {from} to {to}", storm.subject.name),
                    Notice::Moved { storm, .. } => format!("{} made again", storm.subject.name),
                    Notice::Subsided(storm) => format!("end of {}", storm.subject.name),
                    Notice::Found(finding) => format!("{} {}", finding.subject.name, finding.kind.as_str()),
                };
                format!("{what} at {}", at / SEC)
            })
            .collect()
    }

    /// Seconds of the scenario at which a storm was detected.
    pub fn detected_secs(&self) -> Vec<i64> {
        self.storms.iter().map(|storm| millis(storm.detected) / SEC).collect()
    }
}

fn storm_line(storm: &Storm) -> String {
    let state = match storm.state {
        StormState::Ongoing => "ongoing",
        _ => "subsided",
    };
    format!("{}: {} {state} {}/{}", storm.subject.name, storm.cause, storm.failed, storm.attempts)
}

/// Asserts which storms a scenario holds, in each of some views.
#[track_caller]
pub fn check_in(scenario: &Scenario, views: &[View], expected: &[&str]) {
    for view in views {
        let verdict = scenario.replay(*view);
        assert_eq!(verdict.storm_lines(), expected, "seen through {view:?}: {:?}", verdict.notice_lines());
    }
}

/// Asserts which storms a scenario holds, in every view.
#[track_caller]
pub fn check(scenario: &Scenario, expected: &[&str]) {
    check_in(scenario, &VIEWS, expected);
}

/// Asserts that nothing storms and nothing waits, in each of some views.
#[track_caller]
pub fn check_calm_in(scenario: &Scenario, views: &[View]) {
    check_in(scenario, views, &[]);
    for view in views {
        let verdict = scenario.replay(*view);
        assert_eq!(verdict.findings, [], "{view:?}");
        assert!(verdict.notices.is_empty(), "{view:?}: {:?}", verdict.notice_lines());
    }
}

/// Asserts that nothing storms and nothing waits, however it is seen.
#[track_caller]
pub fn check_calm(scenario: &Scenario) {
    check_calm_in(scenario, &VIEWS);
}

/// A moment of a scenario.
pub fn moment(at: i64) -> Timestamp {
    Timestamp::from_nanos(nanos(at))
}

fn nanos(at: i64) -> i64 {
    BASE_SECS * 1_000_000_000 + at * 1_000_000
}

fn millis(at: Timestamp) -> i64 {
    (at.as_nanos() - BASE_SECS * 1_000_000_000) / 1_000_000
}

fn stamp(at: i64) -> String {
    moment(at).to_string()
}

fn node_id(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name:0<25}") }
}

/// Where the trimmed recording of the three-engine Swarm is.
pub fn swarm3() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/swarm3")
}

/// A file of that recording, unpacked.
pub fn swarm3_file(name: &str) -> String {
    use std::io::Read as _;
    let path = swarm3().join(name);
    let bytes = std::fs::read(&path).expect("the recording is there");
    if !name.ends_with(".gz") {
        return String::from_utf8(bytes).expect("the recording is text");
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("the recording is whole");
    text
}

/// What of it is read by itself: listings, events and log of each node.
pub const SWARM3_FILES: [&str; 9] = [
    "node1.events.ndjson.gz",
    "node2.events.ndjson.gz",
    "node3.events.ndjson.gz",
    "node1.dockerd.log.gz",
    "node2.dockerd.log.gz",
    "node3.dockerd.log.gz",
    "tasks.ndjson.gz",
    "services.json",
    "nodes.json",
];

/// The built program.
pub fn squall() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_squall"));
    command.env_remove("SQUALL_CONFIG").env("NO_COLOR", "1").timeout(Duration::from_secs(120));
    command
}

/// The report that `squall replay --format json` prints, and its exit status.
pub fn report_of<I, S>(inputs: I) -> (Value, Option<i32>)
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let output = squall().args(["replay", "--format", "json"]).args(inputs).output().expect("squall runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("no report: {error}; {}", String::from_utf8_lossy(&output.stderr));
    });
    (report, output.status.code())
}
