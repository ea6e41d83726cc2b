//! A Docker daemon on a unix socket that does what a real one will not do on demand.
//!
//! By default it is a calm Swarm manager of Docker 20.10 that answers `/_ping`, `/version`, `/info`, `/nodes`,
//! `/services`, `/tasks`, `/containers/json` and `/events`; the latter as moby does, with a ring of 256 events that
//! `since` replays. Any path can be given another answer: `daemon.on("/tasks", |_| Answer::json("[]"))`; all that have
//! none are asked of `on_any` first. It runs on a thread of its own, so that tests of the compiled binary can use it
//! too, and ends when it is dropped.
//!
//! It knows HTTP as far as our client speaks it, and no filter.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

/// Moby's `eventsLimit`.
const RING_EVENTS: usize = 256;
/// Generated listings are sent in pieces of about this size.
const PIECE_BYTES: usize = 32 << 10;
/// The node of the default swarm.
pub const NODE_ID: &str = "fakenode0000000000000node1";

/// A request as the daemon saw it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the version and the query.
    pub path: String,
    /// Such as `1.41`; None for a path without one.
    pub version: Option<String>,
    /// Percent-decoded.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How often this path was asked for before.
    pub nth: usize,
}

impl Request {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A step in the sending of a body.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes at once, as one piece.
    Send(Vec<u8>),
    /// Waits.
    Pause(Duration),
    /// Sends nothing more, and leaves the connection open.
    Hang,
    /// Closes the connection within the body.
    Cut,
}

/// What is answered to a request.
pub enum Answer {
    /// A status, a content type and the steps of a chunked body; 204 and 304 have none.
    Body { status: u16, steps: Vec<Step> },
    /// An array of this many generated elements, made while it is sent.
    Generated { elements: usize, element: Box<dyn Fn(usize) -> String + Send> },
    /// The live event stream.
    Events,
    /// Nothing, ever; the connection stays open.
    Never,
    /// The connection is closed without an answer.
    Close,
    /// Another answer after this time.
    Delayed { by: Duration, answer: Box<Self> },
}

impl Answer {
    pub fn json(text: impl Into<String>) -> Self {
        Self::chunks([text.into()])
    }

    pub fn error(status: u16, message: &str) -> Self {
        let text = serde_json::json!({ "message": message }).to_string();
        Self::Body { status, steps: vec![Step::Send(text.into_bytes())] }
    }

    /// A body in these pieces, with a moment between them so that they arrive apart.
    pub fn chunks(pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        let mut steps = Vec::new();
        for piece in pieces {
            if !steps.is_empty() {
                steps.push(Step::Pause(Duration::from_millis(20)));
            }
            steps.push(Step::Send(piece.into()));
        }
        Self::Body { status: 200, steps }
    }

    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self::Body { status, steps: Vec::new() }
    }

    /// The same, after this time.
    pub fn after(self, by: Duration) -> Self {
        Self::Delayed { by, answer: Box::new(self) }
    }

    /// Adds a step to a body.
    pub fn then(mut self, step: Step) -> Self {
        if let Self::Body { steps, .. } = &mut self {
            steps.push(step);
        }
        self
    }
}

type Handler = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;
type Delay = Arc<dyn Fn(&Request) -> Duration + Send + Sync>;
type AnyHandler = Arc<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
struct State {
    handlers: HashMap<String, Handler>,
    any_handler: Option<AnyHandler>,
    delay: Option<Delay>,
    requests: Vec<Request>,
    counts: BTreeMap<String, usize>,
    ring: VecDeque<(i64, Vec<u8>)>,
    streams: Vec<mpsc::UnboundedSender<Vec<u8>>>,
    is_mute: bool,
}

impl State {
    fn open_streams(&mut self) -> usize {
        self.streams.retain(|stream| !stream.is_closed());
        self.streams.len()
    }
}

/// The ring and the open streams of a daemon.
#[derive(Clone)]
pub struct Events(Arc<Mutex<State>>);

impl Events {
    /// Puts an event into the ring and onto all open streams.
    pub fn emit(&self, time_nanos: i64, event: impl Into<Vec<u8>>) {
        let event = event.into();
        let mut state = self.0.lock().unwrap();
        if state.ring.len() == RING_EVENTS {
            state.ring.pop_front();
        }
        state.ring.push_back((time_nanos, event.clone()));
        for stream in &state.streams {
            let _ = stream.send(event.clone());
        }
    }
}

