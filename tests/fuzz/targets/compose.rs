//! Stacks: files that a line of `%%%` parts; the first is the stack, others are what it extends or what overrules it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use squall::lint::{LintError, Linted, Settings, Surroundings, lint, sarif};
use squall_fuzz::json;

/// The most slots that figures are made for.
const SLOTS_MAX: u64 = 1_000_000;

struct World<'a> {
    files: Vec<&'a [u8]>,
}

impl Surroundings for World<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        match name.len() % 4 {
            0 => None,
            1 => Some(String::new()),
            2 => Some("3".to_owned()),
            _ => Some("5s".to_owned()),
        }
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, String> {
        let place = match file {
            "stack.yml" => 0,
            "other.yml" => 1,
            _ => 2,
        };
        self.files.get(place).map(|bytes| bytes.to_vec()).ok_or_else(|| "it is not there".to_owned())
    }

    fn is_there(&self, path: &Path) -> Option<bool> {
        match path.as_os_str().len() % 3 {
            0 => None,
            rest => Some(rest == 1),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let world = World { files: parts(bytes) };
    let mut names = vec!["stack.yml".to_owned()];
    if world.files.len() > 2 {
        names.push("other.yml".to_owned());
    }
    for settings in [Settings::default(), Settings { nodes: SLOTS_MAX, budget: u64::MAX }] {
        let linted = lint(&names, settings, &world);
        assert_eq!(linted, lint(&names, settings, &world), "the same files are judged the same");
        match linted {
            Ok(linted) => check(&linted, &world),
            Err(LintError::Mistake(remark)) => {
                check_place(&world, &remark.file, remark.line, remark.column);
                assert!(!remark.message.is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn parts(bytes: &[u8]) -> Vec<&[u8]> {
    const CUT: &[u8] = b"\n%%%\n";
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(CUT.len()).position(|window| window == CUT) {
        parts.push(&rest[..=at]);
        rest = &rest[at + CUT.len()..];
    }
    parts.push(rest);
    parts
}

fn check(linted: &Linted, world: &World<'_>) {
    let report = &linted.report;
    let per_min = |value: f64| assert!(value.is_finite() && value >= 0.0, "{report:?}");
    for service in &report.services {
        assert!(service.slots <= SLOTS_MAX && !service.name.is_empty() && !service.registry.is_empty());
        per_min(service.requests_per_min);
        per_min(service.pulls_per_min);
        assert!(service.pulls_per_min <= service.requests_per_min);
        service.period_secs.into_iter().for_each(per_min);
        service.budget_spent_secs.into_iter().for_each(per_min);
    }
    assert_eq!(report.totals.slots, report.services.iter().map(|service| service.slots).sum::<u64>());
    per_min(report.totals.requests_per_min);
    assert!(report.totals.hub_requests_per_min <= report.totals.requests_per_min + 0.1);
    for finding in &report.findings {
        check_place(world, &finding.file, finding.line, finding.column);
        assert!(!finding.message.is_empty() && !finding.advice.is_empty());
        assert_eq!(finding.level, finding.rule.level());
    }
    for warning in &linted.warnings {
        check_place(world, &warning.file, warning.line, warning.column);
    }
    json(report);
    json(&sarif(report, "0"));
}

/// A place is one of its file, or just behind its end.
fn check_place(world: &World<'_>, file: &str, line: usize, column: usize) {
    let bytes = world.read(file).unwrap_or_default();
    // YAML ends lines by a carriage return too.
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    assert!((1..=lines + 1).contains(&line), "{file}:{line} of {lines} lines");
    assert!((1..=bytes.len() + 2).contains(&column), "{file}:{line}:{column}");
}
