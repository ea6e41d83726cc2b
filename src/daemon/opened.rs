//! Prepares a watch before Docker is asked: reads secrets and makes receivers from the settings. `watch` ends with the
//! mistakes that are found here, and `config check` reports the same.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::purse;
use crate::config::{Config, LogSource, Login, Mistake};
use crate::docker::{self, Client, Endpoint, Limits, Surroundings};
use crate::notify::{Receiver, Silence};
use crate::serve;

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No daemon could be named.
    #[error(transparent)]
    Endpoint(#[from] docker::EndpointError),
    /// The daemon could not be asked.
    #[error(transparent)]
    Docker(#[from] docker::Error),
}

/// The receivers, silences and secrets of the settings.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) receivers: Vec<Receiver>,
    pub(super) silences: Vec<Silence>,
    /// The URL and how often it is asked.
    pub(super) dead_man: Option<(SecretString, Duration)>,
    /// The address of the status page and its readers; none if it is switched off.
    pub(super) serve: Option<serve::Settings>,
}

impl Opened {
    /// Reads the secrets and makes what needs them.
    ///
    /// # Errors
    /// All that cannot be read or used.
    pub(super) fn of(config: &Config) -> Result<Self, Vec<Mistake>> {
        let env = |name: &str| std::env::var(name).ok();
        let mut found = Vec::new();
        let mut note = |mistake: Mistake| found.push(mistake);
        let receivers = config.receiver.iter().filter_map(|one| one.open(&env).map_err(&mut note).ok()).collect();
        let silences = config.silence.iter().filter_map(|one| one.open().map_err(&mut note).ok()).collect();
        let dead_man = config.alert.dead_man(&env).map_err(&mut note).ok().flatten();
        let serve = served(config, &env).map_err(&mut note).ok().flatten();
        if found.is_empty() { Ok(Self { receivers, silences, dead_man, serve }) } else { Err(found) }
    }
}

fn served(config: &Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<serve::Settings>, Mistake> {
    let serve = &config.serve;
    if !serve.enabled {
        return Ok(None);
    }
    let token = serve.token.as_ref().map(|token| token.read(env)).transpose();
    let settings = serve::Settings {
        listen: serve.listen,
        token: token.map_err(|why| Mistake::new(&["serve", "token"], why))?,
        insecure: serve.insecure,
        hosts: serve.hosts.clone(),
    };
    match settings.check() {
        Ok(()) => Ok(Some(settings)),
        Err(error) => Err(Mistake::new(&["serve", "listen"], error.to_string())),
    }
}

/// A client of the daemon that the settings name, or else of the one that the docker command would ask. It has connected
/// to nothing yet.
///
/// # Errors
/// When there is none, or its certificates cannot be used.
pub(super) fn client_of(config: &Config) -> Result<Client, SessionError> {
    let env = |name: &str| std::env::var(name).ok();
    let surroundings = Surroundings::new(&env, config.docker.host.clone(), config.docker.context.clone());
    Ok(Client::new(&Endpoint::resolve(&surroundings)?, Limits::default())?)
}

/// All mistakes for which a watch with these settings would not begin, apart from those of the file. It asks neither Docker
/// nor a registry, and runs no credential helper.
pub fn mistakes(config: &Config) -> Vec<Mistake> {
    let mut found: Vec<Mistake> = config.respond.check_reach().err().into_iter().collect();
    if let Err(error) = client_of(config) {
        found.push(Mistake::new(&["docker"], error.to_string()));
    }
    if let LogSource::File(path) = &config.log.source
        && let Err(error) = try_log(path)
    {
        found.push(Mistake::new(&["log", "source"], format!("cannot read it: {error}")));
    }
    let asked = config.registry.iter().filter(|registry| registry.may_be_asked());
    let asked = asked.filter(|registry| !matches!(registry.login, Some(Login::Docker(_))));
    found.extend(asked.filter_map(|registry| purse::target(registry).err()));
    found.extend(Opened::of(config).err().into_iter().flatten());
    found
}

/// A log that is not there yet is waited for, if its directory is there.
fn try_log(path: &Path) -> io::Result<()> {
    let is_to_come = || path.parent().is_some_and(|dir| dir.as_os_str().is_empty() || dir.is_dir());
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(data) if data.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Err(error) if error.kind() != io::ErrorKind::NotFound || !is_to_come() => Err(error),
        _ => Ok(()),
    }
}
