//! The image and the stack of packaging/ on a real Docker Swarm: squall watches the Swarm that it runs on, through its
//! proxy, and is never the storm. nginx is the host's own, made an image of.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]
#![expect(clippy::print_stdout, reason = "figures")]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/packages.rs"]
mod packages;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::{Lab, checked, now};
use packages::packages;
use serde_json::Value;

const STACK: &str = "squall";
/// What the stack allows, in deploy.restart_policy.
const ATTEMPTS_MAX: usize = 10;
/// What differs from packaging/stack.yml here, for the tests' time only: how often it is tried and asked, not how many
/// times.
const FASTER: &str = "
version: '3.8'
services:
  squall:
    healthcheck: {interval: 2s}
    deploy: {restart_policy: {delay: 1s}}
  proxy:
    deploy: {restart_policy: {delay: 1s}}
";

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// packaging/image, on the lab's Docker and with Debian's docker command.
fn build(lab: &Lab, args: &[&str]) -> String {
    let mut build = Command::new(packaging("image"));
    build.args(args).arg(packages().join("squall")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    build.env("DOCKER_HOST", lab.var("DOCKER_HOST")).env("DOCKER_CONFIG", lab.var("DOCKER_CONFIG"));
    build.env_remove("DOCKER_CONTEXT").env_remove("SOURCE_DATE_EPOCH");
    checked(build.output().unwrap(), "packaging/image").trim().to_owned()
}

/// The image's name with the digest that the lab's registry gave it.
fn pushed(lab: &Lab, image: &str, name: &str) -> String {
    let repository = format!("{}/{name}", lab.var("REGISTRY"));
    let tag = format!("{repository}:1");
    lab.docker(&["tag", image, &tag]);
    lab.docker(&["push", "--quiet", &tag]);
    let digests = lab.docker(&["image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", &tag]);
    let of_repository = digests.lines().find(|digest| digest.starts_with(&format!("{repository}@sha256:")));
    of_repository.unwrap().to_owned()
}

/// An image of the host's nginx, its libraries, and a shell.
fn nginx_image(lab: &Lab, dir: &Path) -> String {
    let root = dir.join("nginx");
    for inner in ["bin", "etc", "tmp", "usr/sbin"] {
        fs::create_dir_all(root.join(inner)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    fs::copy(lab.dir().join("rootfs/bin/busybox"), root.join("bin/busybox")).unwrap();
    for applet in ["sh", "rm"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::copy("/usr/sbin/nginx", root.join("usr/sbin/nginx")).unwrap();
    let libraries = checked(Command::new("/usr/bin/ldd").arg("/usr/sbin/nginx").output().unwrap(), "ldd");
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(library, inside).unwrap();
    }
    let tar = dir.join("nginx.tar");
    checked(Command::new("/usr/bin/tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").output().unwrap(), "tar");
    lab.docker(&["import", tar.to_str().unwrap()]).trim().to_owned()
}

/// packaging/stack.yml, deployed; its services, configs, volumes and images go with it.
struct Stack<'a> {
    lab: &'a Lab,
    dir: tempfile::TempDir,
    squall: String,
    proxy: String,
}

impl<'a> Stack<'a> {
    /// Builds and pushes both images. Nothing is deployed yet.
    fn new(lab: &'a Lab) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let squall = pushed(lab, &build(lab, &[]), "squall");
        let proxy = pushed(lab, &nginx_image(lab, dir.path()), "proxy");
        fs::write(dir.path().join("faster.yml"), FASTER).unwrap();
        Self { lab, dir, squall, proxy }
    }

    /// A file beside the stack's own, for its overrides.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `docker stack deploy` as an operator types it, with further files over the stack's own.
    fn deploy(&self, over: &[&Path]) {
        let mut deploy = self.lab.docker_command(&["stack", "deploy"]);
        for file in [packaging("stack.yml").as_path(), &self.dir.path().join("faster.yml")].iter().chain(over) {
            deploy.arg("--compose-file").arg(file);
        }
        deploy.arg(STACK).env("SQUALL_IMAGE", &self.squall).env("SQUALL_PROXY_IMAGE", &self.proxy);
        deploy.env("DOCKER_SOCKET", self.lab.var("DOCKER_HOST").strip_prefix("unix://").unwrap());
        deploy.env_remove("SQUALL_LOG").env_remove("SQUALL_STACK_REVISION");
        checked(deploy.output().unwrap(), "docker stack deploy");
    }

    /// What a service of the stack has said, over all its tasks. No log yet is no word.
    fn logs(&self, service: &str) -> String {
        let output = self.lab.docker_command(&["service", "logs", "--raw", &format!("{STACK}_{service}")]).output();
        let output = output.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// The id and the status of each container of a service, as `docker ps` shows them.
    fn containers(&self, service: &str) -> Vec<(String, String)> {
        let label = format!("label=com.docker.swarm.service.name={STACK}_{service}");
        let list = self.lab.docker(&["ps", "--filter", &label, "--format", "{{.ID}} {{.Status}}"]);
        list.lines().filter_map(|line| line.split_once(' ')).map(|(id, status)| (id.into(), status.into())).collect()
    }

    /// The one container of a service, once it is healthy, or just up where it has no such check.
    fn healthy(&self, service: &str, sign: &str) -> String {
        self.wait(&format!("{service} is {sign}"), 60, || match &self.containers(service)[..] {
            [(id, status)] if status.contains(sign) => Some(id.clone()),
            _ => None,
        })
    }

    /// The states of all tasks of a service that Swarm remembers, and what it wants of them.
    fn tasks(&self, service: &str) -> Vec<String> {
        let format = "{{.DesiredState}} {{.CurrentState}}";
        let list = self.lab.docker(&["service", "ps", "--format", format, &format!("{STACK}_{service}")]);
        list.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, secs: u64, mut answer: impl FnMut() -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(secs);
        loop {
            if let Some(answer) = answer() {
                return answer;
            }
            if Instant::now() >= until {
                let tasks = self.lab.docker_says(&["stack", "ps", "--no-trunc", STACK]).unwrap_or_default();
                let (squall, proxy) = (self.logs("squall"), self.logs("proxy"));
                panic!("not in {secs} s: {what}\n{tasks}\nsquall: {squall}\nproxy: {proxy}");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    #[track_caller]
    fn wait_for_word(&self, words: &[&str], secs: u64) {
        self.wait(&format!("squall says {words:?}"), secs, || {
            let log = self.logs("squall");
            log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        let lab = self.lab;
        lab.docker_says(&["stack", "rm", STACK]);
        let label = format!("label=com.docker.stack.namespace={STACK}");
        let until = Instant::now() + Duration::from_secs(60);
        let is_left =
            || lab.docker_says(&["ps", "--all", "--quiet", "--filter", &label]).is_none_or(|ids| !ids.is_empty());
        while is_left() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(300));
        }
        for (kind, list) in [("volume", vec!["volume", "ls"]), ("config", vec!["config", "ls"])] {
            let args: Vec<&str> = list.into_iter().chain(["--quiet", "--filter", &label]).collect();
            for id in lab.docker_says(&args).unwrap_or_default().lines() {
                lab.docker_says(&[kind, "rm", id]);
            }
        }
        for repository in ["squall", "proxy"] {
            let name = format!("{}/{repository}", lab.var("REGISTRY"));
            for id in lab.docker_says(&["images", "--quiet", &name]).unwrap_or_default().lines() {
                lab.docker_says(&["rmi", "--force", id]);
            }
        }
    }
}

/// How often a registry was asked for a repository, in its own words: nginx logs each request before the next one.
fn asked(lab: &Lab, repository: &str) -> usize {
    let log = fs::read_to_string(lab.var("REGISTRY_ACCESS_LOG")).unwrap();
    log.lines().filter(|line| line.contains(&format!(" /v2/{repository}/"))).count()
}

#[test]
fn the_image_holds_squall_and_nothing_that_could_run_beside_it() {
    let lab = Lab::enter();
    let dir = tempfile::tempdir().unwrap();
    let image = build(&lab, &[]);
    let inspected: Value = serde_json::from_str(&lab.docker(&["image", "inspect", &image])).unwrap();
    let config = &inspected[0]["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/squall"]));
    assert_eq!(config["Cmd"], serde_json::json!(["watch"]));
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD", "/squall", "health"]));
    let version = lab.docker(&["run", "--rm", "--network", "none", &image, "--version"]);
    let named = config["Labels"]["org.opencontainers.image.version"].as_str().unwrap();
    assert_eq!(version.trim(), format!("squall {named}"));

    let id = lab.docker(&["create", &image]).trim().to_owned();
    let tar = dir.path().join("image.tar");
    lab.docker(&["export", "--output", tar.to_str().unwrap(), &id]);
    lab.docker(&["rm", "--volumes", &id]);
    let listing =
        checked(Command::new("/usr/bin/tar").args(["--numeric-owner", "-tvf"]).arg(&tar).output().unwrap(), "tar -t");
    let of = |path: &str| listing.lines().find(|line| line.split_whitespace().nth(5) == Some(path)).unwrap_or_default();
    assert!(of("squall").starts_with("-rwxr-xr-x 0/0 "), "{listing}");
    assert!(of("var/lib/squall/").starts_with("drwx------ 65532/65532 "), "{listing}");
    assert!(of("etc/ssl/certs/ca-certificates.crt").starts_with("-rw-r--r-- 0/0 "), "{listing}");
    assert!(of("usr/share/zoneinfo/Europe/Berlin").starts_with("-rw-r--r-- 0/0 "), "{listing}");
    // Docker makes empty files of its own, to mount others over.
    let is_program =
        |line: &&str| line.starts_with('-') && line[..10].contains('x') && line.split_whitespace().nth(2) != Some("0");
    let programs: Vec<&str> = listing.lines().filter(is_program).collect();
    assert_eq!(programs, [of("squall")], "one program");
    println!("{} MB", inspected[0]["Size"].as_u64().unwrap() / 1_000_000);

    let contexts = ["a", "b"].map(|name| dir.path().join(name));
    for context in &contexts {
        build(&lab, &["--context", context.to_str().unwrap()]);
    }
    let [a, b] = contexts.map(|context| fs::read(context.join("rootfs.tar")).unwrap());
    assert!(a == b, "the same files make the same layer");

    let refused = Command::new(packaging("image")).arg(env!("CARGO_BIN_EXE_squall")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "a dynamic binary would not start there");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("needs libraries"));
}

#[test]
fn the_stack_finds_a_storm_on_its_own_swarm_and_outlives_its_proxy() {
    let lab = Lab::enter();
    let stack = Stack::new(&lab);
    let began = now();
    stack.deploy(&[]);
    // The docker command itself has asked which platforms there are.
    let asked_before = [asked(&lab, "squall"), asked(&lab, "proxy")];
    let squall = stack.healthy("squall", "(healthy)");
    println!("healthy {:?} after the deployment", now().since(began));
    lab.storms("create", &["c-ok", "s-mount"]);
    stack.wait_for_word(&["storm", "subject=s-mount", "cause=mount"], 60);

    // Its first try may have come before the proxy's.
    let tasks_before = stack.tasks("squall").len();

    // What holds the socket is killed, and leaves its file behind.
    let proxy = stack.healthy("proxy", "Up");
    lab.docker(&["kill", &proxy]);
    stack.wait_for_word(&["Docker cannot be reached"], 30);
    stack.wait_for_word(&["Docker is back"], 60);
    assert_ne!(stack.healthy("proxy", "Up"), proxy);
    lab.storms("create", &["s-zero"]);
    stack.wait_for_word(&["storm", "subject=s-zero"], 60);
    assert_eq!(stack.healthy("squall", "(healthy)"), squall, "it never ended");
    assert_eq!(stack.tasks("squall").len(), tasks_before, "{:?}", stack.tasks("squall"));
    let running =
        |service: &str| stack.tasks(service).iter().filter(|task| task.starts_with("Running Running")).count();
    assert_eq!((running("squall"), running("proxy")), (1, 1));
    let log = stack.logs("squall");
    assert!(!log.contains("subject=squall_") && !log.contains("subject=c-ok"), "{log}");
    assert!(!log.contains("HTTP 403"), "{log}");
    assert_eq!(stack.logs("proxy").matches("refused").count(), 0, "{}", stack.logs("proxy"));
    let status = lab.docker(&["exec", &squall, "/squall", "status"]);
    assert!(status.contains("nothing") || status.contains("held"), "{status}");

    assert_eq!([asked(&lab, "squall"), asked(&lab, "proxy")], asked_before, "a digest that is present asks nothing");

    // Told to act, it holds what is opted in, and nothing else.
    lab.docker(&["service", "update", "--quiet", "--detach", "--label-add", "squall.response=pause", "s-zero"]);
    stack.deploy(&[&packaging("stack-enforce.yml")]);
    stack.wait("s-zero is held", 90, || (lab.spec("s-zero")["Labels"]["squall.quarantine"] == "held").then_some(()));
    assert_eq!(lab.spec("s-mount")["Labels"], serde_json::json!({}));
    println!("{:?} in all", now().since(began));
}

#[test]
fn a_squall_that_cannot_start_gives_up_and_asks_no_registry() {
    let lab = Lab::enter();
    let stack = Stack::new(&lab);
    let began = now();
    let broken = stack.file("broken.toml", "[docker]\nhots = \"a key that there is not\"\n");
    // docker looks for files beside the first of the stack's.
    let config = format!("{{name: squall-broken, file: {}}}", broken.display());
    let over = stack.file("broken.yml", &format!("version: '3.8'\nconfigs: {{squall: {config}}}\n"));
    stack.deploy(&[&over]);
    let asked_before = asked(&lab, "squall");
    let since = began.to_string();
    let tries = || {
        let now = now().to_string();
        let service = format!("label=com.docker.swarm.service.name={STACK}_squall");
        let args = ["events", "--since", &since, "--until", &now, "--filter", "event=die", "--filter", &service];
        lab.docker(&args).lines().count()
    };
    stack.wait("all tries are made", 120, || (tries() == ATTEMPTS_MAX + 1).then_some(()));
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(tries(), ATTEMPTS_MAX + 1, "the first, and those that the stack allows");
    assert!(
        stack.tasks("squall").iter().all(|task| task.starts_with("Shutdown Failed")),
        "{:?}",
        stack.tasks("squall")
    );
    assert!(stack.logs("squall").contains("docker.hots: unknown key: did you mean host?"), "{}", stack.logs("squall"));
    assert_eq!(asked(&lab, "squall"), asked_before, "no try asks the registry");
    let (status, report) = lab.audit(lab.log());
    assert_eq!(status, Some(0), "what gives up is no storm: {report}");
}
