//! One trial: storms and controls on the lab, a squall that acts, what is done to it, and what became of all that.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "the row of a table")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use squall::model::Timestamp;
use tempfile::TempDir;

use super::api::Api;
use super::lab::{Lab, Watch, now};

/// What every squall of a trial goes by, unless a trial says otherwise.
pub(crate) const RESPOND: &str = "act = true\nbackoff_min = \"10s\"\nstable_for = \"10s\"\nheld_min = 1000";
/// How many events dockerd remembers.
const EVENTS_KEPT: usize = 256;
/// Runs until it is told to stop, and then stops at once and well.
const SERVE: &str = r#"trap "exit 0" TERM; while :; do sleep 1 & wait $!; done"#;
/// A control's name, replicas and further options.
type Control = (&'static str, &'static str, &'static [&'static str]);
/// Never written to by anybody.
const UNTOUCHED: [Control; 3] = [
    ("healthy", "8", &[]),
    // Does not hear that it is to stop.
    ("stubborn", "2", &["--stop-grace-period", "1s"]),
    ("opted-in", "2", &["--label", "squall.response=backoff"]),
];
/// Updated and scaled by the trial.
const EXERCISED: [Control; 2] =
    [("rolled", "3", &["--update-monitor", "1s", "--label", "squall.response=pause"]), ("scaled", "1", &[])];

/// How a service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A bind source is not there: no container is made.
    Mount,
    /// It exits with 1.
    Exit,
    /// Its image is not in the registry.
    Missing,
}

/// A span in which squall could not see the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// See the module.
pub(crate) struct Trial {
    name: &'static str,
    pub(crate) lab: Lab,
    pub(crate) dir: TempDir,
    /// The storms that there are, and their response where they are opted in.
    storms: BTreeMap<String, Option<&'static str>>,
    /// The specifications of the controls, and the versions of those that nobody writes to.
    before: BTreeMap<String, (Value, Option<u64>)>,
    pub(crate) outages: Vec<Outage>,
    /// What was not as it ought to be.
    pub(crate) deviations: Vec<String>,
}

/// What the squalls of a trial have said and done.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Onsets, by service.
    pub(crate) onsets: BTreeMap<String, usize>,
    /// What was said of the last one.
    pub(crate) words: BTreeMap<String, String>,
    /// Ends, by service.
    pub(crate) subsided: BTreeMap<String, usize>,
    pub(crate) gaps: Vec<Outage>,
    pub(crate) lost: usize,
    pub(crate) back: usize,
    /// The permitted decisions of the journals, each with its settlement.
    pub(crate) permitted: Vec<Value>,
    /// What was done, in the order in which it was said: when, of which service, and what.
    pub(crate) done: Vec<(String, String, String)>,
    pub(crate) peak_kb: u64,
}

impl Trial {
    /// A lab of this test's own turn, with the controls running.
    pub(crate) fn begin(name: &'static str) -> Self {
        Self::begin_on(name, Lab::enter())
    }

    /// The same on another lab.
    pub(crate) fn begin_on(name: &'static str, lab: Lab) -> Self {
        Self::with(name, lab, &UNTOUCHED, &EXERCISED)
    }

    /// For a sample of seconds: with one control.
    pub(crate) fn sample(name: &'static str) -> Self {
        Self::with(name, Lab::enter(), &UNTOUCHED[2..], &[])
    }

