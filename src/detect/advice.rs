//! The one next step for each cause and cost, in a sentence with the command to run.

use crate::model::{Cause, SubjectKind};

/// What is known of what storms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) cause: Cause,
    pub(super) kind: SubjectKind,
    /// What the subject is called.
    pub(super) name: &'a str,
    /// Its image reference; may be empty.
    pub(super) image: &'a str,
    /// The registry of that; may be empty.
    pub(super) registry: &'a str,
    /// The engine's own words.
    pub(super) detail: &'a str,
    pub(super) is_pinned: bool,
    pub(super) is_held: bool,
}

/// What to do about a storm.
pub(super) fn advice(facts: &Facts<'_>) -> String {
    let is_service = facts.kind == SubjectKind::SwarmService;
    let mut step = if is_service { of_service(facts) } else { of_container(facts) };
    if is_service && !facts.is_pinned && !facts.is_held && !facts.cause.is_pull() {
        step.push_str("; till then hold it");
        step.push_str(&run(&format!("squall quarantine {}", facts.name), &[facts.name]));
    }
    step.shrink_to_fit();
    step
}

fn of_service(facts: &Facts<'_>) -> String {
    let Facts { cause, name, image, registry, .. } = *facts;
    let update = |options: &str| run(&format!("docker service update {options} {name}"), &[name]);
    let inspect = || run(&format!("docker service inspect {name}"), &[name]);
    match cause {
        Cause::AppExit => format!("read why it ends{}", run(&format!("docker service logs {name}"), &[name])),
        Cause::Oom => {
            format!("raise its memory limit, or find what it holds on to{}", update("--limit-memory BYTES"))
        }
        Cause::HealthCheck => {
            format!("run its health check by hand, and give it time to start{}", update("--health-start-period 1m"))
        }
        Cause::Entrypoint => {
            format!("correct the command: the image has no such program{}", update("--entrypoint COMMAND"))
        }
        Cause::Network => format!("look at the networks that it attaches to{}", inspect()),
        Cause::Unschedulable => format!("look at its constraints and reservations{}", inspect()),
        Cause::SecretConfig => format!("look at its secrets and configs{}", inspect()),
        Cause::ImageMissing => {
            let correct = update("--image REFERENCE");
            format!("push {} or correct the reference{correct}", if image.is_empty() { "the image" } else { image })
        }
        Cause::RegistryAuth => {
            let login =
                if registry.is_empty() { "docker login".to_owned() } else { format!("docker login {registry}") };
            let both = format!("{login} && docker service update --force --with-registry-auth {name}");
            format!("log in again and redeploy with the new credentials{}", run(&both, &[registry, name]))
        }
        Cause::Unknown => {
            format!("look at its tasks{}", run(&format!("docker service ps --no-trunc {name}"), &[name]))
        }
        _ => of_both(facts),
    }
}

fn of_container(facts: &Facts<'_>) -> String {
    let Facts { cause, name, image, registry, .. } = *facts;
    let logs = || run(&format!("docker logs {name}"), &[name]);
    let inspect = || run(&format!("docker inspect {name}"), &[name]);
    match cause {
        Cause::AppExit => format!("read why it ends{}", logs()),
        Cause::Oom => "raise its memory limit, or find what it holds on to".to_owned(),
        Cause::HealthCheck => format!("run its health check by hand, and give it time to start{}", logs()),
        Cause::Entrypoint => "correct the command: the image has no such program".to_owned(),
        Cause::Network | Cause::Unschedulable | Cause::SecretConfig | Cause::Unknown => {
            format!("look at it{}", inspect())
        }
        Cause::ImageMissing => {
            format!("push {} or correct the reference", if image.is_empty() { "the image" } else { image })
        }
        Cause::RegistryAuth => format!("log in again{}", run(&format!("docker login {registry}"), &[registry])),
        _ => of_both(facts),
    }
}

