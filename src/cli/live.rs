//! What the commands that talk to a live Docker share.

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use reqwest::Url;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Daemon, Docker, Journal as Flags};
use super::render::printable;
use crate::config::{Config, ConfigError, Mistake, Source};
use crate::{daemon, journal};

/// One thread: the work is waiting.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The settings, with the flags before them.
pub(super) fn config(path: Option<&Path>, flags: &Daemon) -> anyhow::Result<Config> {
    let mut config = Config::load(path)?;
    flags.apply(&mut config);
    Ok(config)
}

/// The same for a command that reads no log.
pub(super) fn docker_config(path: Option<&Path>, flags: &Docker) -> anyhow::Result<Config> {
    let mut config = Config::load(path)?;
    flags.apply(&mut config);
    Ok(config)
}

impl Daemon {
    /// Puts the flags before the settings.
    pub(super) fn apply(&self, config: &mut Config) {
        self.docker.apply(config);
        if let Some(log) = &self.log {
            config.log.source = log.clone();
        }
    }
}

impl Docker {
    fn apply(&self, config: &mut Config) {
        if self.host.is_some() || self.context.is_some() {
            config.docker.host = self.host.clone();
            config.docker.context = self.context.clone();
        }
    }
}

/// What `watch` checks before it begins, and `config check` on its behalf.
pub(super) fn check(config: &Config, source: &Source, flags: &Flags) -> Result<(), ConfigError> {
    let mut found = if source.is_toml() { daemon::mistakes(config) } else { Vec::new() };
    if let Err(error) = journal(config, flags) {
        found.push(Mistake::new(&["journal", "dir"], error.to_string()));
    }
    source.judge(found)
}

/// A path at a running squall.
pub(super) fn url(address: &str, path: &str) -> anyhow::Result<Url> {
    let text = format!("{}{path}", address.trim_end_matches('/'));
    let url = Url::parse(&text).with_context(|| format!("--url {address} is no address, as http://127.0.0.1:9765"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        bail!("--url is to be http://HOST:PORT or https://HOST:PORT, without user and password");
    }
    Ok(url)
}

/// Where the journal is and what it keeps.
pub(super) fn journal(config: &Config, flags: &Flags) -> anyhow::Result<journal::Settings> {
    let env = |name: &str| std::env::var(name).ok();
    let named = flags.state_dir.clone().or_else(|| config.journal.directory(&env, is_root()));
    let dir = named.context("no directory for the journal: name one with --state-dir, or set HOME")?;
    Ok(config.journal.settings(dir))
}

fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|of_process| of_process.uid() == 0)
}

/// Says something on standard error.
pub(super) fn complain(text: &str) {
    eprintln!("squall: {}", printable(text));
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_signal() {
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// SIGHUP from now on; it ends the process no more.
///
/// # Errors
/// If the system refuses it.
pub(super) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Waits until the terminal that squall was started at is gone.
pub(super) async fn terminal_gone() {
    let hangups = io::stdin().is_terminal().then(hangups);
    let Some(Ok(mut hangups)) = hangups else { return std::future::pending().await };
    while hangups.recv().await.is_some() && io::stdin().is_terminal() {}
}
