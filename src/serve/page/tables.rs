//! What is held, what registries are asked, and where alerts go.

use maud::{Markup, html};

use super::Head::{Figure, Text};
use super::storms::cause;
use super::words::{grouped, many, moment, pace, visible};
use super::{PAGE_ROWS_MAX, left_out, section, table};
use crate::model::{DeliveryOutcome, QuarantineStatus, ReceiverStatus, RegistryStatus, Status, Timestamp};

pub(super) fn quarantines(status: &Status, now: Timestamp) -> Markup {
    let all = &status.quarantines;
    let shown = &all[..all.len().min(PAGE_ROWS_MAX)];
    let rows = html! { tbody { @for held in shown { (quarantine(held, now)) } } };
    let note = html! { @if !all.is_empty() { span .count { (grouped(all.len() as u64)) } } };
    let empty =
        if status.acts { "Nothing is held." } else { "Nothing is held: squall only says here what it would do." };
    let body = html! {
        @if all.is_empty() { p .empty { (empty) } } @else {
            (table("held-list", "Held services and what happens next", &[Text("Service"), Text("Phase"), Text("Cause"), Text("Held"), Text("Tried again"), Text("Next")], &rows))
            (left_out((all.len() - shown.len()) as u64, "quarantine"))
        }
    };
    section("held", "Quarantines", &note, &body)
}

fn quarantine(held: &QuarantineStatus, now: Timestamp) -> Markup {
    html! {
        tr {
            th .service scope="row" data-label="Service" {
                span .name { (visible(&held.service)) } span .sub { (visible(&held.response)) }
            }
            td data-label="Phase" { span .tag.held { (visible(&held.phase)) }
                @if held.tries > 0 { span .sub { (held.tries) " failed " (if held.tries == 1 { "try" } else { "tries" }) } } }
            td data-label="Cause" { (cause(held.cause)) }
            td data-label="Held" { (moment(held.since, now)) }
            td data-label="Tried again" { @match held.until {
                Some(until) => (moment(until, now)),
                None => span .dim { "by a person" },
            } }
            td .text data-label="Next" { (visible(&held.next)) }
        }
    }
}

pub(super) fn registries(status: &Status, now: Timestamp) -> Markup {
    let all = &status.registries;
    let shown = &all[..all.len().min(PAGE_ROWS_MAX)];
    let rows = html! { tbody { @for registry in shown { (registry_row(registry, now)) } } };
    let body = html! {
        @if all.is_empty() { p .empty { "No storm asks a registry." } } @else {
            (table("registry-list", "What each registry is asked", &[Text("Registry"), Figure("Requests per min"), Text("Pulls left"), Text("Runs out"), Text("Asked most by")], &rows))
            (left_out((all.len() - shown.len()) as u64, "registry host"))
        }
    };
    section("registries", "Registries", &html! {}, &body)
}

fn registry_row(registry: &RegistryStatus, now: Timestamp) -> Markup {
    html! {
        tr {
            th .service scope="row" data-label="Registry" {
                span .name { (visible(&registry.registry)) } span .sub { (many(registry.storms, "storm")) }
            }
            td .num data-label="Requests per min" {
                @match &registry.budget {
                    Some(budget) => {
                        (pace(budget.requests_per_min))
                        @if let Some(most) = budget.requests_per_min_max { span .sub { "of " (grouped(most)) } }
                    }
                    None => (pace(registry.attempts_per_min)),
                }
            }
            td data-label="Pulls left" { (quota(registry)) }
            td data-label="Runs out" {
                @match registry.exhausted() {
                    Some(at) => (moment(at, now)),
                    None => span .dim { "not known" },
                }
                @if let Some((count @ 1.., _)) = registry.budget.as_ref().and_then(|budget| budget.without_image.as_ref()) {
                    span .sub { (many(*count, "service")) " without a local image" }
                }
            }
            td .text data-label="Asked most by" {
                @for (at, (service, per_min)) in registry.spenders.iter().enumerate() {
                    @if at > 0 { ", " } (visible(service)) " " span .dim { (pace(*per_min)) "/min" }
                }
            }
        }
    }
}

fn quota(registry: &RegistryStatus) -> Markup {
    let left = registry.remaining().map(|left| u64::try_from(left).unwrap_or(0));
    let others = registry.budget.as_ref().and_then(|budget| budget.others).filter(|others| *others > 0);
    html! {
        @if let Some(others) = others { span .sub { (grouped(others)) " by others, or before squall" } }
        @match (left, registry.limit()) {
            (Some(left), Some(limit)) => {
                span .quota { (grouped(left)) " of " (grouped(limit)) }
                (meter(left, limit))
            }
            (Some(left), None) => { (grouped(left)) span .dim { " of a limit that is not known" } }
            (None, Some(limit)) => { span .dim { "not known, of " } (grouped(limit)) }
            (None, None) => span .dim { "not known" },
        }
    }
}

/// How full the quota is, as a bar; the figures stand beside it.
fn meter(left: u64, limit: u64) -> Markup {
    let percent = left.saturating_mul(100).checked_div(limit).unwrap_or(0).min(100);
    let tone = match percent {
        0..15 => "low",
        15..50 => "half",
        _ => "full",
    };
    html! {
        svg class={ "meter " (tone) } aria-hidden="true" {
            rect .all width="100%" height="100%" rx="2" {}
            rect .left width={ (percent) "%" } height="100%" rx="2" {}
        }
    }
}

pub(super) fn receivers(status: &Status, now: Timestamp) -> Markup {
    let all = &status.receivers;
    let shown = &all[..all.len().min(PAGE_ROWS_MAX)];
    let rows = html! { tbody { @for receiver in shown { (receiver_row(receiver, now)) } } };
    let body = html! {
        @if all.is_empty() { p .empty { "No receiver is configured: nobody is told." } } @else {
            (table("receiver-list", "Where alerts go, and whether they get there", &[Text("Receiver"), Text("State"), Figure("Waiting"), Text("Last taken"), Figure("Delivered"), Figure("Retried"), Figure("Lost")], &rows))
            (left_out((all.len() - shown.len()) as u64, "receiver"))
        }
    };
    section("receivers", "Alerts", &html! {}, &body)
}

fn receiver_row(receiver: &ReceiverStatus, now: Timestamp) -> Markup {
    let outcome = |outcome| receiver.outcomes.get(&outcome).copied().unwrap_or(0);
    let lost = outcome(DeliveryOutcome::Dead) + outcome(DeliveryOutcome::Dropped);
    html! {
        tr {
            th .service scope="row" data-label="Receiver" {
                span .name { (visible(&receiver.name)) } span .sub { (visible(&receiver.kind)) }
            }
            td .text data-label="State" {
                @if receiver.trouble.is_empty() { span .state.ok { "well" } } @else {
                    span .state.bad { "in trouble" } span .sub { (visible(&receiver.trouble)) }
                }
            }
            td .num data-label="Waiting" { (grouped(receiver.waiting))
                @if let Some(oldest) = receiver.oldest { span .sub { (moment(oldest, now)) } } }
            td data-label="Last taken" { @match receiver.delivered_at {
                Some(at) => (moment(at, now)),
                None => span .dim { "none yet" },
            } }
            td .num data-label="Delivered" { (grouped(outcome(DeliveryOutcome::Delivered))) }
            td .num data-label="Retried" { (grouped(outcome(DeliveryOutcome::Retried))) }
            td data-label="Lost" class=(if lost > 0 { "num bad" } else { "num" }) { (grouped(lost)) }
        }
    }
}
