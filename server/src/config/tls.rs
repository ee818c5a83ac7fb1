//! The flags of TLS for clients: files, versions, cipher suites.
//!
//! Files are only named here. Whether they can be used is found out when the listeners are made (`crate::tls`), as in
//! etcd, and again whenever one of them changes.

use std::path::PathBuf;

use super::build::Builder;
use super::go;
use super::refusal::Refusal;
use super::url::ListenUrl;
use crate::logging::{Level, record};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Everything the flags say about TLS on client listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM files of the certificate, with its chain, and its key. With `auto` they are made where they are missing.
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// The pair for connections that this member makes; both or neither.
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    /// Whose clients are trusted; a PEM file. It alone makes a client certificate necessary.
    pub trusted_ca_file: Option<PathBuf>,
    /// A client certificate is necessary; without `trusted_ca_file` the system's authorities are trusted.
    pub client_cert_auth: bool,
    /// A DER list of certificates that are not accepted any more.
    pub crl_file: Option<PathBuf>,
    /// A client certificate must be for one of these; empty: for any.
    pub allowed_hostnames: Vec<String>,
    pub auto: Option<AutoTls>,
    /// Names of `--cipher-suites`, each known to Go; empty: all that are served.
    pub cipher_suites: Vec<String>,
    pub version_min: TlsVersion,
    pub version_max: TlsVersion,
}

impl TlsOptions {
    /// Of a certificate and its key; clients need none.
    pub fn of(cert_file: PathBuf, key_file: PathBuf) -> Self {
        Self {
            cert_file,
            key_file,
            client_cert_file: None,
            client_key_file: None,
            trusted_ca_file: None,
            client_cert_auth: false,
            crl_file: None,
            allowed_hostnames: Vec::new(),
            auto: None,
            cipher_suites: Vec::new(),
            version_min: TlsVersion::Tls12,
            version_max: TlsVersion::Tls13,
        }
    }

    /// Whether clients must show a certificate.
    pub fn requires_client_cert(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

/// `--auto-tls`: the certificate that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoTls {
    /// The hosts of the client listeners.
    pub hosts: Vec<String>,
    pub validity_years: u64,
}

/// The names that Go has for cipher suites, with its two older ones.
pub(super) const CIPHER_SUITES: [&str; 27] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

impl Builder {
    /// The check that etcd makes of the flags alone: its last one.
    pub(super) fn tls_versions(&self) -> Result<(TlsVersion, TlsVersion), Refusal> {
        let (min_text, max_text) = (
            self.set.text("tls-min-version"),
            self.set.text("tls-max-version"),
        );
        let min = parse_version(&min_text)?.unwrap_or(TlsVersion::Tls12);
        let max = parse_version(&max_text)?.unwrap_or(TlsVersion::Tls13);
        if min > max {
            return Err(Refusal::Flags(format!(
                "min version ({min_text}) is greater than max version ({max_text})"
            )));
        }
        if min == TlsVersion::Tls13 && !self.given_words("cipher-suites").is_empty() {
            return Err(Refusal::Flags(
                "cipher suites cannot be configured when only TLS1.3 is enabled".to_owned(),
            ));
        }
        Ok((min, max))
    }

    /// What etcd finds out when it makes the listeners. `None`: no certificate, so no TLS.
    pub(super) fn client_tls(
        &mut self,
        (version_min, version_max): (TlsVersion, TlsVersion),
        data_dir: &std::path::Path,
        listeners: &[ListenUrl],
    ) -> Result<Option<TlsOptions>, Refusal> {
        let cipher_suites = self.given_words("cipher-suites");
        let unknown = |name: &&String| !CIPHER_SUITES.contains(&name.as_str());
        if let Some(name) = cipher_suites.iter().find(unknown) {
            let text = format!("unexpected TLS cipher suite {}", go::quote(name));
            return Err(Refusal::Start(text));
        }
        let path = |name: &str| Some(self.set.text(name)).filter(|path| !path.is_empty());
        let (cert, key) = (path("cert-file"), path("key-file"));
        let mut options = TlsOptions {
            cert_file: cert.clone().unwrap_or_default().into(),
            key_file: key.clone().unwrap_or_default().into(),
            client_cert_file: path("client-cert-file").map(PathBuf::from),
            client_key_file: path("client-key-file").map(PathBuf::from),
            trusted_ca_file: path("trusted-ca-file").map(PathBuf::from),
            client_cert_auth: self.set.boolean("client-cert-auth"),
            crl_file: path("client-crl-file").map(PathBuf::from),
            allowed_hostnames: self.given_words("client-cert-allowed-hostname"),
            auto: None,
            cipher_suites,
            version_min,
            version_max,
        };
        let is_empty = cert.is_none() && key.is_none();
        if self.set.boolean("auto-tls") {
            if is_empty {
                options = self.auto_tls(options, data_dir, listeners)?;
            } else {
                self.notices.push(record!(
                    Level::Warn,
                    "ignoring client auto TLS since certs given"
                ));
            }
        }
        let is_empty = is_empty && options.auto.is_none();
        self.warn_of_plain(listeners, is_empty, options.client_cert_auth);
        let secure = listeners.iter().find(|listen| listen.is_secure());
        match secure {
            Some(listen) if is_empty => Err(Refusal::Start(format!(
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
                listen.url
            ))),
            _ => Ok((!is_empty).then_some(options)),
        }
    }

    /// The certificate that etcd makes forgets the other files, so clients need none.
    fn auto_tls(
        &mut self,
        options: TlsOptions,
        data_dir: &std::path::Path,
        listeners: &[ListenUrl],
    ) -> Result<TlsOptions, Refusal> {
        let validity_years = self.set.unsigned("self-signed-cert-validity");
        if validity_years == 0 {
            return Err(Refusal::StartWith {
                message: "failed to get client self-signed certs",
                error: "selfSignedCertValidity is invalid,it should be greater than 0".to_owned(),
            });
        }
        let folder = data_dir.join("fixtures").join("client");
        let hosts = listeners.iter().map(|listen| listen.url.host().to_owned());
        Ok(TlsOptions {
            auto: Some(AutoTls {
                hosts: hosts.collect(),
                validity_years,
            }),
            cipher_suites: options.cipher_suites,
            version_min: options.version_min,
            version_max: options.version_max,
            ..TlsOptions::of(folder.join("cert.pem"), folder.join("key.pem"))
        })
    }

    fn warn_of_plain(&mut self, listeners: &[ListenUrl], is_empty: bool, cert_auth: bool) {
        for listen in listeners.iter().filter(|listen| !listen.is_secure()) {
            let texts = [
                (
                    !is_empty,
                    "scheme is http or unix while key and cert files are present; ignoring key and cert files",
                ),
                (
                    cert_auth,
                    "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
                ),
            ];
            for (applies, text) in texts {
                if applies {
                    self.notices
                        .push(record!(Level::Warn, text, "client-url" => listen.url.to_string()));
                }
            }
        }
    }

    /// The words of a list, none if it is empty.
    fn given_words(&self, name: &str) -> Vec<String> {
        let words = self.set.words(name);
        match words.iter().all(String::is_empty) {
            true => Vec::new(),
            false => words,
        }
    }
}

fn parse_version(text: &str) -> Result<Option<TlsVersion>, Refusal> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::Tls12)),
        "TLS1.3" => Ok(Some(TlsVersion::Tls13)),
        other => Err(Refusal::Flags(format!(
            "unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)",
            go::quote(other)
        ))),
    }
}
