//! A tree read, and written again elsewhere, by the parts under test.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::beneath::open_file;
use cairn_snapshot::directory::place::{Before, Copied, Way};
use cairn_snapshot::directory::{
    Attributes, Body, Entry, Losses, PlaceError, PlaceOptions, Placer, RelativePath, TreeOptions,
    WalkOptions, compare, read_tree,
};
use cairn_types::FileKind;

/// All entries of a tree, hashed.
pub fn entries(root: &File) -> Vec<Entry> {
    let options = TreeOptions {
        walk: WalkOptions {
            threads: 1,
            ..WalkOptions::default()
        },
        digests: true,
    };
    let progress = Progress::new();
    read_tree(root, options, &progress)
        .unwrap()
        .map(|record| record.unwrap().entry)
        .collect()
}

/// Files that were cloned, and bytes that were copied.
#[derive(Debug, Default, Clone, Copy)]
pub struct Work {
    pub cloned: u64,
    pub copied_bytes: u64,
}

/// Writes the entries of the tree `from` into the empty directory `to`.
pub fn write(from: &File, entries: &[Entry], to: &File, way: Way) -> Result<(Losses, Work), PlaceError> {
    let root: OwnedFd = to.try_clone().unwrap().into();
    let placer = Placer::new(root, PlaceOptions::default()).unwrap();
    let mut work = Work::default();
    for entry in entries.iter().filter(|entry| !entry.path.is_root()) {
        let (path, attributes) = (&entry.path, &entry.attributes);
        match &entry.body {
            Body::Link(first) => placer.link(path, first)?,
            Body::Symlink(target) => {
                placer.symlink(path, target)?;
                placer.attributes(path, attributes, Before::New)?;
            }
            Body::File(body) => {
                let source = open_file(from, path).unwrap();
                let file = placer.file(path)?;
                let copied = placer.data(
                    path,
                    source.as_fd(),
                    file.as_fd(),
                    attributes.size,
                    &body.holes,
                    way,
                )?;
                match copied {
                    Copied::Cloned => work.cloned += 1,
                    Copied::Bytes(bytes) => work.copied_bytes += bytes,
                }
                placer.file_attributes(path, file.as_fd(), attributes, Before::New)?;
            }
            Body::None if attributes.kind == FileKind::Directory => placer.directory(path)?,
            Body::None => {
                if placer.special(path, attributes)? {
                    placer.attributes(path, attributes, Before::New)?;
                }
            }
        }
    }
    let directories = entries
        .iter()
        .filter(|entry| entry.attributes.kind == FileKind::Directory)
        .map(|entry| {
            Ok::<(RelativePath, Attributes), PlaceError>((entry.path.clone(), entry.attributes.clone()))
        });
    placer.finish_directories(directories)?;
    Ok((placer.losses(), work))
}

/// What differs between two trees, in words.
pub fn differences(before: &[Entry], after: &[Entry]) -> Vec<String> {
    let stream = |entries: &[Entry]| -> Vec<Result<Entry, std::convert::Infallible>> {
        entries.iter().cloned().map(Ok).collect()
    };
    compare(stream(before), stream(after))
        .map(|found| format!("{:?}", found.unwrap()))
        .collect()
}
