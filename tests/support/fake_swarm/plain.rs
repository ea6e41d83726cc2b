//! Plain containers that their engine restarts: a try each second, which dies after half of it.
//!
//! Docker's own delay grows from 0.1 s to a minute; here it stays, so that a test can count.

use serde_json::{Value, json};

use super::task::Nanos;
use super::time;

/// From a start to the next.
const PERIOD: Nanos = 1_000_000_000;
/// From a start to the death.
const LIFE: Nanos = 500_000_000;
/// What Docker shows where there is no time yet.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Restarting,
    Exited,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
    name: String,
    labels: Value,
    policy: String,
    most_retries: u64,
    /// Whether it dies again and again.
    pub(super) fails: bool,
    created: Nanos,
    state: State,
    restarts: u64,
    exit_code: i32,
    started: Option<Nanos>,
    finished: Option<Nanos>,
    /// When it dies, or starts again.
    due: Option<Nanos>,
    /// When it was started, by whomever.
    pub(super) starts: Vec<Nanos>,
}

impl Container {
    fn brief(&self) -> Value {
        json!({
            "Id": self.id, "Names": [format!("/{}", self.name)], "Image": "app:1", "ImageID": "sha256:0",
            "Command": "sh", "Created": self.created / 1_000_000_000, "State": self.state.word(),
            "Status": self.state.word(), "Labels": self.labels, "Ports": [], "Mounts": [],
            "HostConfig": {"NetworkMode": "default"},
        })
    }

    fn whole(&self) -> Value {
        let moment = |at: Option<Nanos>| at.map_or_else(|| NEVER.to_owned(), time);
        // Docker calls a container that waits for its restart running as well.
        let is_running = self.state != State::Exited;
        json!({
            "Id": self.id, "Name": format!("/{}", self.name), "Created": time(self.created),
            "RestartCount": self.restarts, "Image": "sha256:0",
            "State": {
                "Status": self.state.word(), "Running": is_running, "Paused": false,
                "Restarting": self.state == State::Restarting, "OOMKilled": false, "Dead": false, "Pid": 0,
                "ExitCode": self.exit_code, "Error": "", "StartedAt": moment(self.started),
                "FinishedAt": moment(self.finished),
            },
            "Config": {"Image": "app:1", "Labels": self.labels, "Env": ["MODE=production"]},
            "HostConfig": {"RestartPolicy": {"Name": self.policy, "MaximumRetryCount": self.most_retries}},
        })
    }

    fn restarts(&self) -> bool {
        match &*self.policy {
            "always" | "unless-stopped" => true,
            "on-failure" => self.most_retries == 0 || self.restarts < self.most_retries,
            _ => false,
        }
    }
}

/// The containers of a host.
#[derive(Debug, Default)]
pub(super) struct Plain {
    containers: Vec<Container>,
    events: Vec<(Nanos, Value)>,
}

impl Plain {
    pub(super) fn add(&mut self, name: &str, policy: &str, most_retries: u64, labels: Value, at: Nanos) -> String {
        let number = self.containers.len();
        let id = format!("{:08x}{number:056x}", 0xc0de_0000 + number);
        self.containers.push(Container {
            id: id.clone(),
            name: name.to_owned(),
            labels,
            policy: policy.to_owned(),
            most_retries,
            fails: true,
            created: at,
            state: State::Exited,
            restarts: 0,
            exit_code: 0,
            started: None,
            finished: None,
            due: None,
            starts: Vec::new(),
        });
        self.say(number, "create", at);
        self.begin(number, at);
        id
    }

    pub(super) fn find(&mut self, id_or_name: &str) -> Option<&mut Container> {
        let number = self.position(id_or_name)?;
        self.containers.get_mut(number)
    }

    pub(super) fn take_events(&mut self) -> Vec<(Nanos, Value)> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn advance(&mut self, now: Nanos) {
        loop {
            let due =
                self.containers.iter().enumerate().filter_map(|(number, container)| Some((container.due?, number)));
            match due.min() {
                Some((at, number)) if at <= now => self.run(number, at),
                _ => return,
            }
        }
    }

