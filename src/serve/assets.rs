//! The style and the script of the page. Their addresses carry their hash, so that they are kept for ever and a new
//! version of squall is seen at once.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::model::fnv_64;

/// A file that the page needs.
pub(super) struct Asset {
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

pub(super) const STYLE: Asset =
    Asset { path: "/assets/squall.css", kind: "text/css; charset=utf-8", text: include_str!("assets/squall.css") };
pub(super) const SCRIPT: Asset =
    Asset { path: "/assets/squall.js", kind: "text/javascript; charset=utf-8", text: include_str!("assets/squall.js") };

impl Asset {
    fn hash(&self) -> String {
        format!("{:016x}", fnv_64([self.text.as_bytes()]))
    }

    /// The address of this version.
    pub(super) fn link(&self) -> String {
        format!("{}?v={}", self.path, self.hash())
    }

    /// The file, or that the client has it.
    pub(super) fn answer(&self, query: Option<&str>, headers: &HeaderMap) -> Response {
        let (hash, etag) = (self.hash(), format!("\"{}\"", self.hash()));
        let is_this = query.and_then(|query| query.strip_prefix("v=")).is_some_and(|version| version == hash);
        let kept = if is_this { "private, max-age=31536000, immutable" } else { "no-cache" };
        let has_it = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
        let mut answer = if has_it {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(header::CONTENT_TYPE, HeaderValue::from_static(self.kind))], self.text).into_response()
        };
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            answer.headers_mut().insert(header::ETAG, etag);
        }
        answer
    }
}
