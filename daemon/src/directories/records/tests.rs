//! What is written down, byte for byte, and what becomes of damage.

use std::collections::{BTreeMap, BTreeSet};

use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::repository::{OperationId as PlanId, RepositoryId};
use cairn_types::{SnapshotId, Tag, Timestamp};

use super::{JobRecord, Record, Records, Registration, ScheduleRecord, ScheduleState};
use crate::directories::DirectoriesError;
use crate::directories::requests::{
    Asker, CollectRequest, DeleteRequest, ForkRequest, Job, RestoreRequest, SaveRequest, Scheduled,
    UnsavedChanges, VerifyRequest,
};

const REPOSITORY: RepositoryId = RepositoryId([0x5d; 16]);
const SNAPSHOT: SnapshotId = SnapshotId([0x3f; 16]);

fn time(seconds: i64) -> Timestamp {
    Timestamp::new(1_795_269_789 + seconds, 7)
}

fn registration() -> Registration {
    Registration {
        repository: REPOSITORY,
        workspace: b"/data/mod\xffel".to_vec(),
        control: b"/data/mod\xffel/.jvs".to_vec(),
        registered: time(0),
    }
}

fn job(job: Job) -> JobRecord {
    JobRecord {
        operation: "0a".repeat(16),
        repository: REPOSITORY,
        accepted: time(1),
        job,
    }
}

fn asker() -> Asker {
    Asker {
        actor: Some("ada".to_owned()),
        wait_seconds: 5,
    }
}

fn path(path: &str) -> RelativePath {
    RelativePath::new(path.as_bytes()).unwrap()
}

fn jobs() -> Vec<Job> {
    vec![
        Job::Save(SaveRequest {
            note: "n".to_owned(),
            tags: BTreeSet::from([Tag::new("v1").unwrap()]),
            template: Some("work".to_owned()),
            engine: Some("copy".to_owned()),
            engine_default: None,
            compression: None,
            paths: vec![path("a/b")],
            key: Some("k".to_owned()),
            skip_unchanged: true,
            schedule: Some(Scheduled {
                name: "nightly".to_owned(),
                due: time(2),
            }),
            collect: true,
            asker: asker(),
        }),
        Job::Restore(RestoreRequest {
            snapshot: SNAPSHOT,
            paths: vec![path("a")],
            unsaved: UnsavedChanges::Discard,
            asker: asker(),
        }),
        Job::Verify(VerifyRequest {
            snapshots: vec![SNAPSHOT],
            bytes_per_second: Some(65_536),
        }),
        Job::Fork(ForkRequest {
            snapshot: SNAPSHOT,
            workspace: b"/data/new".to_vec(),
            control: Some(b"/control/new".to_vec()),
            asker: asker(),
        }),
        Job::Collect(CollectRequest {
            plan: PlanId([0x77; 16]),
            asker: Asker::default(),
        }),
        Job::Delete(DeleteRequest {
            snapshot: SNAPSHOT,
            asker: Asker::default(),
        }),
    ]
}

fn schedules() -> ScheduleRecord {
    let state = ScheduleState {
        last_due: Some(time(-60)),
        last_started: Some(time(-59)),
        last_snapshot: Some(SNAPSHOT),
        runs: 3,
        failures: 1,
        missed: 2,
        last_failure: "no space".to_owned(),
        ..ScheduleState::begun(time(-59))
    };
    ScheduleRecord {
        repository: REPOSITORY,
        schedules: BTreeMap::from([
            ("hourly".to_owned(), ScheduleState::begun(time(0))),
            ("nightly".to_owned(), state),
        ]),
    }
}

/// The bytes of the file of a record.
fn written<R: Record>(record: &R) -> String {
    let site = tempfile::tempdir().unwrap();
    let records = Records::open(&site.path().join("directories")).unwrap();
    records.store(record).unwrap();
    let name = format!("directories/{}/{}.json", R::DIRECTORY, record.name());
    String::from_utf8(std::fs::read(site.path().join(name)).unwrap()).unwrap()
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let page = include_str!("../../../../docs/formats/directories.md");
    let mut bodies = vec![written(&registration()), written(&schedules())];
    bodies.extend(jobs().into_iter().map(|one| written(&job(one))));
    for text in &bodies {
        assert!(
            page.contains(text.trim_end()),
            "the page must have:\n{}",
            bodies.join("")
        );
    }
}

#[test]
fn everything_comes_back() {
    let site = tempfile::tempdir().unwrap();
    let at = site.path().join("directories");
    let records = Records::open(&at).unwrap();
    assert_eq!(
        records.load::<Registration>(&registration().name()).unwrap(),
        None
    );
    records.store(&registration()).unwrap();
    records.store(&schedules()).unwrap();
    for one in jobs() {
        let record = job(one);
        // In place of the one before.
        records.store(&record).unwrap();
        assert_eq!(records.all::<JobRecord>().unwrap(), [record]);
    }
    let records = Records::open(&at).unwrap();
    assert_eq!(records.all::<Registration>().unwrap(), [registration()]);
    assert_eq!(records.load(&schedules().name()).unwrap(), Some(schedules()));
    records.remove::<JobRecord>(&"0a".repeat(16)).unwrap();
    records.remove::<JobRecord>(&"0a".repeat(16)).unwrap();
    assert_eq!(records.all::<JobRecord>().unwrap(), []);
}

#[test]
fn damage_of_one_leaves_the_others() {
    let site = tempfile::tempdir().unwrap();
    let at = site.path().join("directories");
    let records = Records::open(&at).unwrap();
    records.store(&registration()).unwrap();
    let other = Registration {
        repository: RepositoryId([1; 16]),
        ..registration()
    };
    records.store(&other).unwrap();
    let file = at.join("registered").join(format!("{REPOSITORY}.json"));
    let bytes = std::fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        let found = records.load::<Registration>(&registration().name());
        assert!(
            matches!(found, Err(DirectoriesError::RecordDamaged { .. })),
            "byte {at}: {found:?}"
        );
    }
    assert_eq!(
        records.all::<Registration>().unwrap(),
        std::slice::from_ref(&other)
    );
    // Another one's file under this name.
    std::fs::copy(
        at.join("registered").join(format!("{}.json", other.name())),
        &file,
    )
    .unwrap();
    assert!(matches!(
        records.load::<Registration>(&registration().name()),
        Err(DirectoriesError::RecordDamaged { .. })
    ));
}
