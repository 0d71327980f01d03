//! Names of packs in a store: `packs/<first two hexadecimal digits>/<all 64>`. The directory level keeps a `file://` store's
//! directories small.

use crate::objects::{ObjectName, ObjectNameError};
use crate::pack::PackId;

/// The prefix of all packs, for lists.
pub const PACKS_PREFIX: &str = "packs";

/// The name of a pack's object. Errors: none that can occur, as the name keeps the rule for names.
pub fn pack_name(id: &PackId) -> Result<ObjectName, ObjectNameError> {
    ObjectName::new(format!("{PACKS_PREFIX}/{:02x}/{id}", id.0[0]))
}

/// The pack that an object's name means; nothing if it is not the name of a pack.
pub fn pack_id(name: &ObjectName) -> Option<PackId> {
    let mut segments = name.as_str().split('/');
    let (prefix, first, digits) = (segments.next()?, segments.next()?, segments.next()?);
    if prefix != PACKS_PREFIX || segments.next().is_some() || !digits.starts_with(first) || first.len() != 2 {
        return None;
    }
    PackId::parse(digits)
}

#[cfg(test)]
mod tests {
    use super::{pack_id, pack_name};
    use crate::objects::ObjectName;
    use crate::pack::PackId;

    #[test]
    fn names_come_back_and_others_are_no_packs() {
        let id = PackId(*blake3::hash(b"a pack").as_bytes());
        let name = pack_name(&id).unwrap();
        assert_eq!(pack_id(&name), Some(id));
        let text = name.as_str().to_owned();
        let hex = text.split('/').next_back().unwrap().to_owned();
        for other in [
            hex.clone(),
            format!("packs/{hex}"),
            format!("packs/zz/{hex}"),
            format!("packs/{}/{hex}", &hex[2..4]),
            format!("{text}/a"),
            text[..text.len() - 1].to_owned(),
            text.to_uppercase(),
            format!("packs/{}/{}", &hex[..2], hex.replace(&hex[10..11], "g")),
        ] {
            assert_eq!(pack_id(&ObjectName::new(other.clone()).unwrap()), None, "{other}");
        }
    }
}
