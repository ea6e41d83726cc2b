//! Docker event objects: `docker events --format '{{json .}}'` and the API's stream, the forms before and after the
//! fields `status`, `id` and `from` went (API 1.52), and podman's words for the same.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr2, memrchr};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::text::{Int, Text};
use crate::model::{ContainerAction, ContainerFact, ContainerOrigin, Fact, Observation, Order, Owner, Timestamp};

#[derive(Default)]
struct RawEvent<'a> {
    kind: Cow<'a, str>,
    action: Cow<'a, str>,
    actor: Option<RawActor<'a>>,
    /// `id` and `from` of the form before 1.10 of Docker, which knows no `Type` and no `Actor`.
    legacy: Option<Box<(Cow<'a, str>, Cow<'a, str>)>>,
    time: i64,
    time_nano: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawActor<'a> {
    #[serde(borrow, rename = "ID")]
    id: Text<'a>,
    #[serde(borrow, rename = "Attributes")]
    attributes: Attributes<'a>,
}

/// The attributes that are of use; image and container labels come among them in any number.
#[derive(Default)]
struct Attributes<'a> {
    owner: Owner<'a>,
    image: Cow<'a, str>,
    exit_code: Option<i32>,
    health: Cow<'a, str>,
    changes_spec: bool,
    reports_progress: bool,
}

macro_rules! fields {
    ($name:ident { $($variant:ident = $text:literal,)* }) => {
        #[derive(Clone, Copy)]
        enum $name { $($variant,)* Other }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Words;
                impl Visitor<'_> for Words {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a key")
                    }
                    fn visit_str<E>(self, key: &str) -> Result<$name, E> {
                        Ok(match key { $($text => $name::$variant,)* _ => $name::Other })
                    }
                }
                deserializer.deserialize_identifier(Words)
            }
        }
    };
}

fields!(EventField {
    Status = "status",
    Id = "id",
    From = "from",
    Type = "Type",
    Action = "Action",
    Actor = "Actor",
    Time = "time",
    TimeNano = "timeNano",
});

fields!(Attribute {
    Name = "name",
    Image = "image",
    ExitCode = "exitCode",
    PodmanExitCode = "containerExitCode",
    PodmanHealth = "health_status",
    ServiceId = "com.docker.swarm.service.id",
    ServiceName = "com.docker.swarm.service.name",
    TaskId = "com.docker.swarm.task.id",
    TaskName = "com.docker.swarm.task.name",
    NodeId = "com.docker.swarm.node.id",
    Stack = "com.docker.stack.namespace",
    ComposeProject = "com.docker.compose.project",
    ComposeService = "com.docker.compose.service",
    EcsFamily = "com.amazonaws.ecs.task-definition-family",
    EcsContainer = "com.amazonaws.ecs.container-name",
    UpdateState = "updatestate.new",
    NewImage = "image.new",
    NewReplicas = "replicas.new",
});

impl<'de: 'a, 'a> Deserialize<'de> for RawEvent<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;
        impl<'de> Visitor<'de> for EventVisitor {
            type Value = RawEvent<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEvent<'de>, A::Error> {
                let mut event = RawEvent::default();
                while let Some(field) = map.next_key::<EventField>()? {
                    match field {
                        EventField::Status if event.action.is_empty() => event.action = map.next_value::<Text<'_>>()?.0,
                        EventField::Action => event.action = map.next_value::<Text<'_>>()?.0,
                        EventField::Type => event.kind = map.next_value::<Text<'_>>()?.0,
                        EventField::Actor => event.actor = map.next_value::<Option<RawActor<'_>>>()?,
                        EventField::Id if event.kind.is_empty() => {
                            event.legacy.get_or_insert_default().0 = map.next_value::<Text<'_>>()?.0;
                        }
                        EventField::From if event.kind.is_empty() => {
                            event.legacy.get_or_insert_default().1 = map.next_value::<Text<'_>>()?.0;
                        }
                        EventField::Time => event.time = map.next_value::<Int>()?.0,
                        EventField::TimeNano => event.time_nano = map.next_value::<Int>()?.0,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(event)
            }
        }
        deserializer.deserialize_map(EventVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AttributesVisitor;
        impl<'de> Visitor<'de> for AttributesVisitor {
            type Value = Attributes<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Attributes::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Attributes::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Attributes::default();
                InPlace(&mut attributes).visit_map(map)?;
                Ok(attributes)
            }
        }
        deserializer.deserialize_any(AttributesVisitor)
    }
}

