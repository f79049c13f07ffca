//! A certificate for development, which nobody has signed but itself: [`write_self_signed`].

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::TlsFiles;

/// Browsers trust no certificate that lives longer than 398 days.
const VALID_FOR: Duration = Duration::from_hours(397 * 24);
/// Clocks differ.
const VALID_SINCE: Duration = Duration::from_hours(1);

/// The reason for which no certificate was written.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// A name cannot stand in a certificate.
    #[error("make a certificate for {hosts}: {error}; a host is a name such as localhost, or an IP address")]
    Hosts {
        /// The names.
        hosts: String,
        /// The fault.
        error: rcgen::Error,
    },
    /// A file is there.
    #[error("{} is there already; add --force to replace it, or choose another directory with --out", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("write {}: {error}; choose a directory that this user may write with --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
}

/// Writes `cert.pem` and `key.pem` for these hosts into a directory, which is made if it is not there. The key is for
/// its owner alone to read. Files that are there are replaced only with `force`.
///
/// # Errors
/// A sentence that says what to do.
pub fn write_self_signed(hosts: &[String], dir: &Path, force: bool) -> Result<TlsFiles, SelfSignedError> {
    let (certificate, key) =
        self_signed(hosts).map_err(|error| SelfSignedError::Hosts { hosts: hosts.join(", "), error })?;
    let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") };
    fs::create_dir_all(dir).map_err(|error| SelfSignedError::Write { path: dir.to_owned(), error })?;
    for path in [&files.certificate, &files.key] {
        if !force && path.symlink_metadata().is_ok() {
            return Err(SelfSignedError::Exists(path.clone()));
        }
    }
    write(&files.key, &key, 0o600)?;
    write(&files.certificate, &certificate, 0o644)?;
    Ok(files)
}

/// Returns the certificate and its key, PEM.
fn self_signed(hosts: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.not_before = (SystemTime::now() - VALID_SINCE).into();
    params.not_after = (SystemTime::now() + VALID_FOR).into();
    params.distinguished_name.push(DnType::CommonName, "Rowcast development");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes a new file with this mode beside `path`, then puts it there: a reader of `path` has the old file or the new
/// one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), SelfSignedError> {
    let written = path.with_extension("pem.new");
    let write = || {
        let _ = fs::remove_file(&written);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&written)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&written, path)
    };
    write().map_err(|error| SelfSignedError::Write { path: path.to_owned(), error })
}
