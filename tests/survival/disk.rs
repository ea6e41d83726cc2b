//! The disk of the state directory is full.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::lab::Watch;
use super::listener::Listener;
use super::trial::{Account, Fault, RESPOND, Trial};

/// How long the disk stays full.
const FULL: Duration = Duration::from_secs(60);
/// How long a step may take on a machine with other things to do.
const SOON_SECS: u64 = 150;

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir).status().unwrap();
        assert!(status.success(), "a tmpfs at {}", dir.display());
        Self(dir.to_owned())
    }

    /// Until nothing goes on it any more.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
#[ignore = "minutes long: tests/survive runs it"]
fn the_disk_is_full_during_a_storm() {
    let mut trial = Trial::begin("the disk full");
    let disk = Disk::mount(&trial.dir.path().join("state"));
    let listener = Listener::start();
    let mut watch = watch(&trial, &listener);
    trial.storm("s-before", Fault::Mount, Some("scale-to-zero"));
    trial.await_told(&mut watch, SOON_SECS);
    disk.fill();
    trial.storm("s-within", Fault::Mount, Some("scale-to-zero"));
    trial.storm("s-observed", Fault::Exit, None);
    trial.await_told(&mut watch, SOON_SECS);
    watch.until("the full disk is said", SOON_SECS, |watch| watch.notices("no-journal").pop());
    watch.until("people are told of both", SOON_SECS, |_| {
        ["s-within", "s-observed"].iter().all(|name| listener.has("ops", &[name])).then_some(())
    });
    std::thread::sleep(FULL);
    disk.empty();
    watch.until("the journal is written again", SOON_SECS, |watch| watch.notices("journal-back").pop());
    trial.storm("s-after", Fault::Mount, Some("scale-to-zero"));
    trial.await_told(&mut watch, SOON_SECS);
    // What was kept in memory is written after it.
    std::thread::sleep(Duration::from_secs(2));
    let usage = watch.usage();
    end(
        trial,
        watch,
        &["s-before", "s-within", "s-after"],
        "2 MiB of tmpfs filled during a storm, emptied again",
        &usage,
    );
}

#[test]
fn a_full_disk_stops_no_action() {
    let mut trial = Trial::sample("sample: the disk full");
    let disk = Disk::mount(&trial.dir.path().join("state"));
    let listener = Listener::start();
    let mut watch = watch(&trial, &listener);
    disk.fill();
    trial.storm("s-within", Fault::Mount, Some("scale-to-zero"));
    trial.await_told(&mut watch, SOON_SECS);
    watch.until("the full disk is said", SOON_SECS, |watch| watch.notices("no-journal").pop());
    // What waits is written when it ends.
    disk.empty();
    end(trial, watch, &["s-within"], "2 MiB of tmpfs filled, emptied again", "");
}

fn watch(trial: &Trial, listener: &Listener) -> Watch {
    let receiver = format!("[[receiver]]\nname = \"ops\"\ntype = \"webhook\"\nurl = \"{}\"\n", listener.url("ops"));
    let config = trial.config("squall", RESPOND, &receiver);
    let args = ["--log", trial.lab.log(), "--enforce", "--config", config.to_str().unwrap()];
    Watch::start_with(&trial.lab, trial.dir.path(), &args)
}

/// The full disk was said once, and each of the actions is in the journal.
fn end(mut trial: Trial, watch: Watch, held: &[&str], done: &str, more: &str) {
    let said = watch.notices("no-journal").len();
    trial.expect(said == 1, || format!("the full disk was said {said} times"));
    let mut account = Account::default();
    trial.settle(watch, "state", &mut account);
    for name in held {
        let is_of = |decision: &&serde_json::Value| decision["subject"]["name"] == *name;
        let journaled = account.permitted.iter().filter(is_of).count();
        trial.expect(journaled == 1, || format!("{journaled} actions on {name} are in the journal"));
    }
    trial.end(&account, done, more);
}
