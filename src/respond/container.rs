//! Plain containers and compose services: their engine restarts them, and a container's labels cannot be changed, so the
//! state of what squall stopped is kept in the journal of the node.
//!
//! There is no back-off here: the engine has one of its own (100 ms doubling to a minute, moby's `restartmanager.go`),
//! and starts the same container again without asking a registry.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guard::{Scene, response_to};
use super::mark::BadLabel;
use super::settings::Settings;
use super::spec::{ignore_of, response_of};
use crate::model::{Author, Cause, Hold, Phase, Quarantine, Refusal, Response, Subject, SubjectKind, Timestamp};

/// How long a container has to run until it counts as healthy beside others that loop.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// The restart policy that starts nothing again.
pub const NEVER_RESTART: &str = "no";

/// What the policy wants to know of a container, as `GET /containers/{id}/json` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    /// `Id`.
    pub id: String,
    /// `Name`, without its slash.
    pub name: String,
    /// `HostConfig.RestartPolicy`.
    pub policy: EnginePolicy,
    /// `State.Running`, and not `State.Restarting`.
    pub is_running: bool,
    /// `State.StartedAt`.
    pub started: Option<Timestamp>,
    /// `RestartCount`: how often its engine has started it again since somebody did.
    pub restarts: u64,
    response: Result<Option<Response>, BadLabel>,
    is_ignored: Result<bool, BadLabel>,
}

/// An engine's restart policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnginePolicy {
    /// `Name`: `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// `MaximumRetryCount`.
    pub max_retries: u64,
}

/// What was stopped of one subject: the journal keeps it as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopMark {
    /// The storm that it is for.
    pub storm: String,
    /// Why that stormed, as reports spell it.
    pub cause: String,
    /// The response, as reports spell it.
    pub response: String,
    /// When, RFC 3339.
    pub since: String,
    /// The containers as they were.
    pub containers: Vec<Stopped>,
}

/// One container as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Its id.
    pub id: String,
    /// Its restart policy.
    pub policy: EnginePolicy,
}

/// One change of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerStep {
    /// Its restart policy becomes this one.
    Policy {
        /// The container.
        id: String,
        /// The policy.
        policy: EnginePolicy,
    },
    /// It is stopped, with its own grace period.
    Stop {
        /// The container.
        id: String,
    },
    /// It is started.
    Start {
        /// The container.
        id: String,
    },
}

impl ContainerView {
    /// Reads a container; `None` where it has no id.
    pub fn read(container: &Value) -> Option<Self> {
        let text = |path: &str| container.pointer(path).and_then(Value::as_str);
        let flag = |path: &str| container.pointer(path).and_then(Value::as_bool).unwrap_or(false);
        let labels = container.pointer("/Config/Labels").and_then(Value::as_object);
        let own: Vec<(&str, &str)> =
            labels.into_iter().flatten().map(|(name, value)| (&**name, value.as_str().unwrap_or_default())).collect();
        Some(Self {
            id: text("/Id").filter(|id| !id.is_empty())?.to_owned(),
            name: text("/Name").unwrap_or_default().trim_start_matches('/').to_owned(),
            policy: EnginePolicy {
                name: text("/HostConfig/RestartPolicy/Name").unwrap_or_default().to_owned(),
                max_retries: container
                    .pointer("/HostConfig/RestartPolicy/MaximumRetryCount")
                    .and_then(Value::as_u64)
                    .unwrap_or(0),
            },
            is_running: flag("/State/Running") && !flag("/State/Restarting"),
            started: text("/State/StartedAt").and_then(|at| Timestamp::parse(at).ok()),
            restarts: container.get("RestartCount").and_then(Value::as_u64).unwrap_or(0),
            response: response_of(&own),
            is_ignored: ignore_of(&own),
        })
    }

    /// Whether it may start again by itself or runs: it is not as squall left it.
    fn is_back(&self) -> bool {
        self.is_running || !matches!(&*self.policy.name, NEVER_RESTART | "")
    }

    /// A container that its engine starts again.
    fn is_restarted(&self) -> bool {
        !matches!(&*self.policy.name, NEVER_RESTART | "")
    }

    /// Runs, and is no part of a loop: for long enough, or without its engine having started it again.
    fn is_healthy(&self, now: Timestamp) -> bool {
        let has_lasted = self.started.is_none_or(|started| now.since(started) >= HEALTHY_AFTER);
        self.is_running && (has_lasted || self.restarts == 0)
    }
}

impl StopMark {
    /// The quarantine, for those who show and tell it.
    pub(super) fn quarantine(&self, subject: Subject) -> Quarantine {
        let hold = Hold {
            response: Response::from_word(&self.response).unwrap_or(Response::Pause),
            by: Author::Breaker,
            since: Timestamp::parse(&self.since).unwrap_or_default(),
            until: None,
            tries: 0,
        };
        let cause = Cause::from_word(&self.cause).unwrap_or(Cause::Unknown);
        Quarantine { subject, storm: self.storm.clone(), cause, image: String::new(), phase: Phase::Held, hold }
    }

