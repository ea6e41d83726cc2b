//! What decides which daemon is meant, and why none may be.

use std::fmt;
use std::path::PathBuf;

use super::address::DEFAULT_SOCKET;

/// What decides which daemon is meant.
pub struct Surroundings<'a> {
    /// A `--host` flag; an empty one is none.
    pub host: Option<String>,
    /// A `--context` flag; an empty one is none.
    pub context: Option<String>,
    /// Looks up an environment variable: `DOCKER_HOST`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `DOCKER_TLS`,
    /// `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The home directory, in which `.docker` is looked for.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`, where a rootless daemon has its socket.
    pub runtime_dir: Option<PathBuf>,
    /// Docker's socket when nothing names another; [`DEFAULT_SOCKET`] but in tests.
    pub default_socket: PathBuf,
}

impl<'a> Surroundings<'a> {
    /// The surroundings of a process with this environment and these flags.
    pub fn new(env: &'a dyn Fn(&str) -> Option<String>, host: Option<String>, context: Option<String>) -> Self {
        let dir = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (home, runtime_dir) = (dir("HOME"), dir("XDG_RUNTIME_DIR"));
        Self { host, context, env, home, runtime_dir, default_socket: PathBuf::from(DEFAULT_SOCKET) }
    }

    pub(crate) fn var(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// The directory of the docker command's configuration.
    pub(crate) fn config_dir(&self) -> Option<PathBuf> {
        self.var("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(self.home.as_ref()?.join(".docker")))
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("host", &self.host).field("context", &self.context).finish_non_exhaustive()
    }
}

/// Why no daemon could be named.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Both flags were given.
    #[error("--host and --context both name a daemon: give only one of them")]
    Conflict,
    /// An address that cannot be used.
    #[error("cannot use the Docker address `{address}` ({chosen_by}): {why}")]
    Address {
        /// The address, without its password.
        address: String,
        /// What named it.
        chosen_by: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The context does not exist.
    #[error("no docker context `{name}` ({chosen_by}) under {}: see `docker context ls`", store.display())]
    NoContext {
        /// Its name.
        name: String,
        /// What named it.
        chosen_by: String,
        /// Where contexts are kept.
        store: PathBuf,
    },
    /// A file of the docker command's configuration cannot be used.
    #[error("cannot read docker's configuration {}: {why}; mend it, or name the daemon by --host", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}
