//! The last 24 h as bars: attempts behind, failures before them, and hatched what nobody watched.
//!
//! Everything is placed in percent, so that it fills any width without a script and without distorting its text.

use maud::{Markup, html};

use super::section as in_section;
use super::words::{formatted, grouped, many};
use crate::model::{HistoryBucket, Status, Timestamp};

/// A day of quarters of an hour.
const BUCKETS_MAX: usize = 96;
/// The plot's height and where it begins, in pixels: `assets/squall.css` gives the picture 168.
const PLOT: (f64, f64) = (132.0, 12.0);
/// A label stands at every so many buckets: 6 h.
const LABEL_EVERY: usize = 24;

pub(super) fn section(status: &Status, now: Timestamp) -> Markup {
    let from = status.history.len().saturating_sub(BUCKETS_MAX);
    let buckets = &status.history[from..];
    let is_empty = buckets.iter().all(|bucket| bucket.attempts == 0 && !bucket.has_gap);
    let note = html! {
        @if !is_empty {
            ul .legend aria-hidden="true" {
                li .failed { "failed" } li .attempts { "ended well" } li .gap { "not watched" }
            }
        }
    };
    let body = html! {
        @if is_empty { p .empty { "Nothing has been tried in the last 24\u{a0}h." } } @else {
            div .box.chart { (picture(buckets)) (as_table(buckets, now)) }
        }
    };
    in_section("history", "Tries of the last 24\u{a0}h", &note, &body)
}

fn picture(buckets: &[HistoryBucket]) -> Markup {
    let top = nice(buckets.iter().map(|bucket| bucket.attempts.max(bucket.failed)).max().unwrap_or(0));
    let (attempts, failed) = sums(buckets);
    let gaps = buckets.iter().filter(|bucket| bucket.has_gap).count() as u64;
    html! {
        svg .history role="img" aria-labelledby="history-title history-desc" {
            title #history-title { "Tries of the last 24 h, a bar for each quarter of an hour" }
            desc #history-desc {
                (grouped(attempts)) " tries ended, " (grouped(failed)) " of them failed. " (peak(buckets))
                @if gaps > 0 { " In " (many(gaps, "quarter")) " of an hour nobody watched for some time." }
            }
            defs {
                pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                    rect .hatch width="2" height="6" {}
                }
            }
            @for (share, value) in [(1.0, top), (0.5, top / 2)] {
                line .grid x1="0" x2="100%" y1=(y(share)) y2=(y(share)) {}
                @if top > 1 || share > 0.9 {
                    text .axis x="0" y=(px(PLOT.1 + PLOT.0 * (1.0 - share) - 3.0)) { (grouped(value)) }
                }
            }
            @for (at, bucket) in buckets.iter().enumerate() { (bar(at, buckets.len(), bucket, top)) }
            line .base x1="0" x2="100%" y1=(y(0.0)) y2=(y(0.0)) {}
            @for (at, bucket) in buckets.iter().enumerate().filter(|entry| entry.0 % LABEL_EVERY == 0) {
                (hour_label(at, buckets.len(), bucket.at))
            }
            text .axis.end x="100%" y=(px(PLOT.0 + PLOT.1 + 16.0)) { "now" }
        }
    }
}

fn bar(at: usize, of: usize, bucket: &HistoryBucket, top: u64) -> Markup {
    let (x, width) = (percent(at, of), percent(1, of));
    let (attempts, failed) = (share(bucket.attempts.max(bucket.failed), top), share(bucket.failed, top));
    html! {
        g .bucket {
            title {
                (formatted(bucket.at, "%H:%M")) " UTC: " (grouped(bucket.failed)) " of " (grouped(bucket.attempts)) " failed"
                @if bucket.has_gap { "; not watched all the time" }
            }
            rect .target x=(x) width=(width) y=(px(PLOT.1)) height=(px(PLOT.0)) {}
            @if bucket.has_gap { rect .gap x=(x) width=(width) y=(px(PLOT.1)) height=(px(PLOT.0)) {} }
            @if bucket.attempts > bucket.failed {
                rect .attempts x=(x) width=(narrow(of)) y=(y(attempts)) height=(px(PLOT.0 * attempts)) {}
            }
            @if bucket.failed > 0 { rect .failed x=(x) width=(narrow(of)) y=(y(failed)) height=(px(PLOT.0 * failed)) {} }
        }
    }
}

