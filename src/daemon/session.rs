//! A detector that is fed by a live Docker: the one loop over all that can wake it.

mod cases;
mod gaps;
mod listing;
mod look;
mod respond;
mod response;
mod role;
mod said;
mod show;
mod sight;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use listing::{Listing, Past};
use response::Response;
pub use role::Role;
pub use said::Said;
use sight::Sight;
use tokio::time::Instant;

use super::clock::{DaemonClock, sleep_until};
use super::opened::{SessionError, client_of};
use super::plan::{Plan, Task, suspects_every};
use super::purse::Purse;
use super::sensor::{Sensors, Wake, text_of};
use super::supervisor::Supervisor;
use super::tally::Tally;
use crate::config::{Config, LogSource};
use crate::detect::Detector;
use crate::docker::{self, Client, FollowItem, Info};
use crate::journal::Journal;
use crate::model::{
    Gap, Notice, OriginReport, REPORT_SCHEMA, Report, Span, Storm, StormState, SubjectKind, Timestamp, on_clock,
};
use crate::situation::Situation;

/// How long after its end an attempt is judged: an `oom` event and the log's line come within milliseconds, and what
/// comes later still corrects the cause.
const SLACK: Duration = Duration::from_millis(300);
/// How often a node that is no manager is asked whether it has become one.
const ROLE_EVERY: Duration = Duration::from_secs(10);
/// How often time passes for the detector while a listing takes long.
const TICK: Duration = Duration::from_millis(500);
/// How long a service that has fewer tasks than it should is watched closely, when none of them has failed.
const CLOSELY: Duration = Duration::from_secs(30);
/// How long ago a failure may be for its service to be a suspect.
const SUSPECT_FOR: Duration = Duration::from_secs(120);
/// How far back history is shown.
const DAY: Duration = Duration::from_secs(86_400);
/// How many notices are taken from the detector at a time: a storm's has 1.5 KB.
const NOTICES_AT_ONCE: usize = 250;

/// A task of the plan that was done.
struct Done {
    task: Task,
    began: Instant,
    /// What the node was when it began.
    role: Role,
    result: Result<(), docker::Error>,
}

/// A detector that is fed by a live Docker.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// As it was at the start: what the node is called and runs.
    info: Info,
    log: LogSource,
    services_every: Duration,
    sweep_every: Duration,
    wants_risks: bool,
    /// Of services, and of images, there is one listing at a time: what one of them has not is gone.
    services_lane: tokio::sync::Mutex<()>,
    images_lane: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    detector: Detector,
    situation: Situation,
    /// There for the daemon; a look answers nothing.
    response: Option<Response>,
    /// There for the daemon; a look keeps no count of budgets.
    purse: Option<Purse>,
    /// There for the daemon; nobody waits for a look.
    supervisor: Option<Supervisor>,
    /// The daemon's description, as it was asked for last.
    info: Info,
    clock: DaemonClock,
    role: Role,
    /// The role that was said last.
    role_said: Role,
    sight: Sight,
    listing: Listing,
    tally: Tally,
}

on_clock!(State { detector, situation, response, sight, tally } rest {
    purse, supervisor, info, clock, role, role_said, listing,
});

impl Session {
    /// Connects to the daemon that the settings name, or else to the one that the docker command would.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked.
    pub async fn connect(config: &Config, wants_risks: bool) -> Result<Self, SessionError> {
        let client = client_of(config)?;
        client.negotiate().await?;
        let settings = crate::detect::Settings { slack: SLACK, ..config.detector() };
        let before = Instant::now();
        let info = client.info().await?;
        let mut clock = DaemonClock::default();
        // The first answer is no step.
        let _ = clock.set(&info.system_time, before, Instant::now());
        let role = Role::of(&info);
        let state = State {
            situation: Situation::new(settings.hold_down_min),
            detector: Detector::new(settings),
            response: None,
            purse: None,
            supervisor: None,
            info: info.clone(),
            clock,
            role,
            role_said: role,
            sight: Sight::default(),
            listing: Listing::default(),
            tally: Tally::new(),
        };
        Ok(Self {
            log: usable_log(&config.log.source, &client),
            client,
            info,
            services_every: config.watch.services_every.0,
            sweep_every: config.watch.sweep_every.0,
            wants_risks,
            services_lane: tokio::sync::Mutex::default(),
            images_lane: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
        })
    }

