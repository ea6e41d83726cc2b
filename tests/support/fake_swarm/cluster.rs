//! The services of a swarm and what becomes of them: which slots there are, and what a change of a specification does
//! to them. As SwarmKit of Docker 20.10 was seen to do it; where it is simpler, the item says so.

use serde_json::{Value, json};

use super::super::fake_daemon::NODE_ID;
use super::rollout::Rollout;
use super::task::{Behaviour, Desired, Nanos, Slot, State, Task};
use super::time;

/// A node. All are ready and active.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) is_manager: bool,
    pub(super) created: Nanos,
    pub(super) version: u64,
}

impl Node {
    pub(super) fn json(&self, is_leader: bool) -> Value {
        let role = if self.is_manager { "manager" } else { "worker" };
        let mut node = json!({
            "ID": self.id, "Version": {"Index": self.version}, "CreatedAt": time(self.created),
            "UpdatedAt": time(self.created),
            "Spec": {"Labels": {}, "Role": role, "Availability": "active"},
            "Description": {
                "Hostname": self.hostname, "Platform": {"Architecture": "x86_64", "OS": "linux"},
                "Resources": {"NanoCPUs": 2_000_000_000_u64, "MemoryBytes": 4_000_000_000_u64},
                "Engine": {"EngineVersion": "20.10.24"},
            },
            "Status": {"State": "ready", "Addr": "10.0.0.1"},
        });
        if self.is_manager {
            node["ManagerStatus"] = json!({"Reachability": "reachable", "Addr": "10.0.0.1:2377"});
            // Docker leaves the field out where it is false.
            if is_leader {
                node["ManagerStatus"]["Leader"] = json!(true);
            }
        }
        node
    }

    /// Whether it meets all of these constraints. Of what can be asked, it knows its id, its name and its role.
    fn meets(&self, constraints: &Value) -> bool {
        let texts = constraints.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.into_iter().all(|text| {
            let (key, value, is_equal) = match (text.split_once("!="), text.split_once("==")) {
                (Some((key, value)), _) => (key, value, false),
                (None, Some((key, value))) => (key, value, true),
                (None, None) => return false,
            };
            let own = match key.trim() {
                "node.id" => &*self.id,
                "node.hostname" => &*self.hostname,
                "node.role" if self.is_manager => "manager",
                "node.role" => "worker",
                _ => return false,
            };
            (own == value.trim()) == is_equal
        })
    }
}

/// What all services share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) is_leader: bool,
    /// Grows with every change of anything.
    index: u64,
    made: u64,
    events: Vec<(Nanos, Value)>,
}

impl World {
    /// The version of the next change.
    pub(super) fn next_index(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    /// A number that nothing has yet.
    pub(super) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn nodes_for(&self, template: &Value) -> Vec<String> {
        let constraints = &template["Placement"]["Constraints"];
        self.nodes.iter().filter(|node| node.meets(constraints)).map(|node| node.id.clone()).collect()
    }

    pub(super) fn emit(&mut self, at: Nanos, mut event: Value) {
        event["time"] = json!(at / 1_000_000_000);
        event["timeNano"] = json!(at);
        self.events.push((at, event));
    }
}

/// A service. All that is private to one service happens here.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) created: Nanos,
    pub(super) updated: Nanos,
    pub(super) spec: Value,
    pub(super) previous: Option<Value>,
    pub(super) update_status: Option<Value>,
    pub(super) behaviour: Behaviour,
    pub(super) slots: Vec<Slot>,
    pub(super) rollout: Option<Rollout>,
    /// When each task that reached a node was created.
    pub(super) attempts: Vec<Nanos>,
}

impl Service {
    pub(super) fn template(&self) -> &Value {
        &self.spec["TaskTemplate"]
    }

    /// None for a global service and for jobs.
    pub(super) fn replicas(&self) -> Option<u64> {
        let replicated = self.spec["Mode"].get("Replicated")?;
        Some(replicated["Replicas"].as_u64().unwrap_or(1))
    }

    pub(super) fn is_global(&self) -> bool {
        self.spec["Mode"].get("Global").is_some()
    }

    /// The count that `docker service ls` shows.
    pub(super) fn running(&self) -> usize {
        let tasks = self.slots.iter().flat_map(|slot| &slot.tasks);
        tasks.filter(|task| task.state == State::Running && task.desired == Desired::Running).count()
    }

