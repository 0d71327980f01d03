//! The file that a person keeps a key-encryption key in: 64 hexadecimal digits, with or without an end of line, or 32 bytes as
//! they are. Everything else is refused, above all a passphrase: there is no derivation from one here, and 32 characters that
//! somebody typed are not 32 random bytes.
//!
//! The file is opened once and everything is asked of what was opened. Links are followed, as secrets are often mounted as links.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::{Zeroize, Zeroizing};

use super::KeyFileError;
use super::key::{KEY_BYTES, KeyEncryptionKey, decode_hex, encode_hex};

/// Permission bits that let others than the owner at the file.
const OTHERS: u32 = 0o077;
/// Most bytes that are read: digits, an end of line (perhaps of two bytes), and one that is too many.
const READ_BYTES_MAX: usize = 2 * KEY_BYTES + 3;

/// Who may have access to a key file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Its owner only.
    #[default]
    Owner,
    /// Whoever: where the directory around it guards the file, or whoever mounts it decides its mode.
    Anybody,
}

/// Reads a key-encryption key.
///
/// # Errors
/// `Read`; `NotAFile`; `Access` if others than the owner can read or write it and `access` does not allow that; `Content` if it is
/// no key.
pub fn read(path: &Path, access: Access) -> Result<KeyEncryptionKey, KeyFileError> {
    let failed = |cause| KeyFileError::Read {
        path: path.to_owned(),
        cause,
    };
    let content = |what| KeyFileError::Content {
        path: path.to_owned(),
        what,
    };
    // Without waiting, as opening a pipe would.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 && access == Access::Owner {
        return Err(KeyFileError::Access {
            path: path.to_owned(),
            mode,
        });
    }
    // As large as it can get, so that no copy stays behind when it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ_BYTES_MAX + 1));
    (&file)
        .take(READ_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    decode(&bytes).map_err(content)
}

/// Writes a key-encryption key to a new file, as hexadecimal digits, for its owner only. It is durable on return.
///
/// # Errors
/// `Write`, also if something has this name already: it stays as it is.
pub fn create(path: &Path, key: &KeyEncryptionKey) -> Result<(), KeyFileError> {
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut text = Zeroizing::new(encode_hex(key.secret().bytes()));
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|cause| KeyFileError::Write {
        path: path.to_owned(),
        cause,
    })
}

fn decode(bytes: &[u8]) -> Result<KeyEncryptionKey, &'static str> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() == KEY_BYTES {
        // Of 32 random bytes all are text once in 2^44 times. A passphrase is, and so are the digits of half a key.
        if bytes
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
        {
            return Err("it has 32 characters, which look like a passphrase or like half a key");
        }
        key.copy_from_slice(bytes);
    } else {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut digits = Zeroizing::new([0; 2 * KEY_BYTES]);
        if line.len() != digits.len() {
            return Err("it has another length");
        }
        digits.copy_from_slice(line);
        digits.make_ascii_lowercase();
        if !decode_hex(&*digits, &mut *key) {
            return Err("it has characters that are no hexadecimal digits");
        }
    }
    if key.iter().all(|byte| *byte == key[0]) {
        key.zeroize();
        return Err("all its bytes are the same");
    }
    Ok(KeyEncryptionKey::new(key))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use cairn_types::ErrorKind;

    use super::{Access, create, decode, read};
    use crate::sealing::{KeyEncryptionKey, KeyFileError};
    use crate::testing::random;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn digits_and_bytes_are_the_same_key() {
        let bytes: Vec<u8> = (0..32).collect();
        let id = decode(&bytes).unwrap().id();
        for text in [
            DIGITS.to_owned(),
            format!("{DIGITS}\n"),
            format!("{DIGITS}\r\n"),
            DIGITS.to_uppercase(),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap().id(), id, "{text:?}");
        }
        assert_eq!(id.to_string(), "17578ef70d8be3c0711d43a21c84c4bc");
    }

    #[test]
    fn everything_else_is_refused() {
        let long = "0".repeat(64);
        let typed = "correct horse battery staple ok\n";
        assert_eq!(typed.len(), 32);
        for wrong in [
            "",
            "secret\n",
            &DIGITS[..63],
            &DIGITS[..32],
            typed,
            &format!("{DIGITS}0"),
            &format!("{DIGITS}\n\n"),
            &format!(" {DIGITS}"),
            &DIGITS.replace('f', "g"),
            &long,
        ] {
            assert!(decode(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(decode(&[7; 32]).is_err());
        assert!(decode(&random(1, 31)).is_err());
        assert!(decode(&random(1, 33)).is_err());
        assert!(decode(&random(1, 67)).is_err());
        decode(&random(1, 32)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_unless_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, DIGITS).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o602, 0o601] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let told = read(&path, Access::Owner).unwrap_err();
            assert_eq!(told.kind(), ErrorKind::Denied);
            let told = told.to_string();
            assert!(
                told.contains(&format!("{mode:04o}")) && told.contains("chmod"),
                "{told}"
            );
            read(&path, Access::Anybody).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        let key = read(&path, Access::Owner).unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link, Access::Owner).unwrap().id(), key.id());
    }

    #[test]
    fn what_is_no_file_is_told_and_a_key_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let told = read(directory.path(), Access::Owner).unwrap_err();
        assert!(matches!(told, KeyFileError::NotAFile { .. }), "{told}");
        // A pipe that nobody writes to would be waited for, and a device has no end.
        let told = read("/dev/zero".as_ref(), Access::Anybody).unwrap_err();
        assert!(matches!(told, KeyFileError::NotAFile { .. }), "{told}");
        let path = directory.path().join("key");
        let told = read(&path, Access::Owner).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound);
        let key = KeyEncryptionKey::new(zeroize::Zeroizing::new(std::array::from_fn(|at| at as u8)));
        create(&path, &key).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{DIGITS}\n"));
        assert_eq!(read(&path, Access::Owner).unwrap().id(), key.id());
        let told = create(&path, &key).unwrap_err();
        assert!(matches!(told, KeyFileError::Write { .. }), "{told}");
        assert_eq!(format!("{key:?}"), format!("KeyEncryptionKey({})", key.id()));
    }
}
