//! Settings: a TOML file, checked once into types. Command-line flags go before it; the environment is Docker's own.
//!
//! Every key has a default, so no file is needed. An unknown key is an error: a key that is misspelt would otherwise
//! be a default that nobody wanted.

mod notify;
mod registry;
mod respond;

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::budget::Registries;
use crate::detect;

pub use notify::{Alert, Receiver, Secret, Serve, Silence, TYPES};
pub use registry::{DockerWord, Login, Registry};
pub use respond::{Enforce, Journal, Respond, parse_response};

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/squall/squall.toml";

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which Docker to talk to.
    pub docker: Docker,
    /// When a storm begins and ends.
    pub detect: Detect,
    /// Where dockerd's log is.
    pub log: Log,
    /// How often the daemon looks.
    pub watch: Watch,
    /// What is done about a storm.
    pub respond: Respond,
    /// Where history is kept.
    pub journal: Journal,
    /// When people are told.
    pub alert: Alert,
    /// Where alerts go.
    pub receiver: Vec<Receiver>,
    /// When what is not told.
    pub silence: Vec<Silence>,
    /// Where squall shows itself.
    pub serve: Serve,
    /// Registries whose pull budget is asked for.
    pub registry: Vec<Registry>,
}

/// `[docker]`: as the docker command's flags; its environment and contexts apply when both are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// `--host`.
    pub host: Option<String>,
    /// `--context`.
    pub context: Option<String>,
}

/// `[detect]`: see [`detect::Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detect {
    /// Failures allowed at once, 1 to 1000.
    pub failures: u32,
    /// The period in which one more is allowed, 1 s to 1 h.
    pub per: Span,
    /// The same of the slow quota, for each slot, 1 to 1000.
    pub slow_failures: u32,
    /// 1 min to 7 d.
    pub slow_per: Span,
    /// The least time without failure until a storm has subsided, 1 s to 1 d.
    pub hold_down: Span,
    /// How long a task may be pending, 1 s to 7 d.
    pub pending_after: Span,
    /// How long a task may be preparing, 1 s to 7 d.
    pub hanging_after: Span,
}

/// `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `journal` (the default: journald's unit docker.service), `none`, or the path of a file that may be rotated.
    pub source: LogSource,
}

/// Where dockerd's log is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogSource {
    /// `journalctl --unit=docker.service`, where the daemon is this machine's own.
    #[default]
    Journal,
    /// A file that may be rotated.
    File(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// `[watch]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// How often services are listed with their status, 500 ms to 10 min. It grows by itself where a listing takes
    /// long: up to 15 s so that listing takes at most a fiftieth of the time, and beyond it so that it takes at most a
    /// tenth. Default 2 s: a slot that fails each second is short of its task, and found before Swarm forgets its first
    /// failure, as Swarm keeps five tasks a slot.
    pub services_every: Span,
    /// How often all tasks are listed, 10 s to 1 d. Default 5 min: it is much to list (92 MB of 10,000 services with
    /// ten tasks each), and the five tasks a slot that Swarm keeps reach back so far in a loop of 75 s or more; the
    /// list of services shows who lacks a task in a faster one.
    pub sweep_every: Span,
}

impl Default for Detect {
    fn default() -> Self {
        let defaults = detect::Settings::default();
        Self {
            failures: defaults.failures.get(),
            per: Span(defaults.per),
            slow_failures: defaults.slow_failures.get(),
            slow_per: Span(defaults.slow_per),
            hold_down: Span(defaults.hold_down_min),
            pending_after: Span(defaults.pending_after),
            hanging_after: Span(defaults.hanging_after),
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { services_every: Span(Duration::from_secs(2)), sweep_every: Span(Duration::from_secs(300)) }
    }
}

/// A duration as a text with its unit: `30s`, `1m30s`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX);
        write!(f, "{span:#}")
    }
}

