//! Certificates of what is reached by TLS: the broker, where `queue.url` is `amqps://…`.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use holdpoint_engine::time::{Span, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

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

/// When a certificate ends.
fn ends_at(certificate: &[u8]) -> Option<Timestamp> {
    let read = Certificate::from_der(certificate).ok()?;
    let since = read.tbs_certificate.validity.not_after.to_unix_duration();
    Some(Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::doctor::State;

    /// Its end is a GeneralizedTime, beyond 2049.
    const LONG: &str = concat!(
        "MIIBSDCB+6ADAgECAhRddqNmHg6WySJdD+IF+wHm40qwKTAFBgMrZXAwGTEXMBUGA1UEAwwOYnJva2VyLmV4YW1wbGUwIBcNMjYx",
        "MTIxMjAwOTUzWhgPMjA1OTA5MjkyMDA5NTNaMBkxFzAVBgNVBAMMDmJyb2tlci5leGFtcGxlMCowBQYDK2VwAyEAHdtg10U225a/",
        "ixlP5p2nD2DYq+L8y4uOYq1MzxesjDGjUzBRMB0GA1UdDgQWBBS5LEwMLAH5F14JnSoKO1QhsUjCpTAfBgNVHSMEGDAWgBS5LEwM",
        "LAH5F14JnSoKO1QhsUjCpTAPBgNVHRMBAf8EBTADAQH/MAUGAytlcANBAKPAeYOkQ+2cRp060xe5UFk7LM+Xdwr9pHo/Q9FupBxg",
        "H40OwzbNNwUdKZXg1mV9QjqwYAOlOZgX/EBdNeSNYQk=",
    );
    /// Its end is a UTCTime.
    const SHORT: &str = concat!(
        "MIIBRjCB+aADAgECAhQFkzlL7KWuDA5T8Uf/Id5ogngcFDAFBgMrZXAwGTEXMBUGA1UEAwwOYnJva2VyLmV4YW1wbGUwHhcNMjYx",
        "MTIxMjAwOTUzWhcNMjcwMTIwMjAwOTUzWjAZMRcwFQYDVQQDDA5icm9rZXIuZXhhbXBsZTAqMAUGAytlcAMhAB3bYNdFNtuWv4sZ",
        "T+adpw9g2Kvi/MuLjmKtTM8XrIwxo1MwUTAdBgNVHQ4EFgQUuSxMDCwB+RdeCZ0qCjtUIbFIwqUwHwYDVR0jBBgwFoAUuSxMDCwB",
        "+RdeCZ0qCjtUIbFIwqUwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQBuSSMxtxuwp4nE5ErSsr+M8u/aQ/6eIYHgMrT+9dyAslvi",
        "0okUeQcE3qCRU6L38+zL2gUY/8VjN9LtCvJw4l8K",
    );
    /// The key of both; of nothing else.
    const KEY: &str = "MC4CAQAwBQYDK2VwBCIEIP/panEFzC6v5yGQ4tFt/5MqHFqbU2KSFnareCQtdQ3k";

    fn bytes(text: &str) -> Vec<u8> {
        STANDARD.decode(text).expect("base64")
    }

    #[test]
    fn the_end_of_a_certificate_is_read_within_its_bounds() {
        let told = |text: &str| ends_at(&bytes(text)).map(|at| at.to_string());
        assert_eq!(told(LONG).as_deref(), Some("2059-09-29T20:09:53.000000Z"));
        assert_eq!(told(SHORT).as_deref(), Some("2027-01-20T20:09:53.000000Z"));
        let whole = bytes(SHORT);
        for cut in 0..whole.len() {
            assert_eq!(ends_at(&whole[..cut]), None, "{cut}");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 0xff;
            ends_at(&wrong);
        }
    }

    /// A listener that shows a certificate, as a broker does, until the caller leaves.
    fn shows(certificate: &str) -> (String, std::thread::JoinHandle<()>) {
        drop(rustls::crypto::ring::default_provider().install_default());
        let key = PrivateKeyDer::Pkcs8(bytes(KEY).into());
        let chain = vec![CertificateDer::from(bytes(certificate))];
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let config = Arc::new(config.expect("a key of this certificate"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("amqps://127.0.0.1:{}/", listener.local_addr().expect("an address").port());
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a caller");
            let mut connection = ServerConnection::new(config).expect("a connection");
            assert!(connection.complete_io(&mut socket).is_err(), "the caller only looks");
        });
        (url, server)
    }

    #[test]
    fn what_a_listener_shows_is_looked_at_and_nothing_is_sent() {
        for certificate in [LONG, SHORT] {
            let (url, server) = shows(certificate);
            assert_eq!(shown(&url).expect("it shows one").as_ref(), bytes(certificate));
            server.join().expect("it saw the caller leave");
        }
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
