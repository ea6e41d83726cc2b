//! A service's specification as raw JSON: what the policy wants to know of it, and the edits that hold and restore it.
//!
//! It is never read into types and written back: bollard's lose health checks, and any type loses what it does not
//! know. Only replicas, squall's own placement constraints and squall's own labels are touched.

use serde_json::{Map, Value};

use super::mark::{BadLabel, Before, IGNORE_LABEL, Mark, Placement, RESPONSE_LABEL, Set, UNMET, is_mark};
use crate::model::{Mode, Response, Timestamp, fnv_64};

const LABELS: &str = "/Spec/Labels";

/// What the policy wants to know of a service, as `GET /services/{id}` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// `ID`.
    pub id: String,
    /// `Spec.Name`.
    pub name: String,
    /// `Spec.Labels["com.docker.stack.namespace"]`.
    pub stack: Option<String>,
    /// `Spec.TaskTemplate.ContainerSpec.Image`.
    pub image: String,
    /// `Version.Index`.
    pub version: u64,
    /// `UpdatedAt`.
    pub updated: Option<Timestamp>,
    /// `Spec.Mode`.
    pub mode: Mode,
    /// `Spec.TaskTemplate.Placement.Constraints`.
    pub constraints: Vec<String>,
    /// What [`Placement`] was like apart from squall's constraints.
    placement: Placement,
    /// `Spec.Mode.Replicated.Replicas` is there.
    has_replicas: bool,
    /// `UpdateStatus.State` is `updating` or `rollback_started`.
    pub is_rolling: bool,
    /// It is `paused` or `rollback_paused`.
    pub is_rollout_paused: bool,
    /// Sixteen hex digits of `Spec.TaskTemplate` apart from squall's constraints.
    pub template: String,
    /// What the label [`RESPONSE_LABEL`] says.
    pub response: Result<Option<Response>, BadLabel>,
    /// What the label [`IGNORE_LABEL`] says.
    pub is_ignored: Result<bool, BadLabel>,
    /// The quarantine that its labels tell of.
    pub mark: Result<Option<Mark>, BadLabel>,
}

impl View {
    /// Reads a service; `None` where it has no id or no specification.
    pub fn read(service: &Value) -> Option<Self> {
        let text = |path: &str| service.pointer(path).and_then(Value::as_str);
        let spec = service.get("Spec")?.as_object()?;
        let labels = service.pointer(LABELS).and_then(Value::as_object);
        let own: Vec<(&str, &str)> = labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| {
                Some((&**name, value.as_str().unwrap_or_default())).filter(|_| name.starts_with("squall."))
            })
            .collect();
        let mark = Mark::read(own.iter().copied());
        let constraints = constraints_of(spec);
        let ours = own_constraints(&constraints, mark.as_ref().ok().and_then(Option::as_ref));
        let placement = match &mark {
            Ok(Some(Mark { before: Before::Placement(placement), .. })) => *placement,
            _ => placement_of(spec),
        };
        Some(Self {
            id: text("/ID").filter(|id| !id.is_empty())?.to_owned(),
            name: text("/Spec/Name").unwrap_or_default().to_owned(),
            stack: text("/Spec/Labels/com.docker.stack.namespace").map(str::to_owned),
            image: text("/Spec/TaskTemplate/ContainerSpec/Image").unwrap_or_default().to_owned(),
            version: service.pointer("/Version/Index").and_then(Value::as_u64)?,
            updated: text("/UpdatedAt").and_then(|at| Timestamp::parse(at).ok()),
            mode: mode_of(spec),
            placement,
            has_replicas: service.pointer("/Spec/Mode/Replicated/Replicas").is_some(),
            is_rolling: matches!(text("/UpdateStatus/State"), Some("updating" | "rollback_started")),
            is_rollout_paused: matches!(text("/UpdateStatus/State"), Some("paused" | "rollback_paused")),
            template: template_of(spec, &ours),
            constraints,
            response: response_of(&own),
            is_ignored: ignore_of(&own),
            mark,
        })
    }

    /// What is to be restored when this is changed as `response` asks: of a global service, and of a paused one, the
    /// placement; else the replicas. `None` where it cannot be held: a job, or what somebody has scaled to zero.
    pub(super) fn before(&self, response: Response) -> Option<Before> {
        match (self.mode, response) {
            (_, Response::Observe) | (Mode::Job | Mode::Other | Mode::Replicated(0), _) => None,
            (Mode::Replicated(replicas), Response::ScaleToZero | Response::Backoff) => {
                Some(Before::Replicas(self.has_replicas.then_some(replicas)))
            }
            (Mode::Replicated(_) | Mode::Global, _) => Some(Before::Placement(self.placement)),
        }
    }

    /// Whether the service is as a mark says that squall has set it.
    pub fn is_as(&self, set: &Set) -> bool {
        match set {
            Set::Replicas(replicas) => self.mode == Mode::Replicated(*replicas),
            Set::Constraints(constraints) => constraints.iter().all(|constraint| self.constraints.contains(constraint)),
        }
    }
}

