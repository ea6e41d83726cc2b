//! Holds the architecture that the crate's documentation draws: who may name whom, and what the pure part may not name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, and of each which others it may name.
const ROOMS: [(&str, &[&str]); 16] = [
    ("model", &[]),
    ("ingest", &["model"]),
    ("budget", &["model"]),
    ("detect", &["model", "budget"]),
    ("respond", &["model"]),
    ("situation", &["model"]),
    ("lint", &["model", "budget"]),
    ("docker", &["model", "ingest", "respond"]),
    ("http", &[]),
    ("registry", &["model", "budget", "http"]),
    ("journal", &["model"]),
    ("notify", &["model", "journal", "http"]),
    ("serve", &["model"]),
    // What each room goes by has its defaults there.
    ("config", &["model", "budget", "detect", "respond", "journal", "notify"]),
    (
        "daemon",
        &[
            "model",
            "ingest",
            "detect",
            "budget",
            "respond",
            "situation",
            "docker",
            "registry",
            "journal",
            "notify",
            "serve",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "model", "ingest", "detect", "budget", "respond", "lint", "docker", "http", "registry", "journal",
            "notify", "serve", "config", "daemon",
        ],
    ),
];

/// The rooms that read no clock and no file, spawn nothing and log nothing.
const PURE: [&str; 7] = ["model", "ingest", "detect", "budget", "respond", "situation", "lint"];

/// What they may not name: the beginning of a path.
const IMPURE: [&str; 17] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::os",
    "std::time::SystemTime",
    "std::time::Instant",
    "Instant::now",
    "SystemTime",
    "jiff::Timestamp::now",
    "tokio",
    "tracing",
    "println",
    "eprintln",
    "print",
    "eprint",
];

/// The longest file of src/, in lines: above it, it is two.
const LINES_MAX: usize = 600;

/// What the repository holds at its top, dotfiles and the build's output apart.
const TOP: [&str; 8] = ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src", "examples", "tests", "packaging"];

