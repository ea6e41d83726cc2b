//! Asks the daemon and its log, and hands what they say to the detector.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::listing::{Listing, Past, Services};
use super::{CLOSELY, Role, Session, State};
use crate::budget::Engine;
use crate::config::LogSource;
use crate::daemon::log_file::LogFile;
use crate::daemon::log_journal::Journal;
use crate::daemon::objects::node_of;
use crate::daemon::sensor::{is_of_interest, text_of};
use crate::docker::{self, EventFilter};
use crate::ingest::{Reading, read_line};
use crate::model::{Condition, Fact, ImageRef, Mode, Risk, ServiceFact, Subject, SubjectKind, Timestamp};

/// How far back the daemon is asked for the events that it remembers. It remembers 256.
const HISTORY: Duration = Duration::from_secs(3600);
/// How long reading the events that the daemon remembers may take, and reading the end of its log.
const PAST_LIMIT: Duration = Duration::from_secs(15);
/// How much of the end of a log file an audit reads: at a line of 300 bytes, some 28,000 lines.
const LOG_TAIL_BYTES: u64 = 8 << 20;
/// The number of the one origin that there is.
const ORIGIN: u16 = 0;
/// How many restarting containers of a plain host are inspected in one look.
const INSPECT_MAX: usize = 1000;
/// Requests of an attempt that fails to pull: `GET /v2/`, token, HEAD and GET of the manifest (moby's
/// `distribution/pull_v2.go`, since 20.10).
const REQUESTS_WORST: f64 = 4.0;
/// The shortest time between two attempts that Swarm manages, where the delay is 0.
const PERIOD_SHORTEST: Duration = Duration::from_millis(100);

impl Session {
    /// Lists everything, the first time with what the daemon and its log remember; then the history of slots tells
    /// what began before.
    pub(super) async fn sweep(&self) -> Result<(), docker::Error> {
        let epoch = self.state().sight.epoch();
        let is_first = self.state().listing.past != Past::Known;
        if !is_first {
            self.list_everything().await?;
            self.judge_what_was_seen(epoch);
            let has_lapsed = self.state().situation.take_lapse();
            if has_lapsed {
                self.close_old_storms().await;
            }
            return Ok(());
        }
        self.state().listing.past = Past::Sought;
        if let Err(error) = self.list_everything_and_past().await {
            self.state().listing.past = Past::Unknown;
            return Err(error);
        }
        // A listing of services under way has not come to all of them.
        let alone = self.services_lane.lock().await;
        self.judge_what_was_seen(epoch);
        drop(alone);
        self.close_old_storms().await;
        Ok(())
    }

    async fn list_everything_and_past(&self) -> Result<(), docker::Error> {
        self.list_everything().await?;
        self.state().listing.past = Past::Read;
        let read = self.read_past().await;
        // In the past images came that have gone since.
        self.list_images().await;
        read
    }

    async fn list_everything(&self) -> Result<(), docker::Error> {
        self.ask_again().await?;
        self.list_images().await;
        if self.role() != Role::Manager {
            return self.list_containers().await;
        }
        let mut active_nodes = 0;
        self.client
            .nodes(&mut |object| {
                self.take_object(object);
                active_nodes += u64::from(node_of(object).is_some_and(|node| node.is_active));
            })
            .await?;
        self.state().listing.active_nodes = active_nodes;
        self.list_services().await?;
        self.list_tasks().await
    }

    fn judge_what_was_seen(&self, epoch: u64) {
        let mut state = self.state();
        let now = state.clock.now();
        state.detector.advance(now);
        state.detector.judge_history(now);
        if state.listing.past != Past::Known {
            state.listing.past = Past::Known;
            state.situation.listed(now);
            if state.role == Role::Manager {
                // The log tells of services too that have been removed since.
                state.detector.end_listing();
            }
            state.detector.restate();
        }
        state.sight.swept(epoch);
    }

