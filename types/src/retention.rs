//! Retention: which snapshots are kept, and which may go. A pure function of facts, a policy, a moment and a time zone.
//!
//! Precedence, strongest first:
//!
//! 1. **Protections** always keep: what the repository needs ([`Protection`]), pins that have not expired, [`Policy::minimum_age`],
//!    [`Policy::minimum_count`], and [`Policy::keep_tags`].
//! 2. **Caps** ([`Policy::schedule_counts`], then [`Policy::maximum_count`] and [`Policy::maximum_bytes`]) remove the oldest of what is not protected, whatever rules keep it, until
//!    what is left fits. Protections win: if what is protected does not fit, it stays, and the [`Decision`] says by how much.
//! 3. **Rules** ([`Policy::keep_last`], [`Policy::within`], hourly to yearly) keep; a snapshot that no rule keeps goes. A policy without any rule keeps
//!    everything up to the caps.
//!
//! Newer and older is by sequence number, not by wall clocks, which may have gone back. A rule of a calendar keeps the newest snapshot of each
//! of the last N hours, days, ISO weeks, months or years *that have one*.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::{SnapshotId, Tag, Timestamp};

/// What retention has to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its number in the repository.
    pub sequence: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes that count for [`Policy::maximum_bytes`].
    pub bytes: u64,
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// When each of its pins expires; `None`: never.
    pub pins: Vec<Option<Timestamp>>,
    /// The schedule that asked for it.
    pub schedule: Option<String>,
    /// What in the repository needs it.
    pub protections: BTreeSet<Protection>,
}

/// Why a repository needs a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protection {
    /// It is `latest`, or the newest of all.
    Newest,
    /// The workspace's content, or a part of it, comes from it.
    Head,
    /// Somebody reads it.
    Reader,
    /// An operation that is under way, or was interrupted, needs it.
    Operation,
    /// Its labels cannot be read: it may be pinned.
    LabelsUnreadable,
}

/// What shall be kept. All numbers: 0 is off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The last N.
    pub keep_last: u32,
    /// The newest of each of the last N hours that have one.
    pub hourly: u32,
    /// The same with days.
    pub daily: u32,
    /// The same with ISO weeks (Monday to Sunday).
    pub weekly: u32,
    /// The same with months.
    pub monthly: u32,
    /// The same with years.
    pub yearly: u32,
    /// Everything that is not older than this many seconds.
    pub within: u64,
    /// Protects everything that is younger than this many seconds.
    pub minimum_age: u64,
    /// Protects the last N, also from the maximums.
    pub minimum_count: u32,
    /// Most snapshots.
    pub maximum_count: u64,
    /// Most bytes, as the [`Facts`] count them.
    pub maximum_bytes: u64,
    /// Most snapshots of each schedule; a schedule that is not here has no maximum.
    pub schedule_counts: BTreeMap<String, u64>,
    /// Protects what has a tag that fits one of these: `*` stands for any characters, `?` for one.
    pub keep_tags: Vec<String>,
}

impl Policy {
    /// Whether it has a rule that keeps something: without one, everything is kept up to the caps.
    pub fn has_rules(&self) -> bool {
        let counts = [
            self.keep_last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        self.within > 0 || counts.iter().any(|count| *count > 0)
    }
}

/// One reason for what becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The repository needs it.
    Protected(Protection),
    /// Somebody pinned it, until then or for ever.
    Pinned(Option<Timestamp>),
    /// It is younger than the minimum age.
    MinimumAge,
    /// It is one of the last, so many of which are always kept.
    MinimumCount,
    /// It has this tag, which the policy keeps.
    Tag(Tag),
    /// It is one of the last.
    Last,
    /// It is younger than what `within` says.
    Within,
    /// It is the newest of this period: `2026-11-21 14h`, `2026-11-21`, `2026-W47`, `2026-11`, `2026`.
    Period(Period, String),
    /// There is no rule: everything is kept.
    NoRules,
    /// No rule keeps it.
    NotKept,
    /// There are more of its schedule than the schedule's maximum.
    OverScheduleCount,
    /// There are more than the policy's maximum.
    OverCount,
    /// There are more bytes than the policy's maximum.
    OverBytes,
}

