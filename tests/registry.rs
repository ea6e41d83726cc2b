//! The probe against a registry that speaks as Docker Hub does, and as none should.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::{Router, serve};
use reqwest::Url;
use squall::model::{Budget, BudgetAnswer, BudgetReading, Timestamp};
use squall::registry::{Login, Prober, Target};
use tempfile::TempDir;

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
    // Two budgets, a line of each header for each.
    let lines = [hub("1000;w=86400", "900;w=86400"), hub("100;w=21600", "2;w=21600")].concat();
    assert_eq!(of(lines).await, limited(100, 2, Some(21_600)));
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

// --- squall budget -----------------------------------------------------------------------------------------------------

/// The command, beside a configuration and a docker configuration of its own.
struct Bench {
    dir: TempDir,
    double: Double,
}

impl Bench {
    async fn new(manner: Manner) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), double: Double::start(manner).await }
    }

    /// Docker Hub, which is the double here, with further keys.
    fn hub(&self, keys: &str) -> String {
        format!("[[registry]]\nname = \"docker.io\"\nurl = \"http://{}\"\n{keys}", self.double.address)
    }

    async fn run(&self, config: &str, args: &[&str]) -> (i32, String, String) {
        let path = self.dir.path().join("squall.toml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        command.arg("--config").arg(&path).arg("budget").args(args);
        command.env("DOCKER_CONFIG", self.dir.path()).env("SQUALL_TEST_LOGIN", "shop:hunter22");
        command.env("PATH", format!("{}:/usr/bin:/bin", self.dir.path().display())).env("COLUMNS", "80");
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(!stdout.contains("hunter22") && !stderr.contains("hunter22"), "{stdout}{stderr}");
        (output.status.code().unwrap(), stdout, stderr)
    }
}

