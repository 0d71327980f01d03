//! Verifying: whether every archive can be restored, and what of which cannot.
//!
//! The structure is verified by reading every tree, and looking up every chunk that one names. Deep, every byte of every pack is
//! read: frames by their checksums, chunks by their identities. What is found damaged is then looked for in the trees, so that
//! it is told which file of which archive it concerns. One damage does not end the search for others.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cairn_content::objects::ObjectError;
use cairn_content::pack::{FrameReader, PackId};
use cairn_content::store::{ChunkReadError, pack_name};
use cairn_types::{ChunkId, ErrorKind, InodeId, SnapshotId, with_causes};
use parking_lot::Mutex;

use super::error::ArchiveError;
use super::reclaim::Marks;
use super::report::{Damage, Phase, Progress, Verified, VerifyOptions};
use super::repository::{Nodes, Repository};
use super::root::{ArchiveRoot, Content, root_name};
use super::tree::{Key, Part, Record, TreeReadError, TreeRoot, leaves, read_leaf, records_of};

mod directories;

/// Most packs that are read at once.
const READERS: usize = 4;
/// Most damaged chunks that are remembered: of further ones only the number is told.
const DAMAGED_CHUNKS_MAX: usize = 1 << 20;
/// Most files of one archive that are told as damaged.
const FILES_TOLD_MAX: usize = 10_000;
/// Deepest path that is put together.
const DEPTH_MAX: usize = 4096;

/// Where a damaged chunk is, and what is wrong with it.
#[derive(Debug, Clone)]
struct Wrong {
    object: String,
    offset: Option<u64>,
    what: String,
}

/// What was found wrong in packs.
#[derive(Default)]
struct Found {
    chunks: HashMap<ChunkId, Wrong>,
    /// What concerns no chunk.
    elsewhere: Vec<Wrong>,
    /// Stored bytes that were read.
    bytes_read: u64,
}

/// Keeps several readers below a rate together.
struct Throttle {
    bytes_per_second: Option<u64>,
    started: Instant,
    read: Mutex<u64>,
}

