//! Receivers on virtual time: they get the requests that a courier would send, and keep them. `tests/life.rs` holds that
//! [`Courier`](squall::notify::Courier) sends the same.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::Value;
use squall::model::{Alert, AlertKind, Timestamp};
use squall::notify::Way;
use squall::notify::receiver::{Alertmanager, Kind, PagerDuty, Slack, Webhook};

/// How long an alert fires at Alertmanager that is not told again: the default of the settings.
const RESOLVE_AFTER: Duration = Duration::from_secs(300);

/// A request that a receiver got.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: Timestamp,
    /// The kind of receiver, as the settings spell it.
    pub receiver: &'static str,
    pub path: String,
    /// The alert that it tells; a refresh has none.
    pub alert: Option<String>,
    pub body: Value,
}

/// One receiver of each kind that keeps conversations apart, a chat and a program.
pub struct Receivers {
    ways: Vec<Way>,
    pub got: Vec<Got>,
}

impl Receivers {
    /// Those at this address, each at a path that is its kind's name.
    pub fn at(base: &str) -> Self {
        Self { ways: ways(base), got: Vec::new() }
    }

    /// Tells an alert to each receiver that wants it.
    pub fn post(&mut self, now: Timestamp, alert: &Alert) {
        let is_gathered = matches!(alert.kind, AlertKind::Digest | AlertKind::Summary);
        let passes = |way: &Way| if way.keeps_conversations() { !is_gathered } else { alert.part_of.is_none() };
        let got: Vec<Got> =
            self.ways.iter().filter(|way| passes(way)).filter_map(|way| sent(way, now, alert)).collect();
        self.got.extend(got.into_iter().map(|got| Got { alert: Some(alert.id.clone()), ..got }));
    }

    /// Tells Alertmanager what goes on.
    pub fn refresh(&mut self, now: Timestamp, alert: &Alert) {
        let alertmanager = self.ways.iter().filter(|way| way.as_str() == "alertmanager");
        let got: Vec<Got> = alertmanager.filter_map(|way| sent(way, now, alert)).collect();
        self.got.extend(got);
    }

    /// The requests that receivers of this kind got, by time.
    pub fn of<'a>(&'a self, receiver: &'a str) -> impl Iterator<Item = &'a Got> {
        self.got.iter().filter(move |got| got.receiver == receiver)
    }
}

/// The receivers at this address.
pub fn ways(base: &str) -> Vec<Way> {
    let url = |kind: &str| format!("{base}/{kind}");
    let kinds = [
        Kind::PagerDuty(PagerDuty { url: url("pagerduty"), routing_key: "key".into() }),
        Kind::Alertmanager(Alertmanager {
            url: url("alertmanager"),
            headers: Vec::new(),
            resolve_after: RESOLVE_AFTER,
        }),
        Kind::Slack(Slack { url: url("slack").into(), mention: None }),
        Kind::Webhook(Webhook { url: url("webhook").into(), headers: Vec::new(), template: None, signing_key: None }),
    ];
    kinds.into_iter().map(|kind| Way::Http(Box::new(kind))).collect()
}

/// The request that tells a receiver this alert, if it has something to tell there.
fn sent(way: &Way, at: Timestamp, alert: &Alert) -> Option<Got> {
    let Way::Http(kind) = way else { return None };
    let request = kind.request(alert).expect("it can be told")?;
    let body = serde_json::from_slice(&request.body).expect("JSON");
    let url = request.url.expose_secret();
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    Some(Got { at, receiver: way.as_str(), path: format!("/{path}"), alert: None, body })
}
