//! The one next step for each cause and cost, in a sentence with the command to run.

use crate::model::{Cause, ImageRef, SubjectKind};

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
        step.push_str(&quarantine(facts.name));
        step.push_str(&pin(facts));
    }
    step.shrink_to_fit();
    step
}

fn of_service(facts: &Facts<'_>) -> String {
    let Facts { cause, name, image, .. } = *facts;
    let update = |options: &str| run(&format!("docker service update {options} {name}"), &[name]);
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
        Cause::Network => format!("look at the networks that it attaches to{}", inspect(facts)),
        Cause::Unschedulable => format!("look at its constraints and reservations{}", inspect(facts)),
        Cause::SecretConfig => format!("look at its secrets and configs{}", inspect(facts)),
        Cause::ImageMissing => {
            let correct = update("--image REFERENCE");
            format!("push {} or correct the reference{correct}", if image.is_empty() { "the image" } else { image })
        }
        Cause::RegistryAuth if is_locked_out(facts.detail) => wait_for_login(facts),
        Cause::RegistryAuth => {
            format!("log in again and redeploy with the new credentials{}", redeploy(facts, ""))
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
    let login = || run(&format!("docker login {registry}"), &[registry]);
    match cause {
        Cause::AppExit => format!("read why it ends{}", logs()),
        Cause::Oom => "raise its memory limit, or find what it holds on to".to_owned(),
        Cause::HealthCheck => format!("run its health check by hand, and give it time to start{}", logs()),
        Cause::Entrypoint => "correct the command: the image has no such program".to_owned(),
        Cause::Network | Cause::Unschedulable | Cause::SecretConfig | Cause::Unknown => {
            format!("look at it{}", inspect(facts))
        }
        Cause::ImageMissing => {
            format!("push {} or correct the reference", if image.is_empty() { "the image" } else { image })
        }
        Cause::RegistryAuth if is_locked_out(facts.detail) => {
            format!("each further login keeps the lock, so let nothing log in for 15 minutes, then log in{}", login())
        }
        Cause::RegistryAuth => format!("log in again{}", login()),
        _ => of_both(facts),
    }
}

fn of_both(facts: &Facts<'_>) -> String {
    match facts.cause {
        Cause::Mount => of_mount(facts),
        Cause::Volume => of_volume(facts.detail),
        Cause::RegistryQuota if facts.registry == "docker.io" && is_of_account(facts.detail) => {
            let pin = if facts.is_pinned { "" } else { "pin its image by digest, " };
            format!(
                "hold what loops, then {pin}put a pull-through cache before it (registry-mirrors in \
                 /etc/docker/daemon.json) or take a plan with no limit: this one is of the account that is logged in, \
                 and squall report --by service tells who spends it"
            )
        }
        cause => of_cause(cause, facts.registry).to_owned(),
    }
}

/// What needs neither a name nor the engine's words.
fn of_cause(cause: Cause, registry: &str) -> &'static str {
    match cause {
        Cause::Port => "free the port on the node, or publish another",
        Cause::RegistryQuota if registry == "docker.io" => {
            "hold what loops, then log in for a budget of one's own, or put a pull-through cache before it \
             (registry-mirrors in /etc/docker/daemon.json): squall budget tells what is left"
        }
        Cause::RegistryQuota => "hold what loops: squall report --by service tells who spends the pull quota",
        Cause::RegistryAbuse => {
            "hold what loops now, as every request keeps the whole address refused: squall report --by service tells \
             who asks"
        }
        Cause::RegistryLimit if registry == "docker.io" => {
            "hold what loops: the registry limits requests, and squall budget asks it which limit"
        }
        // squall budget asks another registry only where it is configured, and that is not known here.
        Cause::RegistryLimit => {
            "hold what loops: the registry limits requests, and squall report --by service tells who asks"
        }
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
    }
}

fn of_mount(facts: &Facts<'_>) -> String {
    let missing = facts.detail.rsplit_once("bind source path does not exist: ").map(|(_, path)| path.trim());
    if let Some(path) = missing {
        // A directory made where a file system is not mounted hides that. findmnt says nothing of a path that is not
        // there; namei goes as far as there is something.
        let look = run(&format!("namei -x {path} (D marks what is mounted)"), &[path]);
        return format!(
            "create the source on every node that may run it, but mount its file system first where that is \
             missing{look}"
        );
    }
    let step = if facts.detail.contains("mount a directory onto a file") {
        "make the source of the mount what its target is, a file or a directory"
    } else {
        "correct the mount that the engine refuses"
    };
    format!("{step}{}", inspect(facts))
}

/// The local driver, which every engine has, mounts by the volume's options: moby's `volume/local/local_unix.go`.
fn of_volume(detail: &str) -> String {
    let is_local = detail.contains("failed to mount local volume") || detail.contains("network volume address");
    if !is_local {
        return "install the volume driver on every node that may run it, or correct its options".to_owned();
    }
    let path = detail.split_once("/_data").map_or("", |(path, _)| path);
    let name = path.rsplit_once("/volumes/").map_or("", |(_, name)| name);
    let inspect = run(&format!("docker volume inspect {name}"), &[name]);
    format!("check the volume's options on the node, and that it reaches the server that they mount{inspect}")
}

