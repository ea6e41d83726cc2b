//! A Swarm on virtual time, as its API shows it: services as raw objects, slots and nodes whose tasks fail or run, and
//! what SwarmKit's orchestrators do about a changed specification.
//!
//! It follows `manager/orchestrator/{replicated,global,restart,taskreaper}`: a failed task is followed by the next one
//! of its slot after the restart delay; scaling down removes first what is the second or third of its node and then
//! what does not run; the history of a slot that is no longer wanted goes at the next update. Nothing here knows squall.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use squall::ingest::{Reading, read_line};
use squall::model::{Fact, RestartPolicy, ServiceFact, TaskFact, TaskState, Timestamp};

/// 2026-11-21T08:00:00Z.
pub const BASE: Timestamp = Timestamp::from_secs(1_795_248_000);
/// The nodes, all of them active.
pub const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
/// `TaskHistoryRetentionLimit`.
const HISTORY: usize = 5;
/// The scheduler gives a node less weight after so many failures of a service on it.
const NODE_FAILURES_MAX: usize = 5;
/// Within this time.
const NODE_FAILURES_WITHIN: Duration = Duration::from_secs(300);
/// How long after one slot the next one is rolled.
const ROLL_EVERY: Duration = Duration::from_secs(3);

/// A small generator: everything that is drawn comes from one seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // xorshift has no way out of zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Once in so many.
    pub fn once_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }
}

/// What ails a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub shape: Shape,
    pub extent: Extent,
    pub from: Timestamp,
    /// Another image has it no more.
    pub is_of_image: bool,
}

/// How an attempt fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Before its container starts, with these words.
    Rejected(&'static str),
    /// It runs so long, and exits with this code.
    Exits { life: Duration, code: i32 },
}

/// Which attempts fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    All,
    /// Slots up to this one.
    Slots(u64),
    Node(usize),
}

/// One task.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    serial: u64,
    pub slot: u64,
    pub node: Option<usize>,
    pub created: Timestamp,
    pub state: TaskState,
    pub desired: TaskState,
    pub status_at: Timestamp,
    pub version: u64,
    error: &'static str,
    exit_code: Option<i32>,
    image: String,
    force_update: u64,
    constraints: Vec<String>,
    starts_at: Timestamp,
    /// The attempt under way is one that fails.
    pub fails: bool,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// As `GET /services/{id}` gives it.
    pub object: Value,
    /// As a listing gives it.
    pub fact: ServiceFact<'static>,
    pub tasks: Vec<Task>,
    pub trouble: Option<Trouble>,
    /// It was removed.
    pub is_gone: bool,
    delay: Duration,
    is_job: bool,
    update: u64,
    failures: VecDeque<(Timestamp, usize)>,
}

/// A running task that an update has ordered down.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub ran: Duration,
    pub fails: bool,
    pub slot: u64,
    pub node: usize,
}

/// What an update of a service came to.
#[derive(Clone, Debug)]
pub enum Updated {
    Done(Vec<Loss>),
    OutOfSequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Assign,
    Prepared,
    Start,
    Die,
    Stopped,
    Roll,
}

type Entry = Reverse<(Timestamp, u64, usize, What, u64)>;

/// The Swarm.
#[derive(Debug)]
pub struct Swarm {
    pub now: Timestamp,
    pub services: Vec<Service>,
    pub random: Random,
    /// Services with a task that has changed since this was emptied.
    pub changed_tasks: BTreeSet<usize>,
    /// Grows with every change of a service.
    pub services_version: u64,
    raft: u64,
    next: u64,
    queue: BinaryHeap<Entry>,
    index: BTreeMap<String, usize>,
}

impl Service {
    pub fn id(&self) -> &str {
        &self.fact.id
    }

    pub fn spec(&self) -> &Value {
        &self.object["Spec"]
    }

    pub fn version(&self) -> u64 {
        self.fact.version
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.spec()["Labels"].get(name).and_then(Value::as_str)
    }

    pub fn is_rolling(&self) -> bool {
        self.object.pointer("/UpdateStatus/State").is_some_and(|state| state == "updating")
    }