/// The daemon. Dropping it ends its thread and removes the socket.
pub struct FakeDaemon {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

impl FakeDaemon {
    /// Starts it on `docker.sock` in this directory.
    pub fn start(dir: &Path) -> Self {
        let socket = dir.join("docker.sock");
        let mut daemon = Self { socket, state: Arc::default(), running: None };
        daemon.resume();
        daemon
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// As DOCKER_HOST names it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Answers all requests for a path (without version and query) by this function, from now on.
    pub fn on(&self, path: &str, handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        self.state().handlers.insert(path.to_owned(), Arc::new(handler));
    }

    /// How late each answer comes from now on. It tells what was so when it was asked for.
    pub fn delay(&self, delay: impl Fn(&Request) -> Duration + Send + Sync + 'static) {
        self.state().delay = Some(Arc::new(delay));
    }

    /// Answers a path again as it did before [`FakeDaemon::on`].
    pub fn off(&self, path: &str) {
        self.state().handlers.remove(path);
    }

    /// Answers the requests for paths that have no function of their own, where this one has an answer.
    pub fn on_any(&self, handler: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        self.state().any_handler = Some(Arc::new(handler));
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How often a path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.state().counts.get(path).copied().unwrap_or(0)
    }

    /// The requests that were no GET or HEAD: a test that nothing was written asserts that there are none.
    pub fn writes(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !matches!(&*request.method, "GET" | "HEAD")).collect()
    }

    /// Puts an event into the ring and onto all open streams.
    pub fn emit(&self, time_nanos: i64, event: impl Into<Vec<u8>>) {
        self.events().emit(time_nanos, event);
    }

    /// Where events go, for one who does not hold the daemon.
    pub fn events(&self) -> Events {
        Events(Arc::clone(&self.state))
    }

    /// Puts a container's event into the ring and onto all open streams, stamped now; returns the stamp.
    pub fn emit_container(&self, action: &str, id: &str) -> i64 {
        let nanos = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        self.emit(nanos, container_event(nanos, action, id));
        nanos
    }

    /// Forgets all events, as a restart does.
    pub fn forget_events(&self) {
        self.state().ring.clear();
    }

    /// Ends all open event streams in order.
    pub fn end_streams(&self) {
        self.state().streams.clear();
    }

    /// How many event streams are open.
    pub fn open_streams(&self) -> usize {
        self.state().open_streams()
    }

    /// Whether new requests are left without an answer and events are not sent, while all connections stay open:
    /// what a peer looks like that is gone without a word.
    pub fn set_mute(&self, is_mute: bool) {
        self.state().is_mute = is_mute;
    }

    /// Cuts all connections and removes the socket.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(true);
            let _ = thread.join();
            let _ = std::fs::remove_file(&self.socket);
            self.state().streams.clear();
        }
    }

    /// Listens again after [`FakeDaemon::stop`].
    pub fn resume(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::clone(&self.state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, state, stopped));
        });
        self.running = Some((stop, thread));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A container's event as 20.10 sends it.
pub fn container_event(nanos: i64, action: &str, id: &str) -> String {
    format!(
        r#"{{"status":"{action}","id":"{id}","from":"app:1","Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{"image":"app:1","name":"{id}"}}}},"scope":"local","time":{},"timeNano":{nanos}}}"#,
        nanos / 1_000_000_000
    )
}

/// A calm replicated service.
pub fn service(number: usize) -> String {
    format!(
        r#"{{"ID":"{id}","Version":{{"Index":{number}}},"CreatedAt":"2026-11-20T10:00:00.000000000Z","UpdatedAt":"2026-11-20T10:00:00.000000000Z","Spec":{{"Name":"service{number}","Labels":{{"com.docker.stack.namespace":"stack{stack}"}},"TaskTemplate":{{"ContainerSpec":{{"Image":"registry.example.com/team/app{number}:1.2.3","Env":["MODE=production"]}},"RestartPolicy":{{"Condition":"any","Delay":5000000000,"MaxAttempts":0}},"ForceUpdate":0,"Runtime":"container"}},"Mode":{{"Replicated":{{"Replicas":2}}}}}},"Endpoint":{{"Spec":{{}}}},"ServiceStatus":{{"RunningTasks":2,"DesiredTasks":2,"CompletedTasks":0}}}}"#,
        id = service_id(number),
        stack = number / 10,
    )
}

/// A running task of a service of [`service`]'s.
pub fn task(number: usize, service_number: usize, slot: usize) -> String {
    format!(
        r#"{{"ID":"faketask{number:017}","Version":{{"Index":{number}}},"CreatedAt":"2026-11-20T10:00:01.000000000Z","UpdatedAt":"2026-11-20T10:00:05.000000000Z","Labels":{{}},"Spec":{{"ContainerSpec":{{"Image":"registry.example.com/team/app{service_number}:1.2.3","Labels":{{"com.docker.stack.namespace":"stack{stack}"}},"Env":["MODE=production"],"Isolation":"default"}},"Resources":{{"Limits":{{}},"Reservations":{{}}}},"RestartPolicy":{{"Condition":"any","Delay":5000000000,"MaxAttempts":0}},"Placement":{{"Platforms":[{{"Architecture":"amd64","OS":"linux"}}]}},"ForceUpdate":0}},"ServiceID":"{service_id}","Slot":{slot},"NodeID":"{NODE_ID}","Status":{{"Timestamp":"2026-11-20T10:00:04.000000000Z","State":"running","Message":"started","ContainerStatus":{{"ContainerID":"{number:064x}","PID":{number},"ExitCode":0}},"PortStatus":{{}}}},"DesiredState":"running"}}"#,
        service_id = service_id(service_number),
        stack = service_number / 10,
    )
}

