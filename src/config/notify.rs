//! `[alert]`, `[[receiver]]`, `[[silence]]` and `[serve]`: who is told what, and where squall shows itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use governor::Quota;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::registry::Registry;
use super::{ConfigError, Span, bad, in_range, quoted, quoted_list};
use crate::model::{Cause, Severity, Timestamp};
use crate::notify::receiver::{
    Alertmanager, Discord, GoogleChat, Kind, Mattermost, Ntfy, PagerDuty, Slack, Teams, Telegram, Template, Webhook,
};
use crate::notify::{self, Filter, Silence as Quiet, Way, When, Window};

/// How many receivers and silences there may be.
const LIST_MAX: usize = 100;
/// The largest secret or template file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// `[alert]`: see [`notify::Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alert {
    /// How long the first message about a storm waits for others, 0 s to 10 min.
    pub wait: Span,
    /// The least time between two messages of one conversation, 1 s to 1 h.
    pub spacing: Span,
    /// When it is said first that something still storms, 1 min to 7 d.
    pub repeat_min: Span,
    /// The longest of these times.
    pub repeat_max: Span,
    /// A URL that is asked as long as all is well with squall, so that its silence is noticed.
    pub dead_man: Option<Secret>,
    /// How often, 1 s to 1 h. Default 1 min: who waits for such requests counts in minutes.
    pub dead_man_every: Span,
}

/// Something that is not to be read in this file: where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// A file, as Docker's secrets are.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
}

/// `[[receiver]]`: where alerts go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receiver {
    /// Its name: letters, digits, `-` and `_`, at most 40.
    pub name: String,
    /// One of [`TYPES`].
    pub r#type: String,
    /// The webhook's URL (Slack, Discord, Teams, Mattermost, Google Chat, webhook), the bot's token (Telegram), the
    /// access token (ntfy) or the integration key (PagerDuty).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// A URL that is no secret: the server of ntfy, Alertmanager or Telegram, a webhook's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The chat (Telegram) or the topic (ntfy).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whom to ping, as the receiver writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mention: Option<String>,
    /// Further headers (webhook, Alertmanager).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// The body's template, a file (webhook).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The key that the body is signed with (webhook).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<Secret>,
    /// Only these services; `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Only services with these labels `squall.*`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Only these causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Only alerts that are so bad, and the ends of conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity_min: Option<Severity>,
    /// How many alerts a minute, 1 to 600. Default 20: Telegram takes no more from a bot for one group
    /// (core.telegram.org/bots/faq).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_min: Option<u32>,
}

/// The types of receivers.
pub const TYPES: [&str; 11] = [
    "slack",
    "discord",
    "teams",
    "mattermost",
    "google-chat",
    "telegram",
    "ntfy",
    "pagerduty",
    "alertmanager",
    "webhook",
    "desktop",
];

/// `[[silence]]`: when what is not told. What happened meanwhile is told at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Silence {
    /// Its name.
    pub name: String,
    /// Only these services; `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// Only services with these labels `squall.*`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Only these causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Its first moment, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// The first moment after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Or a cron expression of five fields: when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone of that. Default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long it lasts, 1 min to 7 d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
}

/// `[serve]`: metrics, health, status page and API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Whether it is served.
    pub enabled: bool,
    /// The address and port. Default 127.0.0.1:9765: this machine only, and a port among those that Prometheus keeps
    /// for exporters (9100 to 9999).
    pub listen: SocketAddr,
    /// The token that is demanded; needed where `listen` is no loopback address.
    pub token: Option<Secret>,
    /// Whether anybody may read it without a token.
    pub insecure: bool,
    /// Names of this host that browsers may use.
    pub hosts: Vec<String>,
}

impl Default for Alert {
    fn default() -> Self {
        let defaults = notify::Settings::default();
        Self {
            wait: Span(defaults.wait),
            spacing: Span(defaults.spacing),
            repeat_min: Span(defaults.repeat_min),
            repeat_max: Span(defaults.repeat_max),
            dead_man: None,
            dead_man_every: Span(Duration::from_secs(60)),
        }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9765)),
            token: None,
            insecure: false,
            hosts: Vec::new(),
        }
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
            Self::Env(name) => env(name).ok_or_else(|| format!("the variable {name} is not set"))?,
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
    fn inline(&self) -> String {
        match self {
            Self::File(path) => format!("{{ file = {} }}", quoted(&path.display().to_string())),
            Self::Env(name) => format!("{{ env = {} }}", quoted(name)),
        }
    }
}

