use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use super::args::{Watch as Command, WatchFormat};
use super::exit::Exit;
use super::live;
use super::reload::{Reload, say_acting, settings};
use super::render::printable;
use crate::config::LogSource;
use crate::daemon::{Role, Said, Teller, await_docker, describe, stopping, wall_clock};
use crate::journal::Journal;
use crate::model::{
    Case, Cause, Decision, Finding, Gap, Outcome, Refusal, Response, Settlement, Step, Storm, Timestamp, Transition,
};

/// One line of `--format json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// When it was said, on this machine's clock.
    at: Timestamp,
    notice: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<&'a Storm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<&'a Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'a Gap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settlement: Option<&'a Settlement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    case: Option<&'a Case>,
}

pub(super) fn run(command: &Command, config: Option<&Path>) -> anyhow::Result<Exit> {
    start_log();
    live::runtime()?.block_on(watch(command, config))
}

async fn watch(command: &Command, path: Option<&Path>) -> anyhow::Result<Exit> {
    let config = settings(command, path)?;
    let journal = live::journal(&config, &command.journal)?;
    // One for all of the time: a signal that comes between two of them would be lost.
    let hangups = live::hangups()?;
    let stop = async {
        tokio::select! {
            () = live::stop_signal() => {}
            () = live::terminal_gone() => {}
        }
    };
    tokio::pin!(stop);
    let say = |why: &str| error!(why = %printable(why), "Docker is away: squall waits for it");
    let session = tokio::select! {
        session = await_docker(&config, say) => session?,
        () = &mut stop => {
            stopping();
            info!("stopped");
            return Ok(Exit::Calm);
        }
    };
    info!(
        node = %printable(&session.info().name),
        engine = %printable(&session.info().server_version),
        docker = %session.client().endpoint(),
        log = %session.log(),
        "watching"
    );
    if session.role() == Role::Worker {
        warn!("this node is a worker: only its own containers are seen; run squall on the managers");
    }
    if *session.log() == LogSource::Nowhere && config.log.source == LogSource::Journal {
        warn!("dockerd's log is not read: name it with --log FILE, or a failed pull has no cause but pull-failed");
    }
    say_acting(&config);
    let teller = Teller::start(&config, &session.info().name, &journal.dir).await?;
    if let Some(address) = teller.address() {
        info!(url = %format!("http://{address}"), "status page, metrics and API");
    }
    let (journal, opened) = Journal::open(journal);
    if let Some(path) = opened.set_aside {
        warn!(path = %path.display(), "the journal was damaged: it is set aside, and a new one is begun");
    }
    session.respond_to_storms(config.respond.settings(), journal.clone()).await;
    session.meter_budgets(&config, &journal).await;
    session.tell_supervisor();
    let reload = Reload { command, path, config, session: &session, teller: &teller, journal: &journal };
    let is_json = command.format == WatchFormat::Json;
    let mut has_reader = true;
    let mut say = |said: Said| {
        log(&said);
        teller.hear(&said);
        if is_json && has_reader {
            has_reader = print(&said).is_ok();
        }
    };
    tokio::select! {
        () = session.run(None, &mut say) => anyhow::bail!("the readers of events and log have ended"),
        () = teller.follow(&session) => {}
        () = describe(teller.shown()) => {}
        () = reload.on(hangups) => {}
        () = &mut stop => {}
    }
    stopping();
    teller.close().await;
    session.keep_counts();
    journal.close().await;
    info!("stopped");
    Ok(Exit::Calm)
}

