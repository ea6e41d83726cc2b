//! Three managers in network namespaces of their own, a squall on each: the one on the Swarm's leader acts, and when
//! that dies the next one goes on from the services' labels.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/lab.rs"]
mod lab;

use std::fs;
use std::time::{Duration, Instant};

use lab::{Lab, Watch, now};
use serde_json::Value;

const MANAGERS: usize = 3;

struct Managers {
    lab: Lab,
    nodes: Vec<Lab>,
    watches: Vec<Option<Watch>>,
    dirs: Vec<tempfile::TempDir>,
}

impl Managers {
    fn start(respond: &str) -> Self {
        let lab = Lab::enter_managers();
        let nodes: Vec<Lab> = (1..=MANAGERS).map(|node| lab.at_node(node)).collect();
        let dirs: Vec<_> = nodes.iter().map(|_| tempfile::tempdir().unwrap()).collect();
        let watch = |(node, dir): (&Lab, &tempfile::TempDir)| {
            let path = dir.path().join("squall.toml");
            let text = format!("[respond]\nact = true\nenforce = \"all\"\nheld_min = 100\n{respond}\n");
            fs::write(&path, text).unwrap();
            Some(Watch::start_with(node, dir.path(), &["--log", node.log(), "--config", path.to_str().unwrap()]))
        };
        let watches = nodes.iter().zip(&dirs).map(watch).collect();
        Self { lab, nodes, watches, dirs }
    }

