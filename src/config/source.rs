//! Reads a file of settings, and says where in it something stands.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes, Place, shown, unknown_key};
use super::{Config, ConfigError};

/// A file of settings that was read: the mistakes that were found in it, and where its keys are.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    mistakes: Vec<Mistake>,
    places: BTreeMap<Vec<String>, Place>,
    is_toml: bool,
}

impl Source {
    /// Where there is no file: all settings have their defaults.
    pub(super) fn none() -> Self {
        Self { is_toml: true, ..Self::default() }
    }

    /// Reads a text. A key that is wrong keeps its default, and is a mistake.
    pub(super) fn read(text: &str, file: &Path) -> (Config, Self) {
        let lines = Lines::of(text);
        let mut source = Self { file: Some(file.to_owned()), ..Self::none() };
        let (mut table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let place = |error: &toml::de::Error| lines.place(error.span().map_or(0, |span| span.start));
            // The parser's words are about its grammar, and hold nothing of the text.
            let mistake = |error: &toml::de::Error| {
                Mistake::at(Vec::new(), format!("not TOML: {}", error.message()), place(error))
            };
            source.mistakes = errors.iter().map(mistake).collect();
            source.is_toml = false;
            return (Config::default(), source);
        }
        note_places(table.get_ref(), &lines, &mut Vec::new(), &mut source.places);
        // Each turn takes away the key that is wrong.
        let config = loop {
            let error = match Config::deserialize(toml::de::Deserializer::from(table.clone())) {
                Ok(config) => break config,
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let mut path = Vec::new();
            let Some(key) = take(table.get_mut(), &span, &mut path) else {
                source.mistakes.push(Mistake::at(path, expectation(error.message(), ""), lines.place(span.start)));
                break Config::default();
            };
            source.mistakes.push(Mistake::at(path, expectation(error.message(), &key), lines.place(span.start)));
        };
        let mut found = Vec::new();
        config.check(&mut found);
        let found = source.new_to(found);
        source.mistakes.extend(found);
        (config, source)
    }

    /// Whether the file is TOML; if it is not, nothing of it is known.
    pub fn is_toml(&self) -> bool {
        self.is_toml
    }

    /// Passes if there are no mistakes, neither in the file nor among those that were found afterwards.
    ///
    /// # Errors
    /// All mistakes, each with its place where it has one.
    pub fn judge(&self, found: Vec<Mistake>) -> Result<(), ConfigError> {
        let mut all: Vec<Mistake> = self.mistakes.iter().cloned().chain(self.new_to(found)).collect();
        for mistake in &mut all {
            // A key that is missing has the place of its table.
            let place = (1..=mistake.path().len()).rev().find_map(|length| self.places.get(&mistake.path()[..length]));
            mistake.set_place(mistake.place().or(place.copied()));
        }
        all.sort_by_key(Mistake::place);
        if all.is_empty() { Ok(()) } else { Err(Mistakes::new(self.file.as_deref(), all).into()) }
    }

    /// Drops what follows from a known mistake: an entry whose `secret` is wrong would also be said to have none.
    fn new_to(&self, mut found: Vec<Mistake>) -> Vec<Mistake> {
        found.retain(|mistake| {
            mistake.entry().is_none_or(|entry| !self.mistakes.iter().any(|known| known.path().starts_with(entry)))
        });
        found
    }
}

/// Reads a text by `parse`. The error says what is expected, and nothing of what is there.
pub(super) fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Text<'a, F>(&'a str, F);

    impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Text<'_, F> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            self.1(text).ok_or_else(|| E::invalid_value(Unexpected::Other("text"), &self.0))
        }
    }

    deserializer.deserialize_str(Text(expected, parse))
}

/// Says of a key's value what is expected, from serde's words: "KIND: VALUE, expected WHAT". The last part is written
/// by the type that was to be read; what comes before it may hold a secret.
fn expectation(message: &str, key: &str) -> String {
    let kinds = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    let expected = message.rsplit_once(", expected ").filter(|_| kinds.iter().any(|kind| message.starts_with(kind)));
    let Some((_, expected)) = expected else { return "the value cannot be read".to_owned() };
    if message.starts_with("unknown field") {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        return unknown_key(key, &known);
    }
    let plain = match expected {
        "u32" | "u64" => "a whole number",
        "a sequence" => "a list",
        "a string" => "a text in quotes",
        "path string" => "a path in quotes",
        "a boolean" => "true or false",
        other if other == "a map" || other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("expected {plain}")
}

/// Takes away the key that has, or whose value has, this span; `path` becomes its way. Returns the key.
fn take(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> Option<String> {
    let mut wrong = None;
    for (key, value) in table.iter_mut() {
        path.push(shown(key.get_ref()).to_owned());
        let mut is_it = key.span() == *span || value.span() == *span;
        match value.get_mut() {
            _ if is_it => {}
            DeValue::Table(inner) => {
                if let Some(key) = take(inner, span, path) {
                    return Some(key);
                }
            }
            DeValue::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    is_it |= item.span() == *span;
                    let DeValue::Table(inner) = item.get_mut() else { continue };
                    path.push(name_of(inner, at));
                    if let Some(key) = take(inner, span, path) {
                        return Some(key);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        if is_it {
            wrong = Some(key.clone());
            break;
        }
        path.pop();
    }
    table.remove(&wrong?);
    path.last().cloned()
}

fn note_places(
    table: &DeTable<'_>,
    lines: &Lines<'_>,
    path: &mut Vec<String>,
    places: &mut BTreeMap<Vec<String>, Place>,
) {
    for (key, value) in table {
        path.push(shown(key.get_ref()).to_owned());
        places.insert(path.clone(), lines.place(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => note_places(inner, lines, path, places),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let DeValue::Table(inner) = item.get_ref() else { continue };
                    path.push(name_of(inner, at));
                    places.insert(path.clone(), lines.place(item.span().start));
                    note_places(inner, lines, path, places);
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// What an entry of a list is called.
fn name_of(entry: &DeTable<'_>, at: usize) -> String {
    match entry.get("name").map(toml::Spanned::get_ref) {
        Some(DeValue::String(name)) if !name.is_empty() => shown(name).to_owned(),
        _ => format!("number {}", at + 1),
    }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Place { line, column: before.chars().count() + 1 }
    }
}
