//! What belongs to the store as a whole: replies and the log's checkpoint.

use bytes::Bytes;
use cairn_metadata::engine::Durability;
use cairn_metadata::{Lineage, Transaction, View};
use cairn_types::{InodeId, LogPosition};

use crate::{change, create, fresh, open};

fn request(number: u8) -> [u8; 16] {
    [number; 16]
}

fn body(number: u8) -> Bytes {
    vec![number; usize::from(number)].into()
}

#[test]
fn replies_are_listed_from_a_time_on_newest_if_not_all() {
    let (_, store) = fresh();
    let volume = create(&store, "w");
    for (seconds, number) in [(10, 3), (10, 1), (12, 2), (u64::MAX, 4), (0, 5)] {
        change(&store, &volume, |transaction| {
            transaction.record_reply(seconds, &request(number), &body(number));
        });
    }
    let replies = |since, limit| -> Vec<u8> {
        let replies = store.replies(since, limit).unwrap();
        replies
            .iter()
            .map(|(key, found)| {
                assert_eq!(*found, body(key[0]));
                key[0]
            })
            .collect()
    };
    assert_eq!(replies(0, 100), [5, 1, 3, 2, 4], "by second, then by request");
    assert_eq!(replies(10, 100), [1, 3, 2, 4]);
    assert_eq!(replies(11, 100), [2, 4]);
    assert_eq!(replies(13, 100), [4]);
    assert_eq!(replies(0, 3), [3, 2, 4], "the newest, oldest first");
    assert_eq!(replies(12, 1), [4]);
    assert_eq!(replies(0, 0), []);

    store.forget_replies(10).unwrap();
    assert_eq!(replies(0, 100), [1, 3, 2, 4], "not before the second");
    store.forget_replies(11).unwrap();
    assert_eq!(replies(0, 100), [2, 4]);
    store.forget_replies(0).unwrap();
    assert_eq!(replies(0, 100), [2, 4]);
    store.forget_replies(u64::MAX).unwrap();
    assert_eq!(replies(0, 100), [4]);
    assert_eq!(store.volumes().unwrap(), [volume], "nothing else is forgotten");
}

#[test]
fn a_reply_comes_with_its_change_or_not_at_all() {
    let (engine, store) = fresh();
    let volume = create(&store, "w");
    engine.fail_next_write();
    let lineage = Lineage::live(&engine, volume.record.head).unwrap();
    let mut transaction = Transaction::new(&engine, &lineage, volume.branch.epoch);
    transaction.put_inline_data(InodeId(5), b"data");
    transaction.record_reply(1, &request(1), &body(1));
    assert!(transaction.commit(Durability::Power).is_err());
    assert_eq!(store.replies(0, 10).unwrap(), []);
    let view = View::new(&engine, &lineage);
    assert_eq!(view.inline_data(InodeId(5)).unwrap(), None);
}

#[test]
fn the_checkpoint_never_survives_what_came_before_it() {
    let (engine, store) = fresh();
    assert_eq!(store.checkpoint().unwrap(), LogPosition(0));
    store.set_checkpoint(LogPosition(5), Durability::Power).unwrap();
    let volume = create(&store, "w");
    change(&store, &volume, |transaction| {
        transaction.put_inline_data(InodeId(5), b"data");
    });
    store.set_checkpoint(LogPosition(9), Durability::Process).unwrap();
    assert_eq!(store.checkpoint().unwrap(), LogPosition(9));

    let cut = open(&engine.power_cut()).unwrap();
    assert_eq!(cut.checkpoint().unwrap(), LogPosition(5));

    store.set_checkpoint(LogPosition(9), Durability::Power).unwrap();
    let cut = open(&engine.power_cut()).unwrap();
    assert_eq!(cut.checkpoint().unwrap(), LogPosition(9));
    let lineage = Lineage::live(cut.engine(), volume.record.head).unwrap();
    let view = View::new(cut.engine(), &lineage);
    let data = view.inline_data(InodeId(5)).unwrap();
    assert_eq!(data.as_deref(), Some(&b"data"[..]));
}
