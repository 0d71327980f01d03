//! Files that are read, refused and read again.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};

use super::{Credentials, CredentialsError, FILE_BYTES_MAX, Files, Refreshed};
use crate::system::SystemClock;

fn write(directory: &Path) -> Files {
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let files = Files {
        certificate: directory.join("crt"),
        key: directory.join("key"),
        client_ca: directory.join("ca"),
    };
    std::fs::write(&files.certificate, &certificate).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    std::fs::write(&files.client_ca, &certificate).unwrap();
    files
}

fn load(files: &Files) -> Result<Credentials, CredentialsError> {
    Credentials::load(files.clone(), Arc::new(SystemClock))
}

#[test]
fn what_is_wrong_with_a_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let files = write(directory.path());
    load(&files).unwrap();
    let bad = |path: &Path, bytes: &[u8]| {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        let error = load(&files).unwrap_err();
        std::fs::write(path, good).unwrap();
        error
    };
    let key = std::fs::read(&files.key).unwrap();
    assert!(matches!(
        bad(&files.certificate, b""),
        CredentialsError::Empty { .. }
    ));
    assert!(matches!(
        bad(&files.certificate, &key),
        CredentialsError::Empty { .. }
    ));
    assert!(matches!(
        bad(&files.client_ca, b"x"),
        CredentialsError::Empty { .. }
    ));
    assert!(matches!(bad(&files.key, b""), CredentialsError::Malformed { .. }));
    let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        bad(&files.certificate, broken),
        CredentialsError::Malformed { .. }
    ));
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(matches!(
        bad(&files.key, other.as_bytes()),
        CredentialsError::Pair { .. }
    ));
    let large = vec![b'\n'; FILE_BYTES_MAX as usize + 1];
    assert!(matches!(
        bad(&files.client_ca, &large),
        CredentialsError::TooLarge { .. }
    ));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        bad(&files.client_ca, nonsense.as_bytes()),
        CredentialsError::NotAuthority { .. }
    ));
    std::fs::remove_file(&files.key).unwrap();
    assert!(matches!(load(&files), Err(CredentialsError::Unreadable { .. })));
}

#[test]
fn changed_files_hold_if_they_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let files = write(directory.path());
    let credentials = load(&files).unwrap();
    let first = credentials.config();
    assert_eq!(credentials.refresh(), Refreshed::Unchanged);
    std::fs::remove_file(&files.key).unwrap();
    assert_eq!(credentials.refresh(), Refreshed::Refused);
    assert_eq!(credentials.refresh(), Refreshed::Unchanged, "told once");
    assert!(Arc::ptr_eq(&credentials.config(), &first));
    write(directory.path());
    assert_eq!(credentials.refresh(), Refreshed::Changed);
    assert!(!Arc::ptr_eq(&credentials.config(), &first));
}
