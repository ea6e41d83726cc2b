//! The thread beside the watch: it tells people, and shows what there is. Nothing that it waits for, a disk, a chat, a
//! browser, delays detection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::clock::{WallClock, wall_clock};
use super::inbox::Inbox;
use super::opened::Opened;
use super::session::{Role, Said, Session};
use crate::config::{Config, Mistakes, Serve};
use crate::model::{Check, OnClock as _, Status, Timestamp};
use crate::notify::{Content, Courier, Desk, Heard, News, Outbox, Part, Receiver, Sender, SenderError, Settings};
use crate::serve::{self, ServeError, Server};

/// The outbox, below the state directory.
pub const OUTBOX: &str = "outbox";
/// How much news besides cases may wait; what is dropped is counted.
const NEWS_MAX: usize = 1024;
/// How often it is shown how things are, while something storms and while nothing does.
const SHOWN_EVERY: Duration = Duration::from_millis(500);
const SHOWN_EVERY_AT_REST: Duration = Duration::from_secs(1);
/// Making it takes at most this part of the time.
const SHOWN_SHARE: u32 = 20;
/// How often the figures of all storms are passed on.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// How often it is seen whether a part of them was taken, so that the next one may follow.
const PART_PAUSE: Duration = Duration::from_millis(2);
/// How often Alertmanager hears what goes on: it takes what it has not heard of for five minutes for over.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How long deliveries may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// How old the oldest alert may be that waits for a receiver.
const WAITING_LATE: Duration = Duration::from_secs(900);
/// How long the desk may sleep: a clock that is set is followed within this.
const NAP_MAX: Duration = Duration::from_secs(5);
const NAP_MIN: Duration = Duration::from_millis(50);

/// Tells people, and shows what there is. See the module.
#[derive(Debug)]
pub struct Teller {
    inbox: Arc<Inbox>,
    news: mpsc::Sender<News>,
    changes: mpsc::Sender<Change>,
    dropped: Arc<AtomicU64>,
    status: watch::Sender<Arc<Status>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
    has_receivers: AtomicBool,
}

/// Other settings for the thread.
#[derive(Debug)]
struct Change {
    desk: Settings,
    receivers: Vec<Receiver>,
    /// Hears when they apply.
    done: oneshot::Sender<()>,
}

