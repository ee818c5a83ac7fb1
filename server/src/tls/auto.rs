//! The certificate of `--auto-tls`: made once, then kept and used again.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use super::TlsContextError;
use crate::config::{AutoTls, TlsOptions};
use crate::logging;

/// Makes the certificate and its key where one of them is missing.
///
/// # Errors
/// They cannot be made or written.
pub(super) fn provide(options: &TlsOptions, auto: &AutoTls) -> Result<(), TlsContextError> {
    let (cert_file, key_file) = (&options.cert_file, &options.key_file);
    if cert_file.exists() && key_file.exists() {
        return Ok(());
    }
    if let Some(folder) = cert_file.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed(&error))?;
    }
    let (cert, key) = make(auto).map_err(|error| failed(&error))?;
    write(cert_file, 0o666, cert.as_bytes()).map_err(|error| failed(&error))?;
    logging::info!("created cert file", "path" => cert_file.display().to_string());
    write(key_file, 0o600, key.as_bytes()).map_err(|error| failed(&error))?;
    logging::info!("created key file", "path" => key_file.display().to_string());
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> TlsContextError {
    TlsContextError::SelfSigned(error.to_string())
}

/// A certificate that vouches for itself, and its key, as PEM.
fn make(auto: &AutoTls) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    params.not_before = OffsetDateTime::now_utc();
    params.not_after = not_after(params.not_before, auto.validity_years);
    logging::warn!("automatically generate certificates",
        "certificate-validity-bound-not-after" => params.not_after.to_string());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::CrlSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in auto.hosts.iter().filter(|host| !host.is_empty()) {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    // Any number will do that no other certificate of this name has; a hash of the fresh key is one.
    let serial = key.public_key_raw().get(1..17).unwrap_or_default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

/// Years of 365 days, up to the last one that a certificate can name.
fn not_after(from: OffsetDateTime, years: u64) -> OffsetDateTime {
    let days = i64::try_from(years.saturating_mul(365)).unwrap_or(i64::MAX);
    let latest = time::Date::from_calendar_date(9999, time::Month::December, 31)
        .map_or(from, |date| date.midnight().assume_utc());
    days.checked_mul(86_400)
        .and_then(|seconds| from.checked_add(Duration::seconds(seconds)))
        .map_or(latest, |at| at.min(latest))
}

/// Writes a file that only comes to be there whole.
fn write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let draft = Path::new(&draft);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)
}
