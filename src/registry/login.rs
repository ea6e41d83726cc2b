//! Whose budget is asked for: a name and a password, from docker's own configuration or from a secret.

use std::sync::mpsc;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError as Error, DockerCredential, get_credential};
use secrecy::SecretString;

/// How long a credential helper may take.
const HELPER_LIMIT: Duration = Duration::from_secs(10);
/// As docker's configuration names Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A name and a password.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name; no secret.
    pub name: String,
    /// The password, or an access token in its place.
    pub password: SecretString,
}

/// Why there is no login. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// docker knows none for this registry.
    #[error("docker has no login for {0}: docker login {0}")]
    None(String),
    /// There is one, of a kind that is of no use here.
    #[error("docker's login for {0} is an identity token: give a name and a password (login = {{ file = ... }})")]
    IdentityToken(String),
    /// It cannot be had.
    #[error("cannot read docker's login for {registry}: {why}")]
    Unreadable {
        /// The registry.
        registry: String,
        /// Why.
        why: String,
    },
    /// A secret that has no colon.
    #[error("the login is not NAME:PASSWORD")]
    Malformed,
}

impl Login {
    /// The login that docker itself would use for a registry: of `config.json` in `DOCKER_CONFIG` or `~/.docker`, or
    /// of the credential helper that it names, which has 10 s to answer.
    ///
    /// # Errors
    /// When there is none, or it cannot be had.
    pub fn of_docker(registry: &str) -> Result<Self, LoginError> {
        let keys = match registry {
            "docker.io" => vec![HUB_KEY.to_owned()],
            other => vec![other.to_owned(), format!("https://{other}")],
        };
        let unreadable = |why: &str| LoginError::Unreadable { registry: registry.to_owned(), why: why.to_owned() };
        let (sender, receiver) = mpsc::channel();
        // A helper that hangs is left behind, and ends with squall at the latest.
        std::thread::spawn(move || {
            let mut found = Err(Error::NoCredentialConfigured);
            for key in keys {
                found = get_credential(&key);
                if !matches!(found, Err(Error::NoCredentialConfigured)) {
                    break;
                }
            }
            let _ = sender.send(found);
        });
        match receiver.recv_timeout(HELPER_LIMIT) {
            Ok(Ok(DockerCredential::UsernamePassword(name, password))) => Ok(Self { name, password: password.into() }),
            Ok(Ok(DockerCredential::IdentityToken(_))) => Err(LoginError::IdentityToken(registry.to_owned())),
            Ok(Err(Error::NoCredentialConfigured | Error::ConfigNotFound)) => {
                Err(LoginError::None(registry.to_owned()))
            }
            Ok(Err(Error::HelperFailure { helper, .. })) => Err(unreadable(&format!("{helper} fails"))),
            Ok(Err(Error::HelperCommunicationError)) => {
                Err(unreadable("its credential helper cannot be run, or does not listen"))
            }
            Ok(Err(Error::ConfigReadError)) => Err(unreadable("config.json cannot be read")),
            Ok(Err(_)) => Err(unreadable("what is there cannot be understood")),
            Err(_) => Err(unreadable("its credential helper does not answer")),
        }
    }

    /// Reads `NAME:PASSWORD`.
    ///
    /// # Errors
    /// When there is no colon, or nothing before or after it.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        match text.trim().split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                Ok(Self { name: name.to_owned(), password: password.to_owned().into() })
            }
            _ => Err(LoginError::Malformed),
        }
    }
}