/// Why nobody can be told, or nothing shown.
#[derive(Debug, thiserror::Error)]
pub enum TellerError {
    /// A receiver, a silence or a secret is not as it should be.
    #[error(transparent)]
    Settings(#[from] Mistakes),
    /// Nothing can be sent.
    #[error(transparent)]
    Sender(#[from] SenderError),
    /// The address cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// There is no thread to be had.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the thread works with.
struct Work {
    inbox: Arc<Inbox>,
    desk: Desk,
    clock: WallClock,
    receivers: Vec<Receiver>,
    sender: Sender,
    outbox_dir: PathBuf,
    outbox: Option<Arc<Outbox>>,
    content: Content,
    trouble: Option<String>,
    dead_man: Option<(SecretString, Duration)>,
    serve: Option<serve::Settings>,
    is_default_address: bool,
    news: mpsc::Receiver<News>,
    changes: mpsc::Receiver<Change>,
    dropped: Arc<AtomicU64>,
    status: watch::Receiver<Arc<Status>>,
    stop: watch::Receiver<bool>,
}

impl Teller {
    /// Starts the thread, with what an earlier process has left in the outbox.
    ///
    /// # Errors
    /// When a secret cannot be read, or the address that was asked for cannot be served. A default address that is
    /// taken is only said, and so is an outbox that cannot be written.
    pub async fn start(config: &Config, node: &str, state_dir: &Path) -> Result<Self, TellerError> {
        let Opened { receivers, silences, dead_man, serve } = Opened::of(config).map_err(Mistakes::from)?;
        let has_receivers = !receivers.is_empty();
        let outbox_dir = state_dir.join(OUTBOX);
        // Without receivers nothing waits, and no directory is needed.
        let (outbox, trouble) = if has_receivers { open(&outbox_dir) } else { (None, None) };
        let content = outbox.as_ref().map(|outbox| outbox.load()).unwrap_or_default();
        let memory = outbox.as_ref().map(|outbox| outbox.recall()).unwrap_or_default();
        let (news_sender, news) = mpsc::channel(NEWS_MAX);
        let (change_sender, changes) = mpsc::channel(1);
        let (status_sender, status) = watch::channel(Arc::new(Status::default()));
        let (stop_sender, stop) = watch::channel(false);
        let dropped = Arc::new(AtomicU64::new(0));
        let inbox = Arc::new(Inbox::default());
        let work = Work {
            inbox: Arc::clone(&inbox),
            desk: Desk::new(config.alert.settings(node.to_owned(), silences), wall_clock(), memory),
            clock: WallClock::now(),
            receivers,
            sender: Sender::new()?,
            outbox_dir,
            outbox,
            content,
            trouble,
            dead_man,
            serve,
            is_default_address: config.serve.listen == Serve::default().listen,
            news,
            changes,
            dropped: Arc::clone(&dropped),
            status,
            stop,
        };
        let (tell, told) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("teller".to_owned()).spawn(move || {
            runtime.block_on(work.run(tell));
        })?;
        let address = told.await.unwrap_or(Ok(None))?;
        let teller = Self {
            inbox,
            news: news_sender,
            changes: change_sender,
            dropped,
            status: status_sender,
            stop: stop_sender,
            thread: Some(thread),
            address,
            has_receivers: AtomicBool::new(has_receivers),
        };
        Ok(teller)
    }

    /// Goes by other receivers, silences and times of alerts from now on; what is told goes on where it is. What is served,
    /// and the dead man, stay as they are.
    ///
    /// # Errors
    /// If a secret cannot be read; nothing is changed then.
    pub async fn reload(&self, config: &Config, node: &str) -> Result<(), Mistakes> {
        let Opened { receivers, silences, .. } = Opened::of(config).map_err(Mistakes::from)?;
        let has_receivers = !receivers.is_empty();
        let (done, is_done) = oneshot::channel();
        let change = Change { desk: config.alert.settings(node.to_owned(), silences), receivers, done };
        // A thread that has ended tells nothing any more.
        if self.changes.send(change).await.is_ok() {
            let _ = is_done.await;
        }
        self.has_receivers.store(has_receivers, Ordering::Relaxed);
        Ok(())
    }

    /// Where status page, metrics and API are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What [`Teller::follow`] shows, receivers apart.
    pub fn shown(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Passes on what a session says.
    pub fn hear(&self, said: &Said) {
        let trouble = |part, why: &str| News::Trouble { part, why: why.to_owned() };
        let news = match said {
            Said::Case(transition) => {
                if self.has_receivers() {
                    let steps = BTreeSet::from([transition.step]);
                    self.inbox.put(Heard { case: Arc::clone(&transition.case), steps });
                }
                return;
            }
            // Only the lines of watch tell these: they are no steps of a case.
            Said::Found(_) | Said::Decided(_) | Said::Settled(..) | Said::Role(_) => return,
            Said::Gap(gap) => News::Gap(gap.clone()),
            Said::Lost(why) => trouble(Part::Docker, why),
            Said::Back => News::Recovered(Part::Docker),
            Said::NoLog(why) => trouble(Part::Log, why),
            Said::Trouble(why) => trouble(Part::Listing, why),
            Said::NoJournal(why) => trouble(Part::Journal, why),
            Said::JournalBack => News::Recovered(Part::Journal),
        };
        self.pass(news);
    }

    /// Shows how a session is, for as long as it is polled.
    pub async fn follow(&self, session: &Session) {
        let mut figures_at = Instant::now();
        let (mut leads, mut sees) = (None, None);
        let mut has_listed = false;
        let mut failing = BTreeSet::new();
        let mut had_receivers = self.has_receivers();
        loop {
            let began = Instant::now();
            let has_receivers = self.has_receivers();
            if has_receivers != had_receivers {
                // While there are none, the desk hears nothing.
                (leads, sees, has_listed, had_receivers) = (None, None, false, has_receivers);
                if has_receivers {
                    self.put_cases(session);
                }
            }
            let sees_services = session.role() == Role::Manager;
            if sees != Some(sees_services) && self.pass(News::SeesServices(sees_services)) {
                // Until now its desk took no case of a service.
                if sees == Some(false) {
                    self.put_cases(session);
                }
                sees = Some(sees_services);
            }
            let leads_now = session.leads();
            // What finds no room is said again: without it nothing is ever told.
            if leads_now != leads && self.pass(News::Leads(leads_now.unwrap_or(false))) {
                leads = leads_now;
            }
            has_listed = has_listed || (session.has_listed() && self.pass(News::Listed));
            let status = session.status();
            // What fails is said as it happens; that it works again shows here only.
            let lists = status.health.checks.iter().all(|check| check.name != "sweep" || check.is_ok);
            for (part, works) in [(Part::Listing, lists), (Part::Log, session.no_log().is_none())] {
                if !works {
                    failing.insert(part);
                } else if failing.contains(&part) && self.pass(News::Recovered(part)) {
                    failing.remove(&part);
                }
            }
            let is_at_rest = status.storms.is_empty() && status.quarantines.is_empty();
            self.status.send_replace(Arc::new(status));
            if has_receivers && figures_at <= began {
                figures_at = began + FIGURES_EVERY;
                self.refresh(session, figures_at).await;
            }
            let every = if is_at_rest { SHOWN_EVERY_AT_REST } else { SHOWN_EVERY };
            tokio::time::sleep(every.max(began.elapsed().saturating_mul(SHOWN_SHARE))).await;
        }
    }

    /// Passes on all cases, for a desk that has heard of none.
    fn put_cases(&self, session: &Session) {
        session.cases().into_iter().for_each(|heard| self.inbox.put(heard));
    }

    /// Passes on the figures of all storms, a part when the one before it was taken, so that they take no room. A desk that
    /// has no time for them until `until` goes on with those that it has.
    async fn refresh(&self, session: &Session, until: Instant) {
        let mut after = None;
        while Instant::now() < until {
            if !self.inbox.is_empty() {
                tokio::time::sleep(PART_PAUSE).await;
                continue;
            }
            let (cases, next) = session.refresh(after);
            cases.into_iter().for_each(|heard| self.inbox.put(heard));
            if next.is_none() {
                return;
            }
            after = next;
        }
    }

    /// Ends the thread; what is not delivered by then is in the outbox.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It ends within the limit of its deliveries.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Whether it found room.
    fn pass(&self, news: News) -> bool {
        let is_taken = !self.has_receivers() || self.news.try_send(news).is_ok();
        if !is_taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        is_taken
    }

    fn has_receivers(&self) -> bool {
        self.has_receivers.load(Ordering::Relaxed)
    }
}

/// Opens the outbox; if it cannot be opened, says why.
fn open(dir: &Path) -> (Option<Arc<Outbox>>, Option<String>) {
    match Outbox::open(dir) {
        Ok(outbox) => (Some(Arc::new(outbox)), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

impl Work {
    async fn run(mut self, tell: oneshot::Sender<Result<Option<SocketAddr>, TellerError>>) {
        let (shown, status) = watch::channel(Arc::new(Status::default()));
        let server = match self.serve.take() {
            Some(settings) => match Server::bind(settings, status).await {
                Ok(server) => Some(server),
                Err(error) if self.is_default_address && error.is_taken() => {
                    tracing::warn!(why = %error, "no status page and no metrics: name another address in [serve]");
                    None
                }
                Err(error) => {
                    let _ = tell.send(Err(error.into()));
                    return;
                }
            },
            None => None,
        };
        let _ = tell.send(Ok(server.as_ref().map(Server::address)));
        self.say_how_the_outbox_is();
        let receivers = std::mem::take(&mut self.receivers);
        let mut courier = self.courier(receivers);
        let mut stop = self.stop.clone();
        let mut stopped = self.stop.clone();
        let is_stopped = async move {
            let _ = stopped.wait_for(|is| *is).await;
        };
        let serve = async {
            match server {
                Some(server) => server.run(is_stopped).await,
                None => std::future::pending().await,
            }
        };
        let dead_man = ping(self.dead_man.take(), self.sender.clone(), shown.subscribe());
        tokio::select! {
            _ = stop.wait_for(|is| *is) => {}
            () = self.tell_and_deliver(&mut courier, &shown) => {}
            () = serve => {}
            () = dead_man => {}
        }
        courier.flush(FLUSH_LIMIT).await;
    }

    fn say_how_the_outbox_is(&mut self) {
        if let Some(why) = self.trouble.clone() {
            tracing::error!(why, "the outbox cannot be written: alerts wait in memory");
            self.desk.hear(wall_clock(), News::Trouble { part: Part::Outbox, why });
        }
        if self.content.damaged > 0 {
            tracing::warn!(files = self.content.damaged, "alerts in the outbox cannot be read: they are set aside");
        }
    }

    /// A courier with what waits in the outbox.
    fn courier(&mut self, receivers: Vec<Receiver>) -> Courier {
        let waiting = std::mem::take(&mut self.content.waiting);
        Courier::new(receivers, self.outbox.clone(), waiting, self.sender.clone(), wall_clock)
    }

    /// Tells and delivers, and goes by other settings as they come.
    async fn tell_and_deliver(&mut self, courier: &mut Courier, shown: &watch::Sender<Arc<Status>>) {
        loop {
            let change = {
                let run = courier.run();
                tokio::pin!(run);
                let change = tokio::select! {
                    change = self.tell(courier, shown) => change,
                    () = &mut run => None,
                };
                let Some(change) = change else { return };
                courier.rest();
                // A try that takes longer is made again.
                let _ = tokio::time::timeout(FLUSH_LIMIT, run).await;
                change
            };
            self.change(change, courier);
        }
    }

    /// Goes by other settings. What waits in the outbox for a receiver that is new is delivered, as after a start.
    fn change(&mut self, change: Change, courier: &mut Courier) {
        let Change { desk, receivers, done } = change;
        let is_first = self.outbox.is_none() && self.trouble.is_none() && !receivers.is_empty();
        let heard_nothing = courier.has_no_receivers();
        if is_first {
            (self.outbox, self.trouble) = open(&self.outbox_dir);
        }
        self.content = self.outbox.as_ref().map(|outbox| outbox.load()).unwrap_or_default();
        if is_first {
            // There were no receivers: this desk has told nothing.
            let memory = self.outbox.as_ref().map(|outbox| outbox.recall()).unwrap_or_default();
            self.desk = Desk::new(desk, wall_clock(), memory);
            self.say_how_the_outbox_is();
        } else if heard_nothing {
            // What it told before may be over by now: it finds out as after a start.
            self.desk = Desk::new(desk, wall_clock(), self.desk.memory());
        } else {
            self.desk.set_settings(wall_clock(), desk);
        }
        let new = self.courier(receivers);
        let earlier = std::mem::replace(courier, new);
        courier.succeed(earlier);
        // A teller that does not wait is about to end.
        let _ = done.send(());
    }

    /// Hears news, tells alerts, and puts together what is shown; returns other settings when they come.
    async fn tell(&mut self, courier: &Courier, shown: &watch::Sender<Arc<Status>>) -> Option<Change> {
        let mut refresh_at = Instant::now() + REFRESH_EVERY;
        let mut has_trouble = courier.trouble().is_some();
        loop {
            if let Some(step) = self.clock.step() {
                self.desk.step(step);
            }
            let now = wall_clock();
            let nap = self.desk.next_deadline().map_or(NAP_MAX, |at| at.since(now)).clamp(NAP_MIN, NAP_MAX);
            tokio::select! {
                cases = self.inbox.take() => self.desk.hear(wall_clock(), News::Cases(cases)),
                news = self.news.recv() => self.desk.hear(wall_clock(), news?),
                change = self.changes.recv() => return change,
                changed = self.status.changed() => {
                    changed.ok()?;
                    let status = Arc::clone(&self.status.borrow_and_update());
                    shown.send_replace(Arc::new(self.complete(&status, courier)));
                    continue;
                }
                () = tokio::time::sleep(nap) => {}
            }
            let trouble = courier.trouble();
            if trouble.is_some() != has_trouble && self.outbox.is_some() {
                has_trouble = trouble.is_some();
                self.desk.hear(
                    wall_clock(),
                    match trouble {
                        Some(why) => News::Trouble { part: Part::Outbox, why },
                        None => News::Recovered(Part::Outbox),
                    },
                );
            }
            // Those of what is over are in no list of what storms.
            let now = wall_clock();
            let labels = if self.desk.is_due(now) { self.desk.labels() } else { BTreeMap::new() };
            let alerts = self.desk.tell(now);
            for alert in &alerts {
                courier.post(alert, &labels).await;
            }
            if self.desk.take_change() {
                self.remember().await;
            }
            if refresh_at <= Instant::now() {
                refresh_at = Instant::now() + REFRESH_EVERY;
                if let Some(alert) = self.desk.refresh(wall_clock()) {
                    courier.refresh(&alert, &self.desk.labels());
                }
            }
        }
    }

    async fn remember(&self) {
        let Some(outbox) = self.outbox.clone() else { return };
        let memory = self.desk.memory();
        let written = tokio::task::spawn_blocking(move || outbox.remember(&memory)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(why = %error, "what was told is not on disk: it may be told once more after a restart");
        }
    }

    /// The session's own account, and how alerts go.
    fn complete(&self, status: &Status, courier: &Courier) -> Status {
        let receivers = courier.status();
        let now = wall_clock();
        let oldest = receivers.iter().filter_map(|receiver| receiver.oldest).min();
        let age = oldest.map(|oldest| now.since(oldest));
        let late = receivers.iter().find(|one| one.oldest.is_some_and(|oldest| now.since(oldest) > WAITING_LATE));
        // An outbox that could not be opened is none for as long as the process lives.
        let trouble = self.trouble.clone().or_else(|| courier.trouble());
        let is_ok = late.is_none() && trouble.is_none();
        let detail = match (trouble, late) {
            (Some(why), _) => why,
            (None, Some(late)) => format!("{} has not taken an alert for 15 min: {}", late.name, late.trouble),
            (None, None) => "alerts get out".to_owned(),
        };
        let mut status = Status { receivers, ..status.clone() };
        if !status.receivers.is_empty() {
            let age_secs = age.map(|age| age.as_secs_f64());
            status.health.checks.push(Check { name: "outbox".to_owned(), is_ok, detail, age_secs });
            status.health.is_ready &= is_ok;
        }
        status.totals.news_dropped = self.dropped.load(Ordering::Relaxed);
        status
    }
}

/// Asks a URL as long as squall is ready: whoever waits for it notices when it is not asked any more.
async fn ping(dead_man: Option<(SecretString, Duration)>, sender: Sender, status: watch::Receiver<Arc<Status>>) {
    let Some((url, every)) = dead_man else { return std::future::pending().await };
    let mut said = None;
    loop {
        tokio::time::sleep(every).await;
        let (is_ready, at) = {
            let status = status.borrow();
            (status.health.is_ready, status.at)
        };
        let is_fresh = wall_clock().since(at) < Duration::from_secs(30) && at > Timestamp::default();
        if !(is_ready && is_fresh) {
            continue;
        }
        let trouble = sender.ping(url.expose_secret()).await.err();
        if trouble != said {
            match &trouble {
                Some(why) => tracing::error!(why, "the dead man's URL cannot be asked"),
                None => tracing::info!("the dead man's URL is asked"),
            }
            said = trouble;
        }
    }
}
