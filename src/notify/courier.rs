//! Brings alerts to their receivers. Each receiver has a line and a task of its own: one that is slow or away delays no
//! other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Notify, watch};

use super::desktop;
use super::filter::Filter;
use super::outbox::{Delivery, Outbox};
use super::receiver::Kind;
use super::send::{Answer, Sender};
use crate::model::Labels;
use crate::model::{
    ALERT_STORMS_KNOWN_MAX, ALERT_STORMS_MAX, Alert, AlertKind, AlertStorm, DeliveryOutcome, ReceiverStatus, Timestamp,
    fnv_64,
};

/// How many alerts wait for one receiver; of more the oldest go first.
const WAITING_MAX: usize = 1000;
/// How old an alert may be: what is older is no news, and is in the list of dead letters.
const AGE_MAX: Duration = Duration::from_secs(86_400);
/// The first distance between two tries; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest one: what comes back is told within ten minutes.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// How long a receiver may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How long an alert is tried whose every try is answered by 401, 403 or 404: a proxy answers so while the server behind
/// it restarts, and until somebody has renewed a token; a server that is away for longer is reported as one.
const REFUSED_MAX: Duration = Duration::from_secs(900);
/// How often it is seen whether somebody asks for dead letters.
const TAKE_UP_EVERY: Duration = Duration::from_secs(2);

/// Where alerts go.
#[derive(Debug)]
pub struct Receiver {
    /// Its name: letters, digits, `-` and `_`, at most 40.
    pub name: String,
    /// What it is.
    pub way: Way,
    /// What it wants to hear.
    pub filter: Filter,
    /// How many alerts a minute, all of it as burst.
    pub quota: Quota,
}

/// How an alert gets to a receiver.
#[derive(Debug)]
pub enum Way {
    /// By a request.
    Http(Box<Kind>),
    /// On this machine's desktop.
    Desktop,
}

impl Way {
    /// Whether it keeps conversations apart and ends each: it hears the parts of a digest, and no digest.
    pub fn keeps_conversations(&self) -> bool {
        self.is_refreshed() || self.waits_for_end()
    }

    /// Whether it takes an alert that it does not hear of for over.
    fn is_refreshed(&self) -> bool {
        matches!(self, Self::Http(kind) if matches!(**kind, Kind::Alertmanager(_)))
    }

    /// Whether a conversation goes on there until its end is told.
    pub fn waits_for_end(&self) -> bool {
        matches!(self, Self::Http(kind) if matches!(**kind, Kind::PagerDuty(_)))
    }

    /// What it is, as configuration and metrics spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Http(kind) => kind.as_str(),
            Self::Desktop => "desktop",
        }
    }
}

/// Brings alerts to their receivers. See the module.
#[derive(Debug)]
pub struct Courier {
    lines: Vec<Line>,
    outbox: Option<Arc<Outbox>>,
    sender: Sender,
    clock: fn() -> Timestamp,
    trouble: Mutex<Option<String>>,
    /// Whether it is to begin nothing any more.
    rests: watch::Sender<bool>,
}

#[derive(Debug)]
struct Line {
    receiver: Receiver,
    limiter: DefaultDirectRateLimiter,
    state: Mutex<LineState>,
    wake: Notify,
}

#[derive(Debug)]
struct LineState {
    waiting: VecDeque<Delivery>,
    /// What storms now, for a receiver that has to be told again and again.
    refresh: Option<Alert>,
    delivered_at: Option<Timestamp>,
    trouble: String,
    outcomes: BTreeMap<DeliveryOutcome, u64>,
}

impl LineState {
    fn count(&mut self, outcome: DeliveryOutcome) {
        *self.outcomes.entry(outcome).or_default() += 1;
    }
}

