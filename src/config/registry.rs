//! `[[registry]]`: registries whose pull budget is asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::notify::Secret;
use super::{ConfigError, bad};

/// How many there may be.
const REGISTRIES_MAX: usize = 100;
/// Docker Hub, as image references name it.
pub const DOCKER_HUB: &str = "docker.io";

/// `[[registry]]`. Without any, Docker Hub is asked what is left for this address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// As image references name it: `docker.io`, `registry.example.com:5000`.
    pub name: String,
    /// Where its API is; `https://registry-1.docker.io` for Docker Hub, else `https://NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A repository with the tag `latest` that may be pulled; Docker Hub has one for this question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Whose budget; without it that of this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// A login: docker's own, or `NAME:PASSWORD` elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Login {
    /// `"docker"`: what docker itself would use, of its `config.json` or credential helper.
    Docker(DockerWord),
    /// Where `NAME:PASSWORD` is.
    Secret(Secret),
}

/// The word `docker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DockerWord {
    /// `"docker"`.
    Docker,
}

impl Registry {
    /// Docker Hub, asked by nobody in particular.
    pub fn docker_hub() -> Self {
        Self { name: DOCKER_HUB.to_owned(), ..Self::default() }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let failed = |why: &str| Err(bad(format!("[[registry]] {}", self.name), why));
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(&self.name) || self.name.len() > 255 || self.name.contains('/') {
            return failed("name = a host, perhaps with its port, as image references begin");
        }
        match (&self.repository, self.name == DOCKER_HUB) {
            (None, false) => return failed("it needs repository: one with the tag latest that may be pulled"),
            (Some(repository), _) if !is_plain(repository) || repository.contains(['?', '#', '%', ':', '@']) => {
                return failed("repository = a name as in image references, without tag");
            }
            _ => {}
        }
        match &self.url {
            // It is shown by `config show`.
            Some(url) if url.contains('@') => failed("url has a password or an @: it belongs into login"),
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                failed("url begins with neither https:// nor http://")
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn check(registries: &[Registry]) -> Result<(), ConfigError> {
    if registries.len() > REGISTRIES_MAX {
        return Err(bad("[[registry]]".to_owned(), format!("there are more than {REGISTRIES_MAX}")));
    }
    registries.iter().try_for_each(Registry::check)
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
