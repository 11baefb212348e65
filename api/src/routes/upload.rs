//! What a file's upload brings: the body as it is, or the part `file` of a form, as browsers
//! and the clients of OpenAI's API send it. Both are held against the same limit while they come.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt};
use multer::{Constraints, Field, Multipart, SizeLimit};

use crate::app::App;
use crate::params::bad;
use crate::problem::{Answer, Code, Problem};

/// The longest name and media type, in bytes.
const TEXT_BYTES: usize = 255;
const ANY_BYTES: &str = "application/octet-stream";
const FORM: &str = "multipart/form-data";
/// The part of a form that is the file.
const PART: &str = "file";
/// The room for another part of a form, and beside the file for all of them.
const ASIDE_BYTES: usize = 64 * 1024;
/// Bytes that are made room for before any came.
const FIRST_ROOM: usize = 64 * 1024;
/// So many times the limit is read of a body that is too long.
const THROWN_AWAY: usize = 8;

/// A file as it came.
#[derive(Debug)]
pub struct Upload {
    pub name: Option<String>,
    pub content_type: String,
    pub content: Vec<u8>,
}

/// Reads a whole upload; `name` goes before one that the upload brings.
///
/// Of what is too long or no form the rest is read and thrown away, so that a client that sends
/// before it reads is told why; not where it asks before it sends.
pub async fn read(app: &App, request: Request, name: Option<String>) -> Answer<Upload> {
    let limit = app.settings.file_bytes;
    let (parts, mut body) = request.into_parts();
    let content_type = content_type(&parts.headers)?;
    let declared = declared_length(&parts.headers);
    let form = is_form(&content_type);
    let room = if form { limit.saturating_add(ASIDE_BYTES) } else { limit };
    if declared > room && parts.headers.contains_key(header::EXPECT) {
        return Err(too_long(limit));
    }
    let reading = async {
        if !form {
            let content = collect(&mut body, declared, limit).await?;
            return Ok(Upload { name, content_type, content });
        }
        let read = read_form(&mut body, &content_type, limit, name).await;
        if read.is_err() {
            throw_away(&mut body, limit).await;
        }
        read
    };
    let patience = Duration::from_millis(app.settings.idle_timeout_ms);
    let late = |_| Problem::new(Code::RequestTimeout, "the body did not come in time");
    tokio::time::timeout(patience, reading).await.map_err(late)?
}

/// A name is for people, and for whoever saves the file: no path, and nothing that is not seen.
pub fn check_name(parameter: &str, name: String) -> Answer<String> {
    if name.is_empty() || name.len() > TEXT_BYTES {
        return Err(bad(parameter, format!("it may have 1 to {TEXT_BYTES} bytes")));
    }
    if name == "." || name == ".." {
        return Err(bad(parameter, format!("it may not be `{name}`, which is a folder")));
    }
    if let Some(wrong) = name.chars().find(|one| is_wrong(*one)) {
        let wrong = wrong.escape_unicode();
        let why = format!("it may have no `/`, `\\`, control or invisible characters, and has {wrong}");
        return Err(bad(parameter, why));
    }
    Ok(name)
}

/// Whether a name with it would be a path, or not be what it is seen as.
fn is_wrong(one: char) -> bool {
    let unseen = matches!(one, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(one, '\u{2060}'..='\u{206f}' | '\u{feff}');
    unseen || one.is_control() || matches!(one, '/' | '\\')
}

fn content_type(headers: &HeaderMap) -> Answer<String> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(ANY_BYTES.to_owned()) };
    let text = value.to_str().ok().filter(|text| text.len() <= TEXT_BYTES && text.contains('/'));
    let wrong = || bad("content-type", format!("it may be a media type of up to {TEXT_BYTES} bytes"));
    text.map(str::to_owned).ok_or_else(wrong)
}

fn is_form(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(FORM)
}

fn declared_length(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or_default()
}

