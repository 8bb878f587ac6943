//! Where a service listens, and how one gets there: a Unix socket, TCP, or TLS over TCP.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A connection, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH` or `unix:///PATH`.
    Unix(PathBuf),
    /// `http://HOST:PORT`, or `HOST:PORT` to listen at: nothing is encrypted.
    Tcp(String),
    /// `https://HOST:PORT`.
    Tls(String),
}

/// A text that is no address of a service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: expected `unix:PATH`, `http://HOST:PORT` or `https://HOST:PORT`")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let host = |rest: &str| {
            let rest = rest.trim_end_matches('/');
            let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
            let sound = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
            if sound { Ok(rest.to_owned()) } else { Err(bad()) }
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => host(rest).map(Self::Tcp),
            (_, Some(rest)) => host(rest).map(Self::Tls),
            _ => host(text).map(Self::Tcp),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Tls(host) => write!(f, "https://{host}"),
        }
    }
}

/// Connects; `authority` is a file with the certificates that are trusted, needed for TLS.
pub(crate) async fn connect(address: &Address, authority: Option<&Path>) -> io::Result<Box<dyn Stream>> {
    match address {
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp(host) => Ok(Box::new(dial(host).await?)),
        Address::Tls(host) => {
            let authority = authority
                .ok_or_else(|| io::Error::other("no file of trusted certificates was given (`worker-ca`)"))?;
            let connector = connector(authority)?;
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
            let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            Ok(Box::new(connector.connect(name, dial(host).await?).await?))
        }
    }
}

/// Without delay: a small frame would wait for the answer to the one before (40 ms on loopback).
async fn dial(host: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn connector(authority: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(|e| at(authority, e))?;
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The service's side of TLS, from a file of certificates, the service's own first, and one with its private key (PEM).
///
/// # Errors
/// Names the file that cannot be used.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, e))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| at(certificate, e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(file).map_err(|e| at(file, e))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| at(file, e))?;
    if found.is_empty() { Err(at(file, "it holds no certificate")) } else { Ok(found) }
}

fn at(file: &Path, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("`{}`: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed() {
        let check = |text: &str, expected: Option<&str>| {
            let found = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("unix:/run/w.sock", Some("unix:/run/w.sock"));
        check("unix:///run/w.sock", Some("unix:/run/w.sock"));
        check("http://127.0.0.1:8000/", Some("http://127.0.0.1:8000"));
        check("https://[::1]:8000", Some("https://[::1]:8000"));
        check("host:1", Some("http://host:1"));
        for bad in ["", "unix:", "host", "http://host", "http://host:x", "http://a/b:1", "ftp://h:1:"] {
            check(bad, None);
        }
    }
}
