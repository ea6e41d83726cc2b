//! `squall lint` on stacks as people write them, and on broken ones. What is expected of each stands in
//! tests/fixtures/stacks/cases.txt and broken/cases.txt: a command, and what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;
use squall::lint::{Level, LintError, Linted, Rule, Settings, Surroundings, lint};

/// Every variable that a stack here names: none of them is taken from whoever runs the tests.
const VARIABLES: [&str; 9] =
    ["TAG", "REGISTRY", "REPLICAS", "CONDITION", "DELAY", "ATTEMPTS", "SUFFIX", "PASSWORD", "SQUALL_CONFIG"];

fn stacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stacks")
}

fn squall() -> Command {
    let mut command = cargo_bin_cmd!("squall");
    command.current_dir(stacks()).env("HOME", "/no/such/home").env("COLUMNS", "80").arg("lint");
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

fn run(command: &mut Command) -> Outcome {
    let output = command.output().expect("squall runs");
    Outcome {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

fn lint_as(format: &str, files: &[&str]) -> Outcome {
    run(squall().args(["--format", format]).args(files))
}

/// A line for each service and for each finding, of a report in JSON.
fn summary(report: &Value) -> String {
    let mut lines = Vec::new();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for service in report["services"].as_array().expect("services") {
        let every = service["period_secs"].as_f64().map_or_else(|| "once".to_owned(), |secs| format!("every {secs} s"));
        let tries =
            service["tries_max"].as_u64().map_or_else(|| "for ever".to_owned(), |tries| format!("{tries} tries"));
        let spent = service["budget_spent_secs"]
            .as_f64()
            .map_or_else(String::new, |secs| format!(", budget spent in {secs} s"));
        lines.push(format!(
            "{} {} x {}, {every}, {tries}: {} requests, {} pulls a minute{spent}",
            text(&service["name"]),
            service["slots"],
            text(&service["image"]),
            service["requests_per_min"],
            service["pulls_per_min"],
        ));
    }
    for finding in report["findings"].as_array().expect("findings") {
        lines.push(format!(
            "{}:{}:{}: {} {} {}",
            text(&finding["file"]),
            finding["line"],
            finding["column"],
            text(&finding["level"]),
            text(&finding["rule"]),
            text(&finding["service"]),
        ));
    }
    lines.join("\n")
}

/// The `.yml` files of a folder, by name.
fn files_of(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("it is there");
    let names = entries.map(|entry| entry.expect("listed").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".yml")).collect()
}

#[test]
fn every_stack_costs_what_its_case_says() {
    let cases = fs::read_to_string(stacks().join("cases.txt")).expect("text");
    let mut unused = files_of(&stacks());
    let mut found = String::new();
    for case in cases.split("\n\n") {
        let line = case.lines().next().expect("a command");
        let mut command = squall();
        command.args(["--format", "json"]);
        for word in line.strip_prefix("$ ").expect("it begins with a $").split(' ').filter(|word| *word != "lint") {
            match word.split_once('=') {
                Some((variable, value)) => drop(command.env(variable, value)),
                None => drop(command.arg(word)),
            }
            unused.remove(word);
        }
        let outcome = run(&mut command);
        let secret = "not-to-be-printed";
        assert!(!outcome.stdout.contains(secret) && !outcome.stderr.contains(secret), "{line}");
        let said: String = outcome.stderr.lines().map(|line| format!("{line}\n")).collect();
        found.push_str(&format!("{line}\n{said}{}\n\n", summary(&outcome.json())));
    }
    let found = format!("{}\n", found.replace("\n\n\n", "\n\n").trim_end());
    if std::env::var_os("SQUALL_WRITE_CASES").is_some() {
        fs::write(stacks().join("cases.txt"), &found).expect("written");
    }
    for (found, expected) in found.split("\n\n").zip(cases.split("\n\n")) {
        assert_eq!(found.trim_end(), expected.trim_end());
    }
    assert_eq!(found, cases);
    assert!(unused.is_empty(), "no case names {unused:?}");
}

#[test]
fn every_broken_stack_is_refused_where_it_is_broken() {
    let folder = stacks().join("broken");
    let cases = fs::read_to_string(folder.join("cases.txt")).expect("text");
    let mut found = String::new();
    for file in files_of(&folder) {
        for format in ["json", "table", "sarif"] {
            let outcome = run(squall().current_dir(&folder).args(["--format", format, &file]));
            assert_eq!(outcome.status, Some(2), "{file}: {}", outcome.stderr);
            assert_eq!(outcome.stdout, "", "{file}: nothing is done in part");
            assert!(!outcome.stderr.contains("hidden") && !outcome.stderr.contains('\x1b'), "{}", outcome.stderr);
            if format == "json" {
                found.push_str(&outcome.stderr);
            }
        }
    }
    if std::env::var_os("SQUALL_WRITE_CASES").is_some() {
        fs::write(folder.join("cases.txt"), &found).expect("written");
    }
    for (found, expected) in found.lines().zip(cases.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, cases);
}

/// Files in memory, no variables, and a host that has no path.
struct Nowhere<'a>(&'a str, &'a [u8]);

impl Surroundings for Nowhere<'_> {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, String> {
        if file == self.0 {
            Ok(self.1.to_owned())
        } else {
            fs::read(stacks().join(file)).map_err(|error| error.to_string())
        }
    }

    fn is_there(&self, _: &Path) -> Option<bool> {
        Some(false)
    }
}

