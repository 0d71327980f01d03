//! Golden bytes of the ledger.

use cairn_types::Timestamp;

use super::{VOLUME, assert_bytes, id};
use crate::keyspace::ledger::{self, LedgerKind, LedgerPhase, LedgerRecord};

const ENTRY: &str = "01 02 04 0800000000000000 07000000 2827262524232221
    01 404142434445464748494a4b4c4d4e4f 00 00000000000000000000000000000000
    0200 0400 6e6f7465 11111111111111111111111111111111 0100 78 22222222222222222222222222222222 7b7d";

fn entry() -> LedgerRecord {
    LedgerRecord {
        kind: LedgerKind::Snapshot,
        phase: LedgerPhase::Deleted,
        written: Timestamp::new(8, 7),
        volume: VOLUME,
        snapshot: Some(id(0x40)),
        safety: None,
        arguments: vec![("note".to_owned(), [0x11; 16]), ("x".to_owned(), [0x22; 16])],
        detail: b"{}".to_vec(),
    }
}

#[test]
fn keys_of_the_ledger() {
    assert_bytes(&ledger::entry_key("snapshot/a"), "4c 65 736e617073686f742f61");
    assert_bytes(&ledger::generation_key("c1"), "4c 67 6331");
    assert_eq!(ledger::decode_key(b"Lesnapshot/a").unwrap(), "snapshot/a");
    assert!(ledger::decode_key(b"Le\xff").is_err());
    assert_eq!(ledger::decode_generation(&9u64.to_le_bytes()).unwrap(), 9);
    assert!(ledger::decode_generation(&[0; 7]).is_err());
    assert!(ledger::decode_generation(&[0; 9]).is_err());
}

#[test]
fn an_entry_of_the_ledger() {
    assert_bytes(&entry().encode(), ENTRY);
    assert_eq!(LedgerRecord::decode(&super::hex(ENTRY)).unwrap(), entry());
}

#[test]
fn every_kind_and_phase_has_its_byte() {
    for kind in [LedgerKind::Workspace, LedgerKind::Snapshot, LedgerKind::Restore] {
        for phase in [
            LedgerPhase::Intended,
            LedgerPhase::Done,
            LedgerPhase::Deleting,
            LedgerPhase::Deleted,
        ] {
            let record = LedgerRecord {
                kind,
                phase,
                ..entry()
            };
            assert_eq!(LedgerRecord::decode(&record.encode()).unwrap(), record);
        }
    }
}

#[test]
fn what_is_no_entry_is_refused() {
    let whole = entry().encode();
    // Behind the arguments is the detail, which may be any bytes.
    for length in 0..whole.len() - 2 {
        assert!(LedgerRecord::decode(&whole[..length]).is_err(), "{length} bytes");
    }
    for (offset, byte) in [(0, 2), (1, 0), (1, 4), (2, 0), (2, 5), (23, 2), (40, 2)] {
        let mut bytes = whole.clone();
        bytes[offset] = byte;
        assert!(LedgerRecord::decode(&bytes).is_err(), "byte {offset}");
    }
}
