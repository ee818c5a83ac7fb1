//! Which client certificates are accepted.
//!
//! ```text
//!  during the handshake   signed by a trusted authority, valid now, for clients; for one of the allowed names
//!  after it               none of the chain is revoked
//! ```
//!
//! The list of revoked certificates is only looked at for serial numbers, as in etcd: who signed it, for whom and until
//! when it is valid counts for nothing.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use super::{TlsContextError, TlsFileError};
use super::{files, hostname};
use crate::config::TlsOptions;
use rustls::crypto::CryptoProvider;

/// A certificate that is trusted, but for none of the names that are allowed.
#[derive(Debug, thiserror::Error)]
#[error("client certificate authentication failed")]
pub(super) struct NotAllowed;

/// The check during the handshake; `None` if clients need no certificate.
pub(super) fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsContextError> {
    if !options.requires_client_cert() {
        return Ok(None);
    }
    let authorities = match &options.trusted_ca_file {
        Some(path) => files::read_authorities(path)?,
        None => files::system_authorities(),
    };
    if authorities.is_empty() {
        return Err(TlsContextError::NoAuthority);
    }
    let roots = Arc::new(authorities);
    let trust = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|error| TlsContextError::Unusable(error.to_string()))?;
    if options.allowed_hostnames.is_empty() {
        return Ok(Some(trust));
    }
    Ok(Some(Arc::new(AllowedNames {
        trust,
        names: options.allowed_hostnames.clone(),
    })))
}

/// Trust, and a certificate for one of these names.
#[derive(Debug)]
struct AllowedNames {
    trust: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for AllowedNames {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .trust
            .verify_client_cert(end_entity, intermediates, now)?;
        let (addresses, names) = names_of(end_entity);
        let is_allowed = |host: &String| hostname::is_for(host, &addresses, &names);
        if self.names.iter().any(is_allowed) {
            return Ok(verified);
        }
        let reason = OtherError(Arc::new(NotAllowed));
        Err(CertificateError::Other(reason).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.supported_verify_schemes()
    }
}

/// Refuses a chain with a certificate that the list names.
pub(super) fn check_revoked(
    crl_file: &Path,
    chain: &[CertificateDer<'_>],
) -> Result<(), RevokedError> {
    let bytes = files::read(crl_file)?;
    let (_, list) = CertificateRevocationList::from_der(&bytes)
        .map_err(|error| RevokedError::List(error.to_string()))?;
    for cert in chain {
        let (_, cert) = X509Certificate::from_der(cert)
            .map_err(|error| RevokedError::Certificate(error.to_string()))?;
        let serial = &cert.tbs_certificate.serial;
        let mut revoked = list.iter_revoked_certificates();
        if revoked.any(|entry| entry.user_certificate == *serial) {
            return Err(RevokedError::Revoked(format!("{serial:x}")));
        }
    }
    Ok(())
}

/// Why a client is refused whose certificate is trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokedError {
    #[error(transparent)]
    File(#[from] TlsFileError),
    #[error("x509: malformed crl: {0}")]
    List(String),
    #[error("x509: malformed certificate: {0}")]
    Certificate(String),
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
}

/// The addresses and names in a certificate.
pub(crate) fn names_of(cert: &CertificateDer<'_>) -> (Vec<String>, Vec<String>) {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    let Ok((_, cert)) = X509Certificate::from_der(cert) else {
        return (addresses, names);
    };
    let alternatives = cert.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|a| &a.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => addresses.extend(address_text(octets)),
            _ => {}
        }
    }
    (addresses, names)
}

fn address_text(octets: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}