/// Sets attributes as it reads them.
struct InPlace<'s, 'a>(&'s mut Attributes<'a>);

impl<'de> Visitor<'de> for InPlace<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Attribute>()? {
            if let Attribute::Other = key {
                map.next_value::<IgnoredAny>()?;
            } else {
                self.0.set(key, map.next_value::<Text<'_>>()?.0);
            }
        }
        Ok(())
    }
}

impl<'a> Attributes<'a> {
    fn set(&mut self, key: Attribute, value: Cow<'a, str>) {
        let owner = &mut self.owner;
        match key {
            Attribute::Name => owner.name = value,
            Attribute::Image => self.image = value,
            Attribute::ExitCode | Attribute::PodmanExitCode => self.exit_code = exit_code(&value),
            Attribute::PodmanHealth => self.health = value,
            Attribute::ServiceId => owner.swarm.get_or_insert_default().service_id = value,
            Attribute::ServiceName => owner.swarm.get_or_insert_default().service_name = value,
            Attribute::TaskId => owner.swarm.get_or_insert_default().task_id = value,
            Attribute::TaskName => owner.swarm.get_or_insert_default().task_name = value,
            Attribute::NodeId => owner.swarm.get_or_insert_default().node_id = value,
            Attribute::Stack => owner.stack = Some(value),
            Attribute::ComposeProject => owner.compose.get_or_insert_default().0 = value,
            Attribute::ComposeService => owner.compose.get_or_insert_default().1 = value,
            Attribute::EcsFamily => owner.ecs.get_or_insert_default().0 = value,
            Attribute::EcsContainer => owner.ecs.get_or_insert_default().1 = value,
            Attribute::UpdateState => self.reports_progress = true,
            Attribute::NewImage | Attribute::NewReplicas => self.changes_spec = true,
            Attribute::Other => {}
        }
    }
}

/// Reads one event object. `Ok(None)`: an event that tells nothing about attempts. `Err`: no event, or cut off.
pub(super) fn read_event(line: &str, origin: u16) -> Result<Option<Observation<'_>>, &'static str> {
    if let Some(read) = read_as_docker_writes(line, origin) {
        return Ok(read);
    }
    let event: RawEvent<'_> = serde_json::from_str(line).map_err(|_| "bad-json")?;
    let at = match (event.time_nano, event.time) {
        (0, 0) => return Err("no-time"),
        (0, secs) => Timestamp::from_secs(secs),
        (nanos, _) => Timestamp::from_nanos(nanos),
    };
    Ok(fact(event).map(|fact| Observation { at, origin, fact }))
}

