//! Certificates of what is reached by TLS: the broker, where `queue.url` is `amqps://…`.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use holdpoint_engine::time::{Span, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::Finding;
use crate::configuration::Configuration;

const NAME: &str = "certificates";
/// A certificate that ends sooner is warned of.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest wait for one read or write.
const PATIENCE: Duration = Duration::from_secs(5);
/// AMQP's port over TLS.
const PORT: u16 = 5671;

/// One finding.
pub async fn examine(configuration: &Configuration) -> Finding {
    let url = configuration.queue.url.clone();
    if !url.starts_with("amqps://") {
        return Finding::ok(NAME, "not used: neither the broker nor the database is reached by TLS here");
    }
    match tokio::task::spawn_blocking(move || shown(&url)).await {
        Ok(Ok(certificate)) => judge(ends_at(&certificate), now()),
        Ok(Err(error)) => {
            let advice = "look at `queue.url`, and at the broker's listener for TLS";
            Finding::fail(NAME, format!("the broker shows none: {error:#}"), advice)
        }
        Err(_) => Finding::warn(NAME, "could not be looked at", "try again"),
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn judge(ends: Option<Timestamp>, now: Timestamp) -> Finding {
    let Some(ends) = ends else {
        return Finding::warn(NAME, "the broker's cannot be read", "look at it with `openssl s_client`");
    };
    let left = now.until(ends);
    if left.is_zero() {
        return Finding::fail(NAME, format!("the broker's ended at {ends}"), "renew it");
    }
    let what = format!("the broker's ends at {ends}, in {}", Span::secs(left.as_secs() / 86_400 * 86_400));
    if left < SOON { Finding::warn(NAME, what, "renew it") } else { Finding::ok(NAME, what) }
}

/// The certificate that the broker shows. Whether it may be trusted is for those to judge who
/// send something.
fn shown(url: &str) -> anyhow::Result<CertificateDer<'static>> {
    let url = reqwest::Url::parse(url)?;
    let host = url.host_str().context("no host")?.trim_matches(['[', ']']).to_owned();
    let mut socket = TcpStream::connect((host.as_str(), url.port().unwrap_or(PORT)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let seen = Arc::new(Seen::default());
    // A second installation changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&seen) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host)?)?;
    let greeted = connection.complete_io(&mut socket);
    let certificate = seen.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (certificate, greeted) {
        (Some(certificate), _) => Ok(certificate),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(_)) => anyhow::bail!("no certificate came"),
    }
}

/// Keeps what is shown, and ends the handshake: nothing is ever sent to whom nobody trusts.
#[derive(Debug, Default)]
struct Seen(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate.clone().into_owned());
        Err(rustls::Error::General("it was only looked at".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("it was only looked at".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("it was only looked at".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate: the second of the two times in the fourth part of what is signed
/// (RFC 5280), behind the version, where there is one.
fn ends_at(certificate: &[u8]) -> Option<Timestamp> {
    let (SEQUENCE, whole, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut signed, _) = element(whole)? else { return None };
    if let (VERSION, _, rest) = element(signed)? {
        signed = rest;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        signed = element(signed)?.2;
    }
    let (SEQUENCE, validity, _) = element(signed)? else { return None };
    let (_, _, after) = element(validity)?;
    let (kind, text, _) = element(after)?;
    time(kind, std::str::from_utf8(text).ok()?)
}

/// The first element of DER: its tag, what is in it, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `YYMMDDHHMMSSZ` (from 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn time(kind: u8, text: &str) -> Option<Timestamp> {
    let long = match kind {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| long.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    Timestamp::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    /// The parts of a certificate as far as its times.
    fn certificate(not_after: &[u8]) -> Vec<u8> {
        let der = |tag: u8, content: &[u8]| {
            let mut bytes = vec![tag, 0x82, (content.len() >> 8) as u8, content.len() as u8];
            bytes.extend_from_slice(content);
            bytes
        };
        let validity = [der(UTC_TIME, b"250101000000Z"), not_after.to_vec()].concat();
        let parts = [
            der(VERSION, &[2, 1, 2]),
            der(2, &[7]),
            der(SEQUENCE, &[6, 1, 42]),
            der(SEQUENCE, &[]),
            der(SEQUENCE, &validity),
            der(SEQUENCE, b"subject"),
        ];
        der(SEQUENCE, &[der(SEQUENCE, &parts.concat()), der(3, &[0; 200])].concat())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_within_its_bounds() {
        let told = |der: &[u8]| ends_at(&certificate(der)).map(|at| at.to_string());
        let short = [&[UTC_TIME, 13][..], b"270115080000Z"].concat();
        assert_eq!(told(&short).as_deref(), Some("2027-01-15T08:00:00.000000Z"));
        let long = [&[GENERALIZED_TIME, 15][..], b"20600115080000Z"].concat();
        assert_eq!(told(&long).as_deref(), Some("2060-01-15T08:00:00.000000Z"));
        let whole = certificate(&short);
        for cut in 0..whole.len() - 210 {
            assert_eq!(ends_at(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(told(&[UTC_TIME, 2, b'2', b'7']), None);
    }

    #[test]
    fn an_end_that_is_near_is_warned_of() {
        let at = |days: i64| Timestamp::from_micros(days * 86_400_000_000);
        assert_eq!(judge(Some(at(100)), at(1)).state, State::Ok);
        assert_eq!(judge(Some(at(20)), at(1)).state, State::Warn);
        assert_eq!(judge(Some(at(1)), at(2)).state, State::Fail);
        assert_eq!(judge(None, at(1)).state, State::Warn);
    }
}
