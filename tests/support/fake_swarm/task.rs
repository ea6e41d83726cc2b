//! The tasks of one slot over time: each begins, ends as its service behaves, and is followed by the next.
//!
//! A task that fails is followed after the behaviour's own period, whatever the specification's restart delay says, so
//! that a test can be faster than Swarm. Only the restart condition is obeyed.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::fake_daemon::NODE_ID;
use super::cluster::{Service, World};
use super::time;

/// Unix time in nanoseconds.
pub(super) type Nanos = i64;

/// Tasks kept of a slot, the current one among them: Swarm's own default.
const HISTORY: usize = 5;
/// From the creation of a task until it runs. A real one takes about ten times as long.
const START: Nanos = 40_000_000;
/// From the creation of a task until it is rejected.
const REJECT: Nanos = 10_000_000;
/// From the order to go until a task is gone.
const STOP: Nanos = 40_000_000;

/// What becomes of the tasks of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// They run until they are told to end.
    Healthy,
    /// Each is rejected at once with these words; the next is created this long after its creation.
    Rejected { error: String, every: Duration },
    /// Each runs for a while and exits; the next is created this long after its creation, or at once when it lived
    /// longer.
    Exits { code: i32, lives: Duration, every: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Preparing,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    /// Whether it will not change any more.
    fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Preparing | Self::Running)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Desired {
    Ready,
    Running,
    Shutdown,
    Remove,
}

impl Desired {
    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Shutdown => "shutdown",
            Self::Remove => "remove",
        }
    }
}

/// What is to happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    Reject,
    Exit(i32),
    Stop,
    Vanish,
}

/// One try.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) node: Option<String>,
    pub(super) template: Value,
    pub(super) state: State,
    pub(super) desired: Desired,
    service: (String, String),
    name: String,
    labels: Value,
    behaviour: Behaviour,
    version: u64,
    created: Nanos,
    updated: Nanos,
    status_at: Nanos,
    message: &'static str,
    error: String,
    exit_code: Option<i32>,
    container: Option<String>,
    next: Option<(Nanos, Step)>,
}

impl Task {
    pub(super) fn new(service: &Service, node: Option<String>, is_restart: bool, at: Nanos, world: &mut World) -> Self {
        let number = world.next_number();
        let mut template = service.template().clone();
        // Docker shows it in a service, and not in its tasks.
        if let Some(template) = template.as_object_mut() {
            template.remove("Runtime");
        }
        let mut task = Self {
            id: format!("faketask{number:017}"),
            template,
            state: State::Preparing,
            desired: if is_restart { Desired::Ready } else { Desired::Running },
            service: (service.id.clone(), service.name.clone()),
            name: String::new(),
            labels: service.template()["ContainerSpec"]["Labels"].clone(),
            behaviour: service.behaviour.clone(),
            version: world.next_index(),
            created: at,
            updated: at,
            status_at: at,
            message: "preparing",
            error: String::new(),
            exit_code: None,
            container: None,
            next: None,
            node,
        };
        if task.node.is_none() {
            let count = world.nodes.len();
            let nodes = if count == 1 { "node" } else { "nodes" };
            task.state = State::Pending;
            task.desired = Desired::Running;
            task.message = "pending task scheduling";
            task.error = format!("no suitable node (scheduling constraints not satisfied on {count} {nodes})");
        } else if let Behaviour::Rejected { .. } = task.behaviour {
            task.next = Some((at + REJECT, Step::Reject));
        } else {
            task.container = Some(format!("{:08x}{number:056x}", 0xface_0000 + number));
            task.next = Some((at + START, Step::Start));
        }
        task
    }

