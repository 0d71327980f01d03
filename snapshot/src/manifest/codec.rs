//! The codec of manifests: that of the crate, with the damage of blocks.

use super::block::BlockDamage;
use crate::codec::{self, Damage};

pub(super) use crate::codec::{is_device, kind_code, kind_of, put, put_bytes, put_signed, shared};

/// Reads on from a place in some bytes.
pub(super) type Reader<'a> = codec::Reader<'a, BlockDamage>;

impl Damage for BlockDamage {
    fn nonsense(what: &'static str, offset: usize) -> Self {
        BlockDamage::Nonsense { what, offset }
    }
}

impl<'a> Reader<'a> {
    /// A count and so many bytes, at most `maximum`. What cannot be is told where the count stands.
    pub fn bytes(&mut self, maximum: usize, what: &'static str) -> Result<&'a [u8], BlockDamage> {
        let start = self.at();
        let count = self.count(what)?;
        if count > maximum {
            return Err(BlockDamage::nonsense(what, start));
        }
        self.take(count, what)
    }
}