    /// What stops these containers, and how to undo it.
    pub(super) fn new(
        storm: &str,
        cause: Cause,
        response: Response,
        now: Timestamp,
        containers: &[ContainerView],
    ) -> Self {
        let stopped = |view: &ContainerView| Stopped { id: view.id.clone(), policy: view.policy.clone() };
        Self {
            storm: storm.to_owned(),
            cause: cause.to_string(),
            response: response.to_string(),
            since: now.to_string(),
            containers: containers.iter().filter(|view| view.is_restarted()).map(stopped).collect(),
        }
    }

    /// Reads what the journal has.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// As the journal keeps it.
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether somebody has started one of them since, or given it a restart policy.
    pub(super) fn is_undone(&self, containers: &[ContainerView]) -> bool {
        let is_ours = |view: &&ContainerView| self.containers.iter().any(|stopped| stopped.id == view.id);
        containers.iter().filter(is_ours).any(ContainerView::is_back)
    }

    /// Whether each of them has the restart policy that it had.
    pub(super) fn is_untouched(&self, containers: &[ContainerView]) -> bool {
        let policy = |id: &str| containers.iter().find(|view| view.id == id).map(|view| &view.policy);
        self.containers.iter().all(|stopped| policy(&stopped.id).is_none_or(|policy| *policy == stopped.policy))
    }

    /// Whether none of them is there any more.
    pub(super) fn is_gone(&self, containers: &[ContainerView]) -> bool {
        !self.containers.iter().any(|stopped| containers.iter().any(|view| view.id == stopped.id))
    }

    /// The policy goes first: what is stopped while its engine starts it again does not stay so.
    pub(super) fn stop_steps(&self) -> Vec<ContainerStep> {
        let never = EnginePolicy { name: NEVER_RESTART.to_owned(), max_retries: 0 };
        let policy = |stopped: &Stopped| ContainerStep::Policy { id: stopped.id.clone(), policy: never.clone() };
        let stop = |stopped: &Stopped| ContainerStep::Stop { id: stopped.id.clone() };
        self.containers.iter().map(policy).chain(self.containers.iter().map(stop)).collect()
    }

    pub(super) fn restore_steps(&self) -> Vec<ContainerStep> {
        let restore = |stopped: &Stopped| {
            let policy = ContainerStep::Policy { id: stopped.id.clone(), policy: stopped.policy.clone() };
            [policy, ContainerStep::Start { id: stopped.id.clone() }]
        };
        self.containers.iter().flat_map(restore).collect()
    }
}

/// What is asked for, and what keeps a container subject from being stopped, the budget apart.
pub(super) fn judge(
    settings: &Settings,
    now: Timestamp,
    subject: &Subject,
    containers: &[ContainerView],
    scene: &Scene,
    is_cooling: bool,
) -> (Response, Option<Refusal>) {
    let label = common_label(containers);
    let (response, is_opted_in) = response_to(settings, &subject.name, label);
    let storm = scene.storm.as_ref();
    let has_gap = storm.is_some_and(|storm| scene.gap_end.is_some_and(|end| end >= storm.onset));
    let has_bad_label = containers.iter().any(|view| view.response.is_err() || view.is_ignored.is_err());
    let is_engines = matches!(subject.kind, SubjectKind::Container | SubjectKind::ComposeService);
    let guards = [
        (Refusal::Ignored, containers.iter().any(|view| view.is_ignored == Ok(true))),
        (Refusal::BadLabel, has_bad_label),
        (Refusal::Observe, response == Response::Observe),
        (Refusal::NotOptedIn, !is_opted_in),
        (Refusal::Unsupported, response == Response::Backoff || !is_engines),
        (Refusal::Gone, !containers.iter().any(ContainerView::is_restarted)),
        (Refusal::TooFewFailures, storm.is_some() && scene.failures() < settings.min_failures),
        (Refusal::TooYoung, storm.is_some_and(|storm| now.since(storm.onset) < settings.min_age)),
        (Refusal::EvidenceGap, scene.is_blind || (has_gap && scene.failures_since_gap < settings.min_failures)),
        (Refusal::HealthyReplica, !settings.allow_healthy && containers.iter().any(|view| view.is_healthy(now))),
        (Refusal::CoolDown, is_cooling),
        (Refusal::NoJournal, !scene.has_journal),
        (Refusal::NotEnforced, !settings.act),
    ];
    (response, guards.into_iter().find(|(_, refuses)| *refuses).map(|(refusal, _)| refusal))
}

/// The response that the labels of all its containers ask for. One that is only to be observed speaks for all; one that
/// is opted in does not, as a container has its image's labels too, those among them that say whose it is: an image that
/// passes for somebody else's compose service would opt that in.
fn common_label(containers: &[ContainerView]) -> Option<Response> {
    let label = |view: &ContainerView| view.response.clone().ok().flatten();
    if containers.iter().any(|view| label(view) == Some(Response::Observe)) {
        return Some(Response::Observe);
    }
    let mut labels = containers.iter().filter(|view| view.is_restarted()).map(label);
    let first = labels.next()?;
    labels.all(|other| other == first).then_some(first)?
}