/// What the response label among `labels` says.
///
/// # Errors
/// When it names no response.
pub(super) fn response_of(labels: &[(&str, &str)]) -> Result<Option<Response>, BadLabel> {
    let Some((_, value)) = labels.iter().find(|(name, _)| *name == RESPONSE_LABEL) else { return Ok(None) };
    let bad = || BadLabel { label: RESPONSE_LABEL.to_owned(), value: (*value).to_owned() };
    Response::from_word(value).map(Some).ok_or_else(bad)
}

/// Whether the ignore label among `labels` is set.
///
/// # Errors
/// When it is neither `true` nor `false`.
pub(super) fn ignore_of(labels: &[(&str, &str)]) -> Result<bool, BadLabel> {
    match labels.iter().find(|(name, _)| *name == IGNORE_LABEL) {
        None | Some((_, "false")) => Ok(false),
        Some((_, "true")) => Ok(true),
        Some((_, value)) => Err(BadLabel { label: IGNORE_LABEL.to_owned(), value: (*value).to_owned() }),
    }
}

/// Undoes what `old` did to a specification, then does what `new` says.
///
/// # Errors
/// A sentence, when the specification has not the shape that this needs.
pub(super) fn edit(spec: &mut Value, old: Option<&Mark>, new: Option<&Mark>) -> Result<(), &'static str> {
    let spec = spec.as_object_mut().ok_or("the specification is no object")?;
    strip(spec, old)?;
    if let Some(new) = new {
        dress(spec, new)?;
    }
    Ok(())
}

/// Takes squall's labels off, and where `old` is as the specification is, what it did.
fn strip(spec: &mut Map<String, Value>, old: Option<&Mark>) -> Result<(), &'static str> {
    if let Some(Value::Object(labels)) = spec.get_mut("Labels") {
        labels.retain(|name, _| !is_mark(name));
    }
    match old {
        Some(Mark { before: Before::Replicas(before), set: Set::Replicas(set), .. }) => {
            let replicated = replicated(spec)?;
            // Whoever changed the number since has said what it is to be.
            if replicated.get("Replicas").and_then(Value::as_u64) == Some(*set) {
                match before {
                    Some(before) => replicated.insert("Replicas".to_owned(), Value::from(*before)),
                    None => replicated.remove("Replicas"),
                };
            }
        }
        Some(Mark { before: Before::Placement(placement), set: Set::Constraints(set), .. }) => {
            restore_placement(spec, *placement, set);
        }
        _ => {}
    }
    Ok(())
}

fn restore_placement(spec: &mut Map<String, Value>, was: Placement, set: &[String]) {
    let Some(Value::Object(template)) = spec.get_mut("TaskTemplate") else { return };
    let Some(Value::Object(placement)) = template.get_mut("Placement") else { return };
    if let Some(Value::Array(constraints)) = placement.get_mut("Constraints") {
        // One for each, from the end, where they were added: the service may have an equal one of its own.
        for ours in set {
            if let Some(at) = constraints.iter().rposition(|constraint| constraint.as_str() == Some(ours)) {
                constraints.remove(at);
            }
        }
        if constraints.is_empty() {
            match was {
                Placement::NullConstraints => placement.insert("Constraints".to_owned(), Value::Null),
                Placement::Constraints => None,
                Placement::Absent | Placement::Null | Placement::NoConstraints => placement.remove("Constraints"),
            };
        }
    }
    if placement.is_empty() {
        match was {
            Placement::Absent => template.remove("Placement"),
            Placement::Null => template.insert("Placement".to_owned(), Value::Null),
            _ => None,
        };
    }
}

fn dress(spec: &mut Map<String, Value>, new: &Mark) -> Result<(), &'static str> {
    match &new.set {
        Set::Replicas(replicas) => {
            replicated(spec)?.insert("Replicas".to_owned(), Value::from(*replicas));
        }
        Set::Constraints(ours) => {
            let template = object(spec, "TaskTemplate").ok_or("it has no task template")?;
            let placement = object(template, "Placement").ok_or("its placement is no object")?;
            let constraints = placement.entry("Constraints").or_insert(Value::Null);
            if constraints.is_null() {
                *constraints = Value::Array(Vec::new());
            }
            let constraints = constraints.as_array_mut().ok_or("its placement constraints are no list")?;
            constraints.extend(ours.iter().cloned().map(Value::String));
        }
    }
    let labels = object(spec, "Labels").ok_or("its labels are no object")?;
    labels.extend(new.labels().into_iter().map(|(name, value)| (name, Value::String(value))));
    Ok(())
}

