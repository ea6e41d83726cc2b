//! What a Swarm's pulls cost at its registries, on a real Docker Swarm: the one that tests/run starts and SQUALL_LAB
//! names. The judges are a front, which is told what the engine asks for, and the real registry behind it, whose access
//! log has to agree. Each service has a repository of its own, so the logs say who asked.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/front.rs"]
mod front;
#[path = "support/images.rs"]
mod images;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/services.rs"]
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use front::{Asked, Kind, Manner};
use lab::{Lab, Watch};
use serde_json::{Value, json};
use services::Image::{Index, Missing, Single};
use services::Place::{self, Abuse, Basic, Bearer, BearerOfLogin, Open, Quota, Refused, Unavailable};
use services::{FRONTS, Fronts, PRIVATE, Service, by_digest, by_tag, manner};
use squall::budget::{Authentication as Wanted, Engine, Pulled, requests};
use squall::model::{Requests, Subject};

/// How long the services of a scenario live.
const LIFE: Duration = Duration::from_secs(90);
/// How far a stated figure may be off.
const OFF_PERCENT: u64 = 2;
/// How often the task list is read; it keeps five tasks of a slot.
const LOOK: Duration = Duration::from_millis(700);
/// How long a step may take.
const STEP_SECS: u64 = 60;
/// Runs until it is told to stop, and then stops at once and well.
const SERVE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

/// A request, counted.
fn kind(asked: &Asked) -> Requests {
    let mut one = Requests::default();
    match asked.kind {
        Kind::Check => one.checks = 1,
        Kind::Token => one.tokens = 1,
        Kind::ManifestHead => one.manifest_heads = 1,
        Kind::ManifestGet => one.manifest_gets = 1,
        Kind::Blob => one.blobs = 1,
        Kind::Other => panic!("nobody asks for anything else: {asked:?}"),
    }
    one
}

/// Checks, tokens, HEADs and GETs of manifests, blobs.
fn row(asked: Requests) -> [u64; 5] {
    [asked.checks, asked.tokens, asked.manifest_heads, asked.manifest_gets, asked.blobs]
}

