use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::Record as Command;
use super::exit::Exit;
use super::live;
use crate::daemon::{Role, Sensors, Session, Wake, sleep_until, wall_clock};
use crate::docker::{Client, Error, FollowItem};
use crate::model::Timestamp;

/// How often tasks are listed: Swarm keeps five of a slot, so at a delay of 1 s none is missed.
const TASKS_EVERY: Duration = Duration::from_secs(1);
/// How many tasks are remembered as written; beyond it all are written again.
const WRITTEN_MAX: usize = 500_000;
/// What is kept of a task, service or node, as paths: what replay reads, and what tells versions and modes. All else
/// may hold secrets: environments, arguments, health checks, labels, options of volume and log drivers.
const KEPT: &[&[&str]] = &[
    &["ID"],
    &["Version"],
    &["CreatedAt"],
    &["UpdatedAt"],
    &["ServiceID"],
    &["NodeID"],
    &["Slot"],
    &["JobIteration"],
    &["DesiredState"],
    &["Status"],
    &["UpdateStatus", "State"],
    &["UpdateStatus", "StartedAt"],
    &["ServiceStatus"],
    &["ManagerStatus", "Leader"],
    &["Description", "Hostname"],
    &["Description", "Platform"],
    &["Description", "Engine", "EngineVersion"],
    &["Spec", "Role"],
    &["Spec", "Availability"],
    &["Spec", "Name"],
    &["Spec", "Labels", "com.docker.stack.namespace"],
    &["Spec", "Mode"],
    &["Spec", "ContainerSpec", "Image"],
    &["Spec", "RestartPolicy"],
    &["Spec", "ForceUpdate"],
    &["Spec", "Resources", "Limits"],
    &["Spec", "TaskTemplate", "ContainerSpec", "Image"],
    &["Spec", "TaskTemplate", "RestartPolicy"],
    &["Spec", "TaskTemplate", "ForceUpdate"],
    &["Spec", "TaskTemplate", "Resources", "Limits"],
    &["Id"],
    &["RepoTags"],
    &["RepoDigests"],
    &["Created"],
];
/// The attributes that are kept of an event, or their beginnings: the others are labels.
const KEPT_ATTRIBUTES: [&str; 16] = [
    "name",
    "image",
    "exitCode",
    "execDuration",
    "signal",
    "replicas.",
    "image.",
    "updatestate.",
    "availability.",
    "state.",
    "com.docker.swarm.",
    "com.docker.stack.namespace",
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.amazonaws.ecs.",
    "containerExitCode",
];

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    live::runtime()?.block_on(record(command, config))
}

