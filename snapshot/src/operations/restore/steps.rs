//! The steps of a restore, in the order in which they are taken, in a file: a tree may need more of them than memory should hold.
//!
//! ```text
//! step     kind u8, path, then: Put: number u64. Link: the other path. Attributes, Finish: attributes. Others: nothing.
//! path     length u32, bytes            attributes   mode u16, uid u32, gid u32, seconds i64, nanoseconds u32, kind u8,
//!                                                    count u32, of each: name and value as paths are
//! ```
//! All numbers little-endian. The journal has the number of steps and the BLAKE3 hash of the file: after a kill the same steps are taken again.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use cairn_types::{DeviceNumber, Timestamp};

use crate::codec::{kind_code, kind_of};
use crate::directory::path::PATH_BYTES_MAX;
use crate::directory::{Attributes, Digest, RelativePath, Xattr};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A directory is made, if it is not there.
    MakeDirectory,
    /// What was staged under this number takes the place of what is there.
    Put(u64),
    /// Another name of the file at this path takes the place of what is there.
    Link(RelativePath),
    /// The attributes of what is there are set.
    Attributes(Box<Attributes>),
    /// What is there and is no directory goes.
    Unlink,
    /// The directory that is there goes, unless something is in it.
    RemoveDirectory,
    /// The directory that is there moves aside if something is in it, and goes otherwise: something else needs its name.
    ClearDirectory,
}

/// A step and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedStep {
    /// The path.
    pub path: RelativePath,
    /// What is done there.
    pub action: Action,
}

/// Takes steps.
pub struct StepWriter {
    file: BufWriter<File>,
    steps: u64,
    hasher: blake3::Hasher,
}

/// Which steps a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepsSeal {
    /// How many.
    pub steps: u64,
    /// The hash of the file.
    pub hash: Digest,
}

impl StepWriter {
    /// Into an empty file.
    pub fn new(file: File) -> Self {
        StepWriter {
            file: BufWriter::new(file),
            steps: 0,
            hasher: blake3::Hasher::new(),
        }
    }

    /// One more. Errors: write(2).
    pub fn push(&mut self, path: &RelativePath, action: &Action) -> io::Result<()> {
        let kind = match action {
            Action::MakeDirectory => 0,
            Action::Put(_) => 1,
            Action::Link(_) => 2,
            Action::Attributes(_) => 3,
            Action::Unlink => 4,
            Action::RemoveDirectory => 5,
            Action::ClearDirectory => 6,
        };
        self.steps += 1;
        self.put(&[kind])?;
        self.bytes(path.as_bytes())?;
        match action {
            Action::Put(number) => self.put(&number.to_le_bytes()),
            Action::Link(to) => self.bytes(to.as_bytes()),
            Action::Attributes(attributes) => self.attributes(attributes),
            Action::MakeDirectory | Action::Unlink | Action::RemoveDirectory | Action::ClearDirectory => {
                Ok(())
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn attributes(&mut self, of: &Attributes) -> io::Result<()> {
        self.put(&of.mode.to_le_bytes())?;
        self.put(&of.uid.to_le_bytes())?;
        self.put(&of.gid.to_le_bytes())?;
        self.put(&of.modified.seconds().to_le_bytes())?;
        self.put(&of.modified.nanoseconds().to_le_bytes())?;
        self.put(&[kind_code(of.kind)])?;
        self.put(&(of.xattrs.len() as u32).to_le_bytes())?;
        for xattr in &of.xattrs {
            self.bytes(&xattr.name)?;
            self.bytes(&xattr.value)?;
        }
        Ok(())
    }

    /// Which they are, and a reader of them. The caller makes them durable. Errors: write(2), lseek(2).
    pub fn finish(self) -> io::Result<(StepsSeal, StepReader)> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let seal = StepsSeal {
            steps: self.steps,
            hash: Digest(*self.hasher.finalize().as_bytes()),
        };
        let reader = StepReader {
            file: BufReader::new(file),
            left: self.steps,
        };
        Ok((seal, reader))
    }
}

/// Gives the steps back. After an error there are no more.
pub struct StepReader {
    file: BufReader<File>,
    left: u64,
}

fn invalid() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the list of steps was changed by somebody else",
    )
}