    fn with(name: &'static str, lab: Lab, untouched: &[Control], exercised: &[Control]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Self {
            name,
            lab,
            dir,
            storms: BTreeMap::new(),
            before: BTreeMap::new(),
            outages: Vec::new(),
            deviations: Vec::new(),
        };
        for (name, replicas, options) in untouched.iter().chain(exercised) {
            let image = trial.image("app");
            let mut args = vec!["--name", name, "--replicas", replicas, "--restart-delay", "1s"];
            args.extend(*options);
            args.push(&image);
            args.extend(if *name == "stubborn" { ["sleep", "100000", ""] } else { ["sh", "-c", SERVE] });
            args.retain(|arg| !arg.is_empty());
            trial.create(&args);
        }
        for (name, replicas, _) in untouched.iter().chain(exercised) {
            trial.await_running(name, replicas.parse().unwrap());
        }
        for (name, ..) in untouched {
            let service = trial.service(name);
            trial.before.insert((*name).to_owned(), (service["Spec"].clone(), service["Version"]["Index"].as_u64()));
        }
        for (name, ..) in exercised {
            trial.before.insert((*name).to_owned(), (without_exercise(trial.service(name)["Spec"].clone()), None));
        }
        trial.forget_events();
        trial
    }

    /// What other tests have left in dockerd's memory would be told as storms of before.
    fn forget_events(&self) {
        let (api, image) = (Api::of(&self.lab), self.image("app"));
        let name = image.rsplit_once(':').unwrap().0;
        for _ in 0..EVENTS_KEPT / 2 {
            for (method, path) in [
                ("POST", format!("/images/{image}/tag?repo={name}&tag=forget")),
                ("DELETE", format!("/images/{name}:forget")),
            ] {
                let (status, answer) = api.ask(method, &path, "").unwrap();
                assert!(status < 300, "{answer}");
            }
        }
    }

    /// The configuration of a squall: `[respond]`, and more behind it.
    pub(crate) fn config(&self, name: &str, respond: &str, more: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.toml"));
        fs::write(&path, format!("[serve]\nlisten = \"127.0.0.1:0\"\n[respond]\n{respond}\n{more}\n")).unwrap();
        path
    }

    /// A squall that acts on those that are opted in.
    pub(crate) fn watch(&self) -> Watch {
        let config = self.config("squall", RESPOND, "");
        let args = ["--log", self.lab.log(), "--enforce", "--config", config.to_str().unwrap()];
        Watch::start_with(&self.lab, self.dir.path(), &args)
    }

    /// A service that storms, as long as it is there.
    pub(crate) fn storm(&mut self, name: &str, fault: Fault, response: Option<&'static str>) {
        self.storm_every(name, fault, response, "1s");
    }

    /// The same with a delay of its own between its attempts.
    pub(crate) fn storm_every(&mut self, name: &str, fault: Fault, response: Option<&'static str>, delay: &str) {
        let image = self.image(if fault == Fault::Missing { name } else { "app" });
        let label = response.map(|response| format!("squall.response={response}"));
        let mut args = vec!["--name", name, "--restart-delay", delay, "--no-resolve-image"];
        if let Some(label) = &label {
            args.extend(["--label", label]);
        }
        if fault == Fault::Mount {
            args.extend(["--mount", "type=bind,source=/nope,target=/nope"]);
        }
        args.push(&image);
        args.extend(["sh", "-c", "exit 1"]);
        self.create(&args);
        self.count(name, response);
    }

    /// A service that storms was created by other means.
    pub(crate) fn count(&mut self, name: &str, response: Option<&'static str>) {
        self.storms.insert(name.to_owned(), response);
    }

    /// Storms of each kind: three that nobody opted in, and two that are.
    pub(crate) fn storm_of_each_kind(&mut self) {
        self.storm("s-exit", Fault::Exit, None);
        self.storm("s-mount", Fault::Mount, None);
        self.storm("s-missing", Fault::Missing, None);
        self.storm("s-backoff", Fault::Mount, Some("backoff"));
        self.storm("s-stopped", Fault::Exit, Some("scale-to-zero"));
    }

    /// The names of those that storm, or of those of them that are opted in.
    pub(crate) fn names(&self, is_opted_in: bool) -> Vec<&str> {
        self.storms.iter().filter(|(_, by)| !is_opted_in || by.is_some()).map(|(name, _)| &**name).collect()
    }

    /// Until each storm has been told, and each that is opted in is held.
    pub(crate) fn await_told(&self, watch: &mut Watch, secs: u64) {
        watch.until("each storm is told, and held where it may be", secs, |watch| self.is_told(watch).then_some(()));
    }

    /// Whether that is so.
    pub(crate) fn is_told(&self, watch: &Watch) -> bool {
        let (onsets, held) = (watch.by_service("onset"), watch.notices("settlement"));
        let is_held = |name: &&str| held.iter().any(|line| line["decision"]["subject"]["name"] == **name);
        self.names(false).iter().all(|name| onsets.contains_key(*name)) && self.names(true).iter().all(is_held)
    }

    /// A rolling update of one control and a scaling of another, which go on by themselves.
    pub(crate) fn exercise(&self, turn: usize) {
        let replicas = format!("scaled={}", 1 + turn % 4);
        // The daemon may be away.
        let _ = self.lab.docker_says(&["service", "update", "--quiet", "--detach", "--force", "rolled"]);
        let _ = self.lab.docker_says(&["service", "scale", "--detach", &replicas]);
    }

    /// Notes that squall could not see the daemon from `from` until now.
    pub(crate) fn was_out_since(&mut self, from: Timestamp) {
        self.was_out(from, now());
    }

    /// The same of a span that is over.
    pub(crate) fn was_out(&mut self, from: Timestamp, to: Timestamp) {
        self.outages.push(Outage { from, to });
    }

    /// Takes note of what is not as it ought to be.
    pub(crate) fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.deviations.push(what());
        }
    }

    /// The service as the daemon has it.
    pub(crate) fn service(&self, name: &str) -> Value {
        let Value::Array(mut services) = serde_json::from_str(&self.lab.docker(&["service", "inspect", name])).unwrap()
        else {
            panic!("no array")
        };
        services[0].take()
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.lab.var("REGISTRY"))
    }

    fn create(&self, args: &[&str]) {
        let mut all = vec!["service", "create", "--quiet", "--detach"];
        all.extend(args);
        self.lab.docker(&all);
    }

    pub(crate) fn running(&self, name: &str) -> usize {
        let format = "{{.CurrentState}}";
        let args = ["service", "ps", "--filter", "desired-state=running", "--format", format, name];
        self.lab.docker_says(&args).map_or(0, |all| all.lines().filter(|state| state.starts_with("Running")).count())
    }

    fn await_running(&self, name: &str, replicas: usize) {
        let until = Instant::now() + Duration::from_secs(120);
        while self.running(name) != replicas {
            assert!(Instant::now() < until, "{name} does not run {replicas} times");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Ends a squall and adds what it has said and journaled.
    pub(crate) fn settle(&self, watch: Watch, state: &str, account: &mut Account) {
        account.take(&watch);
        assert_eq!(watch.terminate(), Some(0));
        let state = self.dir.path().join(state);
        let args = ["report", "--since", "100h", "--format", "json", "--state-dir", state.to_str().unwrap()];
        let mut report: Value = serde_json::from_str(&self.lab.squall_says(&args)).unwrap();
        let Value::Array(decisions) = report["decisions"].take() else { panic!("no array") };
        account.permitted.extend(decisions.into_iter().filter(|decision| decision["refusal"].is_null()));
    }

    /// Holds all against the truth, prints the row, and fails where something is not as it ought to be.
    pub(crate) fn end(mut self, account: &Account, done: &str, more: &str) {
        let detected: Vec<&str> =
            self.names(false).into_iter().filter(|name| account.onsets.contains_key(*name)).collect();
        let (detected, storms) = (detected.len(), self.storms.len());
        let is_accused = |(name, _): &(&String, &String)| !self.storms.contains_key(*name);
        let accused: Vec<(&String, &String)> = account.words.iter().filter(is_accused).collect();
        let mut deviations = std::mem::take(&mut self.deviations);
        if detected != storms {
            deviations.push(format!("{} storms were not detected", storms - detected));
        }
        if !accused.is_empty() {
            deviations.push(format!("falsely accused: {accused:?}"));
        }
        for (name, count) in account.onsets.iter().filter(|(_, count)| **count > 1) {
            deviations.push(format!("{name} was told {count} times"));
        }
        for (name, response) in &self.storms {
            if response.is_none() && account.subsided.contains_key(name) {
                deviations.push(format!("{name} was said to have subsided, and still storms"));
            }
        }
        let missed: Vec<&Outage> = self.outages.iter().filter(|outage| !account.covers(outage)).collect();
        if !missed.is_empty() {
            deviations.push(format!("no gap was said for {missed:?}"));
        }
        let wrong = self.wrong_actions(account);
        deviations.extend(wrong.iter().cloned());
        let gaps = match self.outages.len() {
            0 => format!("{} said", account.gaps.len()),
            outages => format!("{} said, {} of {outages} outages covered", account.gaps.len(), outages - missed.len()),
        };
        let mut row = format!("| {} | {done} | {storms} / {detected} / {} | {gaps}; ", self.name, accused.len());
        write!(row, "{} lost, {} back | {} of {} | ", account.lost, account.back, wrong.len(), account.permitted.len())
            .unwrap();
        let result = if deviations.is_empty() { "as it ought to be".to_owned() } else { deviations.join("; ") };
        write!(row, "{:.1} | {more} | {result} |", account.peak_kb as f64 / 1024.0).unwrap();
        println!("{row}");
        assert!(deviations.is_empty(), "{deviations:#?}\n{account:#?}");
    }

    /// Actions on what does not storm or is not opted in, second holds of one storm, and writes to controls.
    fn wrong_actions(&self, account: &Account) -> Vec<String> {
        let mut wrong = Vec::new();
        for decision in &account.permitted {
            let (name, action) = (&decision["subject"]["name"], &decision["action"]);
            if !self.storms.get(name.as_str().unwrap()).is_some_and(Option::is_some) {
                wrong.push(format!("{action} of {name}, which does not storm or is not opted in"));
            }
        }
        let mut held: BTreeMap<&str, bool> = BTreeMap::new();
        for (at, name, action) in &account.done {
            let was_held = held.insert(name, action == "quarantine").unwrap_or(false);
            if was_held && action == "quarantine" {
                wrong.push(format!("{name} was held a second time at {at}"));
            }
            if matches!(&**action, "raise" | "release") {
                wrong.push(format!("{action} of {name}, which still fails"));
            }
        }
        for (name, (spec, version)) in &self.before {
            let service = self.service(name);
            let (spec_now, version_now) = match version {
                Some(_) => (service["Spec"].clone(), service["Version"]["Index"].as_u64()),
                None => (without_exercise(service["Spec"].clone()), None),
            };
            if (&spec_now, version_now) != (spec, *version) {
                wrong.push(format!("the control {name} was written to: {spec_now} was {spec}"));
            }
        }
        for (name, _) in self.storms.iter().filter(|(_, response)| response.is_none()) {
            if let Some(service) = self.lab.docker_says(&["service", "inspect", name])
                && service.contains("squall.quarantine")
            {
                wrong.push(format!("{name} is held, and not opted in"));
            }
        }
        wrong
    }
}

impl Account {
    /// Adds what a squall has said so far.
    pub(crate) fn take(&mut self, watch: &Watch) {
        for line in watch.lines() {
            let name = || line["storm"]["subject"]["name"].as_str().unwrap().to_owned();
            match line["notice"].as_str().unwrap() {
                "onset" => {
                    *self.onsets.entry(name()).or_default() += 1;
                    let storm = &line["storm"];
                    let words =
                        format!("{} after {}: {}", storm["cause"], storm["detected_after_failures"], storm["detail"]);
                    self.words.insert(name(), words);
                }
                "subsided" => *self.subsided.entry(name()).or_default() += 1,
                "gap" => {
                    let at = |end: &str| Timestamp::parse(line["gap"][end].as_str().unwrap()).unwrap();
                    self.gaps.push(Outage { from: at("from"), to: at("to") });
                }
                "settlement" if line["settlement"]["outcome"] == "done" => {
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    let decision = &line["decision"];
                    self.done.push((text(&line["at"]), text(&decision["subject"]["name"]), text(&decision["action"])));
                }
                "lost" => self.lost += 1,
                "back" => self.back += 1,
                _ => {}
            }
        }
        self.peak_kb = self.peak_kb.max(watch.resident_kb("VmHWM:"));
    }

    /// Whether a gap was said that has some of the outage.
    fn covers(&self, outage: &Outage) -> bool {
        self.gaps.iter().any(|gap| gap.from <= outage.to && gap.to >= outage.from)
    }
}

/// A specification without what a forced update and a scaling change.
fn without_exercise(mut spec: Value) -> Value {
    spec["TaskTemplate"]["ForceUpdate"].take();
    spec["Mode"].take();
    spec
}

/// Numbers that look random, the same ones for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// By the environment's SEED, or by the process id; prints it.
    pub(crate) fn from_env() -> Self {
        let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("SEED={seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From `least` to below `end`.
    pub(crate) fn between(&mut self, least: u64, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + (self.0 >> 16) % (end - least)
    }
}