    /// `None` for a global service.
    pub fn replicas(&self) -> Option<u64> {
        let mode = &self.spec()["Mode"];
        if let Some(replicated) = mode.get("Replicated") {
            return Some(replicated.get("Replicas").and_then(Value::as_u64).unwrap_or(1));
        }
        mode.get("ReplicatedJob").map(|job| job["TotalCompletions"].as_u64().unwrap_or(1))
    }

    pub fn task_facts(&self) -> Vec<TaskFact<'_>> {
        self.tasks.iter().map(|task| self.task_fact(task)).collect()
    }

    pub fn task_fact<'a>(&'a self, task: &'a Task) -> TaskFact<'a> {
        TaskFact {
            id: (&*task.id).into(),
            version: task.version,
            created: task.created,
            service_id: self.id().into(),
            node_id: task.node.map_or("", |node| NODES[node]).into(),
            slot: task.slot,
            is_job: self.is_job,
            state: task.state,
            desired: task.desired,
            status_at: task.status_at,
            error: task.error.into(),
            message: "".into(),
            exit_code: task.exit_code,
            image: (&*task.image).into(),
            restart: RestartPolicy { delay: self.delay, ..RestartPolicy::default() },
            force_update: task.force_update,
            has_memory_limit: false,
            spec: 0,
        }
    }

    fn image(&self) -> String {
        self.spec().pointer("/TaskTemplate/ContainerSpec/Image").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn force_update(&self) -> u64 {
        self.spec().pointer("/TaskTemplate/ForceUpdate").and_then(Value::as_u64).unwrap_or(0)
    }

    fn constraints(&self) -> Vec<String> {
        let list = self.spec().pointer("/TaskTemplate/Placement/Constraints").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    fn fails(&self, slot: u64, node: usize) -> Option<Shape> {
        let trouble = self.trouble?;
        let is_hit = match trouble.extent {
            Extent::All => true,
            Extent::Slots(slots) => slot <= slots,
            Extent::Node(bad) => node == bad,
        };
        is_hit.then_some(trouble.shape)
    }

    fn is_dirty(&self, task: &Task, constraints: &[String]) -> bool {
        let is_other = task.image != self.image() || task.force_update != self.force_update();
        is_other || task.node.is_some_and(|node| !matches(constraints, node))
    }

    /// Tasks of one slot, or of one node of a global service.
    fn is_of(&self, task: &Task, slot: u64, node: Option<usize>) -> bool {
        task.slot == slot && (slot > 0 || task.node == node)
    }
}

impl Task {
    /// It is to run, as far as Swarm is concerned.
    fn is_updatable(&self) -> bool {
        !matches!(self.desired, TaskState::Shutdown | TaskState::Remove)
    }
}

/// Whether a node meets placement constraints; of any but the node's id it is said that it does not.
fn matches(constraints: &[String], node: usize) -> bool {
    constraints.iter().all(|constraint| {
        if let Some(id) = constraint.strip_prefix("node.id==") {
            return id == NODES[node];
        }
        constraint.strip_prefix("node.id!=").is_some_and(|id| id != NODES[node])
    })
}

fn read_service(object: &Value) -> ServiceFact<'static> {
    let text = object.to_string();
    let Reading::Observation(observation) = read_line(&text, 0) else { panic!("{text} can be read") };
    let Fact::Service(fact) = observation.fact else { panic!("{text} is a service") };
    let own = |text: std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.into_owned());
    let fact = *fact;
    ServiceFact {
        id: own(fact.id),
        name: own(fact.name),
        stack: fact.stack.map(own),
        version: fact.version,
        created: fact.created,
        updated: fact.updated,
        mode: fact.mode,
        image: own(fact.image),
        restart: fact.restart,
        force_update: fact.force_update,
        has_memory_limit: fact.has_memory_limit,
        spec: fact.spec,
        labels: fact.labels.into_iter().map(|(name, value)| (own(name), own(value))).collect(),
        running_and_desired: fact.running_and_desired,
        rolled_out: fact.rolled_out,
    }
}

impl Swarm {
    pub fn new(seed: u64) -> Self {
        Self {
            now: BASE,
            services: Vec::new(),
            random: Random::new(seed),
            changed_tasks: BTreeSet::new(),
            services_version: 0,
            raft: 1000,
            next: 0,
            queue: BinaryHeap::new(),
            index: BTreeMap::new(),
        }
    }

