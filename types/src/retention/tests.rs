//! Examples of the rules and of their precedence, and what holds for every policy.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Decision, Facts, Policy, Protection, Reason, decide, fits};
use crate::{SnapshotId, Tag, Timestamp};

const NOW: i64 = 1_795_219_200; // Saturday, 2026-11-21T00:00:00Z.
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn now() -> Timestamp {
    Timestamp::new(NOW, 0)
}

/// A snapshot that was made so many seconds ago.
fn facts(number: u8, ago: i64) -> Facts {
    Facts {
        id: SnapshotId([number; 16]),
        sequence: u64::from(number),
        created: Timestamp::new(NOW - ago, 0),
        bytes: 100,
        tags: BTreeSet::new(),
        pins: Vec::new(),
        schedule: None,
        protections: BTreeSet::new(),
    }
}

/// Snapshots of these ages, oldest first, with numbers from 1 on.
fn ages(ages: &[i64]) -> Vec<Facts> {
    ages.iter()
        .zip(1..)
        .map(|(ago, number)| facts(number, *ago))
        .collect()
}

fn kept(decision: &Decision) -> Vec<u8> {
    let kept = decision.verdicts.iter().filter(|verdict| verdict.keep);
    kept.map(|verdict| verdict.id.0[0]).collect()
}

fn decided(all: &[Facts], policy: &Policy) -> Vec<u8> {
    kept(&decide(all, policy, now(), &TimeZone::UTC))
}

#[test]
fn without_rules_everything_is_kept() {
    let all = ages(&[300 * DAY, DAY, 5]);
    assert_eq!(decided(&all, &Policy::default()), [1, 2, 3]);
    let decision = decide(&all, &Policy::default(), now(), &TimeZone::UTC);
    assert_eq!(decision.verdicts[0].reasons, [Reason::NoRules]);
    assert!(decided(&[], &Policy::default()).is_empty());
}

#[test]
fn the_last_and_the_young_are_kept() {
    let all = ages(&[50, 40, 30, 20, 10]);
    assert_eq!(
        decided(
            &all,
            &Policy {
                keep_last: 2,
                ..Policy::default()
            }
        ),
        [4, 5]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                within: 31,
                ..Policy::default()
            }
        ),
        [3, 4, 5]
    );
    // A snapshot exactly that old is too old.
    assert_eq!(
        decided(
            &all,
            &Policy {
                within: 30,
                ..Policy::default()
            }
        ),
        [4, 5]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                keep_last: 1,
                within: 25,
                ..Policy::default()
            }
        ),
        [4, 5]
    );
}

#[test]
fn the_newest_of_each_period_that_has_one_is_kept() {
    // Two on each of three days, with a gap of a week.
    let all = ages(&[9 * DAY + 5, 9 * DAY + 1, DAY + HOUR, DAY + 1, 2 * HOUR, HOUR]);
    let daily = Policy {
        daily: 2,
        ..Policy::default()
    };
    assert_eq!(decided(&all, &daily), [4, 6]);
    assert_eq!(
        decided(
            &all,
            &Policy {
                daily: 3,
                ..Policy::default()
            }
        ),
        [2, 4, 6]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                hourly: 3,
                ..Policy::default()
            }
        ),
        [4, 5, 6]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                weekly: 9,
                ..Policy::default()
            }
        ),
        [2, 6]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                monthly: 1,
                yearly: 1,
                ..Policy::default()
            }
        ),
        [6]
    );
    let decision = decide(
        &all,
        &Policy {
            weekly: 1,
            ..Policy::default()
        },
        now(),
        &TimeZone::UTC,
    );
    assert_eq!(
        decision.verdicts[5].reasons[0].to_string(),
        "it is the newest of 2026-W47"
    );
    assert_eq!(decision.verdicts[4].reasons, [Reason::NotKept]);
}

