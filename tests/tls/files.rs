//! The certificate's files: what makes them, and what is said of wrong ones before a port opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio::process::Command;

use crate::process::{ended, rowcast};
use crate::support::patiently;
use crate::support::server::{Http, TestServer};
use crate::support::tls::{Certificate, text};

/// A certificate for these years, and its key.
fn between(first: i32, last: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(first, 1, 1), date_time_ymd(last, 1, 1));
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn wrong_files_stop_the_start_with_a_sentence() {
    let good = Certificate::new();
    let (cert, key) = (text(&good.files.certificate), text(&good.files.key));
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = dir.path().join(name);
        fs::write(&path, contents).unwrap();
        text(&path).to_owned()
    };
    let (key_text, cert_text) = (fs::read_to_string(key).unwrap(), fs::read_to_string(cert).unwrap());
    let secret = key_text.lines().nth(1).unwrap();
    let (expired, expired_key) = between(1999, 2001);
    let (early, early_key) = between(2090, 2091);
    let (_, other_key) = between(2000, 2090);
    let (expired, expired_key) = (file("expired", &expired), file("expired.key", &expired_key));
    let (early, early_key) = (file("early", &early), file("early.key", &early_key));
    let cut = file("cut", &cert_text[..cert_text.len() - 20]);
    let not_der = file("not-der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let bad_key = file("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let cut_key = file("cut.key", &key_text[..key_text.len() - 20]);
    let odd_key = file("odd.key", &key_text.replace("-----END", "!!-----END"));
    let large = file("large", &"a".repeat(1024 * 1024 + 1));
    let (other_key, empty, dir_path) = (file("other.key", &other_key), file("empty", ""), text(dir.path()).to_owned());
    for (given_cert, given_key, parts) in [
        ("/nowhere/cert.pem", key, ["read /nowhere/cert.pem: No such file", "--tls-cert"]),
        (cert, "/nowhere/key.pem", ["read /nowhere/key.pem: No such file", "--tls-key"]),
        (&dir_path, key, ["directory", "--tls-cert"]),
        (&large, key, ["large: file too large", "--tls-cert"]),
        (&empty, key, ["empty holds no certificate but nothing at all", "-----BEGIN CERTIFICATE-----"]),
        (key, key, ["holds no certificate but a private key", "--tls-cert"]),
        (cert, cert, ["holds no private key but a certificate", "--tls-key"]),
        (cert, &empty, ["empty holds no private key but nothing at all", "--tls-key"]),
        (cert, &dir_path, ["directory", "--tls-key"]),
        (&cut, key, ["cut is not a PEM file", "--tls-cert"]),
        (cert, &cut_key, ["cut.key is not a PEM file", "--tls-key"]),
        (cert, &odd_key, ["odd.key is not a PEM file", "--tls-key"]),
        (&not_der, key, ["not-der holds something else than an X.509 certificate", "issued again"]),
        (cert, &bad_key, ["bad.key cannot be used", "Ed25519"]),
        (&expired, &expired_key, ["expired at 2001-01-01T00:00:00Z", "renew it"]),
        (&early, &early_key, ["not valid before 2090-01-01T00:00:00Z", "clock"]),
        (cert, &other_key, ["other.key does not belong to the certificate in", "made together"]),
    ] {
        let data_dir = dir.path().join("data");
        let arguments = ["--listen", "127.0.0.1:0", "--max-connections", "10", "--data-dir", text(&data_dir)];
        let tls = ["--tls-cert", given_cert, "--tls-key", given_key];
        let (code, out, error) = ended(&mut rowcast(&[&arguments[..], &tls].concat())).await;
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert_eq!(error.lines().count(), 1, "one sentence: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not in {error}");
        assert!(!error.contains(secret) && !error.contains("!!"), "a key is shown: {error}");
        assert!(!data_dir.exists(), "nothing was opened");
    }
}

