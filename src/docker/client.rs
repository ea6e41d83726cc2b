//! Asks a daemon: negotiates the API's version, fetches small answers and listings, opens event streams.
//!
//! Answers are raw JSON. A listing is cut into its elements as it arrives, so that its memory is one element and one
//! odd element costs only itself. Each call is limited in time over its headers and its body, and in size. It retries
//! nothing: the caller knows whether that makes sense.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::Connector;
use super::endpoint::Endpoint;
use super::error::{Error, Phase};
use super::info::Info;
use super::limits::{ELEMENT_BYTES, ERROR_BODY_BYTES, Limits, SMALL_BODY_BYTES};
use super::query;
use super::version::ApiVersion;
use crate::ingest::split::{Piece, Splitter};

/// Service ids in one request for tasks. Ids are 25 characters, so the URL stays under 4 kB.
const SERVICES_PER_REQUEST: usize = 100;
/// How long an unused connection is kept: longer than the pause between two looks, so that ssh is not run each time.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Unused connections kept: one for pings, one for listings.
const POOL_CONNECTIONS: usize = 2;

/// A client of one daemon. Cloning shares the connections and the negotiated version.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) http: HttpClient<Connector, Full<Bytes>>,
    connector: Connector,
    pub(super) base: String,
    endpoint: Endpoint,
    pub(super) limits: Limits,
    /// The negotiated version as major << 16 | minor; 0 before the first negotiation.
    version: AtomicU32,
}

/// What a listing held.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ListStats {
    /// Elements handed on.
    pub elements: u64,
    /// Elements longer than 4 MiB, passed over.
    pub too_long: u64,
    /// Bytes that belong to no element.
    pub garbage_bytes: u64,
    /// Length of the answers.
    pub bytes: u64,
    /// Services asked for that no longer exist.
    pub missing: u64,
}

/// What a daemon says of itself without being asked for much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// The newest version of the API that it speaks (`Api-Version`).
    pub newest: Option<ApiVersion>,
    /// Whether it is Podman behind Docker's API (`Libpod-API-Version`).
    pub is_podman: bool,
    /// Its part in a swarm, such as `active/manager`; from API 1.42 on (`Swarm`).
    pub swarm: Option<String>,
}

