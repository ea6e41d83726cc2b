//! `squall alert`: sends drills to receivers, lists the alerts that have not arrived, and has them sent again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::args::{Alert as Command, AlertAction, Journal as Flags, ListFormat};
use super::exit::Exit;
use super::{live, render};
use crate::config::{Config, DEFAULT_PATH};
use crate::daemon::{OUTBOX, wall_clock};
use crate::model::{Alert, AlertKind, Severity, fnv_64, span_in_words};
use crate::notify::{Answer, Content, Delivery, Outbox, Sender, try_once};

/// The `schema` of the JSON object.
const SCHEMA: &str = "squall.alerts/1";
/// How long a running squall watch may take to take up dead letters, which it looks for every two seconds.
const TAKE_UP_LIMIT: Duration = Duration::from_secs(10);

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
        AlertAction::Resend { id, all: _, journal } => resend(id.as_deref(), journal, config),
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
        let name = format!("{} ({})", receiver.name, receiver.r#type);
        let drill = Alert { ends: !opened.way.keeps_conversations(), ..drill(&receiver.name) };
        let mut is_taken = tell(&name, "the drill", try_once(&opened, &drill, &sender).await)?;
        if is_taken && opened.way.waits_for_end() {
            let end = Alert { ends: true, ..drill };
            is_taken = tell(&name, "its end", try_once(&opened, &end, &sender).await)?;
        }
        failed |= !is_taken;
    }
    Ok(Exit::Calm.despite(failed))
}

/// Says how a receiver answered; returns whether all is well.
fn tell(name: &str, what: &str, answer: Answer) -> io::Result<bool> {
    match answer {
        Answer::Taken(words) if words.is_empty() => render::say(&format!("{name} took {what}"))?,
        Answer::Taken(words) => render::say(&render::printable(&format!("{name} took {what}: {words}")))?,
        Answer::Unwanted => render::say(&format!("{name} takes no drills"))?,
        Answer::Refused(why) | Answer::Later { why, is_refusal: true, .. } => {
            live::complain(&format!("{name} refuses {what}: {why}"));
            return Ok(false);
        }
        Answer::Later { why, .. } => {
            live::complain(&format!("{name} does not take {what} now: {why}"));
            return Ok(false);
        }
    }
    Ok(true)
}

/// A message on which nobody has to act.
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

/// Where the outbox is, and what is in it.
fn outbox(config: &Config, flags: &Flags) -> anyhow::Result<(PathBuf, Content)> {
    let dir = live::journal(config, flags)?.dir.join(OUTBOX);
    match std::fs::read_dir(dir.join("dead")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("cannot read {}: {error}: run it as the user that runs squall watch", dir.display())
        }
        _ => {}
    }
    let content = Outbox::read(&dir);
    Ok((dir, content))
}

fn resend(id: Option<&str>, flags: &Flags, path: Option<&Path>) -> anyhow::Result<Exit> {
    let config = Config::load(path)?;
    let (dir, content) = outbox(&config, flags)?;
    let dead: Vec<Delivery> = content.dead.into_iter().filter(|dead| id.is_none_or(|id| dead.alert.id == id)).collect();
    match id {
        Some(id) if dead.is_empty() => {
            bail!("no refused alert in {} has the id {id}: run squall alert list, which shows their ids", dir.display())
        }
        None if dead.is_empty() => {
            render::say("no receiver has refused an alert: nothing is sent again")?;
            return Ok(Exit::Calm);
        }
        _ => {}
    }
    let mut failed = false;
    let names: BTreeSet<&str> = config.receiver.iter().map(|receiver| &*receiver.name).collect();
    let (known, unknown): (Vec<_>, Vec<_>) = dead.iter().partition(|dead| names.contains(&*dead.receiver));
    for name in unknown.iter().map(|dead| &*dead.receiver).collect::<BTreeSet<_>>() {
        failed = true;
        let file = path.unwrap_or(Path::new(DEFAULT_PATH)).display();
        live::complain(&format!(
            "no [[receiver]] is named {name} in {file}: name one so, and its alerts can be sent again"
        ));
    }
    let mut asked = Vec::new();
    for delivery in known {
        match Outbox::ask_again(&dir, delivery) {
            Ok(()) => asked.push(delivery),
            Err(error) => {
                failed = true;
                live::complain(&error.to_string());
            }
        }
    }
    let until = Instant::now() + TAKE_UP_LIMIT;
    let waits = || asked.iter().filter(|delivery| Outbox::is_asked_for(&dir, delivery)).count();
    while waits() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (asked, left) = (asked.len(), waits());
    if asked > left {
        let sent = alerts(asked - left);
        render::say(&format!("squall watch sends {sent} again: squall alert list shows those that do not arrive"))?;
    }
    if left > 0 {
        failed = true;
        let dir = dir.display();
        live::complain(&format!(
            "no squall watch has taken up {} in {dir}: the next one that starts does",
            alerts(left)
        ));
    }
    Ok(Exit::Calm.despite(failed))
}

fn alerts(count: usize) -> String {
    if count == 1 { "1 alert".to_owned() } else { format!("{count} alerts") }
}

fn list(format: ListFormat, flags: &Flags, path: Option<&Path>) -> anyhow::Result<Exit> {
    let config = Config::load(path)?;
    let (dir, mut content) = outbox(&config, flags)?;
    content.waiting.append(&mut content.asked_for);
    match format {
        ListFormat::Json => {
            let list = List { schema: SCHEMA, waiting: content.waiting, dead: content.dead, damaged: content.damaged };
            render::say(&serde_json::to_string(&list)?)?;
        }
        ListFormat::Table if content.waiting.is_empty() && content.dead.is_empty() => {
            let (is_there, dir) = (dir.is_dir(), render::printable(&dir.display().to_string()));
            render::say(&if is_there {
                format!("no alert waits in {dir}, none was refused")
            } else {
                format!("no alert was ever sent from here: there is no {dir}")
            })?;
        }
        ListFormat::Table => {
            let now = wall_clock();
            let row = |state: &str, delivery: &Delivery| {
                vec![
                    delivery.alert.id.clone(),
                    delivery.receiver.clone(),
                    state.to_owned(),
                    span_in_words(now.since(delivery.alert.at)),
                    delivery.tries.to_string(),
                    delivery.alert.title.clone(),
                    delivery.trouble.clone(),
                ]
            };
            let waiting = content.waiting.iter().map(|delivery| row("waits", delivery));
            let rows = waiting.chain(content.dead.iter().map(|delivery| row("refused", delivery))).collect();
            render::list(&["ID", "RECEIVER", "STATE", "AGE", "TRIES", "ALERT", "WHY"], rows)?;
        }
    }
    if content.damaged > 0 {
        live::complain(&format!("{} files in {} cannot be read", content.damaged, dir.display()));
    }
    Ok(Exit::Calm.despite(content.damaged > 0))
}