fn small_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{} is larger than 64 KiB", path.display()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(name) => write!(f, "the variable {name}"),
        }
    }
}

impl Alert {
    /// What the desk goes by.
    pub fn settings(&self, node: String, silences: Vec<Quiet>) -> notify::Settings {
        notify::Settings {
            node,
            wait: self.wait.0,
            spacing: self.spacing.0,
            repeat_min: self.repeat_min.0,
            repeat_max: self.repeat_max.0,
            silences,
            ..notify::Settings::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        const WEEK: u64 = 7 * 86_400;
        in_range("alert.wait", &self.wait, &SECS(0), &SECS(600), "0s to 10m")?;
        in_range("alert.spacing", &self.spacing, &SECS(1), &SECS(3600), "1s to 1h")?;
        in_range("alert.repeat_min", &self.repeat_min, &SECS(60), &SECS(WEEK), "1m to 168h")?;
        let range = "alert.repeat_min to 168h";
        in_range("alert.repeat_max", &self.repeat_max, &self.repeat_min.0, &SECS(WEEK), range)?;
        in_range("alert.dead_man_every", &self.dead_man_every, &SECS(1), &SECS(3600), "1s to 1h")
    }
}

pub(super) fn check_receivers(receivers: &[Receiver]) -> Result<(), ConfigError> {
    if receivers.len() > LIST_MAX {
        return Err(bad("[[receiver]]".to_owned(), format!("there are more than {LIST_MAX}")));
    }
    for (at, receiver) in receivers.iter().enumerate() {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !is_name(&receiver.name) {
            let why = "name = letters, digits, - and _, at most 40, is missing or is none";
            return Err(bad(format!("[[receiver]] number {}", at + 1), why));
        }
        if receivers[..at].iter().any(|other| other.name == receiver.name) {
            return Err(bad(receiver.what(), "the name is there twice"));
        }
        receiver.check()?;
    }
    Ok(())
}

impl Receiver {
    fn what(&self) -> String {
        format!("[[receiver]] {}", self.name)
    }

