//! Keys of requests, and what makes two requests the same.

use std::fmt;

use super::Refused;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = cairn_metadata::LEDGER_KEY_BYTES_MAX;

/// Names what somebody asked for: 1 to [`KEY_BYTES_MAX`] of `A-Z a-z 0-9 . _ - / :`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key in `field` of a request.
    ///
    /// # Errors
    /// [`Refused::KeyInvalid`].
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Refused> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
        if (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Key(text.to_owned()));
        }
        Err(Refused::KeyInvalid {
            field,
            key: text.chars().take(64).collect(),
        })
    }

    /// A key that is stored, and so was checked.
    pub(super) fn stored(text: &str) -> Self {
        Key(text.to_owned())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request asks for, field by field, as far as it decides whether another request asks for the same. A field that has its
/// default value is left out, so that requests stay the same when later versions have more fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(String, [u8; 16])>);

impl Arguments {
    /// Adds a field with a text, unless it is empty.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        match value.is_empty() {
            true => self,
            false => self.list(name, [value]),
        }
    }

    /// Adds a field with a number, unless it is `default`.
    #[must_use]
    pub fn number(self, name: &str, value: i64, default: i64) -> Self {
        match value == default {
            true => self,
            false => self.list(name, [value.to_le_bytes()]),
        }
    }

    /// Adds a field with several values in their order, unless there are none.
    #[must_use]
    pub fn list<T: AsRef<[u8]>>(mut self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut any = false;
        for value in values {
            any = true;
            let value = value.as_ref();
            hasher.update(&(value.len() as u64).to_le_bytes());
            hasher.update(value);
        }
        if any {
            let mut digest = [0; 16];
            digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
            self.0.push((name.to_owned(), digest));
        }
        self
    }

    /// The names of the fields in which an earlier request differs, in alphabetical order; none if it asked for the same.
    pub fn differing(&self, earlier: &[(String, [u8; 16])]) -> Vec<String> {
        let lacks = |all: &[(String, [u8; 16])], one: &(String, [u8; 16])| !all.contains(one);
        let new = self.0.iter().filter(|one| lacks(earlier, one));
        let old = earlier.iter().filter(|one| lacks(&self.0, one));
        let mut names: Vec<String> = new.chain(old).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// As they are stored.
    pub fn stored(&self) -> Vec<(String, [u8; 16])> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, KEY_BYTES_MAX, Key};

    #[test]
    fn keys_are_short_and_plain() {
        for good in ["a", "snapshot/0b1c-2", "A.b_c:d", &"k".repeat(KEY_BYTES_MAX)] {
            assert_eq!(Key::parse("key", good).unwrap().as_str(), good);
        }
        for bad in ["", " ", "a b", "\u{e9}", "a\n", &"k".repeat(KEY_BYTES_MAX + 1)] {
            Key::parse("key", bad).unwrap_err();
        }
    }

    #[test]
    fn what_differs_is_named_once() {
        let one = Arguments::default()
            .text("name", "a")
            .number("mode", 0o755, 0o755)
            .list("paths", ["x", "yz"]);
        assert_eq!(one.differing(&one.stored()), Vec::<String>::new());
        let two = Arguments::default()
            .text("name", "b")
            .number("mode", 0o700, 0o755)
            .list("paths", ["xy", "z"]);
        assert_eq!(two.differing(&one.stored()), ["mode", "name", "paths"]);
        assert_eq!(one.differing(&two.stored()), ["mode", "name", "paths"]);
        assert_eq!(one.stored().len(), 2, "defaults are left out");
    }

    #[test]
    fn the_digest_of_a_field_never_changes() {
        // Stored digests are compared with those of later versions.
        let stored = Arguments::default().text("name", "a").stored();
        assert_eq!(
            blake3::Hash::from_bytes([stored[0].1, [0; 16]].concat().try_into().unwrap()).to_hex()[..32],
            blake3::hash(b"\x01\0\0\0\0\0\0\0a").to_hex()[..32]
        );
    }
}
