//! Redirects, followed one by one so that the guard sees each address. What a server gets to
//! know after a hop to another origin is what every server may: no credentials, no headers of
//! the workflow's author but those on the content.

use holdpoint_engine::status::ErrorType;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Method, StatusCode, Url};

use super::{check, server};
use crate::{Fault, Performer};

/// So many redirects are followed.
pub(super) const HOPS: usize = 10;
/// What goes on to another origin.
const FOR_ANYBODY: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];

/// A request as it is sent next.
#[derive(Clone)]
pub(super) struct Hop {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
    /// The request that was asked for is answered, and only where to look is left: whatever
    /// goes wrong now, it may have happened.
    pub happened: bool,
}

/// Where the answer sends us, if it does. Answers like 304, or without a place, are answers.
pub(super) fn target(from: &Url, status: StatusCode, headers: &HeaderMap) -> Result<Option<Url>, Fault> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(place) = headers.get(header::LOCATION) else { return Ok(None) };
    let place = place.to_str().ok().and_then(|place| from.join(place).ok());
    let wrong = || format!("{} redirects to a place that makes no sense", server(from));
    let mut url = place.ok_or_else(|| Fault::definite(ErrorType::Logic, wrong()))?;
    if url.fragment().is_none() {
        url.set_fragment(from.fragment());
    }
    Ok(Some(url))
}

impl Hop {
    /// The request that follows a redirect: 303 is looked up by GET, as 301 and 302 after a POST are
    /// by custom; 307 and 308 repeat it as it was.
    pub fn follow(self, performer: &Performer, status: StatusCode, to: Url) -> Result<Self, Fault> {
        check(performer, &to)?;
        let looks = match status.as_u16() {
            303 => self.method != Method::HEAD,
            301 | 302 => self.method == Method::POST,
            _ => false,
        };
        let mut next = Self { url: to, ..self.clone() };
        if looks {
            next.happened |= !self.method.is_safe();
            next.method = Method::GET;
            next.body = None;
            next.headers.remove(header::CONTENT_TYPE);
        }
        if next.url.origin() != self.url.origin() {
            let all: Vec<HeaderName> = next.headers.keys().cloned().collect();
            for name in all.iter().filter(|name| !FOR_ANYBODY.contains(name)) {
                next.headers.remove(name);
            }
        }
        Ok(next)
    }

    /// A fault of this hop, as one of the whole call.
    pub fn fault(&self, fault: Fault) -> Fault {
        if self.happened { fault.not_definite() } else { fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn performer() -> Performer {
        Performer::new(&Settings::default(), 1000).expect("a performer")
    }

    fn post(url: &str) -> Hop {
        let mut headers = HeaderMap::new();
        for name in ["authorization", "content-type", "x-api-key", "accept"] {
            headers.insert(HeaderName::from_static(name), "v".parse().expect("a value"));
        }
        let url = url.parse().expect("a URL");
        Hop { method: Method::POST, url, headers, body: Some(b"{}".to_vec()), happened: false }
    }

    fn followed(status: u16, to: &str) -> Hop {
        let status = StatusCode::from_u16(status).expect("a status");
        let hop = post("https://a.example/x").follow(&performer(), status, to.parse().expect("a URL"));
        hop.map_err(|fault| fault.failure.message).expect("followed")
    }

    #[test]
    fn a_post_is_looked_up_or_repeated_as_the_status_says() {
        for status in [301, 302, 303] {
            let hop = followed(status, "https://a.example/y");
            assert_eq!((hop.method, hop.body, hop.happened), (Method::GET, None, true), "{status}");
            assert!(hop.headers.contains_key("authorization"), "the same origin may know");
            assert!(!hop.headers.contains_key("content-type"));
        }
        for status in [307, 308] {
            let hop = followed(status, "https://a.example/y");
            assert_eq!((hop.method, hop.happened), (Method::POST, false), "{status}");
            assert_eq!(hop.body, Some(b"{}".to_vec()));
        }
    }

    #[test]
    fn another_origin_gets_no_credentials() {
        for to in ["https://b.example/", "http://a.example/", "https://a.example:8443/"] {
            let hop = followed(307, to);
            let names: Vec<_> = hop.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(names.len(), 2, "{to}: {names:?}");
            assert!(hop.headers.contains_key("accept") && hop.headers.contains_key("content-type"));
            assert!(!followed(303, to).headers.contains_key("content-type"));
        }
    }

    #[test]
    fn a_hop_inside_is_refused() {
        for inside in ["http://169.254.169.254/latest", "file:///etc/passwd", "http://u:p@b.example/"] {
            let hop = post("https://a.example/x");
            let fault = hop.follow(&performer(), StatusCode::FOUND, inside.parse().expect("a URL")).err();
            assert!(fault.is_some(), "{inside} was let through");
        }
    }

    #[test]
    fn only_a_redirect_with_a_place_leads_on() {
        let from: Url = "https://a.example/x/y".parse().expect("a URL");
        let mut headers = HeaderMap::new();
        let to = |status: u16, headers: &HeaderMap| {
            target(&from, StatusCode::from_u16(status).expect("a status"), headers).ok().flatten()
        };
        assert_eq!(to(302, &headers), None);
        headers.insert("location", "../z?a=1".parse().expect("a value"));
        assert_eq!(to(302, &headers).map(String::from), Some("https://a.example/z?a=1".to_owned()));
        assert_eq!(to(304, &headers), None);
        assert_eq!(to(200, &headers), None);
    }
}
