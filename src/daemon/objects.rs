//! Objects of a listing as what they say.

use crate::ingest::{Reading, read_object};
use crate::model::{Fact, NodeFact, TaskFact, TaskRecord};

/// A task as evidence.
pub(super) fn record_of(task: &TaskFact<'_>) -> TaskRecord {
    TaskRecord {
        id: task.id.to_string(),
        slot: task.slot,
        node_id: task.node_id.to_string(),
        created: task.created,
        state: task.state.as_str().to_owned(),
        exit_code: task.exit_code,
        error: task.error.to_string(),
    }
}

/// What an object says, where it is a task.
pub(super) fn task_of(object: &[u8]) -> Option<TaskFact<'static>> {
    match fact_of(object)? {
        Fact::Task(task) => Some(*task),
        _ => None,
    }
}

/// What an object says, where it is a node.
pub(super) fn node_of(object: &[u8]) -> Option<NodeFact<'static>> {
    match fact_of(object)? {
        Fact::Node(node) => Some(node),
        _ => None,
    }
}

fn fact_of(object: &[u8]) -> Option<Fact<'static>> {
    match read_object(&serde_json::from_slice(object).ok()?, 0)? {
        Reading::Observation(observation) => Some(observation.fact),
        _ => None,
    }
}
