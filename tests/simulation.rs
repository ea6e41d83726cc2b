//! A day of a Swarm of a thousand services on virtual time, watched by three managers, of which the one that leads acts
//! and alerts: from observations through detector, responder and situation to writes and alerts, all by the real rooms.
//! Invariants are checked at every write, at every alert and at the end.
//!
//! One seed is one day. `SQUALL_SEED=7 cargo test --test simulation` runs that one; a failure names its seed.

#[path = "support/simulated_swarm.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test binary has no public face")]
mod simulated_swarm;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};
use simulated_swarm::{BASE, Extent, Loss, NODES, Random, Service, Shape, Swarm, Trouble, Updated};
use squall::detect::Detector;
use squall::model::{
    Action, Alert, AlertKind, Author, Decision, Fact, HoldChange, HoldEnd, Labels, LetGo, Mode, Notice, Observation,
    Outcome, Refusal, Response, SubjectKind, Timestamp,
};
use squall::notify::{Desk, Heard, Memory, News};
use squall::respond::{
    IGNORE_LABEL, Look, Mark, Permit, Phase, RESPONSE_LABEL, Responder, Scene, Set, Settings, Verdict, View, Work,
};
use squall::situation::{Input, Situation};

/// The days that are run where no other is asked for.
const SEEDS: [u64; 3] = [1, 2, 3];
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// How often services are listed while any changes.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// How often the figures of what storms reach the desk.
const FIGURES_EVERY: Duration = Duration::from_secs(30);
/// How long after its end an attempt is judged, as the daemon has it.
const SLACK: Duration = Duration::from_millis(300);
/// What the names of the labels of a quarantine begin with.
const LABEL_PREFIX: &str = "squall.quarantine";
/// The longest delay of the back-off, with its jitter.
const DELAY_MAX: Duration = Duration::from_secs(33 * 60);
/// A replica that has run for so long and does not fail is healthy; where attempts fail later, for two of them.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// How large a day is.
#[derive(Clone, Copy, Debug)]
struct Size {
    services: usize,
    length: Duration,
    storms: u64,
    edits: u64,
    upsets: u64,
}

