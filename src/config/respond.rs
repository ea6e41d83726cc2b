//! `[respond]` and `[journal]`: what is done about a storm, and where history is kept.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{Mistake, Span, in_range, quoted, quoted_list, source};
use crate::journal;
use crate::model::Response;
use crate::respond;

/// `[respond]`: see [`respond::Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Respond {
    /// Whether squall acts, or only says what it would have done.
    pub act: bool,
    /// Whose storms are acted on.
    pub enforce: Enforce,
    /// The response where a service's label names none.
    #[serde(deserialize_with = "response")]
    pub response: Response,
    /// Names of services that are opted in; `*` stands for any text.
    pub allow: Vec<String>,
    /// The least failed attempts of a storm, 1 to 16.
    pub min_failures: u64,
    /// Its least age, 0 s to 1 h.
    pub min_age: Span,
    /// Actions an hour over all services, 4 to 3600: of fewer, three quarters are no watched attempt.
    pub actions_per_hour: u32,
    /// The time between two quarantines of one service, 1 s to 1 d.
    pub cool_down: Span,
    /// The share of the services that may be held by what a person has to undo, 0 to 100 %.
    pub held_share_pct: u64,
    /// So many may be held whatever their share, 0 to 1000.
    pub held_min: u64,
    /// Whether healthy replicas may be taken away with those that loop.
    pub allow_healthy: bool,
    /// The first delay of the back-off, 1 s to 1 h.
    pub backoff_min: Span,
    /// The longest, up to 1 d.
    pub backoff_max: Span,
    /// How long a watched attempt has to run, 1 s to 1 h.
    pub stable_for: Span,
}

/// Whose storms are acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// Services with a label `squall.response`, and those of the allow-list.
    #[default]
    OptedIn,
    /// Every service.
    All,
}

/// `[journal]`: see [`journal::Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Where it is kept; `STATE_DIRECTORY`, as systemd sets it, where this is absent, else `/var/lib/squall` for root
    /// and `squall` in `XDG_STATE_HOME` for others.
    pub dir: Option<PathBuf>,
    /// How long, 1 day to 10 years.
    pub keep: Span,
    /// How many MiB at most, 8 to 65,536.
    pub size_max_mib: u64,
}

impl Default for Respond {
    fn default() -> Self {
        let defaults = respond::Settings::default();
        Self {
            act: defaults.act,
            enforce: Enforce::OptedIn,
            response: defaults.response,
            allow: defaults.allow,
            min_failures: defaults.min_failures,
            min_age: Span(defaults.min_age),
            actions_per_hour: defaults.actions_per_hour.get(),
            cool_down: Span(defaults.cool_down),
            held_share_pct: defaults.held_share_pct,
            held_min: defaults.held_min,
            allow_healthy: defaults.allow_healthy,
            backoff_min: Span(defaults.backoff_min),
            backoff_max: Span(defaults.backoff_max),
            stable_for: Span(defaults.stable_for),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        let defaults = journal::Settings::new(PathBuf::new());
        Self { dir: None, keep: Span(defaults.keep), size_max_mib: defaults.bytes_max >> 20 }
    }
}

fn response<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Response, D::Error> {
    source::text(deserializer, &format!("one of {}", responses()), Response::from_word)
}

fn responses() -> String {
    let words: Vec<&str> = Response::ALL.iter().map(|response| response.as_str()).collect();
    words.join(", ")
}

/// Reads a response's word.
///
/// # Errors
/// A sentence that has all of them, when it is none.
pub fn parse_response(word: &str) -> Result<Response, String> {
    Response::from_word(word).ok_or_else(|| format!("`{word}` is no response: it is one of {}", responses()))
}

impl Respond {
    /// What the policy goes by.
    pub fn settings(&self) -> respond::Settings {
        respond::Settings {
            act: self.act,
            enforce: match self.enforce {
                Enforce::OptedIn => respond::Enforce::OptedIn,
                Enforce::All => respond::Enforce::All,
            },
            response: self.response,
            allow: self.allow.clone(),
            min_failures: self.min_failures,
            min_age: self.min_age.0,
            actions_per_hour: NonZeroU32::new(self.actions_per_hour).unwrap_or(NonZeroU32::MIN),
            cool_down: self.cool_down.0,
            held_share_pct: self.held_share_pct,
            held_min: self.held_min,
            allow_healthy: self.allow_healthy,
            backoff_min: self.backoff_min.0,
            backoff_max: self.backoff_max.0,
            stable_for: self.stable_for.0,
        }
    }

