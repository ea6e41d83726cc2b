//! A Swarm on virtual time, watched by managers of which the one that leads acts and alerts: from observations through
//! detector, responder and situation to writes and alerts, all by the real rooms. Invariants are checked at every write,
//! at every alert and at the end; a failure names its seed.

#[path = "simulated_manager.rs"]
pub mod manager;
#[path = "simulated_receivers.rs"]
pub mod receivers;
#[path = "simulated_swarm.rs"]
pub mod swarm;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use squall::model::{
    Action, Alert, AlertStorm, Author, Decision, Fact, Mode, Observation, Order, Outcome, Refusal, Response, Step,
    SubjectKind, Timestamp,
};
use squall::notify::News;
use squall::respond::{
    IGNORE_LABEL, Look, Mark, Permit, Phase, RESPONSE_LABEL, Responder, Scene, Set, Settings, Verdict, View, Work,
};
use squall::situation::Input;

use manager::Manager;
use receivers::Receivers;
use swarm::{BASE, Extent, Loss, NODES, Random, Service, Shape, Swarm, Trouble, Updated};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// How often services are listed while any changes.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// What the names of the labels of a quarantine begin with.
const LABEL_PREFIX: &str = "squall.quarantine";
/// The longest delay of the back-off, with its jitter.
const DELAY_MAX: Duration = Duration::from_secs(33 * 60);
/// A replica that has run for so long and does not fail is healthy; where attempts fail later, for two of them.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// How large a day is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub services: usize,
    pub length: Duration,
    pub storms: u64,
    pub edits: u64,
    pub upsets: u64,
    /// Whether writes fail, are raced or lose their answer now and then, and troubles end in part first.
    pub mishaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Wake {
        manager: usize,
    },
    /// Of the list of troubles to come.
    Strike {
        trouble: usize,
    },
    Heal {
        service: usize,
        from: Timestamp,
    },
    Edit,
    Unignore {
        service: usize,
    },
    Elect,
    Die,
    /// Another manager leads.
    Lead {
        manager: usize,
    },
    /// A manager's node dies and is there again ten seconds later; another one leads if it did.
    Kill {
        manager: usize,
    },
    /// A manager's squall dies and is started again ten seconds later; Swarm does not mind.
    Crash {
        manager: usize,
    },
    /// Somebody does something to a service.
    Person {
        service: usize,
        deed: Deed,
    },
    Start {
        manager: usize,
    },
    Gap,
    CheckHeld {
        service: usize,
        from: Timestamp,
    },
    CheckBack {
        service: usize,
        healed: Timestamp,
        again: u32,
    },
}

/// What a person does to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Deploys another image.
    Deploy,
    /// Gives it this number of replicas.
    Scale(u64),
    /// `squall release`.
    Release,
    /// `docker service rm`.
    Remove,
}

/// What is known of a service besides what Swarm shows.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Its specification as it would be without squall.
    pub plain: Value,
    /// When somebody changed it last.
    pub edited: Timestamp,
    /// Somebody undid a quarantine of this template: not before.
    pub hands_off: Option<(Timestamp, Timestamp, String)>,
    /// Since when nothing ails it.
    pub well_since: Timestamp,
    /// How long an attempt takes that fails by what ailed it last: one that runs for less may be the next.
    pub attempt: Duration,
    pub story: VecDeque<String>,
}

/// The Swarm and its managers.
pub struct World {
    pub seed: u64,
    pub size: Size,
    pub now: Timestamp,
    pub swarm: Swarm,
    pub managers: Vec<Manager>,
    pub truths: Vec<Truth>,
    pub troubles: Vec<(usize, Trouble, Duration)>,
    pub queue: BinaryHeap<Reverse<(Timestamp, u64, What)>>,
    pub next: u64,
    pub leader: Option<usize>,
    /// The last time that a manager died, was elected or was blind.
    pub upset: Timestamp,
    pub random: Random,
    pub settings: Settings,
    pub counts: BTreeMap<String, u64>,
    pub writes: u64,
    pub hash: u64,
    /// The number of the write at which the manager that makes it dies, and whether that is after it.
    pub fatal: Option<(u64, bool)>,
    permits: u64,
    /// The writes, and the manager that made each.
    pub actions: Vec<(Timestamp, usize, Action)>,
    /// The steps of cases, as the manager that led saw them.
    pub steps: Vec<(Timestamp, Step)>,
    /// What receivers were told, by the node that led.
    pub told: Vec<Alert>,
    /// Receivers that are told it, if there are any.
    pub receivers: Option<Receivers>,
    /// The conversations that are over, and the alert that said so.
    pub over: BTreeMap<String, String>,
}

fn response_label(service: &Service) -> Option<Response> {
    service.label(RESPONSE_LABEL).and_then(Response::from_word)
}

pub fn view_of(service: &Service) -> View {
    View::read(&service.object).expect("a service")
}

/// The mark of a service that is as its mark says.
pub fn mark_of(service: &Service) -> Option<Mark> {
    let mark = view_of(service).mark.ok().flatten()?;
    is_as(service, &mark).then_some(mark)
}

fn is_as(service: &Service, mark: &Mark) -> bool {
    let view = view_of(service);
    match &mark.set {
        Set::Replicas(replicas) => view.mode == Mode::Replicated(*replicas),
        Set::Constraints(set) => set.iter().all(|constraint| view.constraints.contains(constraint)),
    }
}