/// Reads a container or image event whose fields stand in the order in which Docker writes them, without looking at
/// each of its attributes: three times as fast. `None`: the line is to be read in the common way. A quote inside a
/// string is escaped, so what is found with its quotes is a key.
fn read_as_docker_writes(line: &str, origin: u16) -> Option<Option<Observation<'_>>> {
    let mut rest = line.strip_prefix('{')?;
    for legacy in [r#""status":""#, r#""id":""#, r#""from":""#] {
        if let Some(after) = rest.strip_prefix(legacy) {
            rest = plain_string(after)?.1.strip_prefix(',')?;
        }
    }
    let (kind, rest) = plain_string(rest.strip_prefix(r#""Type":""#)?)?;
    let (action, rest) = plain_string(rest.strip_prefix(r#","Action":""#)?)?;
    let (id, rest) = plain_string(rest.strip_prefix(r#","Actor":{"ID":""#)?)?;
    let attributes = rest.strip_prefix(r#","Attributes":"#).filter(|rest| rest.starts_with('{'))?;
    let inner = attributes.strip_suffix('}')?;
    let brace = memrchr(b'}', inner.as_bytes())?;
    let (attributes, tail) = (inner.get(..brace)?, inner.get(brace + 1..)?);
    let tail = tail.strip_prefix(r#","scope":""#)?;
    let (before, nanos) = tail.split_at_checked(memrchr(b':', tail.as_bytes())? + 1)?;
    if !before.ends_with(r#","timeNano":"#) {
        return None;
    }
    let at = Timestamp::from_nanos(nanos.parse().ok().filter(|nanos| *nanos > 0)?);
    match (kind, action) {
        ("image", "pull") => {
            let fact = Fact::Pull { reference: Cow::Borrowed(id) };
            return Some(Some(Observation { at, origin, fact }));
        }
        ("image", "untag" | "delete" | "remove") => {
            return Some(Some(Observation { at, origin, fact: Fact::ImageGone { id: Cow::Borrowed(id) } }));
        }
        ("container", _) => {}
        ("image" | "network" | "volume", _) => return Some(None),
        _ => return None,
    }
    let exit_code = match action {
        "die" => Some(exit_code(attribute(attributes, &EXIT_CODE)?)?),
        // Podman's words, which need an attribute.
        "died" | "health_status" => return None,
        _ => None,
    };
    let Some(action) = container_action(action, exit_code, "") else { return Some(None) };
    let task_id = Cow::Borrowed(attribute(attributes, &TASK_ID).unwrap_or_default());
    let fact = Fact::Container(ContainerFact {
        id: Cow::Borrowed(id),
        action,
        task_id,
        origin: ContainerOrigin::Unread(attributes, read_attributes),
    });
    Some(Some(Observation { at, origin, fact }))
}

static TASK_ID: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""com.docker.swarm.task.id":""#));
static EXIT_CODE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""exitCode":""#));

/// The value of an attribute that is a plain string.
fn attribute<'a>(attributes: &'a str, key: &Finder<'_>) -> Option<&'a str> {
    let from = key.find(attributes.as_bytes())? + key.needle().len();
    Some(plain_string(attributes.get(from..)?)?.0)
}

/// Windows has codes beyond the range: what counts is that they are not 0.
fn exit_code(text: &str) -> Option<i32> {
    let code: i64 = text.parse().ok()?;
    Some(i32::try_from(code).unwrap_or(i32::MAX))
}

/// A string up to its closing quote, and what follows; `None` where it has an escape.
fn plain_string(text: &str) -> Option<(&str, &str)> {
    let end = memchr2(b'"', b'\\', text.as_bytes())?;
    (text.as_bytes()[end] == b'"').then(|| (&text[..end], &text[end + 1..]))
}

/// Reads attributes for whose container they are.
fn read_attributes(text: &str) -> (Owner<'_>, Cow<'_, str>) {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // What stands before a fault was taken over: the owner is told by the first attributes.
    let mut attributes = Attributes::default();
    let _ = serde::de::Deserializer::deserialize_map(&mut deserializer, InPlace(&mut attributes));
    (attributes.owner, attributes.image)
}

fn fact(event: RawEvent<'_>) -> Option<Fact<'_>> {
    let (kind, actor) = match (event.actor, event.legacy) {
        (Some(actor), _) => (event.kind, actor),
        (None, Some(legacy)) => {
            // Before Docker 1.10 only containers have a `from`.
            let is_container = !legacy.1.is_empty();
            let mut actor = RawActor { id: Text(legacy.0), ..RawActor::default() };
            actor.attributes.image = legacy.1;
            (Cow::Borrowed(if is_container { "container" } else { "image" }), actor)
        }
        (None, None) => return None,
    };
    let RawActor { id: Text(id), attributes } = actor;
    match (&*kind, &*event.action) {
        ("container", action) => {
            let action = container_action(action, attributes.exit_code, &attributes.health)?;
            let task_id = attributes.owner.swarm.as_ref().map(|task| task.task_id.clone()).unwrap_or_default();
            let origin = ContainerOrigin::Read(Box::new((attributes.owner, attributes.image)));
            Some(Fact::Container(ContainerFact { id, action, task_id, origin }))
        }
        ("image", "pull") => Some(Fact::Pull { reference: id }),
        ("image", "untag" | "delete" | "remove") => Some(Fact::ImageGone { id }),
        ("service", action) => {
            let order = match action {
                "create" => Order::Create,
                "update" if attributes.reports_progress && !attributes.changes_spec => Order::Progress,
                "update" => Order::Update,
                "remove" => Order::Remove,
                _ => return None,
            };
            Some(Fact::Order { service_id: id, service_name: attributes.owner.name, order })
        }
        _ => None,
    }
}

/// The action, podman's words included: `died`, `remove`, and health in an attribute.
fn container_action(word: &str, exit_code: Option<i32>, health: &str) -> Option<ContainerAction> {
    Some(match word {
        "create" => ContainerAction::Create,
        "start" => ContainerAction::Start,
        "die" | "died" => ContainerAction::Die { exit_code },
        "kill" => ContainerAction::Kill,
        "stop" | "restart" => ContainerAction::Stop,
        "oom" => ContainerAction::Oom,
        "destroy" | "remove" => ContainerAction::Destroy,
        "health_status: unhealthy" => ContainerAction::Unhealthy,
        "health_status" if health == "unhealthy" => ContainerAction::Unhealthy,
        _ => return None,
    })
}
