//! Task, Service, Node, Container and Image objects as the API gives them.
//!
//! They are read field by field from a JSON value: a field of an odd shape is as if it were absent, and an unknown
//! word is one that nothing is known of. The specification's environment, arguments and secrets are not looked at.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::Value;

use super::reading::Reading;
use super::spec::{service_spec, task_spec};
use crate::model::{
    Condition, ContainerListing, Fact, Mode, NodeFact, Observation, Owner, RestartPolicy, ServiceFact, SwarmTask,
    TaskFact, TaskState, Timestamp,
};

/// The most restarts that a container can have had: an engine waits 100 ms before each, so these are 13 years.
const RESTARTS_MAX: u64 = u32::MAX as u64;

/// Reads an object that is one of the five; `None` where it is none of them.
pub fn read_object(object: &Value, origin: u16) -> Option<Reading<'static>> {
    let has = |key: &str| object.get(key).is_some();
    let read = if has("ServiceID") && has("Status") {
        task(object)
    } else if object.pointer("/Spec/TaskTemplate").is_some() {
        service(object)
    } else if object.pointer("/Spec/Role").is_some() || object.pointer("/Description/Hostname").is_some() {
        node(object)
    } else if has("State") && has("Config") {
        container(object)
    } else if has("RepoTags") && has("RepoDigests") {
        image(object)
    } else {
        return None;
    };
    Some(match read {
        Ok((at, fact)) => Reading::Observation(Observation { at, origin, fact }),
        Err(reason) => Reading::Skipped(reason),
    })
}

type Read = Result<(Timestamp, Fact<'static>), &'static str>;

fn task(object: &Value) -> Read {
    let id = text(object, "/ID");
    let service_id = text(object, "/ServiceID");
    if id.is_empty() || service_id.is_empty() {
        return Err("no-id");
    }
    let status_at = time(object, "/Status/Timestamp");
    let created = time(object, "/CreatedAt").or(status_at).ok_or("no-time")?;
    let at = time(object, "/UpdatedAt").or(status_at).unwrap_or(created);
    let exit_code = object
        .pointer("/Status/ContainerStatus/ExitCode")
        .and_then(Value::as_i64)
        .and_then(|code| i32::try_from(code).ok());
    let fact = TaskFact {
        id,
        version: number(object, "/Version/Index"),
        created,
        service_id,
        node_id: text(object, "/NodeID"),
        slot: number(object, "/Slot"),
        is_job: object.get("JobIteration").is_some_and(|iteration| !iteration.is_null()),
        state: state(object, "/Status/State"),
        desired: state(object, "/DesiredState"),
        status_at: status_at.unwrap_or(at),
        error: text(object, "/Status/Err"),
        message: text(object, "/Status/Message"),
        exit_code,
        image: text(object, "/Spec/ContainerSpec/Image"),
        restart: restart_policy(object.pointer("/Spec/RestartPolicy")),
        force_update: number(object, "/Spec/ForceUpdate"),
        has_memory_limit: number(object, "/Spec/Resources/Limits/MemoryBytes") > 0,
        spec: task_spec(object),
    };
    Ok((at, Fact::Task(Box::new(fact))))
}

fn service(object: &Value) -> Read {
    let id = text(object, "/ID");
    if id.is_empty() {
        return Err("no-id");
    }
    let created = time(object, "/CreatedAt").ok_or("no-time")?;
    let mode = match object.pointer("/Spec/Mode").and_then(Value::as_object) {
        Some(mode) if mode.contains_key("Replicated") => {
            // SwarmKit's default where the field is absent is 1.
            let replicas = object.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64);
            Mode::Replicated(replicas.unwrap_or(1))
        }
        Some(mode) if mode.contains_key("Global") => Mode::Global,
        Some(mode) if mode.contains_key("ReplicatedJob") || mode.contains_key("GlobalJob") => Mode::Job,
        _ => Mode::Other,
    };
    let running_and_desired = object
        .get("ServiceStatus")
        .filter(|status| status.is_object())
        .map(|status| (number(status, "/RunningTasks"), number(status, "/DesiredTasks")));
    let fact = ServiceFact {
        id,
        name: text(object, "/Spec/Name"),
        stack: label(object.pointer("/Spec/Labels"), "com.docker.stack.namespace"),
        version: number(object, "/Version/Index"),
        created,
        updated: time(object, "/UpdatedAt").unwrap_or(created),
        rolled_out: time(object, "/UpdateStatus/StartedAt"),
        mode,
        image: text(object, "/Spec/TaskTemplate/ContainerSpec/Image"),
        restart: restart_policy(object.pointer("/Spec/TaskTemplate/RestartPolicy")),
        force_update: number(object, "/Spec/TaskTemplate/ForceUpdate"),
        has_memory_limit: number(object, "/Spec/TaskTemplate/Resources/Limits/MemoryBytes") > 0,
        spec: service_spec(object),
        labels: own_labels(object.pointer("/Spec/Labels")),
        running_and_desired,
    };
    // What a service is called and how it restarts is wanted before its first attempt is judged.
    Ok((created, Fact::Service(Box::new(fact))))
}

