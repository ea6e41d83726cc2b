//! A Swarm whose services storm, heal and are changed while a test looks on: a stateful double of a manager.
//!
//! It is a [`FakeDaemon`] whose answers come from a model of SwarmKit that runs on the wall clock: slots, their tasks
//! and Swarm's history of five, versions, rollouts with their UpdateStatus, events. Times are shortened: how fast a
//! service fails is its [`Behaviour`]'s own matter, and tasks start and stop in some 40 ms. A service update is applied
//! as Docker 20.10 applies it: the whole specification, only at the current version, and with all that it does to
//! tasks. In plain mode it is a host without Swarm, with containers that their engine restarts.
//!
//! Not known: jobs, health checks, secrets, registries, `image pull` events, nodes that come and go, restart limits.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

mod cluster;
mod plain;
mod rollout;
mod task;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use self::cluster::{Cluster, Service, World};
use self::plain::Plain;
pub use self::task::Behaviour;
use self::task::Nanos;
use super::fake_daemon::{Answer, Events, FakeDaemon, NODE_ID, Request, manager_info};

/// How late an event may be on the stream.
const TICK: Duration = Duration::from_millis(10);
const NO_MANAGER: &str = r#"This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again."#;

/// What goes wrong with a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed; nothing is done.
    CutBefore,
    /// It is done, and the connection is closed without an answer.
    CutAfter,
    /// This is answered, and nothing is done.
    Error(u16, &'static str),
    /// It is done at once, and answered after this time.
    Delay(Duration),
    /// It is done after this time, also where nobody waits for it any more; then the connection is closed.
    Late(Duration),
    /// Somebody else changes a label of the service just before. Of no meaning for a container.
    Race,
}

/// A write as it was asked for, and what became of it.
#[derive(Debug, Clone)]
pub struct Write {
    pub at: SystemTime,
    /// Without the version.
    pub path: String,
    /// The version that the path began with.
    pub api_version: Option<String>,
    /// Percent-decoded.
    pub query: String,
    /// The specification of the service as it was when this came; null for a container.
    pub spec_before: Value,
    /// Null where it was no JSON.
    pub body: Value,
    /// None where the connection was closed instead.
    pub status: Option<u16>,
    /// Whether anything was changed.
    pub is_applied: bool,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Write {
    /// Whether it came with credentials, which would replace those that the service has.
    pub fn has_registry_auth(&self) -> bool {
        self.headers.contains_key("x-registry-auth")
    }
}

/// A replicated service whose bind mount is missing on every node; its labels are the service's.
pub fn looping_spec(name: &str, replicas: u64, labels: &[(&str, &str)]) -> Value {
    let mut spec = healthy_spec(name, replicas, labels);
    let mount = json!({"Type": "bind", "Source": format!("/mnt/{name}"), "Target": "/data"});
    spec["TaskTemplate"]["ContainerSpec"]["Mounts"] = json!([mount]);
    spec
}

/// A replicated service that lacks nothing. Its image is named by a tag.
pub fn healthy_spec(name: &str, replicas: u64, labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({
        "Name": name, "Labels": labels,
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": format!("registry.example.com/team/{name}:1.2.3"), "Env": ["MODE=production"],
                "Init": false, "StopGracePeriod": 10_000_000_000_u64, "DNSConfig": {}, "Isolation": "default",
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64},
            },
            "Resources": {"Limits": {"MemoryBytes": 67_108_864}, "Reservations": {}},
            "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000, "MaxAttempts": 0},
            "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
            "ForceUpdate": 0, "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "vip"},
    })
}

/// The same as a global service.
pub fn as_global(mut spec: Value) -> Value {
    spec["Mode"] = json!({"Global": {}});
    spec
}

/// The swarm. Dropping it ends its daemon.
pub struct FakeSwarm {
    daemon: FakeDaemon,
    shared: Arc<Shared>,
    is_ending: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    events: Events,
}

struct State {
    cluster: Cluster,
    /// In plain mode there is no swarm.
    plain: Option<Plain>,
    faults: VecDeque<Fault>,
    /// Writes that are done later.
    late: Vec<(Nanos, Request)>,
    writes: Vec<Write>,
}

impl FakeSwarm {
    /// A swarm of one manager, this daemon, which leads it.
    pub fn start(dir: &Path) -> Self {
        Self::launch(dir, None)
    }

    /// A host that is in no swarm.
    pub fn start_plain(dir: &Path) -> Self {
        Self::launch(dir, Some(Plain::default()))
    }