    /// Answers storms from now on, and keeps history in this journal.
    pub async fn respond_to_storms(&self, settings: crate::respond::Settings, journal: Journal) {
        let now = self.state().clock.now();
        let past = journal.attempts_since(now.minus(DAY)).await;
        let open = journal.open_storms().await;
        let response = Response::new(settings, journal, now).await;
        let mut state = self.state();
        past.into_iter().for_each(|(minute, attempts, failed)| state.tally.past(minute, attempts, failed));
        state.detector.count_by_minute(now);
        state.situation.recall(open);
        state.response = Some(response);
    }

    /// Asks registries for their budgets from now on, and knows what was spent of them before.
    pub async fn meter_budgets(&self, config: &Config, journal: &Journal) {
        let now = self.state().clock.now();
        let since = now.minus(DAY);
        let pulls = journal.pulls_since(since).await;
        let readings = journal.readings(Span { from: since, to: now }).await;
        let mut state = self.state();
        let meter = state.detector.meter_mut();
        pulls.into_iter().for_each(|(minute, registry, pulls, requests)| meter.add(minute, &registry, pulls, requests));
        let purse = Purse::start(config, &readings);
        readings.into_iter().for_each(|reading| meter.read(reading));
        state.purse = Some(purse);
    }

    /// Goes by other settings for responses and registries from now on; what registries have answered is kept.
    pub async fn reload(&self, config: &Config, journal: &Journal) {
        let now = self.state().clock.now();
        let readings = journal.readings(Span { from: now.minus(DAY), to: now }).await;
        let mut state = self.state();
        if let Some(response) = &mut state.response {
            response.responder.set_settings(now, config.respond.settings());
        }
        state.detector.set_registries(config.registries());
        state.purse = Some(Purse::start(config, &readings));
    }

    /// Tells the service manager from now on, where there is one, that it looks and that its loop turns over.
    pub fn tell_supervisor(&self) {
        self.state().supervisor = Some(Supervisor::of_environment());
    }

    /// What this node is in its Swarm.
    pub fn role(&self) -> Role {
        self.state().role
    }

    /// The storm of a subject, as it is now.
    pub fn storm(&self, kind: SubjectKind, id: &str) -> Option<Storm> {
        self.state().detector.storm(kind, id)
    }

    /// The daemon's description.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The client, for whoever asks for more.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where dockerd's log is read from; [`LogSource::Nowhere`] too where the journal is not this daemon's.
    pub fn log(&self) -> &LogSource {
        &self.log
    }

    /// Looks once: lists everything, reads the events that the daemon remembers and the end of its log.
    ///
    /// # Errors
    /// When a listing fails.
    pub async fn look(&self, say: &mut (dyn FnMut(Said) + Send)) -> Result<(), SessionError> {
        self.sweep().await?;
        if let Some(why) = self.state().sight.no_log.clone() {
            say(Said::NoLog(why));
        }
        Ok(())
    }

