//! Tells one specification of a service from the next, by a hash of what a task is made from.
//!
//! The force counter is left out, and so are the placement constraints by which squall itself holds a service or keeps it
//! off a node: neither makes a new specification. Replicas and labels stand outside the template. The hash goes over the
//! values as they are: two listings of one daemon give the same for the same specification.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::{FixedState, FoldHasher};
use serde_json::{Map, Value};

/// The constraint by which squall holds a service.
const HELD: &str = "node.id==held.by.squall";
/// How a constraint begins that keeps a service off one node.
const KEPT_OFF: &str = "node.id!=";

/// The hash of a task's `Spec`; 0 where it has none.
pub(super) fn task_spec(task: &Value) -> u64 {
    task.get("Spec").and_then(Value::as_object).map_or(0, template)
}

/// The hash of a service's `Spec.TaskTemplate` and of the kind of its `Spec.Mode`; 0 where it has no template.
pub(super) fn service_spec(service: &Value) -> u64 {
    let Some(spec) = service.pointer("/Spec/TaskTemplate").and_then(Value::as_object).map(template) else { return 0 };
    let mode = service.pointer("/Spec/Mode").and_then(Value::as_object);
    let mut hash = Hash(FixedState::with_seed(spec).build_hasher());
    mode.into_iter().flat_map(Map::keys).for_each(|kind| hash.bytes(kind.as_bytes()));
    hash.0.finish().max(1)
}

fn template(template: &Map<String, Value>) -> u64 {
    let mut hash = Hash(FixedState::default().build_hasher());
    for (key, value) in template {
        match (key.as_str(), value) {
            ("ForceUpdate", _) => {}
            ("Placement", Value::Object(placement)) => hash.placement(placement),
            _ => hash.entry(key, value),
        }
    }
    hash.0.finish().max(1)
}

/// A hash that is the same in every process, fed part by part.
struct Hash(FoldHasher<'static>);

impl Hash {
    /// One part, ended by a byte that no text has.
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
        self.0.write_u8(0xff);
    }

    fn entry(&mut self, key: &str, value: &Value) {
        self.bytes(key.as_bytes());
        self.value(value);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(b"n"),
            Value::Bool(is) => self.bytes(if *is { b"t" } else { b"f" }),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(whole), _) => self.0.write_u64(whole),
                (None, Some(whole)) => self.0.write_i64(whole),
                (None, None) => self.0.write_u64(number.as_f64().unwrap_or_default().to_bits()),
            },
            Value::String(text) => self.bytes(text.as_bytes()),
            Value::Array(values) => {
                self.bytes(b"[");
                values.iter().for_each(|value| self.value(value));
                self.bytes(b"]");
            }
            Value::Object(object) => {
                self.bytes(b"{");
                object.iter().for_each(|(key, value)| self.entry(key, value));
                self.bytes(b"}");
            }
        }
    }

    fn placement(&mut self, placement: &Map<String, Value>) {
        for (key, value) in placement {
            match value {
                Value::Array(constraints) if key == "Constraints" => {
                    let own = |text: &str| text == HELD || text.starts_with(KEPT_OFF);
                    let others = constraints.iter().filter(|value| !value.as_str().is_some_and(own));
                    others.for_each(|value| self.value(value));
                }
                Value::Null if key == "Constraints" => {}
                _ => self.entry(key, value),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(change: impl Fn(&mut Value)) -> u64 {
        let mut task = json!({"ID": "t", "Spec": {
            "ContainerSpec": {"Image": "shop/api:3", "Env": ["A=1", "B=2"]}, "ForceUpdate": 1,
            "Placement": {"Constraints": ["node.role==worker"]}, "RestartPolicy": {"Delay": 5_000_000_000_u64},
        }});
        change(&mut task);
        task_spec(&task)
    }

    #[test]
    fn a_forced_update_and_squalls_own_constraints_are_no_new_specification() {
        let before = of(|_| {});
        assert_eq!(of(|task| task["Spec"]["ForceUpdate"] = json!(2)), before);
        for own in [HELD, "node.id!=4f3jujwf9psjz6npxsq36v4px"] {
            let held = json!(["node.role==worker", own]);
            assert_eq!(of(|task| task["Spec"]["Placement"]["Constraints"] = held.clone()), before, "{own}");
        }
        let none = |task: &mut Value| task["Spec"]["Placement"] = json!({});
        let only_held = |task: &mut Value| task["Spec"]["Placement"] = json!({"Constraints": [HELD]});
        assert_eq!(of(none), of(only_held));
    }

    #[test]
    fn any_other_change_of_the_template_is_a_new_specification() {
        let before = of(|_| {});
        let changes: [fn(&mut Value); 4] = [
            |task| task["Spec"]["ContainerSpec"]["Image"] = json!("shop/api:4"),
            |task| task["Spec"]["ContainerSpec"]["Env"] = json!(["A=1", "B=3"]),
            |task| task["Spec"]["Placement"]["Constraints"] = json!(["node.role==manager"]),
            |task| task["Spec"]["RestartPolicy"]["Delay"] = json!(1_000_000_000),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_ne!(of(change), before, "change {index}");
        }
        assert_eq!(task_spec(&json!({"ID": "t"})), 0, "none is told");
    }

    #[test]
    fn replicas_and_labels_are_no_new_specification_and_another_mode_is() {
        let of = |mode: Value, labels: Value| {
            let spec = json!({"TaskTemplate": {"ContainerSpec": {"Image": "a:1"}}, "Mode": mode, "Labels": labels});
            service_spec(&json!({"ID": "s", "Spec": spec}))
        };
        let before = of(json!({"Replicated": {"Replicas": 1}}), json!({}));
        let scaled = of(json!({"Replicated": {"Replicas": 9}}), json!({"squall.quarantine": "held"}));
        assert_eq!(scaled, before);
        assert_ne!(of(json!({"Global": {}}), json!({})), before);
    }
}