    /// What the node is in its Swarm, and its clock, change while the daemon runs.
    pub(super) async fn ask_again(&self) -> Result<(), docker::Error> {
        let before = Instant::now();
        let info = self.client.info().await?;
        let mut state = self.state();
        if let Some(step) = state.clock.set(&info.system_time, before, Instant::now()) {
            state.step_clock(step);
        }
        state.role = Role::of(&info);
        if !info.swarm.node_id.is_empty() {
            state.detector.place(ORIGIN, &info.swarm.node_id);
            let store = if info.uses_containerd_images() { Engine::Containerd } else { Engine::Graph };
            let is_old = Engine::of_version(&info.server_version) == Some(Engine::GraphBefore20);
            state.detector.set_store(&info.swarm.node_id, if is_old { Engine::GraphBefore20 } else { store });
        }
        state.info = info;
        Ok(())
    }

    /// What this node has need not be fetched. A daemon that does not tell is taken to have what is asked for again.
    pub(super) async fn list_images(&self) {
        let _alone = self.images_lane.lock().await;
        let began = self.state().clock.now();
        let mut images: Vec<Vec<u8>> = Vec::new();
        if self.client.images(&mut |object| images.push(object.to_vec())).await.is_err() {
            return;
        }
        self.state().detector.begin_images(ORIGIN, began);
        images.iter().for_each(|image| self.take_object(image));
    }

    pub(super) async fn list_services(&self) -> Result<(), docker::Error> {
        let _alone = self.services_lane.lock().await;
        {
            let mut state = self.state();
            let now = state.clock.now();
            state.detector.begin_listing(now);
            state.listing.under_way = Services::default();
            if let Some(response) = &mut state.response {
                response.responder.begin_listing();
            }
        }
        self.client.services(&mut |object| self.take_object(object)).await?;
        let mut state = self.state();
        let Listing { services, under_way, .. } = &mut state.listing;
        for id in std::mem::take(&mut under_way.changed) {
            under_way.labels.extend(services.labels.remove_entry(&id));
        }
        *services = std::mem::take(under_way);
        state.detector.end_listing();
        let now = state.clock.now();
        if let Some(response) = &mut state.response {
            response.responder.end_listing(now);
        }
        Ok(())
    }

    pub(super) async fn list_tasks(&self) -> Result<(), docker::Error> {
        let began = {
            let mut state = self.state();
            state.detector.begin_tasks();
            state.clock.now()
        };
        self.client.tasks(&[] as &[&str], &mut |object| self.take_object(object)).await?;
        self.state().detector.end_tasks(began);
        Ok(())
    }

    pub(super) async fn list_suspects(&self) -> Result<(), docker::Error> {
        let ids = self.suspect_ids();
        if ids.is_empty() {
            return Ok(());
        }
        self.client.tasks(&ids, &mut |object| self.take_object(object)).await?;
        Ok(())
    }

