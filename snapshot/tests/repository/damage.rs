//! Damaged files: each is told with its name and what to do, and harms nothing else.

use cairn_snapshot::repository::{Repository, RepositoryError};
use cairn_types::ErrorKind;

use crate::harness::{Site, parts};

/// Every flipped bit and every truncation of the file at `path`, one at a time; `look` must fail with its name each time.
fn each_damage(path: &std::path::Path, mut look: impl FnMut() -> RepositoryError) {
    let good = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut try_bytes = |bytes: &[u8], what: String| {
        std::fs::write(path, bytes).unwrap();
        let error = look();
        let found = matches!(
            error,
            RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }
        );
        assert!(found && error.to_string().contains(name), "{what}: {error}");
    };
    for at in 0..good.len() {
        let mut wrong = good.clone();
        wrong[at] ^= 1 << (at % 8);
        try_bytes(&wrong, format!("byte {at}"));
        try_bytes(&good[..at], format!("{at} bytes"));
    }
    std::fs::write(path, good).unwrap();
}

#[test]
fn a_damaged_descriptor_takes_only_its_snapshot() {
    let site = Site::new();
    let (bad, good) = (site.publish(|_| {}), site.publish(|_| {}));
    let path = site.control().join(format!("descriptors/{}.json", bad.id));
    each_damage(&path, || {
        assert_eq!(site.repository.descriptor(good.id).unwrap(), good);
        site.repository.descriptor(bad.id).unwrap_err()
    });
    assert_eq!(site.repository.descriptor(bad.id).unwrap(), bad);
    // A descriptor under another's name is none.
    std::fs::copy(
        site.control().join(format!("descriptors/{}.json", good.id)),
        &path,
    )
    .unwrap();
    let error = site.repository.descriptor(bad.id).unwrap_err();
    assert!(error.to_string().contains(&good.id.to_string()), "{error}");
    std::fs::write(&path, vec![b' '; (16 << 20) + 1]).unwrap();
    assert_eq!(
        site.repository.descriptor(bad.id).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

#[test]
fn a_damaged_state_or_identity_is_told_and_a_state_is_replaced() {
    let site = Site::new();
    each_damage(&site.control().join("state.json"), || {
        site.repository.state().unwrap_err()
    });
    each_damage(&site.control().join("repository.json"), || {
        Repository::discover(&site.path, parts()).unwrap_err()
    });
    std::fs::write(site.control().join("state.json"), "{}").unwrap();
    let lease = site.lease();
    site.repository.set_state(&lease, &Default::default()).unwrap();
    assert_eq!(site.repository.state().unwrap().fence, lease.token());
}
