//! Objects of a listing as what they say.

use std::borrow::Cow;

use serde_json::Value;

use crate::docker::{self, Client};
use crate::ingest::{Reading, read_object};
use crate::model::{Fact, NodeFact, Owner, Subject, SwarmTask, TaskFact, TaskRecord};
use crate::respond::ContainerView;

/// How many containers of one subject are looked at.
const CONTAINERS_MAX: usize = 100;

/// The containers of a subject, as many as are looked at.
pub(super) async fn containers_of(client: &Client, subject: &Subject) -> Result<Vec<ContainerView>, docker::Error> {
    let mut ids = Vec::new();
    let mut take = |object: &[u8]| {
        let container: Value = serde_json::from_slice(object).unwrap_or_default();
        let is_its = || {
            let owner = owner_of(&container);
            let found = owner.subject();
            owner.swarm.is_none() && (found.kind, &found.id) == (subject.kind, &subject.id)
        };
        if let Some(id) = container["Id"].as_str().filter(|_| ids.len() < CONTAINERS_MAX && is_its()) {
            ids.push(id.to_owned());
        }
    };
    client.containers(&mut take).await?;
    let mut containers = Vec::new();
    for id in ids {
        match client.inspect_container(&id).await {
            Ok(container) => {
                let container = serde_json::from_slice(&container).ok();
                containers.extend(container.and_then(|container| ContainerView::read(&container)));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(containers)
}

/// Whose a container of a listing is.
fn owner_of(container: &Value) -> Owner<'_> {
    let label = |name: &str| container["Labels"][name].as_str().map(Cow::Borrowed);
    let name = container["Names"][0].as_str().unwrap_or_default().trim_start_matches('/');
    Owner {
        name: Cow::Borrowed(name),
        swarm: label("com.docker.swarm.service.id").map(|_| SwarmTask::default()),
        compose: label("com.docker.compose.project").zip(label("com.docker.compose.service")),
        ecs: label("com.amazonaws.ecs.task-definition-family").zip(label("com.amazonaws.ecs.container-name")),
        stack: None,
    }
}

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
