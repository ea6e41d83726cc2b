//! Files to services: `extends` within and across files, then one file over the other as `docker stack deploy` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::place::{LintError, Place, Remark};
use super::reader::{Noticed, Reader, Surroundings};
use super::rule::{Finding, Rule};
use super::service::{Draft, check_name};
use super::shape;
use super::yaml::{self, Document, Mark, Node, Value};

/// How many files are read at most, those of `extends` with them.
pub const FILES_MAX: usize = 100;
/// How many services a file has at most: large stacks have some hundred.
const SERVICES_MAX: usize = 2000;
/// The key that docker/cli's schema has at the top besides the sections.
const VERSION: &str = "version";
/// The version of a file that names none, or 3: docker/cli's `schema.go`.
const VERSION_DEFAULT: &str = "3.13";
/// How long a chain of `extends` is at most.
const CHAIN_MAX: usize = 32;
/// The sections whose values have variables, as docker has it.
const SECTIONS: [&str; 5] = ["services", "volumes", "networks", "secrets", "configs"];

/// A service with all files taken together.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    /// Where the first file names it.
    pub(super) at: Place,
    pub(super) draft: Draft,
}

/// What files say together.
#[derive(Debug)]
pub(super) struct Stack {
    /// The files, those of `extends` behind those that were named.
    pub(super) files: Vec<String>,
    /// By name.
    pub(super) services: Vec<Service>,
    pub(super) noticed: Noticed,
}

/// Reads files and all that they extend.
///
/// # Errors
/// At the first file that cannot be read, or the first mistake.
pub(super) fn read(labels: &[String], world: &dyn Surroundings) -> Result<Stack, LintError> {
    let mut loader = Loader { world, files: Vec::new(), noticed: Noticed::default() };
    for label in labels {
        loader.load(label, None)?;
    }
    let named = loader.files.len();
    // Docker takes the paths of all files from where the first one is.
    let base = directory(labels.first().map_or("", |label| label));
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    loader.check_versions()?;
    for file in 0..named {
        let tree = Rc::clone(&loader.files[file].1);
        loader.check_sections(file, &tree)?;
        let Some((_, section)) = tree.entry("services") else { continue };
        for (key, _) in section.entries() {
            let draft = loader.draft(file, &key.name, &base, &mut Vec::new())?;
            match services.remove(&key.name) {
                Some(known) => {
                    let draft = known.draft.overruled_by(draft);
                    services.insert(key.name.clone(), Service { draft, ..known });
                }
                None => {
                    let at = Place { file, line: key.at.line, column: key.at.column };
                    services.insert(key.name.clone(), Service { name: key.name.clone(), at, draft });
                }
            }
        }
    }
    let files = loader.files.into_iter().map(|(label, _)| label).collect();
    Ok(Stack { files, services: services.into_values().collect(), noticed: loader.noticed })
}

/// Where a file is; the working directory for standard input.
fn directory(label: &str) -> PathBuf {
    if label == "-" { PathBuf::new() } else { Path::new(label).parent().unwrap_or(Path::new("")).to_owned() }
}

struct Loader<'a> {
    world: &'a dyn Surroundings,
    files: Vec<(String, Rc<Node>)>,
    noticed: Noticed,
}

/// A service of a file, by the file's place in the list.
type Link = (usize, String);

