//! Making and finding repositories, and what is refused.

use std::os::unix::fs::symlink;

use cairn_snapshot::repository::{ControlMode, Repository, RepositoryError, layout::Area};
use cairn_types::ErrorKind;

use crate::harness::{Site, parts, temporary};

#[test]
fn a_repository_is_found_from_anywhere_in_its_workspace() {
    let site = Site::new();
    let deep = site.path.join("a/b/c");
    std::fs::create_dir_all(&deep).unwrap();
    for from in [&site.path, &deep, &site.control().join("snapshots")] {
        let found = Repository::discover(from, parts()).unwrap();
        assert_eq!(found.identity(), site.repository.identity());
        assert_eq!(found.workspace_path(), site.path);
        assert!(found.is_inside());
    }
    assert_eq!(
        std::fs::read(site.control().join("format_version")).unwrap(),
        b"2\n"
    );
    for area in Area::ALL {
        assert!(site.control().join(area.name()).is_dir(), "{area:?}");
    }
}

#[test]
fn a_workspace_moves_with_the_control_directory_that_is_in_it() {
    let (_keep, path) = temporary();
    let (old, new) = (path.join("old"), path.join("new"));
    std::fs::create_dir(&old).unwrap();
    let made = Repository::init(&old, None, parts()).unwrap();
    std::fs::rename(&old, &new).unwrap();
    let found = Repository::discover(&new, parts()).unwrap();
    assert_eq!(found.identity(), made.identity());
    assert_eq!(found.workspace_path(), new);
}

#[test]
fn a_control_directory_elsewhere_is_named_and_never_found() {
    let (_keep, path) = temporary();
    let workspace = path.join("w\u{fc}ste \u{2603}");
    std::fs::create_dir(&workspace).unwrap();
    let control = path.join("control");
    let made = Repository::init(&workspace, Some(&control), parts()).unwrap();
    assert!(matches!(made.identity().control, ControlMode::Outside { .. }));
    let opened = Repository::open(&control, parts()).unwrap();
    assert_eq!(opened.workspace_path(), workspace);
    assert!(!opened.is_inside());
    let error = Repository::discover(&workspace, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::NoRepository { .. }), "{error}");
    std::fs::rename(&workspace, path.join("gone")).unwrap();
    let error = Repository::open(&control, parts()).unwrap_err();
    assert!(
        matches!(error, RepositoryError::WorkspaceMissing { .. }),
        "{error}"
    );
    // The place of the workspace leads into the control directory now.
    symlink(&control, &workspace).unwrap();
    let error = Repository::open(&control, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::Overlap { .. }), "{error}");
}

#[test]
fn control_directory_and_workspace_are_never_inside_each_other() {
    let (_keep, path) = temporary();
    let workspace = path.join("w");
    std::fs::create_dir(&workspace).unwrap();
    symlink(&workspace, path.join("link")).unwrap();
    for control in [
        workspace.join("c"),
        path.join("link/c"),
        workspace.clone(),
        path.clone(),
    ] {
        let error = Repository::init(&workspace, Some(&control), parts()).unwrap_err();
        assert!(
            matches!(error, RepositoryError::Overlap { .. }),
            "{control:?}: {error}"
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(std::fs::read_dir(&workspace).unwrap().count(), 0);
}

#[test]
fn repositories_are_never_nested() {
    let site = Site::new();
    let inner = site.path.join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let error = Repository::init(&inner, None, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::Nested { .. }), "{error}");

    let (_keep, path) = temporary();
    let inner = path.join("x/y");
    std::fs::create_dir_all(&inner).unwrap();
    Repository::init(&inner, None, parts()).unwrap();
    let error = Repository::init(&path, None, parts()).unwrap_err();
    assert!(error.to_string().contains("x/y"), "{error}");
    assert!(!path.join(".jvs").exists());
}

#[test]
fn what_is_there_already_stays_as_it_is() {
    let site = Site::new();
    let error = Repository::init(&site.path, None, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::Exists { .. }), "{error}");
    let again = Repository::discover(&site.path, parts()).unwrap();
    assert_eq!(again.identity(), site.repository.identity());

    let (_keep, path) = temporary();
    std::fs::create_dir_all(path.join("w")).unwrap();
    std::fs::create_dir_all(path.join("c")).unwrap();
    std::fs::write(path.join("c/mine"), "mine").unwrap();
    let error = Repository::init(&path.join("w"), Some(&path.join("c")), parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::Occupied { .. }), "{error}");
    assert_eq!(std::fs::read_dir(path.join("c")).unwrap().count(), 1);
}

#[test]
fn an_interrupted_init_is_no_repository_and_is_taken_over() {
    let site = Site::new();
    std::fs::remove_file(site.control().join("format_version")).unwrap();
    std::fs::remove_file(site.control().join("state.json")).unwrap();
    std::fs::remove_dir(site.control().join("keys")).unwrap();
    std::fs::write(site.control().join(".0011223344556677.tmp"), "half").unwrap();
    let error = Repository::discover(&site.path, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::NoRepository { .. }), "{error}");
    let made = Repository::init(&site.path, None, parts()).unwrap();
    assert_eq!(made.state().unwrap().sequence, 0);
}

#[test]
fn repositories_of_the_go_tools_and_newer_ones_are_told() {
    for (version, import, newer) in [
        ("1\n", true, false),
        ("3\n", false, true),
        ("x\n", false, false),
        ("2", false, false),
        ("", false, false),
    ] {
        let site = Site::new();
        std::fs::write(site.control().join("format_version"), version).unwrap();
        let error = Repository::discover(&site.path, parts()).unwrap_err();
        assert_eq!(error.to_string().contains("cairn import-jvs"), import, "{error}");
        assert_eq!(
            matches!(error, RepositoryError::Newer { found: 3, .. }),
            newer,
            "{error}"
        );
        let damaged = !import && !newer;
        assert_eq!(error.kind() == ErrorKind::Corrupt, damaged, "{error}");
        let again = Repository::init(&site.path, None, parts()).unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
    }
    // A further workspace of the Go tools has a file there.
    let (_keep, path) = temporary();
    std::fs::write(path.join(".jvs"), "{\"type\":\"jvs-workspace\"}").unwrap();
    let error = Repository::discover(&path, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::GoTools { .. }), "{error}");
    let error = Repository::init(&path, None, parts()).unwrap_err();
    assert!(matches!(error, RepositoryError::GoTools { .. }), "{error}");
}

#[test]
fn a_control_directory_is_no_symbolic_link() {
    let site = Site::new();
    let (_keep, path) = temporary();
    symlink(site.control(), path.join(".jvs")).unwrap();
    for error in [
        Repository::discover(&path, parts()).unwrap_err(),
        Repository::open(&path.join(".jvs"), parts()).unwrap_err(),
        Repository::init(&path, None, parts()).unwrap_err(),
    ] {
        assert!(
            matches!(error, RepositoryError::SymlinkedControl { .. }),
            "{error}"
        );
    }
    // Nor is one of its directories.
    let descriptors = site.control().join("descriptors");
    std::fs::rename(&descriptors, path.join("elsewhere")).unwrap();
    symlink(path.join("elsewhere"), &descriptors).unwrap();
    assert!(site.repository.snapshot_ids().is_err());
}
