//! A connection to a remote daemon through the `ssh` command, as the docker command makes it.
//!
//! `ssh` runs `docker system dial-stdio` over there; its standard input and output are the connection. The user's ssh
//! configuration, keys, agent and known hosts apply, which is why the command is run and no ssh library is linked.
//! It asks for no password: without a terminal ssh cannot, and squall has none to give.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// Longest line of ssh's complaints that is kept.
const LINE_BYTES: u64 = 4096;
/// How long an error waits for ssh's last words. A master connection may keep its standard error open for ever.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(300);

/// The last line that ssh wrote to its standard error, shared by all connections of a client.
#[derive(Debug, Clone)]
pub struct LastWords {
    line: Arc<Mutex<String>>,
    /// How many ssh processes are still talking.
    talking: Arc<watch::Sender<u32>>,
}

impl Default for LastWords {
    fn default() -> Self {
        Self { line: Arc::default(), talking: Arc::new(watch::Sender::new(0)) }
    }
}

impl LastWords {
    /// The line, once the processes that ended have had a moment to write it; None when none was written.
    pub async fn heard(&self) -> Option<String> {
        let mut talking = self.talking.subscribe();
        let _ = tokio::time::timeout(LAST_WORDS_WAIT, talking.wait_for(|count| *count == 0)).await;
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        (!line.is_empty()).then(|| line.clone())
    }

    async fn listen(self, stderr: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut reader).take(LINE_BYTES).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    let text = String::from_utf8_lossy(&line).trim().to_owned();
                    if !text.is_empty() {
                        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = text;
                    }
                }
            }
        }
        self.talking.send_modify(|count| *count -= 1);
    }
}

/// What ssh is told to reach.
#[derive(Debug, Clone)]
pub struct SshTarget {
    /// Login name.
    pub user: Option<String>,
    /// Host; never begins with a dash.
    pub host: String,
    /// Port.
    pub port: Option<u16>,
    /// The remote daemon's socket, of characters that a shell takes as they are.
    pub socket: Option<String>,
}

impl SshTarget {
    /// The arguments of ssh.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=10", "-T"].map(str::to_owned).into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            arguments.extend(["--host".to_owned(), format!("unix://{socket}")]);
        }
        arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        arguments
    }
}

/// A running ssh as a stream of bytes. Dropping it ends ssh.
#[derive(Debug)]
pub struct SshStream {
    /// Held to be killed on drop.
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl SshStream {
    /// Starts ssh. That it cannot connect shows only at the first read, as an end; the reason is in `last_words`.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn open(program: &Path, target: &SshTarget, last_words: &LastWords) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(target.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is ours to handle; it must not cut the connection under us.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("its standard streams are missing"));
        };
        last_words.talking.send_modify(|count| *count += 1);
        tokio::spawn(last_words.clone().listen(stderr));
        Ok(Self { _child: child, stdin, stdout })
    }
}

impl AsyncRead for SshStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}