fn replicated(spec: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, &'static str> {
    let mode = spec.get_mut("Mode").and_then(Value::as_object_mut);
    mode.and_then(|mode| mode.get_mut("Replicated")?.as_object_mut()).ok_or("it is not replicated")
}

/// The object of a name, made where it is absent or null.
fn object<'a>(parent: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let child = parent.entry(name).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child.as_object_mut()
}

fn mode_of(spec: &Map<String, Value>) -> Mode {
    let Some(mode) = spec.get("Mode").and_then(Value::as_object) else { return Mode::Other };
    match mode.iter().next() {
        // SwarmKit's default where the number is absent is 1.
        Some((name, replicated)) if name == "Replicated" && mode.len() == 1 => {
            Mode::Replicated(replicated.get("Replicas").and_then(Value::as_u64).unwrap_or(1))
        }
        Some((name, _)) if name == "Global" && mode.len() == 1 => Mode::Global,
        Some((name, _)) if name == "ReplicatedJob" || name == "GlobalJob" => Mode::Job,
        _ => Mode::Other,
    }
}

fn constraints_of(spec: &Map<String, Value>) -> Vec<String> {
    let placement = spec.get("TaskTemplate").and_then(|template| template.get("Placement"));
    let list = placement.and_then(|placement| placement.get("Constraints")?.as_array());
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn placement_of(spec: &Map<String, Value>) -> Placement {
    match spec.get("TaskTemplate").and_then(|template| template.get("Placement")) {
        None => Placement::Absent,
        Some(Value::Null) => Placement::Null,
        Some(placement) => match placement.get("Constraints") {
            None => Placement::NoConstraints,
            Some(Value::Null) => Placement::NullConstraints,
            Some(_) => Placement::Constraints,
        },
    }
}

/// Which of the constraints are squall's: those that its mark names, and what no node meets.
fn own_constraints(constraints: &[String], mark: Option<&Mark>) -> Vec<String> {
    match mark {
        Some(Mark { set: Set::Constraints(set), .. }) => set.clone(),
        _ => constraints.iter().filter(|constraint| *constraint == UNMET).cloned().collect(),
    }
}

fn template_of(spec: &Map<String, Value>, own_constraints: &[String]) -> String {
    let mut plain = Map::new();
    plain.extend(spec.get("TaskTemplate").map(|template| ("TaskTemplate".to_owned(), template.clone())));
    // Whatever it was like without them: an empty placement is no other template than an absent one.
    restore_placement(&mut plain, Placement::Absent, own_constraints);
    if let Some(Value::Object(template)) = plain.get_mut("TaskTemplate") {
        if let Some(Value::Object(placement)) = template.get_mut("Placement") {
            placement.retain(|_, value| !value.is_null() && *value != Value::Array(Vec::new()));
        }
        template.retain(|name, value| name != "Placement" || !(value.is_null() || *value == Value::Object(Map::new())));
    }
    // The keys of a map are sorted, so the text is the same in every process.
    format!("{:016x}", fnv_64([Value::Object(plain).to_string().as_bytes()]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::mark::Phase;
    use super::*;
    use crate::model::{Author, Cause};

    fn service(mode: &Value, placement: Option<Value>) -> Value {
        let mut template = json!({
            "ContainerSpec": {"Image": "r/app:1", "Healthcheck": {"Test": ["CMD", "true"]}, "Ulimits": [{"Hard": 1}]},
            "Resources": {"Limits": {"NanoCPUs": 9_007_199_254_740_993_u64}}, "ForceUpdate": 0,
        });
        if let Some(placement) = placement {
            template["Placement"] = placement;
        }
        json!({
            "ID": "abc", "Version": {"Index": 7}, "UpdatedAt": "2026-11-20T10:00:00Z",
            "Spec": {"Name": "web", "Labels": {"a": "b"}, "TaskTemplate": template, "Mode": mode,
                "UpdateConfig": {"MaxFailureRatio": 0.2}},
        })
    }

    fn mark_for(view: &View, response: Response, set: Set) -> Mark {
        Mark {
            phase: Phase::Held,
            by: Author::Breaker,
            storm: "0011".to_owned(),
            cause: Cause::Mount,
            response,
            since: Timestamp::from_secs(1),
            at: Timestamp::from_secs(1),
            until: None,
            tries: 0,
            period: Duration::ZERO,
            template: view.template.clone(),
            version: view.version,
            before: view.before(response).expect("it can be held"),
            set,
        }
    }

    #[test]
    fn what_is_held_and_restored_is_byte_for_byte_what_it_was() {
        let replicated = json!({"Replicated": {"Replicas": 3}});
        let placements = [
            None,
            Some(Value::Null),
            Some(json!({})),
            Some(json!({"Constraints": null})),
            Some(json!({"Constraints": []})),
            Some(json!({"Constraints": ["node.role==manager"], "Platforms": [{"OS": "linux"}]})),
            Some(json!({"Platforms": [{"OS": "linux"}]})),
        ];
        let modes = [replicated.clone(), json!({"Global": {}}), json!({"Replicated": {}})];
        for mode in &modes {
            for placement in placements.clone() {
                for response in [Response::Pause, Response::ScaleToZero, Response::Backoff] {
                    let original = service(mode, placement.clone());
                    let mut held = original.clone();
                    let view = View::read(&held).expect("a service");
                    let uses_replicas = matches!(view.before(response), Some(Before::Replicas(_)));
                    let set = |n: u64| match uses_replicas {
                        true => Set::Replicas(n),
                        false if n == 0 => Set::Constraints(vec![UNMET.to_owned()]),
                        false => Set::Constraints(vec!["node.id!=x".to_owned(), "node.id!=y".to_owned()]),
                    };
                    let first = mark_for(&view, response, set(0));
                    edit(&mut held["Spec"], None, Some(&first)).expect("edited");
                    let seen = View::read(&held).expect("a service");
                    assert_eq!(seen.mark, Ok(Some(first.clone())));
                    assert!(seen.is_as(&first.set) && seen.template == view.template, "{held}");
                    let second = Mark { phase: Phase::Returning, set: set(1), ..first.clone() };
                    edit(&mut held["Spec"], Some(&first), Some(&second)).expect("edited");
                    assert!(View::read(&held).is_some_and(|view| view.is_as(&second.set) && !view.is_as(&first.set)));
                    edit(&mut held["Spec"], Some(&second), None).expect("edited");
                    assert_eq!(held.to_string(), original.to_string());
                }
            }
        }
    }

    #[test]
    fn what_a_person_has_set_since_is_left() {
        let mut held = service(&json!({"Replicated": {"Replicas": 3}}), None);
        let mark = mark_for(&View::read(&held).expect("a service"), Response::ScaleToZero, Set::Replicas(0));
        edit(&mut held["Spec"], None, Some(&mark)).expect("edited");
        held["Spec"]["Mode"]["Replicated"]["Replicas"] = json!(7);
        edit(&mut held["Spec"], Some(&mark), None).expect("edited");
        assert_eq!(held["Spec"]["Mode"]["Replicated"]["Replicas"], 7);
        assert_eq!(held["Spec"]["Labels"], json!({"a": "b"}));
    }

    #[test]
    fn the_template_is_what_runs_and_nothing_else() {
        let first = service(&json!({"Replicated": {"Replicas": 3}}), None);
        let template = |service: &Value| View::read(service).expect("a service").template;
        let mut other = first.clone();
        other["Spec"]["Mode"]["Replicated"]["Replicas"] = json!(0);
        other["Spec"]["Labels"]["x"] = json!("y");
        other["Spec"]["UpdateConfig"] = Value::Null;
        assert_eq!(template(&first), template(&other));
        for (path, value) in [
            ("/Spec/TaskTemplate/ContainerSpec/Image", json!("r/app:2")),
            ("/Spec/TaskTemplate/ForceUpdate", json!(1)),
            ("/Spec/TaskTemplate/ContainerSpec/Ulimits", json!([])),
        ] {
            let mut other = first.clone();
            *other.pointer_mut(path).expect("it is there") = value;
            assert_ne!(template(&first), template(&other), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_held_is_told_apart() {
        for mode in [json!({"ReplicatedJob": {}}), json!({"GlobalJob": {}}), json!({"Quantum": {}}), json!(null)] {
            let view = View::read(&service(&mode, None)).expect("a service");
            assert_eq!(view.before(Response::ScaleToZero), None, "{mode}");
        }
        let view = View::read(&service(&json!({"Global": {}}), None)).expect("a service");
        assert_eq!(view.before(Response::ScaleToZero), Some(Before::Placement(Placement::Absent)));
        assert_eq!(view.before(Response::Observe), None);
    }

    #[test]
    fn labels_are_read_strictly() {
        let with = |name: &str, value: Value| {
            let mut service = service(&json!({"Global": {}}), None);
            service["Spec"]["Labels"][name] = value;
            View::read(&service).expect("a service")
        };
        assert_eq!(with(RESPONSE_LABEL, json!("backoff")).response, Ok(Some(Response::Backoff)));
        assert!(with(RESPONSE_LABEL, json!("Backoff")).response.is_err());
        assert!(with(RESPONSE_LABEL, json!(7)).response.is_err());
        assert_eq!(with(IGNORE_LABEL, json!("true")).is_ignored, Ok(true));
        assert!(with(IGNORE_LABEL, json!("yes")).is_ignored.is_err());
    }
}
