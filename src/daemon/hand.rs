//! What a person does by hand: the breaker's changes, with those of its guards that keep from harm.

use serde_json::Value;

use super::clock::wall_clock;
use super::objects::{record_of, task_of};
use super::opened::SessionError;
use super::session::Session;
use crate::config::Config;
use crate::docker::{self, Actuated};
use crate::journal::{Entry, Journal};
use crate::model::{Decision, Outcome, Refusal, Response, Settlement, SubjectKind, TaskFact, TaskRecord};
use crate::respond::{Look, Permit, Responder, Scene, Settings, StopMark, View};

/// How often in a row a change may be raced by others.
const TRIES: usize = 5;

/// A person at a manager.
#[derive(Debug)]
pub struct Hand {
    session: Session,
    journal: Option<Journal>,
}

/// Why a person's change was not made.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// Docker could not be asked, or refused.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// A guard refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Others changed the service each time in between.
    #[error("somebody keeps changing it")]
    Raced,
}

impl Hand {
    /// Connects to the daemon that the settings name, or else to the one that the docker command would.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked.
    pub async fn connect(config: &Config) -> Result<Self, SessionError> {
        Ok(Self { session: Session::connect(config, false).await?, journal: None })
    }

    /// Journals what is done.
    #[must_use]
    pub fn with_journal(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The services that have a quarantine's labels, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn held(&self) -> Result<Vec<View>, docker::Error> {
        let mut held = Vec::new();
        let client = self.session.client();
        let mut take = |object: &[u8]| {
            let view = serde_json::from_slice::<Value>(object).ok().and_then(|service| View::read(&service));
            held.extend(view.filter(|view| view.mark != Ok(None)));
        };
        client.services(&mut take).await?;
        held.sort_by(|a: &View, b: &View| a.name.cmp(&b.name));
        Ok(held)
    }

    /// What can be given back: the ids of services by their labels, and the names of what is stopped by the journal.
    ///
    /// # Errors
    /// When services cannot be listed; where there is no Swarm, and something is stopped, none is asked for.
    pub async fn everything(&self) -> Result<Vec<String>, docker::Error> {
        let stopped = match &self.journal {
            Some(journal) => journal.holds().await,
            None => Vec::new(),
        };
        let held = match self.held().await {
            Err(error) if error.is_no_manager() && !stopped.is_empty() => Vec::new(),
            held => held?,
        };
        let stopped = stopped.into_iter().map(|(subject, _)| subject.name);
        Ok(held.into_iter().map(|view| view.id).chain(stopped).collect())
    }

    /// Holds a service.
    ///
    /// # Errors
    /// When a guard refuses, Docker refuses, or others keep changing it.
    pub async fn quarantine(
        &self,
        service: &str,
        settings: &Settings,
        response: Response,
    ) -> Result<Decision, HandError> {
        // The storm is for its labels; that it cannot be told is no reason not to hold the service.
        let _ = self.session.look(&mut |_| {}).await;
        self.change(service, |look, view| {
            let scene = Scene { storm: self.session.storm(SubjectKind::SwarmService, &view.id), ..Scene::default() };
            Responder::quarantine_by_hand(settings, wall_clock(), look, &scene, response)
        })
        .await
    }

    /// Gives a service back exactly as it was.
    ///
    /// # Errors
    /// When it is not held, Docker refuses, or others keep changing it.
    pub async fn release(&self, service: &str) -> Result<Decision, HandError> {
        self.change(service, |look, _| Responder::release_by_hand(wall_clock(), look)).await
    }

    /// Starts again what was stopped of a container subject, by what the journal kept.
    ///
    /// # Errors
    /// When nothing of that name is stopped, or Docker refuses.
    pub async fn start(&self, name: &str) -> Result<Decision, HandError> {
        let holds = match &self.journal {
            Some(journal) => journal.holds().await,
            None => Vec::new(),
        };
        let (subject, mark) = holds
            .into_iter()
            .find(|(subject, _)| subject.name == name)
            .and_then(|(subject, text)| Some((subject, StopMark::read(&text)?)))
            .ok_or(HandError::Refused(Refusal::Gone))?;
        let permit = Responder::start_by_hand(wall_clock(), &subject, &mark);
        self.record(Entry::Decision { decision: permit.decision().clone(), evidence: Vec::new() }).await;
        let result = self.session.client().actuate(&permit).await;
        let decision = permit.decision().clone();
        let (outcome, detail) = match &result {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error) => (Outcome::Failed, error.to_string()),
        };
        if outcome == Outcome::Done {
            self.record(Entry::Hold { subject, mark: None }).await;
        }
        let settlement = Settlement { decision: decision.id.clone(), at: wall_clock(), outcome, detail };
        self.record(Entry::Settlement(settlement)).await;
        result?;
        Ok(decision)
    }

    async fn change(
        &self,
        name: &str,
        decide: impl Fn(Look<'_>, &View) -> Result<Permit, Refusal>,
    ) -> Result<Decision, HandError> {
        let client = self.session.client();
        for _ in 0..TRIES {
            let service = client.service(name).await?;
            let view = View::read(&service).ok_or(HandError::Refused(Refusal::Gone))?;
            let mut tasks: Vec<TaskFact<'_>> = Vec::new();
            client.tasks(&[&view.id], &mut |object| tasks.extend(task_of(object))).await?;
            let permit = decide(Look { service: &service, tasks: &tasks }, &view).map_err(HandError::Refused)?;
            let evidence: Vec<TaskRecord> = tasks.iter().map(record_of).collect();
            self.record(Entry::Decision { decision: permit.decision().clone(), evidence }).await;
            let result = client.actuate(&permit).await;
            let (outcome, detail) = match &result {
                Ok(Actuated::Done) => (Outcome::Done, String::new()),
                Ok(Actuated::Raced) => (Outcome::Raced, "somebody changed it in between".to_owned()),
                Err(error) => (Outcome::Failed, error.to_string()),
            };
            let decision = permit.decision().clone();
            let settlement = Settlement { decision: decision.id.clone(), at: wall_clock(), outcome, detail };
            self.record(Entry::Settlement(settlement)).await;
            match result? {
                Actuated::Done => return Ok(decision),
                Actuated::Raced => {}
            }
        }
        Err(HandError::Raced)
    }

    async fn record(&self, entry: Entry) {
        if let Some(journal) = &self.journal {
            journal.record(entry).await;
        }
    }
}
