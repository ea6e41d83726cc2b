//! nginx with packaging/proxy.conf before a Docker, as packaging/stack.yml runs it, and what it let through.
#![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A proxy, for as long as this lives.
pub(crate) struct Proxy {
    child: Child,
    dir: PathBuf,
}

/// One request, in the words of the proxy's access log.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) method: String,
    /// As it was sent.
    pub(crate) uri: String,
    /// Whether Docker was asked.
    pub(crate) is_handed_on: bool,
}

/// The file of the package with this name.
pub(crate) fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

impl Proxy {
    /// Starts it in a directory of its own, before the Docker that listens at `docker`.
    pub(crate) fn start(dir: &Path, docker: &Path, is_enforcing: bool) -> Self {
        let dir = dir.to_owned();
        fs::create_dir_all(dir.join("proxy.d")).unwrap();
        if is_enforcing {
            fs::copy(packaged("proxy-enforce.conf"), dir.join("proxy.d/enforce.conf")).unwrap();
        }
        fs::write(dir.join("proxy.conf"), configuration(&dir, docker)).unwrap();
        let words = File::create(dir.join("proxy.log")).unwrap();
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(&dir).arg("-c").arg(dir.join("proxy.conf")).args(["-e", "stderr"]);
        nginx.stdin(Stdio::null()).stdout(words.try_clone().unwrap()).stderr(words);
        let mut proxy = Self { child: nginx.spawn().unwrap(), dir };
        let until = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(proxy.socket()).is_err() {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "no proxy: {ended:?} {}", proxy.words());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The same as `--host` takes it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// What its own logs say: those of packaging/proxy.conf.
    pub(crate) fn words(&self) -> String {
        fs::read_to_string(self.dir.join("proxy.log")).unwrap()
    }

    /// All requests that have been answered to their end.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let log = fs::read_to_string(self.dir.join("access.log")).unwrap();
        let seen = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [status, method, uri, upstream] = fields[..] else { panic!("an odd line: {line}") };
            let (method, uri) = (method.to_owned(), uri.to_owned());
            Seen { status: status.parse().unwrap(), method, uri, is_handed_on: upstream != "-" }
        };
        log.lines().map(seen).collect()
    }

    /// Ends it as Swarm does.
    pub(crate) fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Seen {
    /// The method and the path as [`listed`] writes them: without a version, ids and the query.
    pub(crate) fn endpoint(&self) -> String {
        let path = self.uri.split('?').next().unwrap();
        let mut parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        if parts[0].starts_with("v1.") {
            parts.remove(0);
        }
        if matches!(parts[0], "nodes" | "services" | "containers") && parts.len() > 1 && parts[1] != "json" {
            parts[1] = "{id}";
        }
        format!("{} /{}", self.method, parts.join("/"))
    }
}

/// The endpoints that a file of the package lets through, as method and path. One line may stand for several.
pub(crate) fn listed(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(packaged(file)).unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"~^"))
        .filter(|line| line.contains(" (/v1") || line.contains(" /"));
    let mut endpoints = BTreeSet::new();
    for line in lines {
        let pattern = line.rsplit_once("$\" ").unwrap().0;
        let plain = pattern.replace(r"(/v1\.[0-9]+)?", "").replace("[A-Za-z0-9][A-Za-z0-9_.-]*", "{id}");
        let path = plain.split(r"\?").next().unwrap().trim_end_matches('(');
        match path.split_once("/(") {
            Some((before, words)) => {
                endpoints.extend(words.trim_end_matches(')').split('|').map(|word| format!("{before}/{word}")));
            }
            None => drop(endpoints.insert(path.to_owned())),
        }
    }
    assert!(endpoints.iter().all(|endpoint| !endpoint.contains(['(', '[', '\\'])), "{endpoints:?}");
    endpoints
}

/// packaging/proxy.conf with other places, and an access log of everything beside its own.
fn configuration(dir: &Path, docker: &Path) -> String {
    let dir = dir.to_str().unwrap();
    let own_log = "access_log /dev/stdout refused if=$is_refused;";
    let log = format!(
        "{own_log}\n    log_format seen '$status $request_method $request_uri $upstream_addr';\n    \
         access_log {dir}/access.log seen;"
    );
    let places = [
        // First, as what the others put in may be below /tmp too.
        (" /tmp/", format!(" {dir}/")),
        ("unix:/run/squall/docker.sock;", format!("unix:{dir}/docker.sock;")),
        ("unix:/var/run/docker.sock;", format!("unix:{};", docker.display())),
        ("/etc/squall/proxy.d/", format!("{dir}/proxy.d/")),
        (own_log, log),
    ];
    let mut text = fs::read_to_string(packaged("proxy.conf")).unwrap();
    for (from, to) in places {
        assert!(text.contains(from), "packaging/proxy.conf has no {from}");
        text = text.replace(from, &to);
    }
    text
}
