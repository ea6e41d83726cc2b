//! What the README prints is what the command prints.

use std::fs;
use std::path::Path;

use assert_cmd::cargo::cargo_bin_cmd;

#[test]
fn the_readme_shows_what_replay_prints() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("```text\n").expect("the README shows an output");
    let (shown, _) = rest.split_once("\n```").expect("the output ends");
    let output = cargo_bin_cmd!("squall").args(["replay", "examples/incident"]).env("COLUMNS", "80").assert().code(1);
    let printed = String::from_utf8(output.get_output().stdout.clone()).expect("text");
    let mut rest = printed.as_str();
    let mut lines = 0;
    for line in shown.lines().filter(|line| *line != "...") {
        let line = format!("{line}\n");
        let at = rest.find(&line).unwrap_or_else(|| panic!("not printed, or not in this order: {line}"));
        rest = &rest[at + line.len()..];
        lines += 1;
    }
    assert!(lines > 10, "{lines} lines");
    assert_eq!(rest, "", "the README stops early");
}

/// A line that no test holds is a wish.
#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = include_str!("../README.md");
    let (_, rest) = readme.split_once("## What squall may").expect("the README says what squall may");
    let (section, _) = rest.split_once("\n## ").expect("the section ends");
    let mut named = 0;
    for line in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests: Vec<(&str, &str)> =
            line.split('`').skip(1).step_by(2).filter_map(|part| part.split_once(": ")).collect();
        assert!(!tests.is_empty(), "no test holds this: {line}");
        for (file, test) in tests {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file).with_extension("rs");
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(source.contains(&format!("fn {test}(")), "{} has no {test}", path.display());
            named += 1;
        }
    }
    assert!(named > 20, "{named} tests");
}
