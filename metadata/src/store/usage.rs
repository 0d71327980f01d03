//! Counting what a tree holds, to check the figure that is kept.

use cairn_types::FileKind;

use super::{OpenVolume, Store};
use crate::engine::{Batch, Durability};
use crate::error::MetadataError;
use crate::keyspace::ObjectKind;
use crate::keyspace::branch::{self, Point, Usage};
use crate::keyspace::inode::InodeRecord;
use crate::view::{Lineage, View};

impl Store {
    /// Puts the figure of what a volume's live tree holds right. Durable on return. `volume` is brought up to date.
    pub fn set_usage(&self, volume: &mut OpenVolume, usage: Usage) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.put(branch::usage_key(volume.record.head), usage.encode());
        self.engine.write(batch, Durability::Power)?;
        volume.usage = usage;
        Ok(())
    }

    /// Counts the inodes at a point, and the bytes of its regular files. Reads all objects; what the point shows must be pinned.
    pub fn count_usage(&self, point: Point) -> Result<Usage, MetadataError> {
        /// Of an object's body: the number of its inode.
        const INODE_BYTES: usize = 8;
        let lineage = Lineage::at(&*self.engine, point)?;
        let view = View::new(&*self.engine, &lineage);
        let mut usage = Usage::default();
        let mut damage = None;
        view.scan(&[0; INODE_BYTES], &[0xff; INODE_BYTES + 1], &mut |body, value| {
            if body.get(INODE_BYTES..) != Some(&[ObjectKind::Attributes as u8]) {
                return true;
            }
            match InodeRecord::decode(value) {
                Ok(record) => {
                    usage.inodes += 1;
                    if record.kind == FileKind::Regular {
                        usage.bytes = usage.bytes.saturating_add(record.size);
                    }
                    true
                }
                Err(error) => {
                    damage = Some(error);
                    false
                }
            }
        })?;
        damage.map_or(Ok(usage), |error| Err(error.into()))
    }
}
