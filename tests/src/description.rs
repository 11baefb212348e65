//! The API's own description, held against what it takes and answers: every status and code
//! is named there, every body that was taken and every answer has the shape that it says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::client::Answer;

/// One request, as far as the description speaks of it.
#[derive(Debug)]
pub struct Asked {
    method: String,
    path: String,
    body: Option<Value>,
}

impl Asked {
    /// Of a request that is about to be sent.
    pub fn of(request: &reqwest::Request) -> Self {
        let body = request.body().and_then(reqwest::Body::as_bytes);
        Self {
            method: request.method().as_str().to_ascii_lowercase(),
            path: request.url().path().to_owned(),
            body: body.and_then(|bytes| serde_json::from_slice(bytes).ok()),
        }
    }
}

/// One description for all processes of one version: what is compiled is kept.
struct Description {
    document: Value,
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

static DESCRIPTION: OnceCell<Description> = OnceCell::const_new();

/// Panics where an answer, or a body that was taken, is not as the API says.
pub async fn check(base: &str, asked: &Asked, answer: &Answer) {
    // An API that was killed since it answered has nothing more to say: the next answer is checked.
    let Ok(description) = DESCRIPTION.get_or_try_init(|| fetch(base)).await else { return };
    if let Err(wrong) = description.check(asked, answer) {
        panic!(
            "/openapi.json does not describe {} {} → {}: {wrong}\nrequest: {}\nanswer: {}",
            asked.method,
            asked.path,
            answer.status,
            asked.body.as_ref().map(Value::to_string).unwrap_or_default(),
            answer.text,
        );
    }
}

async fn fetch(base: &str) -> Result<Description, reqwest::Error> {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let response = http.get(format!("{base}/openapi.json")).send().await?.error_for_status()?;
    Ok(Description { document: response.json().await?, compiled: Mutex::default() })
}

impl Description {
    fn check(&self, asked: &Asked, answer: &Answer) -> Result<(), String> {
        let Some(path) = self.path(&asked.path) else {
            return only_code(answer, "no_such_route");
        };
        let operation = &self.document["paths"][&path][&asked.method];
        if operation.is_null() {
            return only_code(answer, "method_not_allowed");
        }
        let place = format!("/paths/{}/{}", escape(&path), asked.method);
        self.check_answer(&place, &operation["responses"], answer)?;
        match &asked.body {
            Some(body) if answer.status < 300 && !operation["requestBody"].is_null() => {
                let schema = format!("{place}/requestBody/content/application~1json/schema");
                self.fits(&schema, &without_refused(body, &answer.body))
                    .map_err(|error| format!("the body was taken, but {error}"))
            }
            _ => Ok(()),
        }
    }

    fn check_answer(&self, place: &str, responses: &Value, answer: &Answer) -> Result<(), String> {
        let status = answer.status.to_string();
        let key = if responses[&status].is_null() { "default" } else { status.as_str() };
        let response = &responses[key];
        if response.is_null() {
            return Err("no such status".to_owned());
        }
        let media = answer.header("content-type").split(';').next().unwrap_or("").trim();
        if answer.text.is_empty() && response["content"].is_null() {
            return Ok(());
        }
        if response["content"][media].is_null() {
            return Err(format!("no content of the type `{media}`"));
        }
        if !media.ends_with("json") {
            return Ok(());
        }
        self.fits(&format!("{place}/responses/{key}/content/{}/schema", escape(media)), &answer.body)
    }

    /// The path that this one is an instance of; one without names goes before one with.
    fn path(&self, path: &str) -> Option<String> {
        let segments: Vec<&str> = path.split('/').collect();
        let is_name = |part: &str| part.starts_with('{');
        let fits = |template: &&String| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == segments.len()
                && parts.iter().zip(&segments).all(|(part, segment)| is_name(part) || part == segment)
        };
        let known = self.document["paths"].as_object()?.keys();
        known.filter(fits).min_by_key(|template| template.matches('{').count()).cloned()
    }

    fn fits(&self, place: &str, value: &Value) -> Result<(), String> {
        let validator = self.validator(place);
        let errors: Vec<String> = validator
            .iter_errors(value)
            .take(3)
            .map(|error| format!("`{}`: {error}", error.instance_path()))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    fn validator(&self, place: &str) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().expect("no checker panics");
        let make = || {
            // The whole document is the root, so that references are found.
            let mut root = self.document.clone();
            root["$ref"] = json!(format!("#{place}"));
            let options = jsonschema::options().with_draft(Draft::Draft202012);
            Arc::new(options.build(&root).unwrap_or_else(|error| panic!("{place}: {error}")))
        };
        Arc::clone(compiled.entry(place.to_owned()).or_insert_with(make))
    }
}

/// Where items are judged one by one, those that were refused may have any shape.
fn without_refused(body: &Value, answer: &Value) -> Value {
    let mut body = body.clone();
    let Some(results) = answer["results"].as_array() else { return body };
    let items = body.as_object_mut().and_then(|members| members.values_mut().find_map(Value::as_array_mut));
    if let Some(items) = items {
        let mut problems = results.iter().map(|result| !result["problem"].is_null());
        items.retain(|_| !problems.next().unwrap_or(false));
    }
    body
}

fn only_code(answer: &Answer, code: &str) -> Result<(), String> {
    if answer.body["code"] == code { Ok(()) } else { Err(format!("no such operation, and not {code}")) }
}

/// A member's name within a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1").replace('{', "%7B").replace('}', "%7D")
}
