//! The codec of the tree's chunks: that of the crate, with the damage of trees.

use super::format::TreeDamage;
use crate::codec::{self, Damage};

pub(in crate::archive) use crate::codec::{is_device, kind_code, kind_of, put, put_bytes, put_signed};

/// Reads on from a place in some bytes.
pub(in crate::archive) type Reader<'a> = codec::Reader<'a, TreeDamage>;

impl Damage for TreeDamage {
    fn nonsense(what: &'static str, offset: usize) -> Self {
        TreeDamage { what, offset }
    }
}

impl<'a> Reader<'a> {
    /// A count and so many bytes, at most `maximum`. Bytes that are missing are told where they should begin.
    pub fn bytes(&mut self, maximum: usize, what: &'static str) -> Result<&'a [u8], TreeDamage> {
        let damage = self.damage(what);
        let count = usize::try_from(self.u64(what)?).map_err(|_| damage)?;
        if count > maximum {
            return Err(damage);
        }
        self.take(count, what)
    }
}
