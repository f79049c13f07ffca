//! The two files of a certificate: [`TlsFiles`], and what can be wrong with them.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::Error::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Time;

/// More than any chain of certificates has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the certificate and its private key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those of its issuers that clients do not have (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// What is wrong with a certificate or its key, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}: {error}; {option} is a PEM file that this user may read (`rowcast cert` makes one for development)", path.display())]
    Unreadable {
        /// Which option named it.
        option: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not a PEM file ({reason}); convert it with `openssl`, or give the right file to {option}", path.display())]
    NotPem {
        /// Which option named it.
        option: &'static str,
        /// Which file.
        path: PathBuf,
        /// Where it stops to be one.
        reason: String,
    },
    /// The first file has no certificate.
    #[error("{} holds no certificate; give the file that begins with -----BEGIN CERTIFICATE----- to --tls-cert", .0.display())]
    NoCertificate(PathBuf),
    /// The second file has no private key.
    #[error("{} holds no private key; give the file with a -----BEGIN PRIVATE KEY----- to --tls-key", .0.display())]
    NoKey(PathBuf),
    /// What stands in the PEM file is not a certificate.
    #[error("{} holds something else than an X.509 certificate ({reason}); have it issued again", path.display())]
    NotCertificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The time of the certificate is over.
    #[error("the certificate in {} expired at {at}; renew it, and give the new file to --tls-cert", path.display())]
    Expired {
        /// Which file.
        path: PathBuf,
        /// Its last second.
        at: String,
    },
    /// The time of the certificate has not come.
    #[error("the certificate in {} is not valid before {at}; wait until then, set this machine's clock right, or give another file to --tls-cert", path.display())]
    NotYetValid {
        /// Which file.
        path: PathBuf,
        /// Its first second.
        at: String,
    },
    /// The key is another certificate's.
    #[error("the key in {} does not belong to the certificate in {}; give the two files that were made together", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// The key cannot be used.
    #[error("the key in {} cannot be used ({reason}); use an RSA, ECDSA (P-256, P-384) or Ed25519 key without a password", path.display())]
    UnusableKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The operating system gives no random numbers.
    #[error("this system gives no random numbers, which TLS needs; look at getrandom(2)")]
    Random,
}

/// What a change of the files changes.
pub(super) type Stamp = [Option<(i64, i64, u64, u64)>; 2];

impl TlsFiles {
    /// Reads both files and checks that they can be served at `now`.
    pub(super) fn load(&self, now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = self.chain()?;
        self.check_validity(&chain[0], now)?;
        let key = self.private_key()?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            InconsistentKeys(_) => TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() },
            error => TlsError::UnusableKey { path: self.key.clone(), reason: error.to_string() },
        })?;
        Ok(Arc::new(certified))
    }

    /// Times of change, lengths and inodes; a file that is not there has none.
    pub(super) fn stamp(&self) -> Stamp {
        [&self.certificate, &self.key]
            .map(|path| fs::metadata(path).ok().map(|file| (file.mtime(), file.mtime_nsec(), file.size(), file.ino())))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = read("--tls-cert", &self.certificate)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|error| not_pem("--tls-cert", &self.certificate, &error))?;
        if chain.is_empty() { Err(TlsError::NoCertificate(self.certificate.clone())) } else { Ok(chain) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = read("--tls-key", &self.key)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(self.key.clone()),
            error => not_pem("--tls-key", &self.key, &error),
        })
    }

    fn check_validity(&self, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), TlsError> {
        let path = || self.certificate.clone();
        let certificate = Certificate::from_der(certificate)
            .map_err(|error| TlsError::NotCertificate { path: path(), reason: error.to_string() })?;
        let validity = certificate.tbs_certificate.validity;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let text = |time: Time| time.to_date_time().to_string();
        if now > validity.not_after.to_unix_duration() {
            return Err(TlsError::Expired { path: path(), at: text(validity.not_after) });
        }
        if now < validity.not_before.to_unix_duration() {
            return Err(TlsError::NotYetValid { path: path(), at: text(validity.not_before) });
        }
        Ok(())
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut text = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    };
    read().map_err(|error| TlsError::Unreadable { option, path: path.to_owned(), error })
}

/// Without the text at fault, which may be a part of a key.
fn not_pem(option: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins with a wrong line",
        pem::Error::Base64Decode(_) => "its base64 is broken",
        _ => "it cannot be read as one",
    };
    TlsError::NotPem { option, path: path.to_owned(), reason: reason.to_owned() }
}
