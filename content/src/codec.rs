//! How bytes are compressed: a codec per frame, chosen by looking at a sample.
//!
//! What does not compress is stored raw, for the price of the look. Floating-point tensors hide their redundancy from
//! general compressors: exponents, which take few values, alternate with mantissas, which are noise. Split into planes (all
//! first bytes of the elements, then all second bytes, ...) the exponents compress by an entropy coder alone, and the
//! mantissas are stored raw. Everything is reversible without knowing what the data meant.
//!
//! Encoded bytes are drawn in `docs/formats/pack.md`. Their integrity is not checked here: the pack has checksums of what
//! is stored, the chunk's identity covers what comes out.

use std::io::{self, Read, Write};

use zstd::zstd_safe::{CParameter, ParamSwitch};

mod planes;
mod probe;

use probe::estimate;

pub use probe::is_noise;

/// The zstd level of a plane: literals by Huffman codes, hardly any search for repetitions.
const PLANE_LEVEL: i32 = -1000;
/// Encoded bytes must save a 32nd at least, or reading them again is not worth the decoding.
const SAVING_SHIFT: u32 = 5;
/// Where planes and plain zstd are both promising, so many bytes from the middle decide.
const TRIAL_BYTES: usize = 32 << 10;

/// What a store is told to compress with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// Zstandard (RFC 8878) at a level of [`ZSTD_LEVELS`], with planes for tensors.
    Zstd(i32),
    /// gzip (RFC 1952) at a level of [`GZIP_LEVELS`].
    Gzip(u32),
}

/// Levels of [`Compression::Zstd`].
pub const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;
/// Levels of [`Compression::Gzip`].
pub const GZIP_LEVELS: std::ops::RangeInclusive<u32> = 1..=9;

impl Default for Compression {
    /// Zstandard at level 1: on text it is 1.4 times as fast as level 3 and stores a tenth more; noise is not tried, and tensors
    /// hardly depend on the level.
    fn default() -> Self {
        Compression::Zstd(1)
    }
}

/// A compression that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// No name and level of one.
    #[error("{text:?} is no compression: write zstd, gzip or none, and a level if wanted, as in zstd:3")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// The level is out of bounds.
    #[error(transparent)]
    Level(#[from] LevelError),
}

impl std::str::FromStr for Compression {
    type Err = CompressionError;

    /// Parses `zstd`, `gzip` or `none`, with a level behind a colon if one is wanted; `none` has none.
    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let unknown = || CompressionError::Unknown {
            text: text.chars().take(64).collect(),
        };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let compression = match (name, level) {
            ("none", None) => Compression::None,
            ("zstd", None) => Compression::default(),
            ("gzip", None) => Compression::Gzip(6),
            ("zstd", Some(level)) => Compression::Zstd(level.parse().map_err(|_| unknown())?),
            ("gzip", Some(level)) => Compression::Gzip(level.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        };
        compression.check()?;
        Ok(compression)
    }
}

/// How a run of bytes is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As it is.
    Raw = 0,
    /// One Zstandard frame (RFC 8878).
    Zstd = 1,
    /// One gzip member (RFC 1952).
    Gzip = 2,
    /// Planes of elements of 2 bytes.
    Planes2 = 3,
    /// Planes of elements of 4 bytes.
    Planes4 = 4,
}

impl Encoding {
    /// The encoding of a stored number.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Encoding::Raw,
            Encoding::Zstd,
            Encoding::Gzip,
            Encoding::Planes2,
            Encoding::Planes4,
        ]
        .into_iter()
        .find(|encoding| *encoding as u8 == number)
    }
}

/// Why bytes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The compressed bytes are no such bytes.
    #[error("{encoding:?} data cannot be decoded")]
    Damaged {
        /// What they should be.
        encoding: Encoding,
        /// What the decoder says.
        #[source]
        cause: io::Error,
    },
    /// They decode to another length than was announced.
    #[error("{encoding:?} data decodes to {found} bytes or more, and should to {expected}")]
    Length {
        /// What they are.
        encoding: Encoding,
        /// Bytes announced.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The planes are not laid out as they must be.
    #[error("the planes of {encoding:?} data are damaged: {what}")]
    Planes {
        /// What they are.
        encoding: Encoding,
        /// What is wrong.
        what: &'static str,
    },
}

/// A level that there is not.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{name} has no level {found}: choose one from {minimum} to {maximum}")]
pub struct LevelError {
    name: &'static str,
    found: i64,
    minimum: i64,
    maximum: i64,
}

impl Compression {
    /// Checks the level.
    pub fn check(self) -> Result<(), LevelError> {
        let (name, found, minimum, maximum) = match self {
            Compression::None => return Ok(()),
            Compression::Zstd(level) => (
                "zstd",
                level.into(),
                (*ZSTD_LEVELS.start()).into(),
                (*ZSTD_LEVELS.end()).into(),
            ),
            Compression::Gzip(level) => (
                "gzip",
                level.into(),
                (*GZIP_LEVELS.start()).into(),
                (*GZIP_LEVELS.end()).into(),
            ),
        };
        if (minimum..=maximum).contains(&found) {
            Ok(())
        } else {
            Err(LevelError {
                name,
                found,
                minimum,
                maximum,
            })
        }
    }
}

/// Compresses. Keeps the memory that it works in: one per thread.
pub struct Encoder {
    compression: Compression,
    zstd: zstd::bulk::Compressor<'static>,
    plane: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
    /// Memory of what was encoded before.
    spare: Vec<u8>,
}