    pub(super) fn json(&self, slot: &Slot) -> Value {
        let mut status = json!({
            "Timestamp": time(self.status_at), "State": self.state.word(), "Message": self.message, "PortStatus": {},
        });
        if !self.error.is_empty() {
            status["Err"] = json!(self.error);
        }
        if let Some(container) = &self.container {
            let exit_code = self.exit_code.unwrap_or(0);
            status["ContainerStatus"] = json!({"ContainerID": container, "PID": 4242, "ExitCode": exit_code});
        }
        let mut task = json!({
            "ID": self.id, "Version": {"Index": self.version}, "CreatedAt": time(self.created),
            "UpdatedAt": time(self.updated), "Labels": {}, "Spec": self.template, "ServiceID": self.service.0,
            "Status": status, "DesiredState": self.desired.word(),
        });
        if slot.node.is_none() {
            task["Slot"] = json!(slot.number);
        }
        if let Some(node) = &self.node {
            task["NodeID"] = json!(node);
        }
        task
    }

    /// Whether it has ended without having been told to.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed | State::Rejected | State::Complete)
    }

    fn changed(&mut self, at: Nanos, world: &mut World) {
        self.updated = at;
        self.version = world.next_index();
    }

    fn pass(&mut self, state: State, message: &'static str, at: Nanos, world: &mut World) {
        self.state = state;
        self.message = message;
        self.status_at = at;
        self.changed(at, world);
    }

    /// An event of its container, which only the daemon on the same node has.
    fn say(&self, action: &str, at: Nanos, world: &mut World) {
        let Some(container) = self.container.as_ref().filter(|_| self.node.as_deref() == Some(NODE_ID)) else { return };
        let image = &self.template["ContainerSpec"]["Image"];
        let mut attributes = json!({
            "com.docker.swarm.node.id": NODE_ID, "com.docker.swarm.service.id": self.service.0,
            "com.docker.swarm.service.name": self.service.1, "com.docker.swarm.task": "",
            "com.docker.swarm.task.id": self.id, "com.docker.swarm.task.name": self.name,
        });
        for (name, value) in self.labels.as_object().into_iter().flatten() {
            attributes[name] = value.clone();
        }
        if let (Some(code), "die") = (self.exit_code, action) {
            attributes["exitCode"] = json!(code.to_string());
        }
        attributes["image"] = image.clone();
        attributes["name"] = json!(self.name);
        world.emit(
            at,
            json!({
                "status": action, "id": container, "from": image, "Type": "container", "Action": action,
                "Actor": {"ID": container, "Attributes": attributes}, "scope": "local",
            }),
        );
    }

    /// Ends its container because somebody ordered it.
    fn end_container(&mut self, at: Nanos, world: &mut World) {
        if self.state == State::Running {
            self.exit_code = Some(0);
            for action in ["kill", "die", "stop"] {
                self.say(action, at, world);
            }
        }
    }
}

/// A replica's place, or a node of a global service.
#[derive(Debug)]
pub(super) struct Slot {
    /// From 1; 0 for a global service.
    pub(super) number: u64,
    /// Of a global service only.
    pub(super) node: Option<String>,
    /// The last is the current one.
    pub(super) tasks: Vec<Task>,
    /// Tasks ever made here.
    pub(super) made: usize,
    /// When the next try begins.
    pub(super) next_at: Option<Nanos>,
}

impl Slot {
    pub(super) fn of_number(number: u64) -> Self {
        Self { number, node: None, tasks: Vec::new(), made: 0, next_at: None }
    }

    pub(super) fn of_node(node: String) -> Self {
        Self { number: 0, node: Some(node), tasks: Vec::new(), made: 0, next_at: None }
    }

    /// Whether something is to run here.
    pub(super) fn is_live(&self) -> bool {
        let is_wanted = |task: &Task| matches!(task.desired, Desired::Ready | Desired::Running);
        self.next_at.is_some() || self.tasks.last().is_some_and(is_wanted)
    }

    pub(super) fn is_running(&self) -> bool {
        self.tasks.last().is_some_and(|task| task.state == State::Running)
    }

    pub(super) fn push(&mut self, mut task: Task, world: &mut World) {
        let place = if self.node.is_some() { task.node.clone().unwrap_or_default() } else { self.number.to_string() };
        task.name = format!("{}.{place}.{}", task.service.1, task.id);
        task.say("create", task.created, world);
        self.made += 1;
        self.next_at = None;
        let at = task.created;
        self.tasks.push(task);
        while self.tasks.len() > HISTORY
            && let Some(oldest) = self.tasks.iter().position(|task| task.state.is_terminal())
        {
            self.tasks.remove(oldest).say("destroy", at, world);
        }
    }

