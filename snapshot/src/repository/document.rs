//! Documents: the JSON files of a control directory, with a kind, a version and a checksum. Pure: bytes in, values out.
//!
//! ```text
//! {"cairn":"KIND VERSION","checksum":"64 hexadecimal digits","body":{...}}LF
//! ```
//!
//! The checksum is the BLAKE3 hash of the body as it stands in the file, byte by byte. The envelope around it has exactly this form, so that
//! every flipped bit is found. A person can read a document, and cannot change one by accident.

use cairn_types::hexadecimal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::{DOCUMENT_BYTES_MAX, FORMAT_VERSION};

/// What is kept as a document.
pub trait Document: Serialize + DeserializeOwned {
    /// Its kind: lowercase letters and `-`.
    const KIND: &'static str;

    /// Looks for what cannot be, beyond what the types tell. Errors: what is wrong, in a sentence without a capital.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Why bytes are no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentDamage {
    /// It does not have the form of a document: truncated, overwritten, formatted anew, or of something else.
    #[error("it does not have the form of a document")]
    Form,
    /// It is a document of another kind.
    #[error("it is a {found:?} where a {expected:?} must be")]
    Kind {
        /// The kind that must be.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// A newer Cairn wrote it.
    #[error("it has version {found}; this Cairn knows version {FORMAT_VERSION}")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// The body is not what was written.
    #[error("its checksum is {found} and must be {expected}")]
    Checksum {
        /// What the document says.
        expected: String,
        /// What its body has.
        found: String,
    },
    /// The body is what was written, and makes no sense.
    #[error("its content is wrong: {what}")]
    Body {
        /// What is wrong.
        what: String,
    },
}

/// Why a value cannot be written as a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The value is out of its bounds.
    #[error("{kind}: {what}")]
    Value {
        /// The kind of the document.
        kind: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The document would be longer than is read.
    #[error("a {kind} of {found} bytes is longer than {DOCUMENT_BYTES_MAX}")]
    Length {
        /// The kind of the document.
        kind: &'static str,
        /// Bytes that it would have.
        found: usize,
    },
}

const BEFORE_KIND: &[u8] = b"{\"cairn\":\"";
const BEFORE_CHECKSUM: &[u8] = b"\",\"checksum\":\"";
const BEFORE_BODY: &[u8] = b"\",\"body\":";
const AFTER_BODY: &[u8] = b"}\n";
/// Longest kind with its version.
const TITLE_BYTES_MAX: usize = 64;

/// Bytes of a file within which the kind of its document ends.
pub(super) const TITLE_END_MAX: u64 = (BEFORE_KIND.len() + TITLE_BYTES_MAX + 1) as u64;

/// The kind that the first bytes of a document tell. Nothing else of it is looked at.
pub(super) fn kind_of(bytes: &[u8]) -> Option<&str> {
    let rest = bytes.strip_prefix(BEFORE_KIND)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let (kind, _) = std::str::from_utf8(&rest[..end]).ok()?.rsplit_once(' ')?;
    Some(kind)
}

/// The bytes of a document. Errors: the value is out of its bounds, or too long.
pub fn encode<T: Document>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let wrong = |what: String| EncodeError::Value { kind: T::KIND, what };
    value.check().map_err(wrong)?;
    let body = serde_json::to_vec(value).map_err(|error| wrong(error.to_string()))?;
    let checksum = blake3::hash(&body).to_hex();
    let title = format!("{} {FORMAT_VERSION}", T::KIND);
    let parts = [
        BEFORE_KIND,
        title.as_bytes(),
        BEFORE_CHECKSUM,
        checksum.as_bytes(),
        BEFORE_BODY,
        &body,
        AFTER_BODY,
    ];
    let bytes = parts.concat();
    match bytes.len() <= DOCUMENT_BYTES_MAX {
        true => Ok(bytes),
        false => Err(EncodeError::Length {
            kind: T::KIND,
            found: bytes.len(),
        }),
    }
}

