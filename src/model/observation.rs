use std::borrow::Cow;
use std::time::Duration;

use super::{Subject, SubjectKind, Timestamp};

/// One normalised fact: who said it, when, and what. It borrows from the line that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation<'a> {
    /// When it became true, on the clock of the daemon that said it.
    pub at: Timestamp,
    /// Which origin said it: the place in the list of origins that the reader keeps.
    pub origin: u16,
    /// What it says.
    pub fact: Fact<'a>,
}

/// What an [`Observation`] can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact<'a> {
    /// A container event.
    Container(ContainerFact<'a>),
    /// `image pull`: Docker logs it on success only, also when the image was up to date.
    Pull {
        /// `Actor.ID`: the reference in its familiar form.
        reference: Cow<'a, str>,
    },
    /// One image of a node's listing.
    Image {
        /// `Id`.
        id: Cow<'a, str>,
        /// `RepoTags` and `RepoDigests`.
        references: Vec<Cow<'a, str>>,
    },
    /// `image untag` or `image delete`: the node has one image, or one of its names, less.
    ImageGone {
        /// `Actor.ID`: the image's id. The event has not the name.
        id: Cow<'a, str>,
    },
    /// A service event: somebody ordered a change. Every manager emits it from its own store.
    Order {
        /// The service's id.
        service_id: Cow<'a, str>,
        /// The service's name.
        service_name: Cow<'a, str>,
        /// What was ordered.
        order: Order,
    },
    /// One task of a listing.
    Task(Box<TaskFact<'a>>),
    /// One service of a listing.
    Service(Box<ServiceFact<'a>>),
    /// One node of a listing.
    Node(NodeFact<'a>),
    /// One line of dockerd's log that names a task.
    Log(LogFact<'a>),
    /// One container of a listing (a worker or a plain host).
    Listing(Box<ContainerListing<'a>>),
    /// The daemon itself started or stopped.
    Engine(Engine),
}

impl Fact<'_> {
    /// Whether it tells of the time that it is dated in: a service, a node and an image were made, or changed, long before
    /// they were listed.
    pub const fn is_of_its_time(&self) -> bool {
        !matches!(self, Self::Service(_) | Self::Node(_) | Self::Image { .. })
    }

    /// Whether it tells of what a Swarm runs, and not of the node itself or of what runs beside the Swarm.
    pub fn is_of_swarm(&self) -> bool {
        match self {
            Self::Container(container) => !container.task_id.is_empty(),
            fact => matches!(fact, Self::Task(_) | Self::Log(_) | Self::Service(_) | Self::Order { .. }),
        }
    }
}

/// What a service event orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `service create`.
    Create,
    /// `service update` of the specification: deploy, scale, forced update, rollback.
    Update,
    /// `service update` that only reports on a rollout (`updatestate.*`).
    Progress,
    /// `service remove`.
    Remove,
}

/// The daemon's own life, as its log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `Daemon has completed initialization`.
    Started,
    /// `Processing signal 'terminated'`.
    Stopping,
}

/// A container event.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerFact<'a> {
    /// `Actor.ID`.
    pub id: Cow<'a, str>,
    /// What happened to it.
    pub action: ContainerAction,
    /// `Actor.Attributes["com.docker.swarm.task.id"]`; empty where it is no task's.
    pub task_id: Cow<'a, str>,
    /// Whose container it is, and what it was made from.
    pub origin: ContainerOrigin<'a>,
}

/// Where a container comes from. Most events are of a container that is known, so it is read when it is asked for.
#[derive(Clone, Debug)]
pub enum ContainerOrigin<'a> {
    /// It has been read.
    Read(Box<(Owner<'a>, Cow<'a, str>)>),
    /// The attributes as JSON, and what reads them.
    Unread(&'a str, for<'t> fn(&'t str) -> (Owner<'t>, Cow<'t, str>)),
}

impl<'a> ContainerOrigin<'a> {
    /// Whose container it is, and the image reference that it was made from (empty where the event has none).
    pub fn read(&self) -> (Owner<'a>, Cow<'a, str>) {
        match self {
            Self::Read(known) => (**known).clone(),
            Self::Unread(attributes, read) => read(attributes),
        }
    }
}

impl PartialEq for ContainerOrigin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

/// The container events that tell something about attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerAction {
    /// `create`.
    Create,
    /// `start`.
    Start,
    /// `die`, with `exitCode` (absent in some: `None`).
    Die {
        /// The exit status, 0 to 255.
        exit_code: Option<i32>,
    },
    /// `kill`: somebody, or the health check, sent a signal.
    Kill,
    /// `stop` or `restart`: somebody ordered it.
    Stop,
    /// `oom`.
    Oom,
    /// `health_status: unhealthy`.
    Unhealthy,
    /// `destroy`.
    Destroy,
}

/// Whose container it is, by the labels that Docker copies into event attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owner<'a> {
    /// `name`.
    pub name: Cow<'a, str>,
    /// `com.docker.swarm.*`.
    pub swarm: Option<SwarmTask<'a>>,
    /// `com.docker.compose.project` and `.service`.
    pub compose: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// `com.amazonaws.ecs.task-definition-family` and `.container-name`.
    pub ecs: Option<(Cow<'a, str>, Cow<'a, str>)>,
    /// `com.docker.stack.namespace`.
    pub stack: Option<Cow<'a, str>>,
}

