//! Reads dockerd's log from journald, through `journalctl`: it knows every format of the journal's files, and its
//! rotation and permissions are its own matter.

use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running `journalctl`. It ends with this.
#[derive(Debug)]
pub(super) struct Journal {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Journal {
    /// What is written from now on.
    pub(super) fn follow() -> io::Result<Self> {
        Self::start(&["--follow", "--lines=0"])
    }

    /// What was written lately, up to now.
    pub(super) fn tail() -> io::Result<Self> {
        Self::start(&["--since=-30min", "--lines=20000"])
    }

    fn start(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new("journalctl")
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
