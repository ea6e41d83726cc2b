//! `squall health`: asks a running daemon whether it sees what it should. Made for a container's health check: it asks
//! once, needs no token, and waits for little time.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::args::Health as Command;
use super::exit::Exit;
use super::live;
use super::render::printable;
use crate::config::{Config, Serve};
use crate::http;

/// How long the daemon may take for its answer. It is made of what the daemon knows already; a container's health
/// check has 30 s by default, and is often given 5.
const LIMIT: Duration = Duration::from_secs(3);
/// The longest answer that is read: a sentence for each part of the daemon.
const BODY_BYTES_MAX: usize = 64 << 10;
/// What answers for the daemon; it wants no token.
const PATH: &str = "/readyz";
/// The part that is not asked for here: a receiver of alerts that is away is no reason to start squall again, which is
/// what is done to a container that is not well, and alerts wait on disk.
const APART: &str = "outbox: ";

/// The body of an answer that says no.
#[derive(Debug, Deserialize)]
struct NotWell {
    reasons: Vec<String>,
}

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let runtime = live::runtime()?;
    let trouble = runtime.block_on(ask(command, config));
    // A lookup of a name may still be under way on a thread of its own.
    runtime.shutdown_background();
    let mut out = io::stdout().lock();
    let reasons = trouble?;
    if reasons.is_empty() {
        writeln!(out, "ok")?;
        return Ok(Exit::Calm);
    }
    writeln!(out, "{}", printable(&reasons.join("; ")))?;
    Ok(Exit::Unwell)
}

/// Why the daemon does not see what it should.
async fn ask(command: &Command, config: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let (url, client) = match &command.url {
        Some(address) => (live::url(address, PATH)?, http::client(LIMIT)?),
        None => (own(&Config::load(config)?.serve)?, http::direct(LIMIT)?),
    };
    let (code, body) = get(&client, &url).await.map_err(|why| anyhow!("{why}")).with_context(|| address(&url))?;
    if code == StatusCode::OK {
        return Ok(Vec::new());
    }
    if code != StatusCode::SERVICE_UNAVAILABLE {
        bail!("{}: it answers {code}: is this squall's address?", address(&url));
    }
    let not_well: NotWell =
        serde_json::from_slice(&body).with_context(|| format!("{}: its answer is none of squall's", address(&url)))?;
    Ok(not_well.reasons.into_iter().filter(|reason| !reason.starts_with(APART)).collect())
}

/// Where the daemon of these settings answers on this machine.
fn own(serve: &Serve) -> anyhow::Result<Url> {
    if !serve.enabled {
        bail!("the settings let squall watch answer nowhere: serve.enabled is false");
    }
    if serve.listen.port() == 0 {
        bail!("serve.listen = \"{}\" takes any port: name the address with --url", serve.listen);
    }
    let ip = match serve.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    live::url(&format!("http://{}", SocketAddr::new(ip, serve.listen.port())), PATH)
}

async fn get(client: &Client, url: &Url) -> Result<(StatusCode, Vec<u8>), String> {
    let explain = |error| http::explain(error, LIMIT);
    let mut response = client.get(url.clone()).send().await.map_err(explain)?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(explain)? {
        if body.len() + piece.len() > BODY_BYTES_MAX {
            return Err(format!("its answer is longer than {} KiB", BODY_BYTES_MAX >> 10));
        }
        body.extend_from_slice(&piece);
    }
    Ok((response.status(), body))
}

/// The address without the path.
fn address(url: &Url) -> String {
    url.as_str().trim_end_matches(PATH).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_at_loopback() {
        let asked = |listen: &str| {
            let serve = Serve { listen: listen.parse().expect("an address"), ..Serve::default() };
            own(&serve).map(|url| url.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(asked("127.0.0.1:9765").as_deref(), Ok("http://127.0.0.1:9765/readyz"));
        assert_eq!(asked("0.0.0.0:80").as_deref(), Ok("http://127.0.0.1/readyz"));
        assert_eq!(asked("[::]:9765").as_deref(), Ok("http://[::1]:9765/readyz"));
        assert_eq!(asked("192.0.2.7:1").as_deref(), Ok("http://192.0.2.7:1/readyz"));
        assert!(asked("127.0.0.1:0").is_err_and(|why| why.contains("--url")));
        let off = Serve { enabled: false, ..Serve::default() };
        assert!(own(&off).is_err_and(|why| why.to_string().contains("serve.enabled")));
    }
}
