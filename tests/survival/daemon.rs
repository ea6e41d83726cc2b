//! dockerd is restarted, its socket replaced, its process frozen.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "what happens, and when")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lab::{Watch, now};
use super::relay::{Clock, Relay};
use super::trial::{Account, Dice, Fault, RESPOND, Trial};

const RESTARTS: usize = 20;
/// How long dockerd is frozen: longer than two pings and their limits.
const FROZEN: Duration = Duration::from_secs(60);
/// How long after the daemon is back storms go on, to be counted on and acted on.
const AFTERWARDS: Duration = Duration::from_secs(45);
/// How many events dockerd remembers.
const RING: usize = 256;

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn dockerd_is_restarted_twenty_times_under_load() {
    let mut dice = Dice::from_env();
    let mut trial = Trial::begin("dockerd restarted 20 times");
    let mut watch = trial.watch();
    trial.storm_of_each_kind();
    trial.await_told(&mut watch, 90);
    for turn in 0..RESTARTS {
        // Half of them come when all is settled, the others at any moment.
        if turn % 2 == 0 {
            watch.until("squall is back", 90, is_back);
        }
        let pause = dice.between(0, 12_000);
        std::thread::sleep(Duration::from_millis(pause));
        trial.exercise(turn);
        let from = now();
        trial.lab.restart_docker();
        trial.was_out_since(from);
        println!("restart {} after a pause of {pause} ms took {:?}", turn + 1, now().since(from));
    }
    watch.until("squall is back", 90, is_back);
    std::thread::sleep(AFTERWARDS);
    watch.until("each restart has its gap", 30, |watch| (watch.notices("gap").len() >= RESTARTS).then_some(()));
    let usage = watch.usage();
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    trial.end(&account, "SIGTERM and start, 20 times, at random moments, beside an update and a scaling each", &usage);
}

fn is_back(watch: &Watch) -> Option<()> {
    let losses = watch.notices("lost").len();
    (watch.notices("back").len() == losses).then_some(())
}

/// A trial whose squall reaches dockerd at a socket that can be taken away.
struct Behind {
    trial: Trial,
    watch: Watch,
    socket: PathBuf,
    upstream: PathBuf,
    relay: Relay,
}

impl Behind {
    fn begin(trial: Trial) -> Self {
        let socket = trial.dir.path().join("docker.sock");
        let upstream = Path::new(trial.lab.var("DOCKER_HOST").strip_prefix("unix://").unwrap()).to_owned();
        let relay = Relay::start(&socket, &upstream, &Clock::default());
        let config = trial.config("squall", RESPOND, "");
        let mut command = trial.lab.squall(&["watch", "--format", "json", "--log", trial.lab.log(), "--enforce"]);
        command.arg("--config").arg(config).arg("--state-dir").arg(trial.dir.path().join("state"));
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        let watch = Watch::run(command, trial.dir.path());
        Self { trial, watch, socket, upstream, relay }
    }

    /// The socket is moved away and another one is at its place; then the old one breaks.
    fn replace(&mut self, away: &Path) {
        self.relay.move_away(away);
        let next = Relay::start(&self.socket, &self.upstream, &Clock::default());
        let losses = self.watch.notices("lost").len();
        // What is connected stays so: nothing is lost by a name.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(self.watch.notices("lost").len(), losses, "{}", self.watch.words());
        drop(std::mem::replace(&mut self.relay, next));
        self.await_back(losses);
    }

    /// There is no socket until `meanwhile` is done.
    fn without(&mut self, meanwhile: impl FnOnce(&mut Trial)) {
        let losses = self.watch.notices("lost").len();
        let away = self.trial.dir.path().join("gone");
        self.relay.move_away(&away);
        let next = self.trial.dir.path().join("next");
        // Its connections break, and it leaves nothing behind.
        drop(std::mem::replace(&mut self.relay, Relay::start(&next, &self.upstream, &Clock::default())));
        meanwhile(&mut self.trial);
        self.relay.move_away(&self.socket);
        self.await_back(losses);
    }

