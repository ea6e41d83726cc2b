//! What a service's tasks tell: whether a healthy replica would die, and how a watched attempt goes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Mode, TaskFact, TaskState, Timestamp};

/// How long a replica of a slot that loops has to run until it counts as healthy, at least: an attempt that fails
/// within its first seconds is the common one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How long at most, however slow the loop is.
const HEALTHY_AT_LAST: Duration = Duration::from_secs(300);
/// How often a slot has to have failed since the storm began for it to loop.
const LOOP_FAILURES: usize = 2;

/// A slot: its number, or for a global service its node.
type Slot<'a> = (u64, &'a str);

/// The slots whose replica runs and is healthy at `now`: the slot does not loop since the storm's onset, or the replica
/// has outlived two loop periods. In doubt a replica is healthy.
pub(super) fn healthy<'a>(tasks: &'a [TaskFact<'a>], onset: Timestamp, now: Timestamp) -> Vec<Slot<'a>> {
    let mut slots: BTreeMap<Slot<'_>, Vec<&TaskFact<'_>>> = BTreeMap::new();
    for task in tasks {
        slots.entry(slot_of(task)).or_default().push(task);
    }
    slots.into_iter().filter(|(_, tasks)| is_healthy(tasks, onset, now)).map(|(slot, _)| slot).collect()
}

/// The longest loop period that the tasks of one slot show since the storm's onset; zero where they show none.
pub(super) fn period(tasks: &[TaskFact<'_>], onset: Timestamp) -> Duration {
    let mut ended: BTreeMap<Slot<'_>, Vec<Timestamp>> = BTreeMap::new();
    for task in tasks.iter().filter(|task| has_failed(task) && task.status_at >= onset) {
        ended.entry(slot_of(task)).or_default().push(task.status_at);
    }
    ended.into_values().map(spacing).max().unwrap_or_default()
}

/// How a watched attempt goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not all of what is wanted runs yet.
    Waiting,
    /// All of it runs.
    Running,
    /// An attempt failed.
    Failed,
}

/// How the attempts since a service's version was `version` go, of which `wanted` are to run.
pub(super) fn progress(tasks: &[TaskFact<'_>], version: u64, wanted: u64) -> Progress {
    if tasks.iter().any(|task| task.version > version && has_failed(task)) {
        return Progress::Failed;
    }
    // What was brought back before runs on.
    let running = tasks.iter().filter(|task| is_running(task)).count() as u64;
    if wanted > 0 && running >= wanted { Progress::Running } else { Progress::Waiting }
}

/// How many tasks are to run, by Swarm's own account.
pub(super) fn wanted(tasks: &[TaskFact<'_>], mode: Mode) -> u64 {
    match mode {
        Mode::Replicated(replicas) => replicas,
        _ => tasks.iter().filter(|task| !is_over(task)).count() as u64,
    }
}

fn is_healthy(tasks: &[&TaskFact<'_>], onset: Timestamp, now: Timestamp) -> bool {
    let Some(running) = tasks.iter().filter(|task| is_running(task)).max_by_key(|task| task.created) else {
        return false;
    };
    let looping = || tasks.iter().filter(|task| has_failed(task) && task.status_at >= onset);
    if looping().count() < LOOP_FAILURES {
        return true;
    }
    // From end to end: what ran well for weeks before it failed first is no part of the loop.
    let period = spacing(looping().map(|task| task.status_at).chain([running.created]).collect());
    now.since(running.created) >= HEALTHY_AFTER.max((period * 2).min(HEALTHY_AT_LAST))
}

/// The longest pause between two of the moments.
fn spacing(mut created: Vec<Timestamp>) -> Duration {
    created.sort_unstable();
    created.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or_default()
}

pub(super) fn slot_of<'a>(task: &'a TaskFact<'a>) -> Slot<'a> {
    if task.slot > 0 { (task.slot, "") } else { (0, &task.node_id) }
}

fn is_running(task: &TaskFact<'_>) -> bool {
    task.state == TaskState::Running && !is_ordered_down(task)
}

/// It ended by itself: an exit 0 too, for a service that is to run.
fn has_failed(task: &TaskFact<'_>) -> bool {
    matches!(task.state, TaskState::Failed | TaskState::Rejected | TaskState::Complete)
}

fn is_over(task: &TaskFact<'_>) -> bool {
    task.state.is_terminal() || is_ordered_down(task)
}

fn is_ordered_down(task: &TaskFact<'_>) -> bool {
    matches!(task.desired, TaskState::Shutdown | TaskState::Remove)
}

/// The highest `Version.Index` among tasks: what they do later has a higher one, as it grows over the whole Swarm.
pub(super) fn newest(tasks: &[TaskFact<'_>]) -> u64 {
    tasks.iter().map(|task| task.version).max().unwrap_or(0)
}

/// The slots that run, and have not failed since the service's version was `version`.
pub(super) fn steady<'a>(tasks: &'a [TaskFact<'a>], version: u64) -> Vec<Slot<'a>> {
    let has_failed = |slot| tasks.iter().any(|t| slot_of(t) == slot && t.version > version && has_failed(t));
    let mut slots: Vec<_> = tasks.iter().filter(|task| is_running(task)).map(slot_of).collect();
    slots.sort_unstable();
    slots.dedup();
    slots.retain(|slot| !has_failed(*slot));
    slots
}
