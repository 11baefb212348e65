//! `/v1/files`: files that executions are started with.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use holdpoint_db::{FileKey, FileRemoved, FileRow, NewFile};
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::ids::FileId;
use holdpoint_engine::time::Timestamp;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use super::upload::{self, Upload};
use crate::app::App;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "File")]
struct Shown {
    id: FileId,
    name: Option<String>,
    content_type: String,
    bytes: i64,
    /// SHA-256 of the content, in hex.
    sha256: String,
    /// Whether an execution was started with it: then it stays. Others go after a day.
    referred: bool,
    created_by: String,
    created_at: Timestamp,
}

/// A form with a file.
#[derive(JsonSchema)]
#[schemars(rename = "FileForm")]
#[expect(dead_code, reason = "what the parts are; they are read as they come")]
struct Form {
    /// The content; its part may have a filename and a content type.
    #[schemars(extend("contentMediaType" = "application/octet-stream"))]
    file: String,
    /// Ignored, as all other parts are; clients of OpenAI's API send it.
    purpose: Option<String>,
}

impl From<FileRow> for Shown {
    fn from(row: FileRow) -> Self {
        Self {
            id: row.key.id,
            name: row.name,
            content_type: row.content_type,
            bytes: row.bytes,
            sha256: row.sha256,
            referred: row.referred,
            created_by: row.created_by,
            created_at: row.created_at,
        }
    }
}

/// `POST /v1/files`: nothing is kept before the whole body came.
pub async fn put(State(app): Shared, caller: Caller, mut params: Params, request: Request) -> Answer {
    let given = params.text("name").map(|name| upload::check_name("name", name)).transpose()?;
    let Upload { name, content_type, content } = upload::read(&app, request, given).await?;
    let key = FileKey { scope: caller.scope.clone(), id: app.ids.make(FileId::new) };
    let sha256 = sha256_hex(&content);
    let bytes = i64::try_from(content.len()).unwrap_or(i64::MAX);
    let shown = |created_at| Shown {
        id: key.id,
        name: name.clone(),
        content_type: content_type.clone(),
        bytes,
        sha256: sha256.clone(),
        referred: false,
        created_by: caller.key.clone(),
        created_at,
    };
    let file = NewFile {
        key: key.clone(),
        name: name.clone(),
        content_type: content_type.clone(),
        sha256: sha256.clone(),
        content,
        created_by: caller.key.clone(),
    };
    let created_at = app.write(move |store| store.file_put(&file)).await??;
    let mut response = view::json(StatusCode::CREATED, &shown(created_at));
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/files/{}", key.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn file_id(text: &str) -> Answer<FileId> {
    text.parse().map_err(|_| Problem::not_found("file", text))
}

async fn found(app: &App, caller: &Caller, id: FileId) -> Answer<FileRow> {
    let scope = caller.scope.clone();
    let row = app.read(move |store| store.file_get(&scope, id)).await?;
    row.ok_or_else(|| Problem::not_found("file", &id.to_string()))
}

/// `GET /v1/files/{id}`.
pub async fn get(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
) -> Answer {
    let row = found(&app, &caller, file_id(&id)?).await?;
    let tag = format!("\"{}\"", row.sha256);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let (scope, id) = (caller.scope.clone(), row.key.id);
        let content = app.read(move |store| store.file_content(&scope, id)).await?;
        Body::from(content.ok_or_else(|| Problem::not_found("file", &id.to_string()))?).into_response()
    };
    add_headers(&mut response, &row, &tag);
    Ok(response)
}

/// A browser saves it, and takes it for nothing else than what it was said to be.
fn add_headers(response: &mut Response, row: &FileRow, tag: &str) {
    let named = row.name.as_deref().map(|name| format!("; filename*=UTF-8''{}", escaped(name)));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, row.content_type.clone()),
        (header::CONTENT_DISPOSITION, format!("attachment{}", named.unwrap_or_default())),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::ETAG, tag.to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// As RFC 8187 wants it.
fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

/// `GET /v1/files/{id}/info`.
pub async fn info(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let row = found(&app, &caller, file_id(&id)?).await?;
    Ok(view::json(StatusCode::OK, &Shown::from(row)))
}

/// `DELETE /v1/files/{id}`.
pub async fn delete(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let (id, scope) = (file_id(&id)?, caller.scope.clone());
    match app.write(move |store| store.file_delete(&scope, id)).await?? {
        FileRemoved::Removed => Ok(StatusCode::NO_CONTENT.into_response()),
        FileRemoved::Referred => {
            Err(Problem::new(Code::FileInUse, format!("an execution was started with the file {id}")))
        }
        FileRemoved::NotFound => Err(Problem::not_found("file", &id.to_string())),
    }
}

/// What it takes and answers.
pub fn put_doc() -> Operation {
    let about = "Keeps a file: the body, as it is; of `multipart/form-data` the part `file`, with its own \
                 name and content type. Other parts are ignored.";
    Operation::new("file_put", about)
        .bytes_body()
        .or_form::<Form>()
        .query::<String>("name", "What it is called: up to 255 bytes, no path; it goes before a part's.")
        .header("content-type", "What it is; `application/octet-stream` if left out.")
        .answer::<Shown>(201, "It is kept.")
        .with_header("location")
}

/// What it takes and answers.
pub fn get_doc() -> Operation {
    Operation::new("file_get", "Its content, with the content type that it came with.")
        .header("if-none-match", "An `ETag`: 304 where it is still that.")
        .other(200, "*/*", "The bytes.")
        .with_header("etag")
        .with_header("content-disposition")
        .empty(304, "It is what the caller has.")
}

/// What it takes and answers.
pub fn info_doc() -> Operation {
    Operation::new("file_info", "What is known of a file.").answer::<Shown>(200, "The file.")
}

/// What it takes and answers.
pub fn delete_doc() -> Operation {
    Operation::new("file_delete", "Removes a file that no execution was started with.")
        .empty(204, "It is gone.")
        .problem(Code::FileInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_escaped_in_a_header() {
        assert_eq!(escaped("a ö\""), "a%20%C3%B6%22");
    }
}
