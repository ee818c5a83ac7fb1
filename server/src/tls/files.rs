//! PEM files: certificates, keys, authorities; and whether a file has changed.
//!
//! The texts of errors are those of Go, which operators look for.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsFileError;

/// A chain, a key or a list of authorities is some KiB; a revocation list may be a few MiB.
const FILE_SIZE_BYTES_MAX: u64 = 64 << 20;

/// A file that was changed so shortly before it was read may be changed again within the clock's grain.
const SETTLED: Duration = Duration::from_secs(2);

/// Where the usual systems keep the authorities that they trust; Go looks at the same places, in this order.
const SYSTEM_AUTHORITIES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads a file whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let open_error = |error: io::Error| TlsFileError::Open {
        path: path.to_owned(),
        reason: reason(&error),
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_SIZE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(open_error)?;
    Ok(bytes)
}

/// Go's words for what the kernel says.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Reads a certificate with its chain and its key, and sees to it that they belong together.
pub(super) fn read_pair(
    cert_file: &Path,
    key_file: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsFileError> {
    let (cert, key) = (read(cert_file)?, read(key_file)?);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&cert)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsFileError::NoCertificate)?;
    if chain.is_empty() {
        return Err(TlsFileError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsFileError::NoKey)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsFileError::Mismatch,
        other => TlsFileError::Unusable(other.to_string()),
    })
}

/// Reads the authorities in a file; all must be certificates.
pub(super) fn read_authorities(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let bytes = read(path)?;
    let mut authorities = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&bytes) {
        let added = cert
            .map_err(|error| error.to_string())
            .and_then(|cert| authorities.add(cert).map_err(|error| error.to_string()));
        added.map_err(|reason| TlsFileError::Authority {
            path: path.to_owned(),
            reason,
        })?;
    }
    Ok(authorities)
}

/// What the system trusts; nothing if it says so nowhere.
pub(super) fn system_authorities() -> RootCertStore {
    let mut authorities = RootCertStore::empty();
    for path in SYSTEM_AUTHORITIES {
        if let Ok(bytes) = fs::read(path) {
            let certs = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
            authorities.add_parsable_certificates(certs);
            break;
        }
    }
    authorities
}

/// What tells a file from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    is_settled: bool,
}

impl Stamp {
    /// Of what is at `path` now; `None` if nothing can be seen there.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::new(&metadata))
    }

    fn new(metadata: &Metadata) -> Self {
        let age = metadata.modified().map(|at| {
            let now = SystemTime::now();
            now.duration_since(at).unwrap_or_default()
        });
        Stamp {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_settled: age.is_ok_and(|age| age >= SETTLED),
        }
    }

    /// Whether what was read at `then` still stands in the file.
    pub(super) fn is_same(then: Option<Self>, now: Option<Self>) -> bool {
        then.is_some_and(|then| then.is_settled) && then == now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_is_not_trusted_to_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(!Stamp::is_same(Stamp::of(&path), Stamp::of(&path)));
        fs::write(&path, "a").unwrap();
        assert!(!Stamp::is_same(Stamp::of(&path), Stamp::of(&path)));
        let file = File::options().write(true).open(&path).unwrap();
        let old = SystemTime::now() - 2 * SETTLED;
        file.set_modified(old).unwrap();
        let before = Stamp::of(&path);
        assert!(Stamp::is_same(before, Stamp::of(&path)));
        // The same length and time, but another file.
        let other = dir.path().join("y");
        fs::write(&other, "b").unwrap();
        let file = File::options().write(true).open(&other).unwrap();
        file.set_modified(old).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(!Stamp::is_same(before, Stamp::of(&path)));
    }

    #[test]
    fn errors_are_those_of_go() {
        let error = read(Path::new("/no/such.pem")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "open /no/such.pem: no such file or directory"
        );
    }
}
