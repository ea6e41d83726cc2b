//! How squall asks over HTTP what is not Docker: receivers of alerts, registries, another squall.
//!
//! Redirects are not followed: they would take a secret elsewhere. Proxies are those of the environment.

use std::error::Error;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

/// How long a connection may take, and a request in all: whoever needs longer is away.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// See [`CONNECT_LIMIT`].
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A client whose requests take at most `limit`.
///
/// # Errors
/// When TLS cannot be set up, or a proxy of the environment is none.
pub(crate) fn client(limit: Duration) -> reqwest::Result<Client> {
    built(|| builder(limit))
}

/// The same without proxies, for what is on this machine: a proxy has another loopback.
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn direct(limit: Duration) -> reqwest::Result<Client> {
    built(|| builder(limit).no_proxy())
}

/// A machine may have no CA certificates, as a minimal Debian has none: over TLS it trusts nobody, and all else works.
fn built(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

fn builder(limit: Duration) -> ClientBuilder {
    // Fails where it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(limit)
        .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")))
}

/// Why a request that might take at most `limit` failed: its innermost reason, without the address.
pub(crate) fn explain(error: reqwest::Error, limit: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", limit.as_secs());
    }
    let error = error.without_url();
    let mut reason: &dyn Error = &error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    reason.to_string()
}
