//! How data is read, kept and told: what the Go tools read too often, copied in silence, or spoiled.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::restore::Unsaved;
use cairn_snapshot::operations::save::SaveRequest;
use cairn_snapshot::operations::verify::{VerifyRequest, verify};

use crate::filesystems::{Kind, mount};
use crate::place::Place;
use crate::site::{Site, comes_back, work};

#[test]
fn the_descriptor_says_what_was_used_and_why() {
    let Some(mounted) = mount(Kind::Ext4, 32) else {
        return;
    };
    fs::create_dir(mounted.path().join("workspace")).unwrap();
    fs::write(mounted.path().join("workspace/a"), "a").unwrap();
    let saved = Place::new(mounted.path(), false).save();
    assert_eq!(
        (saved.engine.used.as_str(), &saved.engine.requested),
        ("copy", &None)
    );
    let told: Vec<&str> = saved
        .engine
        .degraded
        .iter()
        .map(|engine| engine.from.as_str())
        .collect();
    assert!(told.contains(&"reflink-copy"), "{told:?}");
    assert!(
        saved
            .engine
            .degraded
            .iter()
            .all(|engine| !engine.reason.is_empty())
    );
}

/// Calls of a worker that make something durable.
fn syncs(site: &Site, order: &str) -> usize {
    let trace = site.directory.path().join("trace");
    let calls = "trace=fsync,fdatasync,syncfs,sync_file_range";
    let strace = ["strace", "-f", "-qq", "-e", calls, "-o", trace.to_str().unwrap()];
    let status = work(&strace, &site.place.control, order)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let told = fs::read_to_string(trace).unwrap();
    told.lines().filter(|line| line.contains("sync")).count()
}

#[test]
fn files_are_not_synced_one_by_one() {
    if !crate::can_trace() {
        return;
    }
    let counts = [5, 400].map(|files| {
        let site = Site::new();
        for number in 0..files {
            site.write(&format!("{}/{number}", number % 20), "x");
        }
        let first = site.place.save().id;
        for number in 0..files {
            site.write(&format!("{}/{number}", number % 20), "other");
        }
        (
            syncs(&site, "save copy"),
            syncs(&site, &format!("restore {first}")),
        )
    });
    assert_eq!(counts[0], counts[1], "(saves, restores) of 5 and of 400 files");
    assert!(counts[0].0 < 20 && counts[0].1 < 30, "{counts:?}");
}

/// Bytes that a worker reads, by whatever call.
fn read_bytes(site: &Site, order: &str) -> u64 {
    let told = site.directory.path().join("io");
    let status = work(&["env"], &site.place.control, order)
        .env("CAIRN_WORKER_IO", &told)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let told = fs::read_to_string(told).unwrap();
    let read = told
        .lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .unwrap();
    read.parse().unwrap()
}

#[test]
fn a_save_reads_data_once_and_an_unchanged_one_none() {
    const SIZE: u64 = 24 << 20;
    let site = Site::new();
    let mut data = vec![0; SIZE as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    site.write("large", &data);
    // Until its time is old enough to prove something.
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let file = fs::File::options().write(true).open(site.path("large")).unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    for engine in ["copy", "archive"] {
        let first = read_bytes(&site, &format!("save {engine}"));
        assert!(first < SIZE * 5 / 4, "{engine}: {first} bytes were read");
        // The change of its time was too young before.
        read_bytes(&site, &format!("save {engine}"));
        if engine == "archive" {
            let again = read_bytes(&site, &format!("save {engine}"));
            assert!(again < SIZE / 4, "{engine}: {again} bytes were read again");
        }
        let saved = site.place.repository.state().unwrap().last.unwrap();
        let verified = read_bytes(&site, &format!("verify {saved}"));
        assert!(
            verified < SIZE * 5 / 4,
            "{engine}: {verified} bytes were read to verify"
        );
        fs::write(site.path("large"), "changed").unwrap();
        let restored = read_bytes(&site, &format!("restore {saved}"));
        assert!(
            restored < SIZE * 5 / 4,
            "{engine}: {restored} bytes were read to restore"
        );
        let file = fs::File::options().write(true).open(site.path("large")).unwrap();
        file.set_modified(modified).unwrap();
    }
}

#[test]
fn a_fork_takes_no_room_where_data_can_be_shared() {
    let Some(mounted) = mount(Kind::Xfs, 320) else {
        return;
    };
    fs::create_dir(mounted.path().join("workspace")).unwrap();
    fs::write(mounted.path().join("workspace/large"), vec![7; 40 << 20]).unwrap();
    let place = Place::new(mounted.path(), false);
    let saved = place.save_with(EngineKind::ReflinkCopy).id;
    let free = |path: &Path| {
        rustix::fs::syncfs(fs::File::open(path).unwrap()).unwrap();
        let found = rustix::fs::statvfs(path).unwrap();
        found.f_bfree * found.f_frsize
    };
    let before = free(mounted.path());
    let target = mounted.path().join("fork");
    cairn_snapshot::operations::fork::fork(
        &place.repository,
        &Tools::default(),
        saved,
        &target,
        None,
        &Progress::new(),
    )
    .unwrap();
    let taken = before - free(mounted.path());
    assert!(taken < 10 << 20, "the fork took {taken} bytes");
    assert_eq!(fs::metadata(target.join("large")).unwrap().len(), 40 << 20);
}

#[test]
fn verifying_needs_no_room_elsewhere() {
    let site = Site::new();
    site.write("a", vec![1; 1 << 20]);
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let saved = site.place.save_with(engine).id;
        let status = work(&["env"], &site.place.control, &format!("verify {saved}"))
            .env("TMPDIR", "/nonexistent")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn names_of_the_go_tools_are_names_like_others() {
    let site = Site::new();
    for name in [
        "a",
        "a.gz",
        "x.tar.gz",
        ".READY",
        ".READY.gz",
        "sub/.READY",
        "sub/.jvs",
        "a.tmp",
    ] {
        site.write(name, format!("the bytes of {name}"));
    }
    std::os::unix::fs::symlink("a.gz", site.path("link.gz")).unwrap();
    comes_back(&site);
    assert_eq!(site.read("a.gz"), "the bytes of a.gz");
    let repository = &site.place.repository;
    for compression in ["none", "gzip", "zstd:3"] {
        let config = format!("[store]\ncompression = \"{compression}\"\n");
        fs::write(site.place.control.join("config.toml"), config).unwrap();
        site.write("a", compression);
        let saved = site.place.save_with(EngineKind::Archive).id;
        let found = verify(repository, saved, VerifyRequest::default(), &Progress::new()).unwrap();
        assert_eq!((found.damaged, found.files), (0, 8));
    }
}

#[test]
fn two_dots_in_a_name_are_no_way_out() {
    for name in ["a..b", "..a", "a..", "..."] {
        RelativePath::new(name.as_bytes()).unwrap();
    }
    for way in ["..", "a/..", "../a", "a/../b"] {
        RelativePath::new(way.as_bytes()).unwrap_err();
    }
    let site = Site::new();
    site.write("a..b/..c", "one");
    let mut request = SaveRequest::new(String::new());
    request.paths = vec![RelativePath::new(b"a..b/..c").unwrap()];
    let saved = site.place.try_save(&request).unwrap().id;
    site.write("a..b/..c", "two");
    site.place
        .restore(saved, &["a..b/..c"], Unsaved::Discard)
        .unwrap();
    assert_eq!(site.read("a..b/..c"), "one");
}
