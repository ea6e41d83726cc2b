//! Finds the Docker daemon as the docker command would: flags, environment, contexts, then the default sockets.
//!
//! The environment comes in as a function, so this reads no process state; it reads files of the docker command's
//! configuration and looks whether sockets exist. It connects to nothing.

use std::fmt;
use std::path::{Path, PathBuf};

pub use super::address::{Address, DEFAULT_SOCKET, TlsFiles};
use super::address::{bracketed, parse_address, without_password};
use super::context;
use super::surroundings::{EndpointError, Surroundings};

/// One Docker daemon's address, and what named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    address: Address,
    chosen_by: String,
}

impl Endpoint {
    /// Finds the daemon as the docker command would.
    ///
    /// `--host` or `--context`, then `DOCKER_HOST`, `DOCKER_CONTEXT`, `currentContext` of config.json,
    /// `/var/run/docker.sock`, and the rootless socket when that one does not exist.
    ///
    /// # Errors
    /// When both flags are given, the address is not one that can be used, or the context cannot be read.
    pub fn resolve(surroundings: &Surroundings<'_>) -> Result<Self, EndpointError> {
        let given = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
        match (given(&surroundings.host), given(&surroundings.context)) {
            (Some(_), Some(_)) => return Err(EndpointError::Conflict),
            (Some(host), None) => return Self::with_environment_tls(&host, "--host", surroundings),
            (None, Some(name)) => return Self::of_context(&name, "--context", surroundings),
            (None, None) => {}
        }
        if let Some(host) = surroundings.var("DOCKER_HOST") {
            return Self::with_environment_tls(&host, "DOCKER_HOST", surroundings);
        }
        if let Some(name) = surroundings.var("DOCKER_CONTEXT") {
            return Self::of_context(&name, "DOCKER_CONTEXT", surroundings);
        }
        match context::current(surroundings)? {
            Some(name) => Self::of_context(&name, "currentContext in docker's config.json", surroundings),
            None => Self::default_for(surroundings),
        }
    }

    /// Reads an address as DOCKER_HOST has it, without TLS files from the environment.
    ///
    /// # Errors
    /// When it is not an address that can be used.
    pub fn parse(host: &str) -> Result<Self, EndpointError> {
        Self::parse_with(host, "--host", None)
    }

    /// How the daemon is reached.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What named the daemon, for messages: a flag, a variable, a context, the default.
    pub fn chosen_by(&self) -> &str {
        &self.chosen_by
    }

    /// The path, when it is a unix socket.
    pub fn socket(&self) -> Option<&Path> {
        match &self.address {
            Address::Unix { path } => Some(path),
            _ => None,
        }
    }

    fn of_context(name: &str, chosen_by: &str, surroundings: &Surroundings<'_>) -> Result<Self, EndpointError> {
        if name == "default" {
            return Self::default_for(surroundings);
        }
        let found = context::find(name, chosen_by, surroundings)?;
        Self::parse_with(&found.host, &format!("context `{name}`"), found.tls)
    }

    fn default_for(surroundings: &Surroundings<'_>) -> Result<Self, EndpointError> {
        if environment_tls(surroundings).is_some() {
            return Self::with_environment_tls("", "DOCKER_TLS_VERIFY without DOCKER_HOST", surroundings);
        }
        let default = &surroundings.default_socket;
        let rootless = surroundings.runtime_dir.as_ref().map(|dir| dir.join("docker.sock"));
        let (path, chosen_by) = match rootless.filter(|path| !default.exists() && path.exists()) {
            Some(path) => (path, "the rootless default"),
            None => (default.clone(), "the default"),
        };
        Ok(Self { address: Address::Unix { path }, chosen_by: chosen_by.to_owned() })
    }

    fn with_environment_tls(
        host: &str,
        chosen_by: &str,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, EndpointError> {
        Self::parse_with(host, chosen_by, environment_tls(surroundings))
    }

    fn parse_with(host: &str, chosen_by: &str, tls: Option<TlsFiles>) -> Result<Self, EndpointError> {
        let host = host.trim();
        let address = parse_address(host, tls).map_err(|why| EndpointError::Address {
            address: without_password(host),
            chosen_by: chosen_by.to_owned(),
            why,
        })?;
        Ok(Self { address, chosen_by: chosen_by.to_owned() })
    }
}

impl fmt::Display for Endpoint {
    /// The address as DOCKER_HOST would have it; never a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix { path } => write!(f, "unix://{}", path.display()),
            Address::Tcp { host, port, prefix, .. } => write!(f, "tcp://{}:{port}{prefix}", bracketed(host)),
            Address::Ssh { user, host, port, socket } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(&bracketed(host))?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// The TLS that the environment asks for. As the docker command: an empty variable is no variable.
fn environment_tls(surroundings: &Surroundings<'_>) -> Option<TlsFiles> {
    let verify = surroundings.var("DOCKER_TLS_VERIFY").is_some();
    if !verify && surroundings.var("DOCKER_TLS").is_none() {
        return None;
    }
    let dir = surroundings.var("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| surroundings.config_dir())?;
    Some(TlsFiles::within(&dir, !verify))
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
