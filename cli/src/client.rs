//! The HTTP client of the command line: address and key, requests, and problems as errors.

use std::path::Path;

use clap::Args;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::dev_file::{DevFile, FOLDER};
use crate::usage::Usage;

/// Where the API is by default.
pub const DEFAULT_URL: &str = "http://127.0.0.1:4653";

/// Where the API is, and who calls.
#[derive(Debug, Clone, Default, Args)]
pub struct Remote {
    /// The API's address [default: without a key, that of a `holdpoint dev` of this folder, else
    /// http://127.0.0.1:4653]
    #[arg(long, env = "HOLDPOINT_URL", global = true, help_heading = "API")]
    pub url: Option<String>,
    /// The API key [default: that of a `holdpoint dev` of this folder]
    #[arg(long, env = "HOLDPOINT_KEY", hide_env_values = true, global = true, help_heading = "API")]
    pub key: Option<String>,
}

/// The API said no.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The problem document, or whatever came in its place.
    pub body: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or("");
        let detail = if text("detail").is_empty() { text("title") } else { text("detail") };
        match text("code") {
            "" => {
                write!(f, "the API answered {}: {}", self.status, crate::output::shortened(&self.body, 300))
            }
            code => write!(f, "{} {code}: {detail}", self.status),
        }
    }
}

impl std::error::Error for Refused {}

/// A client of one API with one key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Client {
    /// From what the caller gave, else from the `dev` of this folder.
    pub fn new(remote: &Remote) -> anyhow::Result<Self> {
        let (url, key) = resolve(remote, Path::new(FOLDER))?;
        Ok(Self { http: http()?, url, key })
    }

    /// The same API with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// A request to a path, authorised.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// `GET`, answered by JSON.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::GET, &with_query(path, query))).await?).await
    }

    /// `POST` of a JSON body, answered by JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::POST, path).json(body)).await?).await
    }

    /// Sends a request; an answer that is no success is a [`Refused`].
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(Refused { status, body: response.text().await.unwrap_or_default() }.into())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        if error.is_connect() {
            return anyhow::anyhow!("no Holdpoint answers at {} (is it running? see --url)", self.url);
        }
        anyhow::Error::new(error.without_url()).context(format!("the request to {} failed", self.url))
    }
}

/// A client without proxies from the environment: a key must not wander.
pub fn http() -> anyhow::Result<reqwest::Client> {
    // One TLS provider for the process; a second installation changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    Ok(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// The JSON of an answer; nothing where it has no body.
pub async fn json(response: Response) -> anyhow::Result<Value> {
    let body = response.bytes().await?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| anyhow::anyhow!("the API's answer is not JSON: {error}"))
}

impl Remote {
    /// What was given: an empty value, such as that of `HOLDPOINT_KEY=`, is none.
    pub fn given(&self) -> Self {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self { url: given(&self.url), key: given(&self.key) }
    }
}

fn resolve(remote: &Remote, folder: &Path) -> anyhow::Result<(String, String)> {
    let remote = remote.given();
    let dev = if remote.key.is_none() { DevFile::read(folder)? } else { None };
    let url = remote.url.clone().or_else(|| dev.as_ref().map(|dev| dev.url.clone()));
    let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned()).trim_end_matches('/').to_owned();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Usage(format!("--url is `{url}`: it may be http://HOST:PORT or https://HOST")).into());
    }
    let key = match (&remote.key, dev) {
        (Some(key), _) => key.clone(),
        // The key of this folder's `dev` is for that `dev` alone.
        (None, Some(dev)) if dev.url == url => dev.key,
        _ => {
            return Err(Usage(
                "no API key: give --key or HOLDPOINT_KEY, or run this in the folder of a running `holdpoint dev`".to_owned(),
            )
            .into());
        }
    };
    Ok((url, key))
}

/// A path with its query, escaped.
pub fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// One segment of a path, or a part of a query, escaped (RFC 3986).
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: Option<&str>, key: Option<&str>) -> Remote {
        Remote { url: url.map(str::to_owned), key: key.map(str::to_owned) }
    }

    #[test]
    fn a_folder_of_dev_gives_address_and_key() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(resolve(&remote(None, None), folder.path()).expect_err("no key").is::<Usage>());
        let dev = DevFile {
            url: "http://127.0.0.1:9".into(),
            key: "dev-key".into(),
            key_id: "k".into(),
            demo_port: None,
        };
        dev.write(folder.path()).expect("written");
        for nothing in [None, Some("")] {
            let found = resolve(&remote(nothing, nothing), folder.path()).expect("found");
            assert_eq!(found, ("http://127.0.0.1:9".to_owned(), "dev-key".to_owned()));
        }
    }

    #[test]
    fn the_key_of_dev_goes_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let dev = DevFile {
            url: "http://127.0.0.1:9".into(),
            key: "dev-key".into(),
            key_id: "k".into(),
            demo_port: None,
        };
        dev.write(folder.path()).expect("written");
        assert!(resolve(&remote(Some("https://example.com"), None), folder.path()).is_err());
        let found =
            resolve(&remote(Some("https://example.com/"), Some("mine")), folder.path()).expect("given");
        assert_eq!(found, ("https://example.com".to_owned(), "mine".to_owned()));
        let found = resolve(&remote(None, Some("mine")), folder.path()).expect("given");
        assert_eq!(found.0, DEFAULT_URL);
        assert!(resolve(&remote(Some("ftp://x"), Some("k")), folder.path()).expect_err("bad").is::<Usage>());
    }

    #[test]
    fn problems_are_told_by_code_and_detail() {
        let body = r#"{"status":409,"code":"already_terminal","title":"Conflict","detail":"the execution is completed"}"#;
        let refused = Refused { status: 409, body: body.to_owned() };
        assert_eq!(refused.to_string(), "409 already_terminal: the execution is completed");
        let other = Refused { status: 502, body: "bad gateway".to_owned() };
        assert_eq!(other.to_string(), "the API answered 502: bad gateway");
    }

    #[test]
    fn what_a_caller_names_is_escaped() {
        assert_eq!(
            with_query("/v1/executions", &[("label.a b", "x&y".to_owned())]),
            "/v1/executions?label.a%20b=x%26y"
        );
        assert_eq!(escape("a/b"), "a%2Fb");
    }
}
