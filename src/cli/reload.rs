//! Reads the settings of `watch`, and reads them again on SIGHUP while it goes on.

use std::path::Path;

use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::args::{Watch as Command, Whom};
use super::live;
use super::render::printable;
use crate::config::{Alert, Config, ConfigError, Enforce};
use crate::daemon::{Session, Teller};
use crate::journal::Journal;

/// What a reload reads, and what it changes.
pub(super) struct Reload<'a> {
    pub(super) command: &'a Command,
    pub(super) path: Option<&'a Path>,
    /// The settings that are in force.
    pub(super) config: Config,
    pub(super) session: &'a Session,
    pub(super) teller: &'a Teller,
    pub(super) journal: &'a Journal,
}

impl Reload<'_> {
    /// Reads the settings again at each signal. If anything in them is wrong, the old ones stay.
    pub(super) async fn on(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            if let Err(error) = self.reload().await {
                match error {
                    ConfigError::Wrong(mistakes) => mistakes.lines().for_each(|line| say_mistake(&line)),
                    error => say_mistake(&format!("{:#}", anyhow::Error::from(error))),
                }
                error!("the old settings stay");
            }
        }
        // There are no more signals: what is watched goes on.
        std::future::pending().await
    }

    async fn reload(&mut self) -> Result<(), ConfigError> {
        let read = settings(self.command, self.path)?;
        let new = in_force(&self.config, &read);
        self.teller.reload(&new, &self.session.info().name).await?;
        self.session.reload(&new, self.journal).await;
        let (changed, needs_restart) = (differing(&self.config, &new), differing(&new, &read));
        let changed = if changed.is_empty() { "nothing" } else { &changed };
        let needs_restart = Some(&*needs_restart).filter(|groups| !groups.is_empty());
        info!(changed, needs_restart, "the settings were read again");
        if self.config.respond != new.respond {
            say_acting(&new);
        }
        self.config = new;
        Ok(())
    }
}

/// The settings of the file, with the flags before them, if a watch may go by them.
pub(super) fn settings(command: &Command, path: Option<&Path>) -> Result<Config, ConfigError> {
    let (mut config, source) = Config::read(path)?;
    command.daemon.apply(&mut config);
    if let Some(whom) = command.enforce {
        config.respond.act = true;
        if whom == Whom::All {
            config.respond.enforce = Enforce::All;
        }
    }
    config.respond.response = command.response.unwrap_or(config.respond.response);
    live::check(&config, &source, &command.journal)?;
    Ok(config)
}

/// Says on which storms squall acts, if it acts.
pub(super) fn say_acting(config: &Config) {
    if config.respond.act {
        warn!(response = %config.respond.response, enforce = ?config.respond.enforce, "acting on storms");
    }
}

fn say_mistake(line: &str) {
    error!(why = %printable(line), "the settings cannot be used");
}

/// The settings after a reload: of some groups those that were read now, of the others those of the start.
fn in_force(old: &Config, read: &Config) -> Config {
    let Alert { dead_man, dead_man_every, .. } = old.alert.clone();
    Config {
        respond: read.respond.clone(),
        alert: Alert { dead_man, dead_man_every, ..read.alert.clone() },
        receiver: read.receiver.clone(),
        silence: read.silence.clone(),
        registry: read.registry.clone(),
        ..old.clone()
    }
}

/// The groups of settings in which two differ.
fn differing(one: &Config, other: &Config) -> String {
    let dead_man = |config: &Config| (config.alert.dead_man.clone(), config.alert.dead_man_every);
    let times = |config: &Config| {
        let Alert { wait, spacing, repeat_min, repeat_max, .. } = config.alert;
        (wait, spacing, repeat_min, repeat_max)
    };
    let groups = [
        ("docker", one.docker != other.docker),
        ("detect", one.detect != other.detect),
        ("log", one.log != other.log),
        ("watch", one.watch != other.watch),
        ("respond", one.respond != other.respond),
        ("journal", one.journal != other.journal),
        ("alert", times(one) != times(other)),
        ("alert.dead_man", dead_man(one) != dead_man(other)),
        ("receiver", one.receiver != other.receiver),
        ("silence", one.silence != other.silence),
        ("serve", one.serve != other.serve),
        ("registry", one.registry != other.registry),
    ];
    let differing: Vec<&str> = groups.into_iter().filter(|group| group.1).map(|group| group.0).collect();
    differing.join(", ")
}