    /// Each type needs some keys, and has no use for others: those would be a wish that is not fulfilled.
    fn check(&self) -> Result<(), ConfigError> {
        let keys: [(&str, bool); 7] = [
            ("secret", self.secret.is_some()),
            ("url", self.url.is_some()),
            ("to", self.to.is_some()),
            ("mention", self.mention.is_some()),
            ("headers", !self.headers.is_empty()),
            ("template", self.template.is_some()),
            ("signing_key", self.signing_key.is_some()),
        ];
        let (needs, takes): (&[&str], &[&str]) = match &*self.r#type {
            "slack" | "discord" | "teams" | "mattermost" | "google-chat" => (&["secret"], &["mention"]),
            "telegram" => (&["secret", "to"], &["url", "mention"]),
            "ntfy" => (&["to"], &["secret", "url"]),
            "pagerduty" => (&["secret"], &["url"]),
            "alertmanager" => (&["url"], &["headers"]),
            "webhook" => (&[], &["secret", "url", "headers", "template", "signing_key"]),
            "desktop" => (&[], &[]),
            other => {
                let why = format!("type = {other:?} is none of {}", TYPES.join(", "));
                return Err(bad(self.what(), why));
            }
        };
        for (key, is_there) in keys {
            if needs.contains(&key) && !is_there {
                return Err(bad(self.what(), format!("{} needs {key}", self.r#type)));
            }
            if is_there && !needs.contains(&key) && !takes.contains(&key) {
                return Err(bad(self.what(), format!("{} has no use for {key}", self.r#type)));
            }
        }
        if self.r#type == "webhook" && self.secret.is_some() == self.url.is_some() {
            return Err(bad(self.what(), "webhook needs url, or secret where the URL is one"));
        }
        if let Some(url) = &self.url {
            // It is shown by `config show`, and here.
            if url.contains('@') {
                return Err(bad(self.what(), "url has a password or an @: it belongs into secret or into headers"));
            }
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return Err(bad(self.what(), format!("url = {url:?} begins with neither https:// nor http://")));
            }
        }
        if let Some(name) = self.headers.keys().find(|name| name.to_ascii_lowercase().starts_with("x-squall-")) {
            return Err(bad(self.what(), format!("the header {name} is squall's own")));
        }
        check_labels(&self.labels).map_err(|why| bad(self.what(), why))?;
        in_range("per_min", &self.per_min.unwrap_or(20), &1, &600, "1 to 600")
            .map_err(|error| bad(self.what(), error.to_string()))
    }

    /// What the courier goes by.
    ///
    /// # Errors
    /// When a secret or a template cannot be read; the receiver is named, and no secret.
    pub fn open(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<notify::Receiver, ConfigError> {
        let failed = |why: String| bad(self.what(), why);
        let read = |secret: &Secret| secret.read(env).map_err(failed);
        let secret = self.secret.as_ref().map(read).transpose()?;
        let url = self.url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        let needed = || secret.clone().ok_or_else(|| failed("secret is missing".to_owned()));
        let (mention, to) = (self.mention.clone(), self.to.clone().unwrap_or_default());
        let headers = || {
            let read = |(name, secret): (&String, &Secret)| Ok((name.clone(), read(secret)?));
            self.headers.iter().map(read).collect::<Result<Vec<_>, ConfigError>>()
        };
        let kind = match &*self.r#type {
            "slack" => Kind::Slack(Slack { url: needed()?, mention }),
            "discord" => Kind::Discord(Discord { url: needed()?, mention }),
            "teams" => Kind::Teams(Teams { url: needed()?, mention }),
            "mattermost" => Kind::Mattermost(Mattermost { url: needed()?, mention }),
            "google-chat" => Kind::GoogleChat(GoogleChat { url: needed()?, mention }),
            "telegram" => {
                let api_url = url.unwrap_or_else(|| Telegram::API_URL.to_owned());
                Kind::Telegram(Telegram { api_url, token: needed()?, chat_id: to, mention })
            }
            "ntfy" => {
                let url = url.unwrap_or_else(|| "https://ntfy.sh".to_owned());
                Kind::Ntfy(Ntfy { url, topic: to.into(), token: secret })
            }
            "pagerduty" => {
                let url = url.unwrap_or_else(|| PagerDuty::EVENTS_URL.to_owned());
                Kind::PagerDuty(PagerDuty { url, routing_key: needed()? })
            }
            "alertmanager" => Kind::Alertmanager(Alertmanager {
                url: url.unwrap_or_default(),
                headers: headers()?,
                // What storms is told again each minute.
                resolve_after: Duration::from_secs(300),
            }),
            "webhook" => {
                let template = match &self.template {
                    Some(path) => {
                        let text = small_file(path).map_err(failed)?;
                        Some(Template::new(&text).map_err(|why| failed(format!("{}: {why}", path.display())))?)
                    }
                    None => None,
                };
                let url = secret.or_else(|| self.url.clone().map(SecretString::from)).unwrap_or_default();
                let signing_key = self.signing_key.as_ref().map(read).transpose()?;
                Kind::Webhook(Webhook { url, headers: headers()?, template, signing_key })
            }
            _ => return Ok(self.with(Way::Desktop)),
        };
        Ok(self.with(Way::Http(Box::new(kind))))
    }

    fn with(&self, way: Way) -> notify::Receiver {
        let per_min =
            self.per_min.and_then(NonZeroU32::new).unwrap_or(const { NonZeroU32::new(20).expect("not zero") });
        notify::Receiver {
            name: self.name.clone(),
            way,
            filter: filter(&self.services, &self.labels, &self.causes, self.severity_min),
            quota: Quota::per_minute(per_min),
        }
    }
}

impl Silence {
    /// What the desk goes by.
    ///
    /// # Errors
    /// When it has no beginning or no end.
    pub fn open(&self) -> Result<Quiet, ConfigError> {
        let failed = |why: String| bad(format!("[[silence]] {}", self.name), why);
        if self.name.is_empty() {
            return Err(failed("it has no name".to_owned()));
        }
        check_labels(&self.labels).map_err(failed)?;
        let when = match (self.from, self.until, &self.cron, self.lasts) {
            (Some(_), Some(_), None, None) if self.time_zone.is_some() => {
                return Err(failed("time_zone goes with cron: from and until have one of their own".to_owned()));
            }
            (Some(from), Some(to), None, None) if from < to => When::Between { from, to },
            (Some(_), Some(_), None, None) => return Err(failed("until is not after from".to_owned())),
            (None, None, Some(cron), Some(lasts)) => {
                let time_zone = self.time_zone.as_deref().unwrap_or("UTC");
                When::Window(Window::new(cron, time_zone, lasts.0).map_err(|why| failed(why.to_string()))?)
            }
            _ => return Err(failed("it needs from and until, or cron and lasts".to_owned())),
        };
        let filter = filter(&self.services, &self.labels, &self.causes, None);
        Ok(Quiet { name: self.name.clone(), filter, when })
    }
}

/// The lists as a file has them.
pub(super) fn render_lists(receivers: &[Receiver], silences: &[Silence], registries: &[Registry]) -> String {
    #[derive(Serialize)]
    struct Lists<'a> {
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        receiver: &'a [Receiver],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        silence: &'a [Silence],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        registry: &'a [Registry],
    }
    // What was read as TOML can be written as TOML.
    let lists =
        toml::to_string(&Lists { receiver: receivers, silence: silences, registry: registries }).unwrap_or_default();
    let example = "# [[receiver]]\n\
         # name = \"ops\"\n\
         # type = \"slack\"\n\
         # secret = { file = \"/run/secrets/slack-url\" }    # or { env = \"SLACK_URL\" }\n\
         # mention = \"<!here>\"\n\
         # severity_min = \"critical\"\n\
         #\n\
         # [[silence]]\n\
         # name = \"nightly\"\n\
         # services = [\"shop_*\"]\n\
         # cron = \"0 2 * * *\"\n\
         # time_zone = \"Europe/Berlin\"\n\
         # lasts = \"1h\"\n\
         #\n\
         # [[registry]]    # what squall budget and watch ask; without any, budget asks Docker Hub for this address\n\
         # name = \"docker.io\"\n\
         # pulls = 5000             # of the plan, where the registry does not say it; window = \"6h\"\n\
         # requests_per_min = 2000  # what it lets pass\n\
         # authentication = \"bearer\"    # none, basic or bearer; known of the larger registries\n\
         # login = \"docker\"    # docker's own login; or NAME:PASSWORD from { file = \"...\" } or { env = \"...\" }\n";
    let types = TYPES.join(", ");
    let words = format!(
        "# Where alerts go: {types}.\n\
         # Each may be limited by services, labels, causes and severity_min. What is silenced is told at its end.\n"
    );
    if lists.is_empty() { format!("{words}{example}") } else { format!("{words}{lists}") }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dead_man = match &self.dead_man {
            Some(secret) => format!("dead_man = {}", secret.inline()),
            None => "# dead_man = { file = \"/run/secrets/dead-man-url\" }".to_owned(),
        };
        write!(
            f,
            "[alert]\n\
             # The first message about a storm waits so long for others that begin with it.\n\
             wait = \"{}\"\n\
             # The least time between two messages of a conversation; it doubles up to sixteen times.\n\
             spacing = \"{}\"\n\
             # When it is said that something still storms: first, and at the longest.\n\
             repeat_min = \"{}\"\n\
             repeat_max = \"{}\"\n\
             # A URL that is asked while all is well with squall, so that somebody notices its silence.\n\
             {dead_man}\n\
             dead_man_every = \"{}\"\n",
            self.wait, self.spacing, self.repeat_min, self.repeat_max, self.dead_man_every
        )
    }
}

impl fmt::Display for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = match &self.token {
            Some(secret) => format!("token = {}", secret.inline()),
            None => "# token = { file = \"/run/secrets/squall-token\" }".to_owned(),
        };
        write!(
            f,
            "[serve]\n\
             # Status page, metrics, health and API. Beyond 127.0.0.1 a token is demanded, unless insecure.\n\
             enabled = {}\n\
             listen = \"{}\"\n\
             {token}\n\
             insecure = {}\n\
             # Names of this host that browsers may use.\n\
             hosts = {}\n",
            self.enabled,
            self.listen,
            self.insecure,
            quoted_list(&self.hosts)
        )
    }
}

pub(super) fn check_silences(silences: &[Silence]) -> Result<(), ConfigError> {
    if silences.len() > LIST_MAX {
        return Err(bad("[[silence]]".to_owned(), format!("there are more than {LIST_MAX}")));
    }
    silences.iter().try_for_each(|silence| silence.open().map(drop))
}

fn filter(
    services: &[String],
    labels: &BTreeMap<String, String>,
    causes: &[Cause],
    severity_min: Option<Severity>,
) -> Filter {
    let labels = labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Filter { services: services.to_vec(), labels, causes: causes.to_vec(), severity_min }
}

/// Of a service's labels squall reads those that are its own.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    match labels.keys().find(|name| !name.starts_with("squall.")) {
        Some(name) => Err(format!("the label {name:?} does not begin with squall.: squall reads no others")),
        None => Ok(()),
    }
}
