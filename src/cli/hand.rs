//! `squall quarantine` and `squall release`: what the breaker does, by a person's own hand.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::args::{Journal as JournalFlags, Quarantine, Release};
use super::exit::Exit;
use super::{live, render};
use crate::config::Config;
use crate::daemon::{Hand, HandError};
use crate::journal::Journal;
use crate::model::{Refusal, Response};
use crate::respond::Settings;

pub(super) fn quarantine(command: &Quarantine, config: Option<&Path>) -> anyhow::Result<Exit> {
    if command.response == Response::Observe {
        bail!("to observe holds nothing: --response is pause, scale-to-zero or backoff");
    }
    let config = live::docker_config(config, &command.docker)?;
    let settings = Settings { allow_healthy: command.even_healthy, ..config.respond.settings() };
    live::runtime()?.block_on(async {
        let (hand, journal) = connect(&config, &command.journal).await?;
        let mut failed = 0;
        for service in &command.services {
            match hand.quarantine(service, &settings, command.response).await {
                Ok(decision) => render::say(&format!("{} held ({})", decision.subject.name, decision.response))?,
                Err(error) => {
                    failed += 1;
                    live::complain(&explain(service, &error));
                }
            }
        }
        journal.close().await;
        Ok(Exit::Calm.despite(failed > 0))
    })
}

pub(super) fn release(command: &Release, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = live::docker_config(config, &command.docker)?;
    live::runtime()?.block_on(async {
        let (hand, journal) = connect(&config, &command.journal).await?;
        let services = match command.all {
            true => hand.everything().await.context("what is held cannot be listed")?,
            false => command.services.clone(),
        };
        if services.is_empty() {
            render::say(render::NOTHING_HELD)?;
        }
        let mut failed = 0;
        for service in &services {
            let released = match hand.release(service).await {
                // It may be a container's name: those are no services, and on a plain host there are none.
                Err(HandError::Docker(error)) if error.is_not_found() || error.is_no_manager() => {
                    match hand.start(service).await {
                        Err(HandError::Refused(Refusal::Gone)) => Err(HandError::Docker(error)),
                        started => started,
                    }
                }
                released => released,
            };
            match released {
                Ok(decision) => render::say(&format!("{} released", decision.subject.name))?,
                Err(error) => {
                    failed += 1;
                    live::complain(&explain(service, &error));
                }
            }
        }
        journal.close().await;
        Ok(Exit::Calm.despite(failed > 0))
    })
}

async fn connect(config: &Config, flags: &JournalFlags) -> anyhow::Result<(Hand, Journal)> {
    let settings = live::journal(config, flags)?;
    let hand = Hand::connect(config).await?;
    let (journal, opened) = Journal::open(settings);
    if let Some(why) = opened.memory {
        live::complain(&format!("this is not journaled ({why}): name a directory with --state-dir"));
    }
    Ok((hand.with_journal(journal.clone()), journal))
}

/// Why a service was not changed, and what to do.
fn explain(service: &str, error: &HandError) -> String {
    let why = match error {
        HandError::Docker(error) if error.is_not_found() => {
            return format!("no service {service}, and no container of that name is stopped");
        }
        HandError::Docker(error) => return format!("{service}: {error}"),
        HandError::Raced => "somebody keeps changing it: try again",
        HandError::Refused(refusal) => match refusal {
            Refusal::HealthyReplica => "healthy replicas would be taken away: --even-healthy allows it",
            Refusal::Rollout => "a rollout of Swarm's own is under way: wait for its end",
            Refusal::Unsupported => "a job cannot be held: remove it",
            Refusal::Held => "it is held already: see squall status",
            Refusal::Gone => "it is not held",
            Refusal::BadLabel => {
                "its labels squall.quarantine* were changed by somebody: scale it by hand, and remove them with \
                 docker service update --label-rm"
            }
            other => return format!("{service}: refused: {other}"),
        },
    };
    format!("{service}: {why}")
}
