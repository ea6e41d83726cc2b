//! What each key of a service wants, after the compose specification and docker/cli's own schema, and the check of it.
//!
//! Keys that a service may have and that are not listed are let through: compose has more than Swarm. Below `deploy`
//! an unlisted key is a mistake, as docker has it: a limit that is spelt wrong is no limit.

use super::place::LintError;
use super::reader::{Reader, written};
use super::scalar;
use super::yaml::{Node, Value};

/// What a key wants.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Nothing that is looked at.
    Any,
    Text,
    Whole,
    Number,
    Bool,
    Duration,
    /// A number of bytes: `64m`, 1024.
    Size,
    /// A number or a text that is one: `cpus`.
    Amount,
    Word(&'static [&'static str]),
    List(&'static Shape),
    /// A mapping of these keys and no others but `x-` ones.
    Map(&'static [(&'static str, Shape)]),
    /// A mapping of these keys among others.
    Open(&'static [(&'static str, Shape)]),
    /// A mapping or a list, of scalars: `environment`, `labels`.
    Pairs,
    /// The first of these that is of the value's kind.
    OneOf(&'static [Shape]),
}

use Shape::{Amount, Any, Bool, Duration, List, Map, Number, OneOf, Open, Pairs, Size, Text, Whole, Word};

/// The words of `deploy.mode`.
pub(super) const MODES: &[&str] = &["replicated", "global", "replicated-job", "global-job"];

const TEXTS: Shape = List(&Text);
const TEXT_OR_TEXTS: Shape = OneOf(&[Text, List(&OneOf(&[Text, Number]))]);
const LIST_OR_MAP: Shape = OneOf(&[List(&Any), Open(&[])]);

/// A service.
pub(super) const SERVICE: Shape = Open(&[
    ("build", OneOf(&[Text, Open(&[])])),
    ("cap_add", TEXTS),
    ("cap_drop", TEXTS),
    ("command", TEXT_OR_TEXTS),
    ("configs", List(&OneOf(&[Text, Open(&[("source", Text), ("target", Text)])]))),
    ("container_name", Text),
    ("depends_on", LIST_OR_MAP),
    ("deploy", DEPLOY),
    ("dns", TEXT_OR_TEXTS),
    ("dns_search", TEXT_OR_TEXTS),
    ("entrypoint", TEXT_OR_TEXTS),
    ("env_file", OneOf(&[Text, List(&Any)])),
    ("environment", Pairs),
    ("expose", List(&Any)),
    ("extends", OneOf(&[Text, Open(&[("service", Text), ("file", Text)])])),
    ("extra_hosts", Pairs),
    (
        "healthcheck",
        Open(&[
            ("test", TEXT_OR_TEXTS),
            ("interval", Duration),
            ("timeout", Duration),
            ("start_period", Duration),
            ("start_interval", Duration),
            ("retries", Whole),
            ("disable", Bool),
        ]),
    ),
    ("hostname", Text),
    ("image", Text),
    ("init", Bool),
    ("labels", Pairs),
    ("logging", Open(&[("driver", Text), ("options", Open(&[]))])),
    ("networks", LIST_OR_MAP),
    ("ports", List(&OneOf(&[Text, Number, Open(&[])]))),
    ("privileged", Bool),
    ("pull_policy", Text),
    ("read_only", Bool),
    ("restart", Text),
    ("secrets", List(&OneOf(&[Text, Open(&[("source", Text), ("target", Text)])]))),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("sysctls", Pairs),
    ("tmpfs", TEXT_OR_TEXTS),
    ("tty", Bool),
    ("ulimits", Open(&[])),
    ("user", Text),
    ("volumes", List(&OneOf(&[Text, MOUNT]))),
    ("working_dir", Text),
]);

/// The other keys that docker/cli's schema (3.13) has for a service: with those of [`SERVICE`], but for the two that it
/// refuses, all that `docker stack deploy` takes.
const MORE_KEYS: &[&str] = &[
    "cgroup_parent",
    "cgroupns_mode",
    "credential_spec",
    "devices",
    "domainname",
    "external_links",
    "group_add",
    "ipc",
    "isolation",
    "links",
    "mac_address",
    "network_mode",
    "oom_score_adj",
    "pid",
    "security_opt",
    "shm_size",
    "stdin_open",
    "userns_mode",
];

/// Whether docker takes a key of a service, or a rule of its own speaks of it.
pub(super) fn is_known_to_docker(key: &str) -> bool {
    let Open(keys) = SERVICE else { return false };
    key.starts_with("x-") || keys.iter().any(|known| known.0 == key) || MORE_KEYS.contains(&key)
}

/// A mount in the long syntax.
const MOUNT: Shape = Open(&[
    ("type", Word(&["bind", "volume", "tmpfs", "npipe", "cluster", "image"])),
    ("source", Text),
    ("target", Text),
    ("read_only", Bool),
]);

const DEPLOY: Shape = Map(&[
    ("mode", Word(MODES)),
    ("replicas", Whole),
    ("endpoint_mode", Word(&["vip", "dnsrr"])),
    ("labels", Pairs),
    ("update_config", UPDATE),
    ("rollback_config", ROLLBACK),
    (
        "resources",
        Map(&[
            ("limits", Map(&[("cpus", Amount), ("memory", Size), ("pids", Whole)])),
            (
                "reservations",
                Map(&[
                    ("cpus", Amount),
                    ("memory", Size),
                    (
                        "generic_resources",
                        List(&Map(&[("discrete_resource_spec", Map(&[("kind", Text), ("value", Number)]))])),
                    ),
                    ("devices", List(&Open(&[]))),
                ]),
            ),
        ]),
    ),
    // The condition's spelling is Swarm's matter: service.rs.
    ("restart_policy", Map(&[("condition", Text), ("delay", Duration), ("max_attempts", Whole), ("window", Duration)])),
    (
        "placement",
        Map(&[
            ("constraints", TEXTS),
            ("preferences", List(&Map(&[("spread", Text)]))),
            ("max_replicas_per_node", Whole),
        ]),
    ),
]);

