//! When a Workspace's next snapshot is due. The last answer stands in its status (`nextSnapshotTime`), so that neither a restart nor the removal of a
//! snapshot makes one twice, or none.

use cairn_crds::validation::{cron_word, duration_seconds};
use cairn_crds::workspace::AutoSnapshot;
use cairn_types::{Cron, Timestamp};
use jiff::tz::TimeZone;

/// How far back missed times are looked for, in steps, in seconds: an hour, a day, a month, more than a year, more than from one 29 February to the next.
const LOOK_BACK: [i64; 5] = [3600, 86_400, 32 * 86_400, 370 * 86_400, 9 * 366 * 86_400];

/// A schedule that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// How much later than the schedule says, in seconds: always the same for one Workspace.
    offset: u64,
    /// Missed times are made up for until so many seconds later.
    deadline: Option<u64>,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The time for which a snapshot is to be made now.
    pub now: Option<Timestamp>,
    /// The next time of the schedule.
    pub next: Option<Timestamp>,
    /// A time that was missed for longer than the deadline, and is left out.
    pub missed: Option<Timestamp>,
}

impl Schedule {
    /// Understands `autoSnapshot`; `uid` decides where in the jitter this Workspace is. Nothing if it is off. Errors: what is wrong, and what to write
    /// instead.
    pub fn new(auto: &AutoSnapshot, uid: &str) -> Result<Option<Self>, String> {
        if !auto.enabled {
            return Ok(None);
        }
        let Some(text) = &auto.schedule else {
            return Err("autoSnapshot.schedule is missing: give one, such as '0 3 * * *'".to_owned());
        };
        let cron = parse(text).map_err(|why| format!("autoSnapshot.schedule: {why}"))?;
        if !cron.is_ever() {
            return Err(format!(
                "autoSnapshot.schedule: {text:?} never comes: there is no such day; give one that there is"
            ));
        }
        let zone = match auto.time_zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                format!(
                    "autoSnapshot.timeZone: {name:?} is no time zone: give a name of the IANA database, such as Europe/Berlin"
                )
            })?,
        };
        let span = |field: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => duration_seconds(text).map(Some).ok_or_else(|| {
                format!("autoSnapshot.{field}: {text:?} is no length of time: give one such as 90m")
            }),
        };
        let jitter = span("jitter", &auto.jitter)?.unwrap_or(0);
        let mut draw = [0; 8];
        draw.copy_from_slice(&blake3::hash(uid.as_bytes()).as_bytes()[..8]);
        Ok(Some(Schedule {
            cron,
            zone,
            offset: match jitter {
                0 => 0,
                jitter => u64::from_le_bytes(draw) % (jitter + 1),
            },
            deadline: span("startingDeadline", &auto.starting_deadline)?,
        }))
    }

    /// The time zone of the schedule.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What is due now. `recorded` is the time that was said to be the next one; a time that does not fit the schedule (it was changed) does not
    /// count, and the schedule begins now.
    pub fn due(&self, recorded: Option<Timestamp>, now: Timestamp) -> Due {
        let fits = |time: &Timestamp| self.after(Timestamp::new(time.seconds() - 1, 0)) == Some(*time);
        let Some(expected) = recorded.filter(fits) else {
            return Due {
                now: None,
                next: self.after(now),
                missed: None,
            };
        };
        let ripe = Timestamp::new(
            now.seconds().saturating_sub(signed(self.offset)),
            now.nanoseconds(),
        );
        if expected > ripe {
            return Due {
                now: None,
                next: Some(expected),
                missed: None,
            };
        }
        let last = self.last_until(expected, ripe);
        let next = self.after(last);
        let late = ripe.seconds().saturating_sub(last.seconds());
        let is_too_late = self.deadline.is_some_and(|deadline| late > signed(deadline));
        Due {
            now: (!is_too_late).then_some(last),
            next,
            missed: is_too_late.then_some(last),
        }
    }

    /// How many seconds until a snapshot is to be made for this time, by its jitter; 0 if that is over.
    pub fn seconds_until(&self, time: Timestamp, now: Timestamp) -> u64 {
        let at = time.seconds().saturating_add(signed(self.offset));
        u64::try_from(at.saturating_sub(now.seconds())).unwrap_or(0)
    }

    fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let last = time.to_instant()?.to_zoned(self.zone.clone());
        let next = self.cron.next_after(&last)?;
        Some(Timestamp::new(next.timestamp().as_second(), 0))
    }

    /// The last time of the schedule from `first`, which is one, until `until`.
    fn last_until(&self, first: Timestamp, until: Timestamp) -> Timestamp {
        for back in LOOK_BACK {
            let from = Timestamp::new(until.seconds().saturating_sub(back), 0);
            if from <= first {
                break;
            }
            let mut last = None;
            let mut next = self.after(from);
            while let Some(time) = next.filter(|time| *time <= until) {
                last = Some(time);
                next = self.after(time);
            }
            if let Some(last) = last {
                return last;
            }
        }
        let mut last = first;
        while let Some(time) = self.after(last).filter(|time| *time <= until) {
            last = time;
        }
        last
    }
}

