//! How many names the files of a manifest have. Entries do not say it: the other names of a file, which come later, name the first one.
//!
//! Found out by going through the manifest once, when somebody asks for the first time, and only as far as there are links. Takes about 50 bytes
//! for every file with several names.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::pages::{Content, Pages};
use crate::directory::RelativePath;

/// Names of files with several names.
pub(super) struct Links {
    /// Further names in the whole tree.
    total: u64,
    /// Further names of each file, by its first name; hashes, for brevity.
    found: OnceLock<HashMap<[u8; 16], u32>>,
}

fn key(path: &RelativePath) -> [u8; 16] {
    let hash = blake3::hash(path.as_bytes());
    let (first, _) = hash.as_bytes().split_at(16);
    std::array::from_fn(|byte| first[byte])
}

impl Links {
    /// For a tree with so many further names.
    pub fn new(total: u64) -> Self {
        Links {
            total,
            found: OnceLock::new(),
        }
    }

    /// How many names the file at `path` has; this is its first name.
    pub fn names(&self, pages: &Pages, path: &RelativePath) -> u32 {
        if self.total == 0 {
            return 1;
        }
        let found = self.found.get_or_init(|| self.look(pages));
        found.get(&key(path)).map_or(1, |more| more.saturating_add(1))
    }

    fn look(&self, pages: &Pages) -> HashMap<[u8; 16], u32> {
        let mut found = HashMap::new();
        let mut left = self.total;
        for page in 0..pages.count() {
            let page = match pages.read(page) {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "files may have more names than are told: a part of the manifest cannot be read");
                    continue;
                }
            };
            for entry in &page.entries {
                if let Content::Link(to) = &entry.body {
                    let names: &mut u32 = found.entry(key(to)).or_default();
                    *names = names.saturating_add(1);
                    left = left.saturating_sub(1);
                }
            }
            if left == 0 {
                break;
            }
        }
        found
    }
}
