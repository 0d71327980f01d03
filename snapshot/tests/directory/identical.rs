//! What is read of a tree is what was made, and what is written of it is the same, on every file system.

use std::fs::{self, File};
use std::path::Path;

use cairn_snapshot::directory::place::Way;
use cairn_snapshot::directory::{Body, FileBody, Losses};
use proptest::prelude::{ProptestConfig, proptest};
use proptest::test_runner::TestRunner;

use crate::filesystems::{self, Kind};
use crate::{forest, replica};

/// Builds the tree below `base/from`, copies it to `base/to`, and compares.
fn round_trip(base: &Path, kind: Option<Kind>, plan: &[forest::Planned], way: Way) {
    let _ = fs::remove_dir_all(base);
    fs::create_dir_all(base.join("from")).unwrap();
    fs::create_dir(base.join("to")).unwrap();
    let (from, to) = (
        File::open(base.join("from")).unwrap(),
        File::open(base.join("to")).unwrap(),
    );
    let target_bytes_max = kind.map_or(4095, Kind::target_bytes_max);
    let made = forest::build(&from, plan, target_bytes_max);
    let entries = replica::entries(&from);
    forest::check(&entries, &made);
    let (losses, work) = replica::write(&from, &entries, &to, way).unwrap();
    assert_eq!(losses, Losses::default());
    let files = entries
        .iter()
        .filter(|entry| matches!(&entry.body, Body::File(FileBody { .. })))
        .count() as u64;
    if way == Way::Clone && kind.is_some_and(Kind::has_reflink) {
        assert_eq!((work.cloned, work.copied_bytes), (files, 0));
    } else {
        assert_eq!(work.cloned, 0);
    }
    let copied = replica::entries(&to);
    assert_eq!(replica::differences(&entries, &copied), Vec::<String>::new());
    forest::check(&copied, &made);
}

#[test]
fn random_trees_on_every_file_system() {
    for mounted in filesystems::every() {
        let kind = mounted.kind;
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 24,
            ..ProptestConfig::default()
        });
        let base = mounted.path().join("trees");
        let result = runner.run(&forest::forests(40, true), |plan| {
            round_trip(&base, Some(kind), &plan, Way::Copy);
            round_trip(&base, Some(kind), &plan, Way::Clone);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Where nothing can be mounted, at least here.
    #[test]
    fn random_trees_here(plan in forest::forests(30, rustix::process::geteuid().is_root())) {
        let directory = tempfile::tempdir().unwrap();
        // What lies beneath is not known, and neither is the length of its links and whether it shares data.
        let plan: Vec<_> = plan
            .into_iter()
            .filter(|planned| !matches!(&planned.node, forest::Node::Symlink(target) if target.len() > 1023))
            .collect();
        round_trip(&directory.path().join("trees"), None, &plan, Way::Copy);
    }
}