#[tokio::test]
async fn what_is_left_is_printed_for_people_programs_and_nagios() {
    let bench = Bench::new(Manner::default()).await;
    let (code, table, errors) = bench.run(&bench.hub(""), &[]).await;
    assert_eq!((code, &*errors), (0, ""));
    for word in ["docker.io", "203.0.113.7", "76", "100", "6 h"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (code, json, _) = bench.run(&bench.hub(""), &["--format", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["schema"]), (0, &"squall.budget/1".into()));
    let one = &json["registries"][0];
    assert_eq!((&one["answer"], &one["limit"], &one["remaining"]), (&"limited".into(), &100.into(), &76.into()));
    assert_eq!((&one["window_secs"], &one["source"]), (&21_600.into(), &"203.0.113.7".into()));
    let (code, line, _) = bench.run(&bench.hub(""), &["--format", "nagios", "docker.io"]).await;
    assert_eq!(code, 0);
    assert_eq!(line, "SQUALL OK - docker.io: 76 of 100 pulls left | 'docker.io'=76;20:;1:;;100\n");
}

#[tokio::test]
async fn what_is_spent_low_refused_or_unknown_has_a_status_of_its_own() {
    let of = |status, headers| Manner { manifest: (status, headers), ..Manner::default() };
    for (manner, code, nagios, word) in [
        (of(200, hub("100;w=21600", "19;w=21600")), 0, 1, "WARNING"),
        (of(200, hub("100;w=21600", "20;w=21600")), 0, 0, "OK"),
        (of(200, hub("100;w=21600", "0;w=21600")), 1, 2, "CRITICAL"),
        (of(200, hub("100;w=21600", "-4;w=21600")), 1, 2, "CRITICAL"),
        (of(429, Vec::new()), 1, 2, "CRITICAL"),
        (of(200, Vec::new()), 0, 0, "OK"),
        (of(503, Vec::new()), 2, 3, "UNKNOWN"),
        (Manner { token: (401, ""), ..Manner::default() }, 2, 3, "UNKNOWN"),
    ] {
        let what = format!("{manner:?}");
        let bench = Bench::new(manner).await;
        let (found, table, _) = bench.run(&bench.hub(""), &[]).await;
        assert_eq!(found, code, "{what}: {table}");
        let (found, line, _) = bench.run(&bench.hub(""), &["--format", "nagios"]).await;
        assert_eq!(found, nagios, "{what}: {line}");
        assert!(line.starts_with(&format!("SQUALL {word} - docker.io: ")), "{what}: {line}");
    }
}

#[tokio::test]
async fn a_login_comes_from_docker_a_helper_or_a_secret() {
    // base64 of `shop:hunter22`
    const BASIC: &str = "Basic c2hvcDpodW50ZXIyMg==";
    let bench = Bench::new(Manner::default()).await;
    let sent = || bench.double.asked().iter().filter(|(_, _, header)| header.as_deref() == Some(BASIC)).count();
    let docker = |text: &str| fs::write(bench.dir.path().join("config.json"), text).unwrap();
    let with_docker = bench.hub("login = \"docker\"\n");

    docker(r#"{"auths":{"https://index.docker.io/v1/":{"auth":"c2hvcDpodW50ZXIyMg=="}}}"#);
    let (code, table, errors) = bench.run(&with_docker, &[]).await;
    assert_eq!((code, sent(), &*errors), (0, 1, ""));
    assert!(table.contains("shop"), "{table}");

    docker(r#"{"credsStore":"double"}"#);
    let helper = |script: &str| {
        let path = bench.dir.path().join("docker-credential-double");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper(r#"read -r url; echo "{\"ServerURL\":\"$url\",\"Username\":\"shop\",\"Secret\":\"hunter22\"}""#);
    assert_eq!((bench.run(&with_docker, &[]).await.0, sent()), (0, 2));
    helper("read -r url; echo hunter22; exit 1");
    let (code, _, errors) = bench.run(&with_docker, &[]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("docker-credential-double fails"), "{errors}");

    docker("{}");
    let (code, _, errors) = bench.run(&with_docker, &[]).await;
    assert!(code == 2 && errors.contains("docker has no login for docker.io"), "{errors}");

    let secret = bench.dir.path().join("login");
    fs::write(&secret, "shop:hunter22\n").unwrap();
    assert_eq!(bench.run(&bench.hub(&format!("login = {{ file = {secret:?} }}\n")), &[]).await.0, 0);
    assert_eq!(bench.run(&bench.hub("login = { env = \"SQUALL_TEST_LOGIN\" }\n"), &[]).await.0, 0);
    assert_eq!(sent(), 4);
}

/// Also those whose login is right are asked, and Nagios is told by a line.
#[tokio::test]
async fn a_login_that_cannot_be_read_hides_no_other_registry() {
    let bench = Bench::new(Manner::default()).await;
    let url = format!("http://{}", bench.double.address);
    let other = format!("[[registry]]\nname = \"r.test\"\nrepository = \"a/b\"\nurl = \"{url}\"\n");
    let config = format!("{}{other}", bench.hub("login = { file = \"/nowhere\" }\n"));
    let (code, table, errors) = bench.run(&config, &[]).await;
    assert_eq!(code, 2, "{errors}");
    assert!(table.contains("r.test") && table.contains("76") && table.contains("was not asked"), "{table}");
    assert!(errors.contains("/nowhere"), "{errors}");
    let (code, line, _) = bench.run(&config, &["--format", "nagios"]).await;
    assert!(code == 3 && line.starts_with("SQUALL UNKNOWN - "), "{code}: {line}");
    let (code, line, _) = bench.run("colour = 1\n", &["--format", "nagios"]).await;
    assert!(code == 3 && line.starts_with("SQUALL UNKNOWN - "), "{code}: {line}");
}

#[tokio::test]
async fn each_mistake_is_named() {
    let bench = Bench::new(Manner::default()).await;
    let registry = |keys: &str| format!("[[registry]]\n{keys}");
    for (config, args, words) in [
        (bench.hub(""), &["nope"][..], &["nope", "[[registry]]"][..]),
        (registry("name = \"quay.io\"\n"), &[], &["quay.io", "repository"]),
        (registry("name = \"\"\n"), &[], &["name"]),
        (registry("name = \"a/b\"\nrepository = \"x\"\n"), &[], &["a/b", "name"]),
        (registry("name = \"x\"\nrepository = \"a:1\"\n"), &[], &["x", "without tag"]),
        (bench.hub("login = \"podman\"\n"), &[], &["login"]),
        (bench.hub("login = { env = \"NOT_SET_ANYWHERE\" }\n"), &[], &["docker.io", "NOT_SET_ANYWHERE"]),
        (bench.hub("login = { file = \"/nowhere\" }\n"), &[], &["docker.io", "/nowhere"]),
        (bench.hub("colour = 1\n"), &[], &["colour"]),
        (registry("name = \"docker.io\"\nurl = \"http://a:hunter22@b\"\n"), &[], &["docker.io", "url"]),
    ] {
        let (code, output, errors) = bench.run(&config, args).await;
        assert_eq!(code, 2, "{config}{args:?}: {errors}");
        // Where the settings are right and the login is not there, that is one registry's answer.
        let is_unasked = config.contains("NOT_SET_ANYWHERE") || config.contains("/nowhere");
        assert_eq!(output.contains("was not asked"), is_unasked, "{config}{args:?}: {output}");
        assert_eq!(output.is_empty(), !is_unasked, "{config}{args:?}: {output}");
        assert!(words.iter().all(|word| errors.contains(word)), "{words:?}: {errors}");
    }
    assert!(bench.double.asked().is_empty());
}
