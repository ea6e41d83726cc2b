//! The docker command's own configuration: `DOCKER_HOST`, `config.json` with contexts and logins, a context's `meta.json`.
//!
//! The input has one or two parts, which a byte 0x1c parts: `config.json`, and `meta.json` of the only context. An input
//! that is one line is an address too.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use squall::docker::endpoint::Address;
use squall::docker::{Endpoint, Surroundings};
use squall::registry::{Login, LoginError};

/// A directory of this process, in memory where there is a file system of that kind.
static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = Path::new("/dev/shm");
    let base = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let home = base.join(format!("squall-fuzz.{}", std::process::id()));
    fs::create_dir_all(home.join("contexts/meta/one")).expect("a directory can be made");
    home
});

fuzz_target!(
    init: {
        // No credential helper is on this path, so none is run. Nothing else runs yet that could read the environment.
        unsafe {
            std::env::set_var("DOCKER_CONFIG", &*HOME);
            std::env::set_var("PATH", &*HOME);
        }
    },
    |bytes: &[u8]| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            check_address(text);
            check_login(text);
        }
        let mut parts = bytes.splitn(2, |byte| *byte == 0x1c);
        let config = parts.next().unwrap_or_default();
        fs::write(HOME.join("config.json"), config).expect("it can be written");
        let meta = HOME.join("contexts/meta/one/meta.json");
        match parts.next() {
            Some(part) => fs::write(&meta, part).expect("it can be written"),
            None => drop(fs::remove_file(&meta)),
        }
        resolve(None);
        resolve(Some("one".to_owned()));
        let threads = threads();
        if let Err(error) = Login::of_docker("docker.io") {
            check_error(&error);
        }
        await_threads(threads);
    }
);

fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("this is Linux").count()
}

/// The thread that looks for a login ends a moment after its answer; its memory would be taken for lost until then.
fn await_threads(before: usize) {
    while threads() > before {
        std::thread::yield_now();
    }
}

fn resolve(context: Option<String>) {
    let no_environment = |name: &str| (name == "DOCKER_CONFIG").then(|| HOME.to_string_lossy().into_owned());
    let surroundings = Surroundings::new(&no_environment, None, context);
    match Endpoint::resolve(&surroundings) {
        Ok(endpoint) => check_endpoint(&endpoint),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_address(text: &str) {
    match Endpoint::parse(text) {
        Ok(endpoint) => check_endpoint(&endpoint),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is shown is read as the same address; what is given to ssh as an argument is no option.
fn check_endpoint(endpoint: &Endpoint) {
    let shown = endpoint.to_string();
    let again = Endpoint::parse(&shown).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
    match (endpoint.address(), again.address()) {
        (Address::Tcp { host, port, prefix, .. }, Address::Tcp { host: h, port: p, prefix: x, .. }) => {
            assert_eq!((host, port, prefix), (h, p, x), "{shown}");
            assert!(!host.is_empty() && *port > 0);
        }
        (one, other) => assert_eq!(one, other, "{shown}"),
    }
    if let Address::Ssh { user, host, .. } = endpoint.address() {
        assert!(!host.is_empty() && !host.starts_with('-'), "{shown}");
        assert!(user.as_ref().is_none_or(|user| !user.is_empty() && !user.starts_with('-')), "{shown}");
    }
}

fn check_login(text: &str) {
    match Login::parse(text) {
        Ok(login) => {
            let password = login.password.expose_secret();
            assert_eq!(format!("{}:{password}", login.name), text.trim());
            let shown = format!("{login:?}");
            assert!(password.len() < 8 || login.name.contains(password) || !shown.contains(password), "{shown}");
        }
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &LoginError) {
    assert!(!error.to_string().is_empty());
}
