//! What the responder does, decision by decision: one service at a time, in a Swarm small enough to be read here.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use squall::ingest::{Reading, read_line};
use squall::model::{
    Action, Author, Cause, CauseCounts, Decision, Fact, LetGo, Notice, Outcome, Refusal, Response, RestartPolicy,
    Storm, StormState, Subject, SubjectKind, TaskFact, TaskState, Timestamp,
};
use squall::respond::{
    IGNORE_LABEL, Look, Mark, Permit, Phase, RESPONSE_LABEL, Responder, Scene, Set, Settings, UNMET, Verdict, View,
    Work,
};

/// 2026-11-21T08:00:00Z.
const BASE: Timestamp = Timestamp::from_secs(1_795_248_000);
/// What the names of the labels of a quarantine begin with.
const LABEL_PREFIX: &str = "squall.quarantine";
/// How long after Swarm has made a task the task runs or has failed.
const PREPARES: Duration = Duration::from_millis(300);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Settings that act, on what is opted in.
fn acting() -> Settings {
    Settings { act: true, ..Settings::default() }
}

#[derive(Clone, Debug)]
struct Task {
    id: u64,
    slot: u64,
    node: String,
    created: Timestamp,
    state: TaskState,
    desired: TaskState,
    since: Timestamp,
    version: u64,
}

/// Whether an attempt of a slot on a node fails.
type Fate = fn(u64, &str) -> bool;

fn fails(_: u64, _: &str) -> bool {
    true
}

fn runs(_: u64, _: &str) -> bool {
    false
}

fn fails_on_n3(_: u64, node: &str) -> bool {
    node == "n3"
}

/// One service, its tasks, and the responder that is asked about it.
struct Lab {
    responder: Responder,
    now: Timestamp,
    service: Value,
    tasks: Vec<Task>,
    scene: Scene,
    fate: Fate,
    /// The node of a replicated slot.
    places: Vec<&'static str>,
    raft: u64,
    next_task: u64,
    /// What was written: when, and what.
    writes: Vec<(Timestamp, Action, Mark)>,
    let_goes: Vec<String>,
}

impl Lab {
    /// A service with a response label, of a mode in the words of the API.
    fn new(settings: Settings, mode: &Value, response: Response) -> Self {
        let mut lab = Self {
            responder: Responder::new(settings),
            now: BASE,
            service: json!({
                "ID": "svc1", "Version": {"Index": 10}, "CreatedAt": "2026-11-01T08:00:00Z",
                "UpdatedAt": "2026-11-01T08:00:00Z",
                "Spec": {
                    "Name": "shop_web",
                    "Labels": {"com.docker.stack.namespace": "shop", RESPONSE_LABEL: response.as_str()},
                    "TaskTemplate": {
                        "ContainerSpec": {"Image": "r.example/shop/web:1", "Healthcheck": {"Test": ["CMD", "true"]}},
                        "Placement": {"Constraints": ["node.labels.zone==a"]}, "ForceUpdate": 0,
                    },
                    "Mode": mode, "EndpointSpec": {"Mode": "vip"},
                },
            }),
            tasks: Vec::new(),
            scene: Scene { leads: true, nodes: ["n1", "n2", "n3"].map(str::to_owned).to_vec(), ..Scene::default() },
            fate: fails,
            places: vec!["n1", "n2", "n3"],
            raft: 10,
            next_task: 0,
            writes: Vec::new(),
            let_goes: Vec::new(),
        };
        lab.responder.lead(lab.now, true);
        lab
    }

    fn replicated(replicas: u64, response: Response) -> Self {
        Self::new(acting(), &json!({"Replicated": {"Replicas": replicas}}), response)
    }

    fn global(nodes: &[&str], response: Response) -> Self {
        let mut lab = Self::new(acting(), &json!({"Global": {}}), response);
        lab.scene.nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        lab
    }

    fn id(&self) -> String {
        self.service["ID"].as_str().expect("an id").to_owned()
    }

    fn spec(&self) -> String {
        self.service["Spec"].to_string()
    }

    fn replicas(&self) -> u64 {
        self.service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().expect("it is replicated")
    }

    fn constraints(&self) -> Vec<String> {
        let list = self.service.pointer("/Spec/TaskTemplate/Placement/Constraints").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    fn mark(&self) -> Option<Mark> {
        View::read(&self.service).expect("a service").mark.expect("whole labels")
    }

    fn label(&mut self, name: &str, value: Option<&str>) {
        self.touch();
        let labels = self.service["Spec"]["Labels"].as_object_mut().expect("labels");
        match value {
            Some(value) => labels.insert(name.to_owned(), json!(value)),
            None => labels.remove(name),
        };
    }

    /// Somebody changes the specification.
    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        self.touch();
        change(&mut self.service["Spec"]);
    }

    /// The labels of the quarantine go, as `docker stack deploy` does to what is not in its file.
    fn strip_labels(&mut self) {
        self.edit(|spec| {
            let labels = spec["Labels"].as_object_mut().expect("labels");
            labels.retain(|name, _| !name.starts_with(LABEL_PREFIX));
        });
    }

    fn touch(&mut self) {
        self.raft += 1;
        self.service["Version"]["Index"] = json!(self.raft);
        self.service["UpdatedAt"] = json!(self.now.to_string());
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.plus(span);
    }

    /// A task that has ended or runs, made so long ago.
    fn task(&mut self, slot: u64, node: &str, age: Duration, state: TaskState) {
        self.raft += 1;
        self.next_task += 1;
        let created = self.now.minus(age);
        let desired = if state.is_terminal() { TaskState::Shutdown } else { TaskState::Running };
        let since = if state.is_terminal() { created.plus(PREPARES) } else { created };
        let (id, version) = (self.next_task, self.raft);
        self.tasks.push(Task { id, slot, node: node.to_owned(), created, state, desired, since, version });
    }

    /// Six failures, two a slot, five seconds apart, and the storm that they are.
    fn loops(&mut self, slots: &[(u64, &str)]) {
        for age in [10, 5] {
            for (slot, node) in slots {
                self.task(*slot, node, secs(age), TaskState::Rejected);
            }
        }
        self.storms(Cause::Mount);
    }

    fn storms(&mut self, cause: Cause) {
        let view = View::read(&self.service).expect("a service");
        let storm = storm(&view.id, view.stack.as_deref(), cause, self.now.minus(secs(10)));
        self.responder.take(self.now, &Notice::Onset(Arc::new(storm.clone())));
        self.scene.storm = Some(storm);
    }

    fn subsides(&mut self) {
        if let Some(storm) = self.scene.storm.take() {
            self.responder.take(self.now, &Notice::Subsided(Arc::new(storm)));
        }
    }

    /// A listing of all services, of which this is one among others.
    fn list(&mut self, services: u64) {
        self.responder.begin_listing();
        see(&mut self.responder, self.now, &self.service);
        for other in 1..services {
            let other = json!({"ID": format!("other{other}"), "Version": {"Index": 1},
                "CreatedAt": "2026-11-01T08:00:00Z",
                "Spec": {"Name": format!("other{other}"), "TaskTemplate": {}, "Mode": {"Global": {}}}});
            see(&mut self.responder, self.now, &other);
        }
        self.responder.end_listing(self.now);
    }

    fn decide(&mut self) -> Verdict {
        let answered = self.responder.answered(SubjectKind::SwarmService, "svc1");
        self.scene.failures_since_hold = answered.map(|since| {
            let has_failed =
                |task: &&Task| matches!(task.state, TaskState::Failed | TaskState::Rejected | TaskState::Complete);
            self.tasks.iter().filter(has_failed).filter(|task| task.since >= since).count() as u64
        });
        let facts: Vec<TaskFact<'_>> = self.tasks.iter().map(|task| fact(task, "svc1")).collect();
        self.responder.decide(self.now, Look { service: &self.service, tasks: &facts }, &self.scene)
    }

    /// The reason of a refusal; panics where there is none.
    #[track_caller]
    fn refusal(&mut self) -> Refusal {
        match self.decide() {
            Verdict::Refused { decision, .. } => decision.refusal.expect("a refusal has a reason"),
            other => panic!("no refusal: {other:?}"),
        }
    }

    #[track_caller]
    fn permit(&mut self) -> Box<Permit> {
        match self.decide() {
            Verdict::Permitted(permit) => permit,
            other => panic!("no permit: {other:?}"),
        }
    }

    /// Docker does what is permitted.
    fn write(&mut self, permit: &Permit) {
        assert_eq!(self.service["Version"]["Index"].as_u64(), Some(version(permit)), "on what it was decided");
        permit.apply(&mut self.service["Spec"]).expect("it can be applied");
        self.touch();
    }

    /// Docker does it, and says so.
    fn act(&mut self, permit: &Permit) {
        self.write(permit);
        self.responder.settle(self.now, permit, Outcome::Done);
        let mark = permit.mark().cloned().unwrap_or_else(|| self.last_mark());
        self.writes.push((self.now, permit.decision().action, mark));
        self.obey();
    }

    fn last_mark(&self) -> Mark {
        self.writes.last().map(|write| write.2.clone()).expect("something was held before")
    }

