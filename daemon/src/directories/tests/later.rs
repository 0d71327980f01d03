//! What happens without anybody asking: schedules, and verification in the background.

use std::fs;
use std::time::Duration;

use cairn_snapshot::repository::Origin;
use cairn_types::{Clock, Timestamp};

use super::super::{Job, Outcome, SaveRequest, SavedHow, VerificationSettings};

use super::{BEGIN, PATIENCE, Site, ids, register};

#[test]
fn schedules_save_by_the_clock_and_retention_follows() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let of = register(&directories, &workspace);
    let config = "[retention]\nkeep_last = 2\nautomatic = true\n[schedules.hourly]\nevery = '1h'\ntemplate = 'checkpoint'\n\
                  skip_unchanged = true\n";
    fs::write(of.control.join("config.toml"), config).unwrap();
    directories.tick(site.clock.now());
    assert_eq!(directories.schedules_of(of.id).len(), 1);
    let mut made = Vec::new();
    for round in 0..3 {
        fs::write(workspace.join("a"), format!("round {round}")).unwrap();
        let now = site.advance(3600);
        directories.tick(now);
        // Nothing is due twice.
        directories.tick(now);
        let operation = directories.operations.list().into_iter().next().unwrap();
        let Outcome::Saved {
            how,
            snapshot,
            collected,
            ..
        } = site.done(&operation)
        else {
            panic!("no save");
        };
        assert_eq!(how, SavedHow::New);
        assert_eq!(
            snapshot.descriptor.origin,
            Origin::Scheduled {
                name: "hourly".to_owned()
            }
        );
        assert_eq!(snapshot.descriptor.template.as_deref(), Some("checkpoint"));
        assert_eq!(collected.len(), usize::from(round == 2));
        made.insert(0, snapshot.descriptor.id);
    }
    assert_eq!(ids(&directories, &of), made[..2]);
    // Nothing has changed since: no snapshot, and no failure.
    directories.tick(site.advance(3600));
    let operation = directories.operations.list().into_iter().next().unwrap();
    assert!(matches!(
        site.done(&operation),
        Outcome::Saved {
            how: SavedHow::Unchanged,
            ..
        }
    ));
    drop(directories);
    // A restart does not run it again.
    let directories = site.open();
    directories.resume().unwrap();
    directories.tick(site.advance(5));
    assert_eq!(directories.operations.list().len(), 0);
    let view = &directories.schedules_of(of.id)[0];
    assert_eq!(
        (view.state.runs, view.state.failures, view.state.missed),
        (4, 0, 0)
    );
    assert_eq!(view.next_due, Some(Timestamp::new(BEGIN + 5 * 3600, 0)));
}

#[test]
fn a_directory_that_hangs_holds_up_nobody() {
    let site = Site::new();
    let directories = site.open();
    let of = [
        register(&directories, &site.workspace("a")),
        register(&directories, &site.workspace("b")),
    ];
    for directory in &of {
        fs::write(
            directory.control.join("config.toml"),
            "[schedules.s]\nevery = '1m'",
        )
        .unwrap();
    }
    directories.tick(site.clock.now());
    // The look at the first one hangs from here on.
    *site.held.lock() = Some(Vec::new());
    directories.tick(site.advance(60));
    let mut looks = site.held.lock().take().unwrap();
    assert_eq!(looks.len(), 2);
    let hung = looks.remove(0);
    looks.remove(0)();
    let operation = directories.operations.list().into_iter().next().unwrap();
    assert_eq!(operation.request.workspace, of[1].workspace.to_str().unwrap());
    site.done(&operation);
    // It is not looked at a second time meanwhile, and the other one goes on.
    directories.tick(site.advance(60));
    let newest = directories.operations.list().into_iter().next().unwrap();
    assert_ne!(newest.id, operation.id);
    site.done(&newest);
    assert_eq!(ids(&directories, &of[0]), []);
    hung();
    let newest = directories.operations.list().into_iter().next().unwrap();
    site.done(&newest);
    assert_eq!(ids(&directories, &of[0]).len(), 1);
}

#[test]
fn snapshots_are_verified_in_the_background() {
    let mut site = Site::new();
    site.verification = VerificationSettings {
        bytes_per_second: Some(1 << 30),
        again_after: Some(Duration::from_secs(86_400)),
    };
    let workspace = site.workspace("w");
    fs::write(workspace.join("b"), "more").unwrap();
    let directories = site.open();
    let of = register(&directories, &workspace);
    let copy = SaveRequest {
        engine: Some("copy".to_owned()),
        ..SaveRequest::default()
    };
    site.run(&directories, &of, Job::Save(copy));
    let health = || directories.verifier.health(of.id).unwrap_or_default();
    let until = |condition: &dyn Fn(&crate::directories::Health) -> bool| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !condition(&health()) {
            assert!(std::time::Instant::now() < deadline, "{:?}", health());
            std::thread::yield_now();
        }
    };
    directories.tick(site.clock.now());
    until(&|health| health.verified == 1 && health.unverified == 0);
    let snapshot = ids(&directories, &of)[0];
    let integrity = directories.snapshot(&of, "latest").unwrap().integrity;
    assert!(matches!(
        integrity,
        Some(cairn_snapshot::operations::verify::Integrity::Verified(_))
    ));
    // Somebody damages it. It is read again when that was long ago, and the damage is told.
    let file = of.control.join("snapshots").join(snapshot.to_string()).join("b");
    let mode = |mode| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o600);
    fs::write(&file, "MORE").unwrap();
    mode(0o400);
    directories.tick(site.advance(3600));
    assert_eq!(health().verified, 1);
    directories.tick(site.advance(86_400));
    until(&|health| health.damaged == [snapshot]);
    let progress = cairn_snapshot::archive::Progress::new();
    let status = directories.status(&of, false, &progress).unwrap();
    assert_eq!(
        (status.health.damaged, status.health.verified),
        (vec![snapshot], 0)
    );
    assert!(directories.counts().verified_bytes >= 14);
    directories.stop();
    // Nothing begins any more.
    directories.tick(site.advance(86_400));
    assert_eq!(directories.verifier.verifying(of.id), None);
}
