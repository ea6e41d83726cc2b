//! Secrets: the settings hold where they are, and nothing repeats what stands there.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Error, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::quoted;

/// The largest secret or template file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Something that is not to be read in this file: where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// A file, as Docker's secrets are.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

/// Where a secret is read from. One that stands here itself is never repeated.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ file = \"PATH\" } or { env = \"VARIABLE\" }: where the secret is, and not the secret")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let secret = match map.next_key::<String>()?.as_deref() {
                    Some("file") => Secret::File(map.next_value()?),
                    Some("env") => Secret::Env(map.next_value()?),
                    _ => return Err(A::Error::invalid_value(Unexpected::Other("table"), &self)),
                };
                match map.next_key::<IgnoredAny>()? {
                    None => Ok(secret),
                    Some(_) => Err(A::Error::invalid_value(Unexpected::Other("table"), &self)),
                }
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence with its place, and never with what is there.
    pub fn read(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, String> {
        let text = match self {
            Self::File(path) => small_file(path)?,
            Self::Env(name) => env(name).ok_or_else(|| format!("{self} is not set"))?,
        };
        match text.trim() {
            "" => Err(format!("{self} is empty")),
            text if text.chars().any(char::is_control) => Err(format!("{self} has more than one line")),
            text => Ok(text.into()),
        }
    }
}

impl Secret {
    /// Where it is, as a file of settings has it.
    pub(super) fn inline(&self) -> String {
        match self {
            Self::File(path) => format!("{{ file = {} }}", quoted(&path.display().to_string())),
            Self::Env(name) => format!("{{ env = {} }}", quoted(name)),
        }
    }
}

/// Reads a secret's or a template's file.
pub(super) fn small_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", shown_path(path));
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{} is larger than 64 KiB", shown_path(path)));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Only an absolute path is shown: what else stands there may be the secret itself.
pub(super) fn shown_path(path: &Path) -> String {
    if path.is_absolute() { path.display().to_string() } else { "the file that is named".to_owned() }
}

impl fmt::Display for Secret {
    /// Where it is. A name that is no variable's, as people write them, is not shown: it may be the secret itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown_path(path)),
            Self::Env(name) if name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')) => {
                write!(f, "the variable {name}")
            }
            Self::Env(_) => f.write_str("the variable that is named"),
        }
    }
}

/// A secret that is a URL. What it holds is not said.
pub(super) fn checked_url(url: SecretString) -> Result<SecretString, String> {
    if is_url(url.expose_secret()) { Ok(url) } else { Err(format!("what it holds {NO_URL}")) }
}

/// Follows "it" or "what it holds".
pub(super) const NO_URL: &str = "is no URL: it begins with https:// or http://, and a host follows";

pub(super) fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
