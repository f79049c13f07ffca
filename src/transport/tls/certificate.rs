//! The two files of a certificate: [`TlsFiles`], and their errors.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::Error::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::time::Time;

use crate::pem::Content;

/// The files of the certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those of its issuers that clients do not have (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// An error in a certificate or its key; its text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}: {error}; {option} is a PEM file that this user may read (`rowcast cert` makes one for development)", path.display())]
    Unreadable {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// A file is not PEM, or damaged.
    #[error("{} is not a PEM file ({reason}); convert it with `openssl`, or give the right file to {option}", path.display())]
    NotPem {
        /// The option that named it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// The first fault in it.
        reason: &'static str,
    },
    /// The first file has no certificate.
    #[error("{} holds no certificate but {found}; {advice}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// The content that was found.
        found: &'static str,
        /// The next step.
        advice: String,
    },
    /// The second file has no private key.
    #[error("{} holds no private key but {found}; {advice}", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The content that was found.
        found: &'static str,
        /// The next step.
        advice: String,
    },
    /// A key that only a password opens, which a server that starts by itself does not have.
    #[error("the key in {path} is encrypted; decrypt it with: openssl pkey -in {path} -out key.pem, and keep that file from others (chmod 600)", path = path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The content of the PEM is not a certificate.
    #[error("{} holds something else than an X.509 certificate ({reason}); have it issued again", path.display())]
    NotCertificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The time of the certificate is over.
    #[error("the certificate in {} expired at {at}; renew it, and give the new file to --tls-cert", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Its last second.
        at: String,
    },
    /// The time of the certificate has not come.
    #[error("the certificate in {} is not valid before {at}; wait until then, set this machine's clock right, or give another file to --tls-cert", path.display())]
    NotYetValid {
        /// The file.
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
    #[error("the key in {} cannot be used ({reason}); use an RSA, ECDSA (P-256, P-384) or Ed25519 key", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The operating system gives no random numbers.
    #[error("this system gives no random numbers, which TLS needs; look at getrandom(2)")]
    Random,
}

impl TlsFiles {
    /// Reads both files and checks that they can be served at `now`; also the Unix time at which the certificate ends.
    pub(super) fn load(&self, now: SystemTime) -> Result<(Arc<CertifiedKey>, Duration), TlsError> {
        let chain = self.chain()?;
        let ends_at = self.check_validity(&chain[0], now)?;
        let key = self.private_key()?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            InconsistentKeys(_) => TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() },
            error => TlsError::UnusableKey { path: self.key.clone(), reason: error.to_string() },
        })?;
        Ok((Arc::new(certified), ends_at))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = read("--tls-cert", &self.certificate)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        let content = Content::of(&text);
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Err(_) if content == Content::EncryptedKey => Err(TlsError::Encrypted { path: self.certificate.clone() }),
            Err(error) => Err(not_pem("--tls-cert", &self.certificate, &error)),
            Ok(_) => Err(self.no_certificate(content)),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let text = read("--tls-key", &self.key)?;
        let content = Content::of(&text);
        match PrivateKeyDer::from_pem_slice(&text) {
            Ok(key) => Ok(key),
            Err(_) if content == Content::EncryptedKey => Err(TlsError::Encrypted { path: self.key.clone() }),
            Err(pem::Error::NoItemsFound) => Err(self.no_key(content)),
            Err(error) => Err(not_pem("--tls-key", &self.key, &error)),
        }
    }

    fn no_certificate(&self, content: Content) -> TlsError {
        let path = self.certificate.display();
        let advice = match content {
            Content::PrivateKey | Content::EncryptedKey => {
                "give it to --tls-key, and the certificate to --tls-cert".to_owned()
            }
            Content::Request => "have it signed, and give what comes back to --tls-cert".to_owned(),
            Content::Der => format!("convert it with: openssl x509 -inform DER -in {path} -out cert.pem"),
            Content::Pkcs12 => format!("convert it with: openssl pkcs12 -in {path} -nokeys -out cert.pem"),
            _ => "give the file that begins with -----BEGIN CERTIFICATE----- to --tls-cert".to_owned(),
        };
        TlsError::NoCertificate { path: self.certificate.clone(), found: content.name(), advice }
    }

    fn no_key(&self, content: Content) -> TlsError {
        let path = self.key.display();
        let advice = match content {
            Content::Certificate => "give it to --tls-cert, and its key to --tls-key".to_owned(),
            Content::Der => format!("convert it with: openssl pkey -inform DER -in {path} -out key.pem"),
            Content::Pkcs12 => format!("convert it with: openssl pkcs12 -in {path} -nocerts -nodes -out key.pem"),
            _ => "give the file with a -----BEGIN PRIVATE KEY----- to --tls-key".to_owned(),
        };
        TlsError::NoKey { path: self.key.clone(), found: content.name(), advice }
    }

    /// Checks that `now` is within the time of a certificate, and returns the end of it.
    fn check_validity(&self, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<Duration, TlsError> {
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
        Ok(validity.not_after.to_unix_duration())
    }
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    crate::pem::read(path).map_err(|error| TlsError::Unreadable { option, path: path.to_owned(), error })
}

/// Returns the error without the text at fault, which may be a part of a key.
fn not_pem(option: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins with a wrong line",
        pem::Error::Base64Decode(_) => "its base64 is broken",
        _ => "it cannot be read as one",
    };
    TlsError::NotPem { option, path: path.to_owned(), reason }
}