/// The id of a service of [`service`]'s.
pub fn service_id(number: usize) -> String {
    format!("fakeservice{number:014}")
}

/// This many services, made while they are sent.
pub fn services(count: usize) -> Answer {
    Answer::Generated { elements: count, element: Box::new(service) }
}

/// This many tasks, spread evenly over so many services.
pub fn tasks(count: usize, services: usize) -> Answer {
    let element = move |number| task(number, number % services.max(1), number / services.max(1) + 1);
    Answer::Generated { elements: count, element: Box::new(element) }
}

/// `/info` of a manager of a swarm of one, of Docker 20.10.
pub fn manager_info() -> serde_json::Value {
    serde_json::json!({
        "ID": "FAKE:FAKE", "Name": "fake1", "ServerVersion": "20.10.24", "OperatingSystem": "Debian GNU/Linux 12",
        "OSType": "linux", "Architecture": "x86_64", "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "extfs"]], "LoggingDriver": "json-file", "NCPU": 2,
        "MemTotal": 4_000_000_000_u64, "Containers": 0, "Images": 1, "SystemTime": "2026-11-20T10:00:00.000000000Z",
        "RegistryConfig": {"Mirrors": []}, "Labels": [],
        "Swarm": {
            "NodeID": NODE_ID, "NodeAddr": "10.0.0.1", "LocalNodeState": "active", "ControlAvailable": true,
            "Error": "", "Nodes": 1, "Managers": 1,
            "Cluster": {"ID": "fakecluster", "Spec": {"Orchestration": {"TaskHistoryRetentionLimit": 5}}},
        },
    })
}

fn node() -> String {
    format!(
        r#"{{"ID":"{NODE_ID}","Version":{{"Index":9}},"Spec":{{"Role":"manager","Availability":"active"}},"Description":{{"Hostname":"fake1","Platform":{{"Architecture":"x86_64","OS":"linux"}},"Engine":{{"EngineVersion":"20.10.24"}}}},"Status":{{"State":"ready","Addr":"10.0.0.1"}},"ManagerStatus":{{"Leader":true,"Reachability":"reachable","Addr":"10.0.0.1:2377"}}}}"#
    )
}

fn default_answer(request: &Request) -> Answer {
    match &*request.path {
        "/_ping" => Answer::json("OK"),
        "/version" => Answer::json(r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux"}"#),
        "/info" => Answer::json(manager_info().to_string()),
        "/nodes" => Answer::json(format!("[{}]", node())),
        path if path == format!("/nodes/{NODE_ID}") => Answer::json(node()),
        "/services" | "/tasks" | "/containers/json" => Answer::json("[]\n"),
        "/events" => Answer::Events,
        _ => Answer::error(404, "page not found"),
    }
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    state: Arc<Mutex<State>>,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = UnixListener::from_std(listener).unwrap();
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                // A client that goes away is no concern of the daemon's.
                let _ = converse(stream, state).await;
            });
        }
    };
    // Leaving here drops the runtime, and with it every connection.
    tokio::select! {
        () = accepting => {}
        _ = stopped.wait_for(|is_stopped| *is_stopped) => {}
    }
}