    /// Looks once, and does what is permitted; its action.
    fn step(&mut self) -> Option<Action> {
        match self.decide() {
            Verdict::Permitted(permit) => {
                self.act(&permit);
                Some(permit.decision().action)
            }
            Verdict::LetGo(let_go) => {
                self.let_goes.push(let_go.why);
                None
            }
            Verdict::Nothing | Verdict::Refused { .. } | Verdict::Gone(_) => None,
        }
    }

    /// Swarm makes and ends tasks until they are as the specification says.
    fn obey(&mut self) {
        let replicas = self.service.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64);
        let wanted: Vec<(u64, String)> = match replicas {
            Some(_) if self.constraints().contains(&UNMET.to_owned()) => Vec::new(),
            Some(replicas) => (1..=replicas).map(|slot| (slot, self.place(slot))).collect(),
            None => self.scene.nodes.iter().filter(|node| self.admits(node)).map(|node| (0, node.clone())).collect(),
        };
        let mut raft = self.raft;
        for task in &mut self.tasks {
            let is_wanted = wanted.iter().any(|(slot, node)| *slot == task.slot && (*slot > 0 || *node == task.node));
            if !task.state.is_terminal() && !is_wanted {
                raft += 1;
                (task.desired, task.state, task.version) = (TaskState::Shutdown, TaskState::Shutdown, raft);
            }
        }
        self.raft = raft;
        for (slot, node) in wanted {
            let has_task = self
                .tasks
                .iter()
                .any(|task| !task.state.is_terminal() && task.slot == slot && (slot > 0 || task.node == node));
            if !has_task {
                self.task(slot, &node, Duration::ZERO, TaskState::Preparing);
            }
        }
    }

    fn place(&self, slot: u64) -> String {
        let index = usize::try_from(slot).expect("few slots") - 1;
        self.places[index % self.places.len()].to_owned()
    }

    fn admits(&self, node: &str) -> bool {
        self.constraints().iter().all(|constraint| {
            match (constraint.strip_prefix("node.id=="), constraint.strip_prefix("node.id!=")) {
                (Some(only), _) => only == node,
                (_, Some(but)) => but != node,
                _ => true,
            }
        })
    }

    /// Tasks that have been made run or fail; a failed one is followed by the next one of its slot.
    fn work(&mut self) {
        let mut failed = false;
        for task in &mut self.tasks {
            if task.state != TaskState::Preparing || self.now.since(task.created) < PREPARES {
                continue;
            }
            self.raft += 1;
            (task.version, task.since) = (self.raft, self.now);
            if (self.fate)(task.slot, &task.node) {
                (task.state, task.desired) = (TaskState::Rejected, TaskState::Shutdown);
                failed = true;
            } else {
                task.state = TaskState::Running;
            }
        }
        if failed {
            self.obey();
        }
    }

    /// Lets time pass and the responder look when it wants to, until `span` has passed or `is_done`.
    fn run(&mut self, span: Duration, is_done: impl Fn(&Self) -> bool) {
        let end = self.now.plus(span);
        while self.now < end && !is_done(self) {
            let due = self.responder.next_deadline().unwrap_or(end).max(self.now.plus(Duration::from_millis(100)));
            let made = self.tasks.iter().filter(|task| task.state == TaskState::Preparing).map(|task| task.created);
            let works = made.map(|created| created.plus(PREPARES)).min().unwrap_or(end);
            self.now = due.min(works).min(end).max(self.now);
            self.work();
            for id in self.responder.due(self.now) {
                assert_eq!(id, self.id());
                self.step();
            }
            if works <= self.now {
                self.pass(Duration::from_millis(1));
            }
        }
    }

    fn actions(&self) -> Vec<Action> {
        self.writes.iter().map(|write| write.1).collect()
    }

    /// The replicas or constraints that were set, one after another.
    fn sets(&self) -> Vec<Set> {
        self.writes.iter().filter(|write| write.1 != Action::Release).map(|write| write.2.set.clone()).collect()
    }
}

fn storm(id: &str, stack: Option<&str>, cause: Cause, onset: Timestamp) -> Storm {
    let mut causes = CauseCounts::default();
    causes.add(cause);
    Storm {
        id: "00112233aabbccdd".to_owned(),
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: format!("{}_web", stack.unwrap_or("alone")),
            id: id.to_owned(),
            stack: stack.map(str::to_owned),
        },
        state: StormState::Ongoing,
        cause,
        causes,
        detail: String::new(),
        onset,
        exact: true,
        updated: None,
        detected: onset.plus(secs(5)),
        ended: None,
        detected_after_failures: 6,
        attempts: 7,
        failed: 6,
        attempts_per_min: 12.0,
        image: "r.example/shop/web:1".to_owned(),
        registry: "r.example".to_owned(),
        pinned: false,
        pulls: true,
        nodes: Vec::new(),
        slots: Vec::new(),
        replicas: None,
        spend: None,
        advice: String::new(),
    }
}

/// The service's version that a permit was decided on.
#[track_caller]
fn version(permit: &Permit) -> u64 {
    match permit.work() {
        Work::Service { version } => version,
        other => panic!("{other:?} is about no service"),
    }
}

fn fact(task: &Task, service_id: &str) -> TaskFact<'static> {
    TaskFact {
        id: format!("task{}", task.id).into(),
        version: task.version,
        created: task.created,
        service_id: service_id.to_owned().into(),
        node_id: task.node.clone().into(),
        slot: task.slot,
        is_job: false,
        state: task.state,
        desired: task.desired,
        status_at: task.since,
        error: "".into(),
        message: "".into(),
        exit_code: None,
        image: "r.example/shop/web:1".into(),
        restart: RestartPolicy::default(),
        force_update: 0,
        has_memory_limit: false,
        spec: 0,
    }
}

fn see(responder: &mut Responder, now: Timestamp, service: &Value) {
    let text = service.to_string();
    let Reading::Observation(observation) = read_line(&text, 0) else { panic!("{text} can be read") };
    let Fact::Service(fact) = observation.fact else { panic!("{text} is a service") };
    responder.see(now, &fact);
}

/// Three replicas on three nodes that loop, with a response.
fn looping(response: Response) -> Lab {
    let mut lab = Lab::replicated(3, response);
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    lab
}

fn refused(lab: &Lab, refusal: Refusal) -> u64 {
    lab.responder.counters().refused[&refusal]
}

// What is refused, and why.

/// A case that is permitted but for what the second part does to it.
type Spoil = fn(&mut Lab);

const SPOILS: [(Refusal, Spoil); 14] = [
    (Refusal::Ignored, |lab| lab.label(IGNORE_LABEL, Some("true"))),
    (Refusal::BadLabel, |lab| lab.label(RESPONSE_LABEL, Some("Scale-To-Zero"))),
    (Refusal::Observe, |lab| lab.label(RESPONSE_LABEL, Some("observe"))),
    (Refusal::NotOptedIn, |lab| {
        with_settings(lab, Settings { response: Response::ScaleToZero, ..acting() });
        lab.label(RESPONSE_LABEL, None);
    }),
    (Refusal::Unsupported, |lab| lab.edit(|spec| spec["Mode"] = json!({"ReplicatedJob": {"TotalCompletions": 3}}))),
    (Refusal::Rollout, |lab| lab.service["UpdateStatus"] = json!({"State": "updating"})),
    (Refusal::TooFewFailures, |lab| lab.scene.storm.as_mut().expect("it storms").failed = 5),
    (Refusal::TooYoung, |lab| {
        lab.scene.storm.as_mut().expect("it storms").onset = lab.now.minus(Duration::from_millis(2999));
    }),
    (Refusal::EvidenceGap, |lab| (lab.scene.gap_end, lab.scene.failures_since_gap) = (Some(lab.now), 5)),
    (Refusal::HealthyReplica, |lab| lab.task(4, "n1", secs(30), TaskState::Running)),
    (Refusal::CoolDown, |lab| {
        let template = View::read(&lab.service).expect("a service").template;
        let subject = lab.scene.storm.as_ref().expect("it storms").subject.clone();
        let let_go =
            LetGo { at: lab.now.minus(secs(299)), subject, storm: String::new(), template, why: String::new() };
        lab.responder.remember(lab.now, &[], &[let_go]);
    }),
    (Refusal::NotLeader, |lab| lab.scene.leads = false),
    (Refusal::NotEnforced, |lab| with_settings(lab, Settings::default())),
    (Refusal::ActionBudget, |lab| {
        for at in 0..60 {
            let decision = Decision { at: lab.now, ..a_decision(&format!("spent{at}"), Action::Quarantine, lab.now) };
            lab.responder.remember(lab.now, &[decision], &[]);
        }
    }),
];

/// What no decision about a service's storm is refused for: what a person's own command is, and what the storm of a
/// container is.
const ELSEWHERE: [&str; 3] = ["gone", "held", "no-journal"];

fn with_settings(lab: &mut Lab, settings: Settings) {
    lab.responder = Responder::new(settings);
    lab.responder.lead(lab.now, true);
    let storm = lab.scene.storm.clone().expect("it storms");
    lab.responder.take(lab.now, &Notice::Onset(Arc::new(storm)));
}