impl Owner<'_> {
    /// What is retried when the engine starts this container again; no Swarm task's.
    pub fn subject(&self) -> Subject {
        let (kind, name, stack) = match self {
            Self { ecs: Some((family, container)), .. } => {
                (SubjectKind::EcsFamily, format!("{family}/{container}"), Some(family))
            }
            Self { compose: Some((project, service)), .. } => {
                (SubjectKind::ComposeService, format!("{project}/{service}"), Some(project))
            }
            Self { name, .. } if name.is_empty() => (SubjectKind::Container, "unnamed".to_owned(), None),
            Self { name, .. } => (SubjectKind::Container, name.clone().into_owned(), None),
        };
        Subject { kind, id: name.clone(), name, stack: stack.map(ToString::to_string) }
    }
}

/// The Swarm task that a container was made for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwarmTask<'a> {
    /// `com.docker.swarm.service.id`.
    pub service_id: Cow<'a, str>,
    /// `com.docker.swarm.service.name`.
    pub service_name: Cow<'a, str>,
    /// `com.docker.swarm.task.id`.
    pub task_id: Cow<'a, str>,
    /// `com.docker.swarm.task.name`: service, slot or node, task.
    pub task_name: Cow<'a, str>,
    /// `com.docker.swarm.node.id`.
    pub node_id: Cow<'a, str>,
}

/// A task as `GET /tasks` gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFact<'a> {
    /// `ID`.
    pub id: Cow<'a, str>,
    /// `Version.Index`: the raft index of its last change; grows across the whole cluster. 0 where absent.
    pub version: u64,
    /// `CreatedAt`, on the leader's clock.
    pub created: Timestamp,
    /// `ServiceID`.
    pub service_id: Cow<'a, str>,
    /// `NodeID`; empty while no node is assigned.
    pub node_id: Cow<'a, str>,
    /// `Slot`; 0 for global services, and for the first of a replicated job.
    pub slot: u64,
    /// `JobIteration` is there: a task of a job.
    pub is_job: bool,
    /// `Status.State`.
    pub state: TaskState,
    /// `DesiredState`.
    pub desired: TaskState,
    /// `Status.Timestamp`, on the node's clock.
    pub status_at: Timestamp,
    /// `Status.Err`.
    pub error: Cow<'a, str>,
    /// `Status.Message`.
    pub message: Cow<'a, str>,
    /// `Status.ContainerStatus.ExitCode`, where there is one.
    pub exit_code: Option<i32>,
    /// `Spec.ContainerSpec.Image`.
    pub image: Cow<'a, str>,
    /// `Spec.RestartPolicy`, with Swarm's defaults where it is null.
    pub restart: RestartPolicy,
    /// `Spec.ForceUpdate`.
    pub force_update: u64,
    /// `Spec.Resources.Limits.MemoryBytes` is set.
    pub has_memory_limit: bool,
    /// The hash of `Spec` without its force counter and the constraints that squall adds, as these make no new
    /// specification. 0 where there is no `Spec`.
    pub spec: u64,
}

/// A task's state, in SwarmKit's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// A word that this version does not know.
    #[default]
    Other,
    /// `new`.
    New,
    /// `pending`, also `allocated`: waits for a node.
    Pending,
    /// `assigned`.
    Assigned,
    /// `accepted`.
    Accepted,
    /// `preparing`: networks, volumes and the pull.
    Preparing,
    /// `ready`.
    Ready,
    /// `starting`.
    Starting,
    /// `running`.
    Running,
    /// `complete`: ended with exit 0.
    Complete,
    /// `shutdown`: ended because that was ordered.
    Shutdown,
    /// `failed`: fatal from `starting` on.
    Failed,
    /// `rejected`: fatal before `starting`.
    Rejected,
    /// `remove`: a desired state only.
    Remove,
    /// `orphaned`: its node has been down for 24 h.
    Orphaned,
}

impl TaskState {
    /// The state that the API spells `word`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "new" => Self::New,
            "pending" | "allocated" => Self::Pending,
            "assigned" => Self::Assigned,
            "accepted" => Self::Accepted,
            "preparing" => Self::Preparing,
            "ready" => Self::Ready,
            "starting" => Self::Starting,
            "running" => Self::Running,
            "complete" => Self::Complete,
            "shutdown" => Self::Shutdown,
            "failed" => Self::Failed,
            "rejected" => Self::Rejected,
            "remove" => Self::Remove,
            "orphaned" => Self::Orphaned,
            _ => Self::Other,
        }
    }

    /// The state as the API spells it; `unknown` for a word that this version does not know.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "unknown",
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }

    /// Whether the task has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Shutdown | Self::Failed | Self::Rejected | Self::Orphaned)
    }
}

