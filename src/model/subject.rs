use serde::{Deserialize, Serialize};

/// What is being retried. Never a container or a task: those are new at every try.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// What kind of thing retries it.
    pub kind: SubjectKind,
    /// Its name as a person knows it; the id where no observation told the name.
    pub name: String,
    /// What Docker knows it by: the service id in a Swarm, else the name again.
    pub id: String,
    /// The stack or compose project that it belongs to.
    pub stack: Option<String>,
}

impl Subject {
    /// A registry, by its name in image references.
    pub fn registry(name: &str) -> Self {
        Self { kind: SubjectKind::Registry, name: name.to_owned(), id: name.to_owned(), stack: None }
    }

    /// What is pulled on a node and no service wants: somebody's own `docker pull`, a build, CI.
    pub fn nobody() -> Self {
        Self { kind: SubjectKind::Container, name: "(no service)".to_owned(), id: String::new(), stack: None }
    }
}

/// The kinds of [`Subject`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectKind {
    /// A Swarm service; SwarmKit's orchestrator retries it.
    #[default]
    SwarmService,
    /// A compose service (labels `com.docker.compose.*`); the engine's restart policy retries it.
    ComposeService,
    /// A container by name; the engine's restart policy retries it.
    Container,
    /// An ECS task definition family and container name (labels `com.amazonaws.ecs.*`); the ECS agent retries it.
    EcsFamily,
    /// A registry, by its name in image references: what a [`Finding`](super::Finding) may be about. It retries nothing.
    Registry,
}

impl SubjectKind {
    /// The kind as reports, logs and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SwarmService => "swarm-service",
            Self::ComposeService => "compose-service",
            Self::Container => "container",
            Self::EcsFamily => "ecs-family",
            Self::Registry => "registry",
        }
    }
}
