//! The text of the object `keys`, drawn in `docs/formats/keys.md`. What is read is checked as far as that can be done without a
//! key.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{KEYS_VERSION, KeyId, WRAPPED_BYTES, WRAPS_MAX};
use crate::checksum::crc32c;
use crate::objects::StoreId;
use crate::sealing::key::{decode_hex, encode_hex};

const KIND: &str = "cairn store keys";
/// Largest text that is looked at, in bytes: [`WRAPS_MAX`] wraps take less than half of it.
const KEYS_BYTES_MAX: usize = 16 << 10;

/// What `keys` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The store that it belongs to.
    pub store: StoreId,
    /// The data key that is in all wraps.
    pub data_key: KeyId,
    /// One for each key that opens the store, one at least.
    pub wraps: Vec<Wrap>,
}

/// The data key, wrapped with one key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrap {
    /// That key.
    pub holder: KeyId,
    /// The envelope.
    pub wrapped: [u8; WRAPPED_BYTES],
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    Newer(u32),
    OtherStore(String),
    Damaged(&'static str),
}

/// What outlives every change of the format.
#[derive(Deserialize)]
struct Head {
    kind: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    kind: String,
    version: u32,
    store: String,
    data_key: String,
    wraps: Vec<WrapText>,
    checksum: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrapText {
    key: String,
    wrapped: String,
}

impl Text {
    /// CRC-32C of the values in their order, each followed by a line feed.
    fn summed(&self) -> String {
        let mut values = format!(
            "{}\n{}\n{}\n{}\n",
            self.kind, self.version, self.store, self.data_key
        );
        for wrap in &self.wraps {
            values.extend([&wrap.key, "\n", &wrap.wrapped, "\n"]);
        }
        format!("{:08x}", crc32c(values.as_bytes()))
    }
}

impl Record {
    /// The keys that open the store.
    pub fn holders(&self) -> Vec<KeyId> {
        self.wraps.iter().map(|wrap| wrap.holder).collect()
    }

    pub fn wrap_of(&self, holder: KeyId) -> Option<&Wrap> {
        self.wraps.iter().find(|wrap| wrap.holder == holder)
    }

    pub fn encode(&self) -> Bytes {
        let wraps = self.wraps.iter().map(|wrap| WrapText {
            key: wrap.holder.to_string(),
            wrapped: encode_hex(&wrap.wrapped),
        });
        let mut text = Text {
            kind: KIND.to_owned(),
            version: KEYS_VERSION,
            store: self.store.to_string(),
            data_key: self.data_key.to_string(),
            wraps: wraps.collect(),
            checksum: String::new(),
        };
        text.checksum = text.summed();
        // Strings and integers are always representable; were they not, empty keys would be refused as damaged.
        let mut bytes = serde_json::to_vec_pretty(&text).unwrap_or_default();
        bytes.push(b'\n');
        bytes.into()
    }

    pub fn decode(bytes: &[u8], store: StoreId) -> Result<Self, DecodeError> {
        if bytes.len() > KEYS_BYTES_MAX {
            return Err(DecodeError::Damaged("it is too large"));
        }
        let head: Head =
            serde_json::from_slice(bytes).map_err(|_| DecodeError::Damaged("it has no kind and version"))?;
        if head.kind != KIND {
            return Err(DecodeError::Damaged("it is of another kind"));
        }
        match head.version {
            KEYS_VERSION => {}
            0 => return Err(DecodeError::Damaged("it has version 0")),
            newer => return Err(DecodeError::Newer(newer)),
        }
        let text: Text = serde_json::from_slice(bytes)
            .map_err(|_| DecodeError::Damaged("it has not the keys of its version"))?;
        if text.checksum != text.summed() {
            return Err(DecodeError::Damaged("its checksum is wrong"));
        }
        if text.store != store.to_string() {
            return Err(DecodeError::OtherStore(text.store));
        }
        if !(1..=WRAPS_MAX).contains(&text.wraps.len()) {
            return Err(DecodeError::Damaged("its number of wraps is impossible"));
        }
        let wrong = DecodeError::Damaged("a value in it is impossible");
        let Some(data_key) = KeyId::parse(&text.data_key) else {
            return Err(wrong);
        };
        let mut record = Record {
            store,
            data_key,
            wraps: Vec::with_capacity(text.wraps.len()),
        };
        for wrap in text.wraps {
            let mut wrapped = [0; WRAPPED_BYTES];
            let holder = KeyId::parse(&wrap.key).filter(|holder| record.wrap_of(*holder).is_none());
            match holder {
                Some(holder) if decode_hex(wrap.wrapped.as_bytes(), &mut wrapped) => {
                    record.wraps.push(Wrap { holder, wrapped });
                }
                _ => return Err(wrong),
            }
        }
        Ok(record)
    }
}