    /// Which node leads, as the others of them see it.
    fn leader(&self, except: Option<usize>) -> Option<usize> {
        let node = (1..=MANAGERS).find(|node| Some(*node) != except)?;
        let list = self.nodes[node - 1].docker_says(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
        let leader = list.lines().find_map(|line| line.strip_suffix(" Leader"))?;
        leader.trim().strip_prefix("node")?.parse().ok()
    }

    fn watch(&mut self, node: usize) -> &mut Watch {
        self.watches[node - 1].as_mut().unwrap()
    }

    /// The permitted decisions of a node's journal, with their settlements.
    fn permitted(&self, node: usize) -> Vec<Value> {
        let state = self.dirs[node - 1].path().join("state");
        let report =
            self.nodes[node - 1].squall_says(&["report", "--format", "json", "--state-dir", state.to_str().unwrap()]);
        let mut report: Value = serde_json::from_str(&report).unwrap();
        let Value::Array(decisions) = report["decisions"].take() else { panic!("no array") };
        decisions.into_iter().filter(|decision| decision["refusal"].is_null()).collect()
    }
}

#[track_caller]
fn wait<T>(what: &str, secs: u64, mut answer: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(secs);
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < until, "not in {secs} s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How far an action has come when the leader's dockerd is killed.
#[derive(Debug, PartialEq, Eq)]
enum Moment {
    /// The storm is about to trip the breaker.
    Before,
    /// It trips: the change is decided, and on its way.
    Within,
    /// The change is done, and told.
    After,
}

#[test]
fn when_the_leader_dies_within_an_action_the_next_one_settles_it_once() {
    for moment in [Moment::Before, Moment::Within, Moment::Within, Moment::After] {
        let mut managers = Managers::start("response = \"scale-to-zero\"");
        let leader = wait("a leader", 20, || managers.leader(None));
        let survivor = leader % MANAGERS + 1;
        managers.lab.create_loop("looping");
        let id = managers.lab.services()["looping"].0.clone();
        match moment {
            Moment::Before => {
                let failures = |node: &Lab| node.failures(&id).len();
                wait("it is about to trip", 30, || {
                    (managers.nodes.iter().map(failures).sum::<usize>() >= 5).then_some(())
                });
            }
            Moment::Within => {
                let until = Instant::now() + Duration::from_secs(30);
                while managers.watch(leader).notices("onset").is_empty() {
                    assert!(Instant::now() < until, "no storm");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Moment::After => {
                let is_permitted = |watch: &Watch| watch.words().contains("permitted").then_some(());
                managers.watch(leader).until("a decision", 30, is_permitted);
            }
        }
        managers.lab.kill_docker(leader);
        let killed = now();
        let next = wait("a new leader", 60, || managers.leader(Some(leader)).filter(|next| *next != leader));
        println!("{moment:?}: node{next} leads {:?} after the death of node{leader}", now().since(killed));
        let node = &managers.nodes[survivor - 1];
        wait("it is held", 60, || {
            let spec = node.spec("looping");
            (spec["Labels"]["squall.quarantine"] == "held")
                .then(|| assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 0))
        });
        println!("{moment:?}: held {:?} after its death", now().since(killed));
        managers.lab.revive_docker(leader);
        let outcomes = wait("all of it is settled", 60, || {
            let all: Vec<Value> = (1..=MANAGERS).flat_map(|node| managers.permitted(node)).collect();
            let done = all.iter().filter(|decision| decision["settlement"]["outcome"] == "done").count();
            let open = all.iter().filter(|decision| decision["settlement"].is_null()).count();
            assert!(done <= 1, "done once: {all:#?}");
            let outcome = |node| -> Vec<Value> {
                managers.permitted(node).iter().map(|decision| decision["settlement"]["outcome"].clone()).collect()
            };
            (done == 1 && open == 0).then(|| (1..=MANAGERS).map(|node| (node, outcome(node))).collect::<Vec<_>>())
        });
        println!("{moment:?}: settled as {outcomes:?}");
        for node in &managers.nodes {
            let status: Value = serde_json::from_str(&node.squall_says(&["status", "--format", "json"])).unwrap();
            assert_eq!(status["held"][0]["service"], "looping");
            assert_eq!(status["held"][0]["phase"], "held");
        }
        for watch in managers.watches.iter_mut().filter_map(Option::take) {
            assert_eq!(watch.terminate(), Some(0));
        }
    }
}

#[test]
fn a_new_leader_goes_on_with_what_the_old_one_holds() {
    let mut managers = Managers::start("response = \"backoff\"\nbackoff_min = \"20s\"\nstable_for = \"5s\"");
    let leader = wait("a leader", 20, || managers.leader(None));
    managers.lab.create_loop("looping");
    managers.watch(leader).until("it is held", 30, |watch| watch.words().contains("done").then_some(()));
    let until =
        managers.nodes[leader - 1].spec("looping")["Labels"]["squall.quarantine.until"].as_str().unwrap().to_owned();
    managers.lab.kill_docker(leader);
    let next = wait("a new leader", 60, || managers.leader(Some(leader)).filter(|next| *next != leader));
    let leads = now();
    let settled = managers.watch(next).until("the new leader tries it again", 60, |watch| {
        watch.notices("settlement").into_iter().find(|line| line["decision"]["action"] == "probe")
    });
    let at = squall::model::Timestamp::parse(settled["settlement"]["at"].as_str().unwrap()).unwrap();
    let due = squall::model::Timestamp::parse(&until).unwrap();
    println!("node{next} tries {:?} after it was due, {:?} before", at.since(due), due.since(at));
    assert!(at >= due, "due {due}, tried {at}");
    // On a busy machine a leader may be elected only after that.
    assert!(leads > due || at.since(due) < Duration::from_secs(5), "due {due}, tried {at}");
    // It fails, and is held again for longer.
    managers.watch(next).until("it is held again", 20, |watch| {
        watch.notices("settlement").into_iter().find(|line| line["decision"]["action"] == "quarantine")
    });
    assert_eq!(managers.nodes[next - 1].spec("looping")["Labels"]["squall.quarantine.tries"], "1");
}

#[test]
fn a_leader_that_is_demoted_leaves_the_ends_of_cases_to_the_next_one() {
    let mut managers = Managers::start("response = \"backoff\"\nbackoff_min = \"10m\"");
    let leader = wait("a leader", 20, || managers.leader(None));
    let name = format!("node{leader}");
    managers.lab.create_loop("looping");
    managers.watch(leader).until("it is held", 30, |watch| watch.words().contains("done").then_some(()));
    let role = |watch: &Watch, role: &str| watch.notices("role").iter().any(|line| line["why"] == role).then_some(());

    let other = leader % MANAGERS + 1;
    managers.nodes[other - 1].docker(&["node", "demote", &name]);
    managers.watch(leader).until("it knows that it is a worker", 60, |watch| role(watch, "worker"));
    let next = wait("a new leader", 60, || managers.leader(Some(leader)).filter(|next| *next != leader));
    managers.nodes[next - 1].docker(&["service", "rm", "looping"]);
    managers.watch(next).until("it is over", 90, |watch| (!watch.notices("subsided").is_empty()).then_some(()));
    assert_eq!(managers.watch(leader).notices("subsided"), [] as [Value; 0]);

    managers.nodes[next - 1].docker(&["node", "promote", &name]);
    managers.watch(leader).until("it is a manager again", 60, |watch| role(watch, "manager"));
    for watch in managers.watches.iter_mut().filter_map(Option::take) {
        assert_eq!(watch.terminate(), Some(0));
    }
}
