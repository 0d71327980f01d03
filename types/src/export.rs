//! Who may use a workspace over the network, and as whom.

use std::net::IpAddr;

use ipnet::IpNet;

/// Which client identities are replaced by the anonymous one (exports(5), "User ID Mapping").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Squash {
    /// None: uid 0 of a client is uid 0 here.
    None,
    /// uid 0 and gid 0.
    Root,
    /// Everybody.
    All,
}

/// The rules of one export. Checked on every request, not only at mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPolicy {
    /// Identities that are replaced.
    pub squash: Squash,
    /// The uid that replaces them.
    pub anonymous_uid: u32,
    /// The gid that replaces them.
    pub anonymous_gid: u32,
    /// Networks whose clients may use the export. Empty: nobody.
    pub allow: Vec<IpNet>,
    /// Refuse every change with a read-only error.
    pub read_only: bool,
    /// Serve only clients whose source port is below 1024, which only root can bind (exports(5), `secure`).
    pub privileged_port: bool,
}

impl ExportPolicy {
    /// Uid and gid of `nobody` by convention.
    pub const NOBODY: u32 = 65_534;

    /// Most networks in [`ExportPolicy::allow`].
    pub const ALLOW_MAX: usize = 256;

    /// Whether a client with this address and source port may use the export.
    pub fn admits(&self, client: IpAddr, port: u16) -> bool {
        let client = client.to_canonical();
        (!self.privileged_port || port < 1024) && self.allow.iter().any(|network| network.contains(&client))
    }
}

impl Default for ExportPolicy {
    /// This machine only, from privileged ports only, identities as they are.
    fn default() -> Self {
        let loopback = [
            IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
        ];
        ExportPolicy {
            squash: Squash::None,
            anonymous_uid: Self::NOBODY,
            anonymous_gid: Self::NOBODY,
            allow: loopback.into(),
            read_only: false,
            privileged_port: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExportPolicy;

    #[test]
    fn the_default_admits_this_machine_from_privileged_ports() {
        let policy = ExportPolicy::default();
        assert!(policy.admits([127, 0, 0, 1].into(), 700));
        assert!(policy.admits("::ffff:127.0.0.1".parse().unwrap(), 700));
        assert!(!policy.admits([127, 0, 0, 1].into(), 1024));
        assert!(!policy.admits([10, 0, 0, 1].into(), 700));
    }
}
