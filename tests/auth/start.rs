//! Keys and options that cannot be meant stop the start with a sentence.

use crate::process::{Running, ended, rowcast};

use super::tokens::key_file;

#[tokio::test]
async fn a_key_that_cannot_be_used_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let weak = file("weak", b"hunter2-hunter2-hunter2-hunter2\n");
    let der = file("der", &[&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat());
    let empty = file("empty.json", br#"{"keys":[]}"#);
    for (key, part) in [
        (weak, "at least 32 bytes, and this one has 31"),
        (der, "DER"),
        (empty, "no key of this set"),
        (file("broken.json", br#"{"keys":["#), "not a set of keys"),
        (file("none", b""), "the file is empty"),
        (file("utf16", &b"-----BEGIN PUBLIC KEY-----".map(|byte| [byte, 0]).concat()), "UTF-16"),
        (file("cert.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), "openssl x509"),
        (file("encrypted.pem", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"), "this is a private key"),
        (file("large", &vec![b'x'; 1024 * 1024 + 1]), "file too large"),
        (dir.path().to_str().unwrap().to_owned(), "directory"),
        (key_file("rsa.key.pem"), "this is a private key"),
        (key_file("ed25519.key.pem"), "this is a private key"),
        (key_file("rsa1024.pem"), "2048"),
        (key_file("p521.pem"), "P-384"),
        (key_file("missing.pem"), "No such file"),
    ] {
        let (code, out, error) = ended(&mut rowcast(&["--jwt-key", &key, "--data-dir", "/nonexistent"])).await;
        assert_eq!((code, out.as_str()), (64, ""), "{key}: {error}");
        assert!(error.starts_with("rowcast: --jwt-key ") && error.contains(&key) && error.contains(part), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn keys_with_a_byte_order_mark_and_the_line_ends_of_windows_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = rowcast(&["--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()]);
    for name in ["ed25519.pem", "p256.pem", "p384.pem", "rsa.pem"] {
        let key = std::fs::read_to_string(key_file(name)).unwrap().replace('\n', "\r\n");
        let path = dir.path().join(name);
        std::fs::write(&path, format!("\u{feff}{key}")).unwrap();
        command.arg("--jwt-key").arg(path);
    }
    let set = dir.path().join("set.json");
    std::fs::write(&set, format!("\u{feff}{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{}\"}}]}}", "A".repeat(43))).unwrap();
    Running::of(command.arg("--jwt-key").arg(set)).await;
}

#[tokio::test]
async fn options_that_contradict_each_other_stop_the_start() {
    let key = key_file("p256.pem");
    for (arguments, part) in [
        (&["--jwt-audience", "shop"][..], "--jwt-audience"),
        (&["--jwt-issuer", "id"], "--jwt-issuer"),
        (&["--jwt-key", &key, "--jwt-key", &key], "two keys are named \"p256\""),
        (&["--allowed-origin", "shop.example"], "https://shop.example"),
        (&["--allowed-origin", "https://shop.example/"], "without a path"),
        (&["--listen", "0.0.0.0:0"], "--jwt-key"),
        (&["--listen", "0.0.0.0:0"], "--allow-anonymous"),
    ] {
        let (code, _, error) = ended(&mut rowcast(&[arguments, &["--data-dir", "/nonexistent"]].concat())).await;
        assert!(code == 64 && error.contains(part), "{arguments:?}: {error}");
    }
    // With a key, a public address is meant: what stops it is the directory.
    let public = ["--listen", "0.0.0.0:0", "--jwt-key", &key, "--data-dir", "/proc/nonexistent"];
    let (code, _, error) = ended(&mut rowcast(&public)).await;
    assert!(code == 1 && error.contains("/proc/nonexistent"), "{error}");
}
