//! What squall is made of, as far as it can be told without a tool: packaging/check-supply asks cargo-deny for more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The workspaces, each with a lock file.
const WORKSPACES: [&str; 2] = ["", "tests/fuzz"];
/// What is in this repository, and so has no source.
const OWN: [&str; 3] = ["squall", "squall-fuzz", "squall-page"];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_locked_dependency_is_from_crates_io_with_its_checksum() {
    for workspace in WORKSPACES {
        let path = root().join(workspace).join("Cargo.lock");
        let lock = fs::read_to_string(&path).expect("a lock file is tracked");
        let lock: toml::Table = lock.parse().expect("TOML");
        let packages = lock["package"].as_array().expect("a list");
        assert!(packages.len() > 100, "all are looked at");
        for package in packages {
            let field = |name: &str| package.get(name).and_then(toml::Value::as_str);
            let name = field("name").expect("each has a name");
            if field("source").is_none() {
                assert!(OWN.contains(&name), "{}: {name} has no source", path.display());
                continue;
            }
            assert_eq!(field("source"), Some(REGISTRY), "{}: {name}", path.display());
            let checksum = field("checksum").unwrap_or_default();
            assert!(checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
    }
}

/// The fuzzers try the very versions that are shipped.
#[test]
fn the_fuzzers_have_the_dependencies_of_the_program() {
    let packages = |workspace: &str| -> BTreeSet<(String, String)> {
        let lock = fs::read_to_string(root().join(workspace).join("Cargo.lock")).expect("a lock file is tracked");
        let lock: toml::Table = lock.parse().expect("TOML");
        let text = |package: &toml::Value, name: &str| package[name].as_str().expect("text").to_owned();
        let packages = lock["package"].as_array().expect("a list").iter();
        packages.map(|package| (text(package, "name"), text(package, "version"))).collect()
    };
    let (program, fuzzers) = (packages(""), packages("tests/fuzz"));
    let names: BTreeSet<&str> = program.iter().map(|(name, _)| name.as_str()).collect();
    let others: Vec<_> =
        fuzzers.iter().filter(|entry| names.contains(entry.0.as_str()) && !program.contains(*entry)).collect();
    assert!(others.is_empty(), "another version than Cargo.lock has: {others:?}");
}

#[test]
fn no_dependency_wants_a_newer_compiler_than_is_stated() {
    // Of this platform alone, and fetched where it is missing: a build fetches neither crates of other platforms nor
    // those of the tests in a browser, so on a fresh machine they are not there.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stated = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().expect("a list");
    let wanted = |package: &Value| package["rust_version"].as_str().map(version);
    assert!(packages.iter().filter_map(wanted).count() > 100, "most say it");
    let newer: Vec<&Value> =
        packages.iter().filter(|package| wanted(package) > Some(stated)).map(|package| &package["name"]).collect();
    assert!(newer.is_empty(), "newer than {stated:?}: {newer:?}");
}

fn version(text: &str) -> (u64, u64, u64) {
    let mut parts = text.split('.').map(|part| part.parse().expect("a number"));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}