fn version_of(permit: &Permit) -> u64 {
    match permit.work() {
        Work::Service { version } => version,
        _ => panic!("services only"),
    }
}

impl World {
    pub fn new(seed: u64, size: Size) -> Self {
        let mut world = Self::empty(seed, size);
        world.populate();
        world.watch();
        world.write_script();
        world
    }

    /// A world without services, in which nothing happens by itself.
    pub fn empty(seed: u64, size: Size) -> Self {
        Self {
            seed,
            size,
            now: BASE,
            swarm: Swarm::new(seed),
            managers: Vec::new(),
            truths: Vec::new(),
            troubles: Vec::new(),
            queue: BinaryHeap::new(),
            next: 0,
            leader: Some(0),
            upset: BASE,
            random: Random::new(seed ^ 0x5ca1_ab1e),
            settings: Settings { act: true, ..Settings::default() },
            counts: BTreeMap::new(),
            writes: 0,
            hash: 0,
            fatal: None,
            permits: 0,
            actions: Vec::new(),
            steps: Vec::new(),
            told: Vec::new(),
            receivers: None,
            over: BTreeMap::new(),
        }
    }

    /// Adds a service that has run well for a while.
    pub fn add(&mut self, id: &str, spec: Value, delay: Duration) {
        self.swarm.add(id, &spec, delay);
        self.truths.push(Truth {
            plain: spec,
            edited: Timestamp::from_secs(0),
            hands_off: None,
            well_since: Timestamp::from_secs(0),
            attempt: Duration::ZERO,
            story: VecDeque::new(),
        });
    }

    /// Three managers begin to watch.
    pub fn watch(&mut self) {
        let services = self.swarm.services.len();
        self.managers = (0..3).map(|_| Manager::new(BASE, services, &self.settings)).collect();
        (0..3).for_each(|manager| self.sweep(manager));
    }

    /// Panics with the seed, the moment, and the story of the service.
    #[track_caller]
    pub fn fail(&self, at: usize, what: &str) -> ! {
        let service = &self.swarm.services[at];
        let story = self.truths[at].story.iter().fold(String::new(), |text, line| text + "\n  " + line);
        let tasks = service.tasks.iter().fold(String::new(), |text, task| {
            let ran = self.now.since(task.status_at).as_secs();
            let node = task.node.map_or("-", |node| NODES[node]);
            let (state, desired) = (task.state, task.desired);
            text + &format!("\n  slot {} on {node}: {state:?} for {ran} s, to be {desired:?}", task.slot)
        });
        panic!(
            "SQUALL_SEED={} after {}: {}: {what}\nstory:{story}\ntasks:{tasks}\nspec: {}",
            self.seed,
            self.clock(),
            service.id(),
            service.spec()
        );
    }

    pub fn clock(&self) -> String {
        let millis = self.now.since(BASE).as_millis();
        format!("{:02}:{:02}:{:06.3}", millis / 3_600_000, millis / 60_000 % 60, (millis % 60_000) as f64 / 1000.0)
    }

