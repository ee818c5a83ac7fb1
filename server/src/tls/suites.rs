//! Which versions and cipher suites are offered, from the words of the flags.
//!
//! As in Go, `--cipher-suites` is about TLS 1.2 only; those of 1.3 are all safe and always offered. Of Go's names the
//! ones without forward secrecy or authenticated encryption are known here, but not served.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::{TlsOptions, TlsVersion};
use crate::logging;

/// The cryptography to use, and the versions.
pub(super) fn choose(
    options: &TlsOptions,
) -> (CryptoProvider, Vec<&'static SupportedProtocolVersion>) {
    let mut provider = aws_lc_rs::default_provider();
    let names = &options.cipher_suites;
    if !names.is_empty() {
        let served = |name: &&String| provider.cipher_suites.iter().any(|s| has_name(*s, name));
        let unserved: Vec<String> = names.iter().filter(|n| !served(n)).cloned().collect();
        if !unserved.is_empty() {
            logging::warn!("some cipher suites are not offered by etcore: they lack forward secrecy or authenticated encryption",
                "cipher-suites" => unserved);
        }
        let is_chosen = |suite: SupportedCipherSuite| {
            suite.tls13().is_some() || names.iter().any(|name| has_name(suite, name))
        };
        provider.cipher_suites.retain(|suite| is_chosen(*suite));
    }
    let has_suites = |version: &SupportedProtocolVersion| {
        let mut suites = provider.cipher_suites.iter();
        suites.any(|suite| suite.version() == version)
    };
    let versions = [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)];
    let versions = versions
        .into_iter()
        .filter(|(name, version)| {
            (options.version_min..=options.version_max).contains(name) && has_suites(version)
        })
        .map(|(_, version)| version)
        .collect();
    (provider, versions)
}

/// Whether a list, if there is one, has a suite that HTTP/2 demands (RFC 9113 §9.2.2), by the words of Go's server.
pub(super) fn has_required(options: &TlsOptions) -> bool {
    const REQUIRED: [&str; 2] = [
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ];
    let names = &options.cipher_suites;
    names.is_empty() || names.iter().any(|name| REQUIRED.contains(&name.as_str()))
}

/// Whether Go calls a suite by this name: the standard's, or an older one of two.
fn has_name(suite: SupportedCipherSuite, name: &str) -> bool {
    let Some(own) = suite.suite().as_str() else {
        return false;
    };
    own == name
        || own
            .strip_suffix("_SHA256")
            .is_some_and(|short| short == name && name.ends_with("_CHACHA20_POLY1305"))
        || own.replacen("TLS13_", "TLS_", 1) == name
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;

    fn chosen(names: &[&str], min: TlsVersion, max: TlsVersion) -> (Vec<String>, usize) {
        let options = TlsOptions {
            cipher_suites: names.iter().map(|&name| name.to_owned()).collect(),
            version_min: min,
            version_max: max,
            ..options("".as_ref())
        };
        let (provider, versions) = choose(&options);
        let suites = provider.cipher_suites.iter();
        let of_12 = suites.filter(|suite| suite.tls13().is_none());
        let names = of_12.map(|suite| format!("{:?}", suite.suite()));
        (names.collect(), versions.len())
    }

    #[test]
    fn names_choose_among_the_suites_of_tls_12() {
        let both = (TlsVersion::Tls12, TlsVersion::Tls13);
        let (all, versions) = chosen(&[], both.0, both.1);
        assert_eq!((all.len(), versions), (6, 2));
        let some = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
            "TLS_RSA_WITH_RC4_128_SHA",
        ];
        let (mut names, versions) = chosen(&some, both.0, both.1);
        names.sort();
        let expected = [
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ];
        assert_eq!((names, versions), (expected.map(str::to_owned).to_vec(), 2));
    }

    #[test]
    fn http2_demands_a_suite() {
        let has = |names: &[&str]| {
            has_required(&TlsOptions {
                cipher_suites: names.iter().map(|&name| name.to_owned()).collect(),
                ..options("".as_ref())
            })
        };
        assert!(has(&[]));
        assert!(has(&["x", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]));
        assert!(!has(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]));
        assert!(!has(&["TLS_AES_128_GCM_SHA256"]));
    }

    #[test]
    fn without_a_suite_there_is_no_tls_12() {
        let old = &["TLS_RSA_WITH_RC4_128_SHA"];
        assert_eq!(chosen(old, TlsVersion::Tls12, TlsVersion::Tls13).1, 1);
        assert_eq!(chosen(old, TlsVersion::Tls12, TlsVersion::Tls12).1, 0);
        assert_eq!(chosen(&[], TlsVersion::Tls13, TlsVersion::Tls13).1, 1);
        assert_eq!(chosen(&[], TlsVersion::Tls12, TlsVersion::Tls12).1, 1);
    }
}