fn a_decision(id: &str, action: Action, at: Timestamp) -> Decision {
    Decision {
        id: id.to_owned(),
        at,
        subject: Subject { kind: SubjectKind::SwarmService, name: id.to_owned(), id: id.to_owned(), stack: None },
        storm: String::new(),
        cause: Cause::Mount,
        failed: 6,
        by: Author::Breaker,
        action,
        response: Response::ScaleToZero,
        instead_of: None,
        refusal: None,
    }
}

#[test]
fn each_guard_refuses_for_its_own_reason_and_counts_once() {
    for (expected, spoil) in SPOILS {
        let mut lab = looping(Response::ScaleToZero);
        spoil(&mut lab);
        let before = lab.spec();
        assert_eq!(lab.refusal(), expected);
        assert_eq!(refused(&lab, expected), 1, "{expected}");
        lab.refusal();
        let all: u64 = lab.responder.counters().refused.values().sum();
        assert_eq!((refused(&lab, expected), all), (1, 1), "{expected}: said again, it counts once");
        assert_eq!(lab.spec(), before);
        assert_eq!(lab.responder.counters().permitted.values().sum::<u64>(), 0);
    }
}

#[test]
fn without_any_of_these_it_is_permitted() {
    let mut lab = looping(Response::ScaleToZero);
    assert_eq!(lab.permit().decision().action, Action::Quarantine);
}

#[test]
fn every_reason_has_a_case() {
    let here: BTreeSet<&str> = SPOILS.iter().map(|spoil| spoil.0.as_str()).chain(ELSEWHERE).collect();
    let all: BTreeSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    assert_eq!(here, all);
}

#[test]
fn guards_are_asked_in_the_order_of_their_list() {
    let mut lab = looping(Response::ScaleToZero);
    with_settings(&mut lab, Settings { response: Response::ScaleToZero, ..Settings::default() });
    let template = View::read(&lab.service).expect("a service").template;
    let subject = lab.scene.storm.as_ref().expect("it storms").subject.clone();
    lab.label(IGNORE_LABEL, Some("true"));
    lab.label(RESPONSE_LABEL, Some("what"));
    lab.edit(|spec| spec["Mode"] = json!({"GlobalJob": {}}));
    lab.service["UpdateStatus"] = json!({"State": "rollback_started"});
    let storm = lab.scene.storm.as_mut().expect("it storms");
    (storm.failed, storm.onset) = (1, lab.now);
    lab.scene.is_blind = true;
    lab.scene.leads = false;
    lab.task(3, "n3", secs(60), TaskState::Running);
    let let_go = LetGo { at: lab.now, subject, storm: String::new(), template, why: String::new() };
    lab.responder.remember(lab.now, &[], &[let_go]);
    let mends: [(Refusal, Spoil); 13] = [
        (Refusal::Ignored, |lab| lab.label(IGNORE_LABEL, None)),
        (Refusal::BadLabel, |lab| lab.label(RESPONSE_LABEL, Some("observe"))),
        (Refusal::Observe, |lab| lab.label(RESPONSE_LABEL, None)),
        (Refusal::NotOptedIn, |lab| lab.label(RESPONSE_LABEL, Some("scale-to-zero"))),
        (Refusal::Unsupported, |lab| lab.edit(|spec| spec["Mode"] = json!({"Replicated": {"Replicas": 3}}))),
        (Refusal::Rollout, |lab| lab.service["UpdateStatus"] = json!({"State": "completed"})),
        (Refusal::TooFewFailures, |lab| lab.scene.storm.as_mut().expect("it storms").failed = 6),
        (Refusal::TooYoung, |lab| lab.pass(secs(3))),
        (Refusal::EvidenceGap, |lab| lab.scene.is_blind = false),
        (Refusal::HealthyReplica, |lab| {
            lab.tasks.pop();
        }),
        (Refusal::CoolDown, |lab| lab.edit(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1))),
        (Refusal::NotLeader, |lab| lab.scene.leads = true),
        (Refusal::NotEnforced, |_| {}),
    ];
    for (expected, mend) in mends {
        assert_eq!(lab.refusal(), expected);
        mend(&mut lab);
    }
    assert_eq!(lab.refusal(), Refusal::NotEnforced, "it would have been done");
}

#[test]
fn the_budget_is_asked_last_so_that_a_refusal_spends_nothing() {
    let settings = Settings { actions_per_hour: NonZeroU32::MIN, ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 1}}), Response::ScaleToZero);
    lab.loops(&[(1, "n1")]);
    lab.scene.leads = false;
    for _ in 0..10 {
        assert_eq!(lab.refusal(), Refusal::NotLeader);
    }
    lab.scene.leads = true;
    assert_eq!(lab.permit().decision().action, Action::Quarantine);
}

#[test]
fn a_refusal_is_news_once_and_again_when_its_reason_is_another() {
    let mut lab = looping(Response::ScaleToZero);
    lab.scene.leads = false;
    let mut news = Vec::new();
    for leads in [false, false, false, true, true] {
        lab.scene.is_blind = leads;
        let Verdict::Refused { is_news, .. } = lab.decide() else { panic!("no refusal") };
        news.push(is_news);
    }
    assert_eq!(news, [true, false, false, true, false]);
}

#[test]
fn a_service_that_is_let_be_is_never_looked_at_without_a_storm() {
    let mut lab = Lab::replicated(3, Response::Backoff);
    lab.list(10);
    assert_eq!(lab.responder.due(lab.now), Vec::<String>::new());
    assert_eq!(lab.responder.next_deadline(), None);
    assert!(matches!(lab.decide(), Verdict::Nothing));
}

#[test]
fn what_waits_for_the_leader_is_looked_at_when_this_node_becomes_it() {
    let mut lab = looping(Response::Pause);
    (lab.scene.leads, lab.responder) = (false, Responder::new(acting()));
    lab.storms(Cause::Mount);
    assert_eq!(lab.refusal(), Refusal::NotLeader);
    assert_eq!(lab.responder.next_deadline(), None);
    lab.pass(secs(20));
    lab.responder.lead(lab.now, true);
    lab.scene.leads = true;
    assert_eq!(lab.responder.due(lab.now), [lab.id()]);
    assert_eq!(lab.step(), Some(Action::Quarantine));
}

#[test]
fn a_storm_that_was_refused_is_looked_at_again_when_the_settings_are_others() {
    let mut lab = looping(Response::Pause);
    with_settings(&mut lab, Settings { act: false, ..acting() });
    assert_eq!(lab.refusal(), Refusal::NotEnforced);
    assert_eq!(lab.responder.next_deadline(), None);
    lab.responder.set_settings(lab.now, acting());
    assert_eq!(lab.responder.due(lab.now), [lab.id()]);
    assert_eq!(lab.permit().decision().action, Action::Quarantine);
}

#[test]
fn other_settings_give_no_new_hour_of_actions_unless_their_number_is_another() {
    let settings = Settings { actions_per_hour: NonZeroU32::MIN, ..acting() };
    let mut lab = Lab::new(settings.clone(), &json!({"Replicated": {"Replicas": 1}}), Response::ScaleToZero);
    lab.responder.remember(lab.now, &[a_decision("another", Action::Probe, lab.now)], &[]);
    lab.loops(&[(1, "n1")]);
    assert_eq!(lab.refusal(), Refusal::ActionBudget);
    lab.responder.set_settings(lab.now, Settings { held_min: 5, ..settings });
    assert_eq!(lab.refusal(), Refusal::ActionBudget);
    lab.responder.set_settings(lab.now, acting());
    assert_eq!(lab.permit().decision().action, Action::Quarantine);
}

// What is done.

#[test]
fn each_response_holds_every_kind_of_service_and_release_makes_it_what_it_was() {
    let modes = [json!({"Replicated": {"Replicas": 3}}), json!({"Replicated": {}}), json!({"Global": {}})];
    for mode in &modes {
        for response in [Response::Pause, Response::ScaleToZero, Response::Backoff] {
            let mut lab = Lab::new(acting(), mode, response);
            lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
            let before = lab.spec();
            assert_eq!(lab.step(), Some(Action::Quarantine), "{mode} {response}");
            let is_paused = lab.constraints().contains(&UNMET.to_owned());
            let is_zero = lab.service.pointer("/Spec/Mode/Replicated/Replicas") == Some(&json!(0));
            let by_replicas = mode.get("Replicated").is_some() && response != Response::Pause;
            assert_eq!((is_paused, is_zero), (!by_replicas, by_replicas), "{mode} {response}");
            let permit = Responder::release_by_hand(lab.now, Look { service: &lab.service, tasks: &[] });
            lab.write(&permit.expect("it is held"));
            assert_eq!(lab.spec(), before, "{mode} {response}");
        }
    }
}

