//! A service as one or several files write it, and as Swarm will have it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{LintError, Place, Written};
use super::reader::{Reader, written};
use super::shape::{self, MODES};
use super::yaml::{Key, Mark, Node, Value};
use crate::model::{Condition, ImageRef, RestartPolicy};

/// `deploy.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

impl Mode {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "global" => Self::Global,
            "replicated-job" => Self::ReplicatedJob,
            "global-job" => Self::GlobalJob,
            _ => Self::Replicated,
        }
    }

    /// Whether there is one slot on each node.
    pub(super) const fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }
}

/// How many mounts a service has in one file at most: each is held against those of the other files.
const MOUNTS_MAX: usize = 1000;

/// A mount; a later file replaces that of the same target.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    target: String,
    /// The path on the host, where it is a bind mount.
    pub(super) bind: Option<PathBuf>,
    pub(super) at: Place,
}

/// What a file says of a service, as far as it matters here: nothing of its environment or secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) image: Option<Written<String>>,
    pub(super) build: Option<Place>,
    pub(super) restart: Option<Written<String>>,
    pub(super) pull_policy: Option<Place>,
    mode: Option<Written<Mode>>,
    replicas: Option<Written<u64>>,
    /// The key `restart_policy`.
    pub(super) policy: Option<Place>,
    condition: Option<Condition>,
    delay: Option<Written<Duration>>,
    max_attempts: Option<Written<u64>>,
    window: Option<Written<Duration>>,
    mounts: Vec<Mount>,
}

impl Draft {
    /// Reads a service. Relative paths of mounts are below `base`.
    ///
    /// # Errors
    /// At the first value that its key cannot have.
    pub(super) fn read(reader: &Reader<'_>, node: &Node, base: &Path) -> Result<Self, LintError> {
        shape::check(reader, node, shape::SERVICE, "")?;
        let mut draft = Self::default();
        if let Some(image) = value(node, &["image"]) {
            draft.image = Some(read_image(reader, image)?);
        }
        draft.build = node.entry("build").map(|(key, _)| reader.place(key.at));
        draft.pull_policy = node.entry("pull_policy").map(|(key, _)| reader.place(key.at));
        if let Some((key, restart)) = node.entry("restart") {
            let text = reader.text(restart, "restart")?.into_owned();
            draft.restart = Some(Written { value: text, at: reader.place(key.at) });
        }
        if let Some(mode) = value(node, &["deploy", "mode"]) {
            let word = reader.word(mode, "deploy.mode", MODES)?;
            draft.mode = Some(Written { value: Mode::from_word(word), at: reader.place(mode.at) });
        }
        if let Some((key, replicas)) = entry(node, &["deploy", "replicas"]) {
            let replicas = reader.whole(replicas, "deploy.replicas")?;
            draft.replicas = Some(Written { value: replicas, at: reader.place(key.at) });
        }
        draft.read_policy(reader, node)?;
        let mounts = value(node, &["volumes"]);
        if let Some(mounts) = mounts.filter(|mounts| mounts.members().len() > MOUNTS_MAX) {
            return Err(reader.mistake(mounts.at, format!("`volumes`: more than {MOUNTS_MAX} mounts")));
        }
        for mount in mounts.map(Node::members).unwrap_or_default() {
            draft.mounts.push(read_mount(reader, mount, base)?);
        }
        Ok(draft)
    }

    fn read_policy(&mut self, reader: &Reader<'_>, node: &Node) -> Result<(), LintError> {
        let Some((key, policy)) = entry(node, &["deploy", "restart_policy"]).filter(|(_, policy)| !policy.is_null())
        else {
            return Ok(());
        };
        self.policy = Some(reader.place(key.at));
        if let Some((_, condition)) = policy.entry("condition") {
            self.condition = Some(read_condition(reader, condition)?);
        }
        let span = |name: &str| {
            let Some((key, span)) = policy.entry(name) else { return Ok(None) };
            let value = reader.duration(span, &format!("deploy.restart_policy.{name}"))?;
            Ok(Some(Written { value, at: reader.place(key.at) }))
        };
        self.delay = span("delay")?;
        self.window = span("window")?;
        if let Some((key, attempts)) = policy.entry("max_attempts") {
            let value = reader.whole(attempts, "deploy.restart_policy.max_attempts")?;
            self.max_attempts = Some(Written { value, at: reader.place(key.at) });
        }
        Ok(())
    }