fn node(object: &Value) -> Read {
    let id = text(object, "/ID");
    if id.is_empty() {
        return Err("no-id");
    }
    let at = time(object, "/CreatedAt").ok_or("no-time")?;
    let fact = NodeFact {
        id,
        hostname: text(object, "/Description/Hostname"),
        engine: text(object, "/Description/Engine/EngineVersion"),
        is_active: text(object, "/Status/State") == "ready" && text(object, "/Spec/Availability") == "active",
    };
    Ok((at, Fact::Node(fact)))
}

fn image(object: &Value) -> Read {
    let created = number(object, "/Created");
    let at = Timestamp::from_secs(i64::try_from(created).unwrap_or(0));
    let names = ["RepoTags", "RepoDigests"].into_iter().filter_map(|key| object.get(key)?.as_array());
    // What has lost its name is listed as <none>.
    let is_name = |name: &&str| !name.contains('<');
    let references = names.flatten().filter_map(Value::as_str).filter(is_name);
    let id = text(object, "/Id");
    Ok((at, Fact::Image { id, references: references.map(|name| Cow::Owned(name.to_owned())).collect() }))
}

fn container(object: &Value) -> Read {
    let id = text(object, "/Id");
    if id.is_empty() {
        return Err("no-id");
    }
    let started = time(object, "/State/StartedAt");
    let at = started.or_else(|| time(object, "/Created")).ok_or("no-time")?;
    let labels = object.pointer("/Config/Labels");
    let pair = |first: &str, second: &str| Some((label(labels, first)?, label(labels, second)?));
    let swarm = label(labels, "com.docker.swarm.task.id").map(|task_id| SwarmTask {
        task_id,
        service_id: label(labels, "com.docker.swarm.service.id").unwrap_or_default(),
        service_name: label(labels, "com.docker.swarm.service.name").unwrap_or_default(),
        task_name: label(labels, "com.docker.swarm.task.name").unwrap_or_default(),
        node_id: label(labels, "com.docker.swarm.node.id").unwrap_or_default(),
    });
    let name = text(object, "/Name");
    let owner = Owner {
        name: Cow::Owned(name.trim_start_matches('/').to_owned()),
        swarm,
        compose: pair("com.docker.compose.project", "com.docker.compose.service"),
        ecs: pair("com.amazonaws.ecs.task-definition-family", "com.amazonaws.ecs.container-name"),
        stack: label(labels, "com.docker.stack.namespace"),
    };
    let flag = |path: &str| object.pointer(path).and_then(Value::as_bool).unwrap_or(false);
    let fact = ContainerListing {
        id,
        owner,
        image: text(object, "/Config/Image"),
        restart_count: number(object, "/RestartCount").min(RESTARTS_MAX),
        is_restarting: flag("/State/Restarting"),
        is_oom_killed: flag("/State/OOMKilled"),
        exit_code: object
            .pointer("/State/ExitCode")
            .and_then(Value::as_i64)
            .and_then(|c| i32::try_from(c).ok())
            .unwrap_or(0),
        error: text(object, "/State/Error"),
        started,
    };
    Ok((at, Fact::Listing(Box::new(fact))))
}

/// The labels that are squall's own.
fn own_labels(labels: Option<&Value>) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels
        .filter(|(name, _)| name.starts_with("squall."))
        .filter_map(|(name, value)| Some((Cow::Owned(name.clone()), Cow::Owned(value.as_str()?.to_owned()))))
        .collect()
}

fn restart_policy(policy: Option<&Value>) -> RestartPolicy {
    let defaults = RestartPolicy::default();
    let Some(policy) = policy.filter(|policy| policy.is_object()) else { return defaults };
    RestartPolicy {
        condition: match policy.get("Condition").and_then(Value::as_str) {
            Some("none") => Condition::Never,
            Some("on-failure") => Condition::OnFailure,
            _ => Condition::Any,
        },
        delay: policy.get("Delay").and_then(Value::as_u64).map_or(defaults.delay, Duration::from_nanos),
        max_attempts: number(policy, "/MaxAttempts"),
        window: Duration::from_nanos(number(policy, "/Window")),
    }
}

fn text(object: &Value, path: &str) -> Cow<'static, str> {
    Cow::Owned(object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn number(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn time(object: &Value, path: &str) -> Option<Timestamp> {
    Timestamp::parse(object.pointer(path)?.as_str()?).ok()
}

fn state(object: &Value, path: &str) -> TaskState {
    TaskState::from_word(object.pointer(path).and_then(Value::as_str).unwrap_or_default())
}

fn label(labels: Option<&Value>, name: &str) -> Option<Cow<'static, str>> {
    Some(Cow::Owned(labels?.get(name)?.as_str()?.to_owned()))
}