    fn launch(dir: &Path, plain: Option<Plain>) -> Self {
        let daemon = FakeDaemon::start(dir);
        let cluster = Cluster::new(now());
        let state = State { cluster, plain, faults: VecDeque::new(), late: Vec::new(), writes: Vec::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), events: daemon.events() });
        let asked = Arc::clone(&shared);
        daemon.on_any(move |request| asked.answer(request));
        let is_ending = Arc::new(AtomicBool::new(false));
        let (ticking, ended) = (Arc::clone(&shared), Arc::clone(&is_ending));
        // The answers are of the moment anyway; this is for who only listens.
        let ticker = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                ticking.with(|_, _| ());
                std::thread::sleep(TICK);
            }
        });
        Self { daemon, shared, is_ending, ticker: Some(ticker) }
    }

    pub fn daemon(&self) -> &FakeDaemon {
        &self.daemon
    }

    /// For [`FakeDaemon::stop`] and [`FakeDaemon::resume`]; the services go on meanwhile.
    pub fn daemon_mut(&mut self) -> &mut FakeDaemon {
        &mut self.daemon
    }

    /// As DOCKER_HOST names it.
    pub fn host(&self) -> String {
        self.daemon.host()
    }

    /// Adds a worker; global services come to it.
    pub fn add_node(&self, id: &str, hostname: &str) {
        self.shared.with(|state, at| state.cluster.add_node(id, hostname, at));
    }

    /// Whether this daemon leads the swarm. It answers all the same, as a manager that asks its leader.
    pub fn set_leader(&self, is_leader: bool) {
        self.shared.with(|state, _| state.cluster.world.is_leader = is_leader);
    }

    /// Creates a service and returns its id. With a bind mount it behaves as one whose source is missing, at the pace
    /// of its restart delay; without, it is healthy.
    pub fn add_service(&self, name: &str, spec: Value) -> String {
        self.add_service_with(name, spec.clone(), behaviour_of(&spec))
    }

    /// Creates a service that behaves so from its first task on.
    pub fn add_service_with(&self, name: &str, spec: Value, behaviour: Behaviour) -> String {
        self.shared.with(|state, at| state.cluster.add_service(name, spec, behaviour, at))
    }

    /// As `docker service rm`.
    pub fn remove_service(&self, name: &str) {
        assert!(self.shared.with(|state, at| state.cluster.remove_service(name, at)), "there is no service {name}");
    }

    /// How the tasks behave that begin from now on. What runs goes on; a loop's next try comes when it was to come.
    pub fn set_behaviour(&self, name: &str, behaviour: Behaviour) {
        self.service(name, |service, _, _| service.behaviour = behaviour);
    }

    /// All running tasks of a service exit 1 now; each is followed after the specification's restart delay.
    pub fn crash(&self, name: &str) {
        self.service(name, Service::crash);
    }

    /// Moves the service's version and nothing else, without an event.
    pub fn touch(&self, name: &str) {
        self.service(name, |service, at, world| {
            service.version = world.next_index();
            service.updated = at;
        });
    }

    /// Somebody else's update through the API, with the version of the moment.
    pub fn edit(&self, name: &str, change: impl Fn(&mut Value)) {
        loop {
            let (mut spec, version) = self.service(name, |service, _, _| (service.spec.clone(), service.version));
            change(&mut spec);
            let is_done = self.service(name, |service, at, world| {
                let is_current = service.version == version;
                if is_current {
                    service.update(spec, at, world);
                }
                is_current
            });
            if is_done {
                return;
            }
        }
    }

    /// Somebody else's `docker service rollback`: the specification before this one comes back.
    pub fn rollback(&self, name: &str) {
        self.service(name, |service, at, world| {
            let previous = service.previous.clone().expect("the service was updated before");
            service.update(previous, at, world);
        });
    }

    /// What Docker says of the rollout: `updating`, `paused`, `completed`, `rollback_started` ..., or nothing.
    pub fn set_update_status(&self, name: &str, state: Option<&str>) {
        self.service(name, |service, at, world| service.set_update_status(state, "set by a test", at, world));
    }

    /// What goes wrong with the next write that no earlier call speaks of.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.with(|state, _| state.faults.push_back(fault));
    }

    /// Nothing goes wrong any more.
    pub fn forget_faults(&self) {
        self.shared.with(|state, _| state.faults.clear());
    }

    /// All writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.with(|state, _| state.writes.clone())
    }

    pub fn service_id(&self, name: &str) -> String {
        self.service(name, |service, _, _| service.id.clone())
    }

    pub fn spec(&self, name: &str) -> Value {
        self.service(name, |service, _, _| service.spec.clone())
    }

    pub fn version(&self, name: &str) -> u64 {
        self.service(name, |service, _, _| service.version)
    }

    /// Its tasks that run and shall.
    pub fn running(&self, name: &str) -> usize {
        self.service(name, |service, _, _| service.running())
    }

    /// How many tasks of a service ever came to a node. One that no node suits is no try.
    pub fn attempts(&self, name: &str) -> usize {
        self.service(name, |service, _, _| service.attempts.len())
    }

    /// The same for tasks created after this moment.
    pub fn attempts_since(&self, name: &str, since: SystemTime) -> usize {
        let since = nanos_of(since);
        self.service(name, |service, _, _| service.attempts.iter().filter(|at| **at > since).count())
    }

    /// Creates a container that dies each second, and starts it; returns its id. The policy is `no`, `always`,
    /// `unless-stopped` or `on-failure`.
    pub fn add_container(&self, name: &str, policy: &str, most_retries: u64, labels: &[(&str, &str)]) -> String {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        self.plain(|plain, at| plain.add(name, policy, most_retries, json!(labels), at))
    }

    /// Whether a container dies, from its next start on; one that was to die now lives.
    pub fn set_container_fails(&self, name: &str, fails: bool) {
        self.plain(|plain, _| plain.find(name).expect("there is such a container").fails = fails);
    }

    /// How often a container was started.
    pub fn starts(&self, name: &str) -> usize {
        self.plain(|plain, _| plain.find(name).expect("there is such a container").starts.len())
    }

    /// What inspecting a container shows.
    pub fn container(&self, name: &str) -> Value {
        self.plain(|plain, _| plain.inspect(name).expect("there is such a container"))
    }

    #[track_caller]
    fn service<T>(&self, name: &str, act: impl FnOnce(&mut Service, Nanos, &mut World) -> T) -> T {
        let done = self.shared.with(|state, at| {
            let (service, world) = state.cluster.find(name)?;
            Some(act(service, at, world))
        });
        done.unwrap_or_else(|| panic!("there is no service {name}"))
    }

    fn plain<T>(&self, act: impl FnOnce(&mut Plain, Nanos) -> T) -> T {
        self.shared.with(|state, at| act(state.plain.as_mut().expect("it was started as a plain host"), at))
    }
}

