//! The recorded Swarm as it was, second by second: a daemon that shows its past as if it were now.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use squall::model::Timestamp;

use super::support::fake_daemon::{Answer, FakeDaemon, Request, manager_info};
use super::swarm3_file;

/// Swarm keeps so many tasks of a slot.
const HISTORY: usize = 5;

/// The daemon of node1, on the recording's last seconds.
pub(super) struct Recorded {
    daemon: FakeDaemon,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Listings {
    /// From the recording's time to now.
    shift: i64,
    tasks: Vec<(i64, Value)>,
}

impl Recorded {
    /// Starts it so long before the recording's end; dockerd's log is written to this file.
    pub(super) fn start(dir: &Path, log: &Path, last: Duration) -> Self {
        let lines = |name: &str| swarm3_file(name).lines().map(str::to_owned).collect::<Vec<_>>();
        let mut tasks: Vec<(i64, Value)> = lines("tasks.ndjson.gz")
            .iter()
            .filter_map(|line| {
                let task: Value = serde_json::from_str(line).ok()?;
                Some((nanos(task["UpdatedAt"].as_str()?), task))
            })
            .collect();
        tasks.sort_by_key(|(at, _)| *at);
        let end = tasks.last().unwrap().0;
        let shift = super::now_nanos() - (end - i64::try_from(last.as_nanos()).unwrap());
        let listings = Arc::new(Listings { shift, tasks });
        let daemon = FakeDaemon::start(dir);
        let nodes: Value = serde_json::from_str(&swarm3_file("nodes.json")).unwrap();
        let own =
            nodes.as_array().unwrap().iter().find(|node| node["Description"]["Hostname"] == "node1").unwrap().clone();
        let own_id = own["ID"].as_str().unwrap().to_owned();
        let info_id = own_id.clone();
        daemon.on("/info", move |_| {
            let mut info = manager_info();
            info["Name"] = json!("node1");
            info["SystemTime"] = json!(Timestamp::from_nanos(super::now_nanos()).to_string());
            info["Swarm"]["NodeID"] = json!(info_id);
            Answer::json(info.to_string())
        });
        daemon.on(&format!("/nodes/{own_id}"), move |_| Answer::json(own.to_string()));
        let shifted_nodes = shifted(nodes, shift);
        daemon.on("/nodes", move |_| Answer::json(shifted_nodes.to_string()));
        let services = shifted(serde_json::from_str(&swarm3_file("services.json")).unwrap(), shift);
        daemon.on("/services", move |_| Answer::json(services.to_string()));
        daemon.on("/tasks", move |request| Answer::json(listings.list(request).to_string()));
        let mut spoken: Vec<(i64, bool, String)> = Vec::new();
        for line in lines("node1.events.ndjson.gz") {
            let Ok(mut event) = serde_json::from_str::<Value>(&line) else { continue };
            let Some(at) = event["timeNano"].as_i64() else { continue };
            event["timeNano"] = json!(at + shift);
            event["time"] = json!((at + shift) / 1_000_000_000);
            spoken.push((at + shift, true, event.to_string()));
        }
        for line in lines("node1.dockerd.log.gz") {
            let Some((time, rest)) = line.strip_prefix("time=\"").and_then(|rest| rest.split_once('"')) else {
                continue;
            };
            let at = nanos(time) + shift;
            spoken.push((at, false, format!("time=\"{}\"{rest}\n", Timestamp::from_nanos(at))));
        }
        spoken.sort_by_key(|(at, ..)| *at);
        let is_ending = Arc::new(AtomicBool::new(false));
        let (ending, events) = (Arc::clone(&is_ending), daemon.events());
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let started = super::now_nanos();
        let first = spoken.partition_point(|(at, ..)| *at <= started);
        let live = spoken.split_off(first);
        let mut speak = move |(at, is_event, text): (i64, bool, String)| {
            if is_event { events.emit(at, text) } else { log.write_all(text.as_bytes()).unwrap() }
        };
        spoken.into_iter().for_each(&mut speak);
        let thread = std::thread::spawn(move || {
            for (at, is_event, text) in live {
                while super::now_nanos() < at {
                    if ending.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                speak((at, is_event, text));
            }
        });
        Self { daemon, is_ending, thread: Some(thread) }
    }

    pub(super) fn host(&self) -> String {
        self.daemon.host()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Listings {
    /// The tasks as they are now, the newest of each slot.
    fn list(&self, request: &Request) -> Value {
        let filters: Value = serde_json::from_str(request.parameter("filters").unwrap_or("{}")).unwrap();
        let wanted: Vec<&str> = filters["service"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let now = super::now_nanos() - self.shift;
        let mut newest: BTreeMap<&str, &Value> = BTreeMap::new();
        for (at, task) in self.tasks.iter().filter(|(at, _)| *at <= now) {
            let service = task["ServiceID"].as_str().unwrap_or_default();
            if *at <= now && (wanted.is_empty() || wanted.contains(&service)) {
                newest.insert(task["ID"].as_str().unwrap(), task);
            }
        }
        let mut slots: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for task in newest.into_values() {
            let node = if task["Slot"].is_null() { task["NodeID"].to_string() } else { String::new() };
            slots.entry(format!("{} {} {node}", task["ServiceID"], task["Slot"])).or_default().push(task);
        }
        let kept = slots.into_values().flat_map(|mut tasks| {
            tasks.sort_by_key(|task| task["CreatedAt"].as_str().unwrap_or_default().to_owned());
            tasks.split_off(tasks.len().saturating_sub(HISTORY))
        });
        Value::Array(kept.map(|task| shifted(task.clone(), self.shift)).collect())
    }
}

fn nanos(text: &str) -> i64 {
    Timestamp::parse(text).unwrap().as_nanos()
}

/// The same with all its times moved.
fn shifted(value: Value, shift: i64) -> Value {
    match value {
        Value::String(text) if text.starts_with("2026-11-2") && text.ends_with('Z') => {
            json!(Timestamp::from_nanos(nanos(&text) + shift).to_string())
        }
        Value::Array(list) => list.into_iter().map(|one| shifted(one, shift)).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, one)| (key, shifted(one, shift))).collect()),
        other => other,
    }
}