#[track_caller]
fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(STEP_SECS);
    while !is_so() {
        assert!(Instant::now() < until, "not in {STEP_SECS} s: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Whether so many tasks of a service run, and no other does.
fn has_running(lab: &Lab, name: &str, replicas: usize) -> bool {
    let format = "{{.DesiredState}} {{.CurrentState}}";
    let states = lab.docker(&["service", "ps", "--format", format, name]);
    let running = states.lines().filter(|state| state.contains(" Running"));
    running.clone().count() == replicas && running.filter(|state| state.starts_with("Running ")).count() == replicas
}

// --- one pull ----------------------------------------------------------------------------------------

/// Something that is done to a service.
struct Step<'a> {
    what: &'static str,
    act: &'a dyn Fn(&Service),
    /// How many tasks run then, and how many there have been.
    tasks: [usize; 2],
    /// What it has to cost: by a client on the manager, and by the tasks.
    cost: fn(Wanted, &Service) -> [Requests; 2],
}

#[test]
fn one_pull_asks_for_what_the_table_of_costs_has() {
    let lab = Lab::enter();
    let fronts = Fronts::start(&lab);
    let create = |service: &Service| fronts.create(service);
    let scale = |service: &Service| drop(lab.docker(&["service", "scale", "--detach", &format!("{}=3", service.name)]));
    let force = |service: &Service| drop(lab.docker(&["service", "update", "--detach", "--force", service.name]));
    let steps = [
        Step { what: "created, absent", act: &create, tasks: [1, 1], cost: first_pull },
        Step { what: "scaled from 1 to 3", act: &scale, tasks: [3, 3], cost: |w, s| further_pulls(w, s, 2) },
        Step { what: "updated by force, 3 replicas", act: &force, tasks: [3, 6], cost: |w, s| further_pulls(w, s, 3) },
    ];
    let mut wrong = Vec::new();
    println!("checks, tokens, manifest HEADs, manifest GETs, blobs: of the client who creates it, and of its tasks");
    for (image, is_pinned) in [(Single, false), (Index, false), (Single, true), (Index, true)] {
        let names = ["one-open", "one-basic", "one-bearer"];
        let services: Vec<Service> = [Open, Basic, Bearer]
            .iter()
            .zip(names)
            .map(|(place, name)| Service { is_pinned, ..by_tag(name, *place, image, &["sh", "-c", SERVE]) })
            .collect();
        services.iter().for_each(|service| fronts.prepare(service));
        for Step { what, act, tasks: [running, in_all], cost } in &steps {
            fronts.forget();
            services.iter().for_each(act);
            services.iter().for_each(|service| {
                let tasks = || lab.docker(&["service", "ps", "--quiet", service.name]).lines().count();
                wait(what, || tasks() == *in_all && has_running(&lab, service.name, *running));
            });
            fronts.await_silence();
            let asked = fronts.asked();
            for (service, wanted) in services.iter().zip([Wanted::None, Wanted::Basic, Wanted::Bearer]) {
                let there = asked.iter().filter(|(place, _)| *place == service.place);
                let of = |is_for_client| -> Requests {
                    there
                        .clone()
                        .filter(|(_, asked)| asked.is_for_client() == is_for_client)
                        .map(|(_, a)| kind(a))
                        .sum()
                };
                let (found, expected) = ([of(true), of(false)].map(row), cost(wanted, service).map(row));
                let by = if is_pinned { "digest" } else { "tag" };
                let line = format!("{:?} {image:?} by {by}, {what}: {found:?}", service.place);
                println!("{line}");
                if found != expected {
                    wrong.push(format!("{line}, but {expected:?} was to be asked"));
                }
            }
        }
        lab.storms("remove", &names);
        services.iter().for_each(|service| images::forget(&lab, &fronts.repository(service)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A digest is resolved on the manager, with the configuration where there is no index; what the node then fetches by
/// digest needs no HEAD.
fn first_pull(wanted: Wanted, service: &Service) -> [Requests; 2] {
    let is_index = service.image == Index;
    let is_pinned = service.is_pinned;
    let fetched = requests(Engine::Graph, wanted, is_pinned, Pulled::Fetched { is_index, layers: 1 });
    if !is_pinned {
        return [Requests::default(), fetched];
    }
    [Requests { manifest_heads: 1, manifest_gets: 1, blobs: u64::from(!is_index), ..fetched }, fetched]
}

/// A digest that is there is asked for by nobody.
fn further_pulls(wanted: Wanted, service: &Service, count: u64) -> [Requests; 2] {
    let pulled = if service.is_pinned { Pulled::Nothing } else { Pulled::Unchanged };
    [Requests::default(), requests(Engine::Graph, wanted, service.is_pinned, pulled) * count]
}

// --- scenarios ---------------------------------------------------------------------------------------

const EXIT: &[&str] = &["sh", "-c", "exit 1"];
const SLEEP: &[&str] = &["sleep", "600"];
const SERVES: &[&str] = &["sh", "-c", SERVE];
const MONITOR: &[&str] = &["--update-monitor", "1s"];
const ONCE: &[&str] = &["--restart-condition", "none"];
const MOUNT: &[&str] = &["--mount", "type=bind,source=/nope,target=/nope"];
const HEALTH: &[&str] =
    &["--health-cmd", "false", "--health-interval", "300ms", "--health-retries", "1", "--stop-grace-period", "100ms"];

/// Storms that begin well and end badly, those that get no image, and one that serves.
#[test]
fn what_is_deployed_by_tag_costs_what_the_registry_says() {
    live_with(
        &[
            by_tag("s-exit", Bearer, Single, EXIT),
            by_tag("s-exit-index", Basic, Index, EXIT),
            by_tag("s-exit-present", BearerOfLogin, Index, EXIT).present(),
            by_tag("s-four", Bearer, Index, EXIT).times(4),
            by_tag("s-mount", Basic, Single, SLEEP).with(MOUNT),
            by_tag("s-mount-open", Open, Index, SLEEP).with(MOUNT),
            by_tag("s-oom", Open, Single, &["tail", "/dev/zero"]).with(&["--limit-memory", "16M"]),
            by_tag("s-health", Bearer, Single, SLEEP).with(HEALTH),
            by_tag("s-entry", Basic, Index, &["x"]).with(&["--entrypoint", "/no/such"]),
            by_tag("s-pending", Open, Single, SLEEP).with(&["--constraint", "node.labels.nobody==has"]),
            by_tag("s-missing", Bearer, Missing, SLEEP),
            by_tag("s-missing-basic", Basic, Missing, SLEEP),
            by_tag("s-noauth", Basic, Single, SLEEP).without_login(),
            by_tag("s-noauth-token", BearerOfLogin, Single, SLEEP).without_login(),
            by_tag(PRIVATE, Bearer, Single, SLEEP),
            by_tag("s-quota", Quota, Single, SLEEP),
            by_tag("s-quota-index", Quota, Index, SLEEP),
            by_tag("s-abuse", Abuse, Missing, SLEEP),
            by_tag("s-503", Unavailable, Missing, SLEEP),
            by_tag("s-refused", Refused, Missing, SLEEP),
            by_tag("c-ok", Bearer, Index, SERVES),
            by_tag("c-roll", Bearer, Index, SERVES).times(3).with(MONITOR),
            by_tag("c-scale", Basic, Single, SERVES),
            by_tag("c-cron", Bearer, Single, &["sleep", "1"]).with(ONCE),
            by_tag("c-gives-up", Open, Single, EXIT).with(&["--restart-max-attempts", "2"]),
        ],
        |lab| exercise(lab, &["c-roll", "c-cron"], "c-scale"),
    );
}

#[test]
fn what_is_deployed_by_digest_costs_what_the_registry_says() {
    live_with(
        &[
            by_digest("d-exit", Bearer, Single, EXIT),
            by_digest("d-exit-index", Basic, Index, EXIT),
            by_digest("d-exit-present", BearerOfLogin, Index, EXIT).present(),
            by_digest("d-four", Bearer, Index, EXIT).times(4),
            by_digest("d-mount", Basic, Single, SLEEP).with(MOUNT),
            by_digest("d-health", Bearer, Single, SLEEP).with(HEALTH),
            by_digest("d-entry", Basic, Index, &["x"]).with(&["--entrypoint", "/no/such"]),
            // None of these can be resolved, so the tag is what stays.
            by_digest("d-missing", Bearer, Missing, SLEEP),
            by_digest("d-quota", Quota, Single, SLEEP),
            by_digest("d-noauth", Basic, Single, SLEEP).without_login(),
            by_digest("c-pinned-roll", BearerOfLogin, Index, SERVES).times(3).with(MONITOR),
            by_digest("c-pinned-scale", Basic, Single, SERVES),
            by_digest("c-pinned-cron", Bearer, Single, &["sleep", "1"]).with(ONCE),
        ],
        |lab| exercise(lab, &["c-pinned-roll", "c-pinned-cron"], "c-pinned-scale"),
    );
}

/// What people do to services that are well: updates by force, and scaling up and down.
fn exercise(lab: &Lab, updated: &[&str], scaled: &str) {
    for replicas in ["4", "1", "4", "1"] {
        std::thread::sleep(LIFE / 5);
        for name in updated {
            lab.docker(&["service", "update", "--quiet", "--detach", "--force", name]);
        }
        lab.docker(&["service", "scale", "--detach", &format!("{scaled}={replicas}")]);
    }
}

/// Lets services live below a watch, does something to them, removes them, and compares what squall says that they have
/// cost with what the registries say.
fn live_with(services: &[Service], exercise: impl FnOnce(&Lab)) {
    let lab = Lab::enter();
    let fronts = Fronts::start(&lab);
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    services.iter().for_each(|service| fronts.prepare(service));
    fronts.forget();
    let mark = fs::metadata(lab.var("REGISTRY_ACCESS_LOG")).unwrap().len();
    let config = fronts.config(dir.path(), None);
    let watch = Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", config.to_str().unwrap()]);
    let seen = Seen::of(&lab, dir.path(), || {
        let began = Instant::now();
        services.iter().for_each(|service| fronts.create(service));
        exercise(&lab);
        std::thread::sleep(LIFE.saturating_sub(began.elapsed()));
        lab.storms("remove", &names);
        fronts.await_silence();
    });
    println!("watch: {}", watch.usage());
    assert_eq!(watch.terminate(), Some(0));
    services.iter().for_each(|service| images::forget(&lab, &fronts.repository(service)));

    let asked = fronts.asked();
    print_truth(services, &asked, &seen);
    assert_agreed(&asked, &in_registry(&lab, mark));
    let state = dir.path().join("state");
    assert_stated(services, &asked, &stated(&lab, &state));
    assert_counted(&lab, &state, services, &seen);
}

/// What docker itself tells of a scenario, for the figures.
struct Seen {
    /// The ids of tasks, by service.
    tasks: BTreeMap<String, BTreeSet<String>>,
    events: Vec<Value>,
}

impl Seen {
    fn of(lab: &Lab, dir: &Path, act: impl FnOnce()) -> Self {
        let path = dir.join("events.json");
        let args = ["events", "--format", "{{json .}}"];
        let follower = Follower(lab.spawn_docker(&args, File::create(&path).unwrap()));
        let is_over = AtomicBool::new(false);
        let tasks = std::thread::scope(|scope| {
            let reader = scope.spawn(|| task_lists(lab, &is_over));
            // Also when the act panics, as the scope waits for the reader.
            let end = SetOnDrop(&is_over);
            act();
            drop(end);
            reader.join().unwrap()
        });
        drop(follower);
        let text = fs::read_to_string(&path).unwrap();
        Self { tasks, events: text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() }
    }

    fn attempts(&self, name: &str) -> usize {
        self.tasks.get(name).map_or(0, BTreeSet::len)
    }

    /// The `image pull` events of a repository, and the `container create` events of a service.
    fn events(&self, name: &str) -> [usize; 2] {
        let is_pull = |event: &&Value| {
            let image = event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default();
            event["Type"] == "image" && event["Action"] == "pull" && image.ends_with(&format!("/{name}"))
        };
        let is_create = |event: &&Value| {
            let service = &event["Actor"]["Attributes"]["com.docker.swarm.service.name"];
            event["Type"] == "container" && event["Action"] == "create" && *service == name
        };
        [self.events.iter().filter(is_pull).count(), self.events.iter().filter(is_create).count()]
    }
}

/// Goes on until it is dropped.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn task_lists(lab: &Lab, is_over: &AtomicBool) -> BTreeMap<String, BTreeSet<String>> {
    let mut tasks = BTreeMap::<String, BTreeSet<String>>::new();
    while !is_over.load(Ordering::Relaxed) {
        let listed = lab.docker(&["node", "ps", "--no-trunc", "--format", "{{.ID}} {{.Name}}", "self"]);
        for line in listed.lines() {
            let (id, name) = (line.split(' ').next().unwrap(), line.rsplit(' ').next().unwrap());
            let service = name.split('.').next().unwrap();
            tasks.entry(service.to_owned()).or_default().insert(id.to_owned());
        }
        std::thread::sleep(LOOK);
    }
    tasks
}

fn print_truth(services: &[Service], asked: &[(Place, Asked)], seen: &Seen) {
    println!(
        "service | place image reference start | tasks pulls creates | HEADs | GETs | tokens | blobs | of clients"
    );
    for service in services {
        let own = || asked.iter().map(|(_, asked)| asked).filter(|asked| asked.repository == service.name);
        let of_tasks = || own().filter(|asked| !asked.is_for_client());
        let by_status = |kind: Kind| {
            let mut found = BTreeMap::<u16, u64>::new();
            of_tasks().filter(|asked| asked.kind == kind).for_each(|a| *found.entry(a.status).or_default() += 1);
            found
        };
        let all: Requests = of_tasks().map(kind).sum();
        let of_clients: Requests = own().filter(|asked| asked.is_for_client()).map(kind).sum();
        let by = if service.is_pinned { "digest" } else { "tag" };
        let start = if service.is_present { "present" } else { "absent" };
        let [pulls, creates] = seen.events(service.name);
        println!(
            "{} | {:?} {:?} {by} {start} | {} {pulls} {creates} | {:?} | {:?} | {} | {} | {:?}",
            service.name,
            service.place,
            service.image,
            seen.attempts(service.name),
            by_status(Kind::ManifestHead),
            by_status(Kind::ManifestGet),
            all.tokens,
            all.blobs,
            row(of_clients),
        );
    }
    for place in FRONTS {
        let checks = asked.iter().filter(|(at, asked)| *at == place && asked.kind == Kind::Check).count();
        println!("{place:?}: {checks} checks");
    }
}

// --- the judges --------------------------------------------------------------------------------------

/// Requests for manifests by repository, method and status.
type Manifests = BTreeMap<(String, String, u16), u64>;

/// What the real registry has answered since its access log had this length.
fn in_registry(lab: &Lab, mark: u64) -> Manifests {
    let log = fs::read(lab.var("REGISTRY_ACCESS_LOG")).unwrap();
    let mut found = Manifests::new();
    for line in String::from_utf8_lossy(&log[usize::try_from(mark).unwrap()..]).lines() {
        let fields: Vec<&str> = line.splitn(6, ' ').collect();
        let [_, _, status, method, path, agent] = fields[..] else { panic!("no access: {line}") };
        let parts = path.strip_prefix("/v2/").and_then(|within| within.rsplit_once("/manifests/"));
        // The log of what was pushed before may be written later.
        let is_asked = matches!(method, "GET" | "HEAD") && !agent.starts_with("\"squall");
        if let Some((repository, _)) = parts.filter(|_| is_asked) {
            let key = (repository.to_owned(), method.to_owned(), status.parse().unwrap());
            *found.entry(key).or_default() += 1;
        }
    }
    found
}

/// The front is no judge in its own cause: the real registry has seen all that was handed on, and nothing else.
#[track_caller]
fn assert_agreed(asked: &[(Place, Asked)], real: &Manifests) {
    let mut handed_on = Manifests::new();
    let is_for_manifest = |asked: &&Asked| matches!(asked.kind, Kind::ManifestHead | Kind::ManifestGet);
    for asked in asked.iter().map(|(_, asked)| asked).filter(|asked| asked.is_handed_on).filter(is_for_manifest) {
        *handed_on.entry((asked.repository.clone(), asked.method.clone(), asked.status)).or_default() += 1;
    }
    assert_eq!(handed_on, *real, "what the front has handed on, and what the real registry has answered");
}

/// What `squall report --by service` says, by service.
fn stated(lab: &Lab, state: &Path) -> BTreeMap<String, Requests> {
    let args = ["report", "--by", "service", "--since", "30m", "--format", "json", "--state-dir"];
    let report = lab.squall_says(&[&args[..], &[state.to_str().unwrap()]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["schema"], &report["by"]), (&json!("squall.spend/1"), &json!("service")), "{report}");
    let mut found = BTreeMap::new();
    for row in report["rows"].as_array().unwrap() {
        let key = row["key"].as_str().unwrap().to_owned();
        let asked: Requests = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(row["requests"], json!(asked.all()), "{row}");
        if key == Subject::nobody().name {
            println!("nobody's: {row}");
            continue;
        }
        assert!(found.insert(key, asked).is_none(), "a service with one registry has one row: {report}");
    }
    found
}

/// Each service's manifests, and all services' checks and tokens, are stated as they were asked for.
#[track_caller]
fn assert_stated(services: &[Service], asked: &[(Place, Asked)], stated: &BTreeMap<String, Requests>) {
    let mut wrong = Vec::new();
    let mut compare = |what: String, stated: u64, truth: u64, slack: u64| {
        println!("{what}: {stated} stated, {truth} asked for");
        if stated.abs_diff(truth) > slack.max(truth * OFF_PERCENT / 100) {
            wrong.push(format!("{what}: {stated} stated, {truth} asked for"));
        }
    };
    for service in services {
        let own = asked.iter().filter(|(_, asked)| asked.repository == service.name);
        let truth: Requests = own.map(|(_, asked)| kind(asked)).sum();
        let stated = stated.get(service.name).copied().unwrap_or_default();
        // Replicas that pull at once what is not there may each fetch it, as they come: nobody can foretell that.
        let is_fetched = !service.is_present && service.image != Missing;
        let race = if is_fetched { service.replicas * (1 + u64::from(service.image == Index)) - 1 } else { 0 };
        // A pull that is refused before its manifest is told from others by its log line, which may come too late.
        let unsure = if truth.manifests() == 0 { truth.checks / 10 } else { 0 };
        let slack = race.max(unsure).max(1);
        compare(format!("manifests of {}", service.name), stated.manifests(), truth.manifests(), slack);
        compare(format!("manifest GETs of {}", service.name), stated.manifest_gets, truth.manifest_gets, slack);
    }
    let names = services.iter().map(|service| service.name);
    let all: Requests = names.filter_map(|name| stated.get(name)).copied().sum();
    let truth: Requests = asked.iter().map(|(_, asked)| kind(asked)).sum();
    compare("checks of all".to_owned(), all.checks, truth.checks, services.len() as u64);
    compare("tokens of all".to_owned(), all.tokens, truth.tokens, services.len() as u64);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The journal has the attempts of each minute.
#[track_caller]
fn assert_counted(lab: &Lab, state: &Path, services: &[Service], seen: &Seen) {
    let args = ["report", "--since", "30m", "--format", "json", "--state-dir"];
    let report: Value =
        serde_json::from_str(&lab.squall_says(&[&args[..], &[state.to_str().unwrap()]].concat())).unwrap();
    // What stops by order is no attempt that ended by itself.
    for name in services.iter().map(|service| service.name).filter(|name| !name.starts_with("c-")) {
        let tasks = seen.attempts(name) as u64;
        let row = report["services"].as_array().unwrap().iter().find(|row| row["subject"]["name"] == name);
        let attempts = row.map_or(0, |row| row["attempts"].as_u64().unwrap());
        println!("attempts of {name}: {attempts} counted, {tasks} tasks seen");
        assert!(attempts + 3 >= tasks * 9 / 10, "{name}: {attempts} counted, {tasks} tasks");
        assert!(row.is_none_or(|row| row["by_minute"] == true), "{report}");
    }
}

// --- others ------------------------------------------------------------------------------------------

/// Who has spent a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spent {
    own: u64,
    others: u64,
}

/// A budget of which a service spends one, and somebody else at the same address the rest of what is spent.
fn spend_with_others(fronts: &Fronts<'_>) -> Spent {
    const OTHERS: u64 = 7;
    let lab = fronts.lab;
    let front = &fronts.running[&Bearer];
    let service = by_tag("c-own", Bearer, Single, SERVES);
    // A test that has failed leaves its image.
    images::forget(lab, &fronts.repository(&service));
    fronts.prepare(&service);
    fronts.forget();
    fronts.create(&service);
    wait("it runs", || has_running(lab, service.name, 1));
    let token = images::ask(&front.address, "GET", "/token?scope=repository:c-own:pull", &[], b"");
    let token: Value = serde_json::from_slice(&token.body).unwrap();
    let token = format!("Bearer {}", token["token"].as_str().unwrap());
    let accept = "application/vnd.docker.distribution.manifest.v2+json";
    let headers = [("Authorization", &*token), ("Accept", accept), ("User-Agent", "another")];
    for _ in 0..OTHERS {
        let answer = images::ask(&front.address, "GET", "/v2/c-own/manifests/1", &headers, b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let left = images::ask(&front.address, "HEAD", "/v2/c-own/manifests/1", &headers, b"");
    assert_eq!(left.header("ratelimit-limit"), Some("100;w=21600"));
    assert_eq!(left.header("ratelimit-remaining"), Some("92;w=21600"));
    assert_eq!(left.header("docker-ratelimit-source"), Some("127.0.0.1"));
    Spent { own: 1, others: OTHERS }
}

#[test]
fn a_budget_is_spent_by_others_too() {
    let lab = Lab::enter();
    let fronts = Fronts::start(&lab);
    fronts.running[&Bearer].behave(Manner { budget: Some(100), ..manner(Bearer) });
    let mark = fs::metadata(lab.var("REGISTRY_ACCESS_LOG")).unwrap().len();
    let dir = tempfile::tempdir().unwrap();
    let watch = |asks| {
        let config = fronts.config(dir.path(), asks);
        Watch::start_with(&lab, dir.path(), &["--log", lab.log(), "--config", config.to_str().unwrap()])
    };
    let first = watch(None);
    // It says that it watches before it has looked for the first time.
    std::thread::sleep(LOOK * 5);
    let spent = spend_with_others(&fronts);
    assert_eq!(first.terminate(), Some(0));
    images::push_tag(&lab, "c-own", "latest");
    // A daemon asks when it begins, where nobody has within five minutes.
    let asks = Some((Bearer, "c-own"));
    let second = watch(asks);
    let state = dir.path().join("state");
    let address = fronts.address(Bearer).to_owned();
    wait("squall says whose the pulls were", || {
        let args = ["report", "--by", "registry", "--since", "30m", "--format", "json", "--state-dir"];
        let said = lab.squall_says(&[&args[..], &[state.to_str().unwrap()]].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let window = said["windows"].as_array().unwrap().iter().find(|window| window["registry"] == *address).cloned();
        let window = window.filter(|window| window["remaining"] == 92);
        window.is_some_and(|window| {
            let stated = Spent { own: window["own"].as_u64().unwrap(), others: window["others"].as_u64().unwrap() };
            assert_eq!(stated, spent, "{said}");
            true
        })
    });
    assert_eq!(second.terminate(), Some(0));
    let asked = fronts.asked();
    let probes = || {
        let asked = fronts.running[&Bearer].asked();
        asked.iter().filter(|asked| asked.agent.starts_with("squall/")).count()
    };
    let before = probes();
    assert!(before > 0, "it has asked");
    let third = watch(asks);
    std::thread::sleep(LOOK * 5);
    assert_eq!(third.terminate(), Some(0));
    assert_eq!(probes(), before, "one that is started again within five minutes does not ask");
    let gets = |is_own: bool| {
        let gets = asked.iter().filter(|(_, asked)| asked.kind == Kind::ManifestGet && asked.status == 200);
        gets.filter(|(_, asked)| asked.agent.starts_with("docker/") == is_own).count() as u64
    };
    assert_eq!(spent, Spent { own: gets(true), others: gets(false) });
    lab.storms("remove", &["c-own"]);
    images::forget(&lab, &format!("{}/c-own", fronts.address(Bearer)));
    let real = in_registry(&lab, mark);
    assert_eq!(real[&("c-own".to_owned(), "GET".to_owned(), 200)], 8, "{real:?}");
}
