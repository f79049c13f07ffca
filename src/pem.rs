//! Files of keys and certificates in PEM (RFC 7468): reading them, and telling the content of a file that holds something
//! else.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem;

/// More than any chain of certificates or set of keys has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The content of a file of keys or certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// No byte but white space.
    Nothing,
    /// Text in UTF-16, as some editors and shells of Windows write it.
    Utf16,
    /// A private key that only a password opens.
    EncryptedKey,
    /// A certificate, or a chain of them.
    Certificate,
    /// A request to an authority for a certificate.
    Request,
    /// A private key.
    PrivateKey,
    /// A public key (RFC 5280, §4.1.2.7).
    PublicKey,
    /// A public key of RSA alone (RFC 8017, appendix A.1.1).
    RsaPublicKey,
    /// PEM of something else.
    OtherPem,
    /// One value in DER, as keys and certificates are when they are not in PEM.
    Der,
    /// Certificates and a key in one encrypted file (RFC 7292).
    Pkcs12,
    /// None of these.
    Other,
}

/// A file's bytes, without byte order marks before it and before each section of PEM (files with one may have been put
/// together).
///
/// # Errors
/// The operating system's error; `FileTooLarge` above 1 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(without_marks(&content))
}

fn without_marks(content: &[u8]) -> Vec<u8> {
    let marked = [BYTE_ORDER_MARK, b"-----BEGIN"].concat();
    let mut rest = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let mut kept = Vec::with_capacity(rest.len());
    while let Some(at) = memmem::find(rest, &marked) {
        kept.extend_from_slice(&rest[..at]);
        rest = &rest[at + BYTE_ORDER_MARK.len()..];
    }
    kept.extend_from_slice(rest);
    kept
}

impl Content {
    /// Its name in a sentence such as "the file holds no key but …".
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing at all",
            Self::Utf16 => "text in UTF-16, which is to be saved in UTF-8",
            Self::EncryptedKey => "an encrypted private key",
            Self::Certificate => "a certificate",
            Self::Request => "a request for a certificate",
            Self::PrivateKey => "a private key",
            Self::PublicKey | Self::RsaPublicKey => "a public key",
            Self::OtherPem => "PEM of another kind",
            Self::Der => "DER, which is to be converted to PEM",
            Self::Pkcs12 => "PKCS #12, which is to be converted to PEM",
            Self::Other => "something that is not PEM",
        }
    }

    /// Tells what these bytes are. Of several sections of PEM an encrypted key counts, else the first.
    pub(crate) fn of(content: &[u8]) -> Self {
        let has = |part: &[u8]| memmem::find(content, part).is_some();
        // "BEGIN" and the start of a set of keys in UTF-16, whatever its order of bytes.
        if has(b"B\0E\0G\0I\0N\0") || has(b"\"\0k\0e\0y\0s\0\"") {
            return Self::Utf16;
        }
        let mut sections = labels(content).map(Self::of_label);
        let first = sections.next();
        // The headers of keys that OpenSSL encrypted before PKCS #8 (RFC 1421, §4.6.1.1).
        let is_encrypted = || has(b"\nProc-Type: 4,ENCRYPTED");
        match first {
            Some(_) if is_encrypted() => Self::EncryptedKey,
            Some(first) => sections.find(|section| *section == Self::EncryptedKey).unwrap_or(first),
            None if content.trim_ascii().is_empty() => Self::Nothing,
            None => Self::without_sections(content),
        }
    }

    fn of_label(label: &[u8]) -> Self {
        match label {
            b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" => Self::Certificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::Request,
            b"ENCRYPTED PRIVATE KEY" => Self::EncryptedKey,
            b"PUBLIC KEY" => Self::PublicKey,
            b"RSA PUBLIC KEY" => Self::RsaPublicKey,
            label if label.ends_with(b"PRIVATE KEY") => Self::PrivateKey,
            _ => Self::OtherPem,
        }
    }

    /// A sequence whose length is that of the file; that of PKCS #12 begins with its version.
    fn without_sections(content: &[u8]) -> Self {
        let (length, rest) = match *content {
            [0x30, 0x81, length, ref rest @ ..] | [0x30, length @ ..=0x7F, ref rest @ ..] => (u16::from(length), rest),
            [0x30, 0x82, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
            _ => return Self::Other,
        };
        match rest {
            _ if usize::from(length) != rest.len() => Self::Other,
            [0x02, 0x01, 0x03, ..] => Self::Pkcs12,
            _ => Self::Der,
        }
    }
}

/// The labels of the sections.
fn labels(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = content.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.trim_ascii().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn a_file_is_told_by_what_it_holds() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let utf16_be = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        for (content, expected) in [
            (pem("CERTIFICATE").into(), Content::Certificate),
            (format!("Bag Attributes\r\n{}", pem("CERTIFICATE").replace('\n', "\r\n")).into(), Content::Certificate),
            (pem("CERTIFICATE REQUEST").into(), Content::Request),
            (pem("PRIVATE KEY").into(), Content::PrivateKey),
            (pem("OPENSSH PRIVATE KEY").into(), Content::PrivateKey),
            (pem("PUBLIC KEY").into(), Content::PublicKey),
            (pem("RSA PUBLIC KEY").into(), Content::RsaPublicKey),
            (pem("DH PARAMETERS").into(), Content::OtherPem),
            (format!("{}{}", pem("CERTIFICATE"), pem("ENCRYPTED PRIVATE KEY")).into(), Content::EncryptedKey),
            (
                pem("RSA PRIVATE KEY").replace("AAAA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: DES\n\nAAAA").into(),
                Content::EncryptedKey,
            ),
            (Vec::new(), Content::Nothing),
            (b" \r\n\t".to_vec(), Content::Nothing),
            (utf16(&pem("PUBLIC KEY")), Content::Utf16),
            (utf16_be(&pem("PUBLIC KEY")), Content::Utf16),
            (utf16(r#"{"keys":[]}"#), Content::Utf16),
            ([&[0x30, 42][..], &[7; 42]].concat(), Content::Der),
            ([&[0x30, 0x81, 200][..], &[7; 200]].concat(), Content::Der),
            ([&[0x30, 0x82, 1, 0][..], &[7; 256]].concat(), Content::Der),
            ([&[0x30, 0x82, 1, 0, 2, 1, 3][..], &[7; 253]].concat(), Content::Pkcs12),
            ([&[0x30, 42][..], &[7; 41]].concat(), Content::Other),
            (b"0123456789".to_vec(), Content::Other),
        ] {
            assert_eq!(Content::of(&content), expected, "{:?}", String::from_utf8_lossy(&content));
        }
    }

    #[test]
    fn byte_order_marks_before_the_file_and_its_sections_are_left_out() {
        let marked = |text: &str| [BYTE_ORDER_MARK, text.as_bytes()].concat();
        assert_eq!(without_marks(&marked("secret")), b"secret");
        assert_eq!(without_marks(b"secret \xEF\xBB\xBF"), b"secret \xEF\xBB\xBF");
        let (first, second) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
        let three = [marked(&first), marked(&second), marked(&second)].concat();
        assert_eq!(without_marks(&three), [first, second.clone(), second].concat().as_bytes());
    }
}
