//! The only place that changes anything in Docker, and it takes a [`Permit`].
//!
//! A service is read, edited and sent back as raw JSON at the daemon's own newest version of the API (a path without
//! one): an older version drops fields on the way (moby's `adjustForAPIVersion`). No `X-Registry-Auth` header is sent,
//! so the service keeps the credentials that it was deployed with.

use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};

use super::client::Client;
use super::error::Error;
use super::limits::{ERROR_BODY_BYTES, SMALL_BODY_BYTES};
use super::query;
use crate::respond::{ContainerStep, Permit, Work};

/// SwarmKit's words for a `Version.Index` that is no longer the newest, which arrive with HTTP 500.
const OUT_OF_SEQUENCE: &str = "update out of sequence";

/// How a permitted change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actuated {
    /// Docker took it.
    Done,
    /// Somebody changed the service since it was decided: nothing was changed.
    Raced,
}

impl Client {
    /// One service as JSON, with all that the daemon knows of it.
    ///
    /// # Errors
    /// When the daemon cannot be reached in time, does not know it ([`Error::is_not_found`]), or answers with something
    /// else than an object.
    pub async fn service(&self, id_or_name: &str) -> Result<Value, Error> {
        let what = "GET /services/{id}";
        let uri = format!("{}/services/{}", self.shared.base, query::encode(id_or_name));
        let response = self.request(Request::get(uri), Bytes::new(), what, None).await?;
        let body = self.collect(response, what, SMALL_BODY_BYTES).await?;
        match serde_json::from_slice(&body) {
            Ok(service @ Value::Object(_)) => Ok(service),
            Ok(_) => Err(self.odd(what, "it is no object")),
            Err(error) => Err(self.odd(what, &error.to_string())),
        }
    }

    /// Makes the change that was permitted, if the service is still as it was when that was decided. Safe to repeat:
    /// Swarm takes a change of one `Version.Index` once.
    ///
    /// # Errors
    /// When the daemon cannot be reached in time or refuses. Where the connection was lost in between
    /// ([`Error::is_transient`]), whether it was done shows only when the service is read again.
    pub async fn actuate(&self, permit: &Permit) -> Result<Actuated, Error> {
        match permit.work() {
            Work::Service { version } => self.update(permit, version).await,
            Work::Containers(steps) => {
                for step in steps {
                    self.change(step).await?;
                }
                Ok(Actuated::Done)
            }
        }
    }

    async fn update(&self, permit: &Permit, version: u64) -> Result<Actuated, Error> {
        let id = &permit.decision().subject.id;
        let mut service = self.service(id).await?;
        if service.pointer("/Version/Index").and_then(Value::as_u64) != Some(version) {
            return Ok(Actuated::Raced);
        }
        let what = "POST /services/{id}/update";
        let mut spec = service.get_mut("Spec").map(Value::take).unwrap_or_default();
        permit.apply(&mut spec).map_err(|why| self.odd("GET /services/{id}", why))?;
        let path = format!("/services/{}/update?version={}", query::encode(id), version);
        let request = Request::post(format!("{}{path}", self.shared.base)).header("content-type", "application/json");
        match self.request(request, spec.to_string().into(), what, None).await {
            Ok(response) => {
                // Its warnings are about images that cannot be asked for; the connection is wanted again.
                self.collect(response, what, ERROR_BODY_BYTES).await.map(drop)?;
                Ok(Actuated::Done)
            }
            Err(Error::Status { message, .. }) if message.contains(OUT_OF_SEQUENCE) => Ok(Actuated::Raced),
            Err(error) => Err(error),
        }
    }

    /// One change of a container. One that is gone, or is so already, needs none.
    async fn change(&self, step: &ContainerStep) -> Result<(), Error> {
        let (id, verb, body) = match step {
            ContainerStep::Policy { id, policy } => {
                let policy = json!({"Name": policy.name, "MaximumRetryCount": policy.max_retries});
                (id, "update", json!({"RestartPolicy": policy}).to_string())
            }
            ContainerStep::Stop { id } => (id, "stop", String::new()),
            ContainerStep::Start { id } => (id, "start", String::new()),
        };
        let what = format!("POST /containers/{{id}}/{verb}");
        let path = format!("/containers/{}/{verb}", query::encode(id));
        let request = Request::post(format!("{}{path}", self.shared.base)).header("content-type", "application/json");
        match self.request(request, body.into(), &what, None).await {
            Ok(response) => self.collect(response, &what, ERROR_BODY_BYTES).await.map(drop),
            Err(Error::Status { status: 304 | 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
