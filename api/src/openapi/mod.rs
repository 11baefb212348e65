//! `/openapi.json`: what every route takes and answers, from the types that read and write it.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};

mod document;
mod operation;

pub use document::document;
pub use operation::{Operation, Place};

/// The same for every process of this version.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document(&crate::routes::table()).to_string()));

/// `GET /openapi.json`.
pub async fn handle() -> Response {
    let mut response = DOCUMENT.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("openapi", "This document.").answer::<serde_json::Value>(200, "OpenAPI 3.1.")
}