#[test]
fn periods_are_those_of_the_time_zone() {
    // 22:30Z and 23:30Z of one day: in Berlin (UTC+1 in November) two days.
    let all = ages(&[90 * 60, 30 * 60]);
    let policy = Policy {
        daily: 5,
        ..Policy::default()
    };
    assert_eq!(decided(&all, &policy), [2]);
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(kept(&decide(&all, &policy, now(), &berlin)), [1, 2]);
    // 2026-10-25 00:30Z and 01:30Z are both half past two there: clocks are set back between them.
    let mut twice = ages(&[0, 0]);
    twice[0].created = Timestamp::new(1_792_888_200, 0);
    twice[1].created = Timestamp::new(1_792_888_200 + HOUR, 0);
    let hourly = Policy {
        hourly: 5,
        ..Policy::default()
    };
    let decision = decide(&twice, &hourly, now(), &berlin);
    assert_eq!(kept(&decision), [1, 2]);
    assert_eq!(decision.verdicts[0].reasons, decision.verdicts[1].reasons);
}

#[test]
fn protections_win_over_caps_and_caps_over_rules() {
    let mut all = ages(&[50 * DAY, 40 * DAY, 30 * DAY, 20 * DAY, 10 * DAY, 1]);
    all[0].protections = [Protection::Reader].into();
    all[1].tags = [Tag::new("release-1").unwrap()].into();
    all[2].pins = vec![Some(Timestamp::new(NOW, 0)), Some(Timestamp::new(NOW + 1, 0))];
    all[3].pins = vec![Some(Timestamp::new(NOW, 0))];
    let policy = Policy {
        keep_last: 100,
        keep_tags: vec!["release-*".to_owned()],
        maximum_count: 1,
        ..Policy::default()
    };
    let decision = decide(&all, &policy, now(), &TimeZone::UTC);
    assert_eq!(kept(&decision), [1, 2, 3]);
    assert_eq!((decision.over_count, decision.over_bytes), (2, 0));
    assert_eq!(decision.verdicts[5].reasons, [Reason::OverCount, Reason::Last]);
    let young = Policy {
        minimum_age: 11 * 24 * 3600,
        ..policy
    };
    let decision = decide(&all, &young, now(), &TimeZone::UTC);
    assert_eq!(kept(&decision), [1, 2, 3, 5, 6]);
    assert_eq!(decision.over_count, 4);
    assert_eq!(decision.verdicts[5].reasons, [Reason::MinimumAge, Reason::Last]);
    assert_eq!(decision.removed().collect::<Vec<_>>(), [all[3].id]);
}

#[test]
fn caps_remove_the_oldest_and_no_more_than_needed() {
    let mut all = ages(&[50, 40, 30, 20, 10]);
    let count = Policy {
        maximum_count: 3,
        ..Policy::default()
    };
    assert_eq!(decided(&all, &count), [3, 4, 5]);
    all[0].bytes = 0;
    all[1].bytes = u64::MAX;
    all[2].bytes = u64::MAX;
    let bytes = Policy {
        maximum_bytes: 250,
        ..Policy::default()
    };
    // The first has no bytes: removing it would not help.
    assert_eq!(decided(&all, &bytes), [1, 4, 5]);
    all[2].pins = vec![None];
    let decision = decide(&all, &bytes, now(), &TimeZone::UTC);
    assert_eq!(
        (kept(&decision), decision.over_bytes),
        (vec![1, 3], u64::MAX - 250)
    );
}

#[test]
fn a_schedule_has_a_maximum_of_its_own() {
    let mut all = ages(&[50, 40, 30, 20, 10]);
    for index in [0, 1, 3] {
        all[index].schedule = Some("nightly".to_owned());
    }
    all[2].schedule = Some("other".to_owned());
    let policy = Policy {
        schedule_counts: [("nightly".to_owned(), 1)].into(),
        ..Policy::default()
    };
    assert_eq!(decided(&all, &policy), [3, 4, 5]);
    all[0].pins = vec![None];
    let decision = decide(&all, &policy, now(), &TimeZone::UTC);
    assert_eq!(kept(&decision), [1, 3, 5]);
    assert_eq!(
        decision.verdicts[3].reasons,
        [Reason::OverScheduleCount, Reason::NoRules]
    );
}