impl Drop for FakeSwarm {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            let _ = ticker.join();
        }
    }
}

impl Shared {
    /// Brings everything up to now, does this, and sends the events of both.
    fn with<T>(&self, act: impl FnOnce(&mut State, Nanos) -> T) -> T {
        let mut state = self.state.lock().unwrap();
        let at = now();
        state.cluster.advance(at);
        if let Some(plain) = &mut state.plain {
            plain.advance(at);
        }
        state.apply_late(at);
        let done = act(&mut state, at);
        let mut events = state.cluster.take_events();
        events.extend(state.plain.iter_mut().flat_map(Plain::take_events));
        // Under the lock, so that they leave in their order.
        for (at, event) in events {
            self.events.emit(at, event.to_string());
        }
        done
    }

    /// None where the daemon's own answer will do.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        if request.method != "GET" {
            return self.with(|state, at| state.write(request, &path, at));
        }
        self.with(|state, _| state.read(request, &path))
    }
}

impl State {
    fn read(&mut self, request: &Request, path: &[&str]) -> Option<Answer> {
        let gone = |what: &str, id: &str| Answer::error(404, &format!("{what} {id} not found"));
        if let Some(plain) = &self.plain {
            return Some(match path {
                ["info"] => Answer::json(plain_info().to_string()),
                ["services" | "tasks" | "nodes", ..] => Answer::error(503, NO_MANAGER),
                ["containers", "json"] => {
                    let is_all = matches!(request.parameter("all"), Some("1" | "true"));
                    Answer::json(plain.list(is_all).to_string())
                }
                ["containers", id, "json"] => match plain.inspect(id) {
                    Some(container) => Answer::json(container.to_string()),
                    None => Answer::error(404, &format!("No such container: {id}")),
                },
                _ => return None,
            });
        }
        let world = &self.cluster.world;
        let mut nodes = world.nodes.iter().map(|node| node.json(world.is_leader && node.id == NODE_ID));
        Some(match path {
            ["info"] => Answer::json(swarm_info(world.nodes.len()).to_string()),
            ["nodes"] => Answer::json(nodes.collect::<Value>().to_string()),
            ["nodes", id] => {
                let node = nodes.find(|node| node["ID"] == *id || node["Description"]["Hostname"] == *id);
                node.map_or_else(|| gone("node", id), |node| Answer::json(node.to_string()))
            }
            ["services"] => {
                let with_status = matches!(request.parameter("status"), Some("1" | "true"));
                let filters = filters(request);
                let services = self.cluster.services.iter().filter(|service| {
                    allows(&filters, "id", |id| service.id.starts_with(id))
                        && allows(&filters, "name", |name| service.name.starts_with(name))
                });
                Answer::json(services.map(|service| service.json(with_status)).collect::<Value>().to_string())
            }
            ["services", id] => match self.cluster.find(id) {
                Some((service, _)) => Answer::json(service.json(false).to_string()),
                None => gone("service", id),
            },
            ["tasks"] => self.tasks(request),
            ["tasks", id] => {
                let task = self.all_tasks().find(|task| task["ID"] == *id);
                task.map_or_else(|| gone("task", id), |task| Answer::json(task.to_string()))
            }
            _ => return None,
        })
    }