    /// Inspects the containers that wait for their next start.
    pub(super) async fn list_containers(&self) -> Result<(), docker::Error> {
        let mut restarting = Vec::new();
        self.client
            .containers(&mut |object| {
                let Ok(container) = serde_json::from_slice::<Value>(object) else { return };
                if container["State"] == "restarting"
                    && restarting.len() < INSPECT_MAX
                    && let Some(id) = container["Id"].as_str()
                {
                    restarting.push(id.to_owned());
                }
            })
            .await?;
        for id in restarting {
            match self.client.inspect_container(&id).await {
                Ok(object) => self.take_object(&object),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the daemon and its log remember, each for as long as is worth waiting for it.
    pub(super) async fn read_past(&self) -> Result<(), docker::Error> {
        // A daemon that does not end its replay has given what it has.
        if let Ok(read) = tokio::time::timeout(PAST_LIMIT, self.read_history()).await {
            read?;
        }
        let why = match tokio::time::timeout(PAST_LIMIT, self.read_log_tail()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("reading it took longer than {} s", PAST_LIMIT.as_secs()),
        };
        self.state().sight.no_log = Some(format!("{}: {why}", self.log));
        Ok(())
    }

    pub(super) async fn read_history(&self) -> Result<(), docker::Error> {
        let now = self.state().clock.now();
        let (since, until) = (now.minus(HISTORY).as_nanos(), now.as_nanos());
        let mut events = self.client.events(Some(since), Some(until), &EventFilter::storms()).await?;
        while let Some(event) = events.next().await {
            let _ = self.take_text(&text_of(&event?));
        }
        Ok(())
    }

    pub(super) async fn read_log_tail(&self) -> std::io::Result<()> {
        match &self.log {
            LogSource::Nowhere => Ok(()),
            LogSource::File(path) => {
                let mut file = LogFile::open(path, LOG_TAIL_BYTES).await?;
                file.read(&mut |line| self.take_log(line)).await.map(drop)
            }
            LogSource::Journal => {
                let mut journal = Journal::tail()?;
                while let Some(line) = journal.next().await? {
                    self.take_log(&line);
                }
                journal.end().await
            }
        }
    }

    pub(super) fn take_object(&self, object: &[u8]) {
        let _ = self.take_text(&String::from_utf8_lossy(object));
    }

    pub(super) fn take_log(&self, line: &str) {
        if is_of_interest(line) {
            let _ = self.take_text(line);
        }
    }

    /// Takes what a text says, and returns its time where it is an observation.
    pub(super) fn take_text(&self, text: &str) -> Option<Timestamp> {
        let mut state = self.state();
        match read_line(text, ORIGIN) {
            Reading::Observation(observation) => {
                state.tally.observations += 1;
                if observation.fact.is_of_its_time() {
                    state.tally.from =
                        state.tally.from.map_or(Some(observation.at), |from| Some(from.min(observation.at)));
                }
                match &observation.fact {
                    Fact::Service(service) if state.listing.under_way.changed.contains(&*service.id) => {
                        state.detector.keep_listed(&service.id);
                        return Some(observation.at);
                    }
                    Fact::Service(service) => self.note_service(service, &mut state),
                    Fact::ImageGone { .. } => state.listing.has_lost_images = true,
                    _ => {}
                }
                // A worker hears of tasks what one node hears, and cannot ask about them: its managers tell of them.
                if state.role != Role::Worker || !observation.fact.is_of_swarm() {
                    state.detector.take(&observation);
                }
                return Some(observation.at);
            }
            Reading::Skipped(reason) => state.tally.skipped.add(reason),
            Reading::Nothing | Reading::Gap(_) => {}
        }
        None
    }

    fn note_service(&self, service: &ServiceFact<'_>, state: &mut State) {
        if is_short(service, state.clock.now()) {
            let since = state.listing.services.short.get(&*service.id).copied().unwrap_or_else(Instant::now);
            state.listing.under_way.short.insert(service.id.to_string(), since);
        }
        let now = state.clock.now();
        if let Some(response) = &mut state.response {
            response.responder.see(now, service);
        }
        if !service.labels.is_empty() {
            let labels = service.labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            state.listing.under_way.labels.insert(service.id.to_string(), labels.collect());
        }
        if self.wants_risks {
            let risk = risk_of(service, state.listing.active_nodes);
            state.listing.under_way.risks.extend(risk);
        }
    }
}

/// Whether a service has fewer tasks than it should, or was changed so lately that it may not have any yet.
fn is_short(service: &ServiceFact<'_>, now: Timestamp) -> bool {
    if service.mode == Mode::Job {
        return false;
    }
    let is_new = now.since(service.updated) < CLOSELY;
    let lacks = service.running_and_desired.is_none_or(|(running, desired)| running < desired);
    is_new || lacks
}

/// What a service would cost if it failed; `None` where that is nothing to speak of.
fn risk_of(service: &ServiceFact<'_>, active_nodes: u64) -> Option<Risk> {
    let pinned = ImageRef::parse(&service.image).is_ok_and(|image| image.is_pinned());
    let restart = service.restart;
    let window_shorter_than_delay = !restart.window.is_zero() && restart.window < restart.delay;
    let limited = restart.max_attempts > 0 && !window_shorter_than_delay;
    let slots = match service.mode {
        Mode::Replicated(replicas) => replicas,
        Mode::Global => active_nodes,
        Mode::Job | Mode::Other => 1,
    };
    let is_once = restart.condition == Condition::Never;
    if pinned || limited || is_once || slots == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "slots are far below 2^52")]
    let attempts_per_min = slots as f64 * 60.0 / restart.delay.max(PERIOD_SHORTEST).as_secs_f64();
    Some(Risk {
        subject: Subject {
            kind: SubjectKind::SwarmService,
            name: service.name.to_string(),
            id: service.id.to_string(),
            stack: service.stack.as_ref().map(ToString::to_string),
        },
        image: service.image.to_string(),
        pinned,
        limited,
        window_shorter_than_delay,
        worst_requests_per_min: attempts_per_min * REQUESTS_WORST,
    })
}
