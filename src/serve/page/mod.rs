//! The status page. It is whole without a script; the script only exchanges its sections for newer ones.
//!
//! Every text that a daemon said goes through [`words::visible`] and is escaped by maud. There is no inline style or
//! script: the policy in the headers forbids both.

mod chart;
mod health;
mod storms;
mod tables;
mod verdict;
mod words;

use maud::{DOCTYPE, Markup, html};

use super::assets::{SCRIPT, STYLE};
use crate::model::{Status, Timestamp};
use verdict::Verdict;
use words::{clock, formatted, relative, span, visible};

/// How many rows a list of the page has; what is above it is counted, and in the JSON.
pub const PAGE_ROWS_MAX: usize = 100;

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' \
                    stroke='%234f6bed' stroke-width='2.4' stroke-linecap='round'%3E%3Cpath d='M3 9h11a3 3 0 1 0-3-3M3 \
                    14h15a3 3 0 1 1-3 3M3 19h6'/%3E%3C/svg%3E";

/// The sections that the navigation leads to: their ids, and their names.
const SECTIONS: [(&str, &str); 7] = [
    ("storms", "Storms"),
    ("held", "Quarantines"),
    ("history", "History"),
    ("registries", "Registries"),
    ("receivers", "Alerts"),
    ("sight", "Sight"),
    ("health", "Health"),
];

/// The whole page. `now` is the time that spans are told from.
pub fn page(status: &Status, now: Timestamp) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (Verdict::of(status, now).title) }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href=(STYLE.link());
                script src=(SCRIPT.link()) defer {}
                noscript { meta http-equiv="refresh" content="30"; }
            }
            body {
                a .skip href="#main" { "Skip to the content" }
                header .top {
                    div .brand { (mark()) span { "squall" } }
                    nav aria-label="Sections" {
                        ul { @for (id, name) in SECTIONS { li { a href={ "#" (id) } { (name) } } } }
                    }
                    p #link .link { noscript { "reloads every 30\u{a0}s" } }
                }
                p #said .hidden role="status" aria-live="polite" {}
                main #main tabindex="-1" { (fragment(status, now)) }
            }
        }
    }
}

/// What is within the page's `main`: sections with ids, which the script exchanges where they differ.
pub fn fragment(status: &Status, now: Timestamp) -> Markup {
    html! {
        (verdict::section(status, now))
        (storms::section(status, now))
        (tables::quarantines(status, now))
        (chart::section(status, now))
        (tables::registries(status, now))
        (tables::receivers(status, now))
        (health::sight(status, now))
        (health::section(status))
        (about(status, now))
    }
}

fn mark() -> Markup {
    html! {
        svg .mark viewBox="0 0 24 24" width="20" height="20" aria-hidden="true" {
            path d="M3 9h11a3 3 0 1 0-3-3M3 14h15a3 3 0 1 1-3 3M3 19h6" {}
        }
    }
}

/// A section with its heading.
fn section(id: &str, heading: &str, note: &Markup, body: &Markup) -> Markup {
    html! {
        section #(id) aria-labelledby={ (id) "-name" } {
            div .heading { h2 id={ (id) "-name" } { (heading) } (note) }
            (body)
        }
    }
}

/// The head of a column.
#[derive(Clone, Copy)]
enum Head {
    Text(&'static str),
    /// Of figures, which stand at the right.
    Figure(&'static str),
}

/// A table in a box of its own that scrolls sideways where it has to.
fn table(id: &str, caption: &str, heads: &[Head], rows: &Markup) -> Markup {
    html! {
        div .box {
            table #(id) {
                caption .hidden { (caption) }
                thead { tr { @for head in heads { @match head {
                    Head::Text(name) => th scope="col" { (name) },
                    Head::Figure(name) => th .num scope="col" { (name) },
                } } } }
                (rows)
            }
        }
    }
}

/// That a list goes on.
fn left_out(count: u64, what: &str) -> Markup {
    html! {
        @if count > 0 {
            p .note { (words::many(count, what)) " more: see " a href="/api/v1/status" { "the JSON" } "." }
        }
    }
}

fn about(status: &Status, now: Timestamp) -> Markup {
    let is_new = status.at == Timestamp::default();
    html! {
        footer #about {
            p {
                "squall " (visible(&status.version))
                @if !status.engine.is_empty() { " · Docker " (visible(&status.engine)) }
                @if !status.node.is_empty() { " · " (visible(&status.node)) }
                @if !is_new {
                    " · watching for " (span(now.since(status.started))) ", since "
                    time datetime=(status.started) { (clock(status.started, now)) }
                 }
            }
            p {
                @if is_new { "No state yet" } @else {
                    "State of " time datetime=(status.at) { (formatted(status.at, "%-d %b %Y, %H:%M:%S")) " UTC" }
                    span .hidden { ", " (relative(status.at, now)) }
                }
                @for (path, name) in [("/api/v1/status", "JSON"), ("/api/v1/openapi.json", "OpenAPI"), ("/metrics", "Metrics"),
                    ("/readyz", "Readiness")] { " · " a href=(path) { (name) } }
            }
        }
    }
}
