//! The objects that the operator keeps for its resources, as they shall be. Pure: builders of what is applied, nothing else.

pub mod ditto;
pub mod node_service;
pub mod volume;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// A reference that makes `owner` the controller of another object of its namespace.
pub fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner.controller_owner_ref(&())
}

/// A name of at most 63 characters that is a DNS label and tells `text` from every other: its allowed characters, and a hash.
pub fn label(prefix: &str, text: &str) -> String {
    let hash = blake3::hash(text.as_bytes());
    let hash = cairn_types::hexadecimal::text(&hash.as_bytes()[..4]);
    let room = 63 - prefix.len() - hash.len() - 1;
    let shown: String = text
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '-',
        })
        .take(room)
        .collect();
    format!("{prefix}{shown}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn labels_are_short_and_tell_names_apart() {
        let long = format!("ip-10-0-0-1.{}", "x".repeat(250));
        let a = label("cairn-node-", &long);
        assert_eq!(a.len(), 63);
        assert_ne!(a, label("cairn-node-", &format!("{long}y")));
        assert!(label("cairn-node-", "N.1").starts_with("cairn-node-n-1-"));
    }
}