/// The body, in one piece of memory.
async fn collect(body: &mut Body, declared: usize, limit: usize) -> Answer<Vec<u8>> {
    // What a client declares it may still not send: room is made as it comes, from here on.
    let mut content = Vec::with_capacity(declared.min(FIRST_ROOM));
    let mut length = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Code::InvalidBody, "the body broke off"))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length > limit.saturating_mul(THROWN_AWAY) {
            break;
        }
        if length.max(declared) > limit {
            content = Vec::new();
        } else {
            content.extend_from_slice(data);
        }
    }
    if length.max(declared) > limit { Err(too_long(limit)) } else { Ok(content) }
}

async fn throw_away(body: &mut Body, limit: usize) {
    let mut length = 0usize;
    while let Some(Ok(frame)) = body.frame().await {
        length += frame.data_ref().map_or(0, |data| data.len());
        if length > limit.saturating_mul(THROWN_AWAY) {
            return;
        }
    }
}

/// The part `file` of a form, of which there is one.
async fn read_form(body: &mut Body, kind: &str, limit: usize, name: Option<String>) -> Answer<Upload> {
    let boundary = multer::parse_boundary(kind)
        .map_err(|error| bad("content-type", format!("a form's needs a boundary: {error}")))?;
    let sizes = SizeLimit::new()
        .whole_stream(limit.saturating_add(ASIDE_BYTES) as u64)
        .per_field(ASIDE_BYTES as u64)
        .for_field(PART, limit as u64);
    let limits = Constraints::new().size_limit(sizes);
    let mut form = Multipart::with_constraints(BodyDataStream::new(body), boundary, limits);
    let mut found: Option<Upload> = None;
    while let Some(mut part) = form.next_field().await.map_err(|error| refused(error, limit))? {
        if part.name() != Some(PART) {
            while part.chunk().await.map_err(|error| refused(error, limit))?.is_some() {}
            continue;
        }
        if found.is_some() {
            return Err(wrong_form(format_args!("it has two parts `{PART}`; send one file at a time")));
        }
        found = Some(read_part(part, limit, name.clone()).await?);
    }
    found.ok_or_else(|| wrong_form(format_args!("it has no part `{PART}`, which is the file")))
}

async fn read_part(mut part: Field<'_>, limit: usize, name: Option<String>) -> Answer<Upload> {
    let own = || part.file_name().map(|name| check_name("filename", name.to_owned())).transpose();
    let name = if name.is_some() { name } else { own()? };
    let content_type = content_type(part.headers())?;
    let mut content = Vec::new();
    while let Some(data) = part.chunk().await.map_err(|error| refused(error, limit))? {
        content.extend_from_slice(&data);
    }
    Ok(Upload { name, content_type, content })
}

fn refused(error: multer::Error, limit: usize) -> Problem {
    match error {
        multer::Error::FieldSizeExceeded { field_name: Some(name), .. } if name == PART => too_long(limit),
        multer::Error::FieldSizeExceeded { .. } => {
            wrong_form(format_args!("a part beside `{PART}` has more than {ASIDE_BYTES} bytes"))
        }
        multer::Error::StreamSizeExceeded { .. } => {
            let detail = format!(
                "the file has more than {limit} bytes, or the form more than {ASIDE_BYTES} bytes beside it"
            );
            Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "file_bytes", limit, detail)
        }
        multer::Error::StreamReadFailed(_) => Problem::new(Code::InvalidBody, "the body broke off"),
        other => wrong_form(format_args!("{other}")),
    }
}

fn wrong_form(why: std::fmt::Arguments<'_>) -> Problem {
    Problem::new(Code::InvalidBody, format!("the form ({FORM}): {why}"))
}