/// Reads a duration with its unit.
///
/// # Errors
/// A sentence, when it is none, or is negative.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // jiff knows no days where daylight saving may make them 23 hours long.
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 86_400));
    }
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| format!("`{text}` is no duration: write a number with its unit, as 30s, 1m30s, 2h or 5d"))
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl LogSource {
    /// Reads `journal`, `none` or a path.
    ///
    /// # Errors
    /// A sentence, when it is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("the log's source is empty: write journal, none, or a file's path".to_owned()),
            "journal" => Ok(Self::Journal),
            "none" => Ok(Self::Nowhere),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal => f.write_str("journal"),
            Self::Nowhere => f.write_str("none"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path} (`squall config init` prints one)")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has an unknown key or a value of another type.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What toml says, with line, column and caret.
        message: String,
    },
    /// A value out of its range.
    #[error("{key} = {value} is out of its range: {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// An entry of a list that cannot be.
    #[error("{what}: {why}")]
    Entry {
        /// The entry.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// An entry of a list that cannot be.
fn bad(what: String, why: impl Into<String>) -> ConfigError {
    ConfigError::Entry { what, why: why.into() }
}

impl Config {
    /// The settings of `path`; of [`DEFAULT_PATH`] if it is there and none is named; else the defaults.
    ///
    /// # Errors
    /// When a named file cannot be read, or a file is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let named = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(named) {
            Ok(text) => Self::parse(&text, named),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: named.to_owned(), source }),
        }
    }

    /// The settings that `text` holds.
    ///
    /// # Errors
    /// When it is wrong; `path` is named in the error.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
        config.check()?;
        Ok(config)
    }

    /// What the detector goes by.
    pub fn detector(&self) -> detect::Settings {
        let detect = &self.detect;
        let count = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        detect::Settings {
            failures: count(detect.failures),
            per: detect.per.0,
            slow_failures: count(detect.slow_failures),
            slow_per: detect.slow_per.0,
            hold_down_min: detect.hold_down.0,
            pending_after: detect.pending_after.0,
            hanging_after: detect.hanging_after.0,
            registries: self.registries(),
            ..detect::Settings::default()
        }
    }

    /// What registries want and allow.
    pub fn registries(&self) -> Registries {
        Registries::new(self.registry.iter().map(|registry| (registry.name.clone(), registry.terms())).collect())
    }

    fn check(&self) -> Result<(), ConfigError> {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        const DAY: u64 = 86_400;
        let detect = &self.detect;
        in_range("detect.failures", &detect.failures, &1, &1000, "1 to 1000")?;
        in_range("detect.slow_failures", &detect.slow_failures, &1, &1000, "1 to 1000")?;
        in_range("detect.per", &detect.per, &SECS(1), &SECS(3600), "1s to 1h")?;
        in_range("detect.slow_per", &detect.slow_per, &SECS(60), &SECS(7 * DAY), "1m to 168h")?;
        in_range("detect.hold_down", &detect.hold_down, &SECS(1), &SECS(DAY), "1s to 24h")?;
        in_range("detect.pending_after", &detect.pending_after, &SECS(1), &SECS(7 * DAY), "1s to 168h")?;
        in_range("detect.hanging_after", &detect.hanging_after, &SECS(1), &SECS(7 * DAY), "1s to 168h")?;
        let half = Duration::from_millis(500);
        in_range("watch.services_every", &self.watch.services_every, &half, &SECS(600), "500ms to 10m")?;
        in_range("watch.sweep_every", &self.watch.sweep_every, &SECS(10), &SECS(DAY), "10s to 24h")?;
        self.respond.check()?;
        self.journal.check()?;
        self.alert.check()?;
        notify::check_receivers(&self.receiver)?;
        notify::check_silences(&self.silence)?;
        registry::check(&self.registry)
    }

    /// The settings as a file, each with its meaning: what `config init` and `config show` print.
    pub fn render(&self) -> String {
        let detect = &self.detect;
        let optional = |key: &str, value: &Option<String>| match value {
            Some(value) => format!("{key} = {}", quoted(value)),
            None => format!("# {key} = \"\""),
        };
        format!(
            "# squall's settings. Every key may be left out: what stands here is its default.\n\
             \n\
             [docker]\n\
             # As the docker command's --host and --context; without them its environment applies.\n\
             {host}\n\
             {context}\n\
             \n\
             [detect]\n\
             # A storm begins with the failure after so many at once ...\n\
             failures = {failures}\n\
             # ... where one more is allowed in each such period.\n\
             per = \"{per}\"\n\
             # The same for slow loops, counted for each slot by itself.\n\
             slow_failures = {slow_failures}\n\
             slow_per = \"{slow_per}\"\n\
             # A storm has subsided after three loop periods without failure, at least after this.\n\
             hold_down = \"{hold_down}\"\n\
             # Tasks that wait longer for a node, or for their image, are reported.\n\
             pending_after = \"{pending_after}\"\n\
             hanging_after = \"{hanging_after}\"\n\
             \n\
             [log]\n\
             # dockerd's log: \"journal\" (docker.service in journald), a file's path, or \"none\".\n\
             source = {source}\n\
             \n\
             [watch]\n\
             # How often services are listed, and all tasks.\n\
             services_every = \"{services_every}\"\n\
             sweep_every = \"{sweep_every}\"\n\
             \n\
             {respond}\n\
             {journal}\n\
             {serve}\n\
             {alert}\n\
             {lists}",
            host = optional("host", &self.docker.host),
            context = optional("context", &self.docker.context),
            failures = detect.failures,
            per = detect.per,
            slow_failures = detect.slow_failures,
            slow_per = detect.slow_per,
            hold_down = detect.hold_down,
            pending_after = detect.pending_after,
            hanging_after = detect.hanging_after,
            source = quoted(&self.log.source.to_string()),
            services_every = self.watch.services_every,
            sweep_every = self.watch.sweep_every,
            respond = self.respond,
            journal = self.journal,
            serve = self.serve,
            alert = self.alert,
            lists = notify::render_lists(&self.receiver, &self.silence, &self.registry),
        )
    }
}