impl Encoder {
    /// An encoder. Errors: a level out of bounds as `InvalidInput`, or no memory.
    pub fn new(compression: Compression) -> io::Result<Self> {
        compression
            .check()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let level = match compression {
            Compression::Zstd(level) => level,
            Compression::None | Compression::Gzip(_) => *ZSTD_LEVELS.start(),
        };
        Ok(Encoder {
            compression,
            zstd: zstd::bulk::Compressor::new(level)?,
            plane: plane_compressor()?,
            scratch: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Writes `data`, encoded, into `out`, whose content it replaces; never more bytes than `data` has.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<Encoding> {
        let encoding = self.try_encode(data, out)?;
        if encoding == Encoding::Raw {
            out.clear();
            out.extend_from_slice(data);
        }
        Ok(encoding)
    }

    /// As [`Encoder::encode`], but raw data changes places with `out` instead of being copied. `data` has any content afterwards.
    pub fn encode_or_take(&mut self, data: &mut Vec<u8>, out: &mut Vec<u8>) -> io::Result<Encoding> {
        let encoding = self.try_encode(data, out)?;
        if encoding == Encoding::Raw {
            std::mem::swap(data, out);
        }
        Ok(encoding)
    }

    /// Memory to encode into, and [`Encoder::give_back`] for what is not needed any more: large buffers made anew cost as
    /// much as the work on them.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        self.spare = buffer;
    }

    /// If the answer is raw, `out` has any content.
    fn try_encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<Encoding> {
        out.clear();
        let encoding = match self.compression {
            Compression::None => Encoding::Raw,
            Compression::Gzip(level) => match estimate(data).is_hopeless() {
                true => Encoding::Raw,
                false => self.encode_as(Encoding::Gzip, level, data, out)?,
            },
            Compression::Zstd(_) => match self.choose(data)? {
                Encoding::Raw => Encoding::Raw,
                choice => self.encode_as(choice, 0, data, out)?,
            },
        };
        let worth = data.len() - (data.len() >> SAVING_SHIFT);
        Ok(match out.len() > worth {
            true => Encoding::Raw,
            false => encoding,
        })
    }

    fn choose(&mut self, data: &[u8]) -> io::Result<Encoding> {
        let estimate = estimate(data);
        let Some(planes) = estimate.promising_planes() else {
            return Ok(match estimate.is_hopeless() {
                true => Encoding::Raw,
                false => Encoding::Zstd,
            });
        };
        if data.len() <= TRIAL_BYTES / 8 {
            return Ok(planes);
        }
        let start = (data.len().saturating_sub(TRIAL_BYTES) / 2) & !3;
        let sample = &data[start..(start + TRIAL_BYTES).min(data.len())];
        let mut out = Vec::new();
        self.encode_as(Encoding::Zstd, 0, sample, &mut out)?;
        let whole = out.len();
        self.encode_as(planes, 0, sample, &mut out)?;
        Ok(match out.len() < whole {
            true => planes,
            false => Encoding::Zstd,
        })
    }

    fn encode_as(
        &mut self,
        encoding: Encoding,
        gzip_level: u32,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Encoding> {
        out.clear();
        match encoding {
            Encoding::Raw => out.extend_from_slice(data),
            Encoding::Zstd => compress(&mut self.zstd, data, out)?,
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(gzip_level));
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            Encoding::Planes2 => planes::encode::<2>(data, &mut self.plane, &mut self.scratch, out)?,
            Encoding::Planes4 => planes::encode::<4>(data, &mut self.plane, &mut self.scratch, out)?,
        }
        Ok(encoding)
    }
}

/// A compressor that codes literals by their frequency and does little else. Of itself zstd leaves literals alone at such
/// levels.
fn plane_compressor() -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(PLANE_LEVEL)?;
    compressor.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))?;
    Ok(compressor)
}

/// Appends a Zstandard frame to `out`.
fn compress(compressor: &mut zstd::bulk::Compressor<'_>, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(data.len()), 0);
    let length = compressor.compress_to_buffer(data, &mut out[start..])?;
    out.truncate(start + length);
    Ok(())
}

/// Decompresses. Keeps the memory that it works in: one per thread.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    scratch: Vec<u8>,
}

impl Decoder {
    /// A decoder. Errors: no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Decoder {
            zstd: zstd::bulk::Decompressor::new()?,
            scratch: Vec::new(),
        })
    }

    /// Writes what `stored` stands for into `out`, whose content it replaces: exactly `length` bytes, or an error. Takes no
    /// more memory than `length` asks for, whatever `stored` says; after an error `out` has any content.
    pub fn decode(
        &mut self,
        encoding: Encoding,
        stored: &[u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let damaged = |cause| DecodeError::Damaged { encoding, cause };
        out.clear();
        match encoding {
            Encoding::Raw if stored.len() == length => out.extend_from_slice(stored),
            Encoding::Raw => {}
            Encoding::Zstd => {
                // Into memory that is not zeroed first. There may be more of it than asked for: the length is looked at below.
                out.reserve_exact(length);
                self.zstd.decompress_to_buffer(stored, out).map_err(damaged)?;
            }
            Encoding::Gzip => {
                out.reserve_exact(length);
                let limit = length as u64 + 1;
                flate2::bufread::GzDecoder::new(stored)
                    .take(limit)
                    .read_to_end(out)
                    .map_err(damaged)?;
            }
            Encoding::Planes2 => {
                planes::decode::<2>(encoding, stored, length, &mut self.zstd, &mut self.scratch, out)?;
            }
            Encoding::Planes4 => {
                planes::decode::<4>(encoding, stored, length, &mut self.zstd, &mut self.scratch, out)?;
            }
        }
        let found = match encoding {
            Encoding::Raw => stored.len(),
            _ => out.len(),
        };
        if found == length {
            Ok(())
        } else {
            Err(DecodeError::Length {
                encoding,
                expected: length,
                found,
            })
        }
    }
}

#[cfg(test)]
mod tests;
