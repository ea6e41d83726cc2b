use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::Record as Command;
use super::exit::Exit;
use super::live;
use crate::daemon::{Role, Sensors, Session, Wake};
use crate::docker::{Client, Error, FollowItem};
use crate::model::Timestamp;

/// How often tasks are listed: Swarm keeps five of a slot, so at a delay of 1 s none is missed.
const TASKS_EVERY: Duration = Duration::from_secs(1);
/// How many tasks are remembered as written; beyond it all are written again.
const WRITTEN_MAX: usize = 500_000;
/// What a specification holds that may be secret, and that replay does not read.
const LEFT_OUT: [&str; 3] = ["Env", "Args", "Command"];

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    live::runtime()?.block_on(record(command, config))
}

async fn record(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = live::config(config, &command.daemon)?;
    let session = Session::connect(&config, false).await?;
    let mut files = Files::create(&command.output, &session.info().name)?;
    let mut sensors = Sensors::start(session.client(), session.log());
    let is_manager = session.role() == Role::Manager;
    if is_manager {
        files.list(session.client(), "services").await?;
        files.list(session.client(), "nodes").await?;
    }
    let until = command.record_for.map(|time| Instant::now() + time);
    live::complain(&format!("recording to {}; Ctrl-C ends it", command.output.display()));
    let stop = live::stop_signal();
    tokio::pin!(stop);
    let mut ticks = tokio::time::interval(TASKS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = sleep_until(until) => break,
            wake = sensors.next() => {
                if let Some(wake) = wake {
                    files.take(wake)?;
                }
            }
            _ = ticks.tick(), if is_manager => {
                match files.list_tasks(session.client()).await {
                    Err(error) if !error.is_transient() => return Err(error.into()),
                    Err(error) => live::complain(&error.to_string()),
                    Ok(()) => {}
                }
            }
        }
    }
    if is_manager {
        // Services that came meanwhile have names too.
        files.list(session.client(), "services").await?;
    }
    files.finish()?;
    Ok(Exit::Calm)
}

/// The files of a recording.
struct Files {
    directory: PathBuf,
    events: BufWriter<File>,
    log: Option<BufWriter<File>>,
    tasks: Option<BufWriter<File>>,
    gaps: Option<BufWriter<File>>,
    node: String,
    /// The version of each task that was written last.
    written: HashMap<String, u64>,
}

impl Files {
    fn create(directory: &Path, node: &str) -> anyhow::Result<Self> {
        let shown = directory.display();
        fs::create_dir_all(directory).with_context(|| format!("cannot make {shown}"))?;
        if fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?.next().is_some() {
            bail!("{shown} is not empty: name a new directory with -o");
        }
        // A host's name becomes a file's name.
        let is_plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        let node: String = node.chars().filter(is_plain).collect();
        let node = if node.is_empty() { "node".to_owned() } else { node };
        let events = create(directory, &format!("{node}.events.ndjson"))?;
        let written = HashMap::new();
        Ok(Self { directory: directory.to_owned(), events, log: None, tasks: None, gaps: None, node, written })
    }

    fn take(&mut self, wake: Wake) -> anyhow::Result<()> {
        match wake {
            Wake::Docker(FollowItem::Event(event)) => {
                self.events.write_all(event.trim_ascii())?;
                self.events.write_all(b"\n")?;
            }
            Wake::Log(line) => {
                let name = format!("{}.dockerd.log", self.node);
                let log = opened(&mut self.log, &self.directory, &name)?;
                writeln!(log, "{}", line.trim_end())?;
            }
            Wake::Docker(FollowItem::Gap { from_nanos, to_nanos, why }) => {
                let name = format!("{}.gaps.ndjson", self.node);
                let gaps = opened(&mut self.gaps, &self.directory, &name)?;
                let (from, to) = (Timestamp::from_nanos(from_nanos), Timestamp::from_nanos(to_nanos));
                writeln!(gaps, "{}", json!({"squall.gap": {"from": from, "to": to, "why": why.as_str()}}))?;
            }
            Wake::Docker(FollowItem::Lost { error, tries: 0 }) => live::complain(&error.to_string()),
            Wake::Docker(_) => {}
            Wake::NoLog(why) => live::complain(&format!("dockerd's log is not recorded: {why}")),
        }
        Ok(())
    }

    /// Writes a whole listing, as an array on lines.
    async fn list(&mut self, client: &Client, what: &str) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        let mut sink = |object: &[u8]| objects.extend(without_secrets(object));
        match what {
            "nodes" => client.nodes(&mut sink).await?,
            _ => client.services(&mut sink).await?,
        };
        let mut file = create(&self.directory, &format!("{what}.json"))?;
        for object in objects {
            writeln!(file, "{object}")?;
        }
        file.flush()?;
        Ok(())
    }

    /// Writes the tasks that have changed.
    async fn list_tasks(&mut self, client: &Client) -> Result<(), Error> {
        let mut changed = Vec::new();
        if self.written.len() > WRITTEN_MAX {
            self.written.clear();
        }
        let written = &mut self.written;
        client
            .tasks(&[] as &[&str], &mut |object| {
                let Some(task) = without_secrets(object) else { return };
                let (id, version) = (task["ID"].as_str().unwrap_or_default(), task["Version"]["Index"].as_u64());
                let version = version.unwrap_or(0);
                if written.insert(id.to_owned(), version) != Some(version) {
                    changed.push(task);
                }
            })
            .await?;
        let write = |files: &mut Self| -> anyhow::Result<()> {
            let tasks = opened(&mut files.tasks, &files.directory, "tasks.ndjson")?;
            for task in changed {
                writeln!(tasks, "{task}")?;
            }
            Ok(tasks.flush()?)
        };
        if let Err(error) = write(self) {
            live::complain(&format!("{error:#}"));
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.events.flush()?;
        for file in [&mut self.log, &mut self.tasks, &mut self.gaps].into_iter().flatten() {
            file.flush()?;
        }
        Ok(())
    }
}

fn create(directory: &Path, name: &str) -> anyhow::Result<BufWriter<File>> {
    let path = directory.join(name);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(BufWriter::new(file))
}

fn opened<'f>(
    file: &'f mut Option<BufWriter<File>>,
    directory: &Path,
    name: &str,
) -> anyhow::Result<&'f mut BufWriter<File>> {
    match file {
        Some(file) => Ok(file),
        None => Ok(file.insert(create(directory, name)?)),
    }
}

/// An object without its environment, arguments and command.
fn without_secrets(object: &[u8]) -> Option<Value> {
    let mut object: Value = serde_json::from_slice(object).ok()?;
    for path in ["/Spec/ContainerSpec", "/Spec/TaskTemplate/ContainerSpec", "/PreviousSpec/TaskTemplate/ContainerSpec"]
    {
        if let Some(Value::Object(spec)) = object.pointer_mut(path) {
            for key in LEFT_OUT {
                spec.remove(key);
            }
        }
    }
    Some(object)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_environment_reaches_a_recording() {
        let task = br#"{"ID":"t","Spec":{"ContainerSpec":{"Image":"a","Env":["PASSWORD=x"],"Args":["-p","x"]}}}"#;
        let kept = without_secrets(task).expect("an object").to_string();
        assert_eq!(kept, r#"{"ID":"t","Spec":{"ContainerSpec":{"Image":"a"}}}"#);
    }
}