fn judged(name: &str, bytes: &[u8]) -> Result<Linted, LintError> {
    lint(&[name.to_owned()], Settings::default(), &Nowhere(name, bytes))
}

#[test]
fn a_stack_that_ends_early_or_has_a_wrong_byte_is_no_panic() {
    for folder in [stacks(), stacks().join("broken")] {
        for name in files_of(&folder) {
            let bytes = fs::read(folder.join(&name)).expect("read");
            // The bomb goes off late at each of its lengths: that is tried by itself.
            if name == "alias_bomb.yml" || bytes.len() > 4000 {
                continue;
            }
            for end in 0..bytes.len() {
                drop(judged(&name, &bytes[..end]));
                let mut wrong = bytes.clone();
                wrong[end] = b"*&:{[\"$-\t\xff"[end % 10];
                drop(judged(&name, &wrong));
            }
        }
    }
}

#[test]
fn the_exit_status_tells_how_bad_it_is() {
    let status = |arguments: &[&str]| run(squall().args(["-f", "json"]).args(arguments)).status;
    // A note at the most.
    assert_eq!(status(&["ignored.yml"]), Some(0));
    assert_eq!(status(&["ignored.yml", "--fail-on", "note"]), Some(1));
    assert_eq!(status(&["minimal.yml"]), Some(1));
    assert_eq!(status(&["minimal.yml", "--fail-on", "error"]), Some(0));
    assert_eq!(status(&["fleet.yml", "--fail-on", "error"]), Some(1));
    assert_eq!(status(&["extensions.yml", "--fail-on", "warning"]), Some(0));
    assert_eq!(status(&["networks_only.yml", "--fail-on", "note"]), Some(1));
    assert_eq!(status(&["minimal.yml", "broken/mode.yml"]), Some(2));
    for wrong in
        [&["--fail-on", "fatal", "minimal.yml"][..], &[], &["--nodes", "0", "minimal.yml"], &["--budget", "0", "x"]]
    {
        let outcome = run(squall().args(wrong));
        assert_eq!((outcome.status, &*outcome.stdout), (Some(2), ""), "{wrong:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    for (files, expected) in [
        (&["nowhere.yml"][..], "nowhere.yml: cannot be read: No such file or directory (os error 2)\n"),
        (&["minimal.yml", "nowhere.yml"], "nowhere.yml: cannot be read: No such file or directory (os error 2)\n"),
        (&["parts"], "parts: is a directory: name a file in it\n"),
        (&["/dev/zero"], "/dev/zero:1:1: the file is larger than 1 MiB\n"),
    ] {
        let outcome = lint_as("table", files);
        assert_eq!((outcome.status, &*outcome.stdout, &*outcome.stderr), (Some(2), "", expected));
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let text = fs::read_to_string(stacks().join("minimal.yml")).expect("text");
    let outcome = run(squall().args(["-f", "json", "-"]).write_stdin(text));
    assert_eq!(outcome.json()["files"], serde_json::json!(["-"]));
    assert_eq!(outcome.json()["findings"][0]["file"], "-");
    let outcome = run(squall().args(["minimal.yml", "-"]).write_stdin("services: {web: {deploy: {mode: globe}}}"));
    let expected = "-:1:33: `deploy.mode`: `globe` is none of replicated, global, replicated-job, global-job\n";
    assert_eq!((outcome.status, &*outcome.stderr), (Some(2), expected));
    assert_eq!(run(squall().arg("-").write_stdin("")).stderr, "-:1:1: the file is empty\n");
}

#[test]
fn the_configuration_says_what_docker_hub_allows() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("squall.toml");
    std::fs::write(&config, "[[registry]]\nname = \"docker.io\"\npulls = 5000\n").expect("it is written");
    let config = config.to_str().expect("text");
    let budget = |args: &[&str]| {
        lint_as("json", &[&["minimal.yml", "--config", config], args].concat()).json()["budget"].clone()
    };
    assert_eq!(budget(&[]), 5000);
    assert_eq!(budget(&["--budget", "200"]), 200, "what is said by hand goes first");
    let outcome = lint_as("json", &["minimal.yml", "--config", "/no/such/squall.toml"]);
    assert!(outcome.status == Some(2) && outcome.stderr.contains("/no/such/squall.toml"), "{}", outcome.stderr);
}

#[test]
fn json_has_its_schema_and_all_figures() {
    let report = lint_as("json", &["global.yml", "--nodes", "5", "--budget", "200"]).json();
    assert_eq!(report["schema"], "squall.lint/1");
    assert_eq!((&report["nodes"], &report["budget"]), (&Value::from(5), &Value::from(200)));
    let agent = &report["services"][0];
    assert_eq!((&agent["slots"], &agent["registry"]), (&Value::from(5), &Value::from("ghcr.io")));
    // The budget of another registry is not known.
    assert_eq!(agent["budget_spent_secs"], Value::Null);
    assert_eq!(agent["assumptions"], serde_json::json!(["unresolved-tag", "refused-pull", "slot-on-each-node"]));
    let totals = &report["totals"];
    assert_eq!(totals["slots"], 10);
    assert_eq!(totals["requests_per_min"], 1276.5);
    assert_eq!(totals["hub_requests_per_min"], 0.0);
}

#[test]
fn sarif_is_what_code_hosts_read() {
    let outcome = lint_as("sarif", &["incident.yml", "tags.yml"]);
    assert_eq!(outcome.status, Some(1));
    let log = outcome.json();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|schema| schema.contains("sarif-2.1.0")));
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "squall");
    assert!(driver.get("informationUri").is_none());
    let rules: Vec<&str> =
        driver["rules"].as_array().expect("rules").iter().filter_map(|rule| rule["id"].as_str()).collect();
    assert_eq!(rules.len(), Rule::ALL.len());
    let results = run["results"].as_array().expect("results");
    assert!(results.len() > 5);
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("an index");
        assert_eq!(rules.get(usize::try_from(index).expect("small")).copied(), result["ruleId"].as_str());
        assert!(["note", "warning", "error"].contains(&result["level"].as_str().expect("a level")));
        assert!(result["message"]["text"].as_str().is_some_and(|text| text.len() > 20));
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().is_some_and(|uri| uri.ends_with(".yml")));
        assert!(place["region"]["startLine"].as_u64() >= Some(1) && place["region"]["startColumn"].as_u64() >= Some(1));
    }
}

