//! What the README prints is what the command prints.

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
