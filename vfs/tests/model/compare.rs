//! Compares a whole tree of the subject with one of the model: every entry, attribute and byte, by every way to get at
//! it, and the cookies of the listings.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use cairn_types::InodeId;
use cairn_vfs::FileSystem;
use cairn_vfs::filesystem::{Attributes, ObjectId};

use crate::execute::{bytes, caller};
use crate::identity::Volume;
use crate::tree::{Body, Contents, Tree};

/// The subject's cookie of each entry, by directory and the model's cookie: an entry keeps its cookie.
pub type Cookies = BTreeMap<(InodeId, u64), u64>;

/// An entry as the subject lists it.
pub struct Listed {
    pub name: Vec<u8>,
    pub inode: InodeId,
    pub cookie: u64,
    pub attributes: Option<Attributes>,
}

/// Bytes of a file's end that are compared when it is longer than what was ever written.
const TAIL_BYTES: u64 = 4096;

/// Up to `limit` entries after `cookie`, and whether that was the end.
pub fn list(
    files: &dyn FileSystem,
    directory: ObjectId,
    cookie: u64,
    with_attributes: bool,
    limit: usize,
) -> Result<(Vec<Listed>, bool), String> {
    let mut rows: Vec<Listed> = Vec::new();
    let listed = files.readdir(&caller(0), directory, cookie, with_attributes, &mut |entry| {
        if rows.len() == limit {
            return ControlFlow::Break(());
        }
        rows.push(Listed {
            name: entry.name.to_vec(),
            inode: entry.inode,
            cookie: entry.cookie,
            attributes: entry.attributes.copied(),
        });
        ControlFlow::Continue(())
    });
    let listed = listed.map_err(|error| format!("listing {directory:?} after {cookie}: {error:?}"))?;
    let mut last = cookie;
    for row in &rows {
        if row.cookie <= last {
            return Err(format!(
                "{:?} has cookie {}, after {last}",
                row.name.escape_ascii(),
                row.cookie
            ));
        }
        if row.attributes.is_some() != with_attributes {
            return Err(format!(
                "attributes asked for: {with_attributes}; given: {:?}",
                row.attributes
            ));
        }
        last = row.cookie;
    }
    Ok((rows, listed.end))
}

/// One tree of the model and where to find it in the subject.
pub struct Comparison<'a> {
    pub tree: &'a Tree,
    pub files: &'a dyn FileSystem,
    pub volume: &'a Volume,
}