impl Courier {
    /// A courier with what an earlier one has left; without an outbox what waits is in memory only.
    pub fn new(
        receivers: Vec<Receiver>,
        outbox: Option<Arc<Outbox>>,
        left: Vec<Delivery>,
        sender: Sender,
        clock: fn() -> Timestamp,
    ) -> Self {
        let mut lines: Vec<Line> = receivers.into_iter().map(Line::new).collect();
        for delivery in left {
            // What waits for a receiver that is no longer there stays on disk, and is shown.
            if let Some(line) = lines.iter_mut().find(|line| line.receiver.name == delivery.receiver) {
                line.state.get_mut().unwrap_or_else(PoisonError::into_inner).waiting.push_back(delivery);
            }
        }
        Self { lines, outbox, sender, clock, trouble: Mutex::new(None), rests: watch::Sender::new(false) }
    }

    /// Whether there is nobody to bring anything to.
    pub fn has_no_receivers(&self) -> bool {
        self.lines.is_empty()
    }

    /// Goes on where an earlier courier, which no longer runs, left the lines of the receivers that both have. What waits
    /// for other receivers stays on disk.
    pub fn succeed(&mut self, earlier: Self) {
        for Line { receiver, state, .. } in earlier.lines {
            let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
            match self.lines.iter_mut().find(|line| line.receiver.name == receiver.name) {
                // A refresh was made for the receiver as it was.
                Some(line) => line.state = Mutex::new(LineState { refresh: None, ..state }),
                None if state.waiting.is_empty() => {}
                None => tracing::warn!(
                    receiver = receiver.name,
                    alerts = state.waiting.len(),
                    "alerts wait for a receiver that is no longer in the settings"
                ),
            }
        }
        self.trouble = earlier.trouble;
    }

    /// Takes an alert for every receiver that wants it; returns when it is on disk.
    pub async fn post(&self, alert: &Alert, labels: &BTreeMap<String, Labels>) {
        let is_gathered = matches!(alert.kind, AlertKind::Digest | AlertKind::Summary);
        for line in &self.lines {
            let passes = if line.receiver.way.keeps_conversations() { !is_gathered } else { alert.part_of.is_none() };
            if !passes {
                continue;
            }
            match wanted(&line.receiver, alert, labels) {
                Some(alert) => self.post_to(line, alert).await,
                None => line.state().count(DeliveryOutcome::Filtered),
            }
        }
    }

    /// What storms now: Alertmanager takes an alert for over when it does not hear of it for some minutes.
    pub fn refresh(&self, alert: &Alert, labels: &BTreeMap<String, Labels>) {
        for line in self.lines.iter().filter(|line| line.receiver.way.is_refreshed()) {
            line.state().refresh = wanted(&line.receiver, alert, labels);
            line.wake.notify_one();
        }
    }

    /// Has [`run`](Self::run) begin no further try, and end when those under way have ended.
    pub fn rest(&self) {
        self.rests.send_replace(true);
    }

    /// Delivers for as long as it is polled, or until it is to rest.
    pub async fn run(&self) {
        let lines = futures::future::join_all(self.lines.iter().map(|line| self.serve(line)));
        futures::future::join(lines, self.take_up()).await;
    }

    /// Takes up the dead letters that somebody asks for, for as long as it is polled, or until it is to rest.
    async fn take_up(&self) {
        let mut rests = self.rests.subscribe();
        let Some(outbox) = &self.outbox else { return drop(rests.wait_for(|rests| *rests).await) };
        while !*rests.borrow() {
            let (outbox, now) = (Arc::clone(outbox), (self.clock)());
            let taken = tokio::task::spawn_blocking(move || outbox.take_up(now)).await.unwrap_or_default();
            for delivery in taken {
                // A delivery for a receiver that is no longer there stays on disk, and is shown.
                if let Some(line) = self.lines.iter().find(|line| line.receiver.name == delivery.receiver) {
                    self.line_up(line, delivery).await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TAKE_UP_EVERY) => {}
                _ = rests.wait_for(|rests| *rests) => {}
            }
        }
    }

