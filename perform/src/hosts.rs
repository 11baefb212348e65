//! Hosts that stand in for others: what is for `api.example.com` is sent to an address that
//! the operator names, an egress proxy or a stub in tests.

use std::collections::BTreeMap;

use reqwest::Url;

/// Stand-ins by the host that they stand in for.
#[derive(Debug, Default)]
pub(crate) struct Hosts(BTreeMap<String, Url>);

/// Where a request goes.
pub(crate) struct Target {
    /// What is connected to.
    pub url: Url,
    /// What the request says in `Host`, where that is another host.
    pub host: Option<String>,
}

impl Hosts {
    /// Reads `host=origin`; an error names the entry that cannot be worked with.
    pub fn new(entries: &[String]) -> Result<Self, String> {
        entries.iter().map(|entry| read(entry)).collect::<Result<_, String>>().map(Self)
    }

    /// Where a request for this URL goes: path and query stay, and `Host` says whom it is for.
    pub fn target(&self, url: Url) -> Target {
        let stands_in = url.host_str().and_then(|host| self.0.get(host));
        let Some(instead) = stands_in else {
            return Target { url, host: None };
        };
        let mut target = instead.clone();
        target.set_path(url.path());
        target.set_query(url.query());
        let host = url.host_str().map(|host| match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        });
        Target { url: target, host }
    }
}

fn read(entry: &str) -> Result<(String, Url), String> {
    let wrong = || {
        format!(
            "outbound.hosts has `{entry}`: write a host and an origin, as in api.example.com=http://10.0.0.7:8080"
        )
    };
    let (host, origin) = entry.split_once('=').ok_or_else(wrong)?;
    let url = Url::parse(origin).map_err(|_| wrong())?;
    let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty();
    let known = matches!(url.scheme(), "http" | "https") && url.has_host();
    if host.is_empty() || !plain || !known { Err(wrong()) } else { Ok((host.to_lowercase(), url)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(hosts: &Hosts, url: &str) -> (String, Option<String>) {
        let target = hosts.target(Url::parse(url).expect("a URL"));
        (target.url.to_string(), target.host)
    }

    #[test]
    fn path_and_query_stay_and_the_host_is_told() {
        let hosts = Hosts::new(&["Pets.example.com=http://127.0.0.1:9000".to_owned()]).expect("an origin");
        assert_eq!(
            target(&hosts, "https://pets.example.com/v2/pet/1?a=b%20c"),
            ("http://127.0.0.1:9000/v2/pet/1?a=b%20c".to_owned(), Some("pets.example.com".to_owned()))
        );
        let other = "https://example.com/v2";
        assert_eq!(target(&hosts, other), (other.to_owned(), None));
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for bad in ["127.0.0.1:9000", "ftp://a", "http://a/path", "http://a?b", "", "http://user@a"] {
            let entry = format!("a.example={bad}");
            let error = Hosts::new(std::slice::from_ref(&entry)).expect_err(bad);
            assert!(error.contains(&entry), "{error}");
        }
        assert!(Hosts::new(&["a.example".to_owned()]).is_err());
    }
}