/// Docker Hub refuses logins for 10 minutes after too many that failed (docker/hub-feedback#2201); its words say 15.
fn is_locked_out(detail: &str) -> bool {
    detail.to_ascii_lowercase().contains("too many failed login attempts")
}

/// How a service gets out of that: each try of it is a login.
fn wait_for_login(facts: &Facts<'_>) -> String {
    let wait = if facts.is_held {
        "wait for 15 minutes".to_owned()
    } else {
        format!("hold it for 15 minutes{}", quarantine(facts.name))
    };
    let after = redeploy(facts, &format!(" && squall release {}", facts.name));
    format!("each further login keeps the lock, so {wait}; then log in once and redeploy{after}")
}

/// Docker Hub says `You have reached your pull rate limit as 'ACCOUNT'` to who is logged in.
fn is_of_account(detail: &str) -> bool {
    let words = detail.to_ascii_lowercase();
    words.split_once("pull rate limit").is_some_and(|(_, rest)| rest.trim_start().starts_with("as '"))
}

/// What spares the registry a loop that is none of its making: such a try has its image, and asks only whether the tag
/// is still that. The id of an image is no reference, and is never asked for.
fn pin(facts: &Facts<'_>) -> String {
    let Facts { cause, name, image, .. } = *facts;
    if !matches!(cause, Cause::AppExit | Cause::Oom | Cause::HealthCheck) || ImageRef::parse(image).is_err() {
        return String::new();
    }
    let update = run(&format!("docker service update --image {image}@DIGEST {name}"), &[image, name]);
    format!("; pinned by digest a try asks the registry nothing{update}")
}

fn redeploy(facts: &Facts<'_>, after: &str) -> String {
    let Facts { name, registry, .. } = *facts;
    let both = format!("docker login {registry} && docker service update --force --with-registry-auth {name}{after}");
    run(&both, &[registry, name])
}

fn quarantine(name: &str) -> String {
    run(&format!("squall quarantine {name}"), &[name])
}