async fn record(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    let config = live::config(config, &command.daemon)?;
    let session = Session::connect(&config, false).await?;
    let mut files = Files::create(&command.output, &session.info().name)?;
    let mut sensors = Sensors::start(session.client(), session.log());
    let is_manager = session.role() == Role::Manager;
    files.list_images(session.client()).await?;
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
                let Some(wake) = wake else { bail!("the readers of events and log have ended") };
                files.take(wake)?;
                let dropped = sensors.take_dropped();
                if dropped > 0 {
                    let now = wall_clock();
                    files.gap(now, now, &format!("squall fell behind: {dropped} events were dropped"))?;
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
    no_log: Option<String>,
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
        Ok(Self {
            directory: directory.to_owned(),
            events,
            log: None,
            tasks: None,
            gaps: None,
            node,
            no_log: None,
            written,
        })
    }

    fn take(&mut self, wake: Wake) -> anyhow::Result<()> {
        match wake {
            Wake::Docker(FollowItem::Event(event)) => {
                if let Some(event) = without_labels(&event) {
                    writeln!(self.events, "{event}")?;
                }
            }
            Wake::Log(line) => {
                let name = format!("{}.dockerd.log", self.node);
                let log = opened(&mut self.log, &self.directory, &name)?;
                writeln!(log, "{}", line.trim_end())?;
            }
            Wake::Docker(FollowItem::Gap { from_nanos, to_nanos, why }) => {
                let (from, to) = (Timestamp::from_nanos(from_nanos), Timestamp::from_nanos(to_nanos));
                self.gap(from, to, why.as_str())?;
            }
            Wake::Docker(FollowItem::Lost { error, tries: 0 }) => live::complain(&error.to_string()),
            Wake::Docker(_) => {}
            Wake::NoLog(why) if self.no_log.as_ref() == Some(&why) => {}
            Wake::NoLog(why) => {
                live::complain(&format!("dockerd's log is not recorded: {why}"));
                self.no_log = Some(why);
            }
        }
        Ok(())
    }

    fn gap(&mut self, from: Timestamp, to: Timestamp, why: &str) -> anyhow::Result<()> {
        let name = format!("{}.gaps.ndjson", self.node);
        let gaps = opened(&mut self.gaps, &self.directory, &name)?;
        writeln!(gaps, "{}", json!({"squall.gap": {"from": from, "to": to, "why": why}}))?;
        Ok(())
    }

    /// What the node has at the beginning: what is pulled beside it is fetched.
    async fn list_images(&self, client: &Client) -> anyhow::Result<()> {
        let mut images = create(&self.directory, &format!("{}.images.ndjson", self.node))?;
        let mut lines = Vec::new();
        if let Err(error) = client.images(&mut |object| lines.extend(without_secrets(object))).await {
            live::complain(&format!("the images of the node are not recorded: {error}"));
        }
        for line in lines {
            writeln!(images, "{line}")?;
        }
        Ok(images.flush()?)
    }

    /// Writes a whole listing, one object a line, after those of an earlier one.
    async fn list(&mut self, client: &Client, what: &str) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        let mut sink = |object: &[u8]| objects.extend(without_secrets(object));
        match what {
            "nodes" => client.nodes(&mut sink).await?,
            _ => client.services(&mut sink).await?,
        };
        let path = self.directory.join(format!("{what}.json"));
        let file = File::options().append(true).create(true).mode(0o600).open(&path);
        let mut file = BufWriter::new(file.with_context(|| format!("cannot write {}", path.display()))?);
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
        let result = client
            .tasks(&[] as &[&str], &mut |object| {
                let Some(task) = without_secrets(object) else { return };
                let (id, version) = (task["ID"].as_str().unwrap_or_default(), task["Version"]["Index"].as_u64());
                let version = version.unwrap_or(0);
                if written.insert(id.to_owned(), version) != Some(version) {
                    changed.push(task);
                }
            })
            .await;
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
        result.map(drop)
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
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
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

/// What is kept of a task, service, node or image.
fn without_secrets(object: &[u8]) -> Option<Value> {
    let object: Value = serde_json::from_slice(object).ok()?;
    let mut kept = json!({});
    for path in KEPT {
        let Some(value) = path.iter().try_fold(&object, |value, key| value.get(key)) else { continue };
        let place = path.iter().fold(&mut kept, |place, key| &mut place[*key]);
        *place = value.clone();
    }
    Some(kept)
}

/// An event without the labels of its container or image.
fn without_labels(event: &[u8]) -> Option<Value> {
    let mut event: Value = serde_json::from_slice(event).ok()?;
    if let Some(Value::Object(attributes)) = event.pointer_mut("/Actor/Attributes") {
        attributes.retain(|key, _| KEPT_ATTRIBUTES.iter().any(|kept| key.starts_with(kept)));
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_environment_reaches_a_recording() {
        let task = br#"{"ID":"t","Spec":{"ContainerSpec":{"Image":"a","Env":["PASSWORD=x"],"Args":["-p","x"]}}}"#;
        let kept = without_secrets(task).expect("an object").to_string();
        assert_eq!(kept, r#"{"ID":"t","Spec":{"ContainerSpec":{"Image":"a"}}}"#);
        let event = br#"{"Type":"container","Actor":{"ID":"c","Attributes":{"name":"web","traefik.auth":"x:y"}}}"#;
        let kept = without_labels(event).expect("an object").to_string();
        assert_eq!(kept, r#"{"Actor":{"Attributes":{"name":"web"},"ID":"c"},"Type":"container"}"#);
    }
}
