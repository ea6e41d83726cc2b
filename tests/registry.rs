//! The probe against a registry that speaks as Docker Hub does, and as none should.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::{Router, serve};
use reqwest::Url;
use squall::model::{Budget, BudgetAnswer, BudgetReading, Timestamp};
use squall::registry::{Login, Prober, Target};

/// What the double answers.
#[derive(Clone, Debug)]
struct Manner {
    /// What it wants before it answers a HEAD; `{address}` is its own.
    challenge: Option<&'static str>,
    token: (u16, &'static str),
    manifest: (u16, Vec<(&'static str, &'static str)>),
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            challenge: Some(r#"Bearer realm="http://{address}/token",service="registry.double""#),
            token: (200, r#"{"token":"t0k3n-of-the-double"}"#),
            manifest: (200, hub("100;w=21600", "76;w=21600")),
        }
    }
}

fn hub(limit: &'static str, remaining: &'static str) -> Vec<(&'static str, &'static str)> {
    vec![("ratelimit-limit", limit), ("ratelimit-remaining", remaining), ("docker-ratelimit-source", "203.0.113.7")]
}

/// One request: method, path with query, authorization.
type Asked = (String, String, Option<String>);

#[derive(Clone)]
struct Double {
    address: SocketAddr,
    manner: Arc<Manner>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    async fn start(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let double = Self { address, manner: Arc::new(manner), asked: Arc::default() };
        let app = Router::new().fallback(answer).with_state(double.clone());
        tokio::spawn(async move { serve(listener, app).await });
        double
    }