    /// Delivers what waits now, once each, for at most this long.
    pub async fn flush(&self, limit: Duration) {
        let once = self.lines.iter().map(|line| async {
            let waiting = line.state().waiting.len();
            for _ in 0..waiting {
                // Whoever asks for time gets it at the end too.
                if self.deliver_next(line).await != Some(Duration::ZERO) {
                    break;
                }
            }
        });
        // What is left is on disk.
        let _ = tokio::time::timeout(limit, futures::future::join_all(once)).await;
    }

    /// How deliveries go.
    pub fn status(&self) -> Vec<ReceiverStatus> {
        self.lines.iter().map(Line::status).collect()
    }

    /// Why the outbox cannot be written; `None`: it can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn post_to(&self, line: &Line, alert: Alert) {
        let delivery = Delivery::new(line.receiver.name.clone(), alert, (self.clock)());
        self.on_disk(delivery.clone(), |outbox, delivery| outbox.keep(delivery)).await;
        self.line_up(line, delivery).await;
    }

    /// Puts at the end of a line a delivery that is on disk.
    async fn line_up(&self, line: &Line, delivery: Delivery) {
        let dropped = {
            let mut state = line.state();
            // What was true before this alert may be true no more.
            state.refresh = None;
            let is_known = state.waiting.iter().any(|other| other.alert.id == delivery.alert.id);
            if !is_known {
                state.waiting.push_back(delivery);
            }
            let dropped = if state.waiting.len() > WAITING_MAX { state.waiting.pop_front() } else { None };
            dropped.iter().for_each(|_| state.count(DeliveryOutcome::Dropped));
            dropped
        };
        if let Some(dropped) = dropped {
            self.on_disk(dropped, |outbox, delivery| {
                outbox.forget(delivery);
                Ok(())
            })
            .await;
        }
        line.wake.notify_one();
    }

    async fn serve(&self, line: &Line) {
        let mut rests = self.rests.subscribe();
        while !*rests.borrow() {
            let pause = self.deliver_next(line).await;
            let next = async {
                match pause {
                    // A new alert does not shorten it: the receiver is not well.
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => line.wake.notified().await,
                }
            };
            tokio::select! {
                () = next => {}
                _ = rests.wait_for(|rests| *rests) => {}
            }
        }
    }

    /// Tries the first delivery of a line; returns how long to wait before the next one, `None` where there is none.
    async fn deliver_next(&self, line: &Line) -> Option<Duration> {
        let next = {
            let mut state = line.state();
            state.waiting.front().cloned().or_else(|| {
                let alert = state.refresh.take()?;
                let since = alert.at;
                Some(Delivery::new(line.receiver.name.clone(), alert, since))
            })
        };
        let mut delivery = next?;
        let is_refresh = !line.has(&delivery.alert.id);
        if let Err(until) = line.limiter.check() {
            line.put_back(delivery);
            return Some(until.wait_time_from(DefaultClock::default().now()));
        }
        let now = (self.clock)();
        if now.since(delivery.since) > AGE_MAX {
            delivery.trouble = format!("too old to be news; {}", delivery.trouble);
            self.bury(line, delivery).await;
            return Some(Duration::ZERO);
        }
        match try_once(&line.receiver, &delivery.alert, &self.sender).await {
            Answer::Taken(_) => {
                {
                    let mut state = line.state();
                    state.count(DeliveryOutcome::Delivered);
                    state.delivered_at = Some((self.clock)());
                    state.trouble.clear();
                }
                self.done(line, delivery).await;
                Some(Duration::ZERO)
            }
            Answer::Unwanted => {
                line.state().count(DeliveryOutcome::Filtered);
                self.done(line, delivery).await;
                Some(Duration::ZERO)
            }
            // The next one comes within a minute.
            Answer::Refused(why) if is_refresh => {
                line.state().trouble = why;
                Some(Duration::ZERO)
            }
            Answer::Later { why, after, .. } if is_refresh => {
                line.state().trouble = why;
                Some(after.map_or(RETRY_MIN, |after| after.clamp(RETRY_MIN, RETRY_AFTER_MAX)))
            }
            Answer::Refused(why) => {
                delivery.tries += 1;
                delivery.trouble = why;
                self.bury(line, delivery).await;
                Some(Duration::ZERO)
            }
            Answer::Later { why, after, is_refusal } => {
                delivery.tries += 1;
                delivery.trouble.clone_from(&why);
                // A clock that was set back begins the time again.
                delivery.refused_since = is_refusal.then(|| delivery.refused_since.map_or(now, |since| since.min(now)));
                let left = delivery.refused_since.map(|since| REFUSED_MAX.saturating_sub(now.since(since)));
                if left == Some(Duration::ZERO) {
                    self.bury(line, delivery).await;
                    return Some(Duration::ZERO);
                }
                let pause = after.map_or_else(|| pause(&delivery), |after| after.clamp(RETRY_MIN, RETRY_AFTER_MAX));
                // The last try comes when the time is over, not long after it.
                let pause = left.map_or(pause, |left| pause.min(left));
                {
                    let mut state = line.state();
                    state.count(DeliveryOutcome::Retried);
                    state.trouble = why;
                    if let Some(first) = state.waiting.front_mut().filter(|first| first.alert.id == delivery.alert.id) {
                        *first = delivery.clone();
                    }
                    // What one alert suffers from does not hold up the others for ever.
                    if delivery.tries % 4 == 0 && state.waiting.len() > 1 {
                        state.waiting.rotate_left(1);
                    }
                }
                self.on_disk(delivery, |outbox, delivery| outbox.keep(delivery)).await;
                Some(pause)
            }
        }
    }

    async fn done(&self, line: &Line, delivery: Delivery) {
        line.take_out(&delivery.alert.id);
        let is_end = delivery.alert.ends && line.receiver.way.waits_for_end();
        self.on_disk(delivery, move |outbox, delivery| {
            outbox.forget(delivery);
            if is_end {
                outbox.forget_dead(delivery);
            }
            Ok(())
        })
        .await;
    }

    async fn bury(&self, line: &Line, delivery: Delivery) {
        tracing::error!(
            receiver = delivery.receiver,
            alert = delivery.alert.id,
            why = delivery.trouble,
            "an alert was refused for good: see squall alert list, and squall alert resend"
        );
        line.take_out(&delivery.alert.id);
        {
            let mut state = line.state();
            state.count(DeliveryOutcome::Dead);
            state.trouble.clone_from(&delivery.trouble);
        }
        self.on_disk(delivery, |outbox, delivery| outbox.bury(delivery)).await;
    }

    /// Does something in the outbox, beside the other lines: a disk may be slow.
    async fn on_disk(
        &self,
        delivery: Delivery,
        act: impl FnOnce(&Outbox, &Delivery) -> Result<(), super::outbox::OutboxError> + Send + 'static,
    ) {
        let Some(outbox) = self.outbox.clone() else { return };
        let done = tokio::task::spawn_blocking(move || act(&outbox, &delivery)).await;
        let why = done.ok().and_then(Result::err).map(|error| error.to_string());
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != why {
            if let Some(why) = &why {
                tracing::error!(why, "the outbox cannot be written: alerts wait in memory");
            }
            *trouble = why;
        }
    }
}

