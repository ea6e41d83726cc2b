//! What is wrong in the settings, and where.
//!
//! A mistake holds no value of the file: a value may be a secret, or a secret that was written in the wrong place. The key,
//! its line and what is expected there are enough to mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// The tables of which there may be many: each is known by its `name`.
const LISTS: [&str; 3] = ["receiver", "silence", "registry"];
/// The longest name that is shown.
const SHOWN_CHARS_MAX: usize = 64;
/// Stands for a key or a name that does not look like one.
const HIDDEN: &str = "(a name that is not shown)";

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

/// One mistake: which key, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The way to the key: `detect`, `per`; of a list's entry its name comes second. Empty where the file is no TOML.
    path: Vec<String>,
    why: String,
    place: Option<Place>,
}

impl Mistake {
    /// A mistake at a key, as `["detect", "per"]` or `["receiver", "ops", "secret"]`. `why` holds no value of the file.
    pub fn new(path: &[&str], why: impl Into<String>) -> Self {
        Self { path: path.iter().map(|part| shown(part).to_owned()).collect(), why: why.into(), place: None }
    }

    pub(super) fn at(path: Vec<String>, why: String, place: Place) -> Self {
        Self { path, why, place: Some(place) }
    }

    pub(super) fn path(&self) -> &[String] {
        &self.path
    }

    pub(super) fn place(&self) -> Option<Place> {
        self.place
    }

    pub(super) fn set_place(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// The entry of a list that it is in.
    pub(super) fn entry(&self) -> Option<&[String]> {
        self.path.get(..2).filter(|path| is_list(&path[0]))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = match &*self.path {
            [list, rest @ ..] if is_list(list) => {
                write!(f, "[[{list}]]")?;
                if let Some(name) = rest.first() {
                    write!(f, " {name}")?;
                }
                f.write_str(": ")?;
                rest.get(1..).unwrap_or_default()
            }
            path => path,
        };
        if !keys.is_empty() {
            write!(f, "{}: ", keys.join("."))?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Mistake {}

/// All mistakes of the settings, in the order of the file. Displayed, the first of them and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: Option<PathBuf>,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: Option<&Path>, list: Vec<Mistake>) -> Self {
        Self { file: file.map(Path::to_owned), list }
    }

    /// A line for each, as compilers write them: `FILE:LINE:COLUMN: KEY: WHY`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|mistake| match (&self.file, mistake.place) {
            (Some(file), Some(Place { line, column })) => format!("{}:{line}:{column}: {mistake}", file.display()),
            (Some(file), None) => format!("{}: {mistake}", file.display()),
            (None, _) => mistake.to_string(),
        })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().next().unwrap_or_default())?;
        match self.list.len().saturating_sub(1) {
            0 => Ok(()),
            more => write!(f, " (and {more} more: squall config check lists them)"),
        }
    }
}

impl std::error::Error for Mistakes {}

impl From<Vec<Mistake>> for Mistakes {
    fn from(list: Vec<Mistake>) -> Self {
        Self::new(None, list)
    }
}

pub(super) fn is_list(table: &str) -> bool {
    LISTS.contains(&table)
}

/// A key or a name, if it looks like one: a URL or a long token may be a secret in the wrong place.
pub(super) fn shown(name: &str) -> &str {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-:/ ".contains(char);
    let is_name = !name.is_empty() && name.len() <= SHOWN_CHARS_MAX && name.chars().all(is_plain);
    if is_name && !name.contains("//") { name } else { HIDDEN }
}

/// The words for an unknown key: the known key that is nearest to it, or else all that are known.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= (nearest.len() / 3).max(1) => {
            format!("unknown key: did you mean {nearest}?")
        }
        _ => format!("unknown key: known here are {}", known.join(", ")),
    }
}

/// How many letters have to be put in, left out, replaced or swapped with the next one to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(SHOWN_CHARS_MAX).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_proposed_if_it_is_near() {
        let known = ["receiver", "registry", "respond", "serve"];
        for (key, nearest) in
            [("recever", "receiver"), ("reciever", "receiver"), ("registrys", "registry"), ("Serve", "serve")]
        {
            assert_eq!(unknown_key(key, &known), format!("unknown key: did you mean {nearest}?"));
        }
        assert_eq!(unknown_key("hots", &["host", "context"]), "unknown key: did you mean host?");
        assert_eq!(unknown_key("colour", &known), "unknown key: known here are receiver, registry, respond, serve");
        assert_eq!(unknown_key("", &[]), "unknown key: known here are ");
    }
}
