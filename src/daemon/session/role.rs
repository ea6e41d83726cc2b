use super::State;
use crate::docker::Info;
use crate::model::{Subject, SubjectKind};

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

    /// Whether a node of this role sees what becomes of a subject: of services only managers do.
    pub fn sees(self, subject: &Subject) -> bool {
        self == Self::Manager || subject.kind != SubjectKind::SwarmService
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

impl State {
    /// Draws the conclusions from another role, and returns it; `None` if it is still the same.
    pub(super) fn take_role(&mut self) -> Option<Role> {
        let before = std::mem::replace(&mut self.role_said, self.role);
        if before == self.role {
            return None;
        }
        if before == Role::Manager {
            // For this node no service is listed any more.
            self.detector.begin_listing(self.clock.now());
            self.detector.end_listing();
            // Another manager may give back what is held, before this one sees it again.
            self.situation.forget_held_services();
            if let Some(response) = &mut self.response {
                response.responder.forget_held_services();
            }
        }
        Some(self.role)
    }
}