#[test]
fn thirty_storms_at_once_are_all_stopped_at_once() {
    let mut responder = Responder::new(acting());
    responder.lead(BASE, true);
    let mut labs: Vec<Lab> = (0..30)
        .map(|index| {
            let mut lab = looping(Response::Backoff);
            lab.service["ID"] = json!(format!("svc{index:02}"));
            lab.storms(Cause::Mount);
            responder.take(BASE, &Notice::Onset(Arc::new(lab.scene.storm.clone().expect("it storms"))));
            lab
        })
        .collect();
    let due = responder.due(BASE);
    assert_eq!(due.len(), 30);
    for (lab, id) in labs.iter_mut().zip(due) {
        assert_eq!(lab.id(), id);
        let facts: Vec<TaskFact<'_>> = lab.tasks.iter().map(|task| fact(task, &id)).collect();
        let verdict = responder.decide(BASE, Look { service: &lab.service, tasks: &facts }, &lab.scene);
        let Verdict::Permitted(permit) = verdict else { panic!("{verdict:?}") };
        lab.write(&permit);
        responder.settle(BASE, &permit, Outcome::Done);
    }
    assert_eq!(responder.counters().permitted[&Action::Quarantine], 30);
    assert_eq!(responder.counters().settled[&Outcome::Done], 30);
    assert_eq!(responder.held().count(), 30);
    let untils: BTreeSet<_> = responder.held().map(|held| held.mark.until).collect();
    assert!(untils.len() > 20, "they are not tried together");
}

// The blast radius.

/// Storms of so many services one after another; what each was answered with.
fn answers(services: u64, storms: u64, response: Response) -> Vec<(Response, Option<Response>)> {
    let mut responder = Responder::new(acting());
    responder.lead(BASE, true);
    let mut lab = looping(response);
    lab.responder = responder;
    lab.list(services);
    let mut answers = Vec::new();
    for index in 0..storms {
        let mut next = looping(response);
        std::mem::swap(&mut next.responder, &mut lab.responder);
        next.service["ID"] = json!(format!("svc{index:03}"));
        next.storms(Cause::Mount);
        let permit = next.permit();
        next.act(&permit);
        answers.push((permit.decision().response, permit.decision().instead_of));
        std::mem::swap(&mut next.responder, &mut lab.responder);
    }
    answers
}

#[test]
fn a_fourth_pause_in_ten_services_is_a_backoff_instead() {
    for response in [Response::Pause, Response::ScaleToZero] {
        let answers = answers(10, 5, response);
        let asked = (response, None);
        let instead = (Response::Backoff, Some(response));
        assert_eq!(answers, [asked, asked, asked, instead, instead]);
    }
}

#[test]
fn of_a_hundred_services_thirty_may_be_held_by_what_a_person_undoes() {
    let answers = answers(100, 32, Response::Pause);
    assert_eq!(answers.iter().filter(|answer| **answer == (Response::Pause, None)).count(), 30);
    assert_eq!(answers[30..], [(Response::Backoff, Some(Response::Pause)); 2]);
}

#[test]
fn backoff_has_no_share() {
    assert!(answers(10, 9, Response::Backoff).iter().all(|answer| *answer == (Response::Backoff, None)));
}

#[test]
fn before_the_first_listing_three_may_be_held() {
    let mut lab = looping(Response::Pause);
    assert_eq!(lab.permit().decision().response, Response::Pause);
}

/// The third of three storms at one registry, of services of these stacks.
fn third_of(stacks: [Option<&str>; 3], cause: Cause) -> (Response, Option<Response>) {
    let mut lab = looping(Response::Pause);
    for (index, stack) in stacks.iter().enumerate().take(2) {
        let storm = storm(&format!("other{index}"), *stack, cause, lab.now);
        lab.responder.take(lab.now, &Notice::Onset(Arc::new(storm)));
    }
    match stacks[2] {
        Some(stack) => lab.label("com.docker.stack.namespace", Some(stack)),
        None => lab.label("com.docker.stack.namespace", None),
    }
    lab.storms(cause);
    let permit = lab.permit();
    (permit.decision().response, permit.decision().instead_of)
}

#[test]
fn a_registry_that_fails_unrelated_services_is_no_fault_of_theirs() {
    let instead = (Response::Backoff, Some(Response::Pause));
    let asked = (Response::Pause, None);
    assert_eq!(third_of([Some("a"), Some("b"), Some("a")], Cause::RegistryQuota), instead);
    assert_eq!(third_of([None, None, None], Cause::PullFailed), instead, "those of no stack are unrelated");
    assert_eq!(third_of([Some("a"), Some("a"), Some("a")], Cause::RegistryQuota), asked, "of one stack");
    assert_eq!(third_of([Some("a"), Some("b"), Some("a")], Cause::Mount), asked, "no registry's fault");
    assert_eq!(third_of([Some("a"), Some("b"), Some("c")], Cause::ImageMissing), asked, "an image of their own");
}

#[test]
fn two_storms_at_a_registry_are_no_incident() {
    let mut lab = looping(Response::Pause);
    let other = storm("other", Some("b"), Cause::RegistryQuota, lab.now);
    lab.responder.take(lab.now, &Notice::Onset(Arc::new(other)));
    lab.storms(Cause::RegistryQuota);
    assert_eq!(lab.permit().decision().response, Response::Pause);
}

#[test]
fn what_was_held_before_the_incident_was_known_comes_back_by_itself_one_replica_first() {
    for response in [Response::Pause, Response::ScaleToZero] {
        let mut lab = Lab::replicated(3, response);
        lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
        lab.storms(Cause::RegistryQuota);
        let before = lab.spec();
        assert_eq!(lab.step(), Some(Action::Quarantine));
        for (id, stack) in [("other1", "b"), ("other2", "c")] {
            let storm = storm(id, Some(stack), Cause::RegistryQuota, lab.now);
            lab.responder.take(lab.now, &Notice::Onset(Arc::new(storm)));
        }
        assert!(lab.responder.due(lab.now).contains(&lab.id()));
        assert_eq!(lab.step(), Some(Action::Quarantine), "{response}");
        assert_eq!(lab.mark().map(|mark| mark.response), Some(Response::Backoff));
        for other in ["other1", "other2"] {
            lab.responder.forget(other);
        }
        lab.fate = runs;
        lab.run(secs(30), |lab| lab.actions().last() == Some(&Action::Probe));
        assert_eq!(lab.replicas(), 1, "{response}: one watched attempt");
        lab.run(secs(600), |lab| lab.actions().last() == Some(&Action::Release));
        assert_eq!(lab.spec(), before, "{response}");
    }
}

// The way of a back-off.

#[test]
fn a_loop_that_lasts_is_tried_at_doubling_delays_up_to_half_an_hour() {
    let mut lab = looping(Response::Backoff);
    assert_eq!(lab.step(), Some(Action::Quarantine));
    lab.run(secs(4 * 3600), |_| false);
    let mut held_at = lab.writes[0].0;
    let mut delays = Vec::new();
    for (at, action, mark) in &lab.writes[1..] {
        match action {
            Action::Probe => {
                assert_eq!(mark.set, Set::Replicas(1), "one watched attempt");
                delays.push(at.since(held_at));
            }
            Action::Quarantine => {
                assert_eq!(mark.set, Set::Replicas(0));
                assert!(at.since(lab.writes[0].0) < secs(4 * 3600));
                held_at = *at;
            }
            other => panic!("{other} of a loop that lasts"),
        }
    }
    let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800];
    assert!(delays.len() >= expected.len(), "{delays:?}");
    for (delay, expected) in delays.iter().zip(expected) {
        let (least, most) = (secs(expected), secs(expected) + secs(expected) / 10);
        // A tenth as jitter, and the moment of the look.
        assert!((least..=most + secs(1)).contains(delay), "{delay:?} for {expected} s: {delays:?}");
    }
    let fails_seen: Vec<Duration> = lab
        .writes
        .windows(2)
        .filter(|pair| pair[1].1 == Action::Quarantine)
        .map(|pair| pair[1].0.since(pair[0].0))
        .collect();
    assert!(fails_seen.iter().all(|span| *span <= secs(1)), "a failed attempt is stopped at once: {fails_seen:?}");
}

#[test]
fn what_heals_comes_back_by_doubling_and_is_byte_for_byte_what_it_was() {
    for (replicas, steps) in [
        (1, vec![0, 1]),
        (2, vec![0, 1, 2]),
        (3, vec![0, 1, 2, 3]),
        (4, vec![0, 1, 2, 4]),
        (10, vec![0, 1, 2, 4, 8, 10]),
    ] {
        let mut lab = Lab::replicated(replicas, Response::Backoff);
        lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
        let before = lab.spec();
        assert_eq!(lab.step(), Some(Action::Quarantine));
        lab.fate = runs;
        lab.subsides();
        lab.run(secs(600), |lab| lab.actions().last() == Some(&Action::Release));
        let sets: Vec<u64> =
            lab.sets().iter().filter_map(|set| if let Set::Replicas(n) = set { Some(*n) } else { None }).collect();
        assert_eq!(sets, steps, "{replicas} replicas: {:?}", lab.actions());
        assert_eq!(lab.actions().last(), Some(&Action::Release), "{replicas} replicas");
        assert_eq!(lab.spec(), before);
        let probed = lab.writes[1].0;
        let raised = lab.writes[2].0;
        assert!(raised.since(probed) >= secs(60), "it runs a minute before more is risked");
        assert!(lab.now.since(BASE) < secs(180), "{replicas} replicas are back after {:?}", lab.now.since(BASE));
        assert_eq!(lab.responder.held().count(), 0);
        assert_eq!(lab.responder.next_deadline(), None);
    }
}

