//! `[[registry]]`: registries whose pull budget is asked for.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Span;
use super::mistake::Mistake;
use super::secret::Secret;
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Login {
    /// `"docker"`: what docker itself would use, of its `config.json` or credential helper.
    Docker(DockerWord),
    /// Where `NAME:PASSWORD` is.
    Secret(Secret),
}

/// The word `docker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DockerWord {
    /// `"docker"`.
    Docker,
}

/// A login that stands here itself is never repeated.
impl<'de> Deserialize<'de> for Login {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Login;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"docker\", { file = \"PATH\" } or { env = \"VARIABLE\" }: where NAME:PASSWORD is, and not itself",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Login, E> {
                match text {
                    "docker" => Ok(Login::Docker(DockerWord::Docker)),
                    _ => Err(E::invalid_value(Unexpected::Other("text"), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Login, A::Error> {
                Secret::deserialize(MapAccessDeserializer::new(map)).map(Login::Secret)
            }
        }

        deserializer.deserialize_any(Reader)
    }
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

    fn check(&self, found: &mut Vec<Mistake>) {
        let mut wrong = |key: &str, why: &str| found.push(Mistake::new(&["registry", &self.name, key], why));
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(&self.name) || self.name.len() > 255 || self.name.contains('/') {
            wrong("name", "expected a host, perhaps with its port, as image references begin");
        }
        match (&self.repository, self.name == HUB) {
            (None, false) if !self.has_terms() => {
                wrong("repository", "it is needed: one with the tag latest that may be pulled");
            }
            (Some(repository), _) if !is_plain(repository) || repository.contains(['?', '#', '%', ':', '@']) => {
                wrong("repository", "expected a name as in image references, without tag");
            }
            _ => {}
        }
        for (key, count) in [("pulls", self.pulls), ("requests_per_min", self.requests_per_min)] {
            if count.is_some_and(|count| !(1..=1_000_000_000).contains(&count)) {
                wrong(key, "it is out of its range: 1 to 1000000000");
            }
        }
        if self.window.is_some() && self.pulls.is_none() {
            wrong("window", "it is that of pulls: write pulls too");
        }
        if self.window.is_some_and(|window| !(60..=7 * 86_400).contains(&window.0.as_secs())) {
            wrong("window", "it is out of its range: 1m to 168h");
        }
        match &self.url {
            // It is shown by `config show`.
            Some(url) if url.contains('@') => wrong("url", "it has a password or an @: it belongs into login"),
            Some(url) if !(url.starts_with("http://") || url.starts_with("https://")) => {
                wrong("url", "it begins with neither https:// nor http://");
            }
            _ => {}
        }
    }
}

pub(super) fn check(registries: &[Registry], found: &mut Vec<Mistake>) {
    if registries.len() > REGISTRIES_MAX {
        found.push(Mistake::new(&["registry"], format!("there are more than {REGISTRIES_MAX}")));
    }
    for (at, registry) in registries.iter().enumerate() {
        registry.check(found);
        if registries[..at].iter().any(|other| other.name == registry.name) {
            let why = "it is there twice: its budget is one login's";
            found.push(Mistake::new(&["registry", &registry.name, "name"], why));
        }
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