    /// Watches until `until`, or for ever.
    pub async fn run(&self, until: Option<Instant>, say: &mut (dyn FnMut(Said) + Send)) {
        let mut sensors = Sensors::start(&self.client, &self.log);
        let mut plan = Plan::new(self.services_every, self.sweep_every, Instant::now());
        let mut lanes = FuturesUnordered::new();
        loop {
            let next = plan.next();
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                Some(done) = lanes.next() => self.conclude(done, &mut plan, say),
                () = sleep_until(next.map(|(at, _)| at)) => {
                    if let Some((_, task)) = next {
                        plan.begin(task);
                        lanes.push(self.carry_out(task));
                    }
                }
                wake = sensors.next() => match wake {
                    Some(wake) => self.handle(wake, &mut plan, say),
                    None => break,
                },
                () = sleep_until(deadline) => {}
                () = tokio::time::sleep(TICK), if !lanes.is_empty() => {}
            }
            self.note_dropped(&sensors, &mut plan);
            self.pass_time(&mut plan, say);
        }
    }

    /// Judges what is left, for a report.
    pub fn finish(&self) {
        let mut state = self.state();
        let now = state.clock.now();
        state.detector.finish(now);
        state.detector.drain().for_each(drop);
    }

    /// What is the matter now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let now = state.clock.now();
        let counters = state.detector.counters();
        let mut gaps: Vec<Gap> = state.sight.gaps(now).collect();
        gaps.reverse();
        let origin = OriginReport {
            id: self.info.name.clone(),
            engine: Some(self.info.server_version.clone()).filter(|version| !version.is_empty()),
            observations: state.tally.observations,
            gaps,
        };
        let mut risks = state.listing.services.risks.clone();
        let length = state.tally.from.map_or(Duration::ZERO, |from| now.since(from));
        let mut spenders = state.detector.spenders();
        spenders.iter_mut().for_each(|spender| spender.spend = spender.spend.over(length));
        risks.sort_by(|a, b| {
            b.worst_requests_per_min.total_cmp(&a.worst_requests_per_min).then_with(|| a.subject.cmp(&b.subject))
        });
        Report {
            schema: REPORT_SCHEMA,
            span: state.tally.from.map(|from| Span { from, to: now }),
            origins: vec![origin],
            storms: state.detector.storms().into_iter().filter(|storm| storm.state != StormState::Subsided).collect(),
            findings: state.detector.findings(now),
            risks: self.wants_risks.then_some(risks),
            registries: state.detector.registries(),
            spend: spenders,
            calm: state.detector.calm(),
            forgotten: counters.subjects_forgotten,
            skipped: state.tally.skipped.clone(),
        }
    }

    /// Does one task of the plan, beside others and while events are taken in.
    async fn carry_out(&self, task: Task) -> Done {
        let (began, role) = (Instant::now(), self.role());
        Done { task, began, role, result: self.perform(task).await }
    }

    /// Draws the conclusions from a task that was done.
    fn conclude(&self, done: Done, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        let Done { task, began, role, result } = done;
        let now = Instant::now();
        if let Some(role) = self.state().take_role() {
            say(Said::Role(role));
        }
        if task == Task::Sweep
            && let Some(supervisor) = &mut self.state().supervisor
        {
            supervisor.ready();
        }
        match result {
            Ok(()) => {
                plan.done(task, now, now - began);
                if task == Task::Sweep {
                    let mut state = self.state();
                    state.tally.sweep(now - began);
                    state.listing.swept = Some(now);
                    if state.sight.wants_sweep() {
                        // Sight was lost again while it ran.
                        plan.resync_sweep(now);
                    }
                }
                self.state().sight.trouble.remove(&task);
                if self.role() != role {
                    plan.resync(now);
                } else if task == Task::Services && role != Role::Manager {
                    plan.rest_services(ROLE_EVERY, now);
                }
            }
            Err(error) => {
                plan.failed(task, now);
                let text = error.to_string();
                if matches!(task, Task::Services | Task::Sweep) {
                    self.note_unlisted(plan);
                }
                let mut state = self.state();
                state.sight.is_fresh &= task != Task::Sweep;
                let is_news = state.sight.trouble.insert(task, text.clone()).as_ref() != Some(&text);
                drop(state);
                if is_news {
                    plan.resync_sweep(now);
                    say(Said::Trouble(text));
                }
            }
        }
        if task == Task::Suspects {
            let every = self.suspects_every();
            plan.rest_suspects(every.unwrap_or_default(), now);
        }
    }

    async fn perform(&self, task: Task) -> Result<(), docker::Error> {
        match task {
            Task::Services if self.role() == Role::Manager => self.list_services().await,
            // It may become a manager.
            Task::Services => self.ask_again().await,
            Task::Suspects => self.list_suspects().await,
            Task::Sweep => self.sweep().await,
            Task::Images => {
                self.list_images().await;
                Ok(())
            }
            Task::Respond => self.respond().await,
        }
    }

    fn handle(&self, wake: Wake, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        match wake {
            Wake::Log(line) => {
                self.state().sight.no_log = None;
                let _ = self.take_text(&line);
            }
            Wake::NoLog(why) => self.say_no_log(why, say),
            Wake::Docker(FollowItem::Event(event)) => {
                let at = self.take_text(&text_of(&event));
                if std::mem::take(&mut self.state().listing.has_lost_images) {
                    plan.see_images(Instant::now());
                }
                at.into_iter().for_each(|at| self.note_event(at, plan));
            }
            Wake::Docker(FollowItem::Connected { is_in_doubt, .. }) => self.note_back(is_in_doubt, plan, say),
            Wake::Docker(FollowItem::Lost { error, .. }) => self.note_lost(error.to_string(), say),
            Wake::Docker(FollowItem::Vouched) => self.note_doubt_over(None),
            Wake::Docker(FollowItem::Gap { from_nanos, why, .. }) => {
                self.note_doubt_over(Some((Timestamp::from_nanos(from_nanos), why.as_str())));
            }
        }
    }

    fn note_event(&self, at: Timestamp, plan: &mut Plan) {
        let mut state = self.state();
        if state.clock.is_doubted_by(at) {
            plan.resync(Instant::now());
        }
        state.tally.event_lag = Some(state.clock.now().since(at));
        state.sight.event_at = Some(at);
    }

    fn say_no_log(&self, why: String, say: &mut (dyn FnMut(Said) + Send)) {
        let is_news = self.state().sight.no_log.as_ref() != Some(&why);
        if is_news {
            self.state().sight.no_log = Some(why.clone());
            say(Said::NoLog(why));
        }
    }

    /// Lets the detector's time pass, says what it found, and plans the next look at suspects.
    fn pass_time(&self, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        let mut state = self.state();
        if state.clock.is_in_doubt() {
            plan.resync(Instant::now());
        }
        // Before all else: the loop turns over while it reads what was before it, too.
        state.supervisor.iter_mut().for_each(Supervisor::turn);
        let past = state.listing.past;
        if past == Past::Read {
            return;
        }
        let now = state.clock.now();
        if !state.sight.is_fresh {
            state.detector.blind(now);
        }
        state.detector.advance(now);
        drop(state);
        self.note_gap_over(say);
        // Part by part, so that thousands of storms that begin at once take little room.
        for part in 0.. {
            let notices: Vec<Notice> = self.state().detector.drain().take(NOTICES_AT_ONCE).collect();
            let is_last = notices.len() < NOTICES_AT_ONCE;
            self.note(now, notices, part > 0).into_iter().for_each(&mut *say);
            if is_last {
                break;
            }
        }
        for said in self.said_meanwhile() {
            say(said);
        }
        if past != Past::Known {
            // The first sweep tells more of it in a moment.
            return;
        }
        plan.respond(self.next_response());
        let now = Instant::now();
        if plan.wants_review(now) {
            plan.suspect(self.suspects_every(), now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let state = self.state();
        let judgement = state
            .detector
            .next_deadline()
            .into_iter()
            .chain(state.situation.next_deadline())
            .min()
            .map(|deadline| Instant::now() + deadline.since(state.clock.now()).max(Duration::from_millis(10)));
        let sign_of_life = state.supervisor.as_ref().and_then(Supervisor::next);
        judgement.into_iter().chain(sign_of_life).min()
    }

    fn next_response(&self) -> Option<Instant> {
        let state = self.state();
        state.response.as_ref()?.next(state.clock.now())
    }

    fn suspects_every(&self) -> Option<Duration> {
        if self.role() != Role::Manager {
            return None;
        }
        let state = self.state();
        let since = state.clock.now().minus(SUSPECT_FOR);
        let has_short = state.listing.services.short.values().any(|since| since.elapsed() < CLOSELY);
        suspects_every(state.detector.suspects(since), has_short)
    }

    fn suspect_ids(&self) -> Vec<String> {
        let state = self.state();
        let since = state.clock.now().minus(SUSPECT_FOR);
        let failing = state.detector.suspects(since).map(|suspect| suspect.service_id.to_owned());
        let short = state
            .listing
            .services
            .short
            .iter()
            .filter(|(_, since)| since.elapsed() < CLOSELY)
            .map(|(id, _)| id.clone());
        failing.chain(short).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // One thread uses it, so it is never poisoned while anybody looks on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal holds the log of this machine's dockerd: of the one that listens at Docker's own socket.
fn usable_log(source: &LogSource, client: &Client) -> LogSource {
    let is_standard = client.endpoint().socket().is_some_and(|socket| {
        let path = socket.to_string_lossy();
        matches!(&*path, "/var/run/docker.sock" | "/run/docker.sock")
    });
    match source {
        LogSource::Journal if !is_standard => LogSource::Nowhere,
        source => source.clone(),
    }
}