    pub(super) fn check(&self, found: &mut Vec<Mistake>) {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        const DAY: u64 = 86_400;
        in_range(found, &["respond", "min_failures"], &self.min_failures, &1, &16, "1 to 16");
        in_range(found, &["respond", "min_age"], &self.min_age, &SECS(0), &SECS(3600), "0s to 1h");
        in_range(found, &["respond", "actions_per_hour"], &self.actions_per_hour, &4, &3600, "4 to 3600");
        in_range(found, &["respond", "cool_down"], &self.cool_down, &SECS(1), &SECS(DAY), "1s to 24h");
        in_range(found, &["respond", "held_share_pct"], &self.held_share_pct, &0, &100, "0 to 100");
        in_range(found, &["respond", "held_min"], &self.held_min, &0, &1000, "0 to 1000");
        in_range(found, &["respond", "backoff_min"], &self.backoff_min, &SECS(1), &SECS(3600), "1s to 1h");
        let range = "respond.backoff_min to 24h";
        in_range(found, &["respond", "backoff_max"], &self.backoff_max, &self.backoff_min.0, &SECS(DAY), range);
        in_range(found, &["respond", "stable_for"], &self.stable_for, &SECS(1), &SECS(3600), "1s to 1h");
    }

    /// Checks that a response that holds nothing is not enforced on all services. It is no part of reading the file, as
    /// flags may change either.
    ///
    /// # Errors
    /// When it is, with the setting to change.
    pub fn check_reach(&self) -> Result<(), Mistake> {
        if self.enforce != Enforce::All || self.response != Response::Observe {
            return Ok(());
        }
        let why = "observe holds nothing, so enforce = \"all\" has no effect: set response (or --response) to backoff, \
                   pause or scale-to-zero; to hold only services with a label squall.response, leave enforce at opted-in";
        Err(Mistake::new(&["respond", "response"], why))
    }
}

impl Journal {
    /// The directory: what the settings name, or else what `env` tells. `None` where there is none.
    pub fn directory(&self, env: &dyn Fn(&str) -> Option<String>, is_root: bool) -> Option<PathBuf> {
        let var = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let named = self.dir.clone().or_else(|| var("STATE_DIRECTORY"));
        named.or_else(|| match is_root {
            true => Some(PathBuf::from("/var/lib/squall")),
            false => {
                let state = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
                Some(state?.join("squall"))
            }
        })
    }

    /// What the journal goes by, in this directory.
    pub fn settings(&self, dir: PathBuf) -> journal::Settings {
        journal::Settings { keep: self.keep.0, bytes_max: self.size_max_mib << 20, ..journal::Settings::new(dir) }
    }

    pub(super) fn check(&self, found: &mut Vec<Mistake>) {
        const HOUR: u64 = 3600;
        let (least, most) = (Duration::from_secs(24 * HOUR), Duration::from_secs(10 * 365 * 24 * HOUR));
        in_range(found, &["journal", "keep"], &self.keep, &least, &most, "24h to 87600h");
        in_range(found, &["journal", "size_max_mib"], &self.size_max_mib, &8, &65_536, "8 to 65536");
    }
}

impl fmt::Display for Respond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enforce = match self.enforce {
            Enforce::OptedIn => "opted-in",
            Enforce::All => "all",
        };
        write!(
            f,
            "[respond]\n\
             # Whether squall acts (as `watch --enforce`), or only says what it would have done.\n\
             act = {act}\n\
             # Whose storms: \"opted-in\" (label squall.response, or the list below) or \"all\".\n\
             enforce = \"{enforce}\"\n\
             allow = {allow}\n\
             # What is done where no label says it: \"observe\", \"pause\", \"scale-to-zero\" or \"backoff\".\n\
             response = \"{response}\"\n\
             # A storm has to have failed so often, and to be so old.\n\
             min_failures = {min_failures}\n\
             min_age = \"{min_age}\"\n\
             # Actions over all services, and the time between two quarantines of one.\n\
             actions_per_hour = {actions_per_hour}\n\
             cool_down = \"{cool_down}\"\n\
             # What a person has to undo holds at most this share of the services (at least so many); then it is backoff.\n\
             held_share_pct = {held_share_pct}\n\
             held_min = {held_min}\n\
             # Whether replicas that are healthy may be taken away with those that loop.\n\
             allow_healthy = {allow_healthy}\n\
             # backoff: the first and the longest delay, and how long a watched attempt has to run.\n\
             backoff_min = \"{backoff_min}\"\n\
             backoff_max = \"{backoff_max}\"\n\
             stable_for = \"{stable_for}\"\n",
            act = self.act,
            allow = quoted_list(&self.allow),
            response = self.response,
            min_failures = self.min_failures,
            min_age = self.min_age,
            actions_per_hour = self.actions_per_hour,
            cool_down = self.cool_down,
            held_share_pct = self.held_share_pct,
            held_min = self.held_min,
            allow_healthy = self.allow_healthy,
            backoff_min = self.backoff_min,
            backoff_max = self.backoff_max,
            stable_for = self.stable_for,
        )
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = match &self.dir {
            Some(dir) => format!("dir = {}", quoted(&dir.display().to_string())),
            None => "# dir = \"/var/lib/squall\"".to_owned(),
        };
        write!(
            f,
            "[journal]\n\
             # The directory of squall's history; without it STATE_DIRECTORY, /var/lib/squall, or for\n\
             # others than root ~/.local/state/squall.\n\
             {dir}\n\
             # How long it is kept, and how large it may be.\n\
             keep = \"{keep}\"\n\
             size_max_mib = {size}\n",
            keep = self.keep,
            size = self.size_max_mib,
        )
    }
}