#[test]
fn wall_clocks_that_went_back_confuse_nothing() {
    // Numbers ascend, times do not; one is of the future, and two are out of every calendar.
    let mut all = ages(&[10, -900, 5 * DAY, 0, 0]);
    all[3].created = Timestamp::new(i64::MAX, 0);
    all[4].created = Timestamp::new(i64::MIN, 0);
    assert_eq!(
        decided(
            &all,
            &Policy {
                keep_last: 2,
                ..Policy::default()
            }
        ),
        [4, 5]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                within: 60,
                ..Policy::default()
            }
        ),
        [1, 2, 4]
    );
    assert_eq!(
        decided(
            &all,
            &Policy {
                yearly: 9,
                ..Policy::default()
            }
        ),
        [3, 4, 5]
    );
}

#[test]
fn patterns_of_tags() {
    for (pattern, tag, expected) in [
        ("release", "release", true),
        ("release", "release-1", false),
        ("release-*", "release-", true),
        ("*", "", true),
        ("v?.*", "v1.20", true),
        ("v?.*", "v10.2", false),
        ("*-rc*-x", "a-rc1-rc2-x", true),
        ("*-rc*-x", "a-rc1-y", false),
        ("", "", true),
        ("", "a", false),
        ("?", "", false),
    ] {
        assert_eq!(fits(pattern, tag), expected, "{pattern} {tag}");
    }
    assert!(!fits(&"*a".repeat(32), &"a".repeat(31)));
}

