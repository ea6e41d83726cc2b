//! What the commands that talk to a live Docker share.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};

use super::args::Daemon;
use super::render::printable;
use crate::config::Config;

/// One thread: the work is waiting.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The settings, with the flags before them.
pub(super) fn config(path: Option<&Path>, flags: &Daemon) -> anyhow::Result<Config> {
    let mut config = Config::load(path)?;
    if flags.host.is_some() || flags.context.is_some() {
        config.docker.host = flags.host.clone();
        config.docker.context = flags.context.clone();
    }
    if let Some(log) = &flags.log {
        config.log.source = log.clone();
    }
    Ok(config)
}

/// Says something on standard error.
pub(super) fn complain(text: &str) {
    eprintln!("squall: {}", printable(text));
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
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