    fn await_back(&mut self, losses: usize) {
        self.watch.until("squall is back", 90, |watch| {
            (watch.notices("lost").len() > losses && is_back(watch).is_some()).then_some(())
        });
        // Until a doubt about what was missed is settled.
        std::thread::sleep(Duration::from_secs(8));
    }
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_socket_file_is_replaced() {
    let mut behind = Behind::begin(Trial::begin("the socket replaced"));
    behind.trial.storm_of_each_kind();
    behind.trial.await_told(&mut behind.watch, 90);
    let away = behind.trial.dir.path().join("away");
    behind.replace(&away);
    let vouched = behind.watch.notices("gap").len();
    behind.trial.expect(vouched == 0, || format!("{vouched} gaps, and dockerd remembers all that was missed"));

    // More happens than dockerd remembers.
    behind.without(|trial| {
        let from = now();
        let image = trial.image("app");
        for number in 0..RING {
            trial.lab.docker(&["tag", &image, &format!("ring:{number}")]);
        }
        trial.was_out_since(from);
    });
    for turn in 0..2 {
        behind.without(|trial| {
            let from = now();
            trial.exercise(turn);
            trial.lab.restart_docker();
            trial.was_out_since(from);
        });
    }
    std::thread::sleep(AFTERWARDS);
    let usage = behind.watch.usage();
    let mut account = Account::default();
    let Behind { trial, watch, relay, .. } = behind;
    trial.settle(watch, "state", &mut account);
    drop(relay);
    let done = "moved away and another at its path; away for more events than dockerd keeps; away for two restarts";
    trial.end(&account, done, &usage);
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn dockerd_is_frozen_for_a_minute() {
    let mut trial = Trial::begin("dockerd frozen for 60 s");
    let mut watch = trial.watch();
    trial.storm_of_each_kind();
    trial.await_told(&mut watch, 90);
    let frozen = Instant::now();
    trial.lab.freeze_docker(1);
    let told = watch.until("squall says that Docker does not answer", 60, |watch| {
        (!watch.notices("lost").is_empty()).then(|| frozen.elapsed())
    });
    std::thread::sleep(FROZEN.saturating_sub(frozen.elapsed()));
    trial.expect(watch.notices("back").is_empty(), || "a frozen daemon was said to be back".to_owned());
    trial.lab.thaw_docker(1);
    let thawed = Instant::now();
    let back = watch.until("squall is back", 120, |watch| is_back(watch).map(|()| thawed.elapsed()));
    trial.storm("s-later", Fault::Mount, None);
    trial.exercise(1);
    trial.await_told(&mut watch, 90);
    std::thread::sleep(AFTERWARDS);
    let more = format!("said after {told:.1?}, back {back:.1?} after SIGCONT; {}", watch.usage());
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    trial.end(&account, "SIGSTOP for 60 s, SIGCONT", &more);
}

/// The stream goes on at a socket that has another name by now, and when that breaks the one at the path is found.
#[test]
fn a_replaced_socket_is_found_again_without_a_gap() {
    let mut behind = Behind::begin(Trial::sample("sample: the socket replaced"));
    behind.trial.storm("s-mount", Fault::Mount, None);
    behind.trial.await_told(&mut behind.watch, 60);
    let away = behind.trial.dir.path().join("away");
    behind.replace(&away);
    assert_eq!(behind.watch.notices("gap").len(), 0, "{}", behind.watch.words());
    let mut account = Account::default();
    let Behind { trial, watch, relay, .. } = behind;
    trial.settle(watch, "state", &mut account);
    drop(relay);
    trial.end(&account, "moved away, another at its path", "");
}

/// A daemon that stands still for less than squall waits for it has not been lost.
#[test]
fn a_daemon_that_stands_still_for_a_moment_makes_no_storm_and_no_gap() {
    let mut trial = Trial::sample("sample: dockerd frozen for 4 s");
    let mut watch = trial.watch();
    trial.storm("s-mount", Fault::Mount, Some("scale-to-zero"));
    let frozen = Instant::now();
    trial.lab.freeze_docker(1);
    std::thread::sleep(Duration::from_secs(4).saturating_sub(frozen.elapsed()));
    trial.lab.thaw_docker(1);
    trial.await_told(&mut watch, 60);
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    trial.end(&account, "SIGSTOP for 4 s, SIGCONT", "");
}