fn any_facts() -> impl Strategy<Value = Vec<Facts>> {
    let protections = prop_oneof![
        4 => Just(BTreeSet::new()),
        1 => btree_set(prop_oneof![Just(Protection::Head), Just(Protection::Reader)], 1..3),
    ];
    let pins = prop_oneof![
        6 => Just(Vec::new()),
        1 => vec(proptest::option::of((NOW - DAY..NOW + DAY).prop_map(|at| Timestamp::new(at, 0))), 1..3),
    ];
    let tags = prop_oneof![6 => Just(None), 1 => Just(Some("release-1")), 1 => Just(Some("wip"))];
    let schedules = prop_oneof![2 => Just(None), 1 => Just(Some("nightly".to_owned()))];
    let one = (0..800 * DAY, 0..1000_u64, protections, pins, tags, schedules);
    vec(one, 0..60).prop_map(|all| {
        let numbered = all.into_iter().zip(1..);
        numbered
            .map(|((ago, bytes, protections, pins, tag, schedule), number)| Facts {
                bytes,
                protections,
                pins,
                schedule,
                tags: tag.into_iter().map(|tag| Tag::new(tag).unwrap()).collect(),
                ..facts(number, ago)
            })
            .collect()
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let counts = [0..6_u32, 0..6, 0..6, 0..6, 0..6, 0..3];
    let age = || prop_oneof![Just(0), 1..(400 * DAY) as u64];
    let cap = |most: u64| prop_oneof![2 => Just(0), 1 => 1..most];
    let tags = prop_oneof![Just(Vec::new()), Just(vec!["release-*".to_owned()])];
    (counts, age(), age(), cap(40), cap(20_000), cap(10), tags).prop_map(
        |(
            [keep_last, hourly, daily, weekly, monthly, yearly],
            within,
            minimum_age,
            count,
            bytes,
            scheduled,
            tags,
        )| {
            Policy {
                keep_last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                within,
                minimum_age,
                minimum_count: 0,
                maximum_count: count,
                maximum_bytes: bytes,
                schedule_counts: [("nightly".to_owned(), scheduled)].into(),
                keep_tags: tags,
            }
        },
    )
}

/// Whether something keeps a snapshot for certain, said once more and differently.
fn is_protected(facts: &Facts, policy: &Policy) -> bool {
    !facts.protections.is_empty()
        || facts
            .pins
            .iter()
            .any(|pin| pin.is_none_or(|at| at.seconds() > NOW))
        || (policy.minimum_age > 0 && NOW - facts.created.seconds() < policy.minimum_age as i64)
        || (!policy.keep_tags.is_empty() && facts.tags.iter().any(|tag| tag.as_str().starts_with("release-")))
}

fn left(all: &[Facts], decision: &Decision) -> Vec<Facts> {
    let pairs = all.iter().zip(&decision.verdicts);
    pairs
        .filter(|(_, verdict)| verdict.keep)
        .map(|(facts, _)| facts.clone())
        .collect()
}

proptest! {
    #[test]
    fn what_is_protected_is_never_removed(all in any_facts(), policy in any_policy()) {
        let decision = decide(&all, &policy, now(), &TimeZone::UTC);
        for (facts, verdict) in all.iter().zip(&decision.verdicts) {
            prop_assert_eq!(facts.id, verdict.id);
            prop_assert!(verdict.keep || !is_protected(facts, &policy));
            prop_assert!(!verdict.reasons.is_empty());
        }
    }

    #[test]
    fn caps_hold_unless_protections_forbid(all in any_facts(), policy in any_policy()) {
        let decision = decide(&all, &policy, now(), &TimeZone::UTC);
        let rest = left(&all, &decision);
        let bytes: u64 = rest.iter().map(|facts| facts.bytes).sum();
        let over = |total: u64, cap: u64| if cap == 0 { 0 } else { total.saturating_sub(cap) };
        prop_assert_eq!(decision.over_count, over(rest.len() as u64, policy.maximum_count));
        prop_assert_eq!(decision.over_bytes, over(bytes, policy.maximum_bytes));
        if decision.over_count > 0 {
            prop_assert!(rest.iter().all(|facts| is_protected(facts, &policy)));
        }
        if decision.over_bytes > 0 {
            prop_assert!(rest.iter().all(|facts| facts.bytes == 0 || is_protected(facts, &policy)));
        }
    }

    #[test]
    fn deciding_again_removes_nothing(all in any_facts(), policy in any_policy()) {
        let rest = left(&all, &decide(&all, &policy, now(), &TimeZone::UTC));
        let again = decide(&rest, &policy, now(), &TimeZone::UTC);
        prop_assert_eq!(again.removed().count(), 0);
    }

    #[test]
    fn keeping_more_never_removes_more(all in any_facts(), policy in any_policy(), which in 0..7_usize, more in 1..5_u32) {
        let less = Policy { maximum_count: 0, maximum_bytes: 0, schedule_counts: Default::default(), ..policy };
        let mut greater = less.clone();
        let counts = [
            &mut greater.keep_last, &mut greater.hourly, &mut greater.daily,
            &mut greater.weekly, &mut greater.monthly, &mut greater.yearly,
        ];
        match counts.into_iter().nth(which) {
            Some(count) => *count += more,
            None => greater.within += u64::from(more) * 86_400,
        }
        // The first rule of all turns "everything" into "what it keeps".
        if less.has_rules() {
            let before: BTreeSet<u8> = kept(&decide(&all, &less, now(), &TimeZone::UTC)).into_iter().collect();
            let after = kept(&decide(&all, &greater, now(), &TimeZone::UTC)).into_iter().collect();
            prop_assert!(before.is_subset(&after));
        }
    }

    #[test]
    fn the_order_of_the_facts_does_not_matter(all in any_facts(), policy in any_policy(), seed in any::<u64>()) {
        let mut shuffled = all.clone();
        shuffled.sort_by_key(|facts| u64::from(facts.id.0[0]).wrapping_mul(seed | 1).rotate_left(17));
        let mut one = kept(&decide(&all, &policy, now(), &TimeZone::UTC));
        let mut other = kept(&decide(&shuffled, &policy, now(), &TimeZone::UTC));
        one.sort_unstable();
        other.sort_unstable();
        prop_assert_eq!(one, other);
    }
}

#[test]
fn so_many_of_the_last_are_always_kept() {
    let all = ages(&[50 * DAY, 40 * DAY, 30 * DAY, 20 * DAY]);
    let policy = Policy {
        minimum_count: 3,
        maximum_count: 1,
        ..Policy::default()
    };
    let decision = decide(&all, &policy, now(), &TimeZone::UTC);
    assert_eq!(kept(&decision), [2, 3, 4]);
    assert_eq!(decision.over_count, 2);
    assert_eq!(decision.verdicts[1].reasons[0], Reason::MinimumCount);
}
