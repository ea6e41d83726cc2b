//! What is answered to which path, to whom, and with which headers.

use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use super::access::{Access, Denied};
use super::app::{App, STALE_SECS, Shared};
use super::live::{self, LISTENERS_MAX};
use super::{Settings, assets, metrics, page, wall_clock};
use crate::model::{STATUS_SCHEMA, Status, Timestamp};

/// The description of the JSON API.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Text as Prometheus has read it since 2014.
const TEXT_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

type Route = (&'static str, fn() -> MethodRouter<App>);

const ROUTES: [Route; 11] = [
    ("/", || get(index)),
    ("/events", || get(live::events)),
    (assets::STYLE.path, || get(style)),
    (assets::SCRIPT.path, || get(script)),
    ("/api/v1/status", || get(status)),
    ("/api/v1/storms", || get(storms)),
    ("/api/v1/quarantines", || get(quarantines)),
    ("/api/v1/openapi.json", || get(openapi)),
    ("/metrics", || get(exposition)),
    ("/healthz", || get(healthz)),
    ("/readyz", || get(readyz)),
];

/// Those that answer without a token: the ones who ask them seldom can be given one, and they tell little.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Every path that is answered.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|route| route.0)
}

pub(super) fn router(
    settings: &Settings,
    status: watch::Receiver<Arc<Status>>,
    closing: watch::Receiver<bool>,
) -> Router {
    let app = App(Arc::new(Shared {
        status,
        closing,
        listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        access: Access::new(settings),
        rendered: Mutex::new(None),
    }));
    ROUTES
        .iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods()))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here: see / or /api/v1/openapi.json\n") })
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Turns away who may not look, and sets the headers of every answer.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_open = OPEN.contains(&request.uri().path());
    let host = app.access.check_host(request.uri(), request.headers());
    let allowed = host.and_then(|()| if is_open { Ok(()) } else { app.access.check_token(request.headers()) });
    let mut answer = match allowed {
        Ok(()) => next.run(request).await,
        Err(denied) => refusal(denied),
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn refusal(denied: Denied) -> Response {
    match denied {
        Denied::BadHost => (StatusCode::BAD_REQUEST, "the request names no host that can be read\n").into_response(),
        Denied::OtherHost => {
            let sentence = "squall does not answer to this host name: add it to the `hosts` of its configuration\n";
            (StatusCode::MISDIRECTED_REQUEST, sentence).into_response()
        }
        Denied::NoToken => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"squall\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, ask, "show the token: as a bearer token, or as the password of any user\n")
                .into_response()
        }
    }
}

async fn index(State(app): State<App>) -> Response {
    Html(page::page(&app.newest(), wall_clock()).into_string()).into_response()
}

async fn style(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    assets::STYLE.answer(query.as_deref(), &headers)
}

async fn script(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    assets::SCRIPT.answer(query.as_deref(), &headers)
}

async fn status(State(app): State<App>) -> Response {
    Json(&*app.newest()).into_response()
}

async fn storms(State(app): State<App>) -> Response {
    let status = app.newest();
    let left_out = status.storms_left_out;
    Json(json!({ "schema": STATUS_SCHEMA, "at": status.at, "storms": status.storms, "storms_left_out": left_out }))
        .into_response()
}

async fn quarantines(State(app): State<App>) -> Response {
    let status = app.newest();
    Json(json!({ "schema": STATUS_SCHEMA, "at": status.at, "quarantines": status.quarantines })).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn exposition(State(app): State<App>, headers: HeaderMap) -> Response {
    let wants = |kind: &str| {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        accepted.flat_map(|value| value.split(',')).any(|range| range.trim().starts_with(kind))
    };
    let status = app.newest();
    if wants("application/openmetrics-text") {
        ([(header::CONTENT_TYPE, OPENMETRICS)], metrics::openmetrics(&status)).into_response()
    } else {
        ([(header::CONTENT_TYPE, TEXT_METRICS)], metrics::metrics(&status)).into_response()
    }
}

async fn healthz(State(app): State<App>) -> Response {
    let status = app.newest();
    health(&status, status.health.is_alive)
}

async fn readyz(State(app): State<App>) -> Response {
    let status = app.newest();
    health(&status, status.health.is_ready)
}

fn health(status: &Status, is_well: bool) -> Response {
    let stale = staleness(status, wall_clock());
    if is_well && stale.is_none() {
        return "ok\n".into_response();
    }
    let mut reasons: Vec<String> = stale.into_iter().collect();
    let failed = status.health.checks.iter().filter(|check| !check.is_ok);
    reasons.extend(failed.map(|check| format!("{}: {}", check.name, check.detail)));
    if reasons.is_empty() {
        reasons.push("the daemon says so, and no check says why".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ok": false, "reasons": reasons }))).into_response()
}

/// That the newest state is too old to be believed, in words.
pub(super) fn staleness(status: &Status, now: Timestamp) -> Option<String> {
    if status.at == Timestamp::default() {
        return Some("the daemon has not looked yet".to_owned());
    }
    let age = now.since(status.at).as_secs();
    (age > STALE_SECS).then(|| format!("the daemon's loop has not turned over for {age} s"))
}