impl Client {
    /// A client that has connected to nothing yet; the first call negotiates the version.
    ///
    /// # Errors
    /// When the endpoint's certificates cannot be used.
    pub fn new(endpoint: &Endpoint, limits: Limits) -> Result<Self, Error> {
        let connector = Connector::new(endpoint, &limits)
            .map_err(|error| Error::Tls { endpoint: endpoint.to_string(), detail: error.to_string() })?;
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_CONNECTIONS)
            .build(connector.clone());
        let base = Connector::base(endpoint);
        let endpoint = endpoint.clone();
        Ok(Self { shared: Arc::new(Shared { http, connector, base, endpoint, limits, version: AtomicU32::new(0) }) })
    }

    /// Connects to the daemon with the default limits and negotiates the API's version.
    ///
    /// # Errors
    /// When it cannot be reached, or speaks no version that squall speaks.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let client = Self::new(endpoint, Limits::default())?;
        client.negotiate().await?;
        Ok(client)
    }

    /// The daemon's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// The negotiated version; None before the first negotiation.
    pub fn version(&self) -> Option<ApiVersion> {
        let [major_high, major_low, minor_high, minor_low] = self.shared.version.load(Ordering::Relaxed).to_be_bytes();
        let major = u16::from_be_bytes([major_high, major_low]);
        (major > 0).then(|| ApiVersion { major, minor: u16::from_be_bytes([minor_high, minor_low]) })
    }

    pub(super) fn set_version(&self, version: ApiVersion) {
        let packed = u32::from(version.major) << 16 | u32::from(version.minor);
        self.shared.version.store(packed, Ordering::Relaxed);
    }

    /// Asks whether the daemon answers at all, at any version.
    ///
    /// # Errors
    /// When it cannot be reached in time.
    pub async fn ping(&self) -> Result<Ping, Error> {
        let what = "GET /_ping";
        let response = self.send("/_ping", what, None).await?;
        let text = |name: &str| header(response.headers(), name);
        let ping = Ping {
            newest: text("api-version").as_deref().and_then(ApiVersion::parse),
            is_podman: text("libpod-api-version").is_some(),
            swarm: text("swarm"),
        };
        // Read to its end, or the connection is lost for the next ping.
        self.collect(response, what, ERROR_BODY_BYTES).await?;
        Ok(ping)
    }

    /// The daemon's description of itself and of its swarm.
    ///
    /// # Errors
    /// When it cannot be reached in time, or the answer is no JSON object.
    pub async fn info(&self) -> Result<Info, Error> {
        let body = self.fetch("/info").await?;
        match serde_json::from_slice(&body) {
            Ok(value @ serde_json::Value::Object(_)) => Ok(Info::from_value(&value)),
            Ok(_) => Err(self.odd("GET /info", "it is no object")),
            Err(error) => Err(self.odd("GET /info", &error.to_string())),
        }
    }

    /// Whether the daemon is the swarm's leader. False when it is no manager.
    ///
    /// # Errors
    /// When it cannot be reached in time, or the swarm has no leader.
    pub async fn is_leader(&self, info: &Info) -> Result<bool, Error> {
        if !info.swarm.control_available || info.swarm.node_id.is_empty() {
            return Ok(false);
        }
        // Not /nodes/self: only the docker command knows that name.
        let body = self.fetch(&format!("/nodes/{}", query::encode(&info.swarm.node_id))).await?;
        let node: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(node["ManagerStatus"]["Leader"].as_bool().unwrap_or(false))
    }

    /// All services, with the counts of their tasks where the API has them (from 1.41 on).
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn services(&self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<ListStats, Error> {
        self.list("/services?status=true", sink).await
    }

    /// All nodes of the swarm.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn nodes(&self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<ListStats, Error> {
        self.list("/nodes", sink).await
    }

    /// All containers of this daemon, stopped ones too.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn containers(&self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<ListStats, Error> {
        self.list("/containers/json?all=true", sink).await
    }

    /// All images of this daemon that have a name.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn images(&self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<ListStats, Error> {
        self.list("/images/json", sink).await
    }

    /// The tasks of these services, or all tasks when none is named.
    ///
    /// The daemon refuses the whole request when one of the services is gone; such are found by halving, left out and
    /// counted in [`ListStats::missing`].
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn tasks(
        &self,
        service_ids: &[impl AsRef<str> + Sync],
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<ListStats, Error> {
        if service_ids.is_empty() {
            return self.list("/tasks", sink).await;
        }
        let mut stats = ListStats::default();
        let mut to_ask: Vec<&[_]> = service_ids.chunks(SERVICES_PER_REQUEST).rev().collect();
        while let Some(ids) = to_ask.pop() {
            let filter = query::filters(&[("service", ids)]);
            match self.list(&format!("/tasks?filters={filter}"), sink).await {
                Ok(part) => stats.add(part),
                // The daemon resolves the ids before it sends the first task, so nothing was handed on twice.
                Err(error) if error.is_not_found() && ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    to_ask.extend([second, first]);
                }
                Err(error) if error.is_not_found() => stats.missing += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(stats)
    }

    /// One container as JSON.
    ///
    /// # Errors
    /// When the daemon cannot be reached in time or does not know it ([`Error::is_not_found`]).
    pub async fn inspect_container(&self, id: &str) -> Result<Vec<u8>, Error> {
        self.fetch(&format!("/containers/{}/json", query::encode(id))).await
    }

    /// Fetches a small answer, at most 8 MiB, whole. `path_and_query` is without the version.
    ///
    /// # Errors
    /// When the daemon cannot be reached in time, answers with an error, or with too much.
    pub async fn fetch(&self, path_and_query: &str) -> Result<Vec<u8>, Error> {
        let what = name_of(path_and_query);
        let response = self.send_versioned(path_and_query, &what).await?;
        self.collect(response, &what, SMALL_BODY_BYTES).await
    }

    /// Fetches a listing and hands its elements to `sink` one at a time as they arrive. `path_and_query` is without the
    /// version. On an error the elements before it have been handed on.
    ///
    /// # Errors
    /// When the daemon cannot be reached in time, answers with an error, or the answer breaks off.
    pub async fn list(&self, path_and_query: &str, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Result<ListStats, Error> {
        let what = name_of(path_and_query);
        let body = self.send_versioned(path_and_query, &what).await?.into_body();
        let limit = self.shared.limits.listing;
        let reading = self.read_elements(body, &what, sink);
        tokio::time::timeout(limit, reading).await.map_err(|_| self.timed_out(&what, Phase::Body, limit))?
    }

    async fn read_elements(
        &self,
        mut body: Incoming,
        what: &str,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<ListStats, Error> {
        let mut stats = ListStats::default();
        let mut splitter = Splitter::new(ELEMENT_BYTES);
        while let Some(data) = self.next_data(&mut body, what).await? {
            stats.bytes += data.len() as u64;
            splitter.push(&data, &mut |piece| stats.take(&piece, sink));
        }
        let is_whole = splitter.is_between();
        splitter.finish(&mut |piece| stats.take(&piece, sink));
        if is_whole { Ok(stats) } else { Err(self.lost(what, "it ended within an element")) }
    }

    /// The next piece of a body, under the idle limit.
    async fn next_data(&self, body: &mut Incoming, what: &str) -> Result<Option<Bytes>, Error> {
        let limit = self.shared.limits.idle;
        loop {
            match tokio::time::timeout(limit, body.frame()).await {
                Err(_) => return Err(self.timed_out(what, Phase::Body, limit)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.transport_error(what, &error).await),
                // Trailers are passed over.
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// A whole body of at most `most_bytes`.
    pub(super) async fn collect(
        &self,
        response: Response<Incoming>,
        what: &str,
        most_bytes: usize,
    ) -> Result<Vec<u8>, Error> {
        let limit = self.shared.limits.small;
        let reading = async {
            let (mut body, mut held) = (response.into_body(), Vec::new());
            while let Some(data) = self.next_data(&mut body, what).await? {
                if held.len() + data.len() > most_bytes {
                    return Err(self.odd(what, &format!("it is longer than {most_bytes} bytes")));
                }
                held.extend_from_slice(&data);
            }
            Ok(held)
        };
        tokio::time::timeout(limit, reading).await.map_err(|_| self.timed_out(what, Phase::Body, limit))?
    }

    pub(super) async fn send_versioned(&self, path_and_query: &str, what: &str) -> Result<Response<Incoming>, Error> {
        let version = match self.version() {
            Some(version) => version,
            None => self.negotiate().await?,
        };
        self.send(&format!("/v{version}{path_and_query}"), what, Some(version)).await
    }

    /// Asks for a path; an answer other than success is an error.
    async fn send(&self, path: &str, what: &str, asked: Option<ApiVersion>) -> Result<Response<Incoming>, Error> {
        self.request(Request::get(format!("{}{path}", self.shared.base)), Bytes::new(), what, asked).await
    }

    /// Sends a request; an answer other than success is an error.
    pub(super) async fn request(
        &self,
        builder: hyper::http::request::Builder,
        body: Bytes,
        what: &str,
        asked: Option<ApiVersion>,
    ) -> Result<Response<Incoming>, Error> {
        let request = builder
            .header("user-agent", concat!("squall/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| self.odd(what, &format!("the request cannot be made: {error}")))?;
        let limit = self.shared.limits.headers;
        let response = match tokio::time::timeout(limit, self.shared.http.request(request)).await {
            Err(_) => return Err(self.timed_out(what, Phase::Headers, limit)),
            Ok(Err(error)) => return Err(self.transport_error(what, &error).await),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // The status says enough when the body is odd.
        let body = self.collect(response, what, ERROR_BODY_BYTES).await.unwrap_or_default();
        Err(Error::from_status(self.endpoint(), what, asked, status.as_u16(), &body))
    }

    /// The error of the HTTP client, with ssh's own reason where ssh is the way.
    pub(crate) fn transport_error(
        &self,
        what: &str,
        error: &(dyn std::error::Error + 'static),
    ) -> impl Future<Output = Error> + Send + use<> {
        // The error is read before the wait, for it cannot be held across one.
        let found = Error::from_transport(self.endpoint(), what, error);
        let shared = Arc::clone(&self.shared);
        async move {
            if !matches!(found, Error::Lost { .. }) {
                return found;
            }
            match shared.connector.last_words().await {
                Some(detail) => Error::Ssh { endpoint: shared.endpoint.to_string(), detail },
                None => found,
            }
        }
    }

    pub(crate) fn lost(&self, what: &str, detail: &str) -> Error {
        Error::Lost { endpoint: self.endpoint().to_string(), what: what.to_owned(), detail: detail.to_owned() }
    }

    pub(super) fn odd(&self, what: &str, detail: &str) -> Error {
        Error::BadAnswer { endpoint: self.endpoint().to_string(), what: what.to_owned(), detail: detail.to_owned() }
    }

    pub(crate) fn timed_out(&self, what: &str, phase: Phase, after: Duration) -> Error {
        Error::Timeout { endpoint: self.endpoint().to_string(), what: what.to_owned(), phase, after }
    }
}

impl ListStats {
    fn take(&mut self, piece: &Piece<'_>, sink: &mut dyn FnMut(&[u8])) {
        match piece {
            Piece::Object(bytes) => {
                self.elements += 1;
                sink(bytes);
            }
            Piece::TooLong { .. } => self.too_long += 1,
            Piece::Garbage { bytes } => self.garbage_bytes += bytes,
        }
    }

    fn add(&mut self, other: Self) {
        self.elements += other.elements;
        self.too_long += other.too_long;
        self.garbage_bytes += other.garbage_bytes;
        self.bytes += other.bytes;
        self.missing += other.missing;
    }
}

/// How a request is named in errors: without its query, which is long and says little.
pub(super) fn name_of(path_and_query: &str) -> String {
    format!("GET {}", path_and_query.split('?').next().unwrap_or_default())
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
