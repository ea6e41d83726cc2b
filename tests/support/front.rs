//! A registry with what Debian's has not: tokens, a pull budget and limits on requests.
//!
//! A front stands before the lab's real registry and hands on to it all that it does not refuse itself. It writes down
//! what it was asked for, and what of that the real one has answered, whose own access log can tell the same.
//! It is no registry: it knows no manifest, and a window of its budget never ends.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, USER_AGENT, WWW_AUTHENTICATE,
};
use axum::http::{Method, Response, StatusCode, Uri};
use axum::{Router, serve};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::lab::Lab;

/// How many requests a front writes down and tokens it hands out; it answers 507 from there on.
const ASKED_MAX: usize = 100_000;
/// The window of a budget, as Docker Hub has it.
const WINDOW_SECS: u64 = 21_600;
/// The path prefix of the API.
const API: &str = "/v2/";
/// Docker Hub's words when a pull budget is spent.
const SPENT: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"}]}"#;
/// Docker Hub's words to whom asks for anything too often.
const ABUSE: &str = "Too Many Requests (HAP429).\n";

/// How a front answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) authentication: Authentication,
    /// Repositories that only a login opens.
    pub(crate) private: Vec<String>,
    /// How many manifests may be fetched; without it nothing is said of a budget.
    pub(crate) budget: Option<u64>,
    /// It answers nothing else.
    pub(crate) refusal: Option<Refusal>,
}

/// What is wanted before a repository is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Authentication {
    #[default]
    Open,
    /// The lab's user and password.
    Basic,
    /// A token, which anybody is given.
    Bearer,
    /// A token, which is given for the lab's user and password only.
    BearerOfLogin,
}

/// What is answered to everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// 429, as Docker Hub does to an address that asks too much.
    Abuse,
    /// 503.
    Unavailable,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Check,
    Token,
    ManifestHead,
    ManifestGet,
    Blob,
    Other,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) method: String,
    /// Empty for a version check, and for a token that is for no repository.
    pub(crate) repository: String,
    /// The tag or digest that was asked for.
    pub(crate) reference: String,
    pub(crate) accept: String,
    pub(crate) agent: String,
    pub(crate) status: u16,
    /// The real registry has answered.
    pub(crate) is_handed_on: bool,
}

impl Asked {
    /// dockerd asks on somebody's behalf, who is named; for a task it asks on its own.
    pub(crate) fn is_for_client(&self) -> bool {
        self.agent.contains("UpstreamClient(")
    }
}

/// The lab's user and password, as docker's configuration and an Authorization header have them.
pub(crate) fn login(lab: &Lab) -> String {
    let config = fs::read(format!("{}/config.json", lab.var("DOCKER_CONFIG_AUTH"))).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    config["auths"][lab.var("REGISTRY_AUTH")]["auth"].as_str().unwrap().to_owned()
}

/// A running front; it ends with this value.
pub(crate) struct Front {
    /// As image references begin.
    pub(crate) address: String,
    socket: PathBuf,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    address: String,
    /// `HOST:PORT` of the real registry.
    real: String,
    /// What the Authorization header of the lab's user is.
    login: String,
    manner: Mutex<Manner>,
    log: Mutex<Log>,
    client: Client<HttpConnector, Body>,
}

#[derive(Default)]
struct Log {
    asked: Vec<Asked>,
    /// The tokens that were handed out, and whether to somebody with a login.
    tokens: BTreeMap<String, bool>,
    /// How many manifests were fetched.
    fetched: u64,
}

