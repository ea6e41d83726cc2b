//! The storms that go on.

use maud::{Markup, html};

use super::Head::{self, Figure, Text};
use super::words::{grouped, many, moment, pace, visible};
use super::{PAGE_ROWS_MAX, left_out, section as in_section, table};
use crate::model::{Cause, Status, Storm, StormState, SubjectKind, Timestamp};

const HEADS: [Head; 7] =
    [Text("Service"), Text("Cause"), Text("Began"), Figure("Failed"), Figure("Per min"), Text("Nodes"), Text("Cost")];
/// How many nodes are named; the others are counted.
const NODES_MAX: usize = 3;

pub(super) fn section(status: &Status, now: Timestamp) -> Markup {
    let shown = &status.storms[..status.storms.len().min(PAGE_ROWS_MAX)];
    let hidden = (status.storms.len() - shown.len()) as u64 + status.storms_left_out;
    let note = html! { @if !shown.is_empty() { span .count { (grouped(shown.len() as u64 + hidden)) } } };
    let rows = html! { @for storm in shown { (row(storm, now)) } };
    let body = html! {
        @if shown.is_empty() {
            p .empty { "Nothing storms. " (many(status.calm, "service")) " judged and found calm." }
        } @else {
            (table("storm-list", "Storms now, those that fail most first", &HEADS, &rows))
            (left_out(hidden, "storm"))
        }
    };
    in_section("storms", "Storms now", &note, &body)
}

fn row(storm: &Storm, now: Timestamp) -> Markup {
    let (is_held, id) = (storm.state == StormState::Quarantined, visible(&storm.id));
    html! {
        tbody .storm data-storm=(id) data-said={ (visible(&storm.subject.name)) ": " (storm.cause) } {
            tr {
                th .service scope="row" data-label="Service" {
                    span .name { (visible(&storm.subject.name)) }
                    @if is_held { span .tag.held { "held" } }
                    @if storm.state == StormState::Subsided { span .tag { "subsided" } }
                    span .sub { (origin(storm)) }
                }
                td data-label="Cause" { (cause(storm.cause)) }
                td data-label="Began" { @if !storm.exact { "before " } (moment(storm.onset, now)) }
                td .num data-label="Failed" { @if !storm.exact { ">= " } (grouped(storm.failed)) span .sub { "of " (grouped(storm.attempts)) } }
                td .num data-label="Per min" { (pace(storm.attempts_per_min)) }
                td .nodes data-label="Nodes" { (nodes(&storm.nodes)) }
                td data-label="Cost" class=(if storm.pulls && !is_held { "cost spends" } else { "cost" }) {
                    @if is_held { "held: no try is made" } @else { (visible(&storm.cost())) }
                }
            }
            tr .more { td colspan="7" { (details(storm)) } }
        }
    }
}

fn details(storm: &Storm) -> Markup {
    let words = if storm.detail.is_empty() { "The engine said nothing." } else { &storm.detail };
    html! {
        details id={ "d-" (visible(&storm.id)) } {
            summary id={ "s-" (visible(&storm.id)) } { span .words { (visible(words)) } }
            dl .facts {
                @if !storm.advice.is_empty() { div .wide { dt { "Do next" } dd { (visible(&storm.advice)) } } }
                div .wide { dt { "The engine's words" } dd { code { (visible(words)) } } }
                div { dt { "Image" } dd {
                    @if storm.image.is_empty() { "not seen" } @else { code { (visible(&storm.image)) } }
                    @if storm.pinned { " pinned by digest" } @else if !storm.image.is_empty() { " not pinned" }
                } }
                div { dt { "Failures by cause" } dd {
                    @for (at, (cause, count)) in storm.causes.iter().enumerate() {
                        @if at > 0 { ", " } (cause) " " (grouped(count))
                    }
                } }
                div { dt { "Detected" } dd { "after " (many(storm.detected_after_failures, "failure")) } }
                div { dt { "Nodes" } dd { @for (at, node) in storm.nodes.iter().enumerate() {
                    @if at > 0 { ", " } (visible(node))
                } } }
                div { dt { "Storm" } dd { code { (visible(&storm.id)) } } }
            }
        }
    }
}

/// What kind of subject it is, and of which stack.
fn origin(storm: &Storm) -> Markup {
    let kind = match storm.subject.kind {
        SubjectKind::SwarmService => "service",
        SubjectKind::ComposeService => "compose service",
        SubjectKind::Container => "container",
        SubjectKind::EcsFamily => "ECS family",
        SubjectKind::Registry => "registry",
    };
    html! { (kind) @if let Some(stack) = &storm.subject.stack { " · stack " (visible(stack)) } }
}

/// A cause with the colour of what it costs: others, nobody, or nothing at all.
pub(super) fn cause(cause: Cause) -> Markup {
    let tone = match cause {
        Cause::RegistryQuota | Cause::RegistryAbuse | Cause::RegistryLimit => "quota",
        Cause::DiskFull | Cause::NodeDown | Cause::Unschedulable => "node",
        _ if cause.is_pull() => "pull",
        _ => "own",
    };
    html! { span class={ "cause " (tone) } { (cause.as_str()) } }
}

/// The first nodes by name.
pub(super) fn nodes(nodes: &[String]) -> Markup {
    html! {
        @if nodes.is_empty() { span .dim { "none known" } }
        @for (at, node) in nodes.iter().take(NODES_MAX).enumerate() { @if at > 0 { ", " } (visible(node)) }
        @if nodes.len() > NODES_MAX { span .dim { " and " (nodes.len() - NODES_MAX) " more" } }
    }
}