    fn all_tasks(&self) -> impl Iterator<Item = Value> {
        let slots = self.cluster.services.iter().flat_map(|service| &service.slots);
        slots.flat_map(|slot| slot.tasks.iter().map(|task| task.json(slot)))
    }

    fn tasks(&mut self, request: &Request) -> Answer {
        let filters = filters(request);
        let mut ids = Vec::new();
        for name in filters["service"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            match self.cluster.find(name) {
                Some((service, _)) => ids.push(service.id.clone()),
                // The whole request is refused, as the daemon does.
                None => return Answer::error(404, &format!("service {name} not found")),
            }
        }
        let tasks = self.all_tasks().filter(|task| {
            (ids.is_empty() || ids.iter().any(|id| task["ServiceID"] == **id))
                && allows(&filters, "id", |id| task["ID"].as_str().is_some_and(|own| own.starts_with(id)))
                && allows(&filters, "node", |node| task["NodeID"] == *node)
                && allows(&filters, "desired-state", |state| task["DesiredState"] == *state)
        });
        Answer::json(tasks.collect::<Value>().to_string())
    }

    fn write(&mut self, request: &Request, path: &[&str], at: Nanos) -> Option<Answer> {
        let fault = self.faults.pop_front();
        let before = self.spec_of(path);
        let (status, body) = match &fault {
            Some(Fault::CutBefore) => {
                self.record(request, before, None, false, at);
                return Some(Answer::Close);
            }
            Some(Fault::Late(time)) => {
                self.late.push((at + i64::try_from(time.as_nanos()).unwrap(), request.clone()));
                return Some(Answer::Close.after(*time));
            }
            Some(Fault::Error(status, message)) => (*status, json!({"message": message})),
            _ => {
                if let (Some(Fault::Race), ["services", id, ..]) = (&fault, path) {
                    self.race(id, at);
                }
                self.apply(request, path, at)
            }
        };
        let is_applied = !matches!(fault, Some(Fault::Error(..))) && matches!(status, 200..=299);
        let is_cut = fault == Some(Fault::CutAfter);
        self.record(request, before, (!is_cut).then_some(status), is_applied, at);
        let answer = match body {
            Value::Null => Answer::status(status),
            body => match Answer::json(body.to_string()) {
                Answer::Body { steps, .. } => Answer::Body { status, steps },
                other => other,
            },
        };
        Some(match fault {
            Some(Fault::CutAfter) => Answer::Close,
            Some(Fault::Delay(time)) => answer.after(time),
            _ => answer,
        })
    }

    fn apply_late(&mut self, now: Nanos) {
        while let Some(number) = self.late.iter().position(|(due, _)| *due <= now) {
            let (_, request) = self.late.remove(number);
            let path: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
            let before = self.spec_of(&path);
            let (status, _) = self.apply(&request, &path, now);
            self.record(&request, before, None, matches!(status, 200..=299), now);
        }
    }

    fn spec_of(&mut self, path: &[&str]) -> Value {
        let service = if let ["services", id, ..] = path { self.cluster.find(id) } else { None };
        service.map_or(Value::Null, |(service, _)| service.spec.clone())
    }

    fn apply(&mut self, request: &Request, path: &[&str], at: Nanos) -> (u16, Value) {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (&*request.method, path, &mut self.plain) {
            ("POST", ["containers", id, verb @ ("update" | "stop" | "start")], Some(plain)) => {
                plain.write(id, verb, &body, at)
            }
            (_, ["services", ..], Some(_)) => (503, json!({"message": NO_MANAGER})),
            ("POST", ["services", id, "update"], None) => match self.cluster.find(id) {
                Some((service, world)) => update(service, request, body, at, world),
                None => (404, json!({"message": format!("service {id} not found")})),
            },
            ("DELETE", ["services", id], None) if self.cluster.remove_service(id, at) => (200, Value::Null),
            ("DELETE", ["services", id], None) => (404, json!({"message": format!("service {id} not found")})),
            _ => (404, json!({"message": "page not found"})),
        }
    }