#[test]
fn a_service_that_ran_for_weeks_before_it_failed_is_not_watched_for_weeks() {
    let mut lab = Lab::replicated(3, Response::Backoff);
    for (slot, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        lab.task(slot, node, secs(20 * 86_400), TaskState::Failed);
        lab.tasks.last_mut().expect("a task").since = lab.now.minus(secs(10));
        lab.task(slot, node, secs(5), TaskState::Failed);
    }
    lab.storms(Cause::Mount);
    assert_eq!(lab.step(), Some(Action::Quarantine));
    let period = lab.mark().expect("it is held").period;
    assert!(period <= secs(15), "a loop of 5 s has a period of {period:?}");
    lab.fate = runs;
    lab.run(secs(600), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.actions().last(), Some(&Action::Release));
}

#[test]
fn a_slow_loop_is_watched_for_three_of_its_periods() {
    let mut lab = Lab::replicated(1, Response::Backoff);
    for age in [3000, 2400, 1800, 1200, 600] {
        lab.task(1, "n1", secs(age), TaskState::Failed);
    }
    lab.storms(Cause::AppExit);
    lab.scene.storm.as_mut().expect("it storms").onset = lab.now.minus(secs(3000));
    assert_eq!(lab.step(), Some(Action::Quarantine));
    lab.fate = runs;
    lab.run(secs(7200), |lab| lab.actions().last() == Some(&Action::Release));
    let watched = lab.now.since(lab.writes[1].0);
    assert!((secs(1800)..secs(1900)).contains(&watched), "{watched:?}");
}

#[test]
fn what_fails_while_watched_is_held_for_longer() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.run(secs(40), |lab| lab.actions().ends_with(&[Action::Probe, Action::Quarantine]));
    let mark = lab.mark().expect("it is held");
    assert_eq!((mark.phase, mark.tries, &mark.set), (Phase::Held, 1, &Set::Replicas(0)));
    let delay = mark.until.expect("it is tried again").since(mark.at);
    assert!((secs(20)..=secs(22)).contains(&delay), "{delay:?}");
    assert_eq!(mark.since, lab.writes[0].0, "it is one quarantine still");
}

#[test]
fn a_failure_while_returning_keeps_what_runs() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.fate = fails_on_n3;
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Quarantine) && lab.writes.len() > 1);
    let mark = lab.mark().expect("it is held");
    assert_eq!((mark.phase, &mark.set, mark.tries), (Phase::Held, &Set::Replicas(2), 1), "{:?}", lab.actions());
    let running = |lab: &Lab| lab.tasks.iter().filter(|task| task.state == TaskState::Running).count();
    assert_eq!(running(&lab), 2);
    let before = lab.writes.len();
    lab.run(secs(3600), |_| false);
    assert_eq!(running(&lab), 2, "what runs was never taken away");
    let untried: Vec<_> = lab.writes[before..].iter().map(|write| (write.1, write.2.set.clone())).take(4).collect();
    let try_again = [(Action::Probe, Set::Replicas(3)), (Action::Quarantine, Set::Replicas(2))];
    assert_eq!(untried, [try_again.clone(), try_again].concat());
    lab.fate = runs;
    lab.run(secs(3600), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.replicas(), 3);
}

#[test]
fn an_attempt_that_ends_late_is_not_taken_for_another_failed_try() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.fate = fails_on_n3;
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Quarantine) && lab.writes.len() > 1);
    assert_eq!(lab.mark().map(|mark| mark.tries), Some(1));
    // Swarm had made the next attempt of the slot when it was scaled away: its node says that it failed too.
    let slot = 3;
    lab.task(slot, "n3", Duration::from_millis(300), TaskState::Rejected);
    lab.pass(secs(2));
    lab.step();
    let mark = lab.mark().expect("it is held");
    assert_eq!((mark.tries, &mark.set), (1, &Set::Replicas(2)), "one try failed");
}

#[test]
fn a_new_template_of_what_is_held_is_tried_at_once_and_afresh() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.run(secs(600), |lab| lab.mark().is_some_and(|mark| mark.tries == 4));
    lab.edit(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("r.example/shop/web:2"));
    lab.fate = runs;
    lab.list(10);
    assert_eq!(lab.responder.due(lab.now), [lab.id()]);
    assert_eq!(lab.step(), Some(Action::Probe));
    let mark = lab.mark().expect("it is on probation");
    assert_eq!((mark.phase, mark.tries), (Phase::Probation, 0));
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.replicas(), 3);
    assert!(lab.spec().contains("shop/web:2") && !lab.spec().contains(LABEL_PREFIX));
}

#[test]
fn a_new_template_on_probation_begins_its_own_probation() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.fate = runs;
    lab.run(secs(60), |lab| lab.actions().last() == Some(&Action::Probe));
    lab.run(secs(30), |_| false);
    lab.edit(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1));
    let changed = lab.now;
    lab.list(10);
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Raise));
    assert!(lab.now.since(changed) >= secs(60), "it has its own minute");
}

// Global services.

#[test]
fn a_global_service_comes_back_over_one_three_and_five_nodes() {
    for nodes in [&["n1"][..], &["n1", "n2", "n3"], &["n1", "n2", "n3", "n4", "n5"]] {
        let mut lab = Lab::global(nodes, Response::Backoff);
        let slots: Vec<(u64, &str)> = nodes.iter().map(|node| (0, *node)).collect();
        lab.loops(&slots);
        let before = lab.spec();
        assert_eq!(lab.step(), Some(Action::Quarantine));
        assert!(lab.constraints().contains(&UNMET.to_owned()));
        lab.fate = runs;
        lab.run(secs(600), |lab| lab.actions().last() == Some(&Action::Release));
        assert_eq!(lab.spec(), before, "{nodes:?}: {:?}", lab.writes);
        let Set::Constraints(first) = &lab.writes[1].2.set else { panic!("constraints") };
        let admitted = first.iter().filter(|constraint| constraint.starts_with("node.id==")).count();
        assert!(admitted == 1 || nodes.len() == 1, "the first attempt is on one node: {first:?}");
        let running: BTreeSet<&str> =
            lab.tasks.iter().filter(|task| task.state == TaskState::Running).map(|task| &*task.node).collect();
        assert_eq!(running.len(), nodes.len());
    }
}

#[test]
fn a_global_service_runs_where_it_can_and_its_bad_node_is_tried_by_itself() {
    let mut lab = Lab::global(&["n1", "n2", "n3"], Response::Backoff);
    lab.loops(&[(0, "n1"), (0, "n2"), (0, "n3")]);
    let before = lab.spec();
    lab.step();
    lab.fate = fails_on_n3;
    lab.run(secs(1200), |_| false);
    let running: Vec<&str> =
        lab.tasks.iter().filter(|task| task.state == TaskState::Running).map(|task| &*task.node).collect();
    assert_eq!(running, ["n1", "n2"], "{:?}", lab.sets());
    let tries = lab.actions().iter().filter(|action| **action == Action::Probe).count();
    assert!((3..15).contains(&tries), "{tries} tries: {:?}", lab.actions());
    lab.fate = runs;
    lab.run(secs(3600), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.spec(), before);
}

