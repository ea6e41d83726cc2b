//! What a running daemon shows over HTTP, asked over real connections.

#[path = "support/status.rs"]
mod status;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use squall::model::{Action, Cause, DeliveryOutcome, Health, Outcome, Refusal, STATUS_STORMS_MAX, Status, Timestamp};
use squall::serve::{
    CONNECTIONS_MAX, LISTENERS_MAX, METRICS_STORMS_MAX, OPENAPI, PAGE_ROWS_MAX, ServeError, Server, Settings,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, what it is fed by, and what ends it.
struct Served {
    address: SocketAddr,
    status: watch::Sender<Arc<Status>>,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<()>,
}

fn settings() -> Settings {
    Settings { listen: "127.0.0.1:0".parse().expect("an address"), token: None, insecure: false, hosts: Vec::new() }
}

async fn serve(settings: Settings, status: Status) -> Served {
    let (sender, receiver) = watch::channel(Arc::new(status));
    let server = Server::bind(settings, receiver).await.expect("it binds");
    let address = server.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.run(async { drop(stopped.await) }));
    Served { address, status: sender, stop: Some(stop), ended }
}

async fn rich() -> Served {
    serve(settings(), status::rich(status::now())).await
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Served {
    async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut bytes = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time").expect("an answer");
        let text = String::from_utf8(bytes).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { code, head: head.to_owned(), body: body.to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.raw(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Asks for the events, and leaves the connection open.
    async fn listen(&self) -> Events {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it takes the request");
        Events { stream, text: String::new() }
    }

    async fn end(mut self) {
        drop(self.stop.take());
        timeout(PATIENCE, &mut self.ended).await.expect("it ends").expect("without a panic");
    }
}

struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    /// Reads on until the text is there, and forgets all up to its end.
    async fn until(&mut self, wanted: &str) -> String {
        let mut buffer = vec![0; 1 << 16];
        let reading = async {
            loop {
                if let Some(at) = self.text.find(wanted) {
                    let rest = self.text.split_off(at + wanted.len());
                    return std::mem::replace(&mut self.text, rest);
                }
                let count = self.stream.read(&mut buffer).await.expect("it can be read");
                assert!(count > 0, "the connection ended before `{wanted}`: {}", self.text);
                self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        timeout(PATIENCE, reading).await.expect("in time")
    }
}

#[tokio::test]
async fn every_route_answers_with_its_kind_and_the_headers_of_all() {
    let served = rich().await;
    let kinds = [
        ("/", "text/html; charset=utf-8"),
        ("/assets/squall.css", "text/css; charset=utf-8"),
        ("/assets/squall.js", "text/javascript; charset=utf-8"),
        ("/api/v1/status", "application/json"),
        ("/api/v1/storms", "application/json"),
        ("/api/v1/quarantines", "application/json"),
        ("/api/v1/openapi.json", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
    ];
    let mut known: BTreeSet<&str> = kinds.iter().map(|kind| kind.0).collect();
    known.insert("/events");
    assert_eq!(known, squall::serve::paths().collect());
    for (path, kind) in kinds {
        let answer = served.get(path).await;
        assert_eq!((answer.code, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        check_headers(&answer);
        let head = served.ask("HEAD", path, "").await;
        assert_eq!((head.code, &*head.body), (200, ""), "{path}");
        let post = served.ask("POST", path, "Content-Length: 0\r\n").await;
        assert_eq!(post.code, 405, "{path}");
        check_headers(&post);
    }
    let missing = served.get("/no/such").await;
    assert_eq!(missing.code, 404);
    check_headers(&missing);
    let mut events = served.listen().await;
    let head = events.until("\r\n\r\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    drop(events);
    served.end().await;
}

fn check_headers(answer: &Answer) {
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.header("cache-control").is_some());
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn the_page_and_what_is_new_are_not_kept_and_its_files_are_kept_for_ever() {
    let served = rich().await;
    let page = served.get("/").await;
    assert_eq!(page.header("cache-control"), Some("no-store"));
    for part in ["href=\"/assets/squall.css?v=", "src=\"/assets/squall.js?v="] {
        let at = page.body.find(part).expect("a link") + part.find('/').expect("a path");
        let link = page.body[at..].split('"').next().expect("its end");
        let file = served.get(link).await;
        assert_eq!(file.header("cache-control"), Some("private, max-age=31536000, immutable"));
        let etag = file.header("etag").expect("a tag").to_owned();
        let again = served.ask("GET", link, &format!("If-None-Match: \"x\", {etag}\r\n")).await;
        assert_eq!((again.code, &*again.body), (304, ""));
        let bare = served.get(link.split('?').next().expect("a path")).await;
        assert_eq!((bare.code, bare.header("cache-control")), (200, Some("no-cache")));
    }
    served.end().await;
}

#[tokio::test]
async fn other_machines_are_not_let_in_unless_somebody_says_so() {
    let bind = |settings: Settings| async {
        let (_sender, receiver) = watch::channel(Arc::new(Status::default()));
        Server::bind(settings, receiver).await
    };
    let everywhere = Settings { listen: "0.0.0.0:0".parse().expect("an address"), ..settings() };
    let refused = bind(everywhere.clone()).await.expect_err("it is open to all");
    assert!(matches!(refused, ServeError::Exposed(_)));
    assert!(refused.to_string().contains("set serve.token"), "{refused}");
    let empty = Settings { token: Some(String::new().into()), ..everywhere.clone() };
    assert!(matches!(bind(empty).await, Err(ServeError::EmptyToken)));
    assert!(bind(Settings { insecure: true, ..everywhere.clone() }).await.is_ok());
    let first = bind(Settings { token: Some("t".to_owned().into()), ..everywhere }).await.expect("it has a token");
    let taken = bind(Settings { listen: SocketAddr::new([127, 0, 0, 1].into(), first.address().port()), ..settings() });
    let taken = taken.await.expect_err("the port is taken");
    assert!(taken.to_string().starts_with("cannot bind 127.0.0.1:"), "{taken}");
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_health() {
    let with_token = Settings { token: Some("s3cret".to_owned().into()), ..settings() };
    assert!(!format!("{with_token:?}").contains("s3cret"));
    let served = serve(with_token, status::rich(status::now())).await;
    for path in squall::serve::paths().chain(["/no/such"]) {
        let answer = served.get(path).await;
        if matches!(path, "/healthz" | "/readyz") {
            assert_eq!(answer.code, 200, "{path}");
        } else {
            assert_eq!(answer.code, 401, "{path}");
            assert!(answer.header("www-authenticate").is_some_and(|ask| ask.starts_with("Basic realm=\"squall\"")));
            check_headers(&answer);
        }
    }
    for (shown, code) in [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        // anybody:s3cret
        ("Basic YW55Ym9keTpzM2NyZXQ=", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("Bearer", 401),
        ("Basic czNjcmV0", 401),
        ("s3cret", 401),
    ] {
        let answer = served.ask("GET", "/api/v1/status", &format!("Authorization: {shown}\r\n")).await;
        assert_eq!(answer.code, code, "{shown}");
    }
    served.end().await;
}

#[tokio::test]
async fn a_name_that_is_not_its_own_is_not_answered() {
    let served = serve(Settings { hosts: vec!["Squall.Example".to_owned()], ..settings() }, Status::default()).await;
    let port = served.address.port();
    for (host, code) in [
        ("localhost".to_owned(), 200),
        (format!("LOCALHOST.:{port}"), 200),
        (format!("127.0.0.1:{port}"), 200),
        ("[::1]:9".to_owned(), 200),
        ("squall.example".to_owned(), 200),
        ("evil.example".to_owned(), 421),
        ("localhost.evil.example".to_owned(), 421),
        ("192.0.2.7".to_owned(), 421),
        ("localhost@evil.example".to_owned(), 400),
        ("evil.example@localhost".to_owned(), 400),
        ("local host".to_owned(), 400),
    ] {
        let answer =
            served.raw(&format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.code, code, "{host}");
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(served.raw(absolute).await.code, 421);
    let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(served.raw(two).await.code, 400);
    assert_eq!(served.raw("GET /metrics HTTP/1.0\r\n\r\n").await.code, 400);
    served.end().await;

    let open = serve(Settings { insecure: true, ..settings() }, Status::default()).await;
    for (host, code) in [("192.0.2.7:9", 200), ("[2001:db8::1]", 200), ("evil.example", 421)] {
        let answer = open.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.code, code, "{host}");
    }
    open.end().await;
}

#[tokio::test]
async fn health_is_judged_by_the_daemon_and_by_how_long_it_has_said_nothing() {
    let served = serve(settings(), Status::default()).await;
    let early = served.get("/healthz").await;
    assert_eq!((early.code, early.json()["reasons"][0].as_str()), (503, Some("the daemon has not looked yet")));

    let at = status::now();
    served.status.send_replace(Arc::new(status::rich(at)));
    assert_eq!(served.get("/healthz").await.body, "ok\n");
    assert_eq!(served.get("/readyz").await.body, "ok\n");

    let mut blind = status::rich(at);
    blind.health.is_ready = false;
    served.status.send_replace(Arc::new(blind.clone()));
    assert_eq!(served.get("/healthz").await.code, 200);
    let ready = served.get("/readyz").await;
    assert_eq!(ready.code, 503);
    assert_eq!(ready.json()["reasons"][0], "outbox: pager has not taken an alert for 12 min");
    assert!(served.get("/").await.body.contains("squall does not see the Swarm: outbox:"));

    blind.health = Health::default();
    served.status.send_replace(Arc::new(blind));
    assert_eq!(served.get("/healthz").await.json()["reasons"][0], "the daemon says so, and no check says why");

    served.status.send_replace(Arc::new(status::rich(at.minus(Duration::from_secs(45)))));
    for path in ["/healthz", "/readyz"] {
        let answer = served.get(path).await;
        let reason = answer.json()["reasons"][0].as_str().expect("a reason").to_owned();
        assert_eq!(answer.code, 503);
        assert!(reason.starts_with("the daemon's loop has not turned over for 4"), "{reason}");
    }
    assert!(served.get("/").await.body.contains("has not turned over"));
    served.end().await;
}

#[tokio::test]
async fn a_newer_state_is_sent_at_once_and_a_slow_client_gets_only_the_newest() {
    let served = rich().await;
    let mut quick = served.listen().await;
    let mut slow = served.listen().await;
    assert!(quick.until("event: status").await.contains("200 OK"));
    slow.until("event: status").await;
    quick.until("\n\n").await;

    // Each is about as large as a page gets; together they are more than what lies between the two ends.
    const STATES: u64 = 120;
    let mut large = status::rich(status::now());
    let like = large.storms[0].clone();
    large.storms = (0..STATUS_STORMS_MAX).map(|_| like.clone()).collect();
    for state in 1..=STATES {
        large.node = format!("state-{state}");
        served.status.send_replace(Arc::new(large.clone()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let newest = format!("data-title=\"(500) storms · state-{STATES} ·");
    quick.until(&newest).await;
    let missed = slow.until(&newest).await;
    assert!((missed.matches("event: status").count() as u64) < STATES / 2);
    drop((quick, slow));
    served.end().await;
}

#[tokio::test]
async fn a_listener_too_many_is_told_to_come_again_and_the_end_does_not_wait_for_them() {
    let served = rich().await;
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS_MAX {
        let mut events = served.listen().await;
        events.until("event: status").await;
        listeners.push(events);
    }
    let refused = served.get("/events").await;
    assert_eq!((refused.code, refused.header("retry-after")), (503, Some("30")));
    assert_eq!(served.get("/healthz").await.code, 200);
    // One that goes makes room; that it has gone is seen at the next write.
    drop(listeners.pop());
    let freed = async {
        loop {
            served.status.send_replace(Arc::new(status::rich(status::now())));
            let mut events = served.listen().await;
            if events.until("\r\n").await.contains("200 OK") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, freed).await.expect("room is made");
    let before = std::time::Instant::now();
    served.end().await;
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test]
async fn connections_that_ask_nothing_do_not_shut_others_out_for_long() {
    let served = rich().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(TcpStream::connect(served.address).await.expect("it listens"));
    }
    // After 10 s those that have asked nothing are closed.
    assert_eq!(served.get("/healthz").await.code, 200);
    served.end().await;
}

#[tokio::test]
async fn a_listener_hears_that_it_is_still_connected() {
    let served = rich().await;
    let mut events = served.listen().await;
    events.until("\n\n").await;
    events.until("heartbeat\n\n").await;
    drop(events);
    served.end().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let served = rich().await;
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let mut stream = TcpStream::connect(served.address).await.expect("it listens");
    let _ = stream.write_all(long.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    let many: String = (0..100).map(|at| format!("X-{at}: x\r\n")).collect();
    assert_eq!(served.ask("GET", "/", &many).await.code, 431);
    served.end().await;
}

/// A state in which every text is hostile.
fn hostile(at: Timestamp) -> Status {
    const HOSTILE: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>\u{202e}gpj\u{7}\n'\\{}</svg>";
    let mut json = serde_json::to_value(status::rich(at)).expect("JSON");
    spoil(&mut json, HOSTILE);
    return serde_json::from_value(json).expect("a status");

    fn spoil(value: &mut Value, hostile: &str) {
        const FREE: [&str; 18] = [
            "version", "node", "engine", "role", "id", "name", "stack", "detail", "image", "registry", "advice",
            "service", "phase", "response", "storm", "next", "why", "trouble",
        ];
        match value {
            Value::Object(fields) => {
                for (key, field) in fields.iter_mut() {
                    match (key.as_str(), field) {
                        ("nodes", Value::Array(nodes)) => nodes.push(hostile.into()),
                        (key, Value::String(text)) if FREE.contains(&key) => hostile.clone_into(text),
                        ("spenders", field) => *field = serde_json::json!([[hostile, 1.0]]),
                        ("kind", Value::String(text)) if text == "slack" => hostile.clone_into(text),
                        (_, field) => spoil(field, hostile),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| spoil(item, hostile)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn hostile_texts_stay_texts() {
    let served = serve(settings(), hostile(status::now())).await;
    let page = served.get("/").await.body;
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains('\u{7}'));
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;img src=x onerror=alert(1)&gt;⟨U+202E⟩gpj␇␊")
    );
    assert!(!page.contains("style="), "the policy forbids inline styles");

    let metrics = served.get("/metrics").await.body;
    check_exposition(&metrics);
    assert!(metrics.contains(r#"service="<script>alert(1)</script>\"><img src=x onerror=alert(1)>"#));
    assert!(metrics.contains(r"\n'\\{}</svg>"), "{metrics}");

    let mut events = served.listen().await;
    let event = events.until("\n\n").await;
    assert!(!event.contains("<script") && !event.contains("<img"));
    served.end().await;
}

#[tokio::test]
async fn ten_thousand_storms_are_cut_and_counted() {
    let mut status = status::rich(status::now());
    let like = status.storms[0].clone();
    status.storms = (0..STATUS_STORMS_MAX)
        .map(|at| {
            let mut storm = like.clone();
            storm.subject.name = format!("service-{at}");
            storm.id = format!("{at:016x}");
            storm
        })
        .collect();
    status.storms_left_out = 9_500;
    let served = serve(settings(), status).await;
    let page = served.get("/").await.body;
    assert_eq!(page.matches("data-storm=").count(), PAGE_ROWS_MAX);
    assert!(page.contains("10\u{202f}000\u{a0}storms") && page.contains("9\u{202f}900\u{a0}storms more"));
    let metrics = served.get("/metrics").await.body;
    assert_eq!(metrics.matches("squall_storm_failed_attempts{").count(), METRICS_STORMS_MAX);
    assert!(metrics.contains("\nsquall_storms_unlabelled 9900\n"));
    let storms = served.get("/api/v1/storms").await.json();
    assert_eq!(
        (storms["storms"].as_array().map(Vec::len), storms["storms_left_out"].as_u64()),
        (Some(500), Some(9_500))
    );
    served.end().await;
}

/// Each line is what the text format 0.0.4 allows, each family is introduced once, and no series is there twice.
fn check_exposition(text: &str) {
    let (mut family, mut families, mut series) = (String::new(), BTreeSet::new(), BTreeSet::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("words");
            assert!(!words.is_empty() && families.insert(name.to_owned()), "{line}");
            let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect("a type");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            family = name.to_owned();
        } else {
            assert!(line.starts_with(&family), "{line} stands under {family}");
            let (key, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(key.to_owned()), "{key} is there twice");
        }
    }
}

#[tokio::test]
async fn every_word_of_a_closed_set_has_a_series_from_the_start() {
    let text = squall::serve::metrics(&Status::default());
    check_exposition(&text);
    let check = |series: String| assert!(text.contains(&format!("\n{series} 0\n")), "{series}");
    for cause in Cause::ALL {
        check(format!("squall_storms{{cause=\"{cause}\"}}"));
        check(format!("squall_storms_detected_total{{cause=\"{cause}\"}}"));
    }
    Action::ALL.iter().for_each(|word| check(format!("squall_actions_permitted_total{{action=\"{word}\"}}")));
    Refusal::ALL.iter().for_each(|word| check(format!("squall_refusals_total{{reason=\"{word}\"}}")));
    Outcome::ALL.iter().for_each(|word| check(format!("squall_actions_settled_total{{outcome=\"{word}\"}}")));
    for phase in ["held", "probation", "returning", "let-go"] {
        check(format!("squall_quarantined{{phase=\"{phase}\"}}"));
    }
    let at = Timestamp::from_secs(1_790_000_000);
    let full = squall::serve::metrics(&status::rich(at));
    for outcome in DeliveryOutcome::ALL {
        assert!(full.contains(&format!("squall_alerts_total{{receiver=\"pager\",outcome=\"{outcome}\"}} ")));
    }
}

/// The metrics are an interface: dashboards and alert rules name them. With `SQUALL_BLESS` set they are written anew.
#[test]
fn the_metrics_are_what_they_were() {
    let text = squall::serve::metrics(&status::rich(Timestamp::from_secs(1_790_000_000)));
    check_exposition(&text);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/metrics.prom");
    if std::env::var_os("SQUALL_BLESS").is_some() {
        std::fs::write(path, &text).expect("it can be written");
    }
    let kept = std::fs::read_to_string(path).expect("it can be read");
    for (kept, now) in kept.lines().zip(text.lines()) {
        assert_eq!(kept, now);
    }
    assert_eq!(kept.lines().count(), text.lines().count());
}

#[tokio::test]
async fn openmetrics_is_for_who_asks_for_it() {
    let served = rich().await;
    let asked = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let answer = served.ask("GET", "/metrics", asked).await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(
        answer.body.ends_with("# EOF\n") && answer.body.contains("# TYPE squall_gaps counter\nsquall_gaps_total 2\n")
    );
    served.end().await;
}

#[tokio::test]
async fn what_the_api_says_is_what_its_description_says() {
    let api: Value = serde_json::from_str(OPENAPI).expect("JSON");
    assert_eq!(api["openapi"], "3.1.0");
    let described: BTreeSet<&str> = api["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    assert_eq!(described, squall::serve::paths().collect());

    let full = status::rich(status::now());
    let served = serve(settings(), full.clone()).await;
    for (path, schema) in [("status", "Status"), ("storms", "Storms"), ("quarantines", "Quarantines")] {
        let answer = served.get(&format!("/api/v1/{path}")).await.json();
        let mut seen = BTreeSet::new();
        conform(&api, &api["components"]["schemas"][schema], &answer, path, &mut seen);
        if schema == "Status" {
            assert_eq!(serde_json::from_value::<Status>(answer).expect("a status"), full);
            let all: BTreeSet<String> =
                api["components"]["schemas"].as_object().expect("schemas").keys().cloned().collect();
            let elsewhere = ["Status", "Storms", "Quarantines", "NotWell"].map(str::to_owned);
            assert_eq!(seen.into_iter().chain(elsewhere).collect::<BTreeSet<_>>(), all, "every schema is used");
        }
    }
    let mut dead = full;
    dead.health.is_alive = false;
    served.status.send_replace(Arc::new(dead));
    let answer = served.get("/healthz").await.json();
    conform(&api, &api["components"]["schemas"]["NotWell"], &answer, "healthz", &mut BTreeSet::new());
    served.end().await;

    let words = |schema: &str| -> Vec<String> {
        let words = &api["components"]["schemas"][schema]["enum"];
        serde_json::from_value(words.clone()).expect("words")
    };
    assert_eq!(words("Cause"), Cause::ALL.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(words("Action"), Action::ALL.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(words("Refusal"), Refusal::ALL.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(words("Outcome"), Outcome::ALL.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(words("DeliveryOutcome"), DeliveryOutcome::ALL.iter().map(ToString::to_string).collect::<Vec<_>>());
}

/// Holds a value to a schema, both ways: what is there is described, and what is described is there.
fn conform(api: &Value, schema: &Value, value: &Value, at: &str, seen: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/")) {
        seen.insert(name.to_owned());
        return conform(api, &api["components"]["schemas"][name], value, at, seen);
    }
    // One of two: something, or null.
    if let Some([some, null]) = schema["oneOf"].as_array().map(Vec::as_slice) {
        assert_eq!(null["type"], "null", "{at}");
        if !value.is_null() {
            conform(api, some, value, at, seen);
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => panic!("{at} has no type"),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number"), "{at} is {kind}, not {kinds:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value}");
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().expect("properties");
            let there: BTreeSet<&String> = fields.keys().collect();
            assert_eq!(there, properties.keys().collect(), "{at}");
            for (key, field) in fields {
                conform(api, &properties[key], field, &format!("{at}.{key}"), seen);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                conform(api, &schema["propertyNames"], &key.clone().into(), at, seen);
                conform(api, &schema["additionalProperties"], field, &format!("{at}.{key}"), seen);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let of =
                    if schema["prefixItems"].is_array() { &schema["prefixItems"][index] } else { &schema["items"] };
                conform(api, of, item, &format!("{at}[{index}]"), seen);
            }
        }
        _ => {}
    }
}
