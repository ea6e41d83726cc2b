//! A server on loopback that receivers point to: it keeps what it is sent and answers as it is told.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What is answered to the requests of a path.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// A status with these headers, each ended by a line's end, and this body.
    Status(u16, String, String),
    /// The same with the request as it came, head and body.
    Echo(u16),
    /// 200 after this time.
    Slow(Duration),
    /// Nothing, ever.
    Hang,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: SystemTime,
    /// The path and the query.
    pub(super) path: String,
    pub(super) head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<Request>>,
    /// By the path's first part.
    says: Mutex<BTreeMap<String, Say>>,
    is_ending: AtomicBool,
}

/// The server. It ends when it is dropped.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// An address that nobody listens at.
pub(super) fn unused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Listener {
    pub(super) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    pub(super) fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.is_ending.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&serving);
                // A client that goes away is no concern of the server's.
                std::thread::spawn(move || state.converse(stream));
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What the paths that begin with this part are answered from now on.
    pub(super) fn say(&self, part: &str, say: Say) {
        self.state.says.lock().unwrap().insert(part.to_owned(), say);
    }

    pub(super) fn refuse(&self, part: &str, status: u16) {
        self.say(part, Say::Status(status, String::new(), "no".to_owned()));
    }

    /// The requests to paths that begin with this part, by time.
    pub(super) fn got(&self, part: &str) -> Vec<Request> {
        let requests = self.state.requests.lock().unwrap();
        requests.iter().filter(|request| first_part(&request.path) == part).cloned().collect()
    }

    /// The alerts that a webhook of this path got.
    pub(super) fn alerts(&self, part: &str) -> Vec<Value> {
        self.got(part).iter().map(Request::json).collect()
    }

    /// Whether a request to this path has all these words.
    pub(super) fn has(&self, part: &str, words: &[&str]) -> bool {
        self.got(part).iter().any(|request| words.iter().all(|word| request.body.contains(word)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.state.is_ending.store(true, Ordering::Relaxed);
        // It wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn first_part(path: &str) -> &str {
    path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default()
}

impl State {
    fn converse(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let Some(request) = read(&mut stream) else { return };
        let ok = Say::Status(200, String::new(), "ok".to_owned());
        let say = self.says.lock().unwrap().get(first_part(&request.path)).cloned().unwrap_or(ok);
        self.requests.lock().unwrap().push(request.clone());
        let (status, headers, body) = match say {
            Say::Status(status, headers, body) => (status, headers, body),
            Say::Echo(status) => (status, String::new(), format!("{}\n{}", request.head, request.body)),
            Say::Slow(time) => {
                std::thread::sleep(time);
                (200, String::new(), "ok".to_owned())
            }
            Say::Hang => {
                // Until the client has enough, or the test.
                while !self.is_ending.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(50));
                }
                return;
            }
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} Told\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
    }
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                let path = head.split(' ').nth(1)?.to_owned();
                let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                return Some(Request { at: SystemTime::now(), path, head, body });
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
