//! Repositories of the Go tools named JVS, of both lines: the samples, unpacked.
//!
//! Used by several test programs: `#[path = "../common/samples.rs"] mod samples;`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Unpacks the samples into a directory that goes with the value.
pub fn unpack() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jvs/repositories.tar.zst");
    let plain = zstd::decode_all(std::fs::File::open(packed).unwrap()).unwrap();
    let mut tar = Command::new("tar")
        .args(["-x", "-p", "--no-same-owner", "-C"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&plain).unwrap();
    assert!(tar.wait().unwrap().success());
    directory
}
