//! Reads values of a tree as the types that a key wants, with variables written out.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::place::{LintError, Place, Remark};
use super::rule::{Finding, Rule};
use super::scalar;
use super::variable::{Substituted, substitute};
use super::yaml::{Mark, Node, Value};

/// What the stack lies in: the shell has the real one, tests have theirs.
pub trait Surroundings {
    /// A variable of the environment; `None` where it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// A file's bytes, at most [`super::FILE_BYTES_MAX`] and one more.
    ///
    /// # Errors
    /// A sentence.
    fn read(&self, file: &str) -> Result<Vec<u8>, String>;

    /// Whether a path is there on this host; `None` where nobody looks.
    fn is_there(&self, path: &Path) -> Option<bool>;
}

/// How many variables are warned of at most; of the rest nothing is said.
const UNSET_MAX: usize = 100;

/// What was noticed on the way.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Variables that are not set, each where it was first met.
    pub(super) warnings: Vec<Remark>,
    pub(super) findings: Vec<Finding>,
    unset: BTreeSet<String>,
}

/// Reads one file.
pub(super) struct Reader<'a> {
    pub(super) world: &'a dyn Surroundings,
    pub(super) noticed: &'a mut Noticed,
    pub(super) file: usize,
    pub(super) label: &'a str,
}

impl Reader<'_> {
    pub(super) const fn place(&self, at: Mark) -> Place {
        Place { file: self.file, line: at.line, column: at.column }
    }

    pub(super) fn mistake(&self, at: Mark, message: impl Into<String>) -> LintError {
        LintError::Mistake(Remark {
            file: self.label.to_owned(),
            line: at.line,
            column: at.column,
            message: message.into(),
        })
    }

    /// Looks at every text below a node: its variables must be well written and, where that is asked for, set.
    pub(super) fn check_variables(&mut self, node: &Node, service: Option<&str>) -> Result<(), LintError> {
        match &node.value {
            Value::Text(text) => {
                if let Some(done) = self.substituted(text, node.at)? {
                    self.notice(done, node.at, service);
                }
            }
            Value::List(list) => {
                for node in list {
                    self.check_variables(node, service)?;
                }
            }
            Value::Map(map) => {
                for (_, node) in map {
                    self.check_variables(node, service)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn notice(&mut self, done: Substituted, at: Mark, service: Option<&str>) {
        for name in done.unset {
            if self.noticed.unset.len() < UNSET_MAX && self.noticed.unset.insert(name.clone()) {
                self.noticed.warnings.push(Remark {
                    file: self.label.to_owned(),
                    line: at.line,
                    column: at.column,
                    message: format!("warning: the variable {name} is not set: it is taken as empty"),
                });
            }
        }
        if done.is_compose_only {
            let finding = Finding::new(
                Rule::SubstitutionUnsupported,
                self.place(at),
                service,
                "docker stack deploy refuses `${NAME:+...}` and `${NAME+...}`; docker compose knows them".to_owned(),
                "write `${NAME:-...}`, or set the whole value in a variable".to_owned(),
            );
            self.noticed.findings.push(finding);
        }
    }

    /// A text with its variables written out; `None` where it has none.
    pub(super) fn substituted(&self, text: &str, at: Mark) -> Result<Option<Substituted>, LintError> {
        substitute(text, &|name| self.world.variable(name)).map_err(|why| self.mistake(at, why))
    }

    /// The error of a value of the wrong type.
    pub(super) fn wants(&self, node: &Node, key: &str, wanted: &str) -> LintError {
        self.mistake(node.at, format!("`{key}` wants {wanted} and is {}", node.kind()))
    }

    /// A text with its variables written out.
    pub(super) fn text<'n>(&self, node: &'n Node, key: &str) -> Result<Cow<'n, str>, LintError> {
        let Value::Text(text) = &node.value else { return Err(self.wants(node, key, "text")) };
        Ok(match self.substituted(text, node.at)? {
            Some(done) => Cow::Owned(done.text),
            None => Cow::Borrowed(text),
        })
    }

    /// An integer from 0. A text is one only where a variable made it: so docker has it.
    pub(super) fn whole(&self, node: &Node, key: &str) -> Result<u64, LintError> {
        const WANTED: &str = "a whole number";
        let number = match &node.value {
            Value::Integer(number) => *number,
            Value::Text(text) if text.contains('$') => {
                self.text(node, key)?.parse().map_err(|_| self.wants(node, key, WANTED))?
            }
            _ => return Err(self.wants(node, key, WANTED)),
        };
        u64::try_from(number).map_err(|_| self.mistake(node.at, format!("`{key}` is below zero")))
    }

    /// A number, with a fraction or without.
    pub(super) fn number(&self, node: &Node, key: &str) -> Result<(), LintError> {
        let is_number = match &node.value {
            Value::Integer(_) | Value::Number => true,
            Value::Text(text) => text.contains('$') && self.text(node, key)?.trim().parse::<f64>().is_ok(),
            _ => false,
        };
        if is_number { Ok(()) } else { Err(self.wants(node, key, "a number")) }
    }

    pub(super) fn bool(&self, node: &Node, key: &str) -> Result<(), LintError> {
        let is_bool = match &node.value {
            Value::Bool => true,
            Value::Text(text) if text.contains('$') => {
                // What docker/cli's interpolation takes for a boolean.
                let text = self.text(node, key)?.to_lowercase();
                matches!(&*text, "y" | "yes" | "true" | "on" | "n" | "no" | "false" | "off")
            }
            _ => false,
        };
        if is_bool { Ok(()) } else { Err(self.wants(node, key, "true or false")) }
    }

    /// A duration; the message shows what is written, not what a variable holds.
    pub(super) fn duration(&self, node: &Node, key: &str) -> Result<Duration, LintError> {
        if !matches!(node.value, Value::Text(_)) {
            return Err(self.wants(node, key, "a duration as 5s, 1m30s or 500ms"));
        }
        let text = self.text(node, key)?;
        scalar::duration(&text).ok_or_else(|| {
            let why =
                if text.starts_with('-') { "is below zero" } else { "is no duration: write it as 5s, 1m30s or 500ms" };
            self.mistake(node.at, format!("`{key}`: `{}` {why}", written(node)))
        })
    }

    /// A text that must be one of some words.
    pub(super) fn word(&self, node: &Node, key: &str, words: &[&'static str]) -> Result<&'static str, LintError> {
        let text = self.text(node, key)?;
        words.iter().find(|word| **word == text).copied().ok_or_else(|| {
            self.mistake(node.at, format!("`{key}`: `{}` is none of {}", written(node), words.join(", ")))
        })
    }
}

/// The longest part of a value that a message shows, in characters.
const SHOWN_MAX: usize = 60;

/// A value as it is written, for a message.
pub(super) fn written(node: &Node) -> String {
    let Value::Text(text) = &node.value else { return node.kind().to_owned() };
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() { format!("{shown}...") } else { shown }
}