impl Comparison<'_> {
    /// Compares everything. Entries must have the cookies that `cookies` says, which learns those that it does not know.
    pub fn compare(&self, cookies: &mut Cookies) -> Result<(), String> {
        for id in self.tree.inodes.keys() {
            let path = || format!("inode {id} ({:?})", self.path(*id));
            self.compare_inode(*id, cookies)
                .map_err(|what| format!("{}: {what}", path()))?;
        }
        Ok(())
    }

    /// A path to an inode, to show.
    fn path(&self, id: InodeId) -> String {
        let mut open = vec![(String::new(), InodeId::ROOT)];
        while let Some((path, at)) = open.pop() {
            if at == id {
                return format!("/{path}");
            }
            if let Body::Directory(directory) = &self.tree.inode(at).body {
                let below = |(name, entry): (&Vec<u8>, &crate::tree::Entry)| {
                    (
                        format!("{path}/{}", name.escape_ascii())
                            .trim_start_matches('/')
                            .to_owned(),
                        entry.inode,
                    )
                };
                open.extend(directory.entries.iter().map(below));
            }
        }
        "nowhere".to_owned()
    }

    fn subject_of(&self, id: InodeId) -> Result<ObjectId, String> {
        self.volume
            .subject_of(id)
            .ok_or_else(|| format!("the subject never showed inode {id}"))
    }

    fn same(&self, id: InodeId, by: &str, mut attributes: Attributes) -> Result<(), String> {
        self.volume.translate(self.tree.volume, &mut attributes)?;
        let expected = self.tree.attributes(id);
        let mut expected_neutral = expected;
        crate::identity::neutralise(&mut expected_neutral);
        if attributes == expected_neutral {
            return Ok(());
        }
        Err(format!(
            "{by} gives\n  {attributes:?}\nand should give\n  {expected_neutral:?}"
        ))
    }

    fn compare_inode(&self, id: InodeId, cookies: &mut Cookies) -> Result<(), String> {
        let object = self.subject_of(id)?;
        let attributes = self
            .files
            .getattr(object)
            .map_err(|error| format!("getattr: {error:?}"))?;
        self.same(id, "getattr", attributes)?;
        if let Some(attributes) = self.files.getattr_cached(object) {
            self.same(id, "getattr_cached", attributes)?;
        }
        match &self.tree.inode(id).body {
            Body::Regular(contents) => self.compare_contents(object, contents),
            Body::Directory(_) => self.compare_directory(id, object, cookies),
            Body::Symlink(target) => match self.files.readlink(&caller(0), object) {
                Ok((found, attributes)) if found == target[..] => self.same(id, "readlink", attributes),
                other => Err(format!("readlink gives {other:?}")),
            },
            Body::Special(_) => Ok(()),
        }
    }

    fn compare_contents(&self, object: ObjectId, contents: &Contents) -> Result<(), String> {
        let head = contents.size.min(contents.written.len() as u64 + TAIL_BYTES);
        let tail = contents.size.saturating_sub(TAIL_BYTES).max(head);
        for (start, end) in [(0, head), (tail, contents.size)] {
            let found = bytes(self.files, object, start, (end - start) as u32)?;
            let expected = contents.read(start, end - start);
            if found != expected {
                let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
                let at = differs.unwrap_or(found.len().min(expected.len()));
                return Err(format!(
                    "read: byte {} is {:?} and should be {:?} ({} bytes found, {} expected)",
                    start + at as u64,
                    found.get(at),
                    expected.get(at),
                    found.len(),
                    expected.len()
                ));
            }
        }
        Ok(())
    }

    fn compare_directory(&self, id: InodeId, object: ObjectId, cookies: &mut Cookies) -> Result<(), String> {
        let (expected, _) = self
            .tree
            .list(&caller(0), self.tree.object(id))
            .map_err(|e| format!("{e:?}"))?;
        let (rows, end) = list(self.files, object, 0, true, usize::MAX)?;
        if !end {
            return Err("a listing that was not stopped did not reach the end".to_owned());
        }
        let named = |name: &[u8]| format!("entry \"{}\"", name.escape_ascii());
        let mut remaining: BTreeMap<&[u8], (u64, InodeId)> = BTreeMap::new();
        for (name, cookie, attributes) in &expected {
            remaining.insert(name, (*cookie, attributes.object.inode));
        }
        for (index, row) in rows.iter().enumerate() {
            let (cookie, inode) = remaining
                .remove(&row.name[..])
                .ok_or_else(|| format!("{} is listed and should not be", named(&row.name)))?;
            if self.subject_of(inode)?.inode != row.inode {
                return Err(format!("{} is listed as inode {}", named(&row.name), row.inode));
            }
            let dots: [&[u8]; 2] = [b".", b".."];
            if dots
                .get(index)
                .is_some_and(|dot| row.name != *dot || row.cookie != index as u64 + 1)
            {
                return Err(format!(
                    "{} with cookie {} stands at {index}",
                    named(&row.name),
                    row.cookie
                ));
            }
            if let Some(attributes) = row.attributes {
                self.same(inode, "readdir", attributes)
                    .map_err(|what| format!("{}: {what}", named(&row.name)))?;
            }
            let known = *cookies.entry((id, cookie)).or_insert(row.cookie);
            if known != row.cookie {
                return Err(format!(
                    "{} had cookie {known} and has {}",
                    named(&row.name),
                    row.cookie
                ));
            }
            self.compare_lookup(id, object, &row.name)
                .map_err(|what| format!("{}: {what}", named(&row.name)))?;
        }
        if let Some(name) = remaining.keys().next() {
            return Err(format!("{} is not listed", named(name)));
        }
        // To go on after the middle entry gives what followed it.
        let middle = rows.len() / 2;
        let (rest, _) = list(self.files, object, rows[middle - 1].cookie, false, usize::MAX)?;
        let names = |rows: &[Listed]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        if names(&rest) != names(&rows[middle..]) {
            return Err(format!(
                "after {} follow other entries than in one listing",
                rows[middle - 1].cookie
            ));
        }
        Ok(())
    }

    fn compare_lookup(&self, id: InodeId, object: ObjectId, name: &[u8]) -> Result<(), String> {
        let root = caller(0);
        let expected = self
            .tree
            .lookup(&root, self.tree.object(id), name)
            .map_err(|e| format!("{e:?}"))?;
        let cached = self
            .files
            .lookup_cached(&root, object, name)
            .map(|found| ("lookup_cached", found));
        for (by, found) in cached
            .into_iter()
            .chain([("lookup", self.files.lookup(&root, object, name))])
        {
            let found = found.map_err(|error| format!("{by}: {error:?}"))?;
            self.same(expected.attributes.object.inode, by, found.attributes)?;
            self.same(id, by, found.directory)?;
        }
        Ok(())
    }
}