    fn tell(&mut self, at: usize, text: String) {
        let line = format!("{} {text}", self.clock());
        let story = &mut self.truths[at].story;
        story.push_back(line);
        if story.len() > 40 {
            story.pop_front();
        }
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub fn at(&mut self, when: Timestamp, what: What) {
        self.next += 1;
        self.queue.push(Reverse((when, self.next, what)));
    }

    // What there is, and what will happen to it.

    fn populate(&mut self) {
        for index in 0..self.size.services {
            let random = &mut self.random;
            let stack = format!("stack{}", index % 40);
            let mut labels = json!({});
            if !random.once_in(8) {
                labels["com.docker.stack.namespace"] = json!(stack);
            }
            if random.below(100) < 40 {
                let words = ["backoff", "backoff", "backoff", "scale-to-zero", "pause", "observe"];
                labels[RESPONSE_LABEL] = json!(random.pick(&words));
            }
            let is_global = random.below(100) < 15;
            let mode = match random.below(100) {
                _ if is_global => json!({"Global": {}}),
                0..4 => json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}),
                4..10 => json!({"Replicated": {}}),
                10..25 => json!({"Replicated": {"Replicas": 6 + random.below(8)}}),
                _ => json!({"Replicated": {"Replicas": 1 + random.below(6)}}),
            };
            let mut template = json!({
                "ContainerSpec": {"Image": format!("r{}.example/{stack}/svc{index}:1", index % 3),
                    "Healthcheck": {"Test": ["CMD", "true"]}},
                "ForceUpdate": 0,
            });
            let placement = match random.below(6) {
                0 => Some(json!({})),
                1 => Some(json!({"Constraints": []})),
                2 => Some(json!({"Constraints": ["node.id!=n4"], "Platforms": [{"OS": "linux"}]})),
                3 if is_global => Some(json!({"Constraints": ["node.id!=n1", "node.id!=n2"]})),
                4 => Some(Value::Null),
                _ => None,
            };
            if let Some(placement) = placement {
                template["Placement"] = placement;
            }
            let delay = Duration::from_secs(*random.pick(&[1, 5, 5, 5, 10]));
            template["RestartPolicy"] = json!({"Condition": "any", "Delay": delay.as_secs() * 1_000_000_000});
            let spec = json!({"Name": format!("svc{index}"), "Labels": labels, "TaskTemplate": template, "Mode": mode,
                "EndpointSpec": {"Mode": "vip"}});
            self.add(&format!("svc{index:04}"), spec, delay);
        }
    }

    fn write_script(&mut self) {
        let size = self.size;
        // The last hours are quiet, so that everything can come back.
        let active = size.length.saturating_sub(2 * HOUR + 40 * MINUTE);
        let millis = |span: Duration| u64::try_from(span.as_millis()).expect("a day");
        for _ in 0..size.storms {
            let service = self.random.index(size.services);
            let shape = self.shape();
            let extent = match self.random.below(10) {
                0..2 => Extent::Slots(1 + self.random.below(2)),
                2..4 => Extent::Node(self.random.index(NODES.len())),
                _ => Extent::All,
            };
            let (from, lasts) = (self.random.millis(60_000, millis(active)), self.random.millis(120_000, 9_000_000));
            let is_of_image = self.random.once_in(3);
            self.strike_later(service, shape, extent, from, lasts.min(active.saturating_sub(from)), is_of_image);
        }
        // A registry that is out, for services of several stacks; thirty services at once; the same on one node.
        for kind in 0..3 {
            let (from, lasts) =
                (self.random.millis(600_000, millis(active / 2)), self.random.millis(600_000, 4_000_000));
            let first = self.random.index(size.services);
            for member in 0..30 {
                let service = (first + member * 7) % size.services;
                let shape = match kind {
                    0 => Shape::Rejected("toomanyrequests: You have reached your pull rate limit"),
                    _ => Shape::Rejected("invalid mount config for type \"bind\": bind source path does not exist: /x"),
                };
                let extent = if kind == 2 { Extent::Node(2) } else { Extent::All };
                self.strike_later(service, shape, extent, from, lasts, false);
            }
        }
        for _ in 0..size.edits {
            let after = self.random.millis(60_000, millis(active));
            self.at(BASE.plus(after), What::Edit);
        }
        for index in 0..size.upsets {
            let after = self.random.millis(60_000, millis(active));
            let what = [What::Elect, What::Die, What::Gap][usize::try_from(index % 3).expect("small")];
            self.at(BASE.plus(after), what);
        }
    }

    fn shape(&mut self) -> Shape {
        let random = &mut self.random;
        match random.below(10) {
            0..3 => Shape::Rejected("invalid mount config for type \"bind\": bind source path does not exist: /data"),
            3 => Shape::Rejected("No such image: shop/app:7"),
            4 => Shape::Exits { life: random.millis(500_000, 600_000), code: 1 },
            5 => Shape::Exits { life: random.millis(0, 20_000), code: 0 },
            _ => Shape::Exits { life: random.millis(0, 20_000), code: 1 },
        }
    }

    pub fn strike_later(
        &mut self,
        service: usize,
        shape: Shape,
        extent: Extent,
        after: Duration,
        lasts: Duration,
        is_of_image: bool,
    ) {
        let from = BASE.plus(after);
        self.troubles.push((service, Trouble { shape, extent, from, is_of_image }, lasts));
        let trouble = self.troubles.len() - 1;
        self.at(from, What::Strike { trouble });
    }

    // The loop.

    pub fn run(&mut self) {
        let end = BASE.plus(self.size.length);
        loop {
            let happens = self.swarm.next_due();
            let told = self.queue.peek().map(|entry| entry.0.0);
            let Some(now) = happens.into_iter().chain(told).min().filter(|now| *now < end) else { break };
            self.now = now;
            self.swarm.run_until(now);
            self.spread_news();
            while let Some(Reverse((at, _, what))) = self.queue.peek().copied() {
                if at > now {
                    break;
                }
                self.queue.pop();
                self.happen(what);
                self.spread_news();
            }
        }
        self.now = end;
        self.swarm.run_until(end);
        self.check_end();
    }

    /// What has changed reaches the managers within their next polls.
    fn spread_news(&mut self) {
        let changed = std::mem::take(&mut self.swarm.changed_tasks);
        for manager in 0..self.managers.len() {
            let later = Duration::from_millis(250 + 150 * manager as u64);
            let own = &mut self.managers[manager];
            if !own.is_alive {
                continue;
            }
            own.dirty.extend(&changed);
            if own.is_blind(self.now) {
                continue;
            }
            if !changed.is_empty() {
                self.wake(manager, self.now.plus(later));
            }
            let own = &self.managers[manager];
            if own.listed_version != self.swarm.services_version {
                let at = own.listed_at.plus(LIST_EVERY).max(self.now);
                self.wake(manager, at);
            }
        }
    }

    fn wake(&mut self, manager: usize, at: Timestamp) {
        let own = &mut self.managers[manager];
        if own.is_alive && at < own.wake_at {
            own.wake_at = at;
            self.at(at, What::Wake { manager });
        }
    }

    fn happen(&mut self, what: What) {
        let now = self.now;
        match what {
            What::Wake { manager } => {
                if self.managers[manager].wake_at == now && self.managers[manager].is_alive {
                    self.managers[manager].wake_at = Timestamp::from_nanos(i64::MAX);
                    self.manage(manager);
                }
            }
            What::Strike { trouble } => {
                let (service, trouble, lasts) = self.troubles[trouble];
                if self.swarm.services[service].trouble.is_some() {
                    return;
                }
                self.tell(service, format!("{trouble:?} for {} s", lasts.as_secs()));
                self.truths[service].attempt = match trouble.shape {
                    Shape::Rejected(_) => Duration::ZERO,
                    Shape::Exits { life, .. } => life + Duration::from_secs(11),
                };
                self.swarm.strike(service, trouble);
                self.at(now.plus(lasts), What::Heal { service, from: now });
                let after = if is_slow(trouble) { 100 * MINUTE } else { 15 * MINUTE };
                if lasts > after {
                    self.at(now.plus(after), What::CheckHeld { service, from: now });
                }
            }
            What::Heal { service, from } => self.heal(service, from),
            What::Edit => self.edit(),
            What::Unignore { service } => self.change(service, "is no longer to be ignored", |spec| {
                set_label(spec, IGNORE_LABEL, None);
            }),
            What::Elect => {
                let leader = self.random.index(3);
                self.leader = Some(leader);
                self.upset = now;
                for manager in 0..3 {
                    let later = self.random.millis(0, 1000);
                    self.wake(manager, now.plus(later));
                }
            }
            What::Die => {
                let manager = self.random.index(3);
                self.managers[manager].is_alive = false;
                let later = self.random.millis(1000, 60_000);
                self.upset = now.plus(later);
                self.at(now.plus(later), What::Start { manager });
            }
            What::Lead { manager } => {
                self.leader = Some(manager);
                self.upset = now;
                (0..3).for_each(|other| self.wake(other, now.plus(Duration::from_secs(1))));
            }
            What::Kill { manager } => {
                if self.leader == Some(manager) {
                    self.happen(What::Lead { manager: (manager + 1) % 3 });
                }
                self.happen(What::Crash { manager });
            }
            What::Crash { manager } => {
                self.managers[manager].is_alive = false;
                self.upset = now.plus(Duration::from_secs(10));
                self.at(self.upset, What::Start { manager });
            }
            What::Person { service, deed } => match deed {
                Deed::Deploy => self.deploy(service, "deploys a new image", |file| set_image(file, 2)),
                Deed::Scale(replicas) => self.scale(service, replicas),
                Deed::Release => self.release_by_hand(service),
                Deed::Remove => self.remove(service),
            },
            What::Start { manager } => self.start(manager),
            What::Gap => {
                let manager = self.random.index(3);
                let until = now.plus(self.random.millis(5000, 300_000));
                self.managers[manager].blind_until = Some(until);
                self.upset = self.upset.max(until);
                self.wake(manager, until);
            }
            What::CheckHeld { service, from } => self.check_held(service, from),
            What::CheckBack { service, healed, again } => self.check_back(service, healed, again),
        }
    }

    fn heal(&mut self, at: usize, from: Timestamp) {
        let service = &mut self.swarm.services[at];
        let is_slow = service.trouble.is_some_and(is_slow);
        if service.trouble.is_none_or(|trouble| trouble.from != from) {
            return;
        }
        if let Some(trouble) = service.trouble.filter(|trouble| trouble.extent == Extent::All && !is_slow)
            && self.size.mishaps
            && self.random.once_in(4)
        {
            // First everywhere but on one node.
            let node = self.random.index(NODES.len());
            let trouble = Trouble { extent: Extent::Node(node), from: self.now, ..trouble };
            self.swarm.services[at].trouble = Some(trouble);
            self.tell(at, format!("heals but on {}", NODES[node]));
            let later = self.random.millis(60_000, 2_400_000);
            self.at(self.now.plus(later), What::Heal { service: at, from: self.now });
            return;
        }
        let service = &mut self.swarm.services[at];
        service.trouble = None;
        self.truths[at].well_since = self.now;
        self.tell(at, "heals".to_owned());
        let patience = if is_slow { 45 * MINUTE } else { 8 * MINUTE };
        self.at(self.now.plus(DELAY_MAX + patience), What::CheckBack { service: at, healed: self.now, again: 0 });
    }

    // What people do.

    fn edit(&mut self) {
        let held: Vec<usize> = (0..self.size.services)
            .filter(|at| {
                let service = &self.swarm.services[*at];
                service.trouble.is_some() || service.label(LABEL_PREFIX).is_some()
            })
            .collect();
        let is_near = !held.is_empty() && self.random.below(100) < 80;
        let at = if is_near { *self.random.pick(&held) } else { self.random.index(self.size.services) };
        let version = self.next;
        match self.random.below(12) {
            0..3 => {
                let tag = version;
                self.deploy(at, "deploys a new image", move |file| set_image(file, tag));
            }
            3 => self.deploy(at, "deploys the same again", |_| {}),
            4 => self.change(at, "updates the image", |spec| set_image(spec, version)),
            5 => self.change(at, "forces an update", |spec| spec["TaskTemplate"]["ForceUpdate"] = json!(version)),
            6..8 => {
                let now = self.swarm.services[at].replicas().unwrap_or(0);
                let replicas = 1 + (now + self.random.below(5)) % 6;
                // Where squall has let go, its labels still say what it had set: to set that again would be ambiguous.
                let is_stale = self.swarm.services[at].label(LABEL_PREFIX).is_some_and(|_| {
                    let mark = view_of(&self.swarm.services[at]).mark.ok().flatten();
                    mark.is_some_and(|mark| mark.set == Set::Replicas(replicas))
                });
                if replicas != now && !is_stale && self.swarm.services[at].spec()["Mode"].get("Replicated").is_some() {
                    self.scale(at, replicas);
                }
            }
            8 => self.release_by_hand(at),
            9 => {
                self.change(at, "wants it ignored", |spec| set_label(spec, IGNORE_LABEL, Some("true")));
                let later = self.random.millis(60_000, 3_600_000);
                self.at(self.now.plus(later), What::Unignore { service: at });
            }
            10 => {
                let words = [None, Some("backoff"), Some("scale-to-zero"), Some("pause"), Some("observe")];
                let word = *self.random.pick(&words);
                // What is held stays so: its labels say by what.
                if self.swarm.services[at].label(LABEL_PREFIX).is_none() {
                    self.change(at, "names a response", |spec| set_label(spec, RESPONSE_LABEL, word));
                }
            }
            _ => self.quarantine_by_hand(at),
        }
    }

    /// `docker stack deploy`: all is as the file says, and squall's labels are in no file.
    pub fn deploy(&mut self, at: usize, what: &str, change: impl FnOnce(&mut Value)) {
        change(&mut self.truths[at].plain);
        let plain = self.truths[at].plain.clone();
        self.put(at, what, plain);
    }

    /// `docker service update`: one field is another, what squall has set stays.
    pub fn change(&mut self, at: usize, what: &str, change: impl Fn(&mut Value)) {
        change(&mut self.truths[at].plain);
        let mut spec = self.swarm.services[at].spec().clone();
        change(&mut spec);
        self.put(at, what, spec);
    }

    fn put(&mut self, at: usize, what: &str, spec: Value) {
        let held = mark_of(&self.swarm.services[at]);
        let had_trouble = self.swarm.services[at].trouble.is_some();
        let version = self.swarm.services[at].version();
        self.swarm.now = self.now;
        let updated = self.swarm.update(at, version, spec);
        assert!(matches!(updated, Updated::Done(_)), "nobody was in between");
        self.tell(at, format!("somebody {what}"));
        self.count("edits");
        self.truths[at].edited = self.now;
        if had_trouble && self.swarm.services[at].trouble.is_none() {
            self.truths[at].well_since = self.now;
        }
        if held.is_some() && mark_of(&self.swarm.services[at]).is_none() {
            let template = view_of(&self.swarm.services[at]).template;
            let until = self.now.plus(self.settings.cool_down);
            self.truths[at].hands_off = Some((self.now, until, template));
            self.count("edits of what was held");
        }
        self.check_restores(at);
    }

    fn scale(&mut self, at: usize, replicas: u64) {
        self.change(at, "scales", |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(replicas));
    }

    fn remove(&mut self, at: usize) {
        self.swarm.now = self.now;
        self.swarm.remove(at);
        self.tell(at, "somebody removes it".to_owned());
        let service = &self.swarm.services[at];
        let (service_id, service_name) = (service.id().into(), (&*service.fact.name).into());
        let fact = Fact::Order { service_id, service_name, order: Order::Remove };
        let observation = Observation { at: self.now, origin: 0, fact };
        for own in self.managers.iter_mut().filter(|own| own.is_alive && !own.is_blind(self.now)) {
            own.detector.take(&observation);
        }
    }

    pub fn release_by_hand(&mut self, at: usize) {
        let service = &self.swarm.services[at];
        let Ok(permit) = Responder::release_by_hand(self.now, Look { service: &service.object, tasks: &[] }) else {
            return;
        };
        let mut spec = service.spec().clone();
        permit.apply(&mut spec).expect("it can be undone");
        self.put(at, "releases it", spec);
    }

    fn quarantine_by_hand(&mut self, at: usize) {
        let service = &self.swarm.services[at];
        let tasks = service.task_facts();
        let look = Look { service: &service.object, tasks: &tasks };
        let scene = Scene { nodes: NODES.map(str::to_owned).to_vec(), ..Scene::default() };
        let response = *self.random.pick(&[Response::Backoff, Response::Pause]);
        let permit = Responder::quarantine_by_hand(&self.settings, self.now, look, &scene, response);
        let Ok(permit) = permit else { return };
        let mut spec = service.spec().clone();
        permit.apply(&mut spec).expect("it can be held");
        self.put(at, &format!("holds it by {response}"), spec);
    }

    // A manager's daemon.

    /// Begins again with what its journal has.
    fn start(&mut self, manager: usize) {
        if self.managers[manager].is_alive {
            return;
        }
        self.managers[manager] = self.managers[manager].restarted(self.now, &self.settings);
        self.count("restarts");
        self.sweep(manager);
        self.settle(manager);
        self.wake(manager, self.now);
    }

    /// Finds out how the decision ended whose settlement is not in its journal.
    fn settle(&mut self, manager: usize) {
        let own = &mut self.managers[manager];
        let Some(decision) = own.unsettled.take() else { return };
        let service = &self.swarm.services[self.swarm.find(&decision.subject.id)];
        let view = (!service.is_gone).then(|| view_of(service));
        let outcome = Responder::outcome_of(&decision, view.as_ref());
        own.responder.found(self.now, &decision, outcome);
        if outcome == Outcome::Done {
            own.done.push(decision);
        }
    }

    /// Lists everything, and judges by the history of slots what began before.
    pub fn sweep(&mut self, manager: usize) {
        self.list(manager);
        let own = &mut self.managers[manager];
        for (at, service) in self.swarm.services.iter().enumerate() {
            own.feed(at, service);
        }
        own.dirty.clear();
        own.detector.advance(self.now);
        own.detector.judge_history(self.now);
        own.detector.restate();
        own.desk.hear(self.now, News::Listed);
    }

    fn list(&mut self, manager: usize) {
        let own = &mut self.managers[manager];
        let (now, known) = (self.now, own.listed_version);
        own.responder.begin_listing();
        own.detector.begin_listing(now);
        let is_first = known == u64::MAX;
        for service in self.swarm.services.iter().filter(|service| !service.is_gone) {
            own.responder.see(now, &service.fact);
            if is_first || service.fact.updated >= own.listed_at {
                let fact = Fact::Service(Box::new(service.fact.clone()));
                own.detector.take(&Observation { at: now, origin: 0, fact });
            } else {
                own.detector.keep_listed(service.id());
            }
        }
        own.responder.end_listing(now);
        own.detector.end_listing();
        own.listed_version = self.swarm.services_version;
        own.listed_at = now;
    }

    fn manage(&mut self, manager: usize) {
        let now = self.now;
        if self.managers[manager].is_blind(now) {
            let until = self.managers[manager].blind_until.unwrap_or(now);
            self.wake(manager, until);
            return;
        }
        let own = &mut self.managers[manager];
        let was_blind = own.blind_until.take().is_some();
        if was_blind {
            own.gap_end = Some(now);
            own.detector.blind(now);
        }
        for at in std::mem::take(&mut own.dirty) {
            own.feed(at, &self.swarm.services[at]);
        }
        let is_stale = own.listed_version != self.swarm.services_version;
        if was_blind || (is_stale && own.listed_at.plus(LIST_EVERY) <= now) {
            self.list(manager);
        }
        let own = &mut self.managers[manager];
        own.responder.lead(now, self.leader == Some(manager));
        let mut looks = 0;
        loop {
            let own = &mut self.managers[manager];
            own.detector.advance(now);
            let notices: Vec<_> = own.detector.drain().collect();
            own.see(now, notices);
            let due = own.responder.due(now);
            if due.is_empty() {
                break;
            }
            for id in due {
                let at = self.swarm.find(&id);
                looks += 1;
                if looks > 2000 {
                    self.fail(at, "is looked at without end");
                }
                self.look(manager, at);
                if !self.managers[manager].is_alive {
                    return;
                }
            }
        }
        let own = &mut self.managers[manager];
        own.desk.hear(now, News::Leads(self.leader == Some(manager)));
        let (alerts, steps) = own.tell(now);
        if self.leader == Some(manager) {
            self.steps.extend(steps.iter().map(|one| (one.at, one.step)));
        }
        for alert in alerts {
            if let Some(receivers) = &mut self.receivers {
                receivers.post(now, &alert);
            }
            self.check_alert(alert);
        }
        let own = &mut self.managers[manager];
        let refresh = self.receivers.as_mut().and_then(|receivers| own.refresh(now, receivers));
        let deadlines = [
            own.responder.next_deadline(),
            own.detector.next_deadline(),
            own.situation.next_deadline(),
            own.desk.next_deadline(),
            refresh,
        ];
        let next = deadlines.into_iter().flatten().min();
        if let Some(next) = next {
            self.wake(manager, next.max(now.plus(Duration::from_millis(50))));
        }
    }

    fn look(&mut self, manager: usize, at: usize) {
        let now = self.now;
        *self.counts.entry("looks".to_owned()).or_default() += 1;
        let own = &mut self.managers[manager];
        let service = &self.swarm.services[at];
        if service.is_gone {
            own.responder.forget(service.id());
            return;
        }
        own.feed(at, service);
        own.detector.advance(now);
        let kind = SubjectKind::SwarmService;
        let since = own.gap_end.unwrap_or(Timestamp::from_secs(0));
        let scene = Scene {
            leads: self.leader == Some(manager),
            is_blind: false,
            gap_end: own.gap_end,
            failures_since_gap: own.detector.failures_since(kind, service.id(), since),
            failures_since_hold: own
                .responder
                .answered(kind, service.id())
                .map(|since| own.detector.failures_since(kind, service.id(), since)),
            storm: own.detector.storm(kind, service.id()),
            nodes: NODES.map(str::to_owned).to_vec(),
            ..Scene::default()
        };
        let tasks = service.task_facts();
        let verdict = own.responder.decide(now, Look { service: &service.object, tasks: &tasks }, &scene);
        match verdict {
            Verdict::Permitted(permit) => self.act(manager, at, &permit),
            Verdict::LetGo(let_go) => {
                if manager == 0 {
                    self.tell(at, format!("is let go: {}", let_go.why));
                }
                self.managers[manager].let_goes.push(let_go);
                self.count("let go");
            }
            Verdict::Refused { decision, is_news } => {
                if decision.refusal == Some(Refusal::ActionBudget) {
                    self.managers[manager].refused_for_budget = now;
                }
                if let Decision { subject, refusal: Some(refusal), response, .. } = decision.clone()
                    && is_news
                {
                    self.managers[manager].put(now, Input::Refused { subject, refusal, response });
                }
                if is_news && self.leader == Some(manager) {
                    let reason = decision.refusal.map_or("", |refusal| refusal.as_str());
                    self.tell(at, format!("{} is refused: {reason}", decision.action));
                    self.count(format!("refused {reason}"));
                }
            }
            _ => {}
        }
    }

    fn act(&mut self, manager: usize, at: usize, permit: &Permit) {
        let now = self.now;
        let decision = permit.decision().clone();
        match self.random.below(100) {
            _ if !self.size.mishaps => {}
            0..3 => {
                // Somebody is faster.
                let what = self.random.below(1000);
                self.change(at, "is faster", move |spec| spec["Labels"]["note"] = json!(what.to_string()));
            }
            3 => {
                self.managers[manager].responder.settle(now, permit, Outcome::Failed);
                self.count("failed");
                self.tell(at, format!("{} fails", decision.action));
                return;
            }
            _ => {}
        }
        self.check_permit(manager, at, permit);
        self.permits += 1;
        let fatal = self.fatal.filter(|(permit, _)| *permit == self.permits);
        if fatal.is_some() {
            self.managers[manager].unsettled = Some(decision.clone());
            self.happen(What::Crash { manager });
            if fatal.is_some_and(|(_, is_after)| !is_after) {
                return;
            }
        }
        let mut spec = self.swarm.services[at].spec().clone();
        permit.apply(&mut spec).expect("it can be applied");
        self.swarm.now = now;
        let lost = match self.swarm.update(at, version_of(permit), spec) {
            Updated::Done(lost) => lost,
            Updated::OutOfSequence => {
                self.managers[manager].responder.settle(now, permit, Outcome::Raced);
                self.count("raced");
                return;
            }
        };
        self.writes += 1;
        self.actions.push((now, manager, decision.action));
        let set = permit.mark().map(|mark| format!("{:?}", mark.set)).unwrap_or_default();
        self.tell(at, format!("manager {manager}: {} by {} {set}", decision.action, decision.response));
        self.count(decision.action.as_str());
        let text = format!("{} {} {} {}", now, decision.id, decision.action, self.swarm.services[at].spec());
        self.hash = squall::model::fnv_64([&self.hash.to_be_bytes()[..], text.as_bytes()]);
        self.check_write(manager, at, &decision, &lost);
        let seen = Responder::outcome_of(&decision, Some(&view_of(&self.swarm.services[at])));
        if seen != Outcome::Done {
            self.fail(at, &format!("{} was done, and is said to be {seen}", decision.action));
        }
        if fatal.is_some() {
            return;
        }
        let is_lost = self.random.once_in(40) && self.size.mishaps;
        let outcome = if is_lost { Outcome::Failed } else { Outcome::Done };
        if is_lost {
            self.count("lost answers");
            self.tell(at, "the answer is lost".to_owned());
        }
        let own = &mut self.managers[manager];
        own.responder.settle(now, permit, outcome);
        own.done.push(decision);
    }

    // What must hold.

    fn check_permit(&mut self, manager: usize, at: usize, permit: &Permit) {
        let service = &self.swarm.services[at];
        if version_of(permit) != service.version() {
            return;
        }
        let decision = permit.decision();
        let action = decision.action;
        if self.leader != Some(manager) {
            self.fail(at, &format!("{action} by manager {manager}, which does not lead"));
        }
        if service.label(IGNORE_LABEL) == Some("true") {
            self.fail(at, &format!("{action} of what is to be ignored"));
        }
        if matches!(view_of(service).mode, Mode::Job | Mode::Other) {
            self.fail(at, &format!("{action} of a job"));
        }
        // What squall itself does by a constraint is rolled out too: that is of the same template.
        let view = view_of(service);
        let is_own = matches!(&view.mark, Ok(Some(mark)) if mark.template == view.template);
        if service.is_rolling() && !is_own {
            self.fail(at, &format!("{action} while somebody's deployment rolls out"));
        }
        let is_first = mark_of(service).is_none();
        if !is_first {
            return;
        }
        if response_label(service).is_none_or(|response| response == Response::Observe) {
            self.fail(at, &format!("{action} of what is not opted in"));
        }
        if let Some((edited, until, template)) = &self.truths[at].hands_off {
            let knew = self.managers[manager].born <= *edited;
            if knew && self.now < *until && *template == view_of(service).template {
                self.fail(at, &format!("{action} within the cool-down of what somebody undid"));
            }
        }
    }

    fn check_write(&mut self, manager: usize, at: usize, decision: &Decision, lost: &[Loss]) {
        let action = decision.action;
        assert_eq!(decision.by, Author::Breaker);
        if !self.managers[manager].spend(self.now, at, action) {
            self.fail(at, &format!("{action} beyond the budget of manager {manager}"));
        }
        let healthy_after = HEALTHY_AFTER.max(self.truths[at].attempt * 2);
        if let Some(loss) = lost.iter().find(|loss| loss.ran >= healthy_after && !loss.fails) {
            self.fail(at, &format!("{action} takes a healthy replica away: {loss:?}"));
        }
        self.check_restores(at);
    }

    /// Without squall's labels it is as it would be without squall; with them a release makes it so.
    fn check_restores(&self, at: usize) {
        let service = &self.swarm.services[at];
        let mut spec = service.spec().clone();
        if service.label(LABEL_PREFIX).is_some() {
            let permit = Responder::release_by_hand(self.now, Look { service: &service.object, tasks: &[] });
            match permit {
                Ok(permit) => permit.apply(&mut spec).expect("it can be undone"),
                Err(refusal) => self.fail(at, &format!("cannot be released: {refusal}")),
            }
        }
        let plain = &self.truths[at].plain;
        let (restored, before) = (spec.to_string(), plain.to_string());
        if restored != before {
            self.fail(at, &format!("would not be restored\n  to   {before}\n  but  {restored}"));
        }
    }

    /// No message says that a service is over while squall holds it, and a conversation is over once.
    fn check_alert(&mut self, alert: Alert) {
        if let Some(said) = self.over.get(&alert.conversation).filter(|said| **said != alert.id) {
            panic!("SQUALL_SEED={} after {}: {:?} after it was over by {said}", self.seed, self.clock(), alert.title);
        }
        let is_over = |storm: &&AlertStorm| alert.ends || storm.ended.is_some();
        let over = alert.storms.iter().filter(is_over);
        let over: Vec<usize> = over.map(|storm| self.swarm.find(&storm.subject.id)).collect();
        for at in over {
            let service = &self.swarm.services[at];
            if !service.is_gone && mark_of(service).is_some() {
                self.fail(at, &format!("is told as over, and is held: {}", alert.title));
            }
        }
        if alert.ends {
            self.over.insert(alert.conversation.clone(), alert.id.clone());
            self.count("conversations that ended");
        }
        self.told.push(alert);
    }

    /// Whether nothing has come in between that would put squall off.
    fn is_undisturbed(&self, since: Timestamp) -> bool {
        let refused = self.managers.iter().map(|manager| manager.refused_for_budget).max();
        self.upset < since && refused.is_none_or(|refused| refused < since)
    }

    /// A storm of an opted-in service that has lasted is held.
    fn check_held(&mut self, at: usize, from: Timestamp) {
        let service = &self.swarm.services[at];
        let trouble = service.trouble.filter(|trouble| trouble.from == from && !service.is_gone);
        let Some(trouble) = trouble else { return };
        let is_asked = response_label(service).is_some_and(|response| response != Response::Observe);
        let is_whole =
            trouble.extent == Extent::All && matches!(view_of(service).mode, Mode::Replicated(_) | Mode::Global);
        let is_quiet =
            self.truths[at].edited < from.minus(5 * MINUTE) && self.is_undisturbed(self.now.minus(5 * MINUTE));
        if !is_asked || !is_whole || !is_quiet || service.label(IGNORE_LABEL) == Some("true") {
            return;
        }
        self.count("checked that it is held");
        if mark_of(&self.swarm.services[at]).is_none() {
            self.fail(at, "storms, and nothing is done about it");
        }
    }

    /// What was on back-off and has healed is back.
    fn check_back(&mut self, at: usize, healed: Timestamp, again: u32) {
        let service = &self.swarm.services[at];
        if service.is_gone
            || service.trouble.is_some()
            || self.truths[at].well_since != healed
            || self.truths[at].edited >= healed
        {
            return;
        }
        let Some(mark) = mark_of(service).filter(|mark| mark.response == Response::Backoff) else {
            self.count("checked that it is back");
            return;
        };
        if service.label(IGNORE_LABEL) == Some("true") {
            return;
        }
        if !self.is_undisturbed(healed) && again < 6 {
            self.upset = self.upset.min(self.now);
            let what = What::CheckBack { service: at, healed, again: again + 1 };
            self.at(self.now.plus(20 * MINUTE), what);
            self.count("checked later that it is back");
            return;
        }
        self.fail(at, &format!("has healed {} s ago, and is not back: {mark:?}", self.now.since(healed).as_secs()));
    }

    fn check_end(&mut self) {
        let patience = DELAY_MAX + HOUR;
        for at in 0..self.size.services {
            self.check_restores(at);
            let service = &self.swarm.services[at];
            let truth = &self.truths[at];
            let Some(mark) = mark_of(service).filter(|mark| mark.response == Response::Backoff) else { continue };
            let is_well = !service.is_gone
                && service.trouble.is_none()
                && self.now.since(truth.well_since.max(truth.edited)) > patience;
            if is_well && service.label(IGNORE_LABEL) != Some("true") {
                self.fail(at, &format!("is well and still held at the end: {mark:?}"));
            }
            if mark.phase != Phase::Held {
                self.count("on the way back at the end");
            }
        }
        let dropped: u64 = self.managers.iter().map(|manager| manager.detector.counters().notices_dropped).sum();
        assert_eq!(dropped, 0, "SQUALL_SEED={}", self.seed);
    }
}

fn is_slow(trouble: Trouble) -> bool {
    matches!(trouble.shape, Shape::Exits { life, .. } if life > MINUTE)
}

fn set_image(spec: &mut Value, tag: u64) {
    let image = &mut spec["TaskTemplate"]["ContainerSpec"]["Image"];
    let name = image.as_str().and_then(|text| text.rsplit_once(':')).map_or("", |parts| parts.0).to_owned();
    *image = json!(format!("{name}:{tag}"));
}

fn set_label(spec: &mut Value, name: &str, value: Option<&str>) {
    let labels = spec["Labels"].as_object_mut().expect("labels");
    match value {
        Some(value) => labels.insert(name.to_owned(), json!(value)),
        None => labels.remove(name),
    };
}