    /// What this says, overruled by what `later` says: as docker merges files, and `extends`.
    pub(super) fn overruled_by(mut self, later: Self) -> Self {
        for mount in later.mounts {
            self.mounts.retain(|known| known.target != mount.target);
            self.mounts.push(mount);
        }
        Self {
            image: later.image.or(self.image),
            build: later.build.or(self.build),
            restart: later.restart.or(self.restart),
            pull_policy: later.pull_policy.or(self.pull_policy),
            mode: later.mode.or(self.mode),
            replicas: later.replicas.or(self.replicas),
            policy: later.policy.or(self.policy),
            condition: later.condition.or(self.condition),
            delay: later.delay.or(self.delay),
            max_attempts: later.max_attempts.or(self.max_attempts),
            window: later.window.or(self.window),
            mounts: self.mounts,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode.as_ref().map_or(Mode::Replicated, |mode| mode.value)
    }

    /// How many tasks there are at a time.
    ///
    /// # Errors
    /// Where a number of replicas is written for a mode that has none.
    pub(super) fn slots(&self, nodes: u64) -> Result<u64, (Place, String)> {
        match (&self.replicas, self.mode()) {
            (Some(replicas), mode) if mode.is_global() => Err((
                replicas.at,
                format!("`deploy.replicas` is not for mode {}: it has a task on each node", mode.as_str()),
            )),
            (_, mode) if mode.is_global() => Ok(nodes),
            (replicas, _) => Ok(replicas.as_ref().map_or(1, |replicas| replicas.value)),
        }
    }

    /// The restart policy that Swarm will have. Where there is no `restart_policy`, docker/cli makes one of `restart`
    /// (`cli/compose/convert/service.go`), though it warns that it ignores that key.
    ///
    /// # Errors
    /// Where `restart` counts and is none of its words.
    pub(super) fn restart_policy(&self) -> Result<RestartPolicy, (Place, String)> {
        let default = RestartPolicy::default();
        if self.policy.is_some() {
            return Ok(RestartPolicy {
                condition: self.condition.unwrap_or(default.condition),
                delay: self.delay.as_ref().map_or(default.delay, |delay| delay.value),
                max_attempts: self.max_attempts.as_ref().map_or(0, |attempts| attempts.value),
                window: self.window.as_ref().map_or(Duration::ZERO, |window| window.value),
            });
        }
        let Some(restart) = &self.restart else { return Ok(default) };
        let (name, attempts) = restart.value.split_once(':').unwrap_or((&restart.value, "0"));
        let condition = match name {
            "no" | "always" | "unless-stopped" | "" => Condition::Any,
            "on-failure" => Condition::OnFailure,
            _ => return Err((restart.at, "`restart` is none of no, always, on-failure, unless-stopped".to_owned())),
        };
        let max_attempts =
            attempts.parse().map_err(|_| (restart.at, "`restart` has a limit that is no whole number".to_owned()))?;
        Ok(RestartPolicy { condition, max_attempts: if name == "no" { 0 } else { max_attempts }, ..default })
    }

    /// Where the delay, the limit and the window are written, or else the policy; `None` where nothing is.
    pub(super) fn delay_place(&self) -> Option<Place> {
        self.delay.as_ref().map(|delay| delay.at).or(self.policy)
    }

    pub(super) fn limit_place(&self) -> Option<Place> {
        let restart = self.restart.as_ref().map(|restart| restart.at);
        self.max_attempts.as_ref().map(|attempts| attempts.at).or(self.policy).or(restart)
    }

    pub(super) fn window_place(&self) -> Option<Place> {
        self.window.as_ref().map(|window| window.at).or(self.policy)
    }

    pub(super) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }
}

/// The entry at the end of a way through mappings.
fn entry<'n>(node: &'n Node, way: &[&str]) -> Option<(&'n Key, &'n Node)> {
    let (last, first) = way.split_last()?;
    let mut node = node;
    for name in first {
        node = node.entry(name)?.1;
    }
    node.entry(last)
}

fn value<'n>(node: &'n Node, way: &[&str]) -> Option<&'n Node> {
    entry(node, way).map(|(_, node)| node)
}

