//! Agrees with a daemon on the version of the API: what bollard is kept for.
//!
//! bollard asks over our own connections, and only for `/version`. Its choice of a version is not used, for it neither
//! sends the version that it chose nor looks at the oldest one that the daemon speaks.

use http_body_util::{BodyExt as _, Full};
use hyper::Request;

use super::client::Client;
use super::error::{Error, Phase};
use super::version::{ApiVersion, NEWEST};

impl Client {
    /// Chooses the newest version of the API that both sides speak, anew. To be called after each reconnect: the
    /// daemon may have been replaced.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or there is no common version.
    pub async fn negotiate(&self) -> Result<ApiVersion, Error> {
        let what = "GET /version";
        let limit = self.shared.limits.headers;
        let asked = tokio::time::timeout(limit, self.bollard()?.version()).await;
        let (newest, oldest) = match asked.map_err(|_| self.timed_out(what, Phase::Headers, limit))? {
            Ok(said) => {
                let read = |text: Option<String>| text.as_deref().and_then(ApiVersion::parse);
                (read(said.api_version), read(said.min_api_version))
            }
            Err(bollard::errors::Error::DockerResponseServerError { status_code, message }) => {
                return Err(Error::from_status(self.endpoint(), what, None, status_code, message.as_bytes()));
            }
            // Its decoding is strict: an answer that it cannot read still has the version in the ping's header.
            Err(bollard::errors::Error::JsonDataError { .. } | bollard::errors::Error::JsonSerdeError { .. }) => {
                (None, None)
            }
            Err(error) => return Err(self.transport_error(what, &error).await),
        };
        let newest = match newest {
            Some(newest) => newest,
            None => self.ping().await?.newest.ok_or_else(|| self.odd(what, "it names no version of the API"))?,
        };
        let version = ApiVersion::common(newest, oldest).ok_or_else(|| Error::NoCommonVersion {
            endpoint: self.endpoint().to_string(),
            daemon: oldest.map_or_else(|| newest.to_string(), |oldest| format!("{oldest} to {newest}")),
        })?;
        self.set_version(version);
        Ok(version)
    }

    /// bollard over our own connections, for the exchange of versions.
    fn bollard(&self) -> Result<bollard::Docker, Error> {
        let (http, base) = (self.shared.http.clone(), self.shared.base.clone());
        let transport = move |request: bollard::BollardRequest| {
            let (http, base) = (http.clone(), base.clone());
            async move {
                let (mut parts, body) = request.into_parts();
                // It joins paths so that a prefix of the address is lost: only the path that it asks for is taken.
                parts.uri = format!("{base}{}", parts.uri.path()).parse()?;
                let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                Ok(http.request(Request::from_parts(parts, Full::new(body))).await?)
            }
        };
        let newest = bollard::ClientVersion { major_version: NEWEST.major.into(), minor_version: NEWEST.minor.into() };
        let seconds = self.shared.limits.headers.as_secs().saturating_add(1);
        bollard::Docker::connect_with_custom_transport(transport, Some("http://docker"), seconds, &newest)
            .map_err(|error| self.odd("GET /version", &error.to_string()))
    }
}