    /// Adds a service whose tasks have run for a while.
    pub fn add(&mut self, id: &str, spec: &Value, delay: Duration) {
        self.raft += 1;
        let created = BASE.minus(Duration::from_secs(30 * 86_400));
        let object = json!({"ID": id, "Version": {"Index": self.raft}, "CreatedAt": created.to_string(),
            "UpdatedAt": created.to_string(), "Spec": spec});
        let fact = read_service(&object);
        let is_job = spec["Mode"].get("ReplicatedJob").is_some();
        let service = Service {
            object,
            fact,
            tasks: Vec::new(),
            trouble: None,
            is_gone: false,
            delay,
            is_job,
            update: 0,
            failures: VecDeque::new(),
        };
        let at = self.services.len();
        self.index.insert(id.to_owned(), at);
        self.services.push(service);
        let age = self.random.millis(3_600_000, 20 * 86_400_000);
        self.now = BASE.minus(age);
        self.reconcile(at);
        while let Some(due) = self.next_due().filter(|due| *due < BASE) {
            self.run_until(due);
        }
        self.now = BASE;
    }

    pub fn find(&self, id: &str) -> usize {
        self.index[id]
    }

    /// When something happens next.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.peek().map(|entry| entry.0.0)
    }

    /// Lets time pass.
    pub fn run_until(&mut self, now: Timestamp) {
        while let Some(Reverse((at, _, service, what, serial))) = self.queue.peek().copied() {
            if at > now {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            self.happen(service, what, serial);
        }
        self.now = self.now.max(now);
    }

    /// A service begins to fail: what of it runs dies first.
    pub fn strike(&mut self, at: usize, trouble: Trouble) {
        self.services[at].trouble = Some(trouble);
        let hit: Vec<u64> = self.services[at]
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Running && task.is_updatable())
            .filter(|task| self.services[at].fails(task.slot, task.node.unwrap_or(0)).is_some())
            .map(|task| task.serial)
            .collect();
        for serial in hit {
            if let Some(task) = self.task_mut(at, serial) {
                task.fails = true;
            }
            let after = self.random.millis(0, 3000);
            self.push(after, at, What::Die, serial);
        }
    }

    /// `POST /services/{id}/update`: what runs and is ordered down by it.
    pub fn update(&mut self, at: usize, version: u64, spec: Value) -> Updated {
        if self.services[at].version() != version {
            return Updated::OutOfSequence;
        }
        let now = self.now;
        let service = &mut self.services[at];
        if service.image() != spec.pointer("/TaskTemplate/ContainerSpec/Image").and_then(Value::as_str).unwrap_or("")
            && service.trouble.is_some_and(|trouble| trouble.is_of_image)
        {
            service.trouble = None;
        }
        service.object["Spec"] = spec;
        service.object.as_object_mut().expect("an object").remove("UpdateStatus");
        service.update += 1;
        self.touch(at);
        let running: Vec<(u64, Duration, bool, u64, usize)> = self.services[at]
            .tasks
            .iter()
            .filter(|task| task.state == TaskState::Running && task.is_updatable())
            .map(|task| (task.serial, now.since(task.status_at), task.fails, task.slot, task.node.unwrap_or(0)))
            .collect();
        self.reconcile(at);
        let service = &self.services[at];
        let is_lost = |serial: u64| service.tasks.iter().all(|task| task.serial != serial || !task.is_updatable());
        let lost = running.into_iter().filter(|task| is_lost(task.0));
        Updated::Done(lost.map(|(_, ran, fails, slot, node)| Loss { ran, fails, slot, node }).collect())
    }

    /// `DELETE /services/{id}`: its tasks go with it.
    pub fn remove(&mut self, at: usize) {
        let service = &mut self.services[at];
        service.is_gone = true;
        service.update += 1;
        service.tasks.clear();
        self.services_version += 1;
        self.changed_tasks.insert(at);
    }

    fn touch(&mut self, at: usize) {
        self.raft += 1;
        self.services_version += 1;
        let service = &mut self.services[at];
        service.object["Version"]["Index"] = json!(self.raft);
        service.object["UpdatedAt"] = json!(self.now.to_string());
        service.fact = read_service(&service.object);
    }

    fn set_update_status(&mut self, at: usize, state: &str) {
        self.services[at].object["UpdateStatus"] = json!({"State": state});
        self.touch(at);
    }

    fn push(&mut self, after: Duration, service: usize, what: What, serial: u64) {
        self.next += 1;
        self.queue.push(Reverse((self.now.plus(after), self.next, service, what, serial)));
    }

    fn task_mut(&mut self, service: usize, serial: u64) -> Option<&mut Task> {
        self.services[service].tasks.iter_mut().find(|task| task.serial == serial)
    }

    fn set(&mut self, service: usize, serial: u64, change: impl FnOnce(&mut Task)) {
        self.raft += 1;
        let version = self.raft;
        if let Some(task) = self.task_mut(service, serial) {
            change(task);
            task.version = version;
            self.changed_tasks.insert(service);
        }
    }

    // The orchestrators.

    /// Makes and orders down tasks until they are as many as the specification says, then rolls what is of another one.
    fn reconcile(&mut self, at: usize) {
        match self.services[at].replicas() {
            Some(replicas) => self.reconcile_replicated(at, replicas),
            None => self.reconcile_global(at),
        }
        self.roll(at);
    }

    fn reconcile_replicated(&mut self, at: usize, replicas: u64) {
        let service = &self.services[at];
        let updatable: Vec<&Task> = service.tasks.iter().filter(|task| task.is_updatable()).collect();
        let slots: BTreeSet<u64> = updatable.iter().map(|task| task.slot).collect();
        let count = slots.len() as u64;
        if replicas >= count {
            let new: Vec<u64> = (1..).filter(|slot| !slots.contains(slot)).take(to_usize(replicas - count)).collect();
            let is_kept = |task: &Task| slots.contains(&task.slot) || new.contains(&task.slot);
            self.services[at].tasks.retain(|task| is_kept(task) || !task.state.is_terminal());
            for slot in new {
                self.make(at, slot, None, Duration::ZERO, Duration::ZERO);
            }
            return;
        }
        // Those that run come first, by slot; then the first of each node before the second.
        let mut order: Vec<(u64, bool, Vec<&Task>)> = slots
            .iter()
            .map(|slot| {
                let tasks: Vec<&Task> = updatable.iter().copied().filter(|task| task.slot == *slot).collect();
                (*slot, tasks.iter().any(|task| task.state == TaskState::Running), tasks)
            })
            .collect();
        order.sort_by_key(|(slot, runs, _)| (!runs, *slot));
        let mut of_node: BTreeMap<usize, u64> = BTreeMap::new();
        let mut ranked: Vec<(u64, u64)> = order
            .iter()
            .map(|(slot, _, tasks)| match tasks.as_slice() {
                [Task { node: Some(node), .. }] => {
                    let nth = of_node.entry(*node).or_default();
                    *nth += 1;
                    (*nth, *slot)
                }
                _ => (u64::MAX, *slot),
            })
            .collect();
        ranked.sort_by_key(|(nth, _)| *nth);
        let gone: Vec<u64> = ranked[to_usize(replicas)..].iter().map(|(_, slot)| *slot).collect();
        let removed: Vec<u64> =
            updatable.iter().filter(|task| gone.contains(&task.slot)).map(|task| task.serial).collect();
        self.services[at].tasks.retain(|task| slots.contains(&task.slot) || !task.state.is_terminal());
        for serial in removed {
            self.order_down(at, serial, TaskState::Remove);
        }
    }

    fn reconcile_global(&mut self, at: usize) {
        let constraints = self.services[at].constraints();
        for node in 0..NODES.len() {
            let of_node: Vec<u64> = self.services[at]
                .tasks
                .iter()
                .filter(|task| task.is_updatable() && task.node == Some(node))
                .map(|task| task.serial)
                .collect();
            if !matches(&constraints, node) {
                for serial in of_node {
                    self.order_down(at, serial, TaskState::Shutdown);
                }
            } else if of_node.is_empty() {
                self.make(at, 0, Some(node), Duration::ZERO, Duration::ZERO);
            }
        }
    }

    /// Replaces one task that is of another template; the others follow one by one.
    fn roll(&mut self, at: usize) {
        let service = &self.services[at];
        let constraints = service.constraints();
        let updatable = || service.tasks.iter().filter(|task| task.is_updatable());
        // What no node has taken yet is replaced at once.
        let pending: Vec<(u64, u64)> = updatable()
            .filter(|task| task.node.is_none() && (task.constraints != constraints || task.image != service.image()))
            .map(|task| (task.serial, task.slot))
            .collect();
        let dirty = updatable().find(|task| service.is_dirty(task, &constraints));
        let dirty = dirty.map(|task| (task.serial, task.slot, task.node));
        for (serial, slot) in pending {
            self.order_down(at, serial, TaskState::Shutdown);
            self.make(at, slot, None, Duration::ZERO, Duration::ZERO);
        }
        let Some((serial, slot, node)) = dirty else {
            if self.services[at].is_rolling() {
                self.set_update_status(at, "completed");
            }
            return;
        };
        if !self.services[at].is_rolling() {
            self.set_update_status(at, "updating");
        }
        self.order_down(at, serial, TaskState::Shutdown);
        let node = node.filter(|_| slot == 0);
        self.make(at, slot, node, Duration::ZERO, Duration::from_millis(500));
        let update = self.services[at].update;
        self.push(ROLL_EVERY, at, What::Roll, update);
    }

    fn order_down(&mut self, at: usize, serial: u64, desired: TaskState) {
        let Some(task) = self.task_mut(at, serial) else { return };
        if task.node.is_none() {
            let service = &mut self.services[at];
            service.tasks.retain(|task| task.serial != serial);
            self.changed_tasks.insert(at);
            return;
        }
        let is_over = task.state.is_terminal();
        self.set(at, serial, |task| task.desired = desired);
        if is_over {
            if desired == TaskState::Remove {
                self.services[at].tasks.retain(|task| task.serial != serial);
            }
            return;
        }
        let after = if self.random.once_in(10) { Duration::from_secs(10) } else { self.random.millis(200, 3000) };
        self.push(after, at, What::Stopped, serial);
    }

    /// A task that is assigned after `wait`, and started no earlier than `delay` from now.
    fn make(&mut self, at: usize, slot: u64, node: Option<usize>, wait: Duration, delay: Duration) {
        self.raft += 1;
        self.next += 1;
        let service = &self.services[at];
        let serial = self.next;
        let task = Task {
            id: format!("t{serial}"),
            serial,
            slot,
            node,
            created: self.now,
            state: TaskState::Pending,
            desired: if delay.is_zero() { TaskState::Running } else { TaskState::Ready },
            status_at: self.now,
            version: self.raft,
            error: "",
            exit_code: None,
            image: service.image(),
            force_update: service.force_update(),
            constraints: service.constraints(),
            starts_at: self.now.plus(delay),
            fails: false,
        };
        let service = &mut self.services[at];
        service.tasks.push(task);
        let is_old = |task: &Task| task.slot == slot && (slot > 0 || task.node == node);
        let history = service.tasks.iter().filter(|task| is_old(task)).count();
        if history > HISTORY
            && let Some(oldest) = service.tasks.iter().position(|task| is_old(task) && task.state.is_terminal())
        {
            service.tasks.remove(oldest);
        }
        self.changed_tasks.insert(at);
        self.push(wait + Duration::from_millis(50), at, What::Assign, serial);
    }

    fn happen(&mut self, at: usize, what: What, serial: u64) {
        let now = self.now;
        if what == What::Roll {
            if self.services[at].update == serial && self.services[at].is_rolling() {
                self.roll(at);
            }
            return;
        }
        let Some(task) = self.task_mut(at, serial) else { return };
        let (state, slot, node, starts_at) = (task.state, task.slot, task.node, task.starts_at);
        let is_wanted = task.is_updatable();
        match what {
            What::Assign if is_wanted && state == TaskState::Pending => self.assign(at, serial, slot, node),
            What::Prepared if state == TaskState::Preparing && is_wanted => {
                let node = node.unwrap_or(0);
                match self.services[at].fails(slot, node) {
                    Some(Shape::Rejected(error)) => self.fail(at, serial, TaskState::Rejected, error, None),
                    _ => self.push(starts_at.since(now), at, What::Start, serial),
                }
            }
            What::Start if state == TaskState::Preparing && is_wanted => {
                let node = node.unwrap_or(0);
                let fate = self.services[at].fails(slot, node);
                self.set(at, serial, |task| {
                    (task.state, task.desired) = (TaskState::Running, TaskState::Running);
                    (task.status_at, task.fails) = (now, fate.is_some());
                });
                match fate {
                    Some(Shape::Exits { life, .. }) => self.push(life, at, What::Die, serial),
                    // It has begun to fail in between.
                    Some(Shape::Rejected(_)) => self.push(Duration::from_secs(1), at, What::Die, serial),
                    None => {}
                }
            }
            What::Die if state == TaskState::Running => {
                let code = match self.services[at].trouble.map(|trouble| trouble.shape) {
                    Some(Shape::Exits { code, .. }) => code,
                    _ => 1,
                };
                match code {
                    0 => self.fail(at, serial, TaskState::Complete, "", Some(0)),
                    code => self.fail(at, serial, TaskState::Failed, "task: non-zero exit (1)", Some(code)),
                }
            }
            What::Stopped if !state.is_terminal() => {
                self.set(at, serial, |task| (task.state, task.status_at) = (TaskState::Shutdown, now));
                self.reap(at, serial);
            }
            _ => {}
        }
    }

    /// The scheduler: the node with the fewest tasks of the service, those last on which it has failed often.
    fn assign(&mut self, at: usize, serial: u64, slot: u64, node: Option<usize>) {
        let now = self.now;
        let service = &mut self.services[at];
        while service.failures.front().is_some_and(|(when, _)| now.since(*when) > NODE_FAILURES_WITHIN) {
            service.failures.pop_front();
        }
        let constraints = service.constraints();
        let weight = |node: usize| {
            let is_bad = service.failures.iter().filter(|failure| failure.1 == node).count() >= NODE_FAILURES_MAX;
            let tasks = service.tasks.iter().filter(|task| task.node == Some(node) && !task.state.is_terminal());
            // All else being equal, the nodes take turns.
            (is_bad, tasks.count(), (node + to_usize(serial)) % NODES.len())
        };
        let chosen = match node {
            Some(node) => Some(node),
            None => (0..NODES.len()).filter(|node| matches(&constraints, *node)).min_by_key(|node| weight(*node)),
        };
        let is_placed = chosen.is_some();
        self.set(at, serial, |task| {
            task.node = chosen;
            task.status_at = now;
            match is_placed {
                true => task.state = TaskState::Preparing,
                false => task.error = "no suitable node (scheduling constraints not satisfied on 5 nodes)",
            }
        });
        if is_placed {
            let after = self.random.millis(100, 300);
            self.push(after, at, What::Prepared, serial);
        }
        debug_assert!(slot > 0 || chosen.is_some());
    }

    fn fail(&mut self, at: usize, serial: u64, state: TaskState, error: &'static str, exit_code: Option<i32>) {
        let now = self.now;
        let Some(task) = self.task_mut(at, serial) else { return };
        let (is_wanted, slot, node) = (task.is_updatable(), task.slot, task.node);
        self.set(at, serial, |task| {
            (task.state, task.status_at, task.error, task.exit_code) = (state, now, error, exit_code);
            if is_wanted {
                task.desired = TaskState::Shutdown;
            }
        });
        let service = &mut self.services[at];
        service.failures.extend(node.map(|node| (now, node)));
        if service.failures.len() > 64 {
            service.failures.pop_front();
        }
        if !is_wanted {
            self.reap(at, serial);
            return;
        }
        let delay = service.delay;
        let has_other = service
            .tasks
            .iter()
            .any(|task| task.serial != serial && task.is_updatable() && service.is_of(task, slot, node));
        if has_other {
            return;
        }
        if service.is_rolling() {
            // `FailureAction` is to pause.
            self.set_update_status(at, "paused");
        }
        let node = node.filter(|_| slot == 0);
        match state {
            // Its next attempt is made ready at once, and fails only when its own delay has passed.
            TaskState::Rejected => self.make(at, slot, node, delay, delay),
            _ => self.make(at, slot, node, Duration::from_millis(300), delay),
        }
    }

    fn reap(&mut self, at: usize, serial: u64) {
        self.services[at].tasks.retain(|task| task.serial != serial || task.desired != TaskState::Remove);
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("a small number")
}
