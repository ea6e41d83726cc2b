//! A report as SARIF 2.1.0, which code hosts and editors read.

use serde_json::{Value, json};

use super::report::LintReport;
use super::rule::{Finding, Rule};

/// A report as one SARIF log of one run.
pub fn sarif(report: &LintReport, version: &str) -> Value {
    let rules: Vec<Value> = Rule::ALL
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id(),
                "shortDescription": { "text": rule.title() },
                "defaultConfiguration": { "level": rule.level().as_str() },
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "squall", "version": version, "rules": rules } },
            // Columns are counted in characters.
            "columnKind": "unicodeCodePoints",
            "results": report.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let service = finding.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
    let index = Rule::ALL.iter().position(|rule| *rule == finding.rule);
    json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": index,
        "level": finding.level.as_str(),
        "message": { "text": format!("{service}{}. To change: {}.", finding.message, finding.advice) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&finding.file) },
                "region": { "startLine": finding.line, "startColumn": finding.column },
            },
        }],
    })
}

/// A path as a URI reference: absolute ones with their scheme.
fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_uri_reference() {
        assert_eq!(uri("a b/ü.yml"), "a%20b/%C3%BC.yml");
        assert_eq!(uri("/srv/x:1.yml"), "file:///srv/x%3A1.yml");
    }
}