    pub(super) fn json(&self, with_status: bool) -> Value {
        let endpoint = self.spec.get("EndpointSpec").cloned().unwrap_or_else(|| json!({}));
        let mut service = json!({
            "ID": self.id, "Version": {"Index": self.version}, "CreatedAt": time(self.created),
            "UpdatedAt": time(self.updated), "Spec": self.spec, "Endpoint": {"Spec": endpoint},
        });
        if let Some(previous) = &self.previous {
            service["PreviousSpec"] = previous.clone();
        }
        if let Some(status) = &self.update_status {
            service["UpdateStatus"] = status.clone();
        }
        if with_status {
            let live = self.slots.iter().filter(|slot| slot.is_live()).count();
            let desired = self.replicas().unwrap_or(live as u64);
            service["ServiceStatus"] =
                json!({"RunningTasks": self.running(), "DesiredTasks": desired, "CompletedTasks": 0});
        }
        service
    }

    /// Gives the service a new specification.
    pub(super) fn update(&mut self, spec: Value, at: Nanos, world: &mut World) {
        let old = std::mem::replace(&mut self.spec, spec);
        let mut attributes = serde_json::Map::new();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        for (name, pointer) in
            [("replicas", "/Mode/Replicated/Replicas"), ("image", "/TaskTemplate/ContainerSpec/Image")]
        {
            let words = [&old, &self.spec].map(|spec| {
                let value = spec.pointer(pointer).unwrap_or(&Value::Null);
                text(value).or_else(|| value.as_u64().map(|number| number.to_string()))
            });
            if words[0] != words[1] {
                for (suffix, word) in ["old", "new"].iter().zip(words) {
                    attributes.insert(format!("{name}.{suffix}"), json!(word));
                }
            }
        }
        self.previous = Some(old);
        self.update_status = None;
        self.rollout = None;
        self.changed(attributes, at, world);
        self.reconcile(at, world);
        self.rollout = Rollout::begin(self, at, world);
    }

    /// Sets or removes what Docker says of the rollout.
    pub(super) fn set_update_status(&mut self, state: Option<&str>, message: &str, at: Nanos, world: &mut World) {
        let old = self.update_status.take();
        let mut attributes = serde_json::Map::new();
        let word = |status: &Value| status["State"].clone();
        if let Some(old) = &old {
            attributes.insert("updatestate.old".to_owned(), word(old));
        }
        if let Some(state) = state {
            let started = old.as_ref().map_or_else(|| json!(time(at)), |old| old["StartedAt"].clone());
            let mut status = json!({"State": state, "StartedAt": started, "Message": message});
            if state.ends_with("completed") {
                status["CompletedAt"] = json!(time(at));
            }
            attributes.insert("updatestate.new".to_owned(), word(&status));
            self.update_status = Some(status);
        }
        self.changed(attributes, at, world);
    }

    /// The store has a new version of it.
    fn changed(&mut self, mut attributes: serde_json::Map<String, Value>, at: Nanos, world: &mut World) {
        self.version = world.next_index();
        self.updated = at;
        attributes.insert("name".to_owned(), json!(self.name));
        self.say("update", attributes, at, world);
    }

    fn say(&self, action: &str, attributes: serde_json::Map<String, Value>, at: Nanos, world: &mut World) {
        let actor = json!({"ID": self.id, "Attributes": attributes});
        world.emit(at, json!({"Type": "service", "Action": action, "Actor": actor, "scope": "swarm"}));
    }

    /// Makes the slots as many as they are to be. What they run is the rollout's business.
    fn reconcile(&mut self, at: Nanos, world: &mut World) {
        if let Some(replicas) = self.replicas() {
            self.reconcile_replicas(replicas, at, world);
        } else if self.is_global() {
            let nodes = world.nodes_for(self.template());
            for number in 0..self.slots.len() {
                let slot = &mut self.slots[number];
                if slot.is_live() && !slot.node.as_ref().is_some_and(|node| nodes.contains(node)) {
                    slot.order_away(Desired::Shutdown, at, world);
                }
            }
            for node in nodes {
                let known = self.slots.iter().position(|slot| slot.node.as_ref() == Some(&node));
                let number = known.unwrap_or_else(|| {
                    self.slots.push(Slot::of_node(node));
                    self.slots.len() - 1
                });
                if !self.slots[number].is_live() {
                    self.begin(number, at, world);
                }
            }
        }
    }