/// Understands what the schema lets through: words such as `@daily`, names of months and days, and `n/step`.
fn parse(text: &str) -> Result<Cron, String> {
    let plain = cron_word(text).unwrap_or(text);
    let fields: Vec<String> = plain
        .split_ascii_whitespace()
        .enumerate()
        .map(|(index, field)| {
            let items = field.split(',').map(|item| normal(item, index));
            items.collect::<Vec<String>>().join(",")
        })
        .collect();
    Cron::parse(&fields.join(" "))
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One item of a field: names become numbers, `n/step` becomes `n-most/step`.
fn normal(item: &str, field: usize) -> String {
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let found = match field {
            3 => MONTHS
                .iter()
                .position(|name| *name == lower)
                .map(|index| index + 1),
            4 => DAYS.iter().position(|name| *name == lower),
            _ => None,
        };
        found.map_or(lower, |number| number.to_string())
    };
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (item, None),
    };
    let range = match range.split_once('-') {
        Some((from, to)) => format!("{}-{}", number(from), number(to)),
        None => number(range),
    };
    let most = ["59", "23", "31", "12", "6"].get(field);
    match (step, most) {
        (Some(step), Some(most)) if range != "*" && !range.contains('-') => format!("{range}-{most}/{step}"),
        (Some(step), _) => format!("{range}/{step}"),
        (None, _) => range,
    }
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use cairn_crds::workspace::AutoSnapshot;
    use cairn_types::Timestamp;

    use super::{Due, Schedule};

    // Saturday, 2026-11-21T00:00:00Z.
    const MIDNIGHT: i64 = 1_795_219_200;

    fn auto(schedule: &str) -> AutoSnapshot {
        AutoSnapshot {
            enabled: true,
            schedule: Some(schedule.to_owned()),
            ..AutoSnapshot::default()
        }
    }

    fn schedule(text: &str) -> Schedule {
        Schedule::new(&auto(text), "uid").unwrap().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(MIDNIGHT + seconds, 0)
    }

    #[test]
    fn everything_that_the_schema_lets_through_is_understood() {
        for (text, next) in [
            ("@hourly", 3600),
            ("@daily", 86_400),
            ("@Midnight", 86_400),
            ("0 3 * * *", 3 * 3600),
            ("10/20 * * * *", 600),
            ("0 0 * * SUN", 86_400),
            ("0 0 * * mon-fri", 2 * 86_400),
            ("0 0 1 DEC *", 10 * 86_400),
            ("0 0 * * 7", 86_400),
            ("5,10-20/5 1 * * *", 3900),
        ] {
            let due = schedule(text).due(None, at(0));
            assert_eq!(due.next, Some(at(next)), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_says_what_to_write() {
        let refused = |auto: &AutoSnapshot| Schedule::new(auto, "u").unwrap_err();
        assert!(refused(&auto("0 0 31 2 *")).contains("no such day"));
        assert!(refused(&auto("61 * * * *")).contains("minute"));
        let mut zone = auto("@daily");
        zone.time_zone = Some("Mars/Olympus".to_owned());
        assert!(refused(&zone).contains("IANA"));
        let mut jitter = auto("@daily");
        jitter.jitter = Some("x".to_owned());
        assert!(refused(&jitter).contains("90m"));
        let mut off = auto("nonsense");
        off.enabled = false;
        assert_eq!(Schedule::new(&off, "u"), Ok(None));
    }

    #[test]
    fn a_time_is_due_once() {
        let daily = schedule("0 3 * * *");
        let first = daily.due(None, at(0));
        assert_eq!(first.next, Some(at(10_800)));
        assert_eq!(
            daily.due(first.next, at(10_799)),
            Due {
                now: None,
                next: Some(at(10_800)),
                missed: None
            }
        );
        let due = daily.due(first.next, at(10_800));
        assert_eq!(due.now, Some(at(10_800)));
        assert_eq!(due.next, Some(at(10_800 + 86_400)));
        assert_eq!(daily.due(due.next, at(10_801)).now, None);
    }

    #[test]
    fn of_several_missed_times_the_last_is_made_up_for() {
        let hourly = schedule("@hourly");
        let due = hourly.due(Some(at(3600)), at(10 * 3600 + 59));
        assert_eq!(due.now, Some(at(10 * 3600)));
        assert_eq!(due.next, Some(at(11 * 3600)));
        // Over years, every minute.
        let due = schedule("* * * * *").due(Some(at(60)), at(9 * 366 * 86_400 + 30));
        assert_eq!(due.now, Some(at(9 * 366 * 86_400)));
        // Rare ones.
        let yearly = schedule("@yearly");
        let first = yearly.due(None, at(0)).next;
        assert_eq!(
            yearly.due(first, at(86_400 * 500)).now.map(|t| t.seconds()),
            Some(1_830_297_600)
        );
    }

    #[test]
    fn what_was_missed_too_long_ago_is_left_out() {
        let mut with = auto("0 3 * * *");
        with.starting_deadline = Some("10m".to_owned());
        let daily = Schedule::new(&with, "u").unwrap().unwrap();
        assert_eq!(
            daily.due(Some(at(10_800)), at(10_800 + 600)).now,
            Some(at(10_800))
        );
        let due = daily.due(Some(at(10_800)), at(10_800 + 601));
        assert_eq!(due.now, None);
        assert_eq!(due.missed, Some(at(10_800)));
        assert_eq!(due.next, Some(at(10_800 + 86_400)));
    }

    #[test]
    fn a_changed_schedule_begins_now() {
        let due = schedule("30 * * * *").due(Some(at(10_800)), at(50_000));
        assert_eq!(due.now, None);
        assert_eq!(due.next, Some(at(50_400 + 1800 - 1800 + 1800)));
    }

    #[test]
    fn jitter_is_always_the_same_for_one_workspace() {
        let mut with = auto("@hourly");
        with.jitter = Some("30m".to_owned());
        let offsets: std::collections::BTreeSet<u64> = (0..50)
            .map(|n| {
                let schedule = Schedule::new(&with, &format!("uid-{n}")).unwrap().unwrap();
                let again = Schedule::new(&with, &format!("uid-{n}")).unwrap().unwrap();
                assert_eq!(schedule, again);
                let offset = schedule.seconds_until(at(3600), at(3600));
                assert!(offset <= 1800);
                let early = Timestamp::new(at(3600).seconds() + super::signed(offset) - 1, 0);
                assert_eq!(schedule.due(Some(at(3600)), early).now, None);
                let ripe = Timestamp::new(at(3600).seconds() + super::signed(offset), 0);
                assert_eq!(schedule.due(Some(at(3600)), ripe).now, Some(at(3600)));
                offset
            })
            .collect();
        assert!(offsets.len() > 30);
    }

    #[test]
    fn the_time_zone_counts() {
        let mut berlin = auto("0 3 * * *");
        berlin.time_zone = Some("Europe/Berlin".to_owned());
        let due = Schedule::new(&berlin, "u").unwrap().unwrap().due(None, at(0));
        assert_eq!(due.next, Some(at(2 * 3600)));
    }
}
