//! The one next step for each cause, in a sentence.

use crate::model::{Cause, SubjectKind};

/// What to do about a storm. `name` is what the subject is called.
pub(super) fn advice(cause: Cause, kind: SubjectKind, name: &str, pinned: bool) -> String {
    let is_service = kind == SubjectKind::SwarmService;
    let logs = if is_service { format!("docker service logs {name}") } else { format!("docker logs {name}") };
    let mut step = match cause {
        Cause::AppExit => format!("read why it ends: {logs}"),
        Cause::Oom => "raise its memory limit (--limit-memory), or find what it holds on to".to_owned(),
        Cause::HealthCheck => format!("run its health check by hand, and give it a start period: {logs}"),
        Cause::Entrypoint => "correct the command or entrypoint: the image has no such program".to_owned(),
        Cause::Mount => "create the source path on every node that may run it, or correct the mount".to_owned(),
        Cause::Volume => "install the volume driver on every node that may run it, or correct its options".to_owned(),
        Cause::Network => "look at the network that it attaches to: docker network inspect".to_owned(),
        Cause::Port => "free the port on the node, or publish another".to_owned(),
        Cause::Unschedulable => format!("look at its constraints and reservations: docker service inspect {name}"),
        Cause::ImageMissing => "push the image under that tag, or correct the reference".to_owned(),
        Cause::RegistryAuth if is_service => "log in again and redeploy with --with-registry-auth".to_owned(),
        Cause::RegistryAuth => "log in again: docker login".to_owned(),
        Cause::RegistryQuota => {
            "stop the loops that spend the pull quota, then log in or use a pull-through cache".to_owned()
        }
        Cause::RegistryAbuse => {
            "scale looping services to zero now: every request keeps the whole address refused".to_owned()
        }
        Cause::RegistryLimit => "stop the loops: the registry limits requests; its headers tell which limit".to_owned(),
        Cause::RegistryUnreachable => "test name, route and certificate of the registry from that node".to_owned(),
        Cause::RegistryError => "wait for the registry: it answers with errors of its own".to_owned(),
        Cause::Platform => "build the image for the platform of the node, or constrain the service".to_owned(),
        Cause::DiskFull => "free space on the node: docker system df".to_owned(),
        Cause::SecretConfig => "look at its secrets and configs: docker service inspect".to_owned(),
        Cause::Runtime => "read dockerd's log on the node: the container runtime failed".to_owned(),
        Cause::PullFailed => {
            "the pull fails and only dockerd's log says why: let squall read it (journald, or --log FILE)".to_owned()
        }
        Cause::NodeDown => "look at the node: docker node ls".to_owned(),
        Cause::Unknown if is_service => format!("look at its tasks: docker service ps --no-trunc {name}"),
        Cause::Unknown => format!("look at it: docker inspect {name}"),
    };
    if is_service && !pinned && !cause.is_pull() {
        step.push_str("; till then scale it to zero, as every try asks for its tag");
    }
    step.shrink_to_fit();
    step
}
