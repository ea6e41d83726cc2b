//! Settings: a TOML file, checked once into types. Command-line flags go before it; the environment is Docker's own.
//!
//! Every key has a default, so no file is needed. An unknown key is an error: a key that is misspelt would otherwise
//! be a default that nobody wanted. All mistakes of a file are found at once, and no error holds a value of it.

mod mistake;
mod notify;
mod registry;
mod respond;
mod secret;
mod source;

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::budget::Registries;
use crate::detect;

pub use mistake::{Mistake, Mistakes};
pub use notify::{Alert, Receiver, Serve, Silence, TYPES};
pub use registry::{DockerWord, Login, Registry};
pub use respond::{Enforce, Journal, Respond, parse_response};
pub use secret::Secret;
pub use source::Source;

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
        let expected = "a time with its unit, as \"30s\", \"1m30s\", \"2h\" or \"5d\"";
        source::text(deserializer, expected, |text| parse_duration(text).ok().map(Self))
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
        source::text(deserializer, LOG_SOURCES, |text| Self::parse(text).ok())
    }
}

/// What a log's source may be.
const LOG_SOURCES: &str = "journal, none, or the path of a file (one that is here begins with ./)";

impl LogSource {
    /// Reads `journal`, `none` or a path.
    ///
    /// # Errors
    /// A sentence, if it is another word: mostly one of the two that is misspelt.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "journal" => Ok(Self::Journal),
            "none" => Ok(Self::Nowhere),
            word if word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) => {
                Err(format!("the log's source is {LOG_SOURCES}"))
            }
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
    /// Something in it is wrong.
    #[error(transparent)]
    Wrong(#[from] Mistakes),
}

