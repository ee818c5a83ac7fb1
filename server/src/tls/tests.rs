//! Contexts of files that are made here: what is refused, what is read again.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use net::tls::TlsSession;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;

use super::*;
use crate::config::AutoTls;

/// Options of a certificate in `dir`.
pub(super) fn options(dir: &Path) -> TlsOptions {
    TlsOptions::of(dir.join("server.pem"), dir.join("server-key.pem"))
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate for `host` and its key.
fn issue(dir: &Path, name: &str, host: &str, serial: u64, by: &Issuer<'_, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let cert = params.signed_by(&key, by).unwrap();
    fs::write(dir.join(format!("{name}.pem")), cert.pem()).unwrap();
    fs::write(dir.join(format!("{name}-key.pem")), key.serialize_pem()).unwrap();
}

/// A client that trusts what is in `ca.pem`, with this certificate if any.
fn client(dir: &Path, name: Option<&str>) -> TlsSession {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let cert = CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}-key.pem"))).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    TlsSession::client(Arc::new(config), name).unwrap()
}

/// Shakes hands in memory; what the server has to say about the client.
fn shake_hands(context: &TlsContext, mut client: TlsSession) -> Result<(), String> {
    let config = context.config().map_err(|error| error.to_string())?;
    let mut server = TlsSession::server(config).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        for is_client in [true, false] {
            let (from, to) = match is_client {
                true => (&mut client, &mut server),
                false => (&mut server, &mut client),
            };
            let mut octets = Vec::new();
            from.poll_transmit(&mut octets);
            let mut rest = &octets[..];
            while !rest.is_empty() {
                let taken = to.on_bytes(&mut rest, &mut Vec::new());
                taken.map_err(|error| error.to_string())?;
            }
        }
    }
    context
        .check_client(server.peer_certificates())
        .map_err(|error| error.to_string())
}

fn folder(ca: &Authority) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    issue(dir.path(), "server", "localhost", 1, ca);
    dir
}

fn error_of(options: &TlsOptions) -> String {
    match TlsContext::load(options) {
        Ok(_) => panic!("{options:?} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_in_gos_words() {
    let ca = authority();
    let dir = folder(&ca);
    let good = options(dir.path());
    issue(dir.path(), "other", "localhost", 2, &ca);
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "nothing").unwrap();
    let cases = [
        (
            TlsOptions {
                key_file: "".into(),
                cert_file: "a.pem".into(),
                ..good.clone()
            },
            "KeyFile and CertFile must both be present[key: , cert: a.pem]",
        ),
        (
            TlsOptions {
                cert_file: "/no/such".into(),
                ..good.clone()
            },
            "open /no/such: no such file or directory",
        ),
        (
            TlsOptions {
                cert_file: empty.clone(),
                ..good.clone()
            },
            "tls: failed to find any PEM data in certificate input",
        ),
        (
            TlsOptions {
                key_file: empty.clone(),
                ..good.clone()
            },
            "tls: failed to find any PEM data in key input",
        ),
        (
            TlsOptions {
                key_file: dir.path().join("other-key.pem"),
                ..good.clone()
            },
            "tls: private key does not match public key",
        ),
        (
            TlsOptions {
                client_cert_file: Some("x".into()),
                ..good.clone()
            },
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: x]",
        ),
        (
            TlsOptions {
                trusted_ca_file: Some("/no/ca".into()),
                ..good.clone()
            },
            "open /no/ca: no such file or directory",
        ),
        (
            TlsOptions {
                trusted_ca_file: Some(empty),
                ..good
            },
            "no authority for client certificates is known: --trusted-ca-file holds no certificate",
        ),
    ];
    for (options, text) in cases {
        assert_eq!(error_of(&options), text);
    }
}

#[test]
fn a_new_certificate_is_shown_without_a_restart() {
    let ca = authority();
    let dir = folder(&ca);
    let context = TlsContext::load(&options(dir.path())).unwrap();
    shake_hands(&context, client(dir.path(), None)).unwrap();
    // One of another authority, so that the client can tell them apart.
    let other = authority();
    fs::write(dir.path().join("ca.pem"), other.pem()).unwrap();
    let error = shake_hands(&context, client(dir.path(), None)).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
    issue(dir.path(), "server", "localhost", 3, &other);
    shake_hands(&context, client(dir.path(), None)).unwrap();
    // While the files are of no use nobody is served; then all is well again.
    let key = dir.path().join("server-key.pem");
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let error = shake_hands(&context, client(dir.path(), None)).unwrap_err();
    assert!(error.contains("no such file"), "{error}");
    fs::write(&key, kept).unwrap();
    shake_hands(&context, client(dir.path(), None)).unwrap();
}

#[test]
fn clients_are_judged_by_authority_name_and_list() {
    let ca = authority();
    let dir = folder(&ca);
    issue(dir.path(), "good", "client.example", 7, &ca);
    issue(dir.path(), "bad", "other.example", 0xabc, &ca);
    issue(dir.path(), "stranger", "client.example", 7, &authority());
    let trusting = TlsOptions {
        trusted_ca_file: Some(dir.path().join("ca.pem")),
        ..options(dir.path())
    };
    let judge = |options: &TlsOptions, name: Option<&str>| {
        let context = TlsContext::load(options).unwrap();
        shake_hands(&context, client(dir.path(), name))
    };
    judge(&trusting, Some("good")).unwrap();
    judge(&trusting, Some("bad")).unwrap();
    let error = judge(&trusting, None).unwrap_err();
    assert!(error.contains("no certificate"), "{error}");
    let error = judge(&trusting, Some("stranger")).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");

    let named = TlsOptions {
        allowed_hostnames: vec!["elsewhere".to_owned(), "client.example".to_owned()],
        ..trusting.clone()
    };
    judge(&named, Some("good")).unwrap();
    let error = judge(&named, Some("bad")).unwrap_err();
    assert!(error.contains("NotAllowed"), "{error}");

    let listed = TlsOptions {
        crl_file: Some(dir.path().join("crl.der")),
        ..trusting
    };
    let error = judge(&listed, Some("good")).unwrap_err();
    assert!(error.contains("no such file"), "{error}");
    let now = OffsetDateTime::now_utc();
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: now + time::Duration::days(1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(0xabc_u64),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&ca).unwrap();
    fs::write(dir.path().join("crl.der"), list.der()).unwrap();
    judge(&listed, Some("good")).unwrap();
    let error = judge(&listed, Some("bad")).unwrap_err();
    assert_eq!(error, "transport: certificate serial abc revoked");
}

#[test]
fn auto_tls_makes_a_certificate_once() {
    let dir = tempfile::tempdir().unwrap();
    let auto = TlsOptions {
        cert_file: dir.path().join("fixtures/client/cert.pem"),
        key_file: dir.path().join("fixtures/client/key.pem"),
        auto: Some(AutoTls {
            hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            validity_years: u64::MAX,
        }),
        ..options(dir.path())
    };
    TlsContext::load(&auto).unwrap();
    let made = fs::read(&auto.cert_file).unwrap();
    let (addresses, names) = names_of(&CertificateDer::from_pem_slice(&made).unwrap());
    assert_eq!(
        (addresses, names),
        (vec!["127.0.0.1".to_owned()], vec!["localhost".to_owned()])
    );
    TlsContext::load(&auto).unwrap();
    assert_eq!(fs::read(&auto.cert_file).unwrap(), made);
    fs::remove_file(&auto.key_file).unwrap();
    TlsContext::load(&auto).unwrap();
    assert_ne!(fs::read(&auto.cert_file).unwrap(), made);
}
