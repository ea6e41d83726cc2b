//! Which daemon is meant, as the docker command decides it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use squall::docker::endpoint::{Address, TlsFiles};
use squall::docker::{Endpoint, EndpointError, Surroundings};

/// A home directory with contexts, and what is set around it.
struct Home {
    dir: tempfile::TempDir,
    env: HashMap<&'static str, String>,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), env: HashMap::new() }
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn context(&self, directory: &str, name: &str, endpoint: &str) {
        let meta = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
        self.write(&format!(".docker/contexts/meta/{directory}/meta.json"), &meta);
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    fn resolve(&self, host: Option<&str>, context: Option<&str>) -> Result<Endpoint, EndpointError> {
        let env = |name: &str| self.env.get(name).cloned();
        let mut surroundings = Surroundings::new(&env, host.map(str::to_owned), context.map(str::to_owned));
        surroundings.home = Some(self.dir.path().to_owned());
        surroundings.runtime_dir = Some(self.dir.path().join("run"));
        surroundings.default_socket = self.dir.path().join("default.sock");
        Endpoint::resolve(&surroundings)
    }

    fn found(&self, host: Option<&str>, context: Option<&str>) -> String {
        self.resolve(host, context).unwrap().to_string()
    }
}

fn home_with_contexts() -> Home {
    let home = Home::new();
    home.context("aa11", "prod", r#"{"Host":"ssh://me@prod"}"#);
    home.context("bb22", "dev", r#"{"Host":"tcp://dev:2376","SkipTLSVerify":false}"#);
    home.write(".docker/config.json", r#"{"auths":{},"currentContext":"prod"}"#);
    home
}

#[test]
fn the_most_particular_wish_wins() {
    let home = home_with_contexts().with("DOCKER_HOST", "tcp://env:1").with("DOCKER_CONTEXT", "dev");
    assert_eq!(home.found(Some("unix:///flag"), None), "unix:///flag");
    assert_eq!(home.found(None, Some("prod")), "ssh://me@prod");
    assert_eq!(home.found(None, None), "tcp://env:1");
    assert!(matches!(home.resolve(Some("unix:///flag"), Some("prod")), Err(EndpointError::Conflict)));
    let home = home_with_contexts().with("DOCKER_HOST", "").with("DOCKER_CONTEXT", "dev");
    assert_eq!(home.found(None, None), "tcp://dev:2376");
    let home = home_with_contexts();
    assert_eq!(home.found(None, None), "ssh://me@prod");
    assert_eq!(home.resolve(None, None).unwrap().chosen_by(), "context `prod`");
    assert!(home.found(None, Some("default")).ends_with("default.sock"));
}

#[test]
fn without_any_wish_it_is_the_default_socket_or_the_rootless_one() {
    let home = Home::new();
    assert!(home.found(None, None).ends_with("/default.sock"));
    home.write("run/docker.sock", "");
    assert!(home.found(None, None).ends_with("/run/docker.sock"));
    home.write("default.sock", "");
    assert!(home.found(None, None).ends_with("/default.sock"));
}

#[test]
fn docker_config_moves_the_contexts() {
    let home = Home::new();
    home.write("elsewhere/config.json", r#"{"currentContext":"x"}"#);
    home.write("elsewhere/contexts/meta/1/meta.json", r#"{"Name":"x","Endpoints":{"docker":{"Host":"tcp://x"}}}"#);
    let dir = home.dir.path().join("elsewhere").display().to_string();
    assert_eq!(home.with("DOCKER_CONFIG", &dir).found(None, None), "tcp://x:2375");
}

fn tls_of(endpoint: &Endpoint) -> Option<TlsFiles> {
    match endpoint.address() {
        Address::Tcp { tls, .. } => tls.clone(),
        other => panic!("{other:?}"),
    }
}

fn files(dir: &Path, skip_verify: bool) -> Option<TlsFiles> {
    let file = |name: &str| Some(dir.join(name));
    Some(TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem"), skip_verify })
}

#[test]
fn tls_comes_from_the_environment_as_docker_takes_it() {
    let home = Home::new();
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        home.write(&format!(".docker/{name}"), "");
        home.write(&format!("certs/{name}"), "");
    }
    let (default, named) = (home.dir.path().join(".docker"), home.dir.path().join("certs"));
    assert_eq!(tls_of(&home.resolve(Some("tcp://h"), None).unwrap()), None);

    let home = home.with("DOCKER_TLS_VERIFY", "1");
    let endpoint = home.resolve(Some("tcp://h"), None).unwrap();
    assert_eq!((endpoint.to_string().as_str(), tls_of(&endpoint)), ("tcp://h:2376", files(&default, false)));
    // Without a host, docker too goes to the local TLS port then.
    assert_eq!(home.found(None, None), "tcp://localhost:2376");
    // A socket has no TLS.
    assert_eq!(home.found(Some("unix:///x"), None), "unix:///x");

    let home = home.with("DOCKER_CERT_PATH", &named.display().to_string());
    assert_eq!(tls_of(&home.resolve(Some("tcp://h:1"), None).unwrap()), files(&named, false));
    let home = home.with("DOCKER_TLS_VERIFY", "").with("DOCKER_TLS", "1");
    assert_eq!(tls_of(&home.resolve(Some("tcp://h:1"), None).unwrap()), files(&named, true));
}

#[test]
fn tls_comes_from_the_context() {
    let home = home_with_contexts();
    assert_eq!(tls_of(&home.resolve(None, Some("dev")).unwrap()), None);
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        home.write(&format!(".docker/contexts/tls/bb22/docker/{name}"), "");
    }
    let dir = home.dir.path().join(".docker/contexts/tls/bb22/docker");
    assert_eq!(tls_of(&home.resolve(None, Some("dev")).unwrap()), files(&dir, false));
    home.context("cc33", "lax", r#"{"Host":"tcp://lax:2376","SkipTLSVerify":true}"#);
    let lax = tls_of(&home.resolve(None, Some("lax")).unwrap());
    assert_eq!(lax, Some(TlsFiles { skip_verify: true, ..TlsFiles::default() }));
}

#[test]
fn what_is_wrong_with_the_configuration_is_said() {
    let home = home_with_contexts();
    let check = |context: &str, words: &[&str]| {
        let text = home.resolve(None, Some(context)).unwrap_err().to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    check("absent", &["no docker context `absent` (--context)", "docker context ls"]);
    home.context("dd44", "hollow", "{}");
    check("hollow", &["dd44/meta.json", "has no docker host"]);
    home.write(".docker/contexts/meta/ee55/meta.json", "{");
    check("absent", &["ee55/meta.json", "not JSON"]);
    assert_eq!(home.found(None, Some("prod")), "ssh://me@prod", "a broken context hides a good one");
    home.write(".docker/config.json", "[");
    let text = home.resolve(None, None).unwrap_err().to_string();
    assert!(text.contains("config.json") && text.contains("not JSON"), "{text}");
    let text = home.resolve(Some("fd://"), None).unwrap_err().to_string();
    assert!(text.starts_with("cannot use the Docker address `fd://` (--host): "), "{text}");
}
