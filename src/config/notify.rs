//! `[alert]`, `[[receiver]]`, `[[silence]]` and `[serve]`: who is told what, and where squall shows itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use governor::Quota;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use super::mistake::Mistake;
use super::registry::Registry;
use super::secret::{NO_URL, Secret, checked_url, is_url, shown_path, small_file};
use super::{Span, in_range, quoted_list, source};
use crate::model::{Cause, Severity, Timestamp};
use crate::notify::receiver::{
    Alertmanager, Discord, GoogleChat, Kind, Mattermost, Ntfy, PagerDuty, Slack, Teams, Telegram, Template, Webhook,
};
use crate::notify::{self, Filter, Silence as Quiet, Way, When, Window, WindowError};

/// How many receivers and silences there may be.
const LIST_MAX: usize = 100;

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
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "moment")]
    pub from: Option<Timestamp>,
    /// The first moment after it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "moment")]
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
    #[serde(deserialize_with = "address")]
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

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let expected = "a time as RFC 3339 writes it, as \"2026-12-01T02:00:00Z\"";
    source::text(deserializer, expected, |text| Timestamp::parse(text).ok().map(Some))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    source::text(deserializer, "an address and a port, as \"127.0.0.1:9765\"", |text| text.parse().ok())
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

    pub(super) fn check(&self, found: &mut Vec<Mistake>) {
        const SECS: fn(u64) -> Duration = Duration::from_secs;
        const WEEK: u64 = 7 * 86_400;
        in_range(found, &["alert", "wait"], &self.wait, &SECS(0), &SECS(600), "0s to 10m");
        in_range(found, &["alert", "spacing"], &self.spacing, &SECS(1), &SECS(3600), "1s to 1h");
        in_range(found, &["alert", "repeat_min"], &self.repeat_min, &SECS(60), &SECS(WEEK), "1m to 168h");
        let range = "alert.repeat_min to 168h";
        in_range(found, &["alert", "repeat_max"], &self.repeat_max, &self.repeat_min.0, &SECS(WEEK), range);
        in_range(found, &["alert", "dead_man_every"], &self.dead_man_every, &SECS(1), &SECS(3600), "1s to 1h");
    }

    /// The dead man's URL and how often it is asked, where there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is no URL.
    pub fn dead_man(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<(SecretString, Duration)>, Mistake> {
        let Some(secret) = &self.dead_man else { return Ok(None) };
        let url = secret.read(env).and_then(checked_url).map_err(|why| Mistake::new(&["alert", "dead_man"], why))?;
        Ok(Some((url, self.dead_man_every.0)))
    }
}

pub(super) fn check_receivers(receivers: &[Receiver], found: &mut Vec<Mistake>) {
    if receivers.len() > LIST_MAX {
        found.push(Mistake::new(&["receiver"], format!("there are more than {LIST_MAX}")));
    }
    for (at, receiver) in receivers.iter().enumerate() {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if !is_name(&receiver.name) {
            let why = "expected letters, digits, - and _, at most 40";
            found.push(Mistake::new(&["receiver", &entry_name(&receiver.name, at), "name"], why));
        } else if receivers[..at].iter().any(|other| other.name == receiver.name) {
            found.push(receiver.mistake("name", "it is there twice"));
        } else {
            receiver.check(found);
        }
    }
}

/// What an entry of a list is called in mistakes.
fn entry_name(name: &str, at: usize) -> String {
    if name.is_empty() { format!("number {}", at + 1) } else { name.to_owned() }
}

impl Receiver {
    fn mistake(&self, key: &str, why: impl Into<String>) -> Mistake {
        Mistake::new(&["receiver", &self.name, key], why)
    }

    /// Each type needs some keys, and has no use for others: those would be a wish that is not fulfilled.
    fn check(&self, found: &mut Vec<Mistake>) {
        let keys: [(&str, bool); 7] = [
            ("secret", self.secret.is_some()),
            ("url", self.url.is_some()),
            ("to", self.to.is_some()),
            ("mention", self.mention.is_some()),
            ("headers", !self.headers.is_empty()),
            ("template", self.template.is_some()),
            ("signing_key", self.signing_key.is_some()),
        ];
        let kind = &*self.r#type;
        let (needs, takes): (&[&str], &[&str]) = match kind {
            "slack" | "discord" | "teams" | "mattermost" | "google-chat" => (&["secret"], &["mention"]),
            "telegram" => (&["secret", "to"], &["url", "mention"]),
            "ntfy" => (&["to"], &["secret", "url"]),
            "pagerduty" => (&["secret"], &["url"]),
            "alertmanager" => (&["url"], &["headers"]),
            "webhook" => (&[], &["secret", "url", "headers", "template", "signing_key"]),
            "desktop" => (&[], &[]),
            _ => {
                found.push(self.mistake("type", format!("expected one of {}", TYPES.join(", "))));
                return;
            }
        };
        for (key, is_there) in keys {
            if needs.contains(&key) && !is_there {
                found.push(self.mistake(key, format!("{kind} needs it")));
            }
            if is_there && !needs.contains(&key) && !takes.contains(&key) {
                found.push(self.mistake(key, format!("{kind} has no use for it")));
            }
        }
        if kind == "webhook" && self.secret.is_some() == self.url.is_some() {
            found.push(self.mistake("url", "webhook needs url, or secret where the URL is one"));
        }
        // It is shown by `config show`.
        if self.url.as_ref().is_some_and(|url| url.contains('@')) {
            found.push(self.mistake("url", "it has a password or an @: it belongs into secret or into headers"));
        } else if self.url.as_ref().is_some_and(|url| !is_url(url)) {
            found.push(self.mistake("url", format!("it {NO_URL}")));
        }
        if let Some(name) = self.headers.keys().find(|name| name.to_ascii_lowercase().starts_with("x-squall-")) {
            found.push(Mistake::new(&["receiver", &self.name, "headers", name], "this header is squall's own"));
        }
        check_labels(&self.labels, &["receiver", &self.name], found);
        let per_min = self.per_min.unwrap_or(20);
        in_range(found, &["receiver", &self.name, "per_min"], &per_min, &1, &600, "1 to 600");
    }

