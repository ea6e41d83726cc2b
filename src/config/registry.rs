//! `[[registry]]`: registries whose pull budget is asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::notify::Secret;
use super::{ConfigError, Span, bad};
use crate::budget::{Authentication, HUB, OwnTerms};

/// How many there may be.
const REGISTRIES_MAX: usize = 100;

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
    /// What it wants before it answers: `none`, `basic` or `bearer`; known of the larger registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// How many pulls the plan allows in a window, where the registry does not say it itself. 1 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulls: Option<u64>,
    /// The window of `pulls`, which rolls. 1m to 168h; where nothing else is known 6h, as Docker Hub's, the one
    /// registry that tells its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// How many requests of any kind pass in a minute. 1 or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_min: Option<u64>,
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
        Self { name: HUB.to_owned(), ..Self::default() }
    }

    /// Whether it may be asked for its budget: Docker Hub has a repository for the question.
    pub fn may_be_asked(&self) -> bool {
        self.repository.is_some() || self.name == HUB
    }

    /// What is said here of its terms.
    pub fn terms(&self) -> OwnTerms {
        OwnTerms {
            authentication: self.authentication,
            pulls: self.pulls,
            window: self.window.map(|window| window.0),
            requests_per_min: self.requests_per_min,
        }
    }

    fn has_terms(&self) -> bool {
        self.terms() != OwnTerms::default()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let failed = |why: &str| Err(bad(format!("[[registry]] {}", self.name), why));
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(&self.name) || self.name.len() > 255 || self.name.contains('/') {
            return failed("name = a host, perhaps with its port, as image references begin");
        }
        match (&self.repository, self.name == HUB) {
            (None, false) if !self.has_terms() => {
                return failed("it needs repository: one with the tag latest that may be pulled");
            }
            (Some(repository), _) if !is_plain(repository) || repository.contains(['?', '#', '%', ':', '@']) => {
                return failed("repository = a name as in image references, without tag");
            }
            _ => {}
        }
        let is_count = |count: Option<u64>| count.is_none_or(|count| (1..=1_000_000_000).contains(&count));
        if !is_count(self.pulls) || !is_count(self.requests_per_min) {
            return failed("pulls and requests_per_min are 1 to 1000000000");
        }
        if self.window.is_some() && self.pulls.is_none() {
            return failed("window is that of pulls: write pulls too");
        }
        if let Some(window) = self.window
            && !(60..=7 * 86_400).contains(&window.0.as_secs())
        {
            return failed("window is 1m to 168h");
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
    for (place, registry) in registries.iter().enumerate() {
        registry.check()?;
        if registries[..place].iter().any(|other| other.name == registry.name) {
            return Err(bad(format!("[[registry]] {}", registry.name), "it is there twice: its budget is one login's"));
        }
    }
    Ok(())
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