#[test]
fn a_persons_own_exclusion_of_a_node_survives_a_backoff() {
    let mut lab = Lab::global(&["n1", "n2", "n3", "n4", "n5"], Response::Backoff);
    lab.edit(|spec| spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.id!=n4"]));
    lab.loops(&[(0, "n1"), (0, "n2"), (0, "n3"), (0, "n5")]);
    let before = lab.spec();
    lab.step();
    lab.fate = runs;
    lab.run(secs(900), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.spec(), before, "{:?}", lab.sets());
    assert!(lab.tasks.iter().all(|task| task.node != "n4"), "it never ran there");
    assert!(lab.writes.len() <= 6, "{:?}", lab.actions());
}

#[test]
fn nodes_that_a_service_does_not_run_on_do_not_keep_it_from_coming_back() {
    let mut lab = Lab::global(&["n1", "n2", "n3", "n4", "n5"], Response::Backoff);
    lab.edit(|spec| spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.id!=n1", "node.id!=n2"]));
    lab.loops(&[(0, "n3"), (0, "n4"), (0, "n5")]);
    let before = lab.spec();
    lab.step();
    lab.fate = runs;
    lab.run(secs(900), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.actions().last(), Some(&Action::Release), "{:?}", lab.sets());
    assert_eq!(lab.spec(), before);
    assert!(lab.writes.len() <= 6, "each step lets more in: {:?}", lab.sets());
}

#[test]
fn a_global_service_is_not_let_onto_every_node_because_none_is_known() {
    let mut lab = Lab::global(&["n1", "n2", "n3"], Response::Backoff);
    lab.loops(&[(0, "n1"), (0, "n2"), (0, "n3")]);
    lab.step();
    lab.scene.nodes.clear();
    lab.pass(secs(30));
    lab.step();
    let Some(mark) = lab.mark() else { panic!("it is held") };
    assert!(mark.set.holds_all() || lab.constraints().iter().any(|c| c.starts_with("node.id==n")), "{:?}", mark.set);
}

// What somebody else changes.

/// A held service that was changed by hand: what is said, and that it is left alone for the cool-down, and no longer.
#[track_caller]
fn check_let_go(mut lab: Lab, why: &str, change: impl FnOnce(&mut Lab)) {
    let written = lab.writes.len();
    let is_damaged = why.contains("were changed: the label");
    change(&mut lab);
    let edited = lab.spec();
    lab.list(10);
    assert_eq!(lab.responder.due(lab.now), [lab.id()]);
    let changed = lab.now;
    assert_eq!(lab.step(), None);
    assert_eq!(lab.let_goes.len(), 1);
    assert!(lab.let_goes[0].contains(why), "{}", lab.let_goes[0]);
    assert_eq!(lab.responder.counters().let_go, 1);
    // It storms still, or again.
    lab.pass(secs(11));
    lab.tasks.clear();
    let slots = [(1, "n1"), (2, "n2"), (3, "n3")];
    lab.loops(&slots);
    let expected = if is_damaged { Refusal::BadLabel } else { Refusal::CoolDown };
    assert_eq!(lab.refusal(), expected);
    lab.run(secs(279), |_| false);
    assert_eq!((lab.spec(), lab.writes.len()), (edited.clone(), written), "it is left as it was set");
    lab.tasks.clear();
    lab.loops(&slots);
    lab.run(secs(20), |lab| lab.writes.len() > written);
    match is_damaged {
        true => assert_eq!((lab.spec(), lab.refusal()), (edited, Refusal::BadLabel), "in doubt nothing is done"),
        false => {
            assert_eq!(lab.actions().last(), Some(&Action::Quarantine));
            assert!((secs(295)..secs(305)).contains(&lab.now.since(changed)), "{:?}", lab.now.since(changed));
        }
    }
    assert_eq!(lab.let_goes.len(), 1, "it is said once");
}

fn held(response: Response) -> Lab {
    let mut lab = looping(response);
    assert_eq!(lab.step(), Some(Action::Quarantine));
    lab.pass(secs(2));
    lab.list(10);
    lab.step();
    lab
}

#[test]
fn replicas_that_somebody_set_are_let_go_and_left() {
    for response in [Response::ScaleToZero, Response::Backoff] {
        check_let_go(held(response), "its replicas were changed: 0 to 5", |lab| {
            lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(5));
        });
    }
}

#[test]
fn a_constraint_that_somebody_took_off_is_let_go_and_left() {
    check_let_go(held(Response::Pause), "its placement constraints were changed", |lab| {
        lab.edit(|spec| spec["TaskTemplate"]["Placement"]["Constraints"] = json!(["node.labels.zone==a"]));
    });
}

#[test]
fn labels_that_somebody_took_off_are_let_go_and_left() {
    for response in [Response::Pause, Response::ScaleToZero, Response::Backoff] {
        check_let_go(held(response), "its labels of squall's are gone", |lab| {
            let permit = Responder::release_by_hand(lab.now, Look { service: &lab.service, tasks: &[] });
            lab.write(&permit.expect("it is held"));
        });
    }
}

#[test]
fn labels_that_somebody_damaged_are_let_go_and_not_overwritten() {
    check_let_go(
        held(Response::Backoff),
        "its labels of squall's were changed: the label squall.quarantine.tries",
        |lab| {
            lab.label("squall.quarantine.tries", Some("many"));
        },
    );
}

#[test]
fn a_new_template_ends_the_cool_down() {
    let mut lab = held(Response::Backoff);
    lab.strip_labels();
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(3));
    lab.list(10);
    lab.step();
    assert_eq!(lab.let_goes.len(), 1);
    lab.pass(secs(11));
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    assert_eq!(lab.refusal(), Refusal::CoolDown);
    lab.pass(secs(10));
    lab.edit(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("r.example/shop/web:2"));
    lab.list(10);
    assert_eq!(lab.responder.due(lab.now), [lab.id()], "a change of it is a reason to look");
    assert_eq!(lab.step(), Some(Action::Quarantine));
}

#[test]
fn what_was_let_go_and_set_to_what_squall_had_set_is_still_somebody_elses() {
    let mut lab = held(Response::Backoff);
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(5));
    lab.list(10);
    lab.step();
    assert_eq!(lab.let_goes.len(), 1);
    // They stop it themselves.
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(0));
    lab.list(10);
    lab.run(secs(600), |_| false);
    assert_eq!(lab.replicas(), 0, "{:?}", lab.actions());
}

/// Ten thousand services were let go of before; the new one comes first among their ids.
#[test]
fn a_service_that_was_let_go_last_is_not_the_one_that_is_forgotten() {
    let mut lab = held(Response::Backoff);
    let of_service = |number: u64| LetGo {
        at: lab.now.minus(secs(20_000 - number)),
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: format!("other{number}"),
            id: format!("svc2{number:05}"),
            stack: None,
        },
        storm: String::new(),
        template: String::new(),
        why: String::new(),
    };
    let before: Vec<LetGo> = (0..10_000).map(of_service).collect();
    lab.responder.remember(lab.now, &[], &before);
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(5));
    lab.list(10);
    lab.step();
    assert_eq!(lab.let_goes.len(), 1);
    // They stop it themselves.
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(0));
    lab.list(10);
    lab.run(secs(600), |_| false);
    assert_eq!(lab.actions(), [Action::Quarantine], "nothing is tried of what is theirs");
}

#[test]
fn a_mark_that_was_let_go_long_ago_is_not_let_go_anew_by_the_next_process() {
    let mut lab = held(Response::ScaleToZero);
    lab.edit(|spec| spec["Mode"]["Replicated"]["Replicas"] = json!(5));
    lab.list(10);
    lab.step();
    lab.pass(secs(86_400));
    lab.responder = Responder::new(acting());
    lab.responder.lead(lab.now, true);
    lab.let_goes.clear();
    lab.list(10);
    for _ in lab.responder.due(lab.now) {
        lab.step();
    }
    assert_eq!(lab.let_goes, Vec::<String>::new());
}

#[test]
fn an_ignore_label_stops_every_further_step() {
    let mut lab = held(Response::Backoff);
    lab.label(IGNORE_LABEL, Some("true"));
    lab.list(10);
    lab.run(secs(600), |_| false);
    assert_eq!(lab.actions(), [Action::Quarantine]);
    assert_eq!(refused(&lab, Refusal::Ignored), 1);
    lab.label(IGNORE_LABEL, None);
    lab.list(10);
    lab.run(secs(5), |_| false);
    assert_eq!(lab.actions().get(1), Some(&Action::Probe), "and goes on when it is gone");
}

#[test]
fn no_step_is_made_while_swarm_rolls_out_what_somebody_deployed() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.fate = runs;
    lab.run(secs(200), |lab| lab.actions().last() == Some(&Action::Raise));
    lab.edit(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("r.example/shop/web:2"));
    lab.service["UpdateStatus"] = json!({"State": "updating"});
    let written = lab.writes.len();
    lab.list(10);
    lab.run(secs(60), |_| false);
    assert_eq!(lab.writes.len(), written, "an update of it would break the rollout off: {:?}", lab.actions());
    lab.service["UpdateStatus"] = json!({"State": "completed"});
    lab.touch();
    lab.list(10);
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.actions().last(), Some(&Action::Release));
}

#[test]
fn a_rollout_that_swarm_has_paused_is_not_resumed_over_what_still_runs() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.fate = fails_on_n3;
    lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Quarantine) && lab.writes.len() > 1);
    assert_eq!(lab.replicas(), 2);
    lab.edit(|spec| spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("r.example/shop/web:2"));
    lab.tasks.retain(|task| task.slot != 1);
    lab.task(1, "n3", secs(1), TaskState::Rejected);
    lab.service["UpdateStatus"] = json!({"State": "paused"});
    let written = lab.writes.len();
    lab.list(10);
    lab.run(secs(120), |_| false);
    assert_eq!(lab.writes.len(), written, "slot 2 runs the old image, and is the last that does");
}

#[test]
fn pause_and_scale_to_zero_wait_for_a_person() {
    for response in [Response::Pause, Response::ScaleToZero] {
        let mut lab = held(response);
        assert_eq!(lab.responder.next_deadline(), None);
        lab.run(secs(86_400), |_| false);
        assert_eq!(lab.actions(), [Action::Quarantine]);
        assert_eq!(lab.mark().and_then(|mark| mark.until), None);
    }
}

// Other managers and other processes.

/// Another manager's responder, that has seen the service in its listings only.
fn follower(lab: &Lab) -> Responder {
    let mut other = Responder::new(acting());
    other.begin_listing();
    see(&mut other, lab.now, &lab.service);
    other.end_listing(lab.now);
    other
}

fn brought_to(phase: Phase) -> Lab {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.subsides();
    lab.fate = runs;
    lab.run(secs(300), |lab| lab.mark().is_some_and(|mark| mark.phase == phase));
    assert_eq!(lab.mark().map(|mark| mark.phase), Some(phase));
    lab
}

