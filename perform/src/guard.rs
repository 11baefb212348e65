//! The guard on outbound calls: private, loopback, link-local, metadata and mapped addresses
//! are refused unless the operator allows their network. Names are judged by the addresses
//! that the connection will really use (a resolver of our own), literals before the call
//! (a client asks no resolver for them). Redirects are not followed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Networks that are never the public internet (IANA special-purpose registries).
const SPECIAL: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

#[derive(Debug)]
pub(crate) struct Guard {
    special: Vec<IpNet>,
    allowed: Vec<IpNet>,
}

/// An address that calls may not reach.
#[derive(Debug, thiserror::Error)]
#[error("the address {0} is not one that calls may reach (see outbound.allow_networks)")]
pub(crate) struct Refused(String);

/// The guard's word in a failed call, if it was the guard.
pub(crate) fn refusal(error: &reqwest::Error) -> Option<String> {
    let mut current: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = current {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.to_string());
        }
        current = error.source();
    }
    None
}

impl Guard {
    pub fn new(allow: &[String]) -> Result<Self, String> {
        let allowed = allow.iter().map(|network| {
            network.parse().map_err(|_| {
                format!(
                    "outbound.allow_networks has `{network}`: write a network such as 10.1.0.0/16 or ::1/128"
                )
            })
        });
        let special = SPECIAL.iter().filter_map(|network| network.parse().ok()).collect();
        Ok(Self { special, allowed: allowed.collect::<Result<_, _>>()? })
    }

    /// Whether a connection may be made to this address.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        let in_any = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        in_any(&self.allowed) || !in_any(&self.special)
    }

    /// Judges an address that stands in the URL itself.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        // Brackets stand around an IPv6 literal; the URL parser has made every other way of
        // writing an address (decimal, octal, hexadecimal) into dotted numbers.
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if !self.permits(address) => Err(Refused(address.to_string())),
            _ => Ok(()),
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64, 6to4.
fn unmapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let s = six.segments();
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => four(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] => four(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => four(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let permitted = Guard { special: self.special.clone(), allowed: self.allowed.clone() };
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (good, bad): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|found| permitted.permits(found.ip()));
            match (good.is_empty(), bad.first()) {
                (true, Some(refused)) => Err(Refused(refused.ip().to_string()).into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_network_is_one() {
        assert_eq!(Guard::new(&[]).expect("valid").special.len(), SPECIAL.len());
    }

    #[test]
    fn addresses_inside_are_refused_however_they_are_written() {
        let guard = Guard::new(&[]).expect("valid");
        for inside in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::a00:1]/",
            "http://[2002:7f00:1::]/",
            "http://169.254.169.254/latest",
            "http://10.1.2.3/",
            "http://192.168.1.1/",
            "http://172.31.0.1/",
            "http://100.64.0.1/",
            "http://[fd00::1]/",
            "http://[fe80::1]/",
            "http://0.0.0.0/",
        ] {
            let url = Url::parse(inside).expect(inside);
            assert!(guard.check_literal(&url).is_err(), "{inside} was let through");
        }
        for outside in ["http://93.184.216.34/", "http://[2606:2800:220:1::1]/", "http://example.com/"] {
            assert!(guard.check_literal(&Url::parse(outside).expect(outside)).is_ok(), "{outside}");
        }
    }

    #[test]
    fn an_operator_may_allow_a_network() {
        let guard = Guard::new(&["127.0.0.0/8".to_owned()]).expect("valid");
        assert!(guard.permits("127.0.0.1".parse().expect("valid")));
        assert!(guard.permits("::ffff:127.0.0.1".parse().expect("valid")));
        assert!(!guard.permits("10.0.0.1".parse().expect("valid")));
        assert!(Guard::new(&["localhost".to_owned()]).expect_err("no network").contains("localhost"));
    }
}