#[tokio::test]
async fn one_file_without_the_other_and_a_redirect_without_tls_are_refused() {
    for (arguments, part) in [
        (["--tls-cert", "cert.pem"], "--tls-key"),
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--redirect-listen", "127.0.0.1:0"], "--tls-cert"),
    ] {
        let (code, _, error) = ended(&mut rowcast(&arguments)).await;
        assert!(code == 2 && error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn keys_of_every_kind_are_served() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let certificate = Certificate::new();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        fs::write(&certificate.files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&certificate.files.key, key.serialize_pem()).unwrap();
        let server = TestServer::https(&certificate, &["--cores", "1"]).await;
        assert_eq!(server.get("/healthz").await.status, 200);
    }
}

/// Runs openssl, which is at hand wherever the tests of Postgres are.
async fn openssl(arguments: &[&str]) {
    let output = patiently(Command::new("openssl").args(arguments).output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_key_or_certificate_in_another_form_is_named_with_the_command_that_converts_it() {
    let certificate = Certificate::new();
    let (cert, key) = (text(&certificate.files.certificate), text(&certificate.files.key));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name)).to_owned();
    let (pkcs8, old, both) = (path("pkcs8.pem"), path("old.pem"), path("both.pem"));
    let (key_der, cert_der, pfx) = (path("key.der"), path("cert.der"), path("server.pfx"));
    let (public, request, utf16) = (path("public.pem"), path("request.pem"), path("utf16.pem"));
    let password = ["-passout", "pass:hunter2"];
    openssl(&[&["pkcs8", "-topk8", "-in", key, "-out", &pkcs8][..], &password].concat()).await;
    openssl(&[&["ec", "-aes128", "-in", key, "-out", &old][..], &password].concat()).await;
    fs::write(&both, fs::read_to_string(cert).unwrap() + &fs::read_to_string(&old).unwrap()).unwrap();
    openssl(&["pkey", "-in", key, "-outform", "DER", "-out", &key_der]).await;
    openssl(&["x509", "-in", cert, "-outform", "DER", "-out", &cert_der]).await;
    openssl(&[&["pkcs12", "-export", "-in", cert, "-inkey", key, "-out", &pfx][..], &password].concat()).await;
    openssl(&["pkey", "-in", key, "-pubout", "-out", &public]).await;
    openssl(&["req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", &request]).await;
    let wide = fs::read_to_string(key).unwrap();
    fs::write(&utf16, wide.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    for (given_cert, given_key, parts) in [
        (cert, &pkcs8[..], ["is encrypted", "openssl pkey -in "]),
        (cert, &old, ["is encrypted", "openssl pkey -in "]),
        (&both, &both, ["is encrypted", "openssl pkey -in "]),
        (cert, &key_der, ["DER", "openssl pkey -inform DER -in "]),
        (&cert_der, key, ["DER", "openssl x509 -inform DER -in "]),
        (&pfx, key, ["PKCS #12", "openssl pkcs12 -in "]),
        (cert, &pfx, ["PKCS #12", "-nocerts -nodes"]),
        (cert, &public, ["no private key but a public key", "--tls-key"]),
        (&public, key, ["no certificate but a public key", "--tls-cert"]),
        (&request, key, ["no certificate but a request", "have it signed"]),
        (cert, &utf16, ["UTF-16", "UTF-8"]),
    ] {
        let tls = ["--tls-cert", given_cert, "--tls-key", given_key];
        let quiet = ["--max-connections", "10", "--data-dir", "/nonexistent"];
        let (code, _, error) = ended(&mut rowcast(&[&quiet[..], &tls].concat())).await;
        assert!(code == 1 && parts.iter().all(|part| error.contains(part)), "{parts:?} are not in {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // The advice of the sentence helps.
    let plain = path("plain.pem");
    openssl(&["pkey", "-in", &old, "-passin", "pass:hunter2", "-out", &plain]).await;
    fs::copy(&plain, key).unwrap();
    TestServer::https(&certificate, &["--cores", "1"]).await;
}

#[tokio::test]
async fn byte_order_marks_and_the_line_ends_of_windows_are_read_over() {
    let issuer = Certificate::new();
    let certificate = Certificate::new();
    let client = certificate.client();
    let windows = |path: &Path| format!("\u{feff}{}", fs::read_to_string(path).unwrap().replace('\n', "\r\n"));
    // A chain of two files with a mark each, put together.
    let chain = windows(&certificate.files.certificate) + &windows(&issuer.files.certificate);
    fs::write(&certificate.files.certificate, chain).unwrap();
    fs::write(&certificate.files.key, windows(&certificate.files.key)).unwrap();
    let server = TestServer::embedded(&certificate.options()).await;
    let mut http = Http::over(client.connect(server.address).await).await;
    assert_eq!(http.request("GET", "/healthz", None).await.status, 200);
}

async fn cert(out: &Path, more: &[&str]) -> (i32, String, String) {
    ended(&mut rowcast(&[&["cert", "--out", text(out)], more].concat())).await
}

#[tokio::test]
async fn the_command_makes_a_certificate_that_is_trusted_by_who_is_given_it() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("certs");
    let (code, said, error) = cert(&out, &[]).await;
    assert_eq!((code, error.as_str()), (0, ""));
    let (cert_path, key_path) = (out.join("cert.pem"), out.join("key.pem"));
    let start = format!("rowcast --tls-cert {} --tls-key {}", cert_path.display(), key_path.display());
    for part in [&start, "localhost, 127.0.0.1, ::1", "curl --cacert", "certutil", "update-ca-certificates"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert_eq!(fs::metadata(&key_path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&cert_path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2, "nothing else is left behind");
    assert!(!said.contains(fs::read_to_string(&key_path).unwrap().lines().nth(1).unwrap()), "the key is shown");

    let certificate = Certificate::of(dir, &out);
    let server = TestServer::https(&certificate, &["--cores", "1"]).await;
    for name in ["localhost", "127.0.0.1", "::1"] {
        let stream = certificate.client().connect_as(name, server.address).await.unwrap();
        assert_eq!(Http::over(stream).await.request("GET", "/healthz", None).await.status, 200);
    }
    assert!(certificate.client().connect_as("elsewhere.example", server.address).await.is_err());
}

#[tokio::test]
async fn files_that_are_there_are_replaced_only_if_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        let path = dir.path().join(name);
        fs::write(&path, "precious").unwrap();
        let (code, said, error) = cert(dir.path(), &["--host", "shop.example"]).await;
        assert_eq!((code, said.as_str()), (1, ""));
        assert!(error.contains("is there already") && error.contains("--force"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the other file is not written");
        let (code, said, error) = cert(dir.path(), &["--host", "shop.example", "--force"]).await;
        assert!(code == 0 && said.contains("shop.example") && !said.contains("localhost"), "{said}{error}");
        assert!(fs::read_to_string(dir.path().join("cert.pem")).unwrap().contains("BEGIN CERTIFICATE"));
        assert_eq!(fs::metadata(dir.path().join("key.pem")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(dir.path().join("cert.pem")).unwrap();
        fs::remove_file(dir.path().join("key.pem")).unwrap();
    }
}

#[tokio::test]
async fn a_host_that_is_none_and_a_place_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, error) = cert(dir.path(), &["--host", "bücher.example"]).await;
    assert!(code == 1 && error.contains("bücher.example") && error.contains("localhost"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (code, _, error) = cert(&file.join("certs"), &[]).await;
    assert!(code == 1 && error.contains("--out"), "{error}");
}
