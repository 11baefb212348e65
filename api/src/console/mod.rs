//! The console: a page of static files in this binary, at `/` and below `/assets/`.
//!
//! The page speaks the public `/v1` API and nothing else, so nothing here knows of rows or
//! keys. Its policy lets in no script, style or address but our own, and no script or style
//! within markup; a test holds the files against that.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdpoint_engine::digest::sha256_hex;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::app::App;
use crate::problem::{Code, Problem};

/// One file.
struct Asset {
    /// Below `/assets/`.
    name: &'static str,
    body: &'static str,
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        &[$(Asset { name: $name, body: include_str!(concat!("assets/", $name)) }),+]
    };
}

/// The files, a line each.
const ASSETS: &[Asset] = assets![
    "index.html",
    "app.css",
    "desk.css",
    "icon.svg",
    "act-button.js",
    "acts.js",
    "api.js",
    "app.js",
    "approval.js",
    "bulk.js",
    "chain.js",
    "definition.js",
    "dialog.js",
    "diff.js",
    "differences.js",
    "digest.js",
    "form.js",
    "grant.js",
    "json.js",
    "keys.js",
    "lib.js",
    "listing.js",
    "live.js",
    "nav.js",
    "pages/agents.js",
    "pages/attention.js",
    "pages/audit.js",
    "pages/execution.js",
    "pages/executions.js",
    "pages/grants.js",
    "pages/inbox.js",
    "pages/keys.js",
    "pages/limits.js",
    "pages/parked.js",
    "pages/schedules.js",
    "pages/signin.js",
    "pages/sweeps.js",
    "pages/webhooks.js",
    "pages/workflows.js",
    "parts.js",
    "router.js",
    "session.js",
    "story.js",
    "stream.js",
    "table.js",
    "text.js",
    "time.js",
    "timeline.js",
    "toast.js",
    "vendor/preact-htm.js",
];

const PAGE: &str = "index.html";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every file is sent with. A changed file is seen at once: the browser asks each time,
/// and its tag answers.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The tags of the files, in their order.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    ASSETS.iter().map(|asset| format!("\"{}\"", &sha256_hex(asset.body.as_bytes())[..32])).collect()
});

/// The console's paths. They are no part of the API, and so not of its description.
pub fn router() -> Router<Arc<App>> {
    let page = |headers: HeaderMap| async move { serve(PAGE, &headers) };
    let asset = |Path(name): Path<String>, headers: HeaderMap| async move { serve(&name, &headers) };
    Router::new().route("/", get(page)).route("/assets/{*name}", get(asset))
}

fn serve(name: &str, asked: &HeaderMap) -> Response {
    let Some(at) = ASSETS.iter().position(|asset| asset.name == name) else {
        return Problem::new(Code::NoSuchRoute, "there is no such file").into_response();
    };
    let (asset, tag) = (&ASSETS[at], &TAGS[at]);
    let is_known = has_tag(asked, tag);
    let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = (status, if is_known { "" } else { asset.body }).into_response();
    let headers = response.headers_mut();
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media(asset.name)));
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Whether the browser has this very file. A proxy that compresses makes the tag a weak one.
fn has_tag(asked: &HeaderMap, tag: &str) -> bool {
    let named = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|one| one.trim().trim_start_matches("W/") == tag)
}

fn media(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
