//! The file `format`: what a data directory is, and the key that must never change while volumes are in it.
//!
//! TOML, so that a person can read it. Version 1:
//!
//! ```toml
//! kind = "cairn data directory"
//! version = 1
//! handle_secret = "<32 hexadecimal digits>"
//! checksum = "<8 hexadecimal digits>"
//! ```
//!
//! `checksum` is the CRC-32C (Castagnoli) of `version` and `handle_secret` as written, each followed by a line
//! feed: a flipped digit of the secret would make every file handle stale. A reader looks at `kind` and `version` first
//! and at the rest only if it knows the version.

use std::fmt;
use std::fmt::Write;

use cairn_types::Randomness;
use serde::Deserialize;

/// The version that is written, and the newest that is read.
pub const VERSION: u64 = 1;
/// The value of `kind`.
pub const KIND: &str = "cairn data directory";

/// The key that signs file handles: who has it can make handles of any object. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct HandleSecret(pub [u8; 16]);

impl fmt::Debug for HandleSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleSecret(..)")
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The key that signs file handles.
    pub handle_secret: HandleSecret,
}

/// Why the bytes are no format file that this version can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatError {
    /// A later version wrote it.
    Newer {
        /// Its version.
        found: u64,
    },
    /// It is not what was written.
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "kind")]
    _kind: String,
    version: u64,
    handle_secret: String,
    checksum: String,
}

impl Format {
    /// A new one.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        let mut secret = [0; 16];
        randomness.fill(&mut secret);
        Format {
            handle_secret: HandleSecret(secret),
        }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> String {
        let secret = hexadecimal(&self.handle_secret.0);
        let checksum = checksum(VERSION, &secret);
        format!(
            "# Written by cairnd when this directory was made. Do not edit; keep it secret.\n\
             kind = \"{KIND}\"\nversion = {VERSION}\nhandle_secret = \"{secret}\"\n\
             checksum = \"{checksum}\"\n"
        )
    }

    /// Reads the bytes of the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let damaged = |reason: &str| FormatError::Damaged {
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
        // The parser's messages quote the text, and with it the secret: they are not shown.
        let head: Head = toml::from_str(text).map_err(|_| damaged("no kind and version can be read"))?;
        if head.kind != KIND {
            return Err(damaged("its kind is another one"));
        }
        if head.version > VERSION {
            return Err(FormatError::Newer { found: head.version });
        }
        if head.version == 0 {
            return Err(damaged("there is no version 0"));
        }
        let body: Body =
            toml::from_str(text).map_err(|_| damaged("its keys are not those of its version"))?;
        if body.checksum != checksum(body.version, &body.handle_secret) {
            return Err(damaged("its checksum does not fit"));
        }
        let secret = parse_hexadecimal(&body.handle_secret)
            .ok_or_else(|| damaged("handle_secret is not 32 hexadecimal digits"))?;
        Ok(Format {
            handle_secret: HandleSecret(secret),
        })
    }
}

fn checksum(version: u64, secret: &str) -> String {
    let covered = format!("{version}\n{secret}\n");
    format!(
        "{:08x}",
        crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered.as_bytes())
    )
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn parse_hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Format, FormatError, HandleSecret};

    const GOLDEN: &str = include_str!("format_v1.golden");

    fn example() -> Format {
        Format {
            handle_secret: HandleSecret(std::array::from_fn(|index| index as u8)),
        }
    }

    #[test]
    fn version_1_is_pinned() {
        assert_eq!(example().encode(), GOLDEN);
        assert_eq!(Format::parse(GOLDEN.as_bytes()), Ok(example()));
    }

    #[test]
    fn the_documentation_shows_the_golden_file() {
        assert!(include_str!("../../../docs/formats/data-directory.md").contains(GOLDEN));
    }

    #[test]
    fn a_newer_version_is_told_from_damage_whatever_else_it_has() {
        let text = "kind = \"cairn data directory\"\nversion = 2\nshape = \"unheard of\"\n";
        assert_eq!(
            Format::parse(text.as_bytes()),
            Err(FormatError::Newer { found: 2 })
        );
    }

    #[test]
    fn every_flipped_bit_is_an_error_or_changes_nothing() {
        for index in 0..GOLDEN.len() {
            for bit in 0..8 {
                let mut bytes = GOLDEN.as_bytes().to_vec();
                bytes[index] ^= 1 << bit;
                if let Ok(parsed) = Format::parse(&bytes) {
                    assert_eq!(parsed, example(), "byte {index} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn cut_files_are_damaged() {
        // The last line feed is not needed.
        for length in 0..GOLDEN.len() - 1 {
            let parsed = Format::parse(&GOLDEN.as_bytes()[..length]);
            assert!(
                matches!(parsed, Err(FormatError::Damaged { .. })),
                "{length}: {parsed:?}"
            );
        }
    }

    #[test]
    fn messages_do_not_show_the_secret() {
        let digits = "000102030405";
        assert!(!format!("{:?}", example()).contains(digits));
        let broken = GOLDEN.replace("checksum", "checksun");
        assert!(!format!("{:?}", Format::parse(broken.as_bytes())).contains(digits));
    }
}