/// `RestartPolicy`: what Swarm does when a task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// `Condition`.
    pub condition: Condition,
    /// `Delay`.
    pub delay: Duration,
    /// `MaxAttempts`; 0 is unlimited.
    pub max_attempts: u64,
    /// `Window`; 0 is none.
    pub window: Duration,
}

impl Default for RestartPolicy {
    /// SwarmKit's `api/defaults/service.go`, which it applies to a policy of null: any, 5 s, unlimited, no window.
    fn default() -> Self {
        Self { condition: Condition::Any, delay: Duration::from_secs(5), max_attempts: 0, window: Duration::ZERO }
    }
}

/// `RestartPolicy.Condition`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// `none`.
    Never,
    /// `on-failure`.
    OnFailure,
    /// `any`, also any word that this version does not know: it is the default.
    #[default]
    Any,
}

/// A service as `GET /services` gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFact<'a> {
    /// `ID`.
    pub id: Cow<'a, str>,
    /// `Spec.Name`.
    pub name: Cow<'a, str>,
    /// `Spec.Labels["com.docker.stack.namespace"]`.
    pub stack: Option<Cow<'a, str>>,
    /// `Version.Index`.
    pub version: u64,
    /// `CreatedAt`.
    pub created: Timestamp,
    /// `UpdatedAt`.
    pub updated: Timestamp,
    /// `UpdateStatus.StartedAt`: when its tasks were last changed, where they were.
    pub rolled_out: Option<Timestamp>,
    /// `Spec.Mode`.
    pub mode: Mode,
    /// `Spec.TaskTemplate.ContainerSpec.Image`.
    pub image: Cow<'a, str>,
    /// `Spec.TaskTemplate.RestartPolicy`, with Swarm's defaults where it is null.
    pub restart: RestartPolicy,
    /// `Spec.TaskTemplate.ForceUpdate`.
    pub force_update: u64,
    /// `Spec.TaskTemplate.Resources.Limits.MemoryBytes` is set.
    pub has_memory_limit: bool,
    /// The hash of `Spec.TaskTemplate`, as [`TaskFact::spec`], and of the kind of `Spec.Mode`. Comparable with other
    /// listings of services only: a task's `Spec` has not every field.
    pub spec: u64,
    /// Those of `Spec.Labels` that begin with `squall.`, by name.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// `ServiceStatus.RunningTasks` and `.DesiredTasks`, where the listing was asked with `status=true` (API 1.41).
    pub running_and_desired: Option<(u64, u64)>,
}

/// `Spec.Mode` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// `Replicated`, with its number of replicas.
    Replicated(u64),
    /// `Global`: one task on every node that may run it.
    Global,
    /// `ReplicatedJob` or `GlobalJob`.
    Job,
    /// A word that this version does not know.
    #[default]
    Other,
}

/// A node as `GET /nodes` gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFact<'a> {
    /// `ID`.
    pub id: Cow<'a, str>,
    /// `Description.Hostname`.
    pub hostname: Cow<'a, str>,
    /// `Description.Engine.EngineVersion`.
    pub engine: Cow<'a, str>,
    /// `Status.State` is `ready`, and `Spec.Availability` is `active`.
    pub is_active: bool,
}

/// A line of dockerd's log about a task (`module=node/agent/taskmanager`).
#[derive(Clone, Debug, PartialEq)]
pub struct LogFact<'a> {
    /// Which line it is.
    pub kind: LogKind,
    /// `service.id`.
    pub service_id: Cow<'a, str>,
    /// `task.id`.
    pub task_id: Cow<'a, str>,
    /// `node.id`.
    pub node_id: Cow<'a, str>,
    /// `error`: the engine's own words.
    pub error: Cow<'a, str>,
}

/// The log lines that name a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// `pulling image failed`: the task goes on with a local image if there is one.
    PullFailed,
    /// `fatal task error`: the task ended; the text is the one copied into `Status.Err`.
    TaskFailed,
}

/// A container as `GET /containers/{id}/json` gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerListing<'a> {
    /// `Id`.
    pub id: Cow<'a, str>,
    /// Whose container it is.
    pub owner: Owner<'a>,
    /// `Config.Image`.
    pub image: Cow<'a, str>,
    /// `RestartCount`: how often the engine's restart policy started it again.
    pub restart_count: u64,
    /// `State.Restarting`: it has died and waits for its next start.
    pub is_restarting: bool,
    /// `State.OOMKilled`.
    pub is_oom_killed: bool,
    /// `State.ExitCode`.
    pub exit_code: i32,
    /// `State.Error`.
    pub error: Cow<'a, str>,
    /// `State.StartedAt`, where it has started.
    pub started: Option<Timestamp>,
}
