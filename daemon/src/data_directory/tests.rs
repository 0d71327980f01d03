//! Each way in which a directory cannot be used has its own error, and what is refused is left as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{DataDirectory, DataDirectoryError};
use crate::exit::Exit;
use crate::system::SystemRandomness;

fn open(path: &Path) -> Result<DataDirectory, DataDirectoryError> {
    DataDirectory::open(path, &SystemRandomness)
}

/// Names and contents.
fn listing(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut entries: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let content = if entry.file_type().unwrap().is_file() {
                fs::read(entry.path()).unwrap()
            } else {
                vec![]
            };
            (entry.file_name().into_string().unwrap(), content)
        })
        .collect();
    entries.sort();
    entries
}

#[test]
fn a_new_directory_keeps_its_identity() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let first = open(&path).unwrap().format().clone();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["format", "lock"] {
        assert_eq!(
            fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
    assert_eq!(*open(&path).unwrap().format(), first);
    let other = open(&parent.path().join("other")).unwrap();
    assert_ne!(other.format().handle_secret, first.handle_secret);
}

#[test]
fn a_second_daemon_is_refused_with_the_first_ones_process_id() {
    let directory = tempfile::tempdir().unwrap();
    let held = open(directory.path()).unwrap();
    let before = listing(directory.path());
    let error = open(directory.path()).unwrap_err();
    let DataDirectoryError::Locked { holder, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*holder, Some(std::process::id()));
    assert_eq!(error.exit(), Exit::Locked);
    assert_eq!(listing(directory.path()), before);
    drop(held);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.tex"), "precious").unwrap();
    let before = listing(directory.path());
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(&error, DataDirectoryError::Foreign { found, .. } if found == "thesis.tex"),
        "{error:?}"
    );
    assert_eq!(error.exit(), Exit::DataDirectory);
    assert_eq!(listing(directory.path()), before);
}

#[test]
fn an_interrupted_first_start_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("format.new"), "kind = ").unwrap();
    fs::write(directory.path().join("lock"), "123\n").unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    let format = open(directory.path()).unwrap().format().clone();
    assert_eq!(*open(directory.path()).unwrap().format(), format);
    assert!(!directory.path().join("format.new").exists());
}

#[test]
fn stores_without_a_format_file_are_not_taken_for_an_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("metadata")).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(error, DataDirectoryError::FormatMissing { .. }),
        "{error:?}"
    );
    assert_eq!(listing(directory.path()).len(), 1);
}

#[test]
fn a_newer_format_is_refused_with_its_own_status() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("format"),
        "kind = \"cairn data directory\"\nversion = 99\n",
    )
    .unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(
        matches!(
            error,
            DataDirectoryError::Newer {
                found: 99,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.exit(), Exit::NewerFormat);
}

#[test]
fn a_damaged_format_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    for content in ["", "nonsense", "kind = \"other\"\nversion = 1\n"] {
        fs::write(directory.path().join("format"), content).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(matches!(error, DataDirectoryError::Damaged { .. }), "{error:?}");
        assert_eq!(
            fs::read_to_string(directory.path().join("format")).unwrap(),
            content
        );
    }
}

#[test]
fn files_and_missing_parents_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(
        open(&file).unwrap_err(),
        DataDirectoryError::NotDirectory { .. }
    ));
    let error = open(&directory.path().join("no/such")).unwrap_err();
    assert!(matches!(error, DataDirectoryError::Io { .. }), "{error:?}");
    assert!(error.remedy().contains("parent"));
    assert_eq!(error.exit(), Exit::DataDirectory);
}