fn inspect(facts: &Facts<'_>) -> String {
    let of = if facts.kind == SubjectKind::SwarmService { "docker service inspect" } else { "docker inspect" };
    run(&format!("{of} {}", facts.name), &[facts.name])
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
    fn a_missing_mount_is_mounted_or_made_and_the_service_held_meanwhile() {
        let detail = r#"invalid mount config for type "bind": bind source path does not exist: /mnt/shop"#;
        let facts = Facts { detail, ..facts(Cause::Mount) };
        assert_eq!(
            advice(&facts),
            "create the source on every node that may run it, but mount its file system first where that is \
             missing: namei -x /mnt/shop (D marks what is mounted); till then hold it: squall quarantine shop_api"
        );
    }

    #[test]
    fn no_advice_contradicts_what_is_known() {
        for cause in Cause::ALL {
            let held = advice(&Facts { is_held: true, ..facts(*cause) });
            assert!(!held.contains("quarantine"), "it is held already: {held}");
            let pinned = advice(&Facts { is_pinned: true, ..facts(*cause) });
            assert!(!pinned.contains("quarantine"), "its tries ask for nothing: {pinned}");
            assert!(!pinned.contains("digest"), "it is pinned: {pinned}");
            let told = advice(&facts(*cause));
            assert!(!told.contains("squall budget"), "it answers for what is configured and for Docker Hub: {told}");
            let container = advice(&Facts { kind: SubjectKind::Container, ..facts(*cause) });
            assert!(!container.contains("docker service"), "it is no service: {container}");
            assert!(!held.is_empty() && !container.is_empty());
        }
        let private = advice(&Facts { registry: "ghcr.io", ..facts(Cause::RegistryQuota) });
        assert!(!private.contains("registry-mirrors"), "dockerd mirrors Docker Hub alone: {private}");
    }

    /// Cause, the engine's words, what the advice says and what it does not.
    const WORDS: &[(Cause, &str, &str, &str)] = &[
        (Cause::RegistryAuth, "unauthorized: incorrect username or password", "log in again", "quarantine"),
        (
            Cause::RegistryAuth,
            "toomanyrequests: too many failed login attempts for username or IP address",
            "each further login keeps the lock, so hold it for 15 minutes: squall quarantine shop_api; then log in \
             once and redeploy: docker login docker.io && docker service update --force --with-registry-auth shop_api \
             && squall release shop_api",
            "again",
        ),
        (
            Cause::RegistryQuota,
            "toomanyrequests: You have reached your unauthenticated pull rate limit. \
             https://www.docker.com/increase-rate-limit",
            "log in for a budget of one's own",
            "plan",
        ),
        (
            Cause::RegistryQuota,
            "error from registry: You have reached your pull rate limit as 'acme': dckr_jti_x. You may increase the \
             limit by upgrading.",
            "then pin its image by digest, put a pull-through cache before it (registry-mirrors in \
             /etc/docker/daemon.json) or take a plan",
            "log in",
        ),
        (Cause::RegistryLimit, "429 Too Many Requests", "squall budget asks it", "report"),
        (
            Cause::Volume,
            "starting container failed: error while mounting volume '/var/lib/docker/volumes/shop_data/_data': failed \
             to mount local volume: mount :/srv:/var/lib/docker/volumes/shop_data/_data, data: addr=10.0.0.9: \
             connection refused",
            "that it reaches the server that they mount: docker volume inspect shop_data; till then",
            "install",
        ),
        (
            Cause::Volume,
            "error while mounting volume '/srv/volumes/d/volumes/shop_data/_data': error resolving passed in network \
             volume address: lookup nas on 10.0.0.2:53: no such host",
            "docker volume inspect shop_data; till then",
            "install",
        ),
        (
            Cause::Volume,
            "failed to mount local volume: mount nas:/srv:/data: permission denied",
            "that it reaches the server that they mount; till then",
            "inspect",
        ),
        (Cause::Volume, r#"plugin "rexray" not found"#, "install the volume driver", "inspect"),
        (
            Cause::Mount,
            r#"mounting "/a" to rootfs at "/b": not a directory: Are you trying to mount a directory onto a file"#,
            "what its target is, a file or a directory: docker service inspect shop_api",
            "create",
        ),
        (
            Cause::Mount,
            r#"invalid mount config for type "bind": invalid mount path: 'data' mount path must be absolute"#,
            "correct the mount that the engine refuses: docker service inspect shop_api",
            "create",
        ),
    ];

    #[test]
    fn the_engines_words_decide_what_helps() {
        for &(cause, detail, wanted, unwanted) in WORDS {
            let told = advice(&Facts { detail, image: "shop/api:3", registry: "docker.io", ..facts(cause) });
            assert!(told.contains(wanted), "{detail}: {told}");
            assert!(!told.contains(unwanted), "{detail}: {told}");
        }
    }

    #[test]
    fn a_login_that_is_locked_is_not_tried_again() {
        let detail = "toomanyrequests: too many failed login attempts for username or IP address";
        let locked = Facts { detail, registry: "docker.io", ..facts(Cause::RegistryAuth) };
        let held = advice(&Facts { is_held: true, ..locked });
        assert!(held.contains("so wait for 15 minutes; then log in once") && !held.contains("quarantine"), "{held}");
        let container = advice(&Facts { kind: SubjectKind::Container, ..locked });
        assert!(container.ends_with("for 15 minutes, then log in: docker login docker.io"), "{container}");
    }

    #[test]
    fn what_is_pinned_is_not_to_be_pinned_for_an_account() {
        let detail = "You have reached your pull rate limit as 'acme'";
        let pinned = Facts { detail, registry: "docker.io", is_pinned: true, ..facts(Cause::RegistryQuota) };
        let told = advice(&pinned);
        assert!(told.starts_with("hold what loops, then put a pull-through cache"), "{told}");
        assert!(!told.contains("digest"), "{told}");
    }

    #[test]
    fn a_loop_by_tag_is_told_what_a_digest_saves() {
        let clause = "; till then hold it: squall quarantine shop_api; pinned by digest a try asks the registry \
                      nothing: docker service update --image registry.example.com/shop/api:3@DIGEST shop_api";
        let id = "0".repeat(64);
        for cause in [Cause::AppExit, Cause::Oom, Cause::HealthCheck] {
            let told = advice(&facts(cause));
            assert!(told.ends_with(clause), "{told}");
            for (image, why) in [("", "it is not known"), (&*id, "an id is never asked for")] {
                let told = advice(&Facts { image, ..facts(cause) });
                assert!(!told.contains("digest"), "{why}: {told}");
            }
            for other in
                [Facts { is_held: true, ..facts(cause) }, Facts { kind: SubjectKind::Container, ..facts(cause) }]
            {
                let told = advice(&other);
                assert!(!told.contains("digest"), "it asks for nothing: {told}");
            }
        }
    }

    #[test]
    fn what_others_chose_becomes_no_command() {
        let detail = "bind source path does not exist: /x; rm -rf /";
        let mount = advice(&Facts { detail, name: "a$(reboot)", ..facts(Cause::Mount) });
        assert!(!mount.contains("rm -rf") && !mount.contains("reboot"), "{mount}");
        let detail = "error while mounting volume '/v/volumes/$(reboot)/_data': failed to mount local volume: x";
        let volume = advice(&Facts { detail, ..facts(Cause::Volume) });
        assert!(!volume.contains("reboot"), "{volume}");
        let image = advice(&Facts { image: "a/b:1", name: "a$(reboot)", ..facts(Cause::AppExit) });
        assert!(image.ends_with("asks the registry nothing"), "{image}");
        let auth = advice(&Facts { registry: "-x", ..facts(Cause::RegistryAuth) });
        assert!(!auth.contains("docker login"), "{auth}");
    }
}
