//! What a registry and its token server answer: `WWW-Authenticate`, headers of a budget, a token; by the one public way
//! that reads them, over a proxy in this process that plays both.
//!
//! Lines of the input: the challenge, `ratelimit-limit`, `ratelimit-remaining`, the source; the rest is what the token
//! server sends.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use reqwest::Url;
use squall::model::{BudgetAnswer, Timestamp};
use squall::registry::{Login, Prober, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The most that is asked for one answer: two HEADs and a token.
const REQUESTS_MAX: usize = 3;
/// How much is kept of whom a budget counts against, in characters.
const SOURCE_CHARS_MAX: usize = 100;
const PASSWORD: &str = "correct-horse-battery-staple";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
});
static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port of this host"));
static ANSWERS: Mutex<Answers> = Mutex::new(Answers { challenge: Vec::new(), budget: Vec::new(), token: Vec::new() });
/// The heads of the requests that came, in the order in which they came.
static REQUESTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PROBER: LazyLock<Prober> = LazyLock::new(|| Prober::new().expect("a proxy"));

#[derive(Clone)]
struct Answers {
    challenge: Vec<u8>,
    budget: Vec<u8>,
    token: Vec<u8>,
}

fuzz_target!(
    init: {
        let port = LISTENER.local_addr().expect("it is bound").port();
        // All that is asked goes to this process, whatever name an input makes up. Nothing else runs yet that could
        // read the environment.
        unsafe {
            for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                std::env::set_var(name, format!("http://127.0.0.1:{port}"));
            }
            for name in ["no_proxy", "NO_PROXY", "REQUEST_METHOD"] {
                std::env::remove_var(name);
            }
        }
        RUNTIME.spawn(serve());
    },
    |bytes: &[u8]| {
        let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
        let mut line = || plain(lines.next().unwrap_or_default());
        let (challenge, limit, remaining, source) = (line(), line(), line(), line());
        let mut budget = Vec::new();
        for (name, value) in
            [("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("docker-ratelimit-source", source)]
        {
            if !value.is_empty() {
                budget.extend_from_slice(&[name.as_bytes(), b": ", &value, b"\r\n"].concat());
            }
        }
        let token = lines.next().unwrap_or_default().to_vec();
        *ANSWERS.lock().expect("no panic before") = Answers { challenge, budget, token };
        for login in [None, Some(Login::parse(&format!("robot:{PASSWORD}")).expect("it has a colon"))] {
            ask(login);
        }
    }
);

/// What may stand in a header.
fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)).collect()
}

fn ask(login: Option<Login>) {
    REQUESTS.lock().expect("no panic before").clear();
    let target = Target {
        registry: "registry.test".to_owned(),
        api: Url::parse("http://registry.test").expect("a URL"),
        repository: "ratelimitpreview/test".to_owned(),
        login,
    };
    let reading = RUNTIME.block_on(PROBER.ask(&target, Timestamp::from_secs(1)));
    let shown = format!("{reading:?}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    assert!(reading.source.is_none_or(|source| !source.is_empty() && source.chars().count() <= SOURCE_CHARS_MAX));
    if let BudgetAnswer::Failed { why } | BudgetAnswer::Denied { why } = &reading.answer {
        assert!(!why.is_empty());
    }
    let requests = REQUESTS.lock().expect("no panic before");
    assert!(requests.len() <= REQUESTS_MAX, "{requests:?}");
    for request in requests.iter().filter(|request| !request.starts_with("GET ") && !request.starts_with("CONNECT ")) {
        assert!(
            request.starts_with("HEAD http://registry.test/v2/ratelimitpreview/test/manifests/latest "),
            "{request}"
        );
    }
    assert!(requests.first().is_some_and(|request| request.starts_with("HEAD ")), "{requests:?}");
    assert!(requests.iter().filter(|request| request.starts_with("GET ")).count() <= 1, "{requests:?}");
}

async fn serve() {
    loop {
        let Ok((stream, _)) = LISTENER.accept().await else { continue };
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> Option<()> {
    let mut held = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let read = stream.read_buf(&mut held).await.ok()?;
            (read > 0).then_some(())?;
        };
        let head: Vec<u8> = held.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let response = response(&head);
        REQUESTS.lock().ok()?.push(head);
        stream.write_all(&response).await.ok()?;
    }
}

fn response(head: &str) -> Vec<u8> {
    let answers =
        ANSWERS.lock().map(|answers| answers.clone()).unwrap_or_else(|poisoned| poisoned.into_inner().clone());
    let has_login = head.lines().any(|line| line.to_ascii_lowercase().starts_with("authorization:"));
    if head.starts_with("CONNECT ") {
        return b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    if head.starts_with("GET ") {
        let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answers.token.len());
        return [length.as_bytes(), &answers.token].concat();
    }
    // An empty challenge is none: the budget is told at once.
    if has_login || answers.challenge.is_empty() {
        return [b"HTTP/1.1 200 OK\r\n", &answers.budget[..], b"content-length: 0\r\n\r\n"].concat();
    }
    let start = b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: ";
    [start, &answers.challenge[..], b"\r\ncontent-length: 0\r\n\r\n"].concat()
}
