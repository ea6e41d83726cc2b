//! Reads dockerd's log from journald, through `journalctl`: it knows every format of the journal's files, and its
//! rotation and permissions are its own matter.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::clock::wall_clock;
use crate::model::Timestamp;

/// The program that reads the journal.
const JOURNALCTL: &str = "journalctl";

/// A running `journalctl`. It ends with this.
#[derive(Debug)]
pub(super) struct Journal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Follows the journal over the end of one `journalctl` and the start of the next, and loses no entry in between.
#[derive(Debug)]
pub(super) struct Follower {
    program: PathBuf,
    /// When the first one was started; from then on entries count where none has been read yet.
    since: Option<Timestamp>,
    /// The last entry that was read: it holds the cursor behind which the next `journalctl` begins.
    last: Option<String>,
}

/// The part of an entry that says where in the journal it is.
#[derive(Deserialize)]
struct Address {
    #[serde(rename = "__CURSOR")]
    cursor: String,
}

impl Follower {
    /// Follows what is written from the first start on.
    pub(super) fn new() -> Self {
        Self { program: PathBuf::from(JOURNALCTL), since: None, last: None }
    }

    /// Starts `journalctl` behind the last entry that was read.
    pub(super) fn start(&mut self) -> io::Result<Journal> {
        let cursor = self.last.as_deref().and_then(|entry| serde_json::from_str::<Address>(entry).ok());
        let begin = match (cursor, self.since) {
            (Some(Address { cursor }), _) => vec!["--no-tail".to_owned(), format!("--after-cursor={cursor}")],
            (None, Some(since)) => {
                vec!["--no-tail".to_owned(), format!("--since=@{}", since.as_nanos() / 1_000_000_000)]
            }
            (None, None) => vec!["--lines=0".to_owned()],
        };
        let arguments: Vec<&str> = std::iter::once("--follow").chain(begin.iter().map(String::as_str)).collect();
        self.since.get_or_insert_with(wall_clock);
        Journal::start(&self.program, &arguments)
    }

    /// The next entry of a journal that this has started; `None` when its journalctl has ended.
    pub(super) async fn next(&mut self, journal: &mut Journal) -> io::Result<Option<String>> {
        let entry = journal.next().await?;
        if let Some(entry) = &entry {
            self.last.get_or_insert_default().clone_from(entry);
        }
        Ok(entry)
    }
}

impl Journal {
    /// What was written lately, up to now.
    pub(super) fn tail() -> io::Result<Self> {
        Self::start(Path::new(JOURNALCTL), &["--since=-30min", "--lines=20000"])
    }

    fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["--unit=docker.service", "--output=json", "--all", "--no-pager", "--quiet"])
            .args(["--output-fields=MESSAGE,_COMM,SYSLOG_IDENTIFIER,CONTAINER_ID,CONTAINER_NAME"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("journalctl has no output"))?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// The next entry; `None` when journalctl has ended.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        self.lines.next_line().await
    }

    /// How journalctl ended.
    pub(super) async fn end(mut self) -> io::Result<()> {
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("journalctl ended with {status}"))) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Each start of this journalctl writes down its arguments, prints the entries from the cursor on, two at most, and
    /// ends.
    const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>starts
from=1
for argument; do
    case $argument in --after-cursor=s=x\;i=*) from=$((${argument##*i=} + 1)) ;; esac
done
for entry in $from $((from + 1)); do
    [ "$entry" -gt 4 ] || echo "{\"__CURSOR\" : \"s=x;i=$entry\", \"MESSAGE\" : \"line $entry\"}"
done
"#;

    fn follower(script: &str) -> (tempfile::TempDir, Follower) {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("journalctl");
        fs::write(&program, script).expect("writes");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be run");
        (dir, Follower { program, ..Follower::new() })
    }

    /// What one journalctl says until it ends.
    async fn read(follower: &mut Follower) -> Vec<String> {
        let mut journal = follower.start().expect("it starts");
        let mut entries = Vec::new();
        while let Some(entry) = follower.next(&mut journal).await.expect("it can be read") {
            entries.push(entry.rsplit('"').nth(1).unwrap_or_default().to_owned());
        }
        journal.end().await.expect("it ends well");
        entries
    }

    #[tokio::test]
    async fn a_journalctl_that_is_started_again_goes_on_behind_the_last_line() {
        let (dir, mut follower) = follower(SCRIPT);
        assert_eq!(read(&mut follower).await, ["line 1", "line 2"]);
        assert_eq!(read(&mut follower).await, ["line 3", "line 4"], "what was written meanwhile");
        assert_eq!(read(&mut follower).await, [] as [&str; 0]);
        let starts = fs::read_to_string(dir.path().join("starts")).expect("it was started");
        let starts: Vec<&str> = starts.lines().collect();
        assert!(starts[0].ends_with("--follow --lines=0"), "{starts:?}");
        assert!(starts[1].ends_with("--follow --no-tail --after-cursor=s=x;i=2"), "{starts:?}");
        assert!(starts[2].ends_with("--follow --no-tail --after-cursor=s=x;i=4"), "{starts:?}");
    }

    #[tokio::test]
    async fn a_journalctl_that_ended_before_its_first_line_loses_none_either() {
        let (dir, mut follower) = follower("#!/bin/sh\necho \"$*\" >>\"$(dirname \"$0\")/starts\"\n");
        let before = wall_clock().as_nanos() / 1_000_000_000;
        assert!(read(&mut follower).await.is_empty() && read(&mut follower).await.is_empty());
        let starts = fs::read_to_string(dir.path().join("starts")).expect("it was started");
        let since = starts.lines().nth(1).and_then(|line| line.rsplit_once("--since=@")).expect("a time").1;
        let since: i64 = since.parse().expect("seconds");
        assert!((before..=before + 60).contains(&since), "{since} {before}");
    }
}
