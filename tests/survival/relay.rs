//! Stands between squall and a real dockerd: a socket that can be cut and replaced, and a clock that can be stepped.
//!
//! A step of the daemon's clock moves what dockerd says of the time after it, byte for byte: the times of objects and
//! events (RFC 3339 and `timeNano`), the Date header, and the other way round what it is asked for (`since`, `until`).
//! What happened before keeps its time, as it would.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use squall::model::Timestamp;

const NANOS: i64 = 1_000_000_000;
/// What comes later than this after a piece is no continuation of a time within it.
const PIECE_PAUSE: Duration = Duration::from_millis(20);
/// The beginning of the names of squall's labels.
const OWN: &[u8] = b"squall.quarantine";
/// No time is longer than this.
const TIME_MAX: usize = 40;

/// A clock that was stepped.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// When, on the clock that was not.
    at_nanos: i64,
    by_secs: i64,
}

/// The daemon's clock, for whoever passes its words on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Option<Step>>>);

impl Clock {
    /// Steps it now.
    pub(crate) fn step(&self, by_secs: i64) {
        *self.0.lock().unwrap() = Some(Step { at_nanos: super::lab::now().as_nanos(), by_secs });
    }

    /// What the daemon says at `nanos`.
    fn said(&self, nanos: i64) -> i64 {
        match *self.0.lock().unwrap() {
            Some(step) if nanos >= step.at_nanos => nanos + step.by_secs * NANOS,
            _ => nanos,
        }
    }

    /// What it means by `nanos`; of two moments of one name the later one.
    fn meant(&self, nanos: i64) -> i64 {
        match *self.0.lock().unwrap() {
            Some(step) if nanos >= step.at_nanos + step.by_secs * NANOS => nanos - step.by_secs * NANOS,
            Some(step) => nanos.min(step.at_nanos),
            None => nanos,
        }
    }

    /// The text with its times as the daemon says them.
    fn translate(&self, text: &mut [u8]) {
        if self.0.lock().unwrap().is_none() {
            return;
        }
        let mut at = 0;
        while at < text.len() {
            // What squall itself has written on a service is no word of the daemon's.
            let is_own = text[at.saturating_sub(OWN.len() + 16)..at].windows(OWN.len()).any(|word| word == OWN);
            at += if is_own { 1 } else { self.translate_first(&mut text[at..]).max(1) };
        }
    }