    fn reconcile_replicas(&mut self, replicas: u64, at: Nanos, world: &mut World) {
        // The history of slots that were given up earlier goes with every later update.
        self.slots.retain(Slot::is_live);
        for _ in replicas..self.slots.len() as u64 {
            let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_live());
            // Those that do not run go first.
            let victim = live.min_by_key(|(_, slot)| (slot.is_running(), std::cmp::Reverse(slot.number)));
            if let Some((number, _)) = victim {
                self.slots[number].order_away(Desired::Remove, at, world);
            }
        }
        let mut free = 1;
        while (self.slots.len() as u64) < replicas {
            if self.slots.iter().all(|slot| slot.number != free) {
                self.slots.push(Slot::of_number(free));
                self.begin(self.slots.len() - 1, at, world);
            }
            free += 1;
        }
    }

    /// A new task in a slot, by the specification and the behaviour of now.
    pub(super) fn begin(&mut self, number: usize, at: Nanos, world: &mut World) {
        let slot = &self.slots[number];
        let is_restart = !slot.tasks.is_empty();
        let nodes = world.nodes_for(self.template());
        let node = match &slot.node {
            Some(node) => Some(node.clone()),
            None if nodes.is_empty() => None,
            // From node to node, as Swarm moves what fails.
            None => Some(nodes[(slot.made + number) % nodes.len()].clone()),
        };
        if node.is_some() {
            self.attempts.push(at);
        }
        let task = Task::new(self, node, is_restart, at, world);
        self.slots[number].push(task, world);
    }

    /// When something is to happen next.
    pub(super) fn due(&self) -> Option<Nanos> {
        let slots = self.slots.iter().filter_map(Slot::due).min();
        slots.into_iter().chain(self.rollout.as_ref().and_then(|rollout| rollout.due)).min()
    }

    /// Does what is due at this moment.
    fn run(&mut self, at: Nanos, world: &mut World) {
        for number in 0..self.slots.len() {
            let slot = &mut self.slots[number];
            slot.run(at, world);
            if slot.next_at == Some(at) {
                slot.retire_last(at, world);
                self.begin(number, at, world);
            }
        }
        if let Some(rollout) = self.rollout.take() {
            self.rollout = rollout.step(self, at, world);
        }
    }

    /// All running tasks end now as if their process had failed.
    pub(super) fn crash(&mut self, at: Nanos, world: &mut World) {
        let delay = self.template().pointer("/RestartPolicy/Delay").and_then(Value::as_i64).unwrap_or(5_000_000_000);
        for slot in &mut self.slots {
            slot.crash(at, delay, world);
        }
    }
}

/// The swarm.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) services: Vec<Service>,
}

impl Cluster {
    /// One manager, and nothing on it.
    pub(super) fn new(at: Nanos) -> Self {
        let node =
            Node { id: NODE_ID.to_owned(), hostname: "fake1".to_owned(), is_manager: true, created: at, version: 9 };
        let world = World { nodes: vec![node], is_leader: true, index: 9, made: 0, events: Vec::new() };
        Self { world, services: Vec::new() }
    }

    /// Lets everything happen that was to happen until now.
    pub(super) fn advance(&mut self, now: Nanos) {
        loop {
            let due = self.services.iter_mut().filter_map(|service| Some((service.due()?, service)));
            match due.min_by_key(|(at, _)| *at) {
                Some((at, service)) if at <= now => service.run(at, &mut self.world),
                _ => return,
            }
        }
    }

    /// The events since the last call.
    pub(super) fn take_events(&mut self) -> Vec<(Nanos, Value)> {
        std::mem::take(&mut self.world.events)
    }

    pub(super) fn add_node(&mut self, id: &str, hostname: &str, at: Nanos) {
        let version = self.world.next_index();
        let (id, hostname) = (id.to_owned(), hostname.to_owned());
        self.world.nodes.push(Node { id, hostname, is_manager: false, created: at, version });
        for service in self.services.iter_mut().filter(|service| service.is_global()) {
            service.reconcile(at, &mut self.world);
        }
    }

    pub(super) fn add_service(&mut self, name: &str, mut spec: Value, behaviour: Behaviour, at: Nanos) -> String {
        spec["Name"] = json!(name);
        let id = format!("fakesvc{:018}", self.world.next_number());
        let mut service = Service {
            id: id.clone(),
            name: name.to_owned(),
            version: self.world.next_index(),
            created: at,
            updated: at,
            spec,
            previous: None,
            update_status: None,
            behaviour,
            slots: Vec::new(),
            rollout: None,
            attempts: Vec::new(),
        };
        let attributes = serde_json::Map::from_iter([("name".to_owned(), json!(name))]);
        service.say("create", attributes, at, &mut self.world);
        service.reconcile(at, &mut self.world);
        self.services.push(service);
        id
    }

    pub(super) fn remove_service(&mut self, id_or_name: &str, at: Nanos) -> bool {
        let Some(number) = self.position(id_or_name) else { return false };
        let service = self.services.remove(number);
        let attributes = serde_json::Map::from_iter([("name".to_owned(), json!(service.name))]);
        service.say("remove", attributes, at, &mut self.world);
        true
    }

    pub(super) fn find(&mut self, id_or_name: &str) -> Option<(&mut Service, &mut World)> {
        let number = self.position(id_or_name)?;
        Some((&mut self.services[number], &mut self.world))
    }

    fn position(&self, id_or_name: &str) -> Option<usize> {
        self.services.iter().position(|service| service.id == id_or_name || service.name == id_or_name)
    }
}
