//! The compiled binary in a pseudo-terminal, before a daemon's status that the test serves.

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use squall::model::Status;

use crate::fixture::{evening, hostile};
use crate::support::fake_daemon::FakeDaemon;

const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "token-of-the-test";

/// A daemon that serves one status to whoever has the token.
struct Daemon {
    url: String,
    /// What it answers with.
    code: Arc<AtomicU16>,
}

impl Daemon {
    fn start(status: &Status) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let code = Arc::new(AtomicU16::new(200));
        let (answered, body) = (Arc::clone(&code), serde_json::to_string(status).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(&mut stream.unwrap(), answered.load(Ordering::Relaxed), &body);
            }
        });
        Self { url, code }
    }
}

fn answer(stream: &mut TcpStream, code: u16, body: &str) -> std::io::Result<()> {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..read]);
        if read == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    assert!(request.starts_with("get /api/v1/status http/1.1"), "{request}");
    let code = if request.contains(&format!("authorization: bearer {TOKEN}")) { code } else { 401 };
    write!(stream, "HTTP/1.1 {code} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// `squall top` in a terminal, and what that shows.
struct Top {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    /// The screen, and all bytes that came.
    seen: Arc<Mutex<(vt100::Parser, Vec<u8>)>>,
}

impl Top {
    fn start(url: &str, env: &[(&str, &str)]) -> Self {
        Self::run(&["top", "--url", url], env)
    }

    fn run(args: &[&str], env: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_squall"));
        command.args(args);
        for name in ["NO_COLOR", "SQUALL_CONFIG", "SQUALL_TOKEN", "http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        env.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        let seen = Arc::new(Mutex::new((vt100::Parser::new(24, 80, 0), Vec::new())));
        let (mut reader, sink) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read) = reader.read(&mut piece) {
                if read == 0 {
                    break;
                }
                let mut seen = sink.lock().unwrap();
                seen.0.process(&piece[..read]);
                seen.1.extend_from_slice(&piece[..read]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keys, seen }
    }

    fn screen(&self) -> String {
        self.seen.lock().unwrap().0.screen().contents()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, is_so: impl Fn(&vt100::Screen) -> bool) {
        let started = Instant::now();
        while !is_so(self.seen.lock().unwrap().0.screen()) {
            assert!(started.elapsed() < PATIENCE, "{what} does not come:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |screen| screen.contents().contains(text));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// It ends, with exit status 0, and the terminal is as it was.
    #[track_caller]
    fn ends(mut self) -> Vec<u8> {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.exit_code(), 0, "{}", self.screen());
        self.wait_for("the screen of before", |screen| !screen.alternate_screen() && !screen.hide_cursor());
        self.seen.lock().unwrap().1.clone()
    }
}

#[test]
fn a_running_daemon_is_looked_at_in_a_terminal() {
    let daemon = Daemon::start(&evening());
    let mut top = Top::start(&daemon.url, &[("SQUALL_TOKEN", TOKEN)]);
    top.wait_for_text("billing_invoice-rend");
    top.wait_for("the other screen", |screen| screen.alternate_screen() && screen.hide_cursor());
    assert!(top.screen().contains("5 storms go on, 1 held"), "{}", top.screen());
    top.press("jj\r");
    top.wait_for_text("make the directory on node-2");
    top.press("\x1b[A");
    top.wait_for_text("tools_reindex · service of tools");
    top.press("\r/mail");
    top.wait_for_text("1 of 6");
    top.press("\r\x1b");
    top.wait_for("all of them", |screen| screen.contents().contains("shop_api"));
    let size = PtySize { rows: 10, cols: 40, pixel_width: 0, pixel_height: 0 };
    top.seen.lock().unwrap().0.screen_mut().set_size(10, 40);
    top.master.resize(size).unwrap();
    top.wait_for_text("1 of 6");
    daemon.code.store(500, Ordering::Relaxed);
    top.wait_for_text("daemon does not answer since");
    daemon.code.store(200, Ordering::Relaxed);
    top.wait_for("an answer", |screen| !screen.contents().contains("does not answer"));
    top.press("q");
    top.ends();
}

#[test]
fn a_daemon_that_is_not_there_is_said_and_tried_again() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut top = Top::start(&format!("http://127.0.0.1:{port}/"), &[("NO_COLOR", "1")]);
    top.wait_for_text("daemon does not answer since");
    top.wait_for_text("onnection refused");
    // Ctrl-C is a key in a raw terminal.
    top.press("\x03");
    let bytes = top.ends();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("\x1b[31m") && !text.contains("\x1b[38;"), "no colour: {text:?}");
}

#[test]
fn without_a_token_it_says_what_to_do() {
    let daemon = Daemon::start(&evening());
    let mut top = Top::start(&daemon.url, &[]);
    top.wait_for_text("it wants a token:");
    top.press("q");
    top.ends();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let daemon = Daemon::start(&hostile());
    for signal in ["-TERM", "-HUP", "-INT"] {
        let top = Top::start(&daemon.url, &[("SQUALL_TOKEN", TOKEN)]);
        top.wait_for_text("storms go on");
        let bytes = top.seen.lock().unwrap().1.clone();
        assert!(!bytes.windows(2).any(|pair| pair == b"\x1b]"), "nobody names the window");
        let id = top.child.process_id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        top.ends();
    }
}

#[test]
fn docker_itself_is_looked_at_where_no_daemon_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let docker = FakeDaemon::start(dir.path());
    let mut top = Top::run(&["top", "--log", "none"], &[("DOCKER_HOST", &docker.host())]);
    top.wait_for_text("manager · looking only");
    top.wait_for_text("✓ healthy");
    top.press("\t");
    top.wait_for_text("what is held is told by a daemon");
    top.press("\x1a");
    top.press("q");
    let bytes = top.ends();
    assert!(bytes.windows(8).filter(|part| part == b"\x1b[?1049h").count() >= 2, "Ctrl-Z gave the terminal back");
}

#[test]
fn where_there_is_no_terminal_it_says_so() {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    let output = squall.args(["top", "--url", "http://127.0.0.1:1"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(words, "squall: squall top needs a terminal; squall audit prints once\n");
    assert!(output.stdout.is_empty());
}