/// A period of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// An hour. The two hours of the same name when clocks are set back are two.
    Hour,
    /// A day.
    Day,
    /// A week, Monday to Sunday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Protected(Protection::Newest) => f.write_str("it is the newest"),
            Reason::Protected(Protection::Head) => f.write_str("the workspace's content comes from it"),
            Reason::Protected(Protection::Reader) => f.write_str("it is being read"),
            Reason::Protected(Protection::Operation) => f.write_str("an operation needs it"),
            Reason::Protected(Protection::LabelsUnreadable) => f.write_str("its labels cannot be read"),
            Reason::Pinned(None) => f.write_str("it is pinned"),
            Reason::Pinned(Some(until)) => {
                f.write_str("it is pinned until ")?;
                match until.to_instant() {
                    Some(until) => write!(f, "{until:.9}"),
                    None => Ok(()),
                }
            }
            Reason::MinimumAge => f.write_str("it is younger than the minimum age"),
            Reason::MinimumCount => f.write_str("so many of the last are always kept"),
            Reason::Tag(tag) => write!(f, "it has the tag {tag}"),
            Reason::Last => f.write_str("it is one of the last"),
            Reason::Within => f.write_str("it is young enough"),
            Reason::Period(_, name) => write!(f, "it is the newest of {name}"),
            Reason::NoRules => f.write_str("no rule removes anything"),
            Reason::NotKept => f.write_str("no rule keeps it"),
            Reason::OverScheduleCount => f.write_str("there are more of its schedule than the maximum"),
            Reason::OverCount => f.write_str("there are more than the maximum"),
            Reason::OverBytes => f.write_str("there are more bytes than the maximum"),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether it is kept.
    pub keep: bool,
    /// Why: of what is kept, everything that keeps it; of what goes, why, and then what would have kept it without the caps.
    pub reasons: Vec<Reason>,
}

/// What becomes of all snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Of each, in the order of the facts.
    pub verdicts: Vec<Verdict>,
    /// By how many the protected ones exceed the maximum.
    pub over_count: u64,
    /// By how many bytes the protected ones exceed the maximum.
    pub over_bytes: u64,
}

impl Decision {
    /// The snapshots that go, in the order of the facts.
    pub fn removed(&self) -> impl Iterator<Item = SnapshotId> {
        self.verdicts
            .iter()
            .filter(|verdict| !verdict.keep)
            .map(|verdict| verdict.id)
    }
}

/// Decides. `now` is the wall clock; periods are those of `zone`. See the module for the precedence.
pub fn decide(snapshots: &[Facts], policy: &Policy, now: Timestamp, zone: &TimeZone) -> Decision {
    let mut newest_first: Vec<usize> = (0..snapshots.len()).collect();
    newest_first.sort_by_key(|index| {
        let facts = &snapshots[*index];
        std::cmp::Reverse((facts.sequence, facts.created, facts.id))
    });
    let mut protected: Vec<Vec<Reason>> = snapshots
        .iter()
        .map(|facts| protections(facts, policy, now))
        .collect();
    for index in newest_first.iter().take(policy.minimum_count as usize) {
        protected[*index].push(Reason::MinimumCount);
    }
    let mut kept = rules(snapshots, &newest_first, policy, now, zone);

    let mut removed: Vec<Option<Reason>> = vec![None; snapshots.len()];
    for index in &newest_first {
        if protected[*index].is_empty() && kept[*index].is_empty() {
            match policy.has_rules() {
                true => removed[*index] = Some(Reason::NotKept),
                false => kept[*index].push(Reason::NoRules),
            }
        }
    }
    for (schedule, maximum) in policy.schedule_counts.iter().filter(|(_, maximum)| **maximum > 0) {
        let of_it = |index: &usize| snapshots[*index].schedule.as_ref() == Some(schedule);
        let there: Vec<usize> = newest_first
            .iter()
            .copied()
            .filter(|index| of_it(index) && removed[*index].is_none())
            .collect();
        let surplus = (there.len() as u64).saturating_sub(*maximum);
        let free = there
            .into_iter()
            .rev()
            .filter(|index| protected[*index].is_empty());
        for index in free.take(usize::try_from(surplus).unwrap_or(usize::MAX)) {
            removed[index] = Some(Reason::OverScheduleCount);
        }
    }
    let left = || (0..snapshots.len()).filter(|index| removed[*index].is_none());
    let mut count = left().count() as u64;
    // Sums of 64-bit numbers that do not fit 64 bits.
    let mut bytes: u128 = left().map(|index| u128::from(snapshots[index].bytes)).sum();
    let is_over_count = |count: u64| policy.maximum_count > 0 && count > policy.maximum_count;
    let is_over_bytes = |bytes: u128| policy.maximum_bytes > 0 && bytes > u128::from(policy.maximum_bytes);
    for index in newest_first.iter().rev().copied() {
        if removed[index].is_some() || !protected[index].is_empty() {
            continue;
        }
        let own = u128::from(snapshots[index].bytes);
        let reason = match is_over_count(count) {
            true => Reason::OverCount,
            false if is_over_bytes(bytes) && own > 0 => Reason::OverBytes,
            false => continue,
        };
        removed[index] = Some(reason);
        (count, bytes) = (count - 1, bytes - own);
    }
    let verdicts = snapshots.iter().enumerate().map(|(index, facts)| {
        let mut reasons = std::mem::take(&mut protected[index]);
        reasons.append(&mut kept[index]);
        let keep = removed[index].is_none();
        reasons.splice(0..0, removed[index].take());
        Verdict {
            id: facts.id,
            keep,
            reasons,
        }
    });
    Decision {
        verdicts: verdicts.collect(),
        over_count: match is_over_count(count) {
            true => count - policy.maximum_count,
            false => 0,
        },
        over_bytes: match is_over_bytes(bytes) {
            true => u64::try_from(bytes - u128::from(policy.maximum_bytes)).unwrap_or(u64::MAX),
            false => 0,
        },
    }
}