#[test]
fn another_manager_goes_on_from_any_phase_when_it_becomes_the_leader() {
    for phase in [Phase::Held, Phase::Probation, Phase::Returning] {
        let mut lab = brought_to(phase);
        let before = {
            let permit = Responder::release_by_hand(lab.now, Look { service: &lab.service, tasks: &[] });
            let mut spec = lab.service["Spec"].clone();
            permit.expect("it is held").apply(&mut spec).expect("it can be undone");
            spec.to_string()
        };
        let mut other = follower(&lab);
        std::mem::swap(&mut other, &mut lab.responder);
        lab.scene.leads = false;
        lab.run(secs(60), |_| false);
        let written = lab.writes.len();
        assert_eq!(lab.mark().map(|mark| mark.phase), Some(phase), "a follower changes nothing");
        lab.responder.lead(lab.now, true);
        lab.scene.leads = true;
        lab.run(secs(300), |lab| lab.actions().last() == Some(&Action::Release));
        assert!(lab.writes.len() > written);
        assert_eq!(lab.spec(), before, "{phase:?}");
        assert_eq!(lab.let_goes, Vec::<String>::new());
    }
}

#[test]
fn a_follower_does_not_take_the_leaders_release_for_a_persons() {
    for replicas in [1, 3] {
        let mut lab = Lab::replicated(replicas, Response::Backoff);
        lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
        lab.step();
        lab.subsides();
        lab.fate = runs;
        let mut other = Responder::new(acting());
        while lab.actions().last() != Some(&Action::Release) {
            lab.run(secs(2), |_| false);
            other.begin_listing();
            see(&mut other, lab.now, &lab.service);
            other.end_listing(lab.now);
            let facts: Vec<TaskFact<'_>> = lab.tasks.iter().map(|task| fact(task, "svc1")).collect();
            let scene = Scene { leads: false, ..lab.scene.clone() };
            for _ in other.due(lab.now) {
                let verdict = other.decide(lab.now, Look { service: &lab.service, tasks: &facts }, &scene);
                assert!(
                    !matches!(verdict, Verdict::LetGo(_) | Verdict::Permitted(_)),
                    "{replicas} replicas: {verdict:?}"
                );
            }
            assert!(lab.now.since(BASE) < secs(600), "it comes back");
        }
        assert_eq!(other.counters().let_go, 0);
        assert_eq!(other.held().count(), 0);
    }
}

#[test]
fn a_process_with_empty_memory_takes_over_what_it_finds_held() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.run(secs(200), |lab| lab.mark().is_some_and(|mark| mark.tries == 3));
    let mark = lab.mark().expect("it is held");
    lab.responder = Responder::new(acting());
    lab.responder.lead(lab.now, true);
    lab.list(10);
    assert!(lab.responder.held().map(|held| held.mark).eq([mark.clone()]), "it knows what is held");
    let written = lab.writes.len();
    lab.run(secs(200), |lab| lab.writes.len() > written);
    let probed = lab.writes[written].0;
    assert_eq!(lab.writes[written].1, Action::Probe);
    let until = mark.until.expect("it is tried again");
    assert!(probed.since(until) < secs(1) && until.since(probed).is_zero(), "as the one before would have");
}

#[test]
fn what_a_journal_remembers_is_left_alone_until_the_cool_down_has_passed() {
    let mut lab = looping(Response::ScaleToZero);
    let subject = lab.scene.storm.as_ref().expect("it storms").subject.clone();
    let done = Decision { subject, ..a_decision("one", Action::Quarantine, lab.now.minus(secs(100))) };
    lab.responder.remember(lab.now, &[done], &[]);
    assert_eq!(lab.refusal(), Refusal::CoolDown);
    lab.pass(secs(201));
    assert_eq!(lab.step(), Some(Action::Quarantine));
}

#[test]
fn a_let_go_before_the_last_quarantine_does_not_shorten_its_cool_down() {
    let mut lab = looping(Response::ScaleToZero);
    let subject = lab.scene.storm.as_ref().expect("it storms").subject.clone();
    let template = View::read(&lab.service).expect("a service").template;
    let done = Decision { subject: subject.clone(), ..a_decision("one", Action::Quarantine, lab.now.minus(secs(10))) };
    let let_go = LetGo { at: lab.now.minus(secs(295)), subject, storm: String::new(), template, why: String::new() };
    lab.responder.remember(lab.now, &[done], &[let_go]);
    lab.pass(secs(20));
    assert_eq!(lab.refusal(), Refusal::CoolDown);
}

#[test]
fn what_was_done_within_the_hour_spends_the_budget_of_the_next_process() {
    let mut lab = looping(Response::ScaleToZero);
    let done: Vec<Decision> =
        (0..60).map(|n| a_decision(&format!("s{n}"), Action::Quarantine, lab.now.minus(secs(60)))).collect();
    lab.responder.remember(lab.now, &done, &[]);
    assert_eq!(lab.step(), Some(Action::Quarantine), "one has come back since");
    let mut other = looping(Response::ScaleToZero);
    std::mem::swap(&mut other.responder, &mut lab.responder);
    other.service["ID"] = json!("svc2");
    other.storms(Cause::Mount);
    let mut refusals = 0;
    while let Verdict::Refused { .. } = other.decide() {
        refusals += 1;
        other.pass(secs(5));
        assert!(refusals < 100);
    }
    assert!(refusals > 0);
}

#[test]
fn what_the_labels_say_tells_how_an_unknown_decision_ended() {
    let lab = held(Response::Backoff);
    let mark = lab.mark().expect("it is held");
    let mut bare = held(Response::Backoff);
    bare.strip_labels();
    let (marked, bare) = (View::read(&lab.service), View::read(&bare.service));
    let outcome =
        |action, at, view: &Option<View>| Responder::outcome_of(&a_decision("svc1", action, at), view.as_ref());
    let (before, at, after) = (mark.at.minus(secs(1)), mark.at, mark.at.plus(secs(1)));
    for action in [Action::Quarantine, Action::Probe, Action::Raise] {
        assert_eq!(outcome(action, before, &marked), Outcome::Raced, "{action}: another one came after");
        assert_eq!(outcome(action, at, &marked), Outcome::Done, "{action}");
        assert_eq!(outcome(action, after, &marked), Outcome::NotDone, "{action}: the mark is older");
        assert_eq!(outcome(action, at, &bare), Outcome::NotDone, "{action}");
        assert_eq!(outcome(action, at, &None), Outcome::NotDone, "{action}: the service is gone");
    }
    assert_eq!(outcome(Action::Release, at, &bare), Outcome::Done);
    assert_eq!(outcome(Action::Release, after, &marked), Outcome::NotDone);
    assert_eq!(outcome(Action::Release, before, &marked), Outcome::Done, "held again since");
    assert_eq!(outcome(Action::Release, at, &None), Outcome::NotDone);
}

// Races, failures and what they cost.

#[test]
fn a_race_is_read_and_decided_again_and_not_paid_again() {
    let settings = Settings { actions_per_hour: NonZeroU32::MIN, ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 3}}), Response::ScaleToZero);
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    for _ in 0..4 {
        let permit = lab.permit();
        lab.touch();
        lab.responder.settle(lab.now, &permit, Outcome::Raced);
        assert_eq!(lab.responder.due(lab.now), [lab.id()], "at once");
    }
    assert_eq!(lab.step(), Some(Action::Quarantine));
    let counters = lab.responder.counters();
    assert_eq!((counters.settled[&Outcome::Raced], counters.settled[&Outcome::Done]), (4, 1));
}

#[test]
fn a_race_that_goes_on_is_not_run_for_ever() {
    let mut lab = looping(Response::ScaleToZero);
    let mut spins = 0;
    while lab.responder.due(lab.now).contains(&lab.id()) {
        let permit = lab.permit();
        lab.touch();
        lab.responder.settle(lab.now, &permit, Outcome::Raced);
        spins += 1;
        assert!(spins < 20);
    }
    assert!(lab.responder.next_deadline().is_some_and(|next| next.since(lab.now) <= secs(60)));
}

#[test]
fn a_refused_write_is_tried_again_later_and_not_paid_again() {
    let settings = Settings { actions_per_hour: NonZeroU32::MIN, ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 3}}), Response::ScaleToZero);
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let permit = lab.permit();
        lab.responder.settle(lab.now, &permit, Outcome::Failed);
        let next = lab.responder.next_deadline().expect("it is tried again");
        waits.push(next.since(lab.now).as_secs());
        lab.now = next;
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(lab.step(), Some(Action::Quarantine));
}

#[test]
fn a_write_whose_answer_was_lost_is_found_done_and_pays_for_nothing_else() {
    let settings = Settings { actions_per_hour: NonZeroU32::MIN, ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 3}}), Response::Backoff);
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    let permit = lab.permit();
    lab.write(&permit);
    lab.responder.settle(lab.now, &permit, Outcome::Failed);
    lab.pass(secs(2));
    assert!(matches!(lab.decide(), Verdict::Nothing), "it is held");
    assert_eq!(lab.responder.held().count(), 1);
    lab.pass(secs(20));
    // The one action of the hour is spent: a watched attempt and its end are two.
    assert_eq!(lab.refusal(), Refusal::ActionBudget);
}

#[test]
fn a_release_whose_answer_was_lost_is_no_let_go() {
    for replicas in [1, 3] {
        let mut lab = Lab::replicated(replicas, Response::Backoff);
        lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
        lab.step();
        lab.subsides();
        lab.fate = runs;
        let permit = loop {
            lab.pass(Duration::from_millis(100));
            lab.work();
            assert!(lab.now.since(BASE) < secs(600), "it comes back");
            if lab.responder.due(lab.now).is_empty() {
                continue;
            }
            let Verdict::Permitted(permit) = lab.decide() else { continue };
            if permit.decision().action == Action::Release {
                break permit;
            }
            lab.act(&permit);
        };
        lab.write(&permit);
        lab.responder.settle(lab.now, &permit, Outcome::Failed);
        lab.list(10);
        lab.pass(secs(2));
        assert!(matches!(lab.decide(), Verdict::Nothing), "{replicas} replicas");
        assert_eq!(lab.responder.counters().let_go, 0);
    }
}