/// One connection: request after request until one side has enough.
async fn converse(mut stream: UnixStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut unread = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut unread).await? {
        let (request, mut answer) = {
            let mut state = state.lock().unwrap();
            let mut request = parse(&head, body);
            let count = state.counts.entry(request.path.clone()).or_default();
            request.nth = *count;
            *count += 1;
            state.requests.push(request.clone());
            let handler = state.handlers.get(&request.path).cloned();
            let any_handler = state.any_handler.clone();
            let delay = state.delay.clone();
            let is_mute = state.is_mute;
            drop(state);
            let answer = match handler {
                _ if is_mute => Answer::Never,
                Some(handler) => handler(&request),
                None => {
                    let answer = any_handler.and_then(|handler| handler(&request));
                    answer.unwrap_or_else(|| default_answer(&request))
                }
            };
            match delay.map(|delay| delay(&request)) {
                Some(by) if !by.is_zero() => (request, answer.after(by)),
                _ => (request, answer),
            }
        };
        while let Answer::Delayed { by, answer: delayed } = answer {
            tokio::time::sleep(by).await;
            answer = *delayed;
        }
        match answer {
            Answer::Body { status: status @ (204 | 304), .. } => {
                send_head(&mut stream, status).await?;
                continue;
            }
            Answer::Body { status, steps } => {
                send_head(&mut stream, status).await?;
                for step in steps {
                    match step {
                        Step::Send(bytes) => send_piece(&mut stream, &bytes).await?,
                        Step::Pause(time) => tokio::time::sleep(time).await,
                        Step::Hang => return until_closed(&mut stream).await,
                        Step::Cut => return Ok(()),
                    }
                }
            }
            Answer::Generated { elements, element } => {
                send_head(&mut stream, 200).await?;
                let mut piece = vec![b'['];
                for number in 0..elements {
                    if number > 0 {
                        piece.push(b',');
                    }
                    piece.extend_from_slice(element(number).as_bytes());
                    if piece.len() >= PIECE_BYTES {
                        send_piece(&mut stream, &piece).await?;
                        piece.clear();
                    }
                }
                piece.extend_from_slice(b"]\n");
                send_piece(&mut stream, &piece).await?;
            }
            Answer::Events => send_events(&mut stream, &state, &request).await?,
            Answer::Never => return until_closed(&mut stream).await,
            Answer::Close | Answer::Delayed { .. } => return Ok(()),
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// The event stream as moby sends it: what the ring holds from `since` on, newest backwards until one is too old;
/// then live events, unless `until` has passed.
async fn send_events(stream: &mut UnixStream, state: &Mutex<State>, request: &Request) -> std::io::Result<()> {
    let time = |name| request.parameter(name).map(nanos_of);
    let (since, until) = (time("since"), time("until").unwrap_or(i64::MAX));
    let (sender, mut live) = mpsc::unbounded_channel();
    let replay: Vec<Vec<u8>> = {
        let mut state = state.lock().unwrap();
        let since = since.unwrap_or(i64::MAX);
        let kept = state.ring.iter().rev().take_while(|(nanos, _)| *nanos >= since);
        let mut replay: Vec<Vec<u8>> =
            kept.filter(|(nanos, _)| *nanos <= until).map(|(_, event)| event.clone()).collect();
        replay.reverse();
        if until == i64::MAX {
            state.open_streams();
            state.streams.push(sender);
        } else {
            drop(sender);
        }
        replay
    };
    send_head(stream, 200).await?;
    for event in replay {
        send_piece(stream, &[event.as_slice(), b"\n"].concat()).await?;
    }
    let mut unread = [0; 1];
    loop {
        tokio::select! {
            event = live.recv() => match event {
                Some(_) if state.lock().unwrap().is_mute => {}
                Some(event) => send_piece(stream, &[event.as_slice(), b"\n"].concat()).await?,
                None => return Ok(()),
            },
            // A client has nothing to say now but that it goes.
            read = stream.read(&mut unread) => {
                read?;
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
}

async fn until_closed(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut unread = [0; 64];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

async fn send_head(stream: &mut UnixStream, status: u16) -> std::io::Result<()> {
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap();
    // These two end with their head, whatever it says.
    let body = match status {
        204 | 304 => "",
        _ => "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
    };
    let head = format!("HTTP/1.1 {status} Fake\r\nApi-Version: 1.41\r\nDate: {date}\r\n{body}\r\n");
    stream.write_all(head.as_bytes()).await
}

async fn send_piece(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    stream.write_all(&chunk).await
}

/// A request's head up to its blank line, and its body; None when the client is gone.
async fn read_request(stream: &mut UnixStream, unread: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    loop {
        if let Some(end) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            while unread.len() < whole {
                if stream.read_buf(unread).await? == 0 {
                    return Ok(None);
                }
            }
            let body = unread[end + 4..whole].to_vec();
            unread.drain(..whole);
            return Ok(Some((head, body)));
        }
        if stream.read_buf(unread).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &str, body: Vec<u8>) -> Request {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let versioned = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    let (version, path) = match versioned.filter(|(version, _)| version.starts_with(|c: char| c.is_ascii_digit())) {
        Some((version, rest)) => (Some(version.to_owned()), format!("/{rest}")),
        None => (None, path.to_owned()),
    };
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers = head.lines().skip(1).filter_map(header).collect();
    Request { method, path, version, query: decode(query), headers, body, nth: 0 }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = (byte == b'%').then(|| after.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nanoseconds of `seconds` or `seconds.nanoseconds`.
fn nanos_of(text: &str) -> i64 {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    seconds.parse::<i64>().unwrap() * 1_000_000_000 + format!("{fraction:0<9}").parse::<i64>().unwrap()
}