/// Tells a receiver something once, whatever its filter and quota.
pub async fn try_once(receiver: &Receiver, alert: &Alert, sender: &Sender) -> Answer {
    match &receiver.way {
        Way::Http(kind) => match kind.request(alert) {
            Ok(Some(request)) => sender.send(&request).await,
            Ok(None) => Answer::Unwanted,
            Err(error) => Answer::Refused(error.to_string()),
        },
        Way::Desktop => desktop::show(alert).await,
    }
}

impl Line {
    fn new(receiver: Receiver) -> Self {
        let outcomes = DeliveryOutcome::ALL.iter().map(|outcome| (*outcome, 0)).collect();
        Self {
            limiter: RateLimiter::direct(receiver.quota),
            receiver,
            state: Mutex::new(LineState {
                waiting: VecDeque::new(),
                refresh: None,
                delivered_at: None,
                trouble: String::new(),
                outcomes,
            }),
            wake: Notify::new(),
        }
    }

    fn status(&self) -> ReceiverStatus {
        let state = self.state();
        ReceiverStatus {
            name: self.receiver.name.clone(),
            kind: self.receiver.way.as_str().to_owned(),
            waiting: u64::try_from(state.waiting.len()).unwrap_or(u64::MAX),
            oldest: state.waiting.iter().map(|delivery| delivery.since).min(),
            delivered_at: state.delivered_at,
            trouble: state.trouble.clone(),
            outcomes: state.outcomes.clone(),
        }
    }