const DAY: Size = Size { services: 1000, length: Duration::from_secs(24 * 3600), storms: 170, edits: 260, upsets: 50 };
const MORNING: Size = Size { services: 150, length: Duration::from_secs(6 * 3600), storms: 40, edits: 60, upsets: 15 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
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
    /// A manager dies and is there again ten seconds later; another one leads if it did.
    Kill {
        manager: usize,
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

/// A manager's squall.
struct Manager {
    detector: Detector,
    responder: Responder,
    situation: Situation,
    desk: Desk,
    figures_at: Timestamp,
    is_alive: bool,
    born: Timestamp,
    blind_until: Option<Timestamp>,
    gap_end: Option<Timestamp>,
    /// The highest task version seen, by service.
    seen: Vec<u64>,
    /// Services with tasks that have changed.
    dirty: BTreeSet<usize>,
    listed_version: u64,
    listed_at: Timestamp,
    wake_at: Timestamp,
    /// What its journal has.
    done: Vec<Decision>,
    let_goes: Vec<LetGo>,
    /// The most that its budget can have left, in actions.
    tokens: f64,
    tokens_at: Timestamp,
    /// Services with a watched attempt whose end it has paid for.
    prepaid: BTreeSet<usize>,
    refused_for_budget: Timestamp,
}

/// What is known of a service besides what Swarm shows.
#[derive(Clone, Debug)]
struct Truth {
    /// Its specification as it would be without squall.
    plain: Value,
    /// When somebody changed it last.
    edited: Timestamp,
    /// Somebody undid a quarantine of this template: not before.
    hands_off: Option<(Timestamp, Timestamp, String)>,
    /// Since when nothing ails it.
    well_since: Timestamp,
    /// How long an attempt takes that fails by what ailed it last: one that runs for less may be the next.
    attempt: Duration,
    story: VecDeque<String>,
}

struct World {
    seed: u64,
    size: Size,
    now: Timestamp,
    swarm: Swarm,
    managers: Vec<Manager>,
    truths: Vec<Truth>,
    troubles: Vec<(usize, Trouble, Duration)>,
    queue: BinaryHeap<Reverse<(Timestamp, u64, What)>>,
    next: u64,
    leader: Option<usize>,
    /// The last time that a manager died, was elected or was blind.
    upset: Timestamp,
    random: Random,
    settings: Settings,
    counts: BTreeMap<String, u64>,
    writes: u64,
    hash: u64,
    /// What receivers were told, by the node that led.
    told: Vec<Alert>,
    /// The conversations that are over, and the alert that said so.
    over: BTreeMap<String, String>,
}

impl Manager {
    fn new(now: Timestamp, services: usize, settings: &Settings) -> Self {
        let detector = squall::detect::Settings { slack: SLACK, ..squall::detect::Settings::default() };
        Self {
            situation: Situation::new(detector.hold_down_min),
            desk: Desk::new(squall::notify::Settings::default(), now, Memory::default()),
            figures_at: now,
            detector: Detector::new(detector),
            responder: Responder::new(settings.clone()),
            is_alive: true,
            born: now,
            blind_until: None,
            gap_end: None,
            seen: vec![0; services],
            dirty: (0..services).collect(),
            listed_version: u64::MAX,
            listed_at: Timestamp::from_secs(0),
            wake_at: Timestamp::from_nanos(i64::MAX),
            done: Vec::new(),
            let_goes: Vec::new(),
            tokens: 60.0,
            tokens_at: now,
            prepaid: BTreeSet::new(),
            refused_for_budget: Timestamp::from_secs(0),
        }
    }

    /// Hands what has changed of a service's tasks to the detector.
    fn feed(&mut self, at: usize, service: &Service) {
        let seen = self.seen[at];
        for task in service.tasks.iter().filter(|task| task.version > seen) {
            let fact = Fact::Task(Box::new(service.task_fact(task)));
            self.detector.take(&Observation { at: task.status_at, origin: 0, fact });
            self.seen[at] = self.seen[at].max(task.version);
        }
    }

    /// Takes what the detector and the responder have found into the situation, as the daemon does.
    fn see(&mut self, now: Timestamp, notices: Vec<Notice>) {
        let none = Labels::new();
        for notice in notices {
            self.responder.take(now, &notice);
            match notice {
                Notice::Onset(storm) | Notice::CauseChanged { storm, .. } | Notice::Moved { storm, .. } => {
                    self.situation.take(now, Input::Storm(storm), &none);
                }
                Notice::Subsided(storm) => self.situation.take(now, Input::Calm(storm), &none),
                Notice::Found(_) => {}
            }
        }
        for change in self.responder.drain_changes() {
            let let_go = match &change {
                HoldChange::Ended(subject, HoldEnd::LetGo(_)) => Some(subject.clone()),
                _ => None,
            };
            self.situation.take(now, Input::Hold(change), &none);
            if let Some(storm) = let_go.and_then(|subject| self.detector.storm(subject.kind, &subject.id)) {
                self.situation.take(now, Input::Storm(storm.into()), &none);
            }
        }
        self.situation.advance(now);
    }

    /// What the desk makes of it.
    fn tell(&mut self, now: Timestamp) -> Vec<Alert> {
        let heard = self.situation.drain().map(|one| Heard { case: one.case, steps: BTreeSet::from([one.step]) });
        let mut heard: Vec<Heard> = heard.collect();
        if self.figures_at <= now {
            self.figures_at = now.plus(FIGURES_EVERY);
            let fresh = self.detector.ongoing().filter_map(|storm| self.situation.refresh(storm, None));
            heard.extend(fresh.map(|case| Heard { case, steps: BTreeSet::new() }));
        }
        if !heard.is_empty() {
            self.desk.hear(now, News::Cases(heard));
        }
        self.desk.tell(now)
    }

    fn is_blind(&self, now: Timestamp) -> bool {
        self.blind_until.is_some_and(|until| now < until)
    }

    /// Spends what an action costs; whether there can have been so much.
    fn spend(&mut self, now: Timestamp, at: usize, action: Action) -> bool {
        let cost = match action {
            // With its end.
            Action::Probe if self.prepaid.contains(&at) => 0.0,
            Action::Probe => 2.0,
            Action::Raise => 1.0,
            Action::Quarantine | Action::Release => f64::from(u8::from(!self.prepaid.remove(&at))),
        };
        if action == Action::Probe {
            self.prepaid.insert(at);
        }
        self.tokens = (self.tokens + now.since(self.tokens_at).as_secs_f64() / 60.0).min(60.0) - cost;
        self.tokens_at = now;
        self.tokens > -1e-6
    }
}

fn response_label(service: &Service) -> Option<Response> {
    service.label(RESPONSE_LABEL).and_then(Response::from_word)
}

fn view_of(service: &Service) -> View {
    View::read(&service.object).expect("a service")
}

/// The mark of a service that is as its mark says.
fn mark_of(service: &Service) -> Option<Mark> {
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
    fn new(seed: u64, size: Size) -> Self {
        let settings = Settings { act: true, ..Settings::default() };
        let mut world = Self {
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
            settings,
            counts: BTreeMap::new(),
            writes: 0,
            hash: 0,
            told: Vec::new(),
            over: BTreeMap::new(),
        };
        world.populate();
        world.write_script();
        world
    }

    /// Panics with the seed, the moment, and the story of the service.
    #[track_caller]
    fn fail(&self, at: usize, what: &str) -> ! {
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

    fn clock(&self) -> String {
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

    fn at(&mut self, when: Timestamp, what: What) {
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
            self.swarm.add(&format!("svc{index:04}"), &spec, delay);
            self.truths.push(Truth {
                plain: spec,
                edited: Timestamp::from_secs(0),
                hands_off: None,
                well_since: Timestamp::from_secs(0),
                attempt: Duration::ZERO,
                story: VecDeque::new(),
            });
        }
        let services = self.size.services;
        self.managers = (0..3).map(|_| Manager::new(BASE, services, &self.settings)).collect();
        for manager in 0..3 {
            self.sweep(manager);
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

    fn strike_later(
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

    fn run(&mut self) {
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
            What::Kill { manager } => {
                self.managers[manager].is_alive = false;
                if self.leader == Some(manager) {
                    self.leader = Some((manager + 1) % 3);
                    (0..3).for_each(|other| self.wake(other, now.plus(Duration::from_secs(1))));
                }
                self.upset = now.plus(Duration::from_secs(10));
                self.at(self.upset, What::Start { manager });
            }
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
                    self.change(at, "scales", |spec| spec["Mode"]["Replicated"]["Replicas"] = json!(replicas));
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
    fn deploy(&mut self, at: usize, what: &str, change: impl FnOnce(&mut Value)) {
        change(&mut self.truths[at].plain);
        let plain = self.truths[at].plain.clone();
        self.put(at, what, plain);
    }

    /// `docker service update`: one field is another, what squall has set stays.
    fn change(&mut self, at: usize, what: &str, change: impl Fn(&mut Value)) {
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

    fn release_by_hand(&mut self, at: usize) {
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
        let mut new = Manager::new(self.now, self.size.services, &self.settings);
        std::mem::swap(&mut new, &mut self.managers[manager]);
        let own = &mut self.managers[manager];
        (own.done, own.let_goes) = (new.done, new.let_goes);
        own.desk = Desk::new(squall::notify::Settings::default(), self.now, new.desk.memory());
        let since = self.now.minus(HOUR);
        let done: Vec<Decision> = own.done.iter().filter(|decision| decision.at >= since).cloned().collect();
        let let_goes: Vec<LetGo> = own.let_goes.iter().filter(|let_go| let_go.at >= since).cloned().collect();
        own.responder.remember(self.now, &done, &let_goes);
        self.count("restarts");
        self.sweep(manager);
        self.wake(manager, self.now);
    }

    /// Lists everything, and judges by the history of slots what began before.
    fn sweep(&mut self, manager: usize) {
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
        for service in &self.swarm.services {
            own.responder.see(now, &service.fact);
        }
        own.responder.end_listing(now);
        let is_first = known == u64::MAX;
        for service in self.swarm.services.iter().filter(|service| is_first || service.fact.updated >= own.listed_at) {
            let fact = Fact::Service(Box::new(service.fact.clone()));
            own.detector.take(&Observation { at: now, origin: 0, fact });
        }
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
            }
        }
        let own = &mut self.managers[manager];
        own.desk.hear(now, News::Leads(self.leader == Some(manager)));
        let alerts = own.tell(now);
        alerts.into_iter().for_each(|alert| self.check_alert(alert));
        let own = &self.managers[manager];
        let deadlines = [
            own.responder.next_deadline(),
            own.detector.next_deadline(),
            own.situation.next_deadline(),
            own.desk.next_deadline(),
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
        let is_lost = self.random.once_in(40);
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
        let over = alert.storms.iter().filter(|_| alert.kind == AlertKind::Subsided);
        let over: Vec<usize> = over.map(|storm| self.swarm.find(&storm.subject.id)).collect();
        for at in over {
            if mark_of(&self.swarm.services[at]).is_some() {
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
        let Some(trouble) = service.trouble.filter(|trouble| trouble.from == from) else { return };
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
        if service.trouble.is_some() || self.truths[at].well_since != healed || self.truths[at].edited >= healed {
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
            let is_well = service.trouble.is_none() && self.now.since(truth.well_since.max(truth.edited)) > patience;
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

fn run(seed: u64, size: Size) -> World {
    let mut world = World::new(seed, size);
    world.run();
    eprintln!("SQUALL_SEED={seed}: {} writes, hash {:016x}, {:?}", world.writes, world.hash, world.counts);
    world
}

#[test]
fn a_day_of_a_thousand_services() {
    let asked = std::env::var("SQUALL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = asked.map_or_else(|| SEEDS.to_vec(), |seed| vec![seed]);
    for seed in seeds {
        let world = run(seed, DAY);
        // A day in which nothing was to be checked proves nothing.
        let whats = ["quarantine", "probe", "raise", "release", "let go", "raced", "lost answers", "restarts"];
        for what in whats.into_iter().chain(["conversations that ended"]) {
            assert!(world.counts.get(what).is_some_and(|count| *count > 0), "SQUALL_SEED={seed}: no {what}");
        }
        for what in ["checked that it is held", "checked that it is back"] {
            assert!(world.counts.get(what).is_some_and(|count| *count >= 5), "SQUALL_SEED={seed}: not {what}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_day() {
    let [first, second] = [(); 2].map(|()| run(11, MORNING));
    assert_eq!((first.writes, first.hash), (second.writes, second.hash));
    assert!(first.writes > 0);
    assert_ne!(first.hash, run(12, MORNING).hash);
}

/// One service on back-off that fails from the first minute to the tenth, and what receivers hear of it. At `after` the
/// first manager, which leads, dies or is no longer the leader, as `upset` says.
fn life(upset: Option<(Duration, What)>) -> World {
    let size = Size { services: 1, length: 4 * HOUR, storms: 0, edits: 0, upsets: 0 };
    // Without the script of a day.
    let mut world = World { queue: BinaryHeap::new(), troubles: Vec::new(), ..World::new(1, size) };
    let spec = json!({"Name": "life", "Labels": {RESPONSE_LABEL: "backoff"}, "Mode": {"Replicated": {"Replicas": 2}},
        "TaskTemplate": {"ContainerSpec": {"Image": "r.example/life:1"}, "ForceUpdate": 0,
            "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000}}});
    world.swarm.add("life", &spec, Duration::from_secs(1));
    world.truths.push(Truth {
        plain: spec,
        edited: Timestamp::from_secs(0),
        hands_off: None,
        well_since: Timestamp::from_secs(0),
        attempt: Duration::ZERO,
        story: VecDeque::new(),
    });
    world.size.services = 2;
    world.managers = (0..3).map(|_| Manager::new(BASE, 2, &world.settings)).collect();
    (0..3).for_each(|manager| world.sweep(manager));
    let shape = Shape::Rejected("invalid mount config for type \"bind\": bind source path does not exist: /data");
    world.strike_later(1, shape, Extent::All, MINUTE, 9 * MINUTE, false);
    if let Some((after, what)) = upset {
        world.at(BASE.plus(after), what);
    }
    world.run();
    world
}

/// The phases of one service's case, as receivers hear them.
fn heard(world: &World) -> Vec<AlertKind> {
    world.told.iter().map(|alert| alert.kind).collect()
}

#[test]
fn a_service_that_is_held_and_comes_back_is_one_conversation_that_is_over_once() {
    let world = life(None);
    assert!(world.counts["probe"] > 3, "attempts were tried, and failed: {:?}", world.counts);
    assert_eq!(heard(&world), [AlertKind::Onset, AlertKind::Subsided], "{:#?}", world.told);
    let ends: Vec<bool> = world.told.iter().map(|alert| alert.ends).collect();
    assert_eq!(ends, [false, true]);
    assert_eq!(world.told[0].conversation, world.told[1].conversation);
    assert!(world.told[0].storms[0].answer.starts_with("squall "), "{}", world.told[0].storms[0].answer);
}

#[test]
fn a_leader_that_dies_in_any_phase_leaves_one_conversation_that_is_over_once() {
    for secs in (50..900).step_by(17) {
        for what in [What::Elect, What::Kill { manager: 0 }] {
            let world = life(Some((Duration::from_secs(secs), what)));
            let conversations: BTreeSet<&String> = world.told.iter().map(|alert| &alert.conversation).collect();
            assert_eq!(conversations.len(), 1, "{what:?} after {secs} s: {:#?}", world.told);
            let ends: BTreeSet<&String> = world.told.iter().filter(|alert| alert.ends).map(|alert| &alert.id).collect();
            assert_eq!(ends.len(), 1, "{what:?} after {secs} s: {:#?}", world.told);
            assert!(world.told.last().is_some_and(|alert| alert.ends), "{what:?} after {secs} s");
        }
    }
}