fn hour_label(at: usize, of: usize, from: Timestamp) -> Markup {
    let class = if at == 0 { "axis" } else { "axis middle" };
    html! { text class=(class) x=(percent(at, of)) y=(px(PLOT.0 + PLOT.1 + 16.0)) { (formatted(from, "%H:%M")) } }
}

/// The same by hours, for who reads it or cannot see the picture.
fn as_table(buckets: &[HistoryBucket], now: Timestamp) -> Markup {
    html! {
        details #history-table {
            summary #history-summary { "By hours, as a table" }
            div .box.plain {
                table #hour-list {
                    caption .hidden { "Tries of the last 24 h, by hours of UTC, newest first" }
                    thead { tr {
                        th scope="col" { "From (UTC)" } th .num scope="col" { "Tries" } th .num scope="col" { "Failed" }
                        th scope="col" { "Watched" }
                    } }
                    tbody { @for hour in buckets.chunks(4).rev() { @if let Some(first) = hour.first() { (hour_row(first, hour, now)) } } }
                }
            }
        }
    }
}

fn hour_row(first: &HistoryBucket, hour: &[HistoryBucket], now: Timestamp) -> Markup {
    let (attempts, failed) = sums(hour);
    let is_today = formatted(first.at, "%F") == formatted(now, "%F");
    html! {
        tr {
            th scope="row" data-label="From" { (formatted(first.at, if is_today { "%H:%M" } else { "%-d %b %H:%M" })) }
            td .num data-label="Tries" { (grouped(attempts)) }
            td .num data-label="Failed" { (grouped(failed)) }
            td data-label="Watched" { (if hour.iter().any(|bucket| bucket.has_gap) { "not all the time" } else { "yes" }) }
        }
    }
}

fn sums(buckets: &[HistoryBucket]) -> (u64, u64) {
    buckets.iter().fold((0, 0), |sum, bucket| (sum.0 + bucket.attempts, sum.1 + bucket.failed))
}

fn peak(buckets: &[HistoryBucket]) -> String {
    let worst = buckets.iter().max_by_key(|bucket| bucket.failed).filter(|bucket| bucket.failed > 0);
    worst.map_or_else(String::new, |bucket| {
        format!("Most failed from {} UTC on: {}.", formatted(bucket.at, "%H:%M"), grouped(bucket.failed))
    })
}

/// The next figure above that people count by: 1, 2 or 5 with zeros.
fn nice(value: u64) -> u64 {
    let mut step = 1_u64;
    while let Some(larger) = step.checked_mul(10) {
        if let Some(nice) = [1, 2, 5].map(|digit| step * digit).into_iter().find(|nice| *nice >= value) {
            return nice;
        }
        step = larger;
    }
    u64::MAX
}

#[expect(clippy::cast_precision_loss, reason = "a share of a bar's height")]
fn share(value: u64, top: u64) -> f64 {
    value as f64 / top.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "there are 96 at most")]
fn percent(at: usize, of: usize) -> String {
    format!("{:.3}%", at as f64 * 100.0 / of.max(1) as f64)
}

/// A bar is a little narrower than its place.
#[expect(clippy::cast_precision_loss, reason = "there are 96 at most")]
fn narrow(of: usize) -> String {
    format!("{:.3}%", 82.0 / of.max(1) as f64)
}

fn y(share: f64) -> String {
    px(PLOT.1 + PLOT.0 * (1.0 - share))
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_figure_that_people_count_by() {
        assert_eq!([0, 1, 3, 7, 10, 11, 212, 501].map(nice), [1, 1, 5, 10, 10, 20, 500, 1000]);
        assert!(nice(u64::MAX) >= 10_u64.pow(19));
    }
}
