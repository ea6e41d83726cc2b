use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::clock::{DaemonClock, wall_clock};
use super::log_file::LogFile;
use super::log_journal::Journal;
use super::plan::{Plan, Task, suspects_every};
use super::sensor::{Sensors, Wake, is_of_interest, text_of};
use crate::config::{Config, LogSource};
use crate::detect::Detector;
use crate::docker::{self, Client, Endpoint, EventFilter, FollowItem, Info, Surroundings};
use crate::ingest::{Reading, read_line};
use crate::model::{
    Condition, Fact, Gap, ImageRef, Mode, Notice, OriginReport, REPORT_SCHEMA, Report, Risk, ServiceFact, Skipped,
    Span, StormState, Subject, SubjectKind, Timestamp,
};

/// How long after its end an attempt is judged: an `oom` event and the log's line come within milliseconds, and what
/// comes later still corrects the cause.
const SLACK: Duration = Duration::from_millis(300);
/// How far back the daemon is asked for the events that it remembers. It remembers 256.
const HISTORY: Duration = Duration::from_secs(3600);
/// How long reading the events that the daemon remembers may take, and reading the end of its log.
const PAST_LIMIT: Duration = Duration::from_secs(15);
/// How often a node that is no manager is asked whether it has become one.
const ROLE_EVERY: Duration = Duration::from_secs(10);
/// How often time passes for the detector while a listing takes long.
const TICK: Duration = Duration::from_millis(500);
/// How much of the end of a log file an audit reads: at a line of 300 bytes, some 28,000 lines.
const LOG_TAIL_BYTES: u64 = 8 << 20;
/// How long a service that has fewer tasks than it should is watched closely, when none of them has failed.
const CLOSELY: Duration = Duration::from_secs(30);
/// How long ago a failure may be for its service to be a suspect.
const SUSPECT_FOR: Duration = Duration::from_secs(120);
/// How many restarting containers of a plain host are inspected in one look.
const INSPECT_MAX: usize = 1000;
/// How many gaps are kept for the report; the oldest go first.
const GAPS_MAX: usize = 1000;
/// Requests of an attempt that fails to pull: `GET /v2/`, token, HEAD and GET of the manifest (moby's
/// `distribution/pull_v2.go`, since 20.10).
const REQUESTS_WORST: f64 = 4.0;
/// The shortest time between two attempts that Swarm manages, where the delay is 0.
const PERIOD_SHORTEST: Duration = Duration::from_millis(100);

/// What this node is in its Swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sees every service and task.
    Manager,
    /// It sees its own containers only.
    Worker,
    /// There is no Swarm.
    Plain,
}

