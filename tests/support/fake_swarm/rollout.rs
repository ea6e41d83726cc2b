//! An update that has to replace tasks: slot by slot, with the UpdateStatus that Docker shows meanwhile.
//!
//! Simpler than SwarmKit's: it knows parallelism, monitor and failure action of the update config, no delay, no order,
//! no failure ratio; and `rollback` pauses, as `pause` does.

use std::collections::VecDeque;

use serde_json::Value;

use super::cluster::{Service, World};
use super::task::{Desired, Nanos, State, Task};

/// From an update until its UpdateStatus appears, which moves the version once more.
const BEGIN: Nanos = 5_000_000;
/// SwarmKit's default.
const MONITOR: Nanos = 5_000_000_000;

#[derive(Debug)]
pub(super) struct Rollout {
    /// When it has something to do by itself.
    pub(super) due: Option<Nanos>,
    has_begun: bool,
    /// Slots that run something else, by their number or node.
    todo: VecDeque<(u64, Option<String>)>,
    /// The tasks that it has made.
    made: Vec<String>,
}

impl Rollout {
    /// None when no slot has to run something else.
    pub(super) fn begin(service: &Service, at: Nanos, world: &World) -> Option<Self> {
        let dirty = service.slots.iter().filter(|slot| {
            slot.is_live() && slot.tasks.last().is_some_and(|task| is_dirty(&service.spec, task, world))
        });
        let todo: VecDeque<_> = dirty.map(|slot| (slot.number, slot.node.clone())).collect();
        (!todo.is_empty()).then(|| Self { due: Some(at + BEGIN), has_begun: false, todo, made: Vec::new() })
    }

    /// Goes on as far as it can; None when it is over.
    pub(super) fn step(mut self, service: &mut Service, at: Nanos, world: &mut World) -> Option<Self> {
        if !self.has_begun {
            if self.due != Some(at) {
                return Some(self);
            }
            self.has_begun = true;
            self.due = None;
            service.set_update_status(Some("updating"), "update in progress", at, world);
        }
        let config = service.spec["UpdateConfig"].clone();
        let goes_on = config["FailureAction"] == "continue";
        loop {
            let mut on_the_way = 0;
            for slot in &service.slots {
                for task in slot.tasks.iter().filter(|task| self.made.contains(&task.id)) {
                    if task.has_failed() && !goes_on {
                        let message = format!("update paused due to failure or early termination of task {}", task.id);
                        service.set_update_status(Some("paused"), &message, at, world);
                        return None;
                    }
                    on_the_way += usize::from(matches!(task.state, State::Pending | State::Preparing));
                }
            }
            let parallelism = config["Parallelism"].as_u64().unwrap_or(1);
            if parallelism > 0 && on_the_way as u64 >= parallelism {
                return Some(self);
            }
            let Some((number, node)) = self.todo.pop_front() else {
                return self.end(on_the_way == 0, &config, service, at, world);
            };
            let slot = service.slots.iter().position(|slot| slot.number == number && slot.node == node);
            let Some(position) = slot else { continue };
            let slot = &mut service.slots[position];
            // Its own restart may have been faster.
            if slot.is_live() && slot.tasks.last().is_some_and(|task| is_dirty(&service.spec, task, world)) {
                slot.order_away(Desired::Shutdown, at, world);
                slot.run(at, world);
                service.begin(position, at, world);
                self.made.extend(service.slots[position].tasks.last().map(|task| task.id.clone()));
            }
        }
    }

    /// Watches a while before it says that all went well.
    fn end(
        mut self,
        is_settled: bool,
        config: &Value,
        service: &mut Service,
        at: Nanos,
        world: &mut World,
    ) -> Option<Self> {
        match self.due {
            Some(due) if due <= at => {
                service.set_update_status(Some("completed"), "update completed", at, world);
                return None;
            }
            None if is_settled => self.due = Some(at + config["Monitor"].as_i64().unwrap_or(MONITOR)),
            _ => {}
        }
        Some(self)
    }
}

/// Whether a task has to be replaced: for any difference, but for a difference of placement only where its node no
/// longer suits.
fn is_dirty(spec: &Value, task: &Task, world: &World) -> bool {
    let wanted = &spec["TaskTemplate"];
    let without = |template: &Value, names: &[&str]| {
        let mut template = template.clone();
        if let Some(fields) = template.as_object_mut() {
            fields.retain(|name, _| !names.contains(&&**name));
        }
        template
    };
    if without(wanted, &["Runtime"]) == task.template {
        return false;
    }
    let names = ["Runtime", "Placement"];
    if without(wanted, &names) != without(&task.template, &names) {
        return true;
    }
    !task.node.as_ref().is_some_and(|node| world.nodes_for(wanted).contains(node))
}
