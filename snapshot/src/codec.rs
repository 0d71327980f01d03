//! What the formats of this crate have in common: integers and byte strings, little-endian base 128 (LEB128), counts before
//! bytes; the numbers of types of files. Reading never panics and never reserves memory for what is merely announced.

use std::marker::PhantomData;

use cairn_types::FileKind;

/// How a format tells that bytes make no sense.
pub(crate) trait Damage {
    /// `what` at byte `offset` makes no sense.
    fn nonsense(what: &'static str, offset: usize) -> Self;
}

/// Writes an unsigned integer: 7 bits a byte, least significant first, the high bit says that more follow.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a signed integer: zigzag, then as unsigned.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Writes a count and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes that both have at their beginning.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let equal = words_a.iter().zip(words_b).take_while(|(a, b)| a == b).count() * 8;
    let rest = a[equal..].iter().zip(&b[equal..]);
    equal + rest.take_while(|(a, b)| a == b).count()
}

/// The number of a type of file.
pub(crate) fn kind_code(kind: FileKind) -> u8 {
    match kind {
        FileKind::Regular => 1,
        FileKind::Directory => 2,
        FileKind::Symlink => 3,
        FileKind::BlockDevice => 4,
        FileKind::CharacterDevice => 5,
        FileKind::Fifo => 6,
        FileKind::Socket => 7,
    }
}

/// The type of file of a number.
pub(crate) fn kind_of(code: u8) -> Option<FileKind> {
    Some(match code {
        1 => FileKind::Regular,
        2 => FileKind::Directory,
        3 => FileKind::Symlink,
        4 => FileKind::BlockDevice,
        5 => FileKind::CharacterDevice,
        6 => FileKind::Fifo,
        7 => FileKind::Socket,
        _ => return None,
    })
}

/// Whether it has a device's number.
pub(crate) fn is_device(kind: FileKind) -> bool {
    matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice)
}

/// Reads on from a place in some bytes.
pub(crate) struct Reader<'a, D> {
    bytes: &'a [u8],
    at: usize,
    damage: PhantomData<fn() -> D>,
}

impl<'a, D: Damage> Reader<'a, D> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Reader {
            bytes,
            at,
            damage: PhantomData,
        }
    }

    /// The place reached.
    pub fn at(&self) -> usize {
        self.at
    }

    /// What is wrong at the place reached.
    pub fn damage(&self, what: &'static str) -> D {
        D::nonsense(what, self.at)
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, D> {
        let byte = self.bytes.get(self.at).ok_or_else(|| self.damage(what))?;
        self.at += 1;
        Ok(*byte)
    }

    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], D> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damage(what))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], D> {
        let rest = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let found = *rest.ok_or_else(|| self.damage(what))?;
        self.at += N;
        Ok(found)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, D> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(D::nonsense(what, start))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, D> {
        let start = self.at;
        let value = self.u64(what)?;
        u32::try_from(value).map_err(|_| D::nonsense(what, start))
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, D> {
        let value = self.u64(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count, and so many bytes of what follows: no more than there are.
    pub fn count(&mut self, what: &'static str) -> Result<usize, D> {
        let start = self.at;
        let value = self.u64(what)?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(value) {
            Ok(count) if count <= left => Ok(count),
            _ => Err(D::nonsense(what, start)),
        }
    }
}