    fn race(&mut self, id: &str, at: Nanos) {
        if let Some((service, world)) = self.cluster.find(id) {
            let mut spec = service.spec.clone();
            spec["Labels"]["com.example.changed-at"] = json!(time(at));
            service.update(spec, at, world);
        }
    }

    fn record(&mut self, request: &Request, spec_before: Value, status: Option<u16>, is_applied: bool, at: Nanos) {
        self.writes.push(Write {
            at: UNIX_EPOCH + Duration::from_nanos(u64::try_from(at).unwrap()),
            path: request.path.clone(),
            api_version: request.version.clone(),
            query: request.query.clone(),
            spec_before,
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            status,
            is_applied,
            headers: request.headers.iter().cloned().collect(),
        });
    }
}

/// A service update, with the refusals in Docker's words and in its order.
fn update(service: &mut Service, request: &Request, spec: Value, at: Nanos, world: &mut World) -> (u16, Value) {
    let refuse = |status, message: String| (status, json!({"message": message}));
    let text = request.parameter("version").unwrap_or_default();
    let Ok(version) = text.parse::<u64>() else {
        let why = if text.is_empty() { r#"parsing "": invalid syntax"# } else { "invalid syntax" };
        return refuse(400, format!("invalid service version '{text}': strconv.ParseUint: {why}"));
    };
    let modes = |spec: &Value| spec["Mode"].as_object().map(|mode| mode.keys().cloned().collect::<Vec<_>>());
    if !spec.is_object() {
        return refuse(400, "json: cannot unmarshal into Go value of type swarm.ServiceSpec".to_owned());
    }
    if modes(&spec).is_some_and(|modes| modes.len() > 1) {
        return refuse(400, "must specify only one service mode".to_owned());
    }
    let unimplemented = "rpc error: code = Unimplemented desc =";
    if spec["Name"] != *service.name {
        return refuse(501, format!("{unimplemented} renaming services is not supported"));
    }
    if modes(&spec) != modes(&service.spec) {
        return refuse(501, format!("{unimplemented} service mode change is not allowed"));
    }
    if version != service.version {
        return refuse(500, "rpc error: code = Unknown desc = update out of sequence".to_owned());
    }
    service.update(spec, at, world);
    (200, json!({"Warnings": null}))
}

fn behaviour_of(spec: &Value) -> Behaviour {
    let mounts = spec["TaskTemplate"]["ContainerSpec"]["Mounts"].as_array();
    let Some(bind) = mounts.into_iter().flatten().find(|mount| mount["Type"] == "bind") else {
        return Behaviour::Healthy;
    };
    let source = bind["Source"].as_str().unwrap_or_default();
    let delay = spec.pointer("/TaskTemplate/RestartPolicy/Delay").and_then(Value::as_u64);
    Behaviour::Rejected {
        error: format!(r#"invalid mount config for type "bind": bind source path does not exist: {source}"#),
        every: Duration::from_nanos(delay.unwrap_or(5_000_000_000)),
    }
}

fn swarm_info(nodes: usize) -> Value {
    let mut info = manager_info();
    info["SystemTime"] = json!(time(now()));
    info["Swarm"]["Nodes"] = json!(nodes);
    info
}

fn plain_info() -> Value {
    let mut info = manager_info();
    info["SystemTime"] = json!(time(now()));
    info["Swarm"] = json!({
        "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
        "RemoteManagers": null,
    });
    info
}

fn filters(request: &Request) -> Value {
    let text = request.parameter("filters").unwrap_or("{}");
    serde_json::from_str(text).unwrap_or_else(|_| panic!("no filters: {text}"))
}

/// Whether a filter has a value that suits, or is not asked for.
fn allows(filters: &Value, name: &str, suits: impl Fn(&str) -> bool) -> bool {
    match &filters[name] {
        Value::Array(values) => values.iter().filter_map(Value::as_str).any(suits),
        // The older form of the API.
        Value::Object(values) => values.keys().any(|value| suits(value)),
        _ => true,
    }
}

fn now() -> Nanos {
    nanos_of(SystemTime::now())
}

fn nanos_of(time: SystemTime) -> Nanos {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// RFC 3339 with nine digits.
fn time(nanos: Nanos) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
    stamp.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}