/// The value of a document. Errors: [`DocumentDamage`].
pub fn decode<T: Document>(bytes: &[u8]) -> Result<T, DocumentDamage> {
    let rest = bytes.strip_prefix(BEFORE_KIND).ok_or(DocumentDamage::Form)?;
    let end = rest
        .iter()
        .take(TITLE_BYTES_MAX + 1)
        .position(|byte| *byte == b'"');
    let (title, rest) = rest.split_at(end.ok_or(DocumentDamage::Form)?);
    let title = std::str::from_utf8(title).map_err(|_| DocumentDamage::Form)?;
    let (kind, version) = title.rsplit_once(' ').ok_or(DocumentDamage::Form)?;
    if kind != T::KIND {
        return Err(DocumentDamage::Kind {
            expected: T::KIND,
            found: kind.to_owned(),
        });
    }
    let version = version.parse::<u32>().map_err(|_| DocumentDamage::Form)?;
    if version > FORMAT_VERSION {
        return Err(DocumentDamage::Newer { found: version });
    }
    if title != format!("{} {FORMAT_VERSION}", T::KIND) {
        return Err(DocumentDamage::Form);
    }
    let rest = rest.strip_prefix(BEFORE_CHECKSUM).ok_or(DocumentDamage::Form)?;
    let (checksum, rest) = rest.split_at_checked(64).ok_or(DocumentDamage::Form)?;
    let body = rest
        .strip_prefix(BEFORE_BODY)
        .and_then(|rest| rest.strip_suffix(AFTER_BODY));
    let body = body.ok_or(DocumentDamage::Form)?;
    let expected = std::str::from_utf8(checksum)
        .ok()
        .and_then(hexadecimal::parse::<32>);
    let expected = expected.ok_or(DocumentDamage::Form)?;
    let found = *blake3::hash(body).as_bytes();
    if found != expected {
        return Err(DocumentDamage::Checksum {
            expected: hexadecimal::text(&expected),
            found: hexadecimal::text(&found),
        });
    }
    let wrong = |what: String| DocumentDamage::Body { what };
    let value: T = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    value.check().map_err(wrong)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{Document, DocumentDamage, EncodeError, decode, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        number: u64,
        text: String,
    }

    impl Document for Sample {
        const KIND: &'static str = "sample";

        fn check(&self) -> Result<(), String> {
            match self.number < 100 {
                true => Ok(()),
                false => Err("number is 100 or more".to_owned()),
            }
        }
    }

    fn sample() -> Sample {
        Sample {
            number: 7,
            text: "\u{fc} \" \n".to_owned(),
        }
    }

    #[test]
    fn the_form_is_fixed() {
        let text = String::from_utf8(encode(&sample()).unwrap()).unwrap();
        let body = "{\"number\":7,\"text\":\"\u{fc} \\\" \\n\"}";
        let checksum = blake3::hash(body.as_bytes()).to_hex();
        assert_eq!(
            text,
            format!("{{\"cairn\":\"sample 2\",\"checksum\":\"{checksum}\",\"body\":{body}}}\n")
        );
        assert_eq!(decode::<Sample>(text.as_bytes()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let bytes = encode(&sample()).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                assert!(decode::<Sample>(&wrong).is_err(), "byte {at}, bit {bit}");
            }
            assert!(decode::<Sample>(&bytes[..at]).is_err(), "{at} bytes");
        }
        assert_eq!(
            decode::<Sample>(&[&bytes[..], b"\n"].concat()),
            Err(DocumentDamage::Form)
        );
    }

    #[test]
    fn other_kinds_newer_versions_and_wrong_values_are_told_apart() {
        let text = String::from_utf8(encode(&sample()).unwrap()).unwrap();
        let kind = text.replace("sample 2", "simple 2");
        assert!(matches!(
            decode::<Sample>(kind.as_bytes()),
            Err(DocumentDamage::Kind { .. })
        ));
        let newer = text.replace("sample 2", "sample 3");
        assert_eq!(
            decode::<Sample>(newer.as_bytes()),
            Err(DocumentDamage::Newer { found: 3 })
        );
        for version in ["sample 1", "sample 02", "sample +2"] {
            let older = text.replace("sample 2", version);
            assert_eq!(
                decode::<Sample>(older.as_bytes()),
                Err(DocumentDamage::Form),
                "{version}"
            );
        }
        let body = "{\"number\":7,\"text\":\"\",\"more\":1}";
        let more = format!(
            "{{\"cairn\":\"sample 2\",\"checksum\":\"{}\",\"body\":{body}}}\n",
            blake3::hash(body.as_bytes())
        );
        assert!(matches!(
            decode::<Sample>(more.as_bytes()),
            Err(DocumentDamage::Body { .. })
        ));
        let large = Sample {
            number: 100,
            ..sample()
        };
        assert!(matches!(encode(&large), Err(EncodeError::Value { .. })));
    }
}