/// What a session has to say as it happens.
#[derive(Clone, Debug)]
pub enum Said {
    /// What the detector found.
    Notice(Notice),
    /// A span that cannot be vouched for.
    Gap(Gap),
    /// The daemon cannot be reached, and why; said once per change.
    Lost(String),
    /// It can be reached again.
    Back,
    /// dockerd's log cannot be read, and why; said once per change.
    NoLog(String),
    /// A listing failed, and why; said once per change.
    Trouble(String),
}

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No daemon could be named.
    #[error(transparent)]
    Endpoint(#[from] docker::EndpointError),
    /// The daemon could not be asked.
    #[error(transparent)]
    Docker(#[from] docker::Error),
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    detector: Detector,
    clock: DaemonClock,
    role: Role,
    skipped: Skipped,
    observations: u64,
    gaps: Vec<Gap>,
    from: Option<Timestamp>,
    /// Services with fewer tasks than they should have, and since when.
    short: BTreeMap<String, Instant>,
    risks: Vec<Risk>,
    active_nodes: u64,
    /// What was before the session has been read.
    has_past: bool,
    lost: Option<String>,
    no_log: Option<String>,
    trouble: BTreeMap<Task, String>,
    /// Nothing has been listed since the daemon was lost: nobody looks.
    is_stale: bool,
}

impl Session {
    /// Connects to the daemon that the settings name, or else to the one that the docker command would.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked.
    pub async fn connect(config: &Config, wants_risks: bool) -> Result<Self, SessionError> {
        let env = |name: &str| std::env::var(name).ok();
        let surroundings = Surroundings::new(&env, config.docker.host.clone(), config.docker.context.clone());
        let client = Client::connect(&Endpoint::resolve(&surroundings)?).await?;
        let settings = crate::detect::Settings { slack: SLACK, ..config.detector() };
        let before = wall_clock();
        let info = client.info().await?;
        let mut clock = DaemonClock::default();
        clock.set(&info.system_time, before, wall_clock());
        let role = role_of(&info);
        let state = State {
            detector: Detector::new(settings),
            clock,
            role,
            skipped: Skipped::default(),
            observations: 0,
            gaps: Vec::new(),
            from: None,
            short: BTreeMap::new(),
            risks: Vec::new(),
            active_nodes: 0,
            has_past: false,
            lost: None,
            no_log: None,
            trouble: BTreeMap::new(),
            is_stale: true,
        };
        Ok(Self {
            log: usable_log(&config.log.source, &client),
            client,
            info,
            services_every: config.watch.services_every.0,
            sweep_every: config.watch.sweep_every.0,
            wants_risks,
            state: Mutex::new(state),
        })
    }

    /// What this node is in its Swarm.
    pub fn role(&self) -> Role {
        self.state().role
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
        if let Some(why) = self.state().no_log.clone() {
            say(Said::NoLog(why));
        }
        Ok(())
    }

    /// Watches until `until`, or for ever.
    pub async fn run(&self, until: Option<Instant>, say: &mut (dyn FnMut(Said) + Send)) {
        let mut sensors = Sensors::start(&self.client, &self.log);
        let mut plan = Plan::new(self.services_every, self.sweep_every, Instant::now());
        loop {
            let (at, task) = plan.next();
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                wake = sensors.next() => match wake {
                    Some(wake) => self.handle(wake, &mut plan, say),
                    None => break,
                },
                () = tokio::time::sleep_until(at) => {
                    if self.carry_out(task, &mut plan, &mut sensors, until, say).await.is_none() {
                        break;
                    }
                }
                () = sleep_until(deadline) => {}
            }
            self.note_dropped(&sensors, say);
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
        let origin = OriginReport {
            id: self.info.name.clone(),
            engine: Some(self.info.server_version.clone()).filter(|version| !version.is_empty()),
            observations: state.observations,
            gaps: state.gaps.clone(),
        };
        let mut risks = state.risks.clone();
        risks.sort_by(|a, b| {
            b.worst_requests_per_min.total_cmp(&a.worst_requests_per_min).then_with(|| a.subject.cmp(&b.subject))
        });
        Report {
            schema: REPORT_SCHEMA,
            span: state.from.map(|from| Span { from, to: now }),
            origins: vec![origin],
            storms: state.detector.storms().into_iter().filter(|storm| storm.state == StormState::Ongoing).collect(),
            findings: state.detector.findings(now),
            risks: self.wants_risks.then_some(risks),
            calm: state.detector.calm(),
            forgotten: counters.subjects_forgotten,
            skipped: state.skipped.clone(),
        }
    }

    /// Does one task of the plan while events are taken in; `None` when the time is up or the readers have ended.
    async fn carry_out(
        &self,
        task: Task,
        plan: &mut Plan,
        sensors: &mut Sensors,
        until: Option<Instant>,
        say: &mut (dyn FnMut(Said) + Send),
    ) -> Option<()> {
        let (started, role) = (Instant::now(), self.role());
        let result = {
            let work = self.perform(task);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    biased;
                    () = sleep_until(until) => return None,
                    result = &mut work => break result,
                    wake = sensors.next() => self.handle(wake?, plan, say),
                    () = tokio::time::sleep(TICK) => {}
                }
                self.pass_time(plan, say);
            }
        };
        let now = Instant::now();
        match result {
            Ok(()) => {
                plan.done(task, now, now - started);
                self.state().trouble.remove(&task);
                if self.role() != role {
                    plan.resync(now);
                } else if task == Task::Services && role != Role::Manager {
                    plan.rest_services(ROLE_EVERY, now);
                }
            }
            Err(error) => {
                plan.failed(task, now);
                let text = error.to_string();
                let mut state = self.state();
                state.is_stale |= task == Task::Sweep;
                let is_news = state.trouble.insert(task, text.clone()).as_ref() != Some(&text);
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
        Some(())
    }

    async fn perform(&self, task: Task) -> Result<(), docker::Error> {
        match task {
            Task::Services if self.role() == Role::Manager => self.list_services().await,
            // It may become a manager.
            Task::Services => self.ask_again().await,
            Task::Suspects => self.list_suspects().await,
            Task::Sweep => self.sweep().await,
        }
    }

    /// Lists everything, the first time with what the daemon and its log remember; then the history of slots tells
    /// what began before.
    async fn sweep(&self) -> Result<(), docker::Error> {
        self.ask_again().await?;
        if self.role() == Role::Manager {
            self.state().active_nodes = 0;
            self.client.nodes(&mut |object| self.take_object(object)).await?;
            self.list_services().await?;
            self.list_tasks().await?;
        } else {
            self.list_containers().await?;
        }
        let has_past = self.state().has_past;
        if !has_past {
            self.read_past().await?;
        }
        let mut state = self.state();
        let now = state.clock.now();
        state.detector.advance(now);
        state.detector.judge_history(now);
        if !has_past {
            state.has_past = true;
            if state.role == Role::Manager {
                // The log tells of services too that have been removed since.
                state.detector.end_listing();
            }
            state.detector.restate();
        }
        state.is_stale = false;
        Ok(())
    }

    /// What the node is in its Swarm, and its clock, change while the daemon runs.
    async fn ask_again(&self) -> Result<(), docker::Error> {
        let before = wall_clock();
        let info = self.client.info().await?;
        let mut state = self.state();
        state.clock.set(&info.system_time, before, wall_clock());
        state.role = role_of(&info);
        Ok(())
    }

    async fn list_services(&self) -> Result<(), docker::Error> {
        if self.wants_risks {
            self.state().risks.clear();
        }
        {
            let mut state = self.state();
            let now = state.clock.now();
            state.detector.begin_listing(now);
        }
        let mut seen = BTreeSet::new();
        self.client.services(&mut |object| self.take_service(object, &mut seen)).await?;
        let mut state = self.state();
        state.short.retain(|id, _| seen.contains(id));
        state.detector.end_listing();
        Ok(())
    }

    async fn list_tasks(&self) -> Result<(), docker::Error> {
        let began = {
            let mut state = self.state();
            state.detector.begin_tasks();
            state.clock.now()
        };
        self.client.tasks(&[] as &[&str], &mut |object| self.take_object(object)).await?;
        self.state().detector.end_tasks(began);
        Ok(())
    }

    async fn list_suspects(&self) -> Result<(), docker::Error> {
        let ids = self.suspect_ids();
        if ids.is_empty() {
            return Ok(());
        }
        self.client.tasks(&ids, &mut |object| self.take_object(object)).await?;
        Ok(())
    }

    /// Inspects the containers that wait for their next start.
    async fn list_containers(&self) -> Result<(), docker::Error> {
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
    async fn read_past(&self) -> Result<(), docker::Error> {
        // A daemon that does not end its replay has given what it has.
        if let Ok(read) = tokio::time::timeout(PAST_LIMIT, self.read_history()).await {
            read?;
        }
        let why = match tokio::time::timeout(PAST_LIMIT, self.read_log_tail()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("reading it took longer than {} s", PAST_LIMIT.as_secs()),
        };
        self.state().no_log = Some(format!("{}: {why}", self.log));
        Ok(())
    }

    async fn read_history(&self) -> Result<(), docker::Error> {
        let now = self.state().clock.now();
        let (since, until) = (now.minus(HISTORY).as_nanos(), now.as_nanos());
        let mut events = self.client.events(Some(since), Some(until), &EventFilter::storms()).await?;
        while let Some(event) = events.next().await {
            self.take_text(&text_of(&event?));
        }
        Ok(())
    }

    async fn read_log_tail(&self) -> std::io::Result<()> {
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

    fn handle(&self, wake: Wake, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        match wake {
            Wake::Log(line) => {
                self.state().no_log = None;
                self.take_text(&line);
            }
            Wake::NoLog(why) => self.say_no_log(why, say),
            Wake::Docker(FollowItem::Event(event)) => self.take_text(&text_of(&event)),
            Wake::Docker(FollowItem::Connected { .. }) => self.note_back(plan, say),
            Wake::Docker(FollowItem::Lost { error, .. }) => {
                let text = error.to_string();
                let is_news = self.state().lost.is_none();
                if is_news {
                    self.state().is_stale = true;
                    self.state().lost = Some(text.clone());
                    say(Said::Lost(text));
                }
            }
            Wake::Docker(FollowItem::Gap { from_nanos, to_nanos, why }) => {
                let (from, to) = (Timestamp::from_nanos(from_nanos), Timestamp::from_nanos(to_nanos));
                self.note_gap(Gap { from, to, why: why.as_str().to_owned() }, say);
            }
        }
    }

    fn note_back(&self, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        let was_lost = self.state().lost.take().is_some();
        if was_lost {
            plan.resync(Instant::now());
            say(Said::Back);
        }
    }

    fn note_dropped(&self, sensors: &Sensors, say: &mut (dyn FnMut(Said) + Send)) {
        let dropped = sensors.take_dropped();
        if dropped > 0 {
            let now = self.state().clock.now();
            let why = format!("squall fell behind: {dropped} events were dropped");
            self.note_gap(Gap { from: now, to: now, why }, say);
        }
    }

    fn note_gap(&self, gap: Gap, say: &mut (dyn FnMut(Said) + Send)) {
        let mut state = self.state();
        if state.gaps.len() >= GAPS_MAX {
            state.gaps.remove(0);
        }
        state.gaps.push(gap.clone());
        drop(state);
        say(Said::Gap(gap));
    }

    fn say_no_log(&self, why: String, say: &mut (dyn FnMut(Said) + Send)) {
        let is_news = self.state().no_log.as_ref() != Some(&why);
        if is_news {
            self.state().no_log = Some(why.clone());
            say(Said::NoLog(why));
        }
    }

    /// Lets the detector's time pass, says what it found, and plans the next look at suspects.
    fn pass_time(&self, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        let mut state = self.state();
        let now = state.clock.now();
        if state.is_stale {
            state.detector.blind(now);
        }
        state.detector.advance(now);
        let notices: Vec<Notice> = state.detector.drain().collect();
        drop(state);
        for notice in notices {
            say(Said::Notice(notice));
        }
        let now = Instant::now();
        if plan.wants_review(now) {
            plan.suspect(self.suspects_every(), now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let state = self.state();
        let deadline = state.detector.next_deadline()?;
        Some(Instant::now() + deadline.since(state.clock.now()).max(Duration::from_millis(10)))
    }

    fn suspects_every(&self) -> Option<Duration> {
        if self.role() != Role::Manager {
            return None;
        }
        let state = self.state();
        let since = state.clock.now().minus(SUSPECT_FOR);
        let has_short = state.short.values().any(|since| since.elapsed() < CLOSELY);
        suspects_every(&state.detector.suspects(since), has_short)
    }

    fn suspect_ids(&self) -> Vec<String> {
        let state = self.state();
        let since = state.clock.now().minus(SUSPECT_FOR);
        let failing = state.detector.suspects(since).into_iter().map(|suspect| suspect.service_id);
        let short = state.short.iter().filter(|(_, since)| since.elapsed() < CLOSELY).map(|(id, _)| id.clone());
        failing.chain(short).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn take_object(&self, object: &[u8]) {
        self.take_text(&String::from_utf8_lossy(object));
    }

    fn take_log(&self, line: &str) {
        if is_of_interest(line) {
            self.take_text(line);
        }
    }

    fn take_text(&self, text: &str) {
        let mut state = self.state();
        match read_line(text, 0) {
            Reading::Observation(observation) => {
                state.observations += 1;
                state.from = state.from.map_or(Some(observation.at), |from| Some(from.min(observation.at)));
                if let Fact::Node(node) = &observation.fact {
                    state.active_nodes += u64::from(node.is_active);
                }
                state.detector.take(&observation);
            }
            Reading::Skipped(reason) => state.skipped.add(reason),
            Reading::Nothing | Reading::Gap(_) => {}
        }
    }

    fn take_service(&self, object: &[u8], seen: &mut BTreeSet<String>) {
        let text = String::from_utf8_lossy(object);
        self.take_text(&text);
        let Reading::Observation(observation) = read_line(&text, 0) else { return };
        let Fact::Service(service) = &observation.fact else { return };
        let mut state = self.state();
        let now = state.clock.now();
        if is_short(service, now) {
            seen.insert(service.id.to_string());
            state.short.entry(service.id.to_string()).or_insert_with(Instant::now);
        }
        if self.wants_risks {
            let risk = risk_of(service, state.active_nodes);
            state.risks.extend(risk);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // One task uses it, so it is never poisoned while anybody looks on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn role_of(info: &Info) -> Role {
    match (info.swarm.control_available, &*info.swarm.local_node_state) {
        (true, _) => Role::Manager,
        (false, "" | "inactive") => Role::Plain,
        (false, _) => Role::Worker,
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

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