impl Config {
    /// The settings of `path`; of [`DEFAULT_PATH`] if it is there and none is named; else the defaults.
    ///
    /// # Errors
    /// When a named file cannot be read, or a file is wrong.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (config, source) = Self::read(path)?;
        source.judge(Vec::new())?;
        Ok(config)
    }

    /// The same for a caller that checks more: the settings, and the file with its mistakes, for [`Source::judge`].
    ///
    /// # Errors
    /// When a named file cannot be read.
    pub fn read(path: Option<&Path>) -> Result<(Self, Source), ConfigError> {
        let named = path.unwrap_or(Path::new(DEFAULT_PATH));
        match fs::read_to_string(named) {
            Ok(text) => Ok(Source::read(&text, named)),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok((Self::default(), Source::none()))
            }
            Err(source) => Err(ConfigError::Read { path: named.to_owned(), source }),
        }
    }

    /// The settings that `text` holds.
    ///
    /// # Errors
    /// When it is wrong; `path` is named in the error.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let (config, source) = Source::read(text, path);
        source.judge(Vec::new())?;
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

    fn check(&self, found: &mut Vec<Mistake>) {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        const DAY: u64 = 86_400;
        let detect = &self.detect;
        in_range(found, &["detect", "failures"], &detect.failures, &1, &1000, "1 to 1000");
        in_range(found, &["detect", "slow_failures"], &detect.slow_failures, &1, &1000, "1 to 1000");
        in_range(found, &["detect", "per"], &detect.per, &SECS(1), &SECS(3600), "1s to 1h");
        in_range(found, &["detect", "slow_per"], &detect.slow_per, &SECS(60), &SECS(7 * DAY), "1m to 168h");
        in_range(found, &["detect", "hold_down"], &detect.hold_down, &SECS(1), &SECS(DAY), "1s to 24h");
        in_range(found, &["detect", "pending_after"], &detect.pending_after, &SECS(1), &SECS(7 * DAY), "1s to 168h");
        in_range(found, &["detect", "hanging_after"], &detect.hanging_after, &SECS(1), &SECS(7 * DAY), "1s to 168h");
        let half = Duration::from_millis(500);
        in_range(found, &["watch", "services_every"], &self.watch.services_every, &half, &SECS(600), "500ms to 10m");
        in_range(found, &["watch", "sweep_every"], &self.watch.sweep_every, &SECS(10), &SECS(DAY), "10s to 24h");
        self.respond.check(found);
        self.journal.check(found);
        self.alert.check(found);
        notify::check_receivers(&self.receiver, found);
        notify::check_silences(&self.silence, found);
        registry::check(&self.registry, found);
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

fn in_range<T: PartialOrd<B>, B>(found: &mut Vec<Mistake>, path: &[&str], value: &T, least: &B, most: &B, range: &str) {
    if value < least || value > most {
        found.push(Mistake::new(path, format!("it is out of its range: {range}")));
    }
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
        for (text, words) in [
            ("[detect]\nfailure = 5\n", "x.toml:2:1: detect.failure: unknown key: did you mean failures?"),
            ("[[recever]]\n", "x.toml:1:3: recever: unknown key: did you mean receiver?"),
            ("[detect]\nfailures = 0", "x.toml:2:1: detect.failures: it is out of its range: 1 to 1000"),
            (
                "[watch]\nservices_every = \"1ms\"",
                "x.toml:2:1: watch.services_every: it is out of its range: 500ms to 10m",
            ),
            ("[serve]\nenabled = 1", "x.toml:2:11: serve.enabled: expected true or false"),
            (
                "[serve]\nlisten = \"here\"",
                "x.toml:2:10: serve.listen: expected an address and a port, as \"127.0.0.1:9765\"",
            ),
            ("[receiver]\nname = \"ops\"", "x.toml:1:1: [[receiver]]: expected a list"),
            (
                "[[receiver]]\nname = \"ops\"\ntype = \"slack\"\n",
                "x.toml:1:1: [[receiver]] ops: secret: slack needs it",
            ),
            ("\n[detect\n", "x.toml:2:8: not TOML: unclosed table, expected `]`"),
        ] {
            assert_eq!(error(text), words);
        }
        for text in ["[detect]\nper = 5", "[detect]\nper = \"6 parsecs\""] {
            assert!(error(text).starts_with("x.toml:2:7: detect.per: expected a time with its unit, as \"30s\""));
        }
        for word in ["", "jurnal", "journald"] {
            assert!(error(&format!("[log]\nsource = \"{word}\"")).contains("log.source: expected journal, none, or"));
        }
        assert_eq!(parse_duration("5d"), Ok(Duration::from_secs(5 * 86_400)));
        assert!(parse_duration("-5d").is_err() && parse_duration("d").is_err());
    }

    #[test]
    fn all_mistakes_are_found_at_once_and_no_consequence_of_one() {
        let text = "[detect]\nfailures = 0\nper = 5\ncolour = 1\n[[receiver]]\nname = \"ops\"\ntype = \"slack\"\n\
                    secret = \"https://x\"\n[[receiver]]\nname = \"ops2\"\ntype = \"slack\"\nsecert = 1\n[alert]\nwait = \"1h\"\n";
        let Err(ConfigError::Wrong(mistakes)) = Config::parse(text, Path::new("x.toml")) else {
            panic!("it was taken")
        };
        let keys: Vec<String> =
            mistakes.lines().map(|line| line.split(": ").take(3).collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "x.toml:2:1 detect.failures it is out of its range",
            "x.toml:3:7 detect.per expected a time with its unit, as \"30s\", \"1m30s\", \"2h\" or \"5d\"",
            "x.toml:4:1 detect.colour unknown key",
            "x.toml:8:10 [[receiver]] ops secret",
            "x.toml:12:1 [[receiver]] ops2 secert",
            "x.toml:14:1 alert.wait it is out of its range",
        ];
        assert_eq!(keys, expected);
        assert!(mistakes.to_string().ends_with("(and 5 more: squall config check lists them)"), "{mistakes}");
    }

    /// All tables and keys, with a text wherever one may be.
    fn full(name: &str, secret: &str) -> String {
        let list = format!("[\"{secret}\", \"{secret}\"]");
        let silence = format!("services = {list}\nlabels = {{ \"squall.a\" = \"{secret}\" }}\ncauses = {list}\n");
        format!(
            "[docker]\nhost = \"{secret}\"\ncontext = \"{secret}\"\n\
             [detect]\nfailures = \"{secret}\"\nper = \"{secret}\"\nhold_down = \"{secret}\"\n\
             [log]\nsource = \"{secret}\"\n\
             [watch]\nservices_every = \"{secret}\"\nsweep_every = \"{secret}\"\n\
             [respond]\nact = \"{secret}\"\nenforce = \"{secret}\"\nresponse = \"{secret}\"\nallow = {list}\nmin_age = \"{secret}\"\n\
             [journal]\ndir = \"{secret}\"\nkeep = \"{secret}\"\n\
             [alert]\nwait = \"{secret}\"\ndead_man = \"{secret}\"\n\
             [serve]\nlisten = \"{secret}\"\ntoken = \"{secret}\"\ninsecure = \"{secret}\"\nhosts = {list}\n\
             [[receiver]]\nname = \"{name}\"\ntype = \"{secret}\"\nsecret = \"{secret}\"\nurl = \"{secret}\"\nto = \"{secret}\"\n\
             mention = \"{secret}\"\nheaders = {{ Authorization = \"{secret}\" }}\ntemplate = \"{secret}\"\n\
             signing_key = \"{secret}\"\nseverity_min = \"{secret}\"\nper_min = \"{secret}\"\n{silence}\
             [[receiver]]\nname = \"file\"\ntype = \"slack\"\nsecret = {{ file = \"{secret}\" }}\n\
             [[receiver]]\nname = \"env\"\ntype = \"slack\"\nsecret = {{ env = \"{secret}\" }}\n\
             [[receiver]]\nname = \"url\"\ntype = \"webhook\"\nurl = \"{secret}\"\n{silence}\
             [[silence]]\nname = \"{name}\"\nfrom = \"{secret}\"\nuntil = \"{secret}\"\ncron = \"{secret}\"\n\
             time_zone = \"{secret}\"\nlasts = \"{secret}\"\n{silence}\
             [[silence]]\nname = \"cron\"\ncron = \"{secret}\"\ntime_zone = \"{secret}\"\nlasts = \"1h\"\n\
             [[registry]]\nname = \"{name}\"\nurl = \"{secret}\"\nrepository = \"{secret}\"\nauthentication = \"{secret}\"\n\
             pulls = \"{secret}\"\nwindow = \"{secret}\"\nlogin = \"{secret}\"\n\
             [[registry]]\nname = \"docker.io\"\nurl = \"http://a:{secret}\"\nlogin = {{ file = \"{secret}\" }}\n"
        )
    }

    /// All that is said of a file: at its reading, and when its receivers and silences are opened.
    fn said(text: &str) -> String {
        let (config, source) = Source::read(text, Path::new("x.toml"));
        let env = |_: &str| None;
        let receivers = config.receiver.iter().filter_map(|receiver| receiver.open(&env).err());
        let silences = config.silence.iter().filter_map(|silence| silence.open().err());
        let secrets = [&config.alert.dead_man, &config.serve.token].into_iter().flatten();
        let secrets = secrets.filter_map(|secret| secret.read(&env).err());
        let mut said: Vec<String> =
            receivers.chain(silences).map(|mistake| mistake.to_string()).chain(secrets).collect();
        if let Err(ConfigError::Wrong(mistakes)) = source.judge(Vec::new()) {
            said.extend(mistakes.lines());
            said.push(mistakes.to_string());
            said.push(format!("{mistakes:?}"));
        }
        said.join("\n")
    }

    #[test]
    fn no_error_prints_a_value_of_the_file_whatever_is_wrong() {
        // A URL, serde's own words, and a token, which would be shown where a name is asked for.
        let (url, words, token) =
            ("https://hooks.example/CANARY", "a`, expected `CANARY` is none of CANARY", "x-CANARY");
        for (name, secret) in [(url, url), (words, words), ("ops", token)] {
            let full = full(name, secret);
            let assert_silent = |text: &str, what: &str| {
                let said = said(text);
                assert!(!said.is_empty() && !said.contains("CANARY"), "{what}\n{said}");
            };
            assert_silent(&full, "all of it");
            let lines: Vec<&str> = full.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                let Some((key, value)) = line.split_once(" = ").filter(|_| line.contains("CANARY")) else { continue };
                for wrong in [
                    format!("{key} {value}"),
                    format!("{key} = {}", value.trim_end_matches(['"', ']', '}', ' '])),
                    format!("{key} = {}", value.replace('"', "")),
                    format!("{key} = {value} {value}"),
                    format!("{key} = [{value}]"),
                    format!("{key} = {{ file = {value}, env = {value} }}"),
                    format!("{key} = {{ file = [{value}] }}"),
                    format!("{key} = {{ path = {value} }}"),
                    format!("{key}s = {value}"),
                    format!("{line}\n{line}"),
                    value.to_owned(),
                ] {
                    let mut text = lines.clone();
                    text[at] = &wrong;
                    assert_silent(&text.join("\n"), &wrong);
                }
            }
        }
    }
}
