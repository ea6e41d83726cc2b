use reqwest::header::{HeaderMap, HeaderName, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::challenge::{Challenge, challenge};
use super::login::Login;
use crate::model::{BudgetAnswer, BudgetReading, Timestamp};
use crate::{budget, http};

/// How large the answer of a token server may be.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// How much is kept of whom a budget counts against.
const SOURCE_CHARS_MAX: usize = 100;
/// What a manifest may be, so that a registry has one to answer for.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const SOURCE: HeaderName = HeaderName::from_static("docker-ratelimit-source");

/// What is asked.
#[derive(Clone, Debug)]
pub struct Target {
    /// The registry, as image references name it.
    pub registry: String,
    /// Where its API is.
    pub api: Url,
    /// A repository that may be pulled: its manifest `latest` is asked for by HEAD.
    pub repository: String,
    /// Whose budget; `None`: that of this address.
    pub login: Option<Login>,
}

impl Target {
    /// Docker Hub, by the repository that Docker keeps for this question.
    ///
    /// # Panics
    /// Never: the URL is a constant.
    pub fn docker_hub(login: Option<Login>) -> Self {
        Self {
            registry: "docker.io".to_owned(),
            api: Url::parse("https://registry-1.docker.io").expect("a URL"),
            repository: "ratelimitpreview/test".to_owned(),
            login,
        }
    }
}

/// Asks registries. Redirects are not followed: they would take a login elsewhere. Proxies are those of the
/// environment, as they are of what is asked.
#[derive(Clone, Debug)]
pub struct Prober {
    client: reqwest::Client,
}

/// Why no registry can be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS or a proxy: {0}")]
pub struct ProberError(#[from] reqwest::Error);

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

impl Prober {
    /// A prober.
    ///
    /// # Errors
    /// When TLS cannot be set up, or a proxy of the environment is none.
    pub fn new() -> Result<Self, ProberError> {
        Ok(Self { client: http::client(http::REQUEST_LIMIT)? })
    }

    /// Asks once: at most two HEADs and one GET of a token, none of which is a pull.
    pub async fn ask(&self, target: &Target, at: Timestamp) -> BudgetReading {
        let (answer, source) = match self.head(target).await {
            Ok(response) => (answer(&response), source(response.headers())),
            Err(answer) => (answer, None),
        };
        let account = target.login.as_ref().map(|login| login.name.clone());
        BudgetReading { registry: target.registry.clone(), at, account, source, own: None, answer }
    }

    /// The answer to the question as it is once the registry has got what it wants to have first.
    async fn head(&self, target: &Target) -> Result<Response, BudgetAnswer> {
        let path = format!("/v2/{}/manifests/latest", target.repository);
        let url = target.api.join(&path).map_err(|_| failed("the repository's name is none"))?;
        let question = || self.client.request(Method::HEAD, url.clone()).header("accept", ACCEPT);
        let first = send(question()).await?;
        if first.status() != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let header = first.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match (challenge(header), &target.login) {
            (Some(Challenge::Bearer { realm, service, scope }), login) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", target.repository));
                let token = self.token(&target.api, &realm, service.as_deref(), &scope, login.as_ref()).await?;
                send(question().bearer_auth(token.expose_secret())).await
            }
            (Some(Challenge::Basic), Some(login)) => send(question().basic_auth_of(login)).await,
            (Some(Challenge::Basic), None) => Err(denied("it wants a login")),
            (None, _) => Err(failed("it answers 401 and does not say what it wants")),
        }
    }

    async fn token(
        &self,
        api: &Url,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<SecretString, BudgetAnswer> {
        let mut url = Url::parse(realm).map_err(|_| failed("it names no token server"))?;
        // A login does not go from an encrypted connection to one that is not.
        if url.scheme() != "https" && (api.scheme() == "https" || url.scheme() != "http") {
            return Err(failed("it names a token server that is not encrypted"));
        }
        let service = service.map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service.into_iter().chain([("scope", scope)]));
        let request = self.client.get(url);
        let mut response = send(match login {
            Some(login) => request.basic_auth_of(login),
            None => request,
        })
        .await?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(denied("it refuses the login")),
            StatusCode::TOO_MANY_REQUESTS => return Err(BudgetAnswer::TooMany),
            status => return Err(failed(&format!("its token server answers {status}"))),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() > TOKEN_BYTES_MAX {
                return Err(failed("its token server's answer is too long"));
            }
        }
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        token.filter(|token| !token.expose_secret().is_empty()).ok_or_else(|| failed("its token server sends no token"))
    }
}

trait BasicAuthOf {
    fn basic_auth_of(self, login: &Login) -> Self;
}

impl BasicAuthOf for RequestBuilder {
    fn basic_auth_of(self, login: &Login) -> Self {
        self.basic_auth(&login.name, Some(login.password.expose_secret()))
    }
}

async fn send(request: RequestBuilder) -> Result<Response, BudgetAnswer> {
    request.send().await.map_err(unreachable)
}

fn answer(response: &Response) -> BudgetAnswer {
    // Of a list, each part may come on a line of its own (RFC 9110, 5.3).
    let header = |name: &HeaderName| {
        let lines: Vec<&str> =
            response.headers().get_all(name).iter().map(|line| line.to_str().unwrap_or("?")).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    };
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => BudgetAnswer::TooMany,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => denied("it refuses the login, or the repository"),
        status if status.is_success() => match budget::budget(header(&LIMIT).as_deref(), header(&REMAINING).as_deref())
        {
            Ok(Some(budget)) => BudgetAnswer::Limited(budget),
            Ok(None) => BudgetAnswer::Unlimited,
            Err(error) => failed(&error.to_string()),
        },
        status => failed(&format!("it answers {status}")),
    }
}

/// Whom the budget counts against.
fn source(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(&SOURCE)?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.chars().take(SOURCE_CHARS_MAX).collect())
}

fn failed(why: &str) -> BudgetAnswer {
    BudgetAnswer::Failed { why: why.to_owned() }
}

fn denied(why: &str) -> BudgetAnswer {
    BudgetAnswer::Denied { why: why.to_owned() }
}

/// An error with its causes, and without the URL: that of a token server may hold what is nobody's business.
fn unreachable(error: reqwest::Error) -> BudgetAnswer {
    failed(&format!("{:#}", anyhow::Error::new(error.without_url())))
}