#[test]
fn every_rule_has_an_id_and_a_sentence_of_its_own_and_a_stack_that_shows_it() {
    let ids: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    assert!(Rule::ALL.iter().all(|rule| rule.title().ends_with('.') && rule.level() >= Level::Note));
    let cases = fs::read_to_string(stacks().join("cases.txt")).expect("text");
    for rule in Rule::ALL {
        let shown = format!(" {} {} ", rule.level().as_str(), rule.id());
        assert!(cases.contains(&shown), "no stack has {}", rule.id());
    }
}

#[test]
fn no_line_of_the_table_is_wider_than_the_terminal() {
    for name in files_of(&stacks()) {
        let outcome = run(squall().env("TAG", "1").arg(&name));
        for line in outcome.stdout.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        assert!(!outcome.stdout.contains("not-to-be-printed"), "{name}");
    }
}

#[test]
fn the_table_reads_so() {
    let outcome = lint_as("table", &["jobs.yml", "ignored.yml", "--nodes", "2"]);
    let expected = fs::read_to_string(stacks().join("table.txt")).expect("text");
    if std::env::var_os("SQUALL_WRITE_CASES").is_some() {
        fs::write(stacks().join("table.txt"), &outcome.stdout).expect("written");
    }
    assert_eq!(outcome.stdout, expected);
}

#[test]
fn the_host_is_looked_at_unless_it_is_not_to_be() {
    let rules = |arguments: &[&str]| {
        let report = lint_as("json", arguments).json();
        let findings = report["findings"].as_array().expect("findings").clone();
        findings.iter().filter(|finding| finding["rule"] == "missing-bind-source").count()
    };
    assert_eq!(rules(&["binds.yml"]), 4);
    assert_eq!(rules(&["binds.yml", "--no-host"]), 0);
}

#[test]
fn a_hostile_file_name_is_printed_harmlessly() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let name = "a\x1b[31m\n.yml";
    fs::copy(stacks().join("minimal.yml"), folder.path().join(name)).expect("copied");
    fs::copy(stacks().join("broken/mode.yml"), folder.path().join(format!("broken{name}"))).expect("copied");
    for arguments in [&[name][..], &["-f", "sarif", name], &["-f", "json", name], &[&format!("broken{name}")]] {
        let outcome = run(squall().current_dir(folder.path()).args(arguments));
        assert!(!outcome.stdout.contains('\x1b') && !outcome.stderr.contains('\x1b'), "{arguments:?}");
        assert!(outcome.stdout.len() + outcome.stderr.len() > 20);
    }
}