    fn take_out(&self, alert: &str) {
        self.state().waiting.retain(|delivery| delivery.alert.id != alert);
    }

    fn has(&self, alert: &str) -> bool {
        self.state().waiting.iter().any(|delivery| delivery.alert.id == alert)
    }

    /// What was not tried: it is still in the line, unless it was made for a refresh.
    fn put_back(&self, delivery: Delivery) {
        let mut state = self.state();
        let is_waiting = state.waiting.front().is_some_and(|first| first.alert.id == delivery.alert.id);
        if !is_waiting && state.refresh.is_none() {
            state.refresh = Some(delivery.alert);
        }
    }

    fn state(&self) -> MutexGuard<'_, LineState> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an alert a receiver wants to hear. `None`: nothing.
fn wanted(receiver: &Receiver, alert: &Alert, labels: &BTreeMap<String, Labels>) -> Option<Alert> {
    let filter = &receiver.filter;
    // Each is an alert of its own there, that people see as they wish.
    let named = if receiver.way.is_refreshed() { ALERT_STORMS_KNOWN_MAX } else { ALERT_STORMS_MAX };
    if filter.severity_min.is_some_and(|min| alert.severity < min && !alert.ends) {
        return None;
    }
    if alert.storms.is_empty() {
        return Some(alert.clone());
    }
    let none = Labels::new();
    let fits = |storm: &&AlertStorm| {
        let labels = labels.get(&storm.subject.id).unwrap_or(&none);
        filter.fits(&storm.subject.name, labels, storm.cause)
            && (alert.ends || filter.severity_min.is_none_or(|min| storm.severity >= min))
    };
    let fitting: Vec<&AlertStorm> = alert.storms.iter().filter(fits).collect();
    let over = u64::try_from(fitting.len().saturating_sub(named)).unwrap_or(u64::MAX);
    // Whether those that nobody named fit is not known.
    let left_out = if filter.is_about_all() { alert.storms_left_out.saturating_add(over) } else { over };
    let storms: Vec<AlertStorm> = fitting.into_iter().take(named).cloned().collect();
    (!storms.is_empty()).then(|| Alert {
        storms,
        storms_left_out: left_out,
        id: alert.id.clone(),
        conversation: alert.conversation.clone(),
        node: alert.node.clone(),
        title: alert.title.clone(),
        lines: alert.lines.clone(),
        next_step: alert.next_step.clone(),
        part_of: alert.part_of.clone(),
        ..*alert
    })
}

/// How long to wait after a try that failed: doubled each time, and up to a tenth more, so that the managers of a Swarm
/// and the receivers of one service do not come back together.
fn pause(delivery: &Delivery) -> Duration {
    let pause = RETRY_MIN.saturating_mul(2_u32.saturating_pow(delivery.tries.saturating_sub(1))).min(RETRY_MAX);
    let salt = fnv_64([delivery.alert.id.as_bytes(), delivery.receiver.as_bytes(), &delivery.tries.to_le_bytes()]);
    let per_mille = u32::try_from(salt % 101).unwrap_or(0);
    pause + pause / 1000 * per_mille
}
