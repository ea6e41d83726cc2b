//! Clocks are stepped by an hour: squall's, the daemon's, and both as one machine's would be.
//!
//! Nobody touches the clock of this machine. squall's own is stepped by libfaketime in mid-run, its monotonic one goes
//! on as the kernel's does. dockerd is a Go program that asks the kernel past every library, so its clock cannot be
//! stepped without the machine's: a relay before it moves the times that it says and is asked for, and its log's.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "what happens, and when")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::Watch;
use super::relay::{Clock, Relay};
use super::trial::{Account, Fault, RESPOND, Trial};

const HOUR_SECS: i64 = 3600;
/// How long after the step all goes on.
const AFTERWARDS: Duration = Duration::from_secs(150);
/// How long after the step others begin to storm.
const BEFORE_THE_NEXT: Duration = Duration::from_secs(10);
/// By how much a try may come after it was due, on a machine that has other things to do.
const LATE: Duration = Duration::from_secs(60);
/// The first delay of the back-off, as the trials' settings have it.
const BACKOFF: Duration = Duration::from_secs(10);

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_squall_is_stepped_forward() {
    step("squall's clock +1 h", HOUR_SECS, 0);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_squall_is_stepped_back() {
    step("squall's clock -1 h", -HOUR_SECS, 0);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_the_daemon_is_stepped_forward() {
    step("the daemon's clock +1 h", 0, HOUR_SECS);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_the_daemon_is_stepped_back() {
    step("the daemon's clock -1 h", 0, -HOUR_SECS);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_both_is_stepped_forward() {
    step("both clocks +1 h", HOUR_SECS, HOUR_SECS);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_clock_of_both_is_stepped_back() {
    step("both clocks -1 h", -HOUR_SECS, -HOUR_SECS);
}

fn step(name: &'static str, squall_secs: i64, daemon_secs: i64) {
    let mut trial = Trial::begin(name);
    let clock = Clock::default();
    let socket = trial.dir.path().join("docker.sock");
    let upstream = Path::new(trial.lab.var("DOCKER_HOST").strip_prefix("unix://").unwrap()).to_owned();
    let relay = Relay::start(&socket, &upstream, &clock);
    let log = clock.copy_log(trial.lab.log(), trial.dir.path().join("dockerd.log"));
    let offset = trial.dir.path().join("offset");
    fs::write(&offset, "+0").unwrap();
    let config = trial.config("squall", RESPOND, "");
    let mut command = trial.lab.squall(&["watch", "--format", "json", "--enforce", "--config"]);
    command.arg(config).arg("--log").arg(&log.path).arg("--state-dir").arg(trial.dir.path().join("state"));
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &offset).env("FAKETIME_CACHE_DURATION", "1");
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    let mut watch = Watch::run(command, trial.dir.path());
    trial.storm_of_each_kind();
    let mut tries = Tries::default();
    watch.until("what is held was tried", 90, |watch| (tries.see(watch) >= 2).then_some(()));
    watch.until("each storm is told, and held where it may be", 90, |watch| {
        tries.see(watch);
        trial.is_told(watch).then_some(())
    });

    clock.step(daemon_secs);
    fs::write(&offset, format!("{squall_secs:+}")).unwrap();
    let stepped = Instant::now();
    println!("stepped: squall by {squall_secs} s, the daemon by {daemon_secs} s");
    while stepped.elapsed() < BEFORE_THE_NEXT {
        tries.see(&watch);
        std::thread::sleep(Duration::from_millis(100));
    }
    trial.storm("s-later", Fault::Mount, Some("scale-to-zero"));
    trial.storm("s-later-observed", Fault::Exit, None);
    let told = watch.until("what began after the step is told", 120, |watch| {
        tries.see(watch);
        let onsets = watch.by_service("onset");
        trial.names(false).iter().all(|name| onsets.contains_key(*name)).then(|| stepped.elapsed())
    });
    let held = watch.until("what began after the step is held", 120, |watch| {
        tries.see(watch);
        let held = watch.notices("settlement");
        held.iter().any(|line| line["decision"]["subject"]["name"] == "s-later").then(|| stepped.elapsed())
    });
    while stepped.elapsed() < AFTERWARDS {
        tries.see(&watch);
        std::thread::sleep(Duration::from_millis(100));
    }
    let (paces, off) = tries.paces();
    trial.expect(off.is_empty(), || format!("tried too early or too late: {off:?}"));
    let gaps = watch.notices("gap").len();
    trial.expect(daemon_secs == 0 || gaps > 0, || "the step of the daemon's clock was not said".to_owned());
    let rates = rates(&trial, &watch);
    trial.expect(rates.iter().all(|rate| (1.0..600.0).contains(rate)), || format!("absurd rates: {rates:?}"));
    let more = format!(
        "a storm begun 10 s after it told {told:.0?}, held {held:.0?} after the step; tries {paces}; attempts/min \
         {rates:.0?}; {}",
        watch.usage()
    );
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    drop(relay);
    let done = format!("squall by {squall_secs} s (libfaketime), the daemon by {daemon_secs} s (relay)");
    trial.end(&account, &done, &more);
}

/// Where Debian has libfaketime.
fn faketime() -> PathBuf {
    let dirs = fs::read_dir("/usr/lib").unwrap().flatten().map(|dir| dir.path());
    let library = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    library.expect("libfaketime is not installed: apt-get install faketime")
}

/// How many attempts a minute squall says of what it shows as ongoing and nobody holds.
fn rates(trial: &Trial, watch: &Watch) -> Vec<f64> {
    let words = watch.words();
    let url = words.split("url=").nth(1).unwrap().split_whitespace().next().unwrap();
    let address = url.trim_matches('"').trim_start_matches("http://").trim_end_matches('/');
    let output = std::process::Command::new("curl")
        .args(["--silent", "--fail", &format!("http://{address}/api/v1/storms")])
        .output()
        .unwrap();
    let storms: Value = serde_json::from_str(&super::lab::checked(output, "curl")).unwrap();
    let storms = storms["storms"].as_array().unwrap_or_else(|| panic!("no storms: {storms}")).clone();
    let observed: Vec<&str> = trial.names(false).into_iter().filter(|name| !trial.names(true).contains(name)).collect();
    storms
        .iter()
        .filter(|storm| observed.contains(&storm["subject"]["name"].as_str().unwrap()))
        .map(|storm| storm["attempts_per_min"].as_f64().unwrap())
        .collect()
}

/// When what is held by `backoff` was held and tried, on a clock that nobody steps.
#[derive(Default)]
struct Tries {
    seen: usize,
    steps: Vec<(String, Instant)>,
}

impl Tries {
    /// Takes what has been said since; returns how many steps there were.
    fn see(&mut self, watch: &Watch) -> usize {
        let settled = watch.notices("settlement");
        for line in settled.iter().skip(self.seen) {
            if line["decision"]["subject"]["name"] == "s-backoff" && line["settlement"]["outcome"] == "done" {
                self.steps.push((line["decision"]["action"].as_str().unwrap().to_owned(), Instant::now()));
            }
        }
        self.seen = settled.len();
        self.steps.len()
    }

    /// How long each hold was before it was tried, and those whose try came too early or too late.
    fn paces(&self) -> (String, Vec<(Duration, Duration)>) {
        let (mut paces, mut off, mut delay) = (Vec::new(), Vec::new(), BACKOFF);
        let mut held = None;
        for (action, at) in &self.steps {
            match (&**action, held) {
                ("quarantine", _) => held = Some(*at),
                ("probe", Some(since)) => {
                    let waited = at.duration_since(since);
                    paces.push(format!("{waited:.0?}"));
                    if waited + Duration::from_secs(2) < delay || waited > delay + delay / 10 + LATE {
                        off.push((waited, delay));
                    }
                    delay *= 2;
                }
                _ => {}
            }
        }
        // The one that is due has to come too.
        if let (Some(("quarantine", since)), true) = (self.steps.last().map(|(a, at)| (&**a, *at)), held.is_some())
            && since.elapsed() > delay + delay / 10 + LATE
        {
            off.push((since.elapsed(), delay));
        }
        (format!("after {}", paces.join(", ")), off)
    }
}