    /// What the courier goes by.
    ///
    /// # Errors
    /// When a secret or a template cannot be read; the receiver is named, and no secret.
    pub fn open(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<notify::Receiver, Mistake> {
        let read = |key: &str, secret: &Secret| secret.read(env).map_err(|why| self.mistake(key, why));
        let secret = self.secret.as_ref().map(|secret| read("secret", secret)).transpose()?;
        let url = self.url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        let needed = || secret.clone().ok_or_else(|| self.mistake("secret", "it is missing"));
        let needed_url = || checked_url(needed()?).map_err(|why| self.mistake("secret", why));
        let (mention, to) = (self.mention.clone(), self.to.clone().unwrap_or_default());
        let headers = || {
            let read = |(name, secret): (&String, &Secret)| match secret.read(env) {
                Ok(value) => Ok((name.clone(), value)),
                Err(why) => Err(Mistake::new(&["receiver", &self.name, "headers", name], why)),
            };
            self.headers.iter().map(read).collect::<Result<Vec<_>, Mistake>>()
        };
        let kind = match &*self.r#type {
            "slack" => Kind::Slack(Slack { url: needed_url()?, mention }),
            "discord" => Kind::Discord(Discord { url: needed_url()?, mention }),
            "teams" => Kind::Teams(Teams { url: needed_url()?, mention }),
            "mattermost" => Kind::Mattermost(Mattermost { url: needed_url()?, mention }),
            "google-chat" => Kind::GoogleChat(GoogleChat { url: needed_url()?, mention }),
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
                        let template = small_file(path).and_then(|text| {
                            Template::new(&text).map_err(|why| format!("{}: {why}", shown_path(path)))
                        });
                        Some(template.map_err(|why| self.mistake("template", why))?)
                    }
                    None => None,
                };
                let url = match &self.url {
                    Some(url) => url.clone().into(),
                    None => needed_url()?,
                };
                let signing_key = self.signing_key.as_ref().map(|key| read("signing_key", key)).transpose()?;
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
    /// When it has no beginning or no end; of what is written there nothing is said.
    pub fn open(&self) -> Result<Quiet, Mistake> {
        let mistake = |key: &str, why: &str| Mistake::new(&["silence", &self.name, key], why);
        let when = match (self.from, self.until, &self.cron, self.lasts) {
            (Some(_), Some(_), None, None) if self.time_zone.is_some() => {
                return Err(mistake("time_zone", "it goes with cron: from and until have one of their own"));
            }
            (Some(from), Some(to), None, None) if from < to => When::Between { from, to },
            (Some(_), Some(_), None, None) => return Err(mistake("until", "it is not after from")),
            (None, None, Some(cron), Some(lasts)) => {
                let time_zone = self.time_zone.as_deref().unwrap_or("UTC");
                When::Window(Window::new(cron, time_zone, lasts.0).map_err(|error| match error {
                    WindowError::Cron { .. } if Window::new(cron, "UTC", lasts.0).is_ok() => {
                        mistake("time_zone", "expected the name of a time zone, as \"Europe/Berlin\"")
                    }
                    WindowError::Cron { .. } => {
                        mistake("cron", "expected a cron expression of five fields, as \"0 2 * * SUN\"")
                    }
                    WindowError::Span => mistake("lasts", "it is out of its range: 1m to 168h"),
                })?)
            }
            _ => {
                let why = "it needs from and until, or cron and lasts";
                return Err(Mistake::new(&["silence", &self.name], why));
            }
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

pub(super) fn check_silences(silences: &[Silence], found: &mut Vec<Mistake>) {
    if silences.len() > LIST_MAX {
        found.push(Mistake::new(&["silence"], format!("there are more than {LIST_MAX}")));
    }
    for (at, silence) in silences.iter().enumerate() {
        if silence.name.is_empty() {
            found.push(Mistake::new(&["silence", &entry_name("", at), "name"], "it has none"));
        } else {
            check_labels(&silence.labels, &["silence", &silence.name], found);
            found.extend(silence.open().err());
        }
    }
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
fn check_labels(labels: &BTreeMap<String, String>, entry: &[&str; 2], found: &mut Vec<Mistake>) {
    if let Some(name) = labels.keys().find(|name| !name.starts_with("squall.")) {
        let why = "it does not begin with squall.: squall reads no others";
        found.push(Mistake::new(&[entry[0], entry[1], "labels", name], why));
    }
}
