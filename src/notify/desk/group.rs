//! Which cases have one reason, and so are told together.

use crate::model::{Case, Cause};

/// What a case shares with others that have the same reason: a registry and a cause, or a node.
pub(super) fn families(case: &Case) -> Vec<(String, String)> {
    let storm = &case.storm;
    match storm.cause {
        // A node that is down explains all that ran on it.
        Cause::NodeDown => storm.nodes.iter().map(|node| ("node-down".to_owned(), node.clone())).collect(),
        // Services that fail at one registry at a time have one reason, whatever each is told.
        cause if cause.is_of_registry() => vec![("registry".to_owned(), storm.registry.clone())],
        cause if !storm.registry.is_empty() => vec![(cause.as_str().to_owned(), storm.registry.clone())],
        _ => Vec::new(),
    }
}
