//! Export rules applied to one request: which client is admitted, what it may change, and as whom it acts.
//!
//! A client that an export does not admit gets NFS3ERR_ACCES, from MOUNT MNT3ERR_ACCES: a Linux client reports these as
//! "access denied by server" and "Permission denied" at once. A denial of the RPC credential (AUTH_TOOWEAK) would say
//! no more and be reported as an input/output error by older ones.

use std::net::SocketAddr;
use std::sync::Arc;

use cairn_types::{ExportPolicy, Squash};
use cairn_vfs::filesystem::Caller;

use crate::rpc::auth::Credential;

/// Whether the client behind `peer` may use the export.
#[inline]
pub(crate) fn admits(policy: &ExportPolicy, peer: SocketAddr) -> bool {
    policy.admits(peer.ip(), peer.port())
}

/// On whose behalf a call is made: the credential after squashing. A client that gives no identity is anonymous under
/// every rule. Under [`Squash::Root`], uid 0, gid 0 and group 0 become the anonymous ones, each by itself; under
/// [`Squash::All`] nothing of the credential is left.
pub(crate) fn caller(policy: &ExportPolicy, credential: &Credential<'_>) -> Caller {
    let anonymous = || Caller {
        uid: policy.anonymous_uid,
        gid: policy.anonymous_gid,
        groups: Arc::default(),
    };
    let Credential::Sys(sys) = credential else {
        return anonymous();
    };
    match policy.squash {
        Squash::All => anonymous(),
        Squash::None => Caller {
            uid: sys.uid,
            gid: sys.gid,
            groups: groups(sys.groups(), |group| group),
        },
        Squash::Root => {
            let squash = |id: u32, anonymous: u32| if id == 0 { anonymous } else { id };
            Caller {
                uid: squash(sys.uid, policy.anonymous_uid),
                gid: squash(sys.gid, policy.anonymous_gid),
                groups: groups(sys.groups(), |group| squash(group, policy.anonymous_gid)),
            }
        }
    }
}

fn groups(groups: impl ExactSizeIterator<Item = u32>, map: impl Fn(u32) -> u32) -> Arc<[u32]> {
    if groups.len() == 0 {
        Arc::default()
    } else {
        groups.map(map).collect()
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{ExportPolicy, Squash};
    use cairn_vfs::filesystem::Caller;

    use super::caller;
    use crate::rpc::auth::{Credential, OwnedCredential, decode};
    use crate::xdr::Decoder;

    fn sys(uid: u32, gid: u32, groups: &[u32]) -> OwnedCredential {
        let mut words = vec![
            1,
            20 + 4 * groups.len() as u32,
            0,
            0,
            uid,
            gid,
            groups.len() as u32,
        ];
        words.extend(groups);
        words.extend([0, 0]);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        OwnedCredential::from(&decode(&mut Decoder::new(&bytes)).unwrap().unwrap())
    }

    fn policy(squash: Squash) -> ExportPolicy {
        ExportPolicy {
            squash,
            anonymous_uid: 500,
            anonymous_gid: 600,
            ..ExportPolicy::default()
        }
    }

    fn is(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller {
            uid,
            gid,
            groups: groups.into(),
        }
    }

    #[test]
    fn squashing() {
        let root = sys(0, 0, &[0, 5]);
        let user = sys(7, 8, &[0, 9]);
        assert_eq!(caller(&policy(Squash::None), &root.borrow()), is(0, 0, &[0, 5]));
        assert_eq!(
            caller(&policy(Squash::Root), &root.borrow()),
            is(500, 600, &[600, 5])
        );
        assert_eq!(caller(&policy(Squash::Root), &user.borrow()), is(7, 8, &[600, 9]));
        assert_eq!(
            caller(&policy(Squash::Root), &sys(7, 0, &[]).borrow()),
            is(7, 600, &[])
        );
        assert_eq!(caller(&policy(Squash::All), &user.borrow()), is(500, 600, &[]));
        assert_eq!(
            caller(&policy(Squash::None), &Credential::None),
            is(500, 600, &[])
        );
    }
}