    async fn ask(&self, login: Option<Login>) -> BudgetReading {
        let api = Url::parse(&format!("http://{}", self.address)).unwrap();
        let target = Target { api, login, ..Target::docker_hub(None) };
        Prober::new().unwrap().ask(&target, Timestamp::from_secs(1_795_248_000)).await
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(double): State<Double>, request: Request) -> Response<Body> {
    let header = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path_and_query().unwrap().to_string();
    let method = request.method().to_string();
    double.asked.lock().unwrap().push((method, path.clone(), header.clone()));
    let manner = &double.manner;
    let (status, headers, body) = if path.starts_with("/token") {
        (manner.token.0, Vec::new(), manner.token.1.to_owned())
    } else if let (Some(challenge), None) = (manner.challenge, &header) {
        let challenge = challenge.replace("{address}", &double.address.to_string());
        (401, vec![("www-authenticate", challenge)], String::new())
    } else {
        let headers = manner.manifest.1.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        (manner.manifest.0, headers, String::new())
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    response
}

async fn answered(manner: Manner) -> BudgetAnswer {
    Double::start(manner).await.ask(None).await.answer
}

fn why(answer: &BudgetAnswer) -> &str {
    match answer {
        BudgetAnswer::Failed { why } | BudgetAnswer::Denied { why } => why,
        other => panic!("{other:?}"),
    }
}

fn limited(limit: i64, remaining: i64, window_secs: Option<u64>) -> BudgetAnswer {
    BudgetAnswer::Limited(Budget { limit, remaining, window_secs })
}

#[tokio::test]
async fn an_address_is_told_its_budget_and_no_pull_is_made() {
    let double = Double::start(Manner::default()).await;
    let reading = double.ask(None).await;
    assert_eq!(reading.answer, limited(100, 76, Some(21_600)));
    assert_eq!((reading.account, reading.source.as_deref()), (None, Some("203.0.113.7")));
    let manifest = "/v2/ratelimitpreview/test/manifests/latest";
    let token = "/token?service=registry.double&scope=repository%3Aratelimitpreview%2Ftest%3Apull";
    let asked = double.asked();
    let of = |method: &str, path: &str, header: Option<&str>| {
        (method.to_owned(), path.to_owned(), header.map(str::to_owned))
    };
    let expected =
        [of("HEAD", manifest, None), of("GET", token, None), of("HEAD", manifest, Some("Bearer t0k3n-of-the-double"))];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn a_login_asks_for_its_own_and_is_nowhere_in_the_answer() {
    let double = Double::start(Manner::default()).await;
    let login = Login::parse("shop:pa:ss-w0rd\n").unwrap();
    assert!(!format!("{login:?}").contains("w0rd"));
    let reading = double.ask(Some(login)).await;
    assert_eq!(reading.account.as_deref(), Some("shop"));
    // base64 of `shop:pa:ss-w0rd`, to the token server alone.
    let headers: Vec<Option<String>> = double.asked().into_iter().map(|(_, _, header)| header).collect();
    assert_eq!(headers[1].as_deref(), Some("Basic c2hvcDpwYTpzcy13MHJk"));
    assert_eq!(headers.iter().flatten().filter(|header| header.starts_with("Basic")).count(), 1);
    assert!(!format!("{reading:?}").contains("w0rd"));
    assert!(Login::parse("shop").is_err() && Login::parse(":x").is_err() && Login::parse("x:").is_err());
}

#[tokio::test]
async fn every_way_to_write_a_budget_is_read() {
    let of =
        |headers: Vec<(&'static str, &'static str)>| answered(Manner { manifest: (200, headers), ..Manner::default() });
    assert_eq!(of(hub("100;w=21600", "0;w=21600")).await, limited(100, 0, Some(21_600)));
    assert_eq!(of(hub("100;w=21600", "-12;w=21600")).await, limited(100, -12, Some(21_600)));
    assert_eq!(of(hub("100, 100;w=21600", "5")).await, limited(100, 5, Some(21_600)));
    assert_eq!(of(Vec::new()).await, BudgetAnswer::Unlimited);
    assert!(why(&of(vec![("ratelimit-limit", "100")]).await).contains("ratelimit-remaining"));
    assert!(why(&of(hub("lots", "5")).await).contains("ratelimit-limit holds no number"));
    assert!(why(&of(hub("100", "\u{e9}")).await).contains("ratelimit-remaining holds no number"));
}

#[tokio::test]
async fn a_limit_on_requests_is_no_spent_budget_and_no_outage() {
    let manifest = |status| Manner { manifest: (status, Vec::new()), ..Manner::default() };
    assert_eq!(answered(manifest(429)).await, BudgetAnswer::TooMany);
    assert_eq!(answered(Manner { token: (429, ""), ..Manner::default() }).await, BudgetAnswer::TooMany);
    assert_eq!(why(&answered(manifest(503)).await), "it answers 503 Service Unavailable");
    assert_eq!(why(&answered(manifest(404)).await), "it answers 404 Not Found");
    assert!(matches!(answered(manifest(403)).await, BudgetAnswer::Denied { .. }));
    assert!(matches!(answered(Manner { token: (401, ""), ..Manner::default() }).await, BudgetAnswer::Denied { .. }));
    // A budget that is stated with a 429 is still one that cannot be used.
    let stated = Manner { manifest: (429, hub("100;w=60", "40;w=60")), ..Manner::default() };
    assert_eq!(answered(stated).await, BudgetAnswer::TooMany);
}

#[tokio::test]
async fn basic_authentication_and_none_at_all_are_spoken() {
    let basic = || Manner { challenge: Some("Basic realm=\"double\""), ..Manner::default() };
    assert_eq!(why(&answered(basic()).await), "it wants a login");
    let double = Double::start(basic()).await;
    assert_eq!(double.ask(Some(Login::parse("a:b").unwrap())).await.answer, limited(100, 76, Some(21_600)));
    assert_eq!(double.asked().len(), 2);
    assert_eq!(answered(Manner { challenge: None, ..Manner::default() }).await, limited(100, 76, Some(21_600)));
    assert!(
        why(&answered(Manner { challenge: Some("Negotiate"), ..Manner::default() }).await).contains("does not say")
    );
}

#[tokio::test]
async fn nothing_that_it_sends_leads_elsewhere() {
    let redirect = Manner { manifest: (307, vec![("location", "http://127.0.0.1:1/")]), ..Manner::default() };
    assert!(why(&answered(redirect).await).contains("307"));
    for realm in
        [r#"Bearer realm="ftp://127.0.0.1/token""#, r#"Bearer realm="file:///etc/passwd""#, r#"Bearer realm="x""#]
    {
        let double = Double::start(Manner { challenge: Some(realm), ..Manner::default() }).await;
        let reading = double.ask(Some(Login::parse("a:secret").unwrap())).await;
        assert!(why(&reading.answer).contains("token server"), "{reading:?}");
        assert_eq!(double.asked().len(), 1);
    }
    let long: &'static str = Box::leak(format!("{{\"token\":\"{}\"}}", "x".repeat(70_000)).into_boxed_str());
    assert!(why(&answered(Manner { token: (200, long), ..Manner::default() }).await).contains("too long"));
    for body in ["", "{}", "[]", r#"{"token":""}"#] {
        assert!(
            why(&answered(Manner { token: (200, body), ..Manner::default() }).await).contains("no token"),
            "{body}"
        );
    }
    let access = Manner { token: (200, r#"{"access_token":"other"}"#), ..Manner::default() };
    assert_eq!(answered(access).await, limited(100, 76, Some(21_600)));
}

#[tokio::test]
async fn a_registry_that_is_away_is_said_in_words() {
    let target = Target { api: Url::parse("http://127.0.0.1:1").unwrap(), ..Target::docker_hub(None) };
    let reading = Prober::new().unwrap().ask(&target, Timestamp::from_secs(0)).await;
    assert!(why(&reading.answer).contains("refused"), "{reading:?}");
    assert!(!why(&reading.answer).contains("ratelimitpreview"), "{reading:?}");
}
