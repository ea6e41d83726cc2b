use crate::docker::Info;

/// What this node is in its Swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sees every service and task.
    Manager,
    /// It sees its own containers only.
    Worker,
    /// There is no Swarm.
    Plain,
}

impl Role {
    pub(super) fn of(info: &Info) -> Self {
        match (info.swarm.control_available, &*info.swarm.local_node_state) {
            (true, _) => Self::Manager,
            (false, "" | "inactive") => Self::Plain,
            (false, _) => Self::Worker,
        }
    }

    /// The role as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Worker => "worker",
            Self::Plain => "plain",
        }
    }
}