impl StepReader {
    /// Reads the steps of a file again. Errors: read(2), lseek(2); `InvalidData` if it is not the file that was sealed.
    pub fn open(mut file: File, seal: &StepsSeal) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        io::copy(&mut file, &mut hasher)?;
        if *hasher.finalize().as_bytes() != seal.hash.0 {
            return Err(invalid());
        }
        file.rewind()?;
        Ok(StepReader {
            file: BufReader::new(file),
            left: seal.steps,
        })
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > PATH_BYTES_MAX {
            return Err(invalid());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn path(&mut self) -> io::Result<RelativePath> {
        RelativePath::new(&self.bytes()?).map_err(|_| invalid())
    }

    fn attributes(&mut self) -> io::Result<Attributes> {
        let mode = u16::from_le_bytes(self.array()?);
        let uid = u32::from_le_bytes(self.array()?);
        let gid = u32::from_le_bytes(self.array()?);
        let seconds = i64::from_le_bytes(self.array()?);
        let nanoseconds = u32::from_le_bytes(self.array()?);
        let [kind] = self.array()?;
        if nanoseconds >= 1_000_000_000 {
            return Err(invalid());
        }
        let mut xattrs = Vec::new();
        for _ in 0..u32::from_le_bytes(self.array()?) {
            let (name, value) = (self.bytes()?, self.bytes()?);
            xattrs.push(Xattr { name, value });
        }
        Ok(Attributes {
            kind: kind_of(kind).ok_or_else(invalid)?,
            mode,
            uid,
            gid,
            modified: Timestamp::new(seconds, nanoseconds),
            size: 0,
            device: DeviceNumber::default(),
            xattrs,
        })
    }

    fn read(&mut self) -> io::Result<PlacedStep> {
        let [kind] = self.array()?;
        let path = self.path()?;
        let action = match kind {
            0 => Action::MakeDirectory,
            1 => Action::Put(u64::from_le_bytes(self.array()?)),
            2 => Action::Link(self.path()?),
            3 => Action::Attributes(Box::new(self.attributes()?)),
            4 => Action::Unlink,
            5 => Action::RemoveDirectory,
            6 => Action::ClearDirectory,
            _ => return Err(invalid()),
        };
        Ok(PlacedStep { path, action })
    }
}

impl Iterator for StepReader {
    type Item = io::Result<PlacedStep>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let step = self.read();
        self.left = match step {
            Ok(_) => self.left - 1,
            Err(_) => 0,
        };
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{DeviceNumber, FileKind, Timestamp};

    use super::{Action, PlacedStep, StepWriter};
    use crate::directory::{Attributes, RelativePath, Xattr};

    #[test]
    fn steps_come_back_in_order() {
        let path = |text: &[u8]| RelativePath::new(text).unwrap();
        let attributes = Attributes {
            kind: FileKind::Socket,
            mode: 0o4755,
            uid: 7,
            gid: u32::MAX - 1,
            modified: Timestamp::new(-5, 999_999_999),
            size: 0,
            device: DeviceNumber::default(),
            xattrs: vec![Xattr {
                name: b"user.a".to_vec(),
                value: vec![0, 255],
            }],
        };
        let steps = [
            Action::MakeDirectory,
            Action::Put(u64::MAX),
            Action::Link(path(b"a\xff/b")),
            Action::Attributes(Box::new(attributes)),
            Action::Unlink,
            Action::RemoveDirectory,
            Action::ClearDirectory,
        ]
        .map(|action| PlacedStep {
            path: path(b"x/y\n"),
            action,
        });
        let mut writer = StepWriter::new(tempfile::tempfile().unwrap());
        for step in &steps {
            writer.push(&step.path, &step.action).unwrap();
        }
        let (seal, reader) = writer.finish().unwrap();
        assert_eq!(seal.steps, 7);
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), steps);
    }
}
