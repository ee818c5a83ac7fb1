//! TLS on client listeners: which certificate is shown, who is trusted, and the files behind both.
//!
//! ```text
//!  flags -> TlsOptions -> TlsContext::load        once, before anything is served: every file must be usable
//!                          `-> TlsContext::config  for each handshake; certificate and key are read again if changed
//!                          `-> check_client        after it; the list of revoked certificates is read each time
//! ```
//!
//! The context belongs to all shards. All of this may block on files and costs a few milliseconds when one has changed,
//! so it is done on helper threads, together with the handshake (`crate::shard`'s `handshake`).
//!
//! What is etcd's: while the files of a certificate cannot be used, handshakes fail and the log says why; authorities are
//! read once. What is ours: authorities that are none are refused at the start, where etcd would refuse every client.
//! Sessions are not resumed where clients need a certificate, so that each of them is judged anew.

mod auto;
mod clients;
mod files;
mod hostname;
mod suites;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use crate::config::TlsOptions;
use crate::logging;
pub(crate) use clients::{RevokedError, names_of};
use files::Stamp;

/// What clients may agree to speak (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A file of TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("open {}: {reason}", path.display())]
    Open { path: PathBuf, reason: String },
    #[error("tls: failed to find any PEM data in certificate input")]
    NoCertificate,
    #[error("tls: failed to find any PEM data in key input")]
    NoKey,
    #[error("tls: private key does not match public key")]
    Mismatch,
    #[error("tls: {0}")]
    Unusable(String),
    #[error("{}: {reason}", path.display())]
    Authority { path: PathBuf, reason: String },
}

/// Why TLS cannot be served with these options. The member does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsContextError {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    Half { key: String, cert: String },
    // The bracket that opens nothing is etcd's.
    #[error(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]"
    )]
    ClientHalf { key: String, cert: String },
    #[error(transparent)]
    File(#[from] TlsFileError),
    /// No client could ever show a certificate that is trusted.
    #[error(
        "no authority for client certificates is known: --trusted-ca-file holds no certificate"
    )]
    NoAuthority,
    /// As in etcd, where Go's HTTP/2 server wants one, whatever TLS 1.3 offers besides.
    #[error(
        "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher (need at least one of \
         TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)"
    )]
    NoRequiredSuite,
    #[error("tls: {0}")]
    Unusable(String),
    /// The certificate of `--auto-tls` cannot be made.
    #[error("{0}")]
    SelfSigned(String),
}

/// What all handshakes of client listeners share.
pub(crate) struct TlsContext {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    loaded: Mutex<Loaded>,
}

/// The certificate as it was last read.
struct Loaded {
    stamps: [Option<Stamp>; 2],
    config: Arc<ServerConfig>,
}

impl TlsContext {
    /// Reads all files, and makes the certificate of `--auto-tls` if it is not there yet.
    ///
    /// # Errors
    /// A [`TlsContextError`], in etcd's words where it has some.
    pub(crate) fn load(options: &TlsOptions) -> Result<Self, TlsContextError> {
        if let Some(auto) = &options.auto {
            auto::provide(options, auto)?;
        }
        check_pairs(options)?;
        if !suites::has_required(options) {
            return Err(TlsContextError::NoRequiredSuite);
        }
        let (provider, versions) = suites::choose(options);
        let provider = Arc::new(provider);
        if let (Some(cert), Some(key)) = (&options.client_cert_file, &options.client_key_file) {
            files::read_pair(cert, key, &provider)?;
        }
        let verifier = clients::verifier(options, &provider)?;
        let loaded = read(options, &provider, &versions, verifier.as_ref())?;
        Ok(TlsContext {
            options: options.clone(),
            provider,
            versions,
            verifier,
            loaded: Mutex::new(loaded),
        })
    }

    /// What the next handshake is done with. May block on files.
    ///
    /// # Errors
    /// The files have changed and cannot be used.
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, TlsContextError> {
        // A panic elsewhere leaves what was loaded before, which is whole.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.options);
        let is_same = |(then, now): (&Option<Stamp>, &Option<Stamp>)| Stamp::is_same(*then, *now);
        if !loaded.stamps.iter().zip(&now).all(is_same) {
            *loaded = self.read_again().inspect_err(|error| {
                let text = match error {
                    TlsContextError::File(TlsFileError::Open { .. }) => {
                        "failed to find peer cert files"
                    }
                    _ => "failed to create peer certificate",
                };
                logging::warn!(text, "cert-file" => self.options.cert_file.display().to_string(),
                    "key-file" => self.options.key_file.display().to_string(), "error" => error.to_string());
            })?;
        }
        Ok(Arc::clone(&loaded.config))
    }

    fn read_again(&self) -> Result<Loaded, TlsContextError> {
        read(
            &self.options,
            &self.provider,
            &self.versions,
            self.verifier.as_ref(),
        )
    }

    /// Refuses a client with a revoked certificate. May block on files.
    ///
    /// # Errors
    /// [`RevokedError`], also if the list cannot be read.
    pub(crate) fn check_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), RevokedError> {
        match &self.options.crl_file {
            Some(file) if !chain.is_empty() => clients::check_revoked(file, chain),
            _ => Ok(()),
        }
    }
}

fn check_pairs(options: &TlsOptions) -> Result<(), TlsContextError> {
    let (cert, key) = (&options.cert_file, &options.key_file);
    if cert.as_os_str().is_empty() || key.as_os_str().is_empty() {
        return Err(TlsContextError::Half {
            key: key.display().to_string(),
            cert: cert.display().to_string(),
        });
    }
    if options.client_cert_file.is_some() != options.client_key_file.is_some() {
        let shown = |path: &Option<PathBuf>| path.as_deref().map(|p| p.display().to_string());
        return Err(TlsContextError::ClientHalf {
            key: shown(&options.client_key_file).unwrap_or_default(),
            cert: shown(&options.client_cert_file).unwrap_or_default(),
        });
    }
    Ok(())
}

fn stamps(options: &TlsOptions) -> [Option<Stamp>; 2] {
    [&options.cert_file, &options.key_file].map(|path| Stamp::of(path))
}

/// Reads certificate and key, and puts all together.
fn read(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Option<&Arc<dyn ClientCertVerifier>>,
) -> Result<Loaded, TlsContextError> {
    // Before the files: what changes between is read again at the next handshake.
    let stamps = stamps(options);
    let pair = files::read_pair(&options.cert_file, &options.key_file, provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| TlsContextError::Unusable(error.to_string()))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    if verifier.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded {
        stamps,
        config: Arc::new(config),
    })
}

#[cfg(test)]
mod tests;