impl Throttle {
    /// Notes bytes that were read, and waits until they may have been.
    fn pass(&self, bytes: u64, progress: &Progress) {
        let read = {
            let mut read = self.read.lock();
            *read += bytes;
            *read
        };
        let Some(rate) = self.bytes_per_second else { return };
        let due = Duration::from_secs_f64(read as f64 / rate.max(1) as f64);
        while !progress.is_cancelled() {
            let left = due.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// Where a chunk is that cannot be read, as far as that is known; nothing if it is not the chunk that is at fault.
fn place_of(error: &ChunkReadError) -> Result<Option<(String, Option<u64>)>, ArchiveError> {
    let name = |pack: &PackId| -> Result<String, ArchiveError> {
        Ok(pack_name(pack).map_err(ObjectError::from)?.to_string())
    };
    Ok(match error {
        ChunkReadError::Damaged { pack, offset, .. } => Some((name(pack)?, Some(u64::from(*offset)))),
        ChunkReadError::Length { pack, .. } => Some((name(pack)?, None)),
        ChunkReadError::Fetch {
            pack, offset, source, ..
        } if source.is_not_found() => Some((name(pack)?, Some(u64::from(*offset)))),
        ChunkReadError::Missing { .. } => Some((String::new(), None)),
        _ => None,
    })
}

impl Repository {
    /// Looks whether archives can be restored. Tells `found` every damage as soon as it is known what it concerns.
    ///
    /// # Errors
    /// `Objects` if the store fails otherwise than by giving wrong bytes; `Store`, `NotFound` if an archive asked for is not there,
    /// `Cancelled`, `Thread`.
    pub fn verify(
        &self,
        options: &VerifyOptions,
        progress: &Progress,
        found: &mut dyn FnMut(Damage),
    ) -> Result<Verified, ArchiveError> {
        progress.enter(Phase::Preparing);
        let refreshed = self.refresh(progress)?;
        let (roots, failed) = self.roots()?;
        let wanted: BTreeSet<SnapshotId> = options.archives.iter().copied().collect();
        let asked = |snapshot: SnapshotId| wanted.is_empty() || wanted.contains(&snapshot);
        for snapshot in &wanted {
            let there = roots
                .iter()
                .any(|root| root.archive.description.snapshot == *snapshot);
            if !there && !failed.iter().any(|(failed, _)| failed == snapshot) {
                return Err(ArchiveError::NotFound {
                    store: self.url(),
                    reference: snapshot.to_string(),
                });
            }
        }
        let mut outcome = Verified::default();
        let mut tell = |outcome: &mut Verified, damage: Damage| {
            outcome.damages += 1;
            found(damage);
        };
        for damage in &refreshed.damages {
            let damage = Damage {
                archive: None,
                path: None,
                range: None,
                object: damage.name.to_string(),
                offset: None,
                what: with_causes(&damage.cause),
            };
            tell(&mut outcome, damage);
        }
        for (snapshot, error) in failed.iter().filter(|(snapshot, _)| asked(*snapshot)) {
            outcome.archives += 1;
            let damage = Damage {
                archive: Some(*snapshot),
                path: None,
                range: None,
                object: root_name(*snapshot).map_err(ObjectError::from)?.to_string(),
                offset: None,
                what: error.to_string(),
            };
            tell(&mut outcome, damage);
        }
        let roots: Vec<ArchiveRoot> = roots
            .into_iter()
            .filter(|root| asked(root.archive.description.snapshot))
            .collect();
        let mut wrong = Found::default();
        outcome.packs = self.store.packs().len() as u64;
        if options.deep {
            let needed_by = (!wanted.is_empty()).then_some(roots.as_slice());
            wrong = self.read_packs(options.bytes_per_second_max, needed_by, progress)?;
            outcome.bytes_read = wrong.bytes_read;
        }
        for Wrong { object, offset, what } in wrong.elsewhere {
            let damage = Damage {
                archive: None,
                path: None,
                range: None,
                object,
                offset,
                what,
            };
            tell(&mut outcome, damage);
        }
        let wrong = wrong.chunks;
        progress.enter(Phase::Marking);
        // Parts of trees and chunks that were found sound for one archive are not looked at again for the next.
        let sound = self.store.mark();
        for root in &roots {
            outcome.archives += 1;
            let before = outcome.damages;
            let snapshot = root.archive.description.snapshot;
            let mut tell = |damage| tell(&mut outcome, damage);
            match &root.content {
                Content::Tree(tree) => {
                    self.verify_tree(snapshot, tree, &sound, &wrong, progress, &mut tell)?;
                }
                Content::Directory(directory) => {
                    self.verify_directory(snapshot, directory, &sound, &wrong, progress, &mut tell)?;
                }
            }
            outcome.archives_sound += u64::from(outcome.damages == before);
        }
        Ok(outcome)
    }

    /// Reads all packs, or only those that some archives need, and returns what is wrong with which chunk.
    fn read_packs(
        &self,
        bytes_per_second: Option<u64>,
        needed_by: Option<&[ArchiveRoot]>,
        progress: &Progress,
    ) -> Result<Found, ArchiveError> {
        // What was read before says nothing of what is there now.
        self.store.forget_frames();
        let mut packs = self.store.packs();
        if let Some(roots) = needed_by {
            let marks = Marks::new(&self.store);
            for root in roots {
                match self.mark_archive(&marks, root, progress) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Corrupt => {}
                    Err(error) => return Err(error),
                }
            }
            let needed: Result<BTreeSet<PackId>, _> = marks
                .live
                .packs()
                .filter(|pack| pack.as_ref().map_or(true, |pack| pack.live_chunks > 0))
                .map(|pack| pack.map(|pack| pack.pack))
                .collect();
            let needed = needed?;
            packs.retain(|pack| needed.contains(&pack.id));
        }
        progress.enter(Phase::Verifying);
        progress.expect(packs.len() as u64, packs.iter().map(|pack| pack.bytes).sum());
        let throttle = Throttle {
            bytes_per_second,
            started: Instant::now(),
            read: Mutex::new(0),
        };
        let next = AtomicUsize::new(0);
        let wrong = Mutex::new(Found::default());
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for number in 0..READERS.min(packs.len()) {
                let (packs, next, throttle, wrong, failure) = (&packs, &next, &throttle, &wrong, &failure);
                let work = move || {
                    let stop = |error: ArchiveError| {
                        failure.lock().get_or_insert(error);
                    };
                    let mut reader = match FrameReader::with(self.store.sealing().clone()) {
                        Ok(reader) => reader,
                        Err(error) => return stop(ArchiveError::Thread(error)),
                    };
                    while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if progress.is_cancelled() || failure.lock().is_some() {
                            return;
                        }
                        if let Err(error) = self.read_pack(&pack.id, &mut reader, throttle, wrong, progress) {
                            return stop(error);
                        }
                    }
                };
                let spawned = std::thread::Builder::new()
                    .name(format!("verify-{number}"))
                    .spawn_scoped(scope, work);
                if let Err(error) = spawned {
                    failure.lock().get_or_insert(ArchiveError::Thread(error));
                }
            }
        });
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        if progress.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let mut wrong = wrong.into_inner();
        wrong.bytes_read = throttle.read.into_inner();
        Ok(wrong)
    }

    /// Reads one pack. Wrong bytes are noted; a store that fails is an error.
    fn read_pack(
        &self,
        pack: &PackId,
        reader: &mut FrameReader,
        throttle: &Throttle,
        wrong: &Mutex<Found>,
        progress: &Progress,
    ) -> Result<(), ArchiveError> {
        let name = pack_name(pack).map_err(ObjectError::from)?;
        let index = self.store.pack_index(pack)?;
        let explained = Cell::new(false);
        let note = |chunks: &[cairn_content::pack::ChunkEntry], offset: Option<u64>, what: &str| {
            explained.set(true);
            let mut wrong = wrong.lock();
            for chunk in chunks {
                if wrong.chunks.len() < DAMAGED_CHUNKS_MAX {
                    let object = name.to_string();
                    let what = what.to_owned();
                    wrong.chunks.insert(chunk.id, Wrong { object, offset, what });
                }
            }
        };
        let bytes = match self.runtime.block_on(self.objects().get(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                note(index.chunks(), None, "the pack is not there");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        throttle.pass(bytes.len() as u64, progress);
        for frame in index.frames() {
            let start = frame.offset as usize;
            let stored = bytes.get(start..start.saturating_add(frame.stored as usize));
            let offset = Some(u64::from(frame.offset));
            let chunks = index.chunks_of(frame);
            match stored.map(|stored| reader.open(frame, stored)) {
                None => note(chunks, offset, "the pack is cut"),
                Some(Err(error)) => note(chunks, offset, &with_causes(&error)),
                Some(Ok(decoded)) => {
                    for chunk in chunks {
                        if let Err(error) = decoded.chunk(chunk) {
                            note(std::slice::from_ref(chunk), offset, &with_causes(&error));
                        }
                    }
                }
            }
            progress.add(0, u64::from(frame.stored));
        }
        // The name covers every byte, also those that no frame has.
        if !explained.get() && *blake3::hash(&bytes).as_bytes() != pack.0 {
            wrong.lock().elsewhere.push(Wrong {
                object: name.to_string(),
                offset: None,
                what: "the header, the index or the trailer of the pack is damaged; its chunks are sound"
                    .to_owned(),
            });
        }
        progress.add(1, 0);
        Ok(())
    }

    fn verify_tree(
        &self,
        snapshot: SnapshotId,
        tree: &TreeRoot,
        sound: &cairn_content::store::Mark,
        wrong: &HashMap<ChunkId, Wrong>,
        progress: &Progress,
        tell: &mut dyn FnMut(Damage),
    ) -> Result<(), ArchiveError> {
        let nodes = Nodes(&self.store);
        let mut failed = None;
        let enter = |node: &super::tree::NodeReference| match sound.is_marked(&node.chunk) {
            Ok(known) => !known,
            Err(error) => {
                failed = Some(error);
                true
            }
        };
        let mut files: BTreeMap<InodeId, Vec<Damage>> = BTreeMap::new();
        let mut told = 0;
        for leaf in leaves(&nodes, tree, Key::of(InodeId(0)), enter) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let (leaf, records) = match leaf.and_then(|leaf| Ok((leaf.clone(), read_leaf(&nodes, &leaf)?))) {
                Ok(found) => found,
                Err(error) => {
                    tell(self.tree_damage(snapshot, error)?);
                    continue;
                }
            };
            let mut clean = true;
            for (key, record) in records {
                for (at, id, length) in record.chunks(&key) {
                    let Some(damage) = self.chunk_damage(snapshot, at, &id, length, wrong)? else {
                        continue;
                    };
                    clean = false;
                    told += 1;
                    if told <= FILES_TOLD_MAX {
                        files.entry(key.inode).or_default().push(damage);
                    }
                }
            }
            if clean {
                sound.insert(&leaf.chunk)?;
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let inodes: Vec<InodeId> = files.keys().copied().collect();
        let mut paths = self.paths(tree, &inodes);
        for (inode, damages) in files {
            let path = paths.remove(&inode);
            for damage in damages {
                tell(Damage {
                    path: path.clone(),
                    ..damage
                });
            }
        }
        Ok(())
    }

    /// What is wrong with a chunk, if anything is.
    fn chunk_damage(
        &self,
        snapshot: SnapshotId,
        at: u64,
        id: &ChunkId,
        length: u32,
        wrong: &HashMap<ChunkId, Wrong>,
    ) -> Result<Option<Damage>, ArchiveError> {
        let told = |object: String, offset, what| {
            Some(Damage {
                archive: Some(snapshot),
                path: None,
                range: Some((at, u64::from(length))),
                object,
                offset,
                what,
            })
        };
        if let Some(wrong) = wrong.get(id) {
            // Another copy may be sound.
            return Ok(match self.store.read(id, length) {
                Ok(_) => None,
                Err(_) => told(wrong.object.clone(), wrong.offset, wrong.what.clone()),
            });
        }
        Ok(match self.store.locate(id)? {
            None => told(String::new(), None, format!("no pack holds chunk {id}")),
            Some(place) if place.chunk.length != length => {
                let name = pack_name(&place.pack).map_err(ObjectError::from)?;
                let what = format!("chunk {id} has {} bytes and not {length}", place.chunk.length);
                told(name.to_string(), Some(u64::from(place.frame.offset)), what)
            }
            Some(_) => None,
        })
    }

    fn tree_damage(
        &self,
        snapshot: SnapshotId,
        error: TreeReadError<ChunkReadError>,
    ) -> Result<Damage, ArchiveError> {
        let place = match &error {
            TreeReadError::Fetch(cause) => place_of(cause)?,
            TreeReadError::Damage { .. } => Some(Default::default()),
        };
        let Some((object, offset)) = place else {
            return Err(error.into());
        };
        Ok(Damage {
            archive: Some(snapshot),
            path: None,
            range: None,
            object,
            offset,
            what: with_causes(&error),
        })
    }

    /// The paths of inodes, as far as the tree can be read; of several links the first.
    fn paths(&self, tree: &TreeRoot, inodes: &[InodeId]) -> BTreeMap<InodeId, Vec<u8>> {
        let mut paths = BTreeMap::new();
        if inodes.is_empty() {
            return paths;
        }
        let nodes = Nodes(&self.store);
        // First the directory and the name of each; then, for each directory, its own.
        let wanted: BTreeSet<InodeId> = inodes.iter().copied().collect();
        let mut links: BTreeMap<InodeId, (InodeId, Vec<u8>)> = BTreeMap::new();
        for leaf in leaves(&nodes, tree, Key::of(InodeId(0)), |_| true).flatten() {
            for (key, record) in read_leaf(&nodes, &leaf).unwrap_or_default() {
                if let (Part::Entry(name), Record::Entry(child, _)) = (key.part, record)
                    && wanted.contains(&child)
                {
                    links.entry(child).or_insert((key.inode, name));
                }
            }
        }
        let mut directories: BTreeMap<InodeId, Option<(InodeId, Vec<u8>)>> = BTreeMap::new();
        for inode in inodes {
            let Some((mut directory, name)) = links.get(inode).cloned() else {
                continue;
            };
            let mut names = vec![name];
            let mut whole = false;
            for _ in 0..DEPTH_MAX {
                if directory == InodeId::ROOT {
                    whole = true;
                    break;
                }
                let found = directories
                    .entry(directory)
                    .or_insert_with(|| self.name_of(tree, directory));
                let Some((parent, name)) = found else { break };
                names.push(name.clone());
                directory = *parent;
            }
            if whole {
                names.reverse();
                paths.insert(*inode, names.join(&b'/'));
            }
        }
        paths
    }

    /// The parent of a directory, and its name there.
    fn name_of(&self, tree: &TreeRoot, directory: InodeId) -> Option<(InodeId, Vec<u8>)> {
        let nodes = Nodes(&self.store);
        let parent = records_of(&nodes, tree, directory)
            .ok()?
            .into_iter()
            .find_map(|(_, record)| match record {
                Record::Node(node) => Some(node.parent),
                _ => None,
            })?;
        let entries = records_of(&nodes, tree, parent).ok()?;
        let name = entries
            .into_iter()
            .find_map(|(key, record)| match (key.part, record) {
                (Part::Entry(name), Record::Entry(child, _)) if child == directory => Some(name),
                _ => None,
            })?;
        Some((parent, name))
    }

    /// The files of an archive that cannot be read, each with the first damage of it, by reading every byte that the archive needs:
    /// what a pull has to leave out.
    ///
    /// # Errors
    /// As [`Repository::verify`]; `NotFound` also of an archive of a plain directory; `Tree` if the tree itself is damaged, so that it cannot be told.
    pub fn unreadable_files(
        &self,
        snapshot: SnapshotId,
        progress: &Progress,
    ) -> Result<BTreeMap<InodeId, Damage>, ArchiveError> {
        self.refresh(progress)?;
        let root = self.require_root(snapshot)?;
        let tree = self.tree_of(&root)?;
        let needed_by = Some(std::slice::from_ref(&root));
        let wrong = self.read_packs(None, needed_by, progress)?.chunks;
        let nodes = Nodes(&self.store);
        let mut files: BTreeMap<InodeId, Damage> = BTreeMap::new();
        for leaf in leaves(&nodes, tree, Key::of(InodeId(0)), |_| true) {
            for (key, record) in read_leaf(&nodes, &leaf?)? {
                for (at, id, length) in record.chunks(&key) {
                    if let Some(damage) = self.chunk_damage(snapshot, at, &id, length, &wrong)? {
                        files.entry(key.inode).or_insert(damage);
                    }
                }
            }
        }
        let inodes: Vec<InodeId> = files.keys().copied().collect();
        let mut paths = self.paths(tree, &inodes);
        for (inode, damage) in &mut files {
            damage.path = paths.remove(inode);
        }
        Ok(files)
    }
}