fn read_image(reader: &Reader<'_>, node: &Node) -> Result<Written<String>, LintError> {
    let text = reader.text(node, "image")?;
    if let Err(error) = ImageRef::parse(&text) {
        let unset = match &node.value {
            Value::Text(text) => reader.substituted(text, node.at)?.unwrap_or_default().unset,
            _ => Vec::new(),
        };
        let shown = written(node);
        let how = match &*unset {
            [] if shown.contains('$') => " with its variables written out".to_owned(),
            [] => String::new(),
            names => format!(", where {} is not set", names.join(", ")),
        };
        return Err(reader.mistake(node.at, format!("`image`: `{shown}`{how}: {error}")));
    }
    Ok(Written { value: text.into_owned(), at: reader.place(node.at) })
}

/// As the daemon reads it: in any case, with `-` or `_`; empty is any.
fn read_condition(reader: &Reader<'_>, node: &Node) -> Result<Condition, LintError> {
    let key = "deploy.restart_policy.condition";
    match &*reader.text(node, key)?.to_ascii_lowercase().replace('_', "-") {
        "none" => Ok(Condition::Never),
        "on-failure" => Ok(Condition::OnFailure),
        "any" | "" => Ok(Condition::Any),
        _ => Err(reader.mistake(node.at, format!("`{key}`: `{}` is none of none, on-failure, any", written(node)))),
    }
}

fn read_mount(reader: &Reader<'_>, node: &Node, base: &Path) -> Result<Mount, LintError> {
    let at = reader.place(node.at);
    let text = |name: &str| match node.entry(name) {
        Some((_, value)) => reader.text(value, &format!("volumes.{name}")).map(|text| Some(text.into_owned())),
        None => Ok(None),
    };
    if matches!(node.value, Value::Map(_)) {
        let (kind, source, target) = (text("type")?, text("source")?, text("target")?);
        let Some(kind) = kind else { return Err(reader.mistake(node.at, "`volumes`: a mount has no `type`")) };
        if kind == "bind" && source.as_ref().is_none_or(String::is_empty) {
            return Err(reader.mistake(node.at, "`volumes`: a bind mount has no `source`"));
        }
        let bind = source.filter(|_| kind == "bind").map(|source| on_host(reader, &source, base));
        return Ok(Mount { target: target.unwrap_or_default(), bind, at });
    }
    let text = reader.text(node, "volumes")?;
    let parts = mount_parts(&text).map_err(|why| reader.mistake(node.at, format!("`volumes`: {why}")))?;
    let (source, target) = match *parts {
        [target] => ("", target),
        [source, target, ..] => (source, target),
        [] => ("", ""),
    };
    let is_path = source.starts_with(['.', '/', '~']);
    let bind = is_path.then(|| on_host(reader, source, base));
    Ok(Mount { target: target.to_owned(), bind, at })
}

/// The parts of a mount in the short syntax. The colon behind a drive's letter parts nothing.
fn mount_parts(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(':') {
        let part = &text[from..at];
        let is_drive = part.len() == 1 && part.starts_with(|char: char| char.is_ascii_alphabetic());
        if !is_drive {
            parts.push(part);
            from = at + 1;
        }
    }
    parts.push(&text[from..]);
    match &*parts {
        [""] => Err("a mount is empty"),
        parts if parts.contains(&"") => Err("a mount has nothing between two colons"),
        parts if parts.len() > 3 => Err("a mount has too many colons"),
        _ => Ok(parts),
    }
}

/// A path on the host, as docker makes it of a mount's source.
fn on_host(reader: &Reader<'_>, source: &str, base: &Path) -> PathBuf {
    let home = source.starts_with('~').then(|| reader.world.variable("HOME")).flatten();
    let path = match home {
        Some(home) => PathBuf::from(source.replacen('~', &home, 1)),
        None => PathBuf::from(source),
    };
    // Without its `.` parts; `..` stays, as a link may lie in front of it.
    base.join(path).components().collect()
}

/// What a service's name must be: Swarm takes it for a DNS name.
pub(super) fn check_name(reader: &Reader<'_>, name: &str, at: Mark) -> Result<(), LintError> {
    let is_good = name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'));
    if is_good {
        return Ok(());
    }
    Err(reader.mistake(at, "a service's name is of letters, digits, `.`, `_` and `-`"))
}
