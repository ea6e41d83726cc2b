//! Asks registries what is left, every so often.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clock::wall_clock;
use crate::budget::HUB;
use crate::config::{self, Config, Mistake, Registry};
use crate::model::{BudgetAnswer, BudgetReading};
use crate::registry::{Login, LoginError, Prober, Target};

/// How often a registry is asked: an answer costs it two requests, and a budget of 100 pulls lasts minutes at least.
const EVERY: Duration = Duration::from_secs(300);
/// How often at most where it answers 429: that budget is what the question itself would spend.
const EVERY_REFUSED: Duration = Duration::from_secs(1200);
/// How many answers wait to be taken. There are at most 100 registries, asked one after another.
const ANSWERS_MAX: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Purse {
    answers: Receiver<BudgetReading>,
    asking: Option<JoinHandle<()>>,
}

impl Purse {
    /// Begins to ask those registries of the configuration that may be asked: at once where `last` has no answer of
    /// late, so that one that is started again and again asks no more often.
    pub(super) fn start(config: &Config, last: &[BudgetReading]) -> Self {
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let (now, now_here) = (wall_clock(), Instant::now());
        let due = |registry: &Registry| {
            let answer = last.iter().rfind(|reading| reading.registry == registry.name && reading.at <= now);
            let rest = answer.map(|answer| rest_after(answer).saturating_sub(now.since(answer.at)));
            now_here + rest.unwrap_or_default()
        };
        let may_be_asked = config.registry.iter().filter(|registry| registry.may_be_asked());
        let registries: Vec<(Instant, Registry)> =
            may_be_asked.map(|registry| (due(registry), registry.clone())).collect();
        let asking = (!registries.is_empty()).then(|| tokio::spawn(ask(registries, sender)));
        Self { answers, asking }
    }

    /// An answer that has come.
    pub(super) fn answer(&mut self) -> Option<BudgetReading> {
        self.answers.try_recv().ok()
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

/// Asks each registry when it is due, one after another.
async fn ask(mut registries: Vec<(Instant, Registry)>, answers: Sender<BudgetReading>) {
    let prober = Prober::new();
    let mut troubles: BTreeMap<String, Option<String>> = BTreeMap::new();
    while let Some((due, registry)) = registries.iter_mut().min_by_key(|(due, _)| *due) {
        tokio::time::sleep_until(*due).await;
        // A login is read anew: tokens of helpers expire.
        let wanted = registry.clone();
        // A credential helper may wait for a person; nobody else waits for it.
        let target = tokio::task::spawn_blocking(move || target(&wanted)).await;
        let reading = match (&prober, target) {
            (Ok(prober), Ok(Ok(target))) => prober.ask(&target, wall_clock()).await,
            (Err(error), _) => unasked(registry, error.to_string()),
            (_, Ok(Err(error))) => unasked(registry, error.to_string()),
            (_, Err(error)) => unasked(registry, error.to_string()),
        };
        *due = Instant::now() + rest_after(&reading);
        let trouble = trouble_of(&reading.answer);
        if troubles.get(&registry.name) != Some(&trouble)
            && let Some(why) = &trouble
        {
            tracing::warn!(registry = %registry.name, why = %why, "a registry does not say what is left");
        }
        troubles.insert(registry.name.clone(), trouble);
        if answers.send(reading).await.is_err() {
            return;
        }
    }
}

/// How long a registry is not asked after it has answered.
fn rest_after(reading: &BudgetReading) -> Duration {
    if reading.answer == BudgetAnswer::TooMany { EVERY_REFUSED } else { EVERY }
}

/// Why an answer is none; said once per change.
fn trouble_of(answer: &BudgetAnswer) -> Option<String> {
    match answer {
        BudgetAnswer::Limited(_) | BudgetAnswer::Unlimited => None,
        BudgetAnswer::TooMany => Some("it answers 429".to_owned()),
        BudgetAnswer::Denied { why } | BudgetAnswer::Failed { why } => Some(why.clone()),
    }
}

/// The answer of a registry that was not asked.
pub fn unasked(registry: &Registry, why: String) -> BudgetReading {
    BudgetReading {
        registry: registry.name.clone(),
        at: wall_clock(),
        account: None,
        source: None,
        own: None,
        answer: BudgetAnswer::Failed { why },
    }
}

/// What to ask a registry of the configuration.
///
/// # Errors
/// When its login cannot be read, or its URL is none.
pub fn target(registry: &Registry) -> Result<Target, Mistake> {
    let env = |name: &str| std::env::var(name).ok();
    let mistake = |key: &str, why: String| Mistake::new(&["registry", &registry.name, key], why);
    let no_login = |error: LoginError| mistake("login", error.to_string());
    let parse = |url: &str| Url::parse(url).map_err(|error| mistake("url", format!("it is no URL: {error}")));
    let login = match &registry.login {
        None => None,
        Some(config::Login::Docker(_)) => Some(Login::of_docker(&registry.name).map_err(no_login)?),
        Some(config::Login::Secret(secret)) => {
            let text = secret.read(&env).map_err(|why| mistake("login", why))?;
            Some(Login::parse(text.expose_secret()).map_err(no_login)?)
        }
    };
    let hub = Target::docker_hub(login);
    let is_hub = registry.name == HUB;
    let api = match &registry.url {
        Some(url) => parse(url)?,
        None if is_hub => hub.api.clone(),
        None => parse(&format!("https://{registry}"))?,
    };
    let repository = registry.repository.clone().unwrap_or_else(|| hub.repository.clone());
    Ok(Target { registry: registry.name.clone(), api, repository, ..hub })
}