fn of_both(facts: &Facts<'_>) -> String {
    let words = match facts.cause {
        Cause::Mount => {
            let path = facts.detail.rsplit_once("bind source path does not exist: ").map(|(_, path)| path.trim());
            let command = path.map(|path| run(&format!("mkdir -p {path}"), &[path])).unwrap_or_default();
            return format!("create the source on every node that may run it{command}");
        }
        Cause::Volume => "install the volume driver on every node that may run it, or correct its options",
        Cause::Port => "free the port on the node, or publish another",
        Cause::RegistryQuota if facts.registry == "docker.io" => {
            "hold what loops, then log in for a budget of one's own, or put a pull-through cache before it \
             (registry-mirrors in /etc/docker/daemon.json): squall budget tells what is left"
        }
        Cause::RegistryQuota => "hold what loops: squall report --by service tells who spends the pull quota",
        Cause::RegistryAbuse => {
            "hold what loops now, as every request keeps the whole address refused: squall report --by service tells \
             who asks"
        }
        Cause::RegistryLimit => "hold what loops: the registry limits requests, and squall budget asks it which limit",
        Cause::RegistryUnreachable => "test name, route and certificate of the registry from that node",
        Cause::RegistryError => "wait for the registry: it answers with errors of its own",
        Cause::Platform => "build the image for the platform of the node, or constrain the service",
        Cause::DiskFull => "free space on the node: docker system df",
        Cause::Runtime => "read dockerd's log on the node: the container runtime failed",
        Cause::PullFailed => {
            "the pull fails and only dockerd's log says why: let squall read it (journald, or --log FILE)"
        }
        Cause::NodeDown => "look at the node: docker node ls",
        _ => "look at it with docker inspect",
    };
    words.to_owned()
}

/// A command to run, where the words that others chose are plain: a name or a path could be a command of its own.
fn run(command: &str, words: &[&str]) -> String {
    let is_plain = |word: &&str| {
        !word.is_empty()
            && !word.starts_with('-')
            && word.chars().all(|char| char.is_ascii_alphanumeric() || "-_./:@+".contains(char))
    };
    if words.iter().all(is_plain) { format!(": {command}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(cause: Cause) -> Facts<'static> {
        Facts {
            cause,
            kind: SubjectKind::SwarmService,
            name: "shop_api",
            image: "registry.example.com/shop/api:3",
            registry: "registry.example.com",
            detail: "",
            is_pinned: false,
            is_held: false,
        }
    }

    #[test]
    fn a_missing_mount_is_made_and_the_service_held_meanwhile() {
        let detail = r#"invalid mount config for type "bind": bind source path does not exist: /mnt/shop"#;
        let facts = Facts { detail, ..facts(Cause::Mount) };
        assert_eq!(
            advice(&facts),
            "create the source on every node that may run it: mkdir -p /mnt/shop; till then hold it: squall quarantine \
             shop_api"
        );
    }

    #[test]
    fn no_advice_contradicts_what_is_known() {
        for cause in Cause::ALL {
            let held = advice(&Facts { is_held: true, ..facts(*cause) });
            assert!(!held.contains("quarantine"), "it is held already: {held}");
            let pinned = advice(&Facts { is_pinned: true, ..facts(*cause) });
            assert!(!pinned.contains("quarantine"), "its tries ask for nothing: {pinned}");
            let container = advice(&Facts { kind: SubjectKind::Container, ..facts(*cause) });
            assert!(!container.contains("docker service"), "it is no service: {container}");
            assert!(!held.is_empty() && !container.is_empty());
        }
        let private = advice(&Facts { registry: "ghcr.io", ..facts(Cause::RegistryQuota) });
        assert!(!private.contains("registry-mirrors"), "dockerd mirrors Docker Hub alone: {private}");
    }

    #[test]
    fn what_others_chose_becomes_no_command() {
        let detail = "bind source path does not exist: /x; rm -rf /";
        let mount = advice(&Facts { detail, name: "a$(reboot)", ..facts(Cause::Mount) });
        assert!(!mount.contains("rm -rf") && !mount.contains("reboot"), "{mount}");
        let auth = advice(&Facts { registry: "-x", ..facts(Cause::RegistryAuth) });
        assert!(!auth.contains("docker login"), "{auth}");
    }
}
