//! `squall alert`: tries the way to receivers, and lists what has not got there.

use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::args::{Alert as Command, AlertAction, Journal as Flags, ListFormat};
use super::exit::Exit;
use super::{live, render};
use crate::config::{Config, DEFAULT_PATH};
use crate::daemon::{OUTBOX, wall_clock};
use crate::model::{Alert, AlertKind, Severity, fnv_64};
use crate::notify::{Answer, Delivery, Outbox, Sender, try_once};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.alerts/1";

#[derive(Debug, Serialize)]
struct List {
    schema: &'static str,
    waiting: Vec<Delivery>,
    dead: Vec<Delivery>,
    /// Files that cannot be read.
    damaged: u64,
}

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    match &command.action {
        AlertAction::Test { receiver } => live::runtime()?.block_on(test(receiver.as_deref(), config)),
        AlertAction::List { format, journal } => list(*format, journal, config),
    }
}

async fn test(name: Option<&str>, path: Option<&Path>) -> anyhow::Result<Exit> {
    let config = Config::load(path)?;
    let wanted: Vec<_> =
        config.receiver.iter().filter(|receiver| name.is_none_or(|name| receiver.name == name)).collect();
    if wanted.is_empty() {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH)).display();
        match name {
            Some(name) => bail!("no [[receiver]] is named {name} in {file}"),
            None => bail!("there is no [[receiver]] in {file}: squall config init shows one"),
        }
    }
    let sender = Sender::new()?;
    let env = |name: &str| std::env::var(name).ok();
    let mut failed = false;
    for receiver in wanted {
        let opened = match receiver.open(&env) {
            Ok(opened) => opened,
            Err(error) => {
                failed = true;
                live::complain(&error.to_string());
                continue;
            }
        };
        let (name, kind) = (&receiver.name, &receiver.r#type);
        match try_once(&opened, &drill(name), &sender).await {
            Answer::Taken => render::say(&format!("{name} ({kind}) took it"))?,
            Answer::Unwanted => render::say(&format!("{name} ({kind}) takes no drills"))?,
            Answer::Refused(why) => {
                failed = true;
                live::complain(&format!("{name} ({kind}) refuses it: {why}"));
            }
            Answer::Later { why, .. } => {
                failed = true;
                live::complain(&format!("{name} ({kind}) does not take it now: {why}"));
            }
        }
    }
    Ok(Exit::Calm.despite(failed))
}

/// A message that nobody has to act on.
fn drill(receiver: &str) -> Alert {
    let at = wall_clock();
    let id = format!("{:016x}", fnv_64([receiver.as_bytes(), at.to_string().as_bytes()]));
    let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Alert {
        conversation: id.clone(),
        id,
        kind: AlertKind::Drill,
        severity: Severity::Info,
        at,
        node: node.trim().to_owned(),
        title: "a drill: squall can reach you here".to_owned(),
        lines: vec!["Nothing storms. Somebody has run squall alert test.".to_owned()],
        storms: Vec::new(),
        storms_left_out: 0,
        next_step: String::new(),
        ends: true,
        part_of: None,
    }
}

fn list(format: ListFormat, flags: &Flags, path: Option<&Path>) -> anyhow::Result<Exit> {
    let config = Config::load(path)?;
    let dir = live::journal(&config, flags)?.dir.join(OUTBOX);
    let content = Outbox::read(&dir);
    let is_readable = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!("cannot read {}: {error}", dir.display())
        }
        read => read.is_ok(),
    };
    match format {
        ListFormat::Json => {
            let list = List { schema: SCHEMA, waiting: content.waiting, dead: content.dead, damaged: content.damaged };
            render::say(&serde_json::to_string(&list)?)?;
        }
        ListFormat::Table if content.waiting.is_empty() && content.dead.is_empty() => {
            let dir = render::printable(&dir.display().to_string());
            render::say(&if is_readable {
                format!("no alert waits in {dir}, none was refused")
            } else {
                format!("no alert was ever sent from here: there is no {dir}")
            })?;
        }
        ListFormat::Table => {
            let now = wall_clock();
            let row = |state: &str, delivery: &Delivery| {
                vec![
                    delivery.receiver.clone(),
                    state.to_owned(),
                    render::ago(now, delivery.since),
                    delivery.tries.to_string(),
                    delivery.alert.title.clone(),
                    delivery.trouble.clone(),
                ]
            };
            let waiting = content.waiting.iter().map(|delivery| row("waits", delivery));
            let rows = waiting.chain(content.dead.iter().map(|delivery| row("refused", delivery))).collect();
            render::list(&["RECEIVER", "STATE", "SINCE", "TRIES", "ALERT", "WHY"], rows)?;
        }
    }
    if content.damaged > 0 {
        live::complain(&format!("{} files in {} cannot be read", content.damaged, dir.display()));
    }
    Ok(Exit::Calm.despite(content.damaged > 0))
}