/// Logs to standard error: people and journald read it. bollard and hyper log whole bodies at debug, service
/// environments among them, so they are held at info whatever is asked for.
fn start_log() {
    let filter = EnvFilter::try_from_env("SQUALL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = ["bollard=info", "hyper=info", "hyper_util=info", "rustls=info"]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // A terminal that is gone takes no line, and no complaint about that either.
        .log_internal_errors(false);
    // Only a second subscriber in one process could fail.
    let _ = subscriber.try_init();
}

fn log(said: &Said) {
    match said {
        Said::Case(transition) => log_case(transition),
        Said::Found(finding) => warn!(
            kind = finding.kind.as_str(),
            subject = %printable(&finding.subject.name),
            tasks = finding.tasks,
            since = %finding.since,
            detail = %printable(&finding.detail),
            "found"
        ),
        Said::Gap(gap) => warn!(from = %gap.from, to = %gap.to, why = gap.why, "gap"),
        Said::Lost(why) => error!(why = %printable(why), "Docker cannot be reached"),
        Said::Back => info!("Docker is back"),
        Said::NoLog(why) => warn!(why = %printable(why), "dockerd's log cannot be read"),
        Said::Trouble(why) => error!(why = %printable(why), "a request to Docker failed"),
        Said::Decided(decision) => log_decision(decision),
        Said::Settled(decision, settlement) => match settlement.outcome {
            Outcome::Done => info!(
                decision = decision.id,
                subject = %printable(&decision.subject.name),
                action = %decision.action,
                "done"
            ),
            outcome => warn!(
                decision = decision.id,
                subject = %printable(&decision.subject.name),
                action = %decision.action,
                outcome = %outcome,
                detail = %printable(&settlement.detail),
                "not done"
            ),
        },
        Said::NoJournal(why) => {
            error!(why = %printable(why), "the journal cannot be written: history is kept in memory");
        }
        Said::JournalBack => info!("the journal is written again"),
        Said::Role(Role::Manager) => info!("this node is a manager: its services are watched from now on"),
        Said::Role(_) => info!("this node is no manager any more: services are watched on the managers that are left"),
    }
}

fn log_case(transition: &Transition) {
    let case = &transition.case;
    let (id, subject) = (&*case.id, printable(&case.subject().name));
    let tries = case.hold.as_ref().map_or(0, |hold| hold.tries);
    let until = case.hold.as_ref().and_then(|hold| hold.until).map(|until| until.to_string()).unwrap_or_default();
    match transition.step {
        Step::Began | Step::Resumed if case.storm.failed > 0 => log_storm(&case.storm, "storm"),
        Step::CauseChanged => warn!(
            id,
            subject = %subject,
            from = %transition.before.as_ref().map_or(Cause::Unknown, |before| before.storm.cause),
            to = %case.storm.cause,
            detail = %printable(&case.storm.detail),
            "cause changed"
        ),
        Step::Began | Step::Resumed | Step::Held => warn!(id, subject = %subject, tries, until, "held"),
        Step::Tried => info!(id, subject = %subject, tries, "one attempt is tried and watched"),
        Step::AttemptFailed => warn!(id, subject = %subject, tries, until, "the watched attempt failed"),
        Step::Returning => info!(id, subject = %subject, "the watched attempt was stable: the rest comes back"),
        Step::LetGo => warn!(id, subject = %subject, why = %printable(&case.why), "let go"),
        Step::Over => info!(
            id,
            subject = %subject,
            cause = %case.storm.cause,
            failed = case.storm.failed,
            attempts = case.storm.attempts,
            onset = %case.storm.onset,
            why = %printable(&case.why),
            "over"
        ),
        Step::Updated => {}
    }
}

/// A refusal that nobody asked to be otherwise is no news for the log of a daemon that observes.
fn log_decision(decision: &Decision) {
    let subject = printable(&decision.subject.name);
    let instead_of = decision.instead_of.map_or("", Response::as_str);
    match decision.refusal {
        None => warn!(
            decision = decision.id,
            subject = %subject,
            storm = decision.storm,
            cause = %decision.cause,
            failed = decision.failed,
            response = %decision.response,
            instead_of,
            action = %decision.action,
            "permitted"
        ),
        Some(Refusal::NotEnforced) => warn!(
            subject = %subject,
            storm = decision.storm,
            cause = %decision.cause,
            failed = decision.failed,
            response = %decision.response,
            instead_of,
            action = %decision.action,
            reason = %Refusal::NotEnforced,
            "would have acted"
        ),
        Some(reason @ (Refusal::Observe | Refusal::NotOptedIn | Refusal::Ignored | Refusal::NotLeader)) => debug!(
            subject = %subject,
            storm = decision.storm,
            action = %decision.action,
            reason = %reason,
            "refused"
        ),
        Some(reason) => info!(
            subject = %subject,
            storm = decision.storm,
            response = %decision.response,
            action = %decision.action,
            reason = %reason,
            "refused"
        ),
    }
}

fn log_storm(storm: &Storm, what: &'static str) {
    warn!(
        id = storm.id,
        subject = %printable(&storm.subject.name),
        cause = %storm.cause,
        failed = storm.failed,
        per_min = storm.attempts_per_min,
        pulls = storm.pulls,
        registry = %printable(&storm.registry),
        nodes = %printable(&storm.nodes.join(",")),
        detail = %printable(&storm.detail),
        advice = %printable(&storm.advice),
        "{what}"
    );
}

fn print(said: &Said) -> io::Result<()> {
    let mut line = Line {
        at: wall_clock(),
        notice: "",
        storm: None,
        from: None,
        to: None,
        finding: None,
        gap: None,
        why: None,
        decision: None,
        settlement: None,
        case: None,
    };
    match said {
        Said::Case(transition) => {
            let case = &*transition.case;
            (line.notice, line.storm, line.case) = (notice_of(transition), Some(&*case.storm), Some(case));
            if transition.step == Step::CauseChanged {
                line.from = transition.before.as_ref().map(|before| before.storm.cause);
                line.to = Some(case.storm.cause);
            }
            if !case.why.is_empty() {
                line.why = Some(&case.why);
            }
        }
        Said::Found(finding) => (line.notice, line.finding) = ("found", Some(&**finding)),
        Said::Gap(gap) => (line.notice, line.gap) = ("gap", Some(gap)),
        Said::Lost(why) => (line.notice, line.why) = ("lost", Some(&**why)),
        Said::Back => line.notice = "back",
        Said::NoLog(why) => (line.notice, line.why) = ("no-log", Some(&**why)),
        Said::Trouble(why) => (line.notice, line.why) = ("trouble", Some(&**why)),
        Said::Decided(decision) => (line.notice, line.decision) = ("decision", Some(decision)),
        Said::Settled(decision, settlement) => {
            (line.notice, line.decision, line.settlement) = ("settlement", Some(decision), Some(settlement));
        }
        Said::NoJournal(why) => (line.notice, line.why) = ("no-journal", Some(&**why)),
        Said::JournalBack => line.notice = "journal-back",
        Said::Role(role) => (line.notice, line.why) = ("role", Some(role.as_str())),
    }
    if line.notice.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &line)?;
    writeln!(out)?;
    out.flush()
}

/// A transition as lines of JSON name it; empty if it is none that a reader waits for.
fn notice_of(transition: &Transition) -> &'static str {
    match transition.step {
        Step::Began | Step::Resumed if transition.case.storm.failed > 0 => "onset",
        Step::Began | Step::Resumed | Step::Held => "held",
        Step::CauseChanged => "cause-changed",
        Step::Tried => "probation",
        Step::AttemptFailed => "attempt-failed",
        Step::Returning => "returning",
        Step::LetGo => "let-go",
        Step::Over => "subsided",
        Step::Updated => "",
    }
}
