//! When it is the registry, when a budget that this Swarm spent, and when neither.
#![expect(clippy::expect_used, reason = "a test panics on a surprise")]

use squall::detect::{Detector, Settings};
use squall::ingest::{Reading, read_line};
use squall::model::{Finding, FindingKind, SubjectKind, Timestamp};

const BEGAN: i64 = 1_795_269_600;

fn at(secs: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
    let nanos = (secs * 1e9) as i64;
    Timestamp::from_nanos(BEGAN * 1_000_000_000 + nanos).to_string()
}

/// A Swarm of two nodes that is told what happens.
struct Swarm {
    detector: Detector,
    tasks: u32,
}

impl Swarm {
    fn new() -> Self {
        let mut swarm = Self { detector: Detector::new(Settings::default()), tasks: 0 };
        for node in ["n1", "n2"] {
            swarm.tell(&format!(
                r#"{{"ID":"{node}","CreatedAt":"{}","Spec":{{"Role":"manager","Availability":"active"}},"Description":{{"Hostname":"{node}","Engine":{{"EngineVersion":"26.1.5"}}}},"Status":{{"State":"ready"}}}}"#,
                at(0.0)
            ));
        }
        swarm
    }

    fn tell(&mut self, line: &str) {
        match read_line(line, 0) {
            Reading::Observation(observation) => self.detector.observe(&observation),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn service(&mut self, name: &str, stack: Option<&str>, image: &str) {
        let labels = stack.map_or(String::new(), |stack| format!(r#""com.docker.stack.namespace":"{stack}""#));
        self.tell(&format!(
            r#"{{"ID":"{name}","CreatedAt":"{0}","UpdatedAt":"{0}","Spec":{{"Name":"{name}","Labels":{{{labels}}},"Mode":{{"Replicated":{{"Replicas":1}}}},"TaskTemplate":{{"ContainerSpec":{{"Image":"{image}"}}}}}}}}"#,
            at(0.5)
        ));
    }

    /// A pull of a service fails on a node, and its task with it.
    fn fails(&mut self, secs: f64, service: &str, image: &str, node: &str, error: &str) {
        self.tasks += 1;
        let task = format!("t{}", self.tasks);
        let time = at(secs);
        self.tell(&format!(
            r#"time="{time}" level=error msg="pulling image failed" error="{error}" module=node/agent/taskmanager node.id={node} service.id={service} task.id={task}"#
        ));
        self.tell(&format!(
            r#"{{"ID":"{task}","Version":{{"Index":{0}}},"CreatedAt":"{time}","UpdatedAt":"{time}","ServiceID":"{service}","NodeID":"{node}","Slot":1,"Status":{{"Timestamp":"{time}","State":"rejected","Message":"preparing","Err":"No such image: {image}"}},"DesiredState":"shutdown","Spec":{{"ContainerSpec":{{"Image":"{image}"}}}}}}"#,
            self.tasks
        ));
    }

    /// A task that has been preparing since then.
    fn hangs(&mut self, secs: f64, service: &str, image: &str, node: &str) {
        self.tasks += 1;
        self.tell(&format!(
            r#"{{"ID":"h{0}","Version":{{"Index":{0}}},"CreatedAt":"{1}","UpdatedAt":"{1}","ServiceID":"{service}","NodeID":"{node}","Slot":1,"Status":{{"Timestamp":"{1}","State":"preparing","Message":"preparing"}},"DesiredState":"running","Spec":{{"ContainerSpec":{{"Image":"{image}"}}}}}}"#,
            self.tasks,
            at(secs)
        ));
    }

    fn findings(&self, secs: i64) -> Vec<Finding> {
        self.detector.findings(Timestamp::from_secs(BEGAN + secs))
    }
}

const BROKEN: &str = "received unexpected HTTP status: 503 Service Temporarily Unavailable";
const ABUSE: &str = "toomanyrequests: Too Many Requests (HAP429).";

fn image(service: &str) -> String {
    format!("r.example/{service}:1")
}

/// Services of stacks that have nothing to do with one another fail twice a second, turn by turn, on two nodes.
fn unrelated(swarm: &mut Swarm, error: &str, rounds: u32) {
    let services = [("api", Some("shop")), ("crm_web", Some("crm")), ("lone", None)];
    for (name, stack) in services {
        swarm.service(name, stack, &image(name));
    }
    for round in 0..rounds {
        for (place, (name, _)) in services.iter().enumerate() {
            let node = if (round as usize + place).is_multiple_of(2) { "n1" } else { "n2" };
            swarm.fails(2.0 + f64::from(round) * 2.0, name, &image(name), node, error);
        }
    }
}

#[test]
fn a_registry_that_fails_unrelated_services_is_one_finding() {
    let mut swarm = Swarm::new();
    unrelated(&mut swarm, BROKEN, 4);
    let findings = swarm.findings(12);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = &findings[0];
    assert_eq!((finding.kind, finding.subject.kind), (FindingKind::RegistryIncident, SubjectKind::Registry));
    assert_eq!((&*finding.subject.name, finding.cause.as_str()), ("r.example", "registry-error"));
    assert_eq!((finding.tasks, &*finding.nodes), (12, &["n1".to_owned(), "n2".to_owned()][..]));
    assert!(finding.detail.contains("api, crm_web, lone") && finding.detail.contains("503"), "{}", finding.detail);
    assert_eq!(finding.since.to_string(), at(2.0));
    assert_eq!(swarm.findings(300), [], "it is over");
}

#[test]
fn what_services_of_one_stack_fail_of_is_their_own() {
    let mut swarm = Swarm::new();
    for name in ["shop_a", "shop_b", "shop_c"] {
        swarm.service(name, Some("shop"), &image(name));
        for round in 0..4 {
            let node = if round % 2 == 0 { "n1" } else { "n2" };
            swarm.fails(2.0 + f64::from(round), name, &image(name), node, BROKEN);
        }
    }
    assert_eq!(swarm.findings(8), []);
}

#[test]
fn what_one_node_of_several_cannot_reach_may_be_the_nodes_fault() {
    let mut swarm = Swarm::new();
    for (name, stack) in [("api", "shop"), ("web", "crm"), ("db", "bi")] {
        swarm.service(name, Some(stack), &image(name));
        for round in 0..4 {
            swarm.fails(2.0 + f64::from(round), name, &image(name), "n2", BROKEN);
        }
    }
    assert_eq!(swarm.findings(8), []);
}

#[test]
fn an_image_that_is_missing_is_no_incident() {
    let mut swarm = Swarm::new();
    unrelated(&mut swarm, "manifest for r.example/x:1 not found: manifest unknown: manifest unknown", 4);
    assert_eq!(swarm.findings(12), []);
}

#[test]
fn a_429_without_requests_of_our_own_is_the_registrys_or_somebody_elses() {
    let mut swarm = Swarm::new();
    unrelated(&mut swarm, ABUSE, 3);
    let kinds: Vec<FindingKind> = swarm.findings(9).iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::RegistryIncident], "nothing was asked before the first refusal");
}

#[test]
fn a_429_after_a_storm_of_our_own_is_a_budget_that_we_spent() {
    let mut swarm = Swarm::new();
    swarm.service("loops", Some("shop"), "r.example/loops:1");
    for pull in 0..100 {
        let time = Timestamp::parse(&at(1.0 + f64::from(pull) / 10.0)).expect("a time").as_nanos();
        swarm.tell(&format!(
            r#"{{"Type":"image","Action":"pull","Actor":{{"ID":"r.example/loops:1","Attributes":{{"name":"r.example/loops"}}}},"scope":"local","time":{},"timeNano":{time}}}"#,
            time / 1_000_000_000
        ));
    }
    swarm.fails(12.0, "loops", "r.example/loops:1", "n1", ABUSE);
    let findings = swarm.findings(14);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].kind, FindingKind::BudgetSpent);
    assert!(findings[0].detail.contains("this Swarm asked 200 times"), "{}", findings[0].detail);
    let registry = &swarm.detector.registries()[0];
    assert_eq!(registry.refused.map(|at| at.to_string()), Some(at(12.0)));
    assert_eq!(registry.asked_before_refusal, Some(200), "a check and a HEAD for each of a hundred pulls");
}

#[test]
fn pulls_that_hang_at_one_registry_are_one_finding() {
    let mut swarm = Swarm::new();
    for (name, stack) in [("api", Some("shop")), ("web", Some("crm")), ("db", None)] {
        swarm.service(name, stack, &image(name));
        swarm.hangs(2.0, name, &image(name), if name == "db" { "n2" } else { "n1" });
    }
    assert_eq!(swarm.findings(200), [], "a large image takes that long");
    let findings = swarm.findings(400);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].kind, findings[0].tasks), (FindingKind::RegistryIncident, 3));
    assert!(findings[0].detail.contains("hang: api, db, web"), "{}", findings[0].detail);
}

#[test]
fn one_pull_that_hangs_is_its_services_own_finding() {
    let mut swarm = Swarm::new();
    swarm.service("api", Some("shop"), &image("api"));
    swarm.hangs(2.0, "api", &image("api"), "n1");
    let findings = swarm.findings(400);
    assert_eq!((findings.len(), findings[0].kind), (1, FindingKind::HangingPull));
    assert_eq!(findings[0].subject.name, "api");
}