impl Loader<'_> {
    fn reader<'r>(&'r mut self, file: usize) -> Reader<'r> {
        let label = self.files.get(file).map_or("", |(label, _)| label);
        Reader { world: self.world, noticed: &mut self.noticed, file, label }
    }

    /// Reads a file once; `from` is where another one names it.
    fn load(&mut self, label: &str, from: Option<(usize, Mark)>) -> Result<usize, LintError> {
        if let Some(known) = self.files.iter().position(|(known, _)| known == label) {
            return Ok(known);
        }
        if self.files.len() >= FILES_MAX {
            return Err(LintError::TooManyFiles(FILES_MAX));
        }
        let bytes = self.world.read(label).map_err(|why| match from {
            Some((file, at)) => self.reader(file).mistake(at, format!("`extends`: {label}: {why}")),
            None => LintError::Unreadable { file: label.to_owned(), why },
        })?;
        let mistake = |(at, message): (Mark, String)| {
            LintError::Mistake(Remark { file: label.to_owned(), line: at.line, column: at.column, message })
        };
        let Document { root, second } = yaml::parse(&bytes).map_err(mistake)?;
        if !matches!(root.value, Value::Map(_)) {
            let message = if root.is_null() {
                "the file is empty".to_owned()
            } else {
                format!("a stack is a mapping, and this is {}", root.kind())
            };
            return Err(mistake((root.at, message)));
        }
        let file = self.files.len();
        self.files.push((label.to_owned(), Rc::new(root)));
        if let Some(at) = second {
            let finding = Finding::new(
                Rule::SecondDocument,
                Place { file, line: at.line, column: at.column },
                None,
                "a second document begins here: docker reads the first one only, and says nothing".to_owned(),
                "put it into a file of its own, and name both: -c FILE -c FILE".to_owned(),
            );
            self.noticed.findings.push(finding);
        }
        Ok(file)
    }

    /// Docker refuses to merge files of different versions.
    fn check_versions(&mut self) -> Result<(), LintError> {
        let mut first: Option<(String, String)> = None;
        for file in 0..self.files.len() {
            let (label, tree) = self.files[file].clone();
            let (at, version) = match tree.entry(VERSION) {
                Some((_, Node { at, value: Value::Text(text) })) if !text.is_empty() && text != "3" => (*at, &**text),
                _ => (Mark::START, VERSION_DEFAULT),
            };
            let (other, known) = first.get_or_insert_with(|| (label, version.to_owned()));
            if known != version {
                let message = format!(
                    "docker merges no files of different versions: this is {version} (without one it is \
                     {VERSION_DEFAULT}), and {other} is {known}"
                );
                return Err(self.reader(file).mistake(at, message));
            }
        }
        Ok(())
    }

    /// What holds for a whole file: its version, the kinds of its sections, its variables.
    fn check_sections(&mut self, file: usize, tree: &Node) -> Result<(), LintError> {
        let mut reader = self.reader(file);
        if let Some((_, version)) = tree.entry(VERSION) {
            let Value::Text(text) = &version.value else {
                return Err(reader.wants(version, "version", "text, as \"3.8\","));
            };
            if !text.is_empty() && text != "3" && !text.starts_with("3.") {
                return Err(reader.mistake(version.at, "`version`: docker stack deploy takes version 3 only"));
            }
        }
        for (key, _) in tree.entries() {
            let is_known = SECTIONS.contains(&&*key.name) || key.name == VERSION || key.name.starts_with("x-");
            if !is_known {
                note_key(&mut reader, &key.name, key.at, None);
            }
        }
        for name in SECTIONS {
            let Some((_, section)) = tree.entry(name) else { continue };
            if section.is_null() && name != "services" {
                continue;
            }
            if !matches!(section.value, Value::Map(_)) {
                return Err(reader.wants(section, name, "a mapping"));
            }
            if section.entries().len() > SERVICES_MAX {
                return Err(reader.mistake(section.at, format!("`{name}` has more than {SERVICES_MAX} entries")));
            }
            for (key, value) in section.entries() {
                let is_service = name == "services";
                let is_good = matches!(value.value, Value::Map(_)) || value.is_null() && !is_service;
                if !is_good {
                    return Err(reader.wants(value, &format!("{name}.{}", key.name), "a mapping"));
                }
                if is_service {
                    check_name(&reader, &key.name, key.at)?;
                    for (inner, _) in value.entries() {
                        if !shape::is_known_to_docker(&inner.name) {
                            note_key(&mut reader, &inner.name, inner.at, Some(&key.name));
                        }
                    }
                }
                reader.check_variables(value, is_service.then_some(&*key.name))?;
            }
        }
        Ok(())
    }

    /// A service of a file, with what it extends. `chain` holds those that lead here.
    fn draft(&mut self, file: usize, name: &str, base: &Path, chain: &mut Vec<Link>) -> Result<Draft, LintError> {
        let tree = Rc::clone(&self.files[file].1);
        // The callers have seen that it is there.
        let Some((_, node)) = tree.entry("services").and_then(|(_, section)| section.entry(name)) else {
            return Ok(Draft::default());
        };
        let own = Draft::read(&self.reader(file), node, base)?;
        let Some((key, extends)) = node.entry("extends").filter(|(_, extends)| !extends.is_null()) else {
            return Ok(own);
        };
        let (target, at, other) = self.extended(file, extends)?;
        if chain.is_empty() {
            self.note_extends(file, key.at, name);
        }
        chain.push((file, name.to_owned()));
        let (target_file, target_base) = match other {
            Some((path, at)) => {
                let label = directory(&self.files[file].0).join(path);
                let label = label.to_string_lossy().into_owned();
                let target_base = directory(&label);
                (self.load(&label, Some((file, at)))?, target_base)
            }
            None => (file, base.to_owned()),
        };
        let link = (target_file, target.clone());
        if chain.contains(&link) {
            let message = format!("`extends`: {target} extends itself, by way of {}", names(chain));
            return Err(self.reader(file).mistake(at, message));
        }
        if chain.len() >= CHAIN_MAX {
            return Err(self.reader(file).mistake(at, format!("`extends`: more than {CHAIN_MAX} in a chain")));
        }
        let target_tree = Rc::clone(&self.files[target_file].1);
        let Some((_, node)) = target_tree.entry("services").and_then(|(_, section)| section.entry(&target)) else {
            let label = &self.files[target_file].0;
            let message = format!("`extends`: {label} has no service `{target}`");
            return Err(self.reader(file).mistake(at, message));
        };
        let mut reader = self.reader(target_file);
        if !matches!(node.value, Value::Map(_)) {
            return Err(reader.wants(node, &format!("services.{target}"), "a mapping"));
        }
        if target_file != file {
            reader.check_variables(node, Some(name))?;
        }
        let extended = self.draft(target_file, &target, &target_base, chain)?;
        Ok(extended.overruled_by(own))
    }

    /// Whom `extends` names: the service, where that is written, and the file.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn extended(&mut self, file: usize, extends: &Node) -> Result<(String, Mark, Option<(String, Mark)>), LintError> {
        let reader = self.reader(file);
        if matches!(extends.value, Value::Text(_)) {
            return Ok((reader.text(extends, "extends")?.into_owned(), extends.at, None));
        }
        let Some((_, service)) = extends.entry("service") else {
            return Err(reader.mistake(extends.at, "`extends` has no `service`"));
        };
        let other = match extends.entry("file") {
            Some((_, path)) => Some((reader.text(path, "extends.file")?.into_owned(), path.at)),
            None => None,
        };
        Ok((reader.text(service, "extends.service")?.into_owned(), service.at, other))
    }

    fn note_extends(&mut self, file: usize, at: Mark, service: &str) {
        self.noticed.findings.push(Finding::new(
            Rule::ExtendsUnsupported,
            Place { file, line: at.line, column: at.column },
            Some(service),
            "docker stack deploy refuses `extends`; it is judged here as docker compose has it".to_owned(),
            "write it out in the file: `docker compose config` prints what it comes to".to_owned(),
        ));
    }
}

/// A key that compose may have and docker refuses, or that is spelt wrong.
fn note_key(reader: &mut Reader<'_>, key: &str, at: Mark, service: Option<&str>) {
    let finding = Finding::new(
        Rule::KeyUnsupported,
        reader.place(at),
        service,
        format!("docker stack deploy refuses the key `{key}`; it is left out here"),
        "remove it, correct its spelling, or begin it with x- where it is a note".to_owned(),
    );
    reader.noticed.findings.push(finding);
}

fn names(chain: &[Link]) -> String {
    chain.iter().map(|(_, name)| &**name).collect::<Vec<_>>().join(", ")
}
