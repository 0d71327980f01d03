//! Values as text in documents: times, identities, hashes, and paths that need not be UTF-8. For every value one form, and no other
//! is read.

use std::borrow::Cow;

use cairn_types::{SnapshotId, Tag, Timestamp, hexadecimal};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::directory::{Digest, RelativePath};

/// The form of a path in documents and listings: bytes that are UTF-8 and no control characters stand for themselves; `%`, control
/// characters (below 0x20, and 0x7f) and bytes that are no UTF-8 are written as `%` and two capital hexadecimal digits.
/// [`unescape`] gives the same bytes back.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '%' | '\0'..='\x1f' | '\x7f' => percent(&mut text, character as u8),
                _ => text.push(character),
            }
        }
        chunk.invalid().iter().for_each(|byte| percent(&mut text, *byte));
    }
    text
}

fn percent(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The bytes that [`escape`] wrote so. Nothing if the text is not what it writes.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (pair, after) = rest.split_at_checked(2)?;
        bytes.push(u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?);
        rest = after;
    }
    (escape(&bytes) == text).then_some(bytes)
}

/// A value with one form as text.
pub trait Text: Sized {
    /// What it is called when a text is none.
    const WHAT: &'static str;
    /// Its text; nothing if it has none.
    fn to_text(&self) -> Option<String>;
    /// The value of a text.
    fn from_text(text: &str) -> Option<Self>;
}

impl Text for SnapshotId {
    const WHAT: &'static str = "id of a snapshot: 32 lowercase hexadecimal digits";
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        SnapshotId::parse(text)
    }
}

impl Text for Digest {
    const WHAT: &'static str = "hash: 64 lowercase hexadecimal digits";
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(Digest)
    }
}

impl Text for Tag {
    const WHAT: &'static str = "tag";
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        Tag::new(text).ok()
    }
}

impl Text for Vec<u8> {
    const WHAT: &'static str = "escaped path";
    fn to_text(&self) -> Option<String> {
        Some(escape(self))
    }
    fn from_text(text: &str) -> Option<Self> {
        unescape(text)
    }
}

impl Text for RelativePath {
    const WHAT: &'static str = "escaped path below the workspace";
    fn to_text(&self) -> Option<String> {
        Some(escape(self.as_bytes()))
    }
    fn from_text(text: &str) -> Option<Self> {
        RelativePath::new(&unescape(text)?).ok()
    }
}

impl Text for Timestamp {
    const WHAT: &'static str = "time: RFC 3339, UTC, nine decimals";
    /// Nothing outside the years -9999 to 9999.
    fn to_text(&self) -> Option<String> {
        let time = instant(*self)?;
        Some(format!("{time:.9}"))
    }
    fn from_text(text: &str) -> Option<Self> {
        let time = text.parse::<jiff::Timestamp>().ok()?;
        let time = Timestamp::from_instant(time);
        (time.to_text()? == text).then_some(time)
    }
}

/// The same point in time for calendars. Nothing outside the years -9999 to 9999.
pub fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    time.to_instant()
}

/// Writes a value as its text: for `#[serde(with = "text")]`.
pub fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let text = value.to_text();
    let text =
        text.ok_or_else(|| serde::ser::Error::custom(format!("out of the bounds of a {}", T::WHAT)))?;
    serializer.serialize_str(&text)
}

/// Reads a value from its text: for `#[serde(with = "text")]`.
pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    let shown: String = text.chars().take(100).collect();
    T::from_text(&text).ok_or_else(|| D::Error::custom(format!("{shown:?} is no {}", T::WHAT)))
}

/// A value that is written as its text, inside of options, lists and sets.
struct AsText<T>(T);

impl<T: Text> Serialize for AsText<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

impl<'de, T: Text> Deserialize<'de> for AsText<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(AsText)
    }
}

/// Values that may be missing (`null`): for `#[serde(with = "text::option")]`.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{AsText, Text};

    /// Writes the text, or `null`.
    pub fn serialize<T: Text, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(AsText).serialize(serializer)
    }

    /// Reads the text, or `null`.
    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Option::<AsText<T>>::deserialize(deserializer).map(|value| value.map(|value| value.0))
    }
}

/// Lists and sets of values: for `#[serde(with = "text::list")]`.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{AsText, Text};

    /// Writes a list of texts.
    pub fn serialize<'a, T, C, S>(values: &'a C, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Text + 'a,
        &'a C: IntoIterator<Item = &'a T>,
        S: Serializer,
    {
        serializer.collect_seq(values.into_iter().map(AsText))
    }

    /// Reads a list of texts.
    pub fn deserialize<'de, T, C, D>(deserializer: D) -> Result<C, D::Error>
    where
        T: Text,
        C: FromIterator<T>,
        D: Deserializer<'de>,
    {
        let values = Vec::<AsText<T>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{Text, escape, unescape};

    #[test]
    fn paths_of_any_bytes_round_trip_in_one_form() {
        for (bytes, text) in [
            (&b"src/main.rs"[..], "src/main.rs"),
            ("gr\u{fc}n/\u{2603}".as_bytes(), "gr\u{fc}n/\u{2603}"),
            (b"100%", "100%25"),
            (b"a\nb\x7f", "a%0Ab%7F"),
            (b"\xff\xfe/x\xe2\x98", "%FF%FE/x%E2%98"),
            (b"%41", "%2541"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Some(bytes));
        }
        for wrong in ["%", "%4", "%41", "%ff", "a\nb", "%+1", "%E2%98%83"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_round_trip_in_one_form() {
        for (time, text) in [
            (Timestamp::new(0, 0), "1970-01-01T00:00:00.000000000Z"),
            (Timestamp::new(1_790_000_000, 5), "2026-09-21T14:13:20.000000005Z"),
            (Timestamp::new(-1, 999_999_999), "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(time.to_text().as_deref(), Some(text));
            assert_eq!(Timestamp::from_text(text), Some(time));
        }
        for wrong in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00Z",
            "1970-01-01T01:00:00.000000000+01:00",
        ] {
            assert_eq!(Timestamp::from_text(wrong), None, "{wrong}");
        }
        assert_eq!(Timestamp::new(i64::MAX, 0).to_text(), None);
    }
}
