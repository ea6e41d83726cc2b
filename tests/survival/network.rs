//! The network between managers is cut.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "what happens, and when")]

use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::{Lab, Watch, now};
use super::trial::{Account, Fault, RESPOND, Trial};

const MANAGERS: usize = 3;
/// How long it stays cut.
const CUT: Duration = Duration::from_secs(180);
/// How long the minority is watched after the network is whole again.
const AFTERWARDS: Duration = Duration::from_secs(60);

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_network_between_managers_is_cut() {
    let mut trial = Trial::begin_on("the network cut for 3 min", Lab::enter_managers());
    let nodes: Vec<Lab> = (1..=MANAGERS).map(|node| trial.lab.at_node(node)).collect();
    let mut watches: Vec<Watch> = nodes.iter().enumerate().map(|(at, node)| start(&trial, at, node)).collect();
    trial.storm("s-before", Fault::Mount, Some("scale-to-zero"));
    trial.storm("s-observed", Fault::Exit, None);
    let leader = leader(&nodes[0]).expect("a leader");
    let other = leader % MANAGERS;
    watches[leader - 1].until("the leader's holds", 90, |watch| holds(watch, "s-before").then_some(()));
    // The others may have seen too little of what is held at once.
    for watch in &mut watches {
        watch.until("each tells what goes on", 90, |watch| {
            watch.by_service("onset").contains_key("s-observed").then_some(())
        });
    }

    let before = done(&watches[leader - 1]);
    let (from, cut) = (now(), Instant::now());
    trial.lab.cut_network(leader);
    let next = wait_for(120, || self::leader(&nodes[other]).filter(|next| *next != leader));
    println!("node{leader} is cut off; node{next} leads after {:.1?}", cut.elapsed());
    // From here on it is asked at the majority's. The lab ends when this goes.
    let whole = std::mem::replace(&mut trial.lab, nodes[next - 1].at_node(next));
    trial.storm("s-within", Fault::Mount, Some("scale-to-zero"));
    watches[next - 1].until("the new leader's holds", 120, |watch| holds(watch, "s-within").then_some(()));
    let troubled = watches[leader - 1].until("the minority says that it cannot ask", 150, |watch| {
        (!watch.notices("trouble").is_empty()).then(|| cut.elapsed())
    });
    std::thread::sleep(CUT.saturating_sub(cut.elapsed()));
    let acted = done(&watches[leader - 1]) - before;
    trial.expect(acted == 0, || format!("the minority acted {acted} times"));
    whole.mend_network(leader);
    let to = now();
    trial.storm("s-after", Fault::Mount, Some("scale-to-zero"));
    // Whoever leads by now: what is held at once may be over before the others have seen enough of it.
    wait_for(180, || watches.iter().any(|watch| holds(watch, "s-after")).then_some(()));
    watches[leader - 1].until("the minority says what it could not see", 180, |watch| watch.notices("gap").pop());
    trial.was_out(from, to);
    std::thread::sleep(AFTERWARDS);
    let gaps = watches[leader - 1].notices("gap").len();
    let more = format!(
        "node{leader} cut off, it says so after {troubled:.0?}, {gaps} gaps there; node{next} leads; {}",
        watches[next - 1].usage()
    );
    let account = settle(&mut trial, watches);
    // Whoever stood aside may lead by now; all of them see the same.
    trial.end(&account, "the leader's node dropped all packets of the others for 3 min", &more);
}

fn start(trial: &Trial, at: usize, node: &Lab) -> Watch {
    let name = format!("node{}", at + 1);
    let dir = trial.dir.path().join(&name);
    std::fs::create_dir(&dir).unwrap();
    let config = trial.config(&name, RESPOND, "");
    Watch::start_with(node, &dir, &["--log", node.log(), "--enforce", "--config", config.to_str().unwrap()])
}

/// All that the three have done; each may tell a storm once.
fn settle(trial: &mut Trial, watches: Vec<Watch>) -> Account {
    let mut all = Account::default();
    for (at, watch) in watches.into_iter().enumerate() {
        let mut account = Account::default();
        trial.settle(watch, &format!("node{}/state", at + 1), &mut account);
        for (name, count) in account.onsets {
            trial.expect(count == 1, || format!("{name} was told {count} times at node{}", at + 1));
            all.onsets.insert(name, 1);
        }
        all.words.extend(account.words);
        all.subsided.extend(account.subsided);
        all.gaps.extend(account.gaps);
        all.lost += account.lost;
        all.back += account.back;
        all.permitted.extend(account.permitted);
        all.done.extend(account.done);
        all.peak_kb = all.peak_kb.max(account.peak_kb);
    }
    all.done.sort();
    all
}

/// Which node leads, as this one sees it.
fn leader(node: &Lab) -> Option<usize> {
    let list = node.docker_says(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
    let leader = list.lines().find_map(|line| line.strip_suffix(" Leader"))?;
    leader.trim().strip_prefix("node")?.parse().ok()
}

fn done(watch: &Watch) -> usize {
    watch.notices("settlement").iter().filter(|line| line["settlement"]["outcome"] == "done").count()
}

fn holds(watch: &Watch, name: &str) -> bool {
    let is_hold = |line: &Value| {
        line["decision"]["subject"]["name"] == name
            && line["decision"]["action"] == "quarantine"
            && line["settlement"]["outcome"] == "done"
    };
    watch.notices("settlement").iter().any(is_hold)
}

fn wait_for<T>(secs: u64, mut answer: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(secs);
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < until, "not in {secs} s");
        std::thread::sleep(Duration::from_millis(200));
    }
}