/// What always keeps a snapshot.
fn protections(facts: &Facts, policy: &Policy, now: Timestamp) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = facts.protections.iter().copied().map(Reason::Protected).collect();
    let holds = |expires: &&Option<Timestamp>| expires.is_none_or(|expires| now < expires);
    // `None` is the longest: for ever.
    let pin = facts
        .pins
        .iter()
        .filter(holds)
        .max_by_key(|expires| (expires.is_none(), **expires));
    reasons.extend(pin.map(|expires| Reason::Pinned(*expires)));
    if is_younger(facts, policy.minimum_age, now) {
        reasons.push(Reason::MinimumAge);
    }
    let tag = facts
        .tags
        .iter()
        .find(|tag| policy.keep_tags.iter().any(|pattern| fits(pattern, tag.as_str())));
    reasons.extend(tag.cloned().map(Reason::Tag));
    reasons
}

/// Whether a snapshot is not older than so many seconds; a snapshot of the future is not.
fn is_younger(facts: &Facts, seconds: u64, now: Timestamp) -> bool {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let since = Timestamp::new(now.seconds().saturating_sub(seconds), now.nanoseconds());
    seconds > 0 && facts.created > since
}

/// What keeps each snapshot by the policy's rules.
fn rules(
    snapshots: &[Facts],
    newest_first: &[usize],
    policy: &Policy,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<Vec<Reason>> {
    let mut kept: Vec<Vec<Reason>> = vec![Vec::new(); snapshots.len()];
    for index in newest_first.iter().take(policy.keep_last as usize) {
        kept[*index].push(Reason::Last);
    }
    for index in newest_first {
        if is_younger(&snapshots[*index], policy.within, now) {
            kept[*index].push(Reason::Within);
        }
    }
    let periods = [
        (Period::Hour, policy.hourly),
        (Period::Day, policy.daily),
        (Period::Week, policy.weekly),
        (Period::Month, policy.monthly),
        (Period::Year, policy.yearly),
    ];
    for (period, limit) in periods.into_iter().filter(|(_, limit)| *limit > 0) {
        let mut seen = HashSet::new();
        for index in newest_first {
            if seen.len() >= limit as usize {
                break;
            }
            let (key, name) = period_of(snapshots[*index].created, period, zone);
            if seen.insert(key) {
                kept[*index].push(Reason::Period(period, name));
            }
        }
    }
    kept
}

/// The period that a moment is in: what tells it from others, and its name.
fn period_of(time: Timestamp, period: Period, zone: &TimeZone) -> (String, String) {
    let outside = match time.seconds() < 0 {
        true => jiff::Timestamp::MIN,
        false => jiff::Timestamp::MAX,
    };
    let zoned: Zoned = time.to_instant().unwrap_or(outside).to_zoned(zone.clone());
    let name = match period {
        Period::Hour => format!("{} {:02}h", zoned.date(), zoned.hour()),
        Period::Day => zoned.date().to_string(),
        Period::Week => {
            let week = zoned.date().iso_week_date();
            format!("{}-W{:02}", week.year(), week.week())
        }
        Period::Month => format!("{}-{:02}", zoned.year(), zoned.month()),
        Period::Year => zoned.year().to_string(),
    };
    match period {
        Period::Hour => (format!("{name} {}", zoned.offset()), name),
        _ => (name.clone(), name),
    }
}

/// Whether a tag fits a pattern: `*` stands for any characters, none too, `?` for one, everything else for itself.
pub fn fits(pattern: &str, tag: &str) -> bool {
    let (pattern, tag) = (pattern.as_bytes(), tag.as_bytes());
    let (mut at, mut from) = (0, 0);
    // The last star, and how much of the tag it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while from < tag.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == tag[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((star_at, upto)) => {
                    *upto += 1;
                    (at, from) = (*star_at + 1, *upto);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}