/// What a file of src/ does that it may not. `path` is relative to src/.
fn violations(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let parts = module(path);
    let room = if path.contains('/') { parts[0] } else { "" };
    let code = plain_code(text);
    let named = paths(&code);
    // In a file's own tests `super` is the file.
    let outside_tests = paths(code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
    let lines = text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{path} has {lines} lines; at {LINES_MAX} a file is two"));
    }
    if room != "docker" && named.iter().any(|name| starts(name, "bollard")) {
        found.push(format!("{path} names bollard: only docker/ does"));
    }
    let Some((_, allowed)) = ROOMS.iter().find(|entry| entry.0 == room) else {
        // lib.rs and main.rs, which name all, or a room that nobody drew.
        if !matches!(path, "lib.rs" | "main.rs") {
            found.push(format!("{path} is in no room of the architecture"));
        }
        return found;
    };
    for name in &named {
        if let Some(rest) = name.strip_prefix("crate::") {
            let other = rest.split("::").next().unwrap_or_default();
            if other != room && !allowed.contains(&other) {
                found.push(format!("{path} names crate::{other}: {room}/ may not"));
            }
        }
        if PURE.contains(&room)
            && let Some(impure) = IMPURE.iter().find(|impure| starts(name, impure))
        {
            found.push(format!("{path} names {impure}: {room}/ is pure"));
        }
    }
    for name in &outside_tests {
        if name.split("::").take_while(|part| *part == "super").count() >= parts.len() {
            found.push(format!("{path} climbs out of {room}/ by {name}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The module that a file is. `path` is relative to src/.
fn module(path: &str) -> Vec<&str> {
    path.trim_end_matches(".rs").split('/').filter(|part| !matches!(*part, "mod" | "lib")).collect()
}

/// The files that name one another. A file may name those of its own folder, as they are parts of one module.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let named: BTreeMap<Vec<&str>, BTreeSet<String>> = files
        .iter()
        .map(|(path, text)| {
            let code = plain_code(text);
            (module(path), paths(code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()))
        })
        .collect();
    let names = |from: &[&str], to: &[&str]| {
        named[from].iter().any(|name| file_of(from, name, &named).is_some_and(|file| *file == *to))
    };
    let mut found = Vec::new();
    for a in named.keys() {
        let targets: BTreeSet<Vec<&str>> = named[a].iter().filter_map(|name| file_of(a, name, &named)).collect();
        let others = targets.iter().filter(|b| a < *b && !b.starts_with(a) && names(b, a));
        found.extend(others.map(|b| format!("{} and {} name one another", a.join("/"), b.join("/"))));
    }
    found
}

/// The file that has what `name` stands for in a module, where that is another file's and it can be told.
fn file_of<'a>(from: &[&'a str], name: &str, named: &BTreeMap<Vec<&'a str>, BTreeSet<String>>) -> Option<Vec<&'a str>> {
    let mut parts = name.split("::").peekable();
    let mut at = if parts.next_if_eq(&"crate").is_some() { Vec::new() } else { from.to_vec() };
    if !at.is_empty() && !matches!(parts.peek(), Some(&"super" | &"self")) {
        return None;
    }
    while let Some(part) = parts.next_if(|part| matches!(*part, "super" | "self")) {
        at.truncate(at.len() - usize::from(part == "super"));
    }
    let child = |at: &[&str], part: &str| {
        named.keys().find(|file| file.split_last().is_some_and(|(last, rest)| *last == part && rest == at)).cloned()
    };
    for part in parts {
        let exported = |at: &[&str]| {
            let mut paths = named.get(at)?.iter().filter_map(|path| path.split_once("::"));
            paths.find(|(_, rest)| rest.rsplit("::").next() == Some(part)).and_then(|(first, _)| child(at, first))
        };
        let Some(next) = child(&at, part).or_else(|| exported(&at)) else { break };
        at = next;
    }
    Some(at).filter(|at| *at != from)
}

fn starts(name: &str, path: &str) -> bool {
    name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The code without its comments and without what its literals hold.
fn plain_code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let literal_end = |from: &str, end: &str| from.find(end).map_or(from.len(), |at| at + end.len());
        let skipped = if rest.starts_with("//") {
            literal_end(rest, "\n") - 1
        } else if rest.starts_with("/*") {
            literal_end(rest, "*/")
        } else if let Some(hashes) = raw_string(rest) {
            let open = hashes + 2;
            open + literal_end(&rest[open..], &format!("\"{}", "#".repeat(hashes)))
        } else if char == '"' {
            1 + string_end(&rest[1..])
        } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && char == '\'' {
            // A character, no lifetime.
            let from = if rest.starts_with("'\\") { 3 } else { 1 };
            from + literal_end(&rest[from..], "'")
        } else {
            0
        };
        if skipped > 0 {
            code.push(' ');
            rest = &rest[skipped.min(rest.len())..];
        } else {
            code.push(char);
            rest = &rest[char.len_utf8()..];
        }
    }
    code
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path that the code names, with the trees of `use` written out.
fn paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find(|char: char| char.is_alphabetic() || char == '_') {
        rest = &rest[at..];
        let (path, tree) = take_path(rest);
        let length = path.len();
        if let Some(tree) = tree {
            spread(&path, tree, &mut paths);
        }
        if tree.is_none() {
            paths.insert(path);
        }
        rest = &rest[length..];
    }
    paths
}

/// The path at the start of a text, and the tree in braces that follows it.
fn take_path(text: &str) -> (String, Option<&str>) {
    let is_part = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    let end = text.find(|char: char| !is_part(char)).unwrap_or(text.len());
    let path = text[..end].to_owned();
    let tree = text[end..].strip_prefix('{').filter(|_| path.ends_with("::"));
    (path.trim_end_matches(':').to_owned() + if tree.is_some() { "::" } else { "" }, tree)
}

/// Writes out `a::{b, c::{d}}`. `tree` begins behind the opening brace.
fn spread(prefix: &str, tree: &str, paths: &mut BTreeSet<String>) {
    let mut prefixes = vec![prefix.to_owned()];
    let mut name = String::new();
    for char in tree.chars() {
        match char {
            '{' => {
                let inner = format!("{}{}", prefixes.last().map_or("", |last| last), name.trim());
                prefixes.push(inner);
                name.clear();
            }
            ',' | '}' => {
                let word = name.split_whitespace().next().unwrap_or_default();
                if !word.is_empty() {
                    paths.insert(format!("{}{word}", prefixes.last().map_or("", |last| last)));
                }
                name.clear();
                if char == '}' {
                    prefixes.pop();
                    if prefixes.is_empty() {
                        return;
                    }
                }
            }
            char => name.push(char),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src/ can be listed") {
        let path = entry.expect("src/ can be listed").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The files of src/, by their paths in it, and what is in them.
fn source() -> Vec<(String, String)> {
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 30, "all of src/ is looked at");
    let relative = |path: &Path| path.strip_prefix(&source).expect("it is in src/").to_string_lossy().into_owned();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).expect("it can be read"))).collect()
}

#[test]
fn every_file_of_src_keeps_to_its_room() {
    let found: Vec<String> = source().iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_two_files_name_one_another() {
    let found = circles(&source());
    assert!(found.is_empty(), "{found:#?}");
    let files = |other: &str| {
        [
            ("m/mod.rs", "mod a;\npub use a::A;"),
            ("m/a.rs", "use super::b::B;"),
            ("m/b.rs", other),
            ("m/b/c.rs", "use super::B;"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
    };
    for other in ["use super::a::A;", "use crate::m::A;", "use super::{A, b};"] {
        assert_eq!(circles(&files(other)), ["m/a and m/b name one another"], "{other}");
    }
    assert_eq!(circles(&files("mod c;\nuse c::C;")), [""; 0]);
}

#[test]
fn the_top_level_holds_nothing_else() {
    let others: Vec<String> = fs::read_dir(root())
        .expect("it can be listed")
        .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target" && !TOP.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?} at the top level");
}

#[test]
fn the_rooms_that_are_drawn_are_those_that_are_there() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("it can be read");
    for line in library.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let room = line.trim_end_matches(';');
        assert!(ROOMS.iter().any(|entry| entry.0 == room), "{room}/ is in no drawing");
        assert!(root().join("src").join(room).is_dir(), "{room} is no folder");
    }
}

#[track_caller]
fn check(path: &str, code: &str, expected: &[&str]) {
    assert_eq!(violations(path, code), expected, "{code}");
}

#[test]
fn a_made_up_violation_is_found() {
    check("model/time.rs", "use crate::detect::Detector;", &["model/time.rs names crate::detect: model/ may not"]);
    check("detect/a.rs", "fn f() -> crate::ingest::Reader {}", &["detect/a.rs names crate::ingest: detect/ may not"]);
    check(
        "ingest/a.rs",
        "use crate::{model::{Cause}, docker::{Client as C}};",
        &["ingest/a.rs names crate::docker: ingest/ may not"],
    );
    check(
        "detect/a/b.rs",
        "use super::super::super::docker::X;",
        &["detect/a/b.rs climbs out of detect/ by super::super::super::docker::X"],
    );
    check("detect/mod.rs", "use super::docker;", &["detect/mod.rs climbs out of detect/ by super::docker"]);
    check(
        "detect/a.rs",
        "use std::{collections::HashMap, time::{Duration, Instant}};",
        &["detect/a.rs names std::time::Instant: detect/ is pure"],
    );
    check("ingest/a.rs", "fn f() { std::fs::read(x); }", &["ingest/a.rs names std::fs: ingest/ is pure"]);
    check(
        "model/a.rs",
        "fn f() { println!(\"x\"); tracing::info!(\"x\"); }",
        &["model/a.rs names println: model/ is pure", "model/a.rs names tracing: model/ is pure"],
    );
    check("detect/a.rs", "let now = SystemTime::now();", &["detect/a.rs names SystemTime: detect/ is pure"]);
    check("daemon/a.rs", "use bollard::Docker;", &["daemon/a.rs names bollard: only docker/ does"]);
    check("misc/a.rs", "", &["misc/a.rs is in no room of the architecture"]);
    let long = "\n".repeat(LINES_MAX + 1);
    check("cli/a.rs", &long, &[&format!("cli/a.rs has {} lines; at {LINES_MAX} a file is two", LINES_MAX + 1)]);
}

#[test]
fn what_is_allowed_is_not_accused() {
    check(
        "detect/a.rs",
        "use crate::model::{Cause, Storm};\nuse super::key::Key;\nuse crate::detect::subject::X;",
        &[],
    );
    check("detect/quota.rs", "impl Clock for C { type Instant = Nanos; }", &[]);
    check("detect/a/b.rs", "use super::super::key::Key; use super::Detector;", &[]);
    check(
        "model/a.rs",
        "// std::fs and crate::docker\n/* tokio */ const A: &str = \"crate::docker\"; const B: &str = r#\"std::fs \"tokio\"#;",
        &[],
    );
    check("model/a.rs", "const Q: char = '\"'; use std::fmt; const R: char = '\\''; fn f<'a>(x: &'a str) {}", &[]);
    check("detect/mod.rs", "mod key;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}", &[]);
    check("docker/a.rs", "use bollard::Docker; use crate::ingest::split;", &[]);
    check("cli/a.rs", "use crate::daemon::x; use std::fs;", &[]);
    check("lib.rs", "pub mod cli;", &[]);
}
