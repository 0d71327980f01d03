//! Volumes and their names.
//!
//! Volume (`V`, volume u64): layout u8 (2), head branch u64, inode numbers below this are or may be in use u64, next snapshot
//! sequence u64, snapshots u64, created i64 and u32, the snapshot that the live tree was last equal to (flag u8, id 16 bytes),
//! the snapshot that it was forked from (the same), squash u8 (0 none, 1 root, 2 all), anonymous uid u32 and gid u32, read-only u8,
//! privileged port u8, allowed networks (u16 count; each: family u8 (4 or 6), prefix length u8, address 4 or 16 bytes),
//! name (u16 and ASCII), most bytes u64 and most inodes u64 of the live tree (2^64 - 1: any number). Layout 1 ends behind the name.
//! Name (`N`, name): volume u64.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cairn_types::{BranchId, ExportPolicy, InodeId, SnapshotId, Squash, Timestamp, VolumeId, WorkspaceName};
use ipnet::IpNet;

use super::codec::{DecodeError, Reader, Writer};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name.
    pub name: WorkspaceName,
    /// Its writable line.
    pub head: BranchId,
    /// Inode numbers below this one are or may be in use.
    pub inodes_reserved: InodeId,
    /// The sequence number of the next snapshot.
    pub next_snapshot: u64,
    /// Snapshots that it has.
    pub snapshots: u64,
    /// When it was made.
    pub created: Timestamp,
    /// The snapshot that the live tree was last equal to.
    pub last_snapshot: Option<SnapshotId>,
    /// The snapshot that it was forked from.
    pub forked_from: Option<SnapshotId>,
    /// Who may mount it.
    pub policy: ExportPolicy,
    /// What the live tree may hold.
    pub limits: CapacityLimits,
}

/// What the live tree of a volume may hold. `None`: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapacityLimits {
    /// Sum of the sizes of its regular files, in bytes, below 2^64 - 1.
    pub bytes: Option<u64>,
    /// Inodes, the root included, below 2^64 - 1.
    pub inodes: Option<u64>,
}

/// The layout that is written.
const LAYOUT: u8 = 2;
/// Stands for no limit.
const UNLIMITED: u64 = u64::MAX;

pub(crate) const VOLUMES: u8 = b'V';

pub(crate) fn volume_key(volume: VolumeId) -> Vec<u8> {
    let mut key = vec![VOLUMES];
    key.extend_from_slice(&volume.0.to_be_bytes());
    key
}

pub(crate) fn name_key(name: &WorkspaceName) -> Vec<u8> {
    let mut key = vec![b'N'];
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

/// The volume of a volume's key.
pub(crate) fn decode_volume_key(key: &[u8]) -> Result<VolumeId, DecodeError> {
    let mut reader = Reader::new("volume key", key);
    reader.take(1)?;
    let volume = VolumeId(u64::from_be_bytes(reader.array()?));
    reader.end()?;
    Ok(volume)
}

fn write_id(writer: &mut Writer, id: Option<SnapshotId>) {
    writer.u8(u8::from(id.is_some()));
    writer.bytes(&id.map_or([0; 16], |id| id.0));
}

fn read_id(reader: &mut Reader<'_>) -> Result<Option<SnapshotId>, DecodeError> {
    let present = reader.flag()?;
    let id = SnapshotId(reader.array()?);
    Ok(present.then_some(id))
}

fn write_policy(writer: &mut Writer, policy: &ExportPolicy) {
    writer.u8(match policy.squash {
        Squash::None => 0,
        Squash::Root => 1,
        Squash::All => 2,
    });
    writer.u32(policy.anonymous_uid);
    writer.u32(policy.anonymous_gid);
    writer.u8(u8::from(policy.read_only));
    writer.u8(u8::from(policy.privileged_port));
    writer.u16(
        u16::try_from(policy.allow.len()).expect("the number of networks is checked before it is stored"),
    );
    for network in &policy.allow {
        match network.addr() {
            IpAddr::V4(address) => {
                writer.u8(4);
                writer.u8(network.prefix_len());
                writer.bytes(&address.octets());
            }
            IpAddr::V6(address) => {
                writer.u8(6);
                writer.u8(network.prefix_len());
                writer.bytes(&address.octets());
            }
        }
    }
}

fn read_policy(reader: &mut Reader<'_>) -> Result<ExportPolicy, DecodeError> {
    let error = reader.error();
    let squash = match reader.u8()? {
        0 => Squash::None,
        1 => Squash::Root,
        2 => Squash::All,
        _ => return Err(error),
    };
    let anonymous_uid = reader.u32()?;
    let anonymous_gid = reader.u32()?;
    let read_only = reader.flag()?;
    let privileged_port = reader.flag()?;
    let count = reader.u16()?;
    let mut allow = Vec::new();
    for _ in 0..count {
        let error = reader.error();
        let family = reader.u8()?;
        let prefix = reader.u8()?;
        let address = match family {
            4 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)),
            _ => return Err(error),
        };
        allow.push(IpNet::new(address, prefix).map_err(|_| error)?);
    }
    Ok(ExportPolicy {
        squash,
        anonymous_uid,
        anonymous_gid,
        allow,
        read_only,
        privileged_port,
    })
}

impl VolumeRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(160);
        writer.u8(LAYOUT);
        writer.u64(self.head.0);
        writer.u64(self.inodes_reserved.0);
        writer.u64(self.next_snapshot);
        writer.u64(self.snapshots);
        writer.time(self.created);
        write_id(&mut writer, self.last_snapshot);
        write_id(&mut writer, self.forked_from);
        write_policy(&mut writer, &self.policy);
        writer.short_bytes(self.name.as_str().as_bytes());
        writer.u64(self.limits.bytes.unwrap_or(UNLIMITED));
        writer.u64(self.limits.inodes.unwrap_or(UNLIMITED));
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("volume", bytes);
        let error = reader.error();
        let layout = reader.u8()?;
        if !(1..=LAYOUT).contains(&layout) {
            return Err(error);
        }
        let head = BranchId(reader.u64()?);
        let inodes_reserved = InodeId(reader.u64()?);
        let next_snapshot = reader.u64()?;
        let snapshots = reader.u64()?;
        let created = reader.time()?;
        let last_snapshot = read_id(&mut reader)?;
        let forked_from = read_id(&mut reader)?;
        let policy = read_policy(&mut reader)?;
        let error = reader.error();
        let name = WorkspaceName::new(reader.short_text()?).map_err(|_| error)?;
        let limit = |value| (value != UNLIMITED).then_some(value);
        let limits = match layout {
            1 => CapacityLimits::default(),
            _ => CapacityLimits {
                bytes: limit(reader.u64()?),
                inodes: limit(reader.u64()?),
            },
        };
        reader.end()?;
        Ok(VolumeRecord {
            name,
            head,
            inodes_reserved,
            next_snapshot,
            snapshots,
            created,
            last_snapshot,
            forked_from,
            policy,
            limits,
        })
    }
}