    pub(super) fn due(&self) -> Option<Nanos> {
        let tasks = self.tasks.iter().filter_map(|task| Some(task.next?.0)).min();
        tasks.into_iter().chain(self.next_at).min()
    }

    /// Does what is due with the tasks at this moment.
    pub(super) fn run(&mut self, at: Nanos, world: &mut World) {
        let mut follow = None;
        for task in &mut self.tasks {
            let Some((_, step)) = task.next.filter(|(due, _)| *due == at) else { continue };
            task.next = None;
            match step {
                Step::Start => {
                    task.desired = Desired::Running;
                    task.pass(State::Running, "started", at, world);
                    task.say("start", at, world);
                    if let Behaviour::Exits { code, lives, .. } = task.behaviour {
                        task.next = Some((at.max(task.created + nanos(lives)), Step::Exit(code)));
                    }
                }
                Step::Reject => {
                    if let Behaviour::Rejected { error, .. } = &task.behaviour {
                        task.error = error.clone();
                    }
                    task.pass(State::Rejected, "preparing", at, world);
                    follow = Some(task.created);
                }
                Step::Exit(code) => {
                    fail(task, code, at, world);
                    follow = Some(task.created);
                }
                Step::Stop => {
                    task.end_container(at, world);
                    task.pass(State::Shutdown, "shutdown", at, world);
                }
                Step::Vanish => {
                    task.end_container(at, world);
                    task.say("destroy", at, world);
                }
            }
        }
        self.tasks.retain(|task| task.desired != Desired::Remove || task.next.is_some());
        if let (Some(created), Some(task)) = (follow, self.tasks.last_mut()) {
            let every = match task.behaviour {
                Behaviour::Rejected { every, .. } | Behaviour::Exits { every, .. } => nanos(every),
                Behaviour::Healthy => 0,
            };
            self.follow(at.max(created + every));
        }
    }

    /// The next try begins then, if the restart condition lets it.
    fn follow(&mut self, at: Nanos) {
        let Some(task) = self.tasks.last_mut() else { return };
        let condition = task.template.pointer("/RestartPolicy/Condition").and_then(Value::as_str);
        if condition == Some("none") || condition == Some("on-failure") && task.state == State::Complete {
            task.desired = Desired::Shutdown;
        } else {
            self.next_at = Some(at);
        }
    }

    /// The current task's failure is history, as the next one begins.
    pub(super) fn retire_last(&mut self, at: Nanos, world: &mut World) {
        if let Some(task) = self.tasks.last_mut().filter(|task| task.desired != Desired::Shutdown) {
            task.desired = Desired::Shutdown;
            task.changed(at, world);
        }
    }

    /// The current task is no longer wanted, and no other follows by itself.
    pub(super) fn order_away(&mut self, desired: Desired, at: Nanos, world: &mut World) {
        self.next_at = None;
        let Some(task) = self.tasks.last_mut() else { return };
        task.desired = desired;
        task.changed(at, world);
        task.next = match (task.state, desired) {
            (_, Desired::Remove) => Some((at + STOP, Step::Vanish)),
            (State::Pending, _) => Some((at, Step::Stop)),
            (state, _) if state.is_terminal() => None,
            _ => Some((at + STOP, Step::Stop)),
        };
    }

    pub(super) fn crash(&mut self, at: Nanos, delay: Nanos, world: &mut World) {
        if !self.is_live() || !self.is_running() {
            return;
        }
        if let Some(task) = self.tasks.last_mut() {
            task.next = None;
            fail(task, 1, at, world);
        }
        self.follow(at + delay);
    }
}

fn fail(task: &mut Task, code: i32, at: Nanos, world: &mut World) {
    task.exit_code = Some(code);
    if code == 0 {
        task.pass(State::Complete, "finished", at, world);
    } else {
        task.error = format!("task: non-zero exit ({code})");
        task.pass(State::Failed, "started", at, world);
    }
    task.say("die", at, world);
}

fn nanos(time: Duration) -> Nanos {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