    /// Translates a time that the text begins with; returns its length.
    fn translate_first(&self, text: &mut [u8]) -> usize {
        if let Some(digits) = text.strip_prefix(b"\"timeNano\":").and_then(|rest| rest.get(..19)) {
            let Ok(nanos) = std::str::from_utf8(digits).unwrap_or("").parse() else { return 0 };
            text[11..30].copy_from_slice(self.said(nanos).to_string().as_bytes());
            return 30;
        }
        if text.starts_with(b"\r\nDate: ") && text.len() >= 37 {
            let Ok(date) = jiff::fmt::rfc2822::parse(std::str::from_utf8(&text[8..37]).unwrap_or("")) else { return 0 };
            let secs = self.said(date.timestamp().as_nanosecond().try_into().unwrap()) / NANOS;
            let date = jiff::Timestamp::from_second(secs).unwrap();
            text[8..37].copy_from_slice(date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().as_bytes());
            return 37;
        }
        let is_time = text.len() >= 20
            && text[..19].iter().zip(b"0000-00-00T00:00:00").all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            });
        if !is_time {
            return 0;
        }
        // A fraction does not change by a step of whole seconds.
        let whole = format!("{}Z", std::str::from_utf8(&text[..19]).unwrap());
        let Ok(time) = Timestamp::parse(&whole) else { return 19 };
        // The second of the step itself belongs to the time after it.
        let said = self.said(time.as_nanos() + NANOS - 1) - (NANOS - 1);
        text[..19].copy_from_slice(&Timestamp::from_nanos(said).to_string().as_bytes()[..19]);
        19
    }

    /// A request with the times that it asks for as the daemon means them.
    fn ask(&self, text: &mut [u8]) {
        for name in [&b"since="[..], b"until="] {
            let Some(start) = text.windows(name.len()).position(|window| window == name) else { continue };
            let digits = start + name.len()..start + name.len() + 10;
            let Some(secs) = text.get(digits.clone()).and_then(|d| std::str::from_utf8(d).ok()?.parse::<i64>().ok())
            else {
                continue;
            };
            let meant = self.meant(secs * NANOS) / NANOS;
            text[digits].copy_from_slice(meant.to_string().as_bytes());
        }
    }

    /// Passes on what comes until it ends, in pieces that divide no time.
    fn pass_on(&self, from: &mut UnixStream, to: &mut UnixStream) -> std::io::Result<()> {
        let (mut waiting, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            from.set_read_timeout((!waiting.is_empty()).then_some(PIECE_PAUSE))?;
            let (count, is_pause) = match from.read(&mut piece) {
                Ok(count) => (count, false),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (0, true),
                Err(error) => return Err(error),
            };
            waiting.extend_from_slice(&piece[..count]);
            let is_end = count == 0;
            let keep = if is_end { 0 } else { waiting.len().min(TIME_MAX) };
            let is_of_time = |byte: &u8| byte.is_ascii_digit() || b"-T:.\"timeNano".contains(byte);
            // Without a letter that no time has, what comes next may belong to it.
            let tail = waiting.len() - keep;
            let end = waiting[tail..].iter().rposition(|byte| !is_of_time(byte)).map_or(tail, |place| tail + place + 1);
            let mut whole: Vec<u8> = waiting.drain(..end).collect();
            self.translate(&mut whole);
            to.write_all(&whole)?;
            if is_end && !is_pause {
                return Ok(());
            }
        }
    }

    /// Copies what is appended to a log, on the daemon's clock, until it is told to end.
    pub(crate) fn copy_log(&self, from: &str, to: PathBuf) -> Copier {
        let is_ending = Arc::new(AtomicBool::new(false));
        let (clock, ends, from) = (self.clone(), Arc::clone(&is_ending), from.to_owned());
        let mut copy = File::create(&to).unwrap();
        let thread = std::thread::spawn(move || {
            let mut log = File::open(from).unwrap();
            let mut rest = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                log.read_to_end(&mut rest).unwrap();
                let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
                let mut lines: Vec<u8> = rest.drain(..end).collect();
                clock.translate(&mut lines);
                copy.write_all(&lines).unwrap();
                std::thread::sleep(PIECE_PAUSE);
            }
        });
        Copier { path: to, is_ending, thread: Some(thread) }
    }
}

/// A log that is being copied.
pub(crate) struct Copier {
    pub(crate) path: PathBuf,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<UnixStream>>,
    is_ending: AtomicBool,
}

/// A socket whose connections lead to another one.
pub(crate) struct Relay {
    /// Where its socket is now.
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `path`, where nothing is.
    pub(crate) fn start(path: &Path, upstream: &Path, clock: &Clock) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::new(Shared::default());
        let (serving, upstream, clock) = (Arc::clone(&shared), upstream.to_owned(), clock.clone());
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.is_ending.load(Ordering::Relaxed) {
                    return;
                }
                // A daemon that is away leaves the client without an answer.
                if let Ok(server) = UnixStream::connect(&upstream) {
                    serving.join(client, server, &clock);
                }
            }
        });
        Self { path: path.to_owned(), shared, thread: Some(thread) }
    }

    /// The socket is at another path; connections to it go on.
    pub(crate) fn move_away(&mut self, path: &Path) {
        fs::rename(&self.path, path).unwrap();
        path.clone_into(&mut self.path);
    }
}

impl Drop for Relay {
    /// Its connections break.
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        // It wakes the listener; at a socket that is gone nobody will.
        if UnixStream::connect(&self.path).is_ok() {
            drop(self.thread.take().map(JoinHandle::join));
        }
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Shared {
    fn join(&self, client: UnixStream, server: UnixStream, clock: &Clock) {
        let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (mut answers, mut answered) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        self.connections.lock().unwrap().extend([client, server]);
        let clock = clock.clone();
        let asking = clock.clone();
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 << 10];
            while let Ok(count @ 1..) = asks.read(&mut piece) {
                asking.ask(&mut piece[..count]);
                if asked.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let _ = asked.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let _ = clock.pass_on(&mut answers, &mut answered);
            let _ = answered.shutdown(Shutdown::Both);
        });
    }
}