fn too_long(limit: usize) -> Problem {
    let detail = format!("the file has more than {limit} bytes");
    Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "file_bytes", limit, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_held_against_the_limit_whatever_it_declares() {
        for (bytes, declared, fits) in
            [(0, 0, true), (100, 0, true), (101, 0, false), (5, 101, false), (900, 0, false)]
        {
            let read = collect(&mut Body::from(vec![b'x'; bytes]), declared, 100).await;
            match read {
                Ok(content) => assert!(fits && content.len() == bytes, "{bytes} {declared}"),
                Err(problem) => assert!(!fits && problem.status() == 413, "{bytes} {declared}"),
            }
        }
    }

    async fn form(parts: &str, limit: usize) -> Answer<Upload> {
        let body = parts.replace('\n', "\r\n");
        // In pieces of a few bytes, so that boundaries are cut anywhere.
        let pieces: Vec<_> =
            body.as_bytes().chunks(7).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let mut body = Body::from_stream(futures_util::stream::iter(pieces));
        read_form(&mut body, "Multipart/Form-Data; boundary=\"x y\"", limit, None).await
    }

    const PURPOSE: &str = "--x y\nContent-Disposition: form-data; name=\"purpose\"\n\nassistants\n";
    const END: &str = "--x y--\n";

    fn file(head: &str, content: &str) -> String {
        format!("--x y\nContent-Disposition: form-data; name=\"file\"{head}\n\n{content}\n")
    }

    #[tokio::test]
    async fn the_part_file_of_a_form_is_the_file() {
        let named = file("; filename=\"a \u{f6}.txt\"\nContent-Type: text/plain", "--x\n\u{0}y");
        let read = form(&format!("{PURPOSE}{named}{PURPOSE}{END}"), 100).await.expect("a form");
        assert_eq!(read.name.as_deref(), Some("a \u{f6}.txt"));
        assert_eq!((read.content_type.as_str(), read.content), ("text/plain", b"--x\r\n\0y".to_vec()));
        let read = form(&format!("{}{END}", file("", "")), 100).await.expect("an empty one");
        assert_eq!((read.name, read.content_type.as_str(), read.content), (None, ANY_BYTES, Vec::new()));
    }

    #[tokio::test]
    async fn a_form_that_is_none_says_why() {
        let one = file("", "x");
        let long = "y".repeat(ASIDE_BYTES + 1);
        let aside = format!("--x y\nContent-Disposition: form-data; name=\"note\"\n\n{long}\n");
        for (parts, code, why) in [
            (format!("{PURPOSE}{END}"), Code::InvalidBody, "no part `file`"),
            (format!("{one}{one}{END}"), Code::InvalidBody, "two parts `file`"),
            (one.clone(), Code::InvalidBody, "incomplete"),
            ("what else".to_owned(), Code::InvalidBody, "incomplete"),
            (String::new(), Code::InvalidBody, "incomplete"),
            (format!("{aside}{one}{END}"), Code::InvalidBody, "beside `file`"),
            (file("; filename=\"a/b\"", "x"), Code::InvalidParameter, "filename"),
            (file("; filename=\"\"", "x"), Code::InvalidParameter, "filename"),
            (file("\nContent-Type: text", "x"), Code::InvalidParameter, "content-type"),
            (format!("{}{END}", file("", &"z".repeat(1001))), Code::Limit, "more than 1000 bytes"),
        ] {
            let problem = form(&parts, 1000).await.expect_err(why);
            let detail = problem.document()["detail"].to_string();
            assert!(problem.code() == code && detail.contains(why), "{detail}");
        }
        let problem = read_form(&mut Body::empty(), FORM, 1, None).await.expect_err("no boundary");
        assert_eq!(problem.code(), Code::InvalidParameter);
    }

    #[test]
    fn names_are_no_paths_and_are_what_they_are_seen_as() {
        for good in ["a.txt", "Größe 1.pdf", "...", ".a", "नमस्ते\u{200d}.txt"] {
            assert_eq!(check_name("name", good.to_owned()).expect("fine"), good);
        }
        let long = "x".repeat(256);
        for wrong in
            ["", ".", "..", "a/b", "a\\b", "a\nb", "a\u{202e}fdp.exe", "\u{feff}a", "a\u{200b}", &long]
        {
            let problem = check_name("name", wrong.to_owned()).expect_err(wrong);
            assert_eq!(problem.code(), Code::InvalidParameter);
            assert!(!problem.document()["detail"].to_string().contains('\u{202e}'));
        }
    }
}