#[test]
fn a_try_that_the_budget_refuses_costs_nothing() {
    let settings = Settings { actions_per_hour: NonZeroU32::new(4).expect("not zero"), ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 1}}), Response::Backoff);
    lab.loops(&[(1, "n1")]);
    // Two quarantines of others, and its own.
    let others = ["a", "b"].map(|id| a_decision(id, Action::Quarantine, lab.now));
    lab.responder.remember(lab.now, &others, &[]);
    assert_eq!(lab.step(), Some(Action::Quarantine));
    lab.fate = runs;
    lab.run(secs(3600), |lab| lab.writes.len() > 1);
    // One is left, one more comes back every 15 min, and a watched attempt takes two.
    assert!(lab.now.since(BASE) < secs(1000), "tried after {:?}", lab.now.since(BASE));
}

#[test]
fn an_attempt_that_fails_can_be_stopped_when_the_budget_is_spent() {
    let settings = Settings { actions_per_hour: NonZeroU32::new(4).expect("not zero"), ..acting() };
    let mut lab = Lab::new(settings, &json!({"Replicated": {"Replicas": 1}}), Response::Backoff);
    lab.loops(&[(1, "n1")]);
    lab.step();
    lab.run(secs(15), |lab| lab.actions().last() == Some(&Action::Probe));
    let spent: Vec<Decision> = (0..9).map(|n| a_decision(&format!("s{n}"), Action::Quarantine, lab.now)).collect();
    lab.responder.remember(lab.now, &spent, &[]);
    lab.run(secs(2), |lab| lab.writes.len() == 3);
    assert_eq!(lab.actions(), [Action::Quarantine, Action::Probe, Action::Quarantine]);
}

#[test]
fn a_service_that_is_back_is_not_held_again_for_the_storm_that_it_had() {
    let mut lab = looping(Response::Backoff);
    lab.step();
    lab.run(secs(1400), |lab| lab.mark().is_some_and(|mark| mark.tries == 7));
    lab.fate = runs;
    // The tries were failures too: the detector waits for three of its loop periods, which have grown.
    lab.run(secs(7200), |lab| lab.actions().last() == Some(&Action::Release));
    assert_eq!(lab.actions().last(), Some(&Action::Release));
    let written = lab.writes.len();
    lab.list(10);
    lab.run(secs(3600), |lab| lab.writes.len() > written);
    assert_eq!(lab.writes.len(), written, "{:?}", lab.actions());
}

#[test]
fn a_service_that_cannot_be_read_is_not_looked_at_without_end() {
    let mut lab = looping(Response::Backoff);
    lab.service["Version"] = json!({});
    assert!(matches!(lab.decide(), Verdict::Nothing));
    lab.responder.forget("svc1");
    assert_eq!(lab.responder.due(lab.now), Vec::<String>::new());
}

#[test]
fn a_service_that_is_gone_is_forgotten() {
    let mut lab = held(Response::Backoff);
    lab.responder.begin_listing();
    lab.responder.end_listing(lab.now);
    assert_eq!(lab.responder.due(lab.now), [lab.id()], "it is looked for");
    lab.responder.forget("svc1");
    assert_eq!(lab.responder.held().count(), 0);
    assert_eq!(lab.responder.next_deadline(), None);
}

// By hand.

#[test]
fn a_person_may_hold_what_does_not_storm_and_what_is_not_opted_in() {
    for response in [Response::Pause, Response::ScaleToZero, Response::Backoff] {
        let mut lab = Lab::replicated(3, Response::Observe);
        lab.label(RESPONSE_LABEL, None);
        lab.label(IGNORE_LABEL, Some("true"));
        let before = lab.spec();
        let scene = Scene { nodes: lab.scene.nodes.clone(), ..Scene::default() };
        let settings = Settings::default();
        let look = Look { service: &lab.service, tasks: &[] };
        let permit = Responder::quarantine_by_hand(&settings, lab.now, look, &scene, response).expect("permitted");
        assert_eq!(permit.decision().by, Author::Hand);
        lab.write(&permit);
        let mark = lab.mark().expect("it is held");
        assert_eq!(
            (mark.by, mark.response, mark.until.is_some()),
            (Author::Hand, response, response == Response::Backoff)
        );
        let look = Look { service: &lab.service, tasks: &[] };
        let again = Responder::quarantine_by_hand(&settings, lab.now, look, &scene, response);
        assert_eq!(again.err(), Some(Refusal::Held));
        let permit = Responder::release_by_hand(lab.now, look).expect("it is held");
        lab.write(&permit);
        assert_eq!(lab.spec(), before);
        let look = Look { service: &lab.service, tasks: &[] };
        assert_eq!(Responder::release_by_hand(lab.now, look).err(), Some(Refusal::Gone));
    }
}

#[test]
fn a_person_too_is_kept_from_harm() {
    let settings = Settings::default();
    let hand = |lab: &Lab, settings: &Settings, response| {
        let facts: Vec<TaskFact<'_>> = lab.tasks.iter().map(|task| fact(task, "svc1")).collect();
        let look = Look { service: &lab.service, tasks: &facts };
        Responder::quarantine_by_hand(settings, lab.now, look, &lab.scene, response).map(|_| ())
    };
    let mut lab = Lab::replicated(1, Response::Observe);
    assert_eq!(hand(&lab, &settings, Response::Observe), Err(Refusal::Observe));
    lab.task(1, "n1", secs(60), TaskState::Running);
    assert_eq!(hand(&lab, &settings, Response::Pause), Err(Refusal::HealthyReplica));
    let harmful = Settings { allow_healthy: true, ..settings.clone() };
    assert_eq!(hand(&lab, &harmful, Response::Pause), Ok(()));
    lab.service["UpdateStatus"] = json!({"State": "updating"});
    assert_eq!(hand(&lab, &harmful, Response::Pause), Err(Refusal::Rollout));
    lab.edit(|spec| spec["Mode"] = json!({"GlobalJob": {}}));
    assert_eq!(hand(&lab, &harmful, Response::Pause), Err(Refusal::Unsupported));
    lab.label("squall.quarantine", Some("held"));
    assert_eq!(hand(&lab, &harmful, Response::Pause), Err(Refusal::BadLabel));
    let look = Look { service: &lab.service, tasks: &[] };
    assert_eq!(Responder::release_by_hand(lab.now, look).err(), Some(Refusal::BadLabel));
    let nothing = json!({});
    let look = Look { service: &nothing, tasks: &[] };
    assert_eq!(Responder::release_by_hand(lab.now, look).err(), Some(Refusal::Gone));
}

#[test]
fn what_a_person_released_is_let_go_and_left_alone() {
    let mut lab = held(Response::ScaleToZero);
    let permit = Responder::release_by_hand(lab.now, Look { service: &lab.service, tasks: &[] }).expect("it is held");
    lab.write(&permit);
    lab.list(10);
    lab.step();
    assert_eq!(lab.let_goes.len(), 1);
    assert_eq!(lab.responder.held().count(), 0);
    lab.pass(secs(11));
    lab.loops(&[(1, "n1"), (2, "n2"), (3, "n3")]);
    assert_eq!(lab.refusal(), Refusal::CoolDown);
}

#[test]
fn a_service_that_somebody_had_stopped_is_not_started_by_its_backoff() {
    let mut lab = Lab::replicated(0, Response::Observe);
    let settings = Settings::default();
    let look = Look { service: &lab.service, tasks: &[] };
    let permit = Responder::quarantine_by_hand(&settings, lab.now, look, &lab.scene, Response::Backoff);
    let Ok(permit) = permit else { return };
    lab.write(&permit);
    lab.list(10);
    lab.fate = runs;
    lab.run(secs(300), |_| false);
    assert!(lab.tasks.is_empty(), "{:?}", lab.sets());
}

/// Its service was removed and made again under its name.
#[test]
fn a_service_made_again_is_held_for_its_own_failures() {
    let mut lab = looping(Response::Backoff);
    let storm = lab.scene.storm.clone().expect("it storms");
    lab.tasks.clear();
    lab.responder = Responder::new(acting());
    lab.responder.lead(lab.now, true);
    let former = Subject { id: "before".to_owned(), ..storm.subject.clone() };
    lab.responder.take(lab.now, &Notice::Onset(Arc::new(Storm { subject: former, ..storm.clone() })));
    lab.responder.take(lab.now, &Notice::Moved { storm: Arc::new(storm), from: "before".to_owned() });
    assert_eq!(lab.responder.due(lab.now), ["svc1"], "the id before is forgotten");
    assert_eq!(lab.refusal(), Refusal::TooFewFailures);
    lab.pass(secs(30));
    for age in [12, 10, 8, 6, 4, 2] {
        lab.task(1, "n1", secs(age), TaskState::Rejected);
    }
    lab.touch();
    lab.permit();
}