impl Front {
    /// Starts one at one of the lab's ports, the first of which is 0.
    pub(crate) fn start(lab: &Lab, port: usize, manner: Manner) -> Self {
        let port = lab.var("FRONT_PORTS").split(',').nth(port).expect("a lab has a few ports for fronts").to_owned();
        let address = format!("127.0.0.1:{port}");
        let socket = lab.dir().join(format!("front-{port}.sock"));
        let login = format!("Basic {}", login(lab));
        let shared = Arc::new(Shared {
            address: address.clone(),
            real: lab.var("REGISTRY").to_owned(),
            login,
            manner: Mutex::new(manner),
            log: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        });
        // One that was killed has left its socket.
        let _ = fs::remove_file(&socket);
        let (stop, stopped) = oneshot::channel();
        let (up, is_up) = std::sync::mpsc::channel();
        let (path, state) = (socket.clone(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(path).unwrap();
                up.send(()).unwrap();
                let app = Router::new().fallback(answer).with_state(state);
                tokio::select! {
                    ended = serve(listener, app) => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        is_up.recv().unwrap();
        Self { address, socket, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Answers in another manner from now on.
    pub(crate) fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// What was asked for since the start or since it was forgotten.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let log = self.shared.log.lock().unwrap();
        assert!(log.asked.len() < ASKED_MAX, "more than a front writes down");
        log.asked.clone()
    }

    /// Forgets what was asked for.
    pub(crate) fn forget(&self) {
        self.shared.log.lock().unwrap().asked.clear();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let mut asked = describe(&request);
    let response = match shared.refuse(&asked, request.headers()) {
        Some(refused) => refused,
        None if asked.kind == Kind::Token => shared.hand_out_token(request.headers()),
        None => {
            asked.is_handed_on = true;
            shared.hand_on(request).await
        }
    };
    asked.status = response.status().as_u16();
    shared.write_down(asked, response)
}

fn describe(request: &Request) -> Asked {
    let path = request.uri().path();
    let mut asked = Asked {
        kind: Kind::Other,
        method: request.method().to_string(),
        repository: String::new(),
        reference: String::new(),
        accept: header(request.headers(), ACCEPT),
        agent: header(request.headers(), USER_AGENT),
        status: 0,
        is_handed_on: false,
    };
    let is_get = request.method() == Method::GET;
    if path == "/token" {
        asked.kind = Kind::Token;
        asked.repository = repository_of_scope(request.uri().query().unwrap_or_default());
    } else if path == API && is_get {
        asked.kind = Kind::Check;
    } else if let Some(within) = path.strip_prefix(API) {
        let (kind, parts) = match (within.rsplit_once("/manifests/"), within.rsplit_once("/blobs/")) {
            (Some(parts), _) if is_get => (Kind::ManifestGet, parts),
            (Some(parts), _) if request.method() == Method::HEAD => (Kind::ManifestHead, parts),
            (_, Some(parts)) if is_get => (Kind::Blob, parts),
            (parts, others) => (Kind::Other, parts.or(others).unwrap_or((within, ""))),
        };
        asked.kind = kind;
        (asked.repository, asked.reference) = (parts.0.to_owned(), parts.1.to_owned());
    }
    asked
}

/// The repository of `scope=repository:NAME:pull`, in whatever way it is escaped.
fn repository_of_scope(query: &str) -> String {
    let plain = query.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    let scope = plain.split('&').find_map(|pair| pair.strip_prefix("scope=repository:"));
    scope.and_then(|scope| scope.split(':').next()).unwrap_or_default().to_owned()
}

fn header(headers: &HeaderMap, name: HeaderName) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ")
}

impl Shared {
    /// What is answered without the real registry.
    fn refuse(&self, asked: &Asked, headers: &HeaderMap) -> Option<Response<Body>> {
        let manner = self.manner.lock().unwrap().clone();
        let log = self.log.lock().unwrap();
        if log.asked.len() >= ASKED_MAX || log.tokens.len() >= ASKED_MAX {
            return Some(plain(507, "text/plain", "this front has written down as much as it can\n"));
        }
        match manner.refusal {
            Some(Refusal::Abuse) => return Some(plain(429, "text/plain", ABUSE)),
            Some(Refusal::Unavailable) => return Some(plain(503, "text/plain", "no registry for now\n")),
            None => {}
        }
        if asked.kind == Kind::Token {
            return None;
        }
        let authorization = header(headers, AUTHORIZATION);
        let is_open = match manner.authentication {
            Authentication::Open => true,
            Authentication::Basic => authorization == self.login,
            Authentication::Bearer | Authentication::BearerOfLogin => {
                let token = authorization.strip_prefix("Bearer ").and_then(|token| log.tokens.get(token));
                token.is_some_and(|is_login| *is_login || !manner.private.contains(&asked.repository))
            }
        };
        if !is_open {
            return Some(self.challenge(manner.authentication, asked));
        }
        let is_spent = manner.budget.is_some_and(|budget| log.fetched >= budget);
        (is_spent && asked.kind == Kind::ManifestGet).then(|| plain(429, "application/json", SPENT))
    }

    fn challenge(&self, authentication: Authentication, asked: &Asked) -> Response<Body> {
        let mut challenge = "Basic realm=\"front\"".to_owned();
        if authentication != Authentication::Basic {
            challenge = format!("Bearer realm=\"http://{}/token\",service=\"front\"", self.address);
            if !asked.repository.is_empty() {
                challenge = format!("{challenge},scope=\"repository:{}:pull\"", asked.repository);
            }
        }
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let mut response = plain(401, "application/json", body);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        response
    }

    fn hand_out_token(&self, headers: &HeaderMap) -> Response<Body> {
        let authorization = header(headers, AUTHORIZATION);
        let is_login = authorization == self.login;
        let wants_login = self.manner.lock().unwrap().authentication == Authentication::BearerOfLogin;
        if !is_login && (wants_login || !authorization.is_empty()) {
            return plain(401, "application/json", r#"{"details":"incorrect username or password"}"#);
        }
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).unwrap();
        let token = format!("{:032x}", u128::from_le_bytes(random));
        let body = format!("{{\"token\":\"{token}\",\"access_token\":\"{token}\",\"expires_in\":300}}");
        self.log.lock().unwrap().tokens.insert(token, is_login);
        plain(200, "application/json", &body)
    }

    async fn hand_on(&self, request: Request) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("http://{}{path}", self.real).parse::<Uri>().unwrap();
        for name in [AUTHORIZATION, CONNECTION, HOST] {
            parts.headers.remove(name);
        }
        match self.client.request(Request::from_parts(parts, body)).await {
            Ok(answer) => answer.map(Body::new),
            Err(error) => plain(502, "text/plain", &format!("the real registry does not answer: {error}\n")),
        }
    }

    /// What is left of a budget is said with the answer, as of then.
    fn write_down(&self, asked: Asked, mut response: Response<Body>) -> Response<Body> {
        let manner = self.manner.lock().unwrap().clone();
        let mut log = self.log.lock().unwrap();
        if asked.kind == Kind::ManifestGet && asked.status == 200 {
            log.fetched += 1;
        }
        let is_counted = matches!(asked.kind, Kind::ManifestGet | Kind::ManifestHead) && asked.status != 401;
        if let (Some(budget), None, true) = (manner.budget, manner.refusal, is_counted) {
            let left = budget.saturating_sub(log.fetched);
            for (name, value) in [
                ("ratelimit-limit", format!("{budget};w={WINDOW_SECS}")),
                ("ratelimit-remaining", format!("{left};w={WINDOW_SECS}")),
                ("docker-ratelimit-source", "127.0.0.1".to_owned()),
            ] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        log.asked.push(asked);
        response
    }
}

fn plain(status: u16, kind: &'static str, body: &str) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap()).header("content-type", kind);
    response.header("docker-distribution-api-version", "registry/2.0").body(Body::from(body.to_owned())).unwrap()
}