#[test]
fn more_files_than_a_stack_has_are_refused() {
    let files: Vec<String> = (0..=squall::lint::FILES_MAX).map(|index| format!("{index}.yml")).collect();
    struct Same;
    impl Surroundings for Same {
        fn variable(&self, _: &str) -> Option<String> {
            None
        }

        fn read(&self, _: &str) -> Result<Vec<u8>, String> {
            Ok(b"services: {}".to_vec())
        }

        fn is_there(&self, _: &Path) -> Option<bool> {
            None
        }
    }
    assert!(lint(&files[1..], Settings::default(), &Same).is_ok());
    assert_eq!(lint(&files, Settings::default(), &Same), Err(LintError::TooManyFiles(squall::lint::FILES_MAX)));
}

#[test]
fn docker_merges_no_files_of_different_versions() {
    for (files, expected) in [
        (
            ["monitoring.yml", "replicated.yml"],
            "replicated.yml:2:10: docker merges no files of different versions: this is 3.8 (without one it is 3.13), \
             and monitoring.yml is 3.7\n",
        ),
        (
            ["monitoring.yml", "minimal.yml"],
            "minimal.yml:1:1: docker merges no files of different versions: this is 3.13 (without one it is 3.13), and \
             monitoring.yml is 3.7\n",
        ),
    ] {
        let outcome = run(squall().args(files));
        assert_eq!((outcome.status, &*outcome.stderr), (Some(2), expected));
    }
}

#[test]
fn more_than_a_stack_has_is_refused() {
    let services: String = (0..2001).map(|index| format!("  s{index}: {{image: a}}\n")).collect();
    let Err(error) = judged("many.yml", format!("services:\n{services}").as_bytes()) else { panic!("it is read") };
    assert_eq!(error.to_string(), "many.yml:2:3: `services` has more than 2000 entries");
    let mounts: String = (0..1001).map(|index| format!("      - /{index}:/{index}\n")).collect();
    let text = format!("services:\n  web:\n    image: a\n    volumes:\n{mounts}");
    let Err(error) = judged("many.yml", text.as_bytes()) else { panic!("it is read") };
    assert_eq!(error.to_string(), "many.yml:5:7: `volumes`: more than 1000 mounts");
    let text = "services:\n  web:\n    image: a\n    deploy:\n      replicas: 1000001\n";
    let Err(error) = judged("many.yml", text.as_bytes()) else { panic!("it is read") };
    assert_eq!(error.to_string(), "many.yml:2:3: web has more than 1000000 slots");
}

#[test]
fn a_long_chain_of_extends_is_refused() {
    let mut text = "services:\n  s0: {image: a}\n".to_owned();
    for index in 1..60 {
        text.push_str(&format!("  s{index}: {{extends: s{}}}\n", index - 1));
    }
    let Err(error) = judged("chain.yml", text.as_bytes()) else { panic!("it is read") };
    assert!(error.to_string().ends_with("more than 32 in a chain"), "{error}");
}

#[test]
fn the_stack_of_the_package_has_no_finding() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let digest = format!("sha256:{}", "0".repeat(64));
    for files in [&["stack.yml"][..], &["stack.yml", "stack-enforce.yml"]] {
        let lint = |named: &[(&str, String)]| {
            let mut command = squall();
            command.current_dir(&packaging).args(["--no-host", "--fail-on", "note", "--format", "json"]).args(files);
            for variable in ["SQUALL_IMAGE", "SQUALL_PROXY_IMAGE", "SQUALL_STACK_REVISION", "DOCKER_SOCKET"] {
                command.env_remove(variable);
            }
            command.envs(named.iter().cloned());
            run(&mut command)
        };
        let images =
            [("SQUALL_IMAGE", format!("squall:1@{digest}")), ("SQUALL_PROXY_IMAGE", format!("nginx@{digest}"))];
        let outcome = lint(&images);
        assert_eq!((outcome.status, &*outcome.stderr), (Some(0), ""), "{}", outcome.stdout);
        let report = outcome.json();
        assert_eq!(report["findings"], Value::Array(Vec::new()));
        for service in report["services"].as_array().expect("services") {
            assert_eq!(service["requests_per_min"], 0.0, "{service}");
        }
        // There is no default that a registry would be asked for.
        for missing in 0..images.len() {
            let named: Vec<_> =
                images.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, set)| set.clone()).collect();
            let outcome = lint(&named);
            assert_eq!(outcome.status, Some(2), "{}", outcome.stdout);
            assert!(outcome.stderr.contains("image with its digest"), "{}", outcome.stderr);
        }
        // As a tag it is said.
        let outcome = lint(&[("SQUALL_IMAGE", "squall:1".to_owned()), images[1].clone()]);
        assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    }
}