/// A text as TOML writes it: what Rust escapes, TOML does not know.
fn quoted(text: &str) -> toml::Value {
    toml::Value::String(text.to_owned())
}

/// The same of a list.
fn quoted_list(texts: &[String]) -> toml::Value {
    toml::Value::Array(texts.iter().map(|text| quoted(text)).collect())
}

fn in_range<T: PartialOrd<B> + fmt::Display, B>(
    key: &'static str,
    value: &T,
    least: &B,
    most: &B,
    range: &'static str,
) -> Result<(), ConfigError> {
    if value < least || value > most {
        return Err(ConfigError::Range { key, value: value.to_string(), range });
    }
    Ok(())
}

impl PartialEq<Duration> for Span {
    fn eq(&self, other: &Duration) -> bool {
        self.0 == *other
    }
}

impl PartialOrd<Duration> for Span {
    fn partial_cmp(&self, other: &Duration) -> Option<std::cmp::Ordering> {
        self.0.partial_cmp(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match Config::parse(text, Path::new("x.toml")) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_init_prints_reads_back_as_the_defaults() {
        let text = Config::default().render();
        assert_eq!(Config::parse(&text, Path::new("x.toml")).expect("good"), Config::default());
    }

    #[test]
    fn what_show_prints_reads_back() {
        let text = "[docker]\nhost = \"unix:///x\"\n[detect]\nper = \"1m 30s\"\n[log]\nsource = \"/var/log/messages\"";
        let config = Config::parse(text, Path::new("x.toml")).expect("good");
        assert_eq!(config.detect.per.0, Duration::from_secs(90));
        assert_eq!(Config::parse(&config.render(), Path::new("x.toml")).expect("good"), config);
    }

    #[test]
    fn what_show_prints_reads_back_whatever_characters_are_in_it() {
        let odd = "\\u0000 \\u007f \\u200b \\t \\\" \\\\ '";
        let text = format!(
            "[docker]\nhost = \"{odd}\"\n[log]\nsource = \"{odd}\"\n[journal]\ndir = \"{odd}\"\n\
             [respond]\nallow = [\"{odd}\", \"shop_*\"]\n[serve]\nhosts = [\"{odd}\"]\ntoken = {{ file = \"{odd}\" }}\n\
             [alert]\ndead_man = {{ env = \"{odd}\" }}"
        );
        let config = Config::parse(&text, Path::new("x.toml")).expect("good");
        assert!(config.docker.host.as_ref().is_some_and(|host| host.contains('\u{7f}')));
        assert_eq!(Config::parse(&config.render(), Path::new("x.toml")).expect("good"), config);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let unknown = error("[detect]\nfailure = 5\n");
        assert!(unknown.contains("line 2") && unknown.contains("unknown field `failure`"), "{unknown}");
        assert!(error("[detect]\nper = \"6 parsecs\"").contains("no duration"));
        assert_eq!(parse_duration("5d"), Ok(Duration::from_secs(5 * 86_400)));
        assert!(parse_duration("-5d").is_err() && parse_duration("d").is_err());
        assert!(error("[detect]\nper = 5").contains("line 2"));
        assert_eq!(error("[detect]\nfailures = 0"), "detect.failures = 0 is out of its range: 1 to 1000");
        assert_eq!(
            error("[watch]\nservices_every = \"1ms\""),
            "watch.services_every = 1ms is out of its range: 500ms to 10m"
        );
        assert!(error("[log]\nsource = \"\"").contains("source is empty"));
    }
}
