//! Integers and byte strings of the tree's chunks: little-endian base 128 (LEB128), counts before bytes. Reading never panics and
//! never reserves memory for what is merely announced.

use super::format::TreeDamage;

/// Writes an unsigned integer: 7 bits a byte, least significant first, the high bit says that more follow.
pub(in crate::archive) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a signed integer: zigzag, then as unsigned.
pub(in crate::archive) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Writes a count and the bytes.
pub(in crate::archive) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the beginning of some bytes.
pub(in crate::archive) struct Reader<'a> {
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            whole: bytes.len(),
            rest: bytes,
        }
    }

    /// What is wrong at the place reached.
    pub fn damage(&self, what: &'static str) -> TreeDamage {
        TreeDamage {
            what,
            offset: self.whole - self.rest.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, TreeDamage> {
        Ok(self.take(1, what)?[0])
    }

    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], TreeDamage> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.damage(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TreeDamage> {
        let damage = self.damage(what);
        self.take(N, what)?.try_into().map_err(|_| damage)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, TreeDamage> {
        let damage = self.damage(what);
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(damage);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damage)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, TreeDamage> {
        let damage = self.damage(what);
        u32::try_from(self.u64(what)?).map_err(|_| damage)
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, TreeDamage> {
        let value = self.u64(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn bytes(&mut self, maximum: usize, what: &'static str) -> Result<&'a [u8], TreeDamage> {
        let damage = self.damage(what);
        let count = usize::try_from(self.u64(what)?).map_err(|_| damage)?;
        if count > maximum {
            return Err(damage);
        }
        self.take(count, what)
    }
}