const UPDATE: Shape = Map(&[
    ("parallelism", Whole),
    ("delay", Duration),
    ("failure_action", Word(&["continue", "pause", "rollback"])),
    ("monitor", Duration),
    ("max_failure_ratio", Number),
    ("order", Word(&["stop-first", "start-first"])),
]);

const ROLLBACK: Shape = Map(&[
    ("parallelism", Whole),
    ("delay", Duration),
    ("failure_action", Word(&["continue", "pause"])),
    ("monitor", Duration),
    ("max_failure_ratio", Number),
    ("order", Word(&["stop-first", "start-first"])),
]);

impl Shape {
    /// In words, for a message.
    fn words(self) -> String {
        match self {
            Any => "anything".to_owned(),
            Text | Word(_) => "text".to_owned(),
            Whole => "a whole number".to_owned(),
            Number | Amount => "a number".to_owned(),
            Bool => "true or false".to_owned(),
            Duration => "a duration".to_owned(),
            Size => "a size".to_owned(),
            List(_) => "a list".to_owned(),
            Map(_) | Open(_) => "a mapping".to_owned(),
            Pairs => "a mapping or a list".to_owned(),
            OneOf(shapes) => shapes.iter().map(|shape| shape.words()).collect::<Vec<_>>().join(" or "),
        }
    }

    /// Whether a value is of its kind.
    fn is_of(self, node: &Node) -> bool {
        match (self, &node.value) {
            (Any, _) => true,
            // What a variable holds may be of any scalar type.
            (Whole | Number | Bool, Value::Text(text)) => text.contains('$'),
            (Text | Word(_) | Duration | Size | Amount, Value::Text(_)) => true,
            (Whole | Number | Amount | Size, Value::Integer(_)) => true,
            (Number | Amount, Value::Number) | (Bool, Value::Bool) => true,
            (List(_) | Pairs, Value::List(_)) | (Map(_) | Open(_) | Pairs, Value::Map(_)) => true,
            (OneOf(shapes), _) => shapes.iter().any(|shape| shape.is_of(node)),
            _ => false,
        }
    }

    /// Whether nothing will do: a key without a value, where docker wants no scalar.
    const fn may_be_null(self) -> bool {
        matches!(self, Any | List(_) | Map(_) | Open(_) | Pairs | OneOf(_))
    }
}

/// Checks a value, and all below it. `key` is what a message calls it.
///
/// # Errors
/// At the first value that its key cannot have.
pub(super) fn check(reader: &Reader<'_>, node: &Node, shape: Shape, key: &str) -> Result<(), LintError> {
    if node.is_null() && shape.may_be_null() {
        return Ok(());
    }
    if !shape.is_of(node) {
        return Err(reader.wants(node, key, &shape.words()));
    }
    match shape {
        Any | Text => {}
        Whole => {
            reader.whole(node, key)?;
        }
        Number => reader.number(node, key)?,
        Bool => reader.bool(node, key)?,
        Duration => {
            reader.duration(node, key)?;
        }
        Word(words) => {
            reader.word(node, key, words)?;
        }
        Size | Amount => {
            let is_good = match &node.value {
                Value::Text(_) => {
                    let text = reader.text(node, key)?;
                    if matches!(shape, Size) { scalar::is_size(&text) } else { text.trim().parse::<f64>().is_ok() }
                }
                _ => true,
            };
            if !is_good {
                let what = if matches!(shape, Size) { "size as 64m or 1g" } else { "number" };
                return Err(reader.mistake(node.at, format!("`{key}`: `{}` is no {what}", written(node))));
            }
        }
        List(shape) => {
            for member in node.members() {
                check(reader, member, *shape, key)?;
            }
        }
        Map(keys) => check_entries(reader, node, keys, key, true)?,
        Open(keys) => check_entries(reader, node, keys, key, false)?,
        Pairs => {
            let values = node.entries().iter().map(|(_, value)| value).chain(node.members());
            for value in values {
                if matches!(value.value, Value::List(_) | Value::Map(_)) {
                    return Err(reader.wants(value, key, "texts and numbers"));
                }
            }
        }
        OneOf(shapes) => {
            if let Some(shape) = shapes.iter().find(|shape| shape.is_of(node)) {
                check(reader, node, *shape, key)?;
            }
        }
    }
    Ok(())
}

fn check_entries(
    reader: &Reader<'_>,
    node: &Node,
    keys: &[(&'static str, Shape)],
    key: &str,
    is_closed: bool,
) -> Result<(), LintError> {
    for (name, value) in node.entries() {
        match keys.iter().find(|known| known.0 == name.name) {
            Some((known, shape)) => {
                let path = if key.is_empty() { (*known).to_owned() } else { format!("{key}.{known}") };
                check(reader, value, *shape, &path)?;
            }
            None if is_closed && !name.name.starts_with("x-") => {
                let known: Vec<&str> = keys.iter().map(|known| known.0).collect();
                let message = format!("`{key}` has no key `{}`: it has {}", name.name, known.join(", "));
                return Err(reader.mistake(name.at, message));
            }
            None => {}
        }
    }
    Ok(())
}