    /// `/containers/json`.
    pub(super) fn list(&self, is_all: bool) -> Value {
        let listed = self.containers.iter().filter(|container| is_all || container.state != State::Exited);
        listed.map(Container::brief).collect()
    }

    /// `/containers/{id}/json`.
    pub(super) fn inspect(&self, id_or_name: &str) -> Option<Value> {
        Some(self.containers.get(self.position(id_or_name)?)?.whole())
    }

    /// A status and a body, as Docker answers a write.
    pub(super) fn write(&mut self, id_or_name: &str, verb: &str, body: &Value, at: Nanos) -> (u16, Value) {
        let Some(number) = self.position(id_or_name) else {
            return (404, json!({"message": format!("No such container: {id_or_name}")}));
        };
        match verb {
            "update" => self.update(number, &body["RestartPolicy"], at),
            "stop" => self.stop(number, at),
            _ if self.containers[number].state != State::Exited => (304, Value::Null),
            _ => {
                // A start by hand forgets the count.
                self.containers[number].restarts = 0;
                self.begin(number, at);
                (204, Value::Null)
            }
        }
    }

    /// A container that waits for its restart starts once more, whatever its policy becomes.
    fn update(&mut self, number: usize, policy: &Value, at: Nanos) -> (u16, Value) {
        let container = &mut self.containers[number];
        match policy["Name"].as_str() {
            None | Some("") => {}
            Some(name @ ("no" | "always" | "unless-stopped" | "on-failure")) => {
                container.policy = name.to_owned();
                container.most_retries = policy["MaximumRetryCount"].as_u64().unwrap_or(0);
            }
            Some(name) => return (400, json!({"message": format!("invalid restart policy '{name}'")})),
        }
        self.say(number, "update", at);
        (200, json!({"Warnings": null}))
    }

    fn stop(&mut self, number: usize, at: Nanos) -> (u16, Value) {
        let container = &mut self.containers[number];
        let was = std::mem::replace(&mut container.state, State::Exited);
        if was == State::Exited {
            return (304, Value::Null);
        }
        container.due = None;
        if was == State::Running {
            container.exit_code = 143;
            container.finished = Some(at);
            self.say(number, "kill", at);
            self.say(number, "die", at);
        }
        self.say(number, "stop", at);
        (204, Value::Null)
    }

    fn begin(&mut self, number: usize, at: Nanos) {
        let container = &mut self.containers[number];
        container.state = State::Running;
        container.exit_code = 0;
        container.started = Some(at);
        container.starts.push(at);
        container.due = container.fails.then_some(at + LIFE);
        self.say(number, "start", at);
    }

    fn run(&mut self, number: usize, at: Nanos) {
        let container = &mut self.containers[number];
        container.due = None;
        match container.state {
            State::Running if container.fails => {
                container.finished = Some(at);
                container.exit_code = 1;
                let restarts = container.restarts();
                container.state = if restarts { State::Restarting } else { State::Exited };
                container.due = restarts.then_some(at + PERIOD - LIFE);
                self.say(number, "die", at);
            }
            State::Restarting => {
                container.restarts += 1;
                self.begin(number, at);
            }
            State::Running | State::Exited => {}
        }
    }

    fn say(&mut self, number: usize, action: &str, at: Nanos) {
        let container = &self.containers[number];
        let mut attributes = container.labels.clone();
        attributes["image"] = json!("app:1");
        attributes["name"] = json!(container.name);
        match action {
            "die" => attributes["exitCode"] = json!(container.exit_code.to_string()),
            "kill" => attributes["signal"] = json!("15"),
            _ => {}
        }
        let event = json!({
            "status": action, "id": container.id, "from": "app:1", "Type": "container", "Action": action,
            "Actor": {"ID": container.id, "Attributes": attributes}, "scope": "local",
            "time": at / 1_000_000_000, "timeNano": at,
        });
        self.events.push((at, event));
    }

    /// By its id, the twelve digits of it that Docker shows, or its name.
    fn position(&self, id_or_name: &str) -> Option<usize> {
        let name = id_or_name.trim_start_matches('/');
        let is_meant = |container: &Container| {
            container.name == name || id_or_name.len() >= 12 && container.id.starts_with(id_or_name)
        };
        self.containers.iter().position(is_meant)
    }
}
