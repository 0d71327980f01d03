//! Schedules: when snapshots are made without anybody asking. Says when the next one is due; runs nothing.

use cairn_types::Timestamp;
use jiff::civil::{Date, Time};
use jiff::{ToSpan, Zoned};
use serde::{Deserialize, Deserializer};

use super::config::{Span, Zone, check_text};
use super::text::instant;

/// The shortest time between two snapshots of a schedule, in seconds.
pub const EVERY_MIN: u64 = 60;
/// The longest jitter, in seconds: a day.
pub const JITTER_MAX: u64 = 86_400;
/// How many days ahead a date is looked for that fits: more than from one 29 February to the next, over a year that is no leap year.
const DAYS_AHEAD_MAX: usize = 9 * 366;

/// A schedule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// A time span, at least [`EVERY_MIN`], counted from the last snapshot of the schedule. Either this or `cron`.
    pub every: Option<Span>,
    /// Times of the calendar.
    pub cron: Option<Cron>,
    /// The time zone of `cron`; default UTC.
    pub time_zone: Zone,
    /// The template of its snapshots.
    pub template: Option<String>,
    /// No snapshot when nothing has changed.
    pub skip_unchanged: bool,
    /// It makes no snapshots for now.
    pub suspend: bool,
    /// Most snapshots of this schedule that are kept; 0: no maximum.
    pub maximum_count: u64,
    /// Each snapshot is put off by a part of this, at most [`JITTER_MAX`]: so that not everything happens at once.
    pub jitter: Span,
    /// A time that was missed by more than this is passed over; nothing: it is made up for, however late it is.
    pub starting_deadline: Option<Span>,
}

impl Schedule {
    /// When the next snapshot is due after `last`, the last one of the schedule or the beginning of the schedule. What was missed meanwhile is
    /// due once, at the first of the missed times. Nothing if it is suspended or never due.
    pub fn next_after(&self, last: Timestamp) -> Option<Timestamp> {
        if self.suspend {
            return None;
        }
        match (&self.cron, self.every) {
            (Some(cron), _) => {
                let next = cron.next_after(&instant(last)?.to_zoned(self.zone()))?;
                Some(Timestamp::new(next.timestamp().as_second(), 0))
            }
            (None, Some(Span(seconds))) => {
                let seconds = last.seconds().checked_add(i64::try_from(seconds).ok()?)?;
                Some(Timestamp::new(seconds, last.nanoseconds()))
            }
            (None, None) => None,
        }
    }

    /// By how many seconds the snapshot that is due at `due` is put off: up to the jitter, and always the same for the same time and the same `seed`,
    /// which tells one schedule of one repository from others.
    pub fn delay(&self, seed: &[u8], due: Timestamp) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(seed);
        hasher.update(&due.seconds().to_be_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first) % (self.jitter.0.min(JITTER_MAX) + 1)
    }

    /// Whether it is too late at `now` for what was due at `due`.
    pub fn is_too_late(&self, due: Timestamp, now: Timestamp) -> bool {
        let late = u64::try_from(now.seconds().saturating_sub(due.seconds())).unwrap_or(0);
        self.starting_deadline
            .is_some_and(|Span(deadline)| late > deadline.saturating_add(self.jitter.0))
    }

    fn zone(&self) -> jiff::tz::TimeZone {
        self.time_zone.0.clone()
    }

    /// Looks for what makes no sense. Errors: what.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(template) = &self.template {
            check_text("template", template)?;
        }
        let jitter = self.jitter.0;
        if jitter > JITTER_MAX || self.every.is_some_and(|Span(every)| jitter >= every) {
            return Err(format!(
                "jitter is {jitter} s: at most {JITTER_MAX}, and less than every"
            ));
        }
        match (&self.cron, self.every) {
            (Some(_), Some(_)) | (None, None) => Err("give either every or cron".to_owned()),
            (None, Some(Span(seconds))) if seconds < EVERY_MIN => {
                Err(format!("every is {seconds} s, at least {EVERY_MIN}"))
            }
            (Some(cron), None) if cron.next_day(Date::constant(2000, 1, 1)).is_none() => {
                Err("cron: there is no such day".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Times of the calendar as in crontab(5): minute, hour, day of the month, month, day of the week. Each `*`, numbers, ranges `a-b`, steps `*/n` and
/// `a-b/n`, and lists of these. Months 1 to 12, days of the week 0 to 7 (0 and 7 are Sunday), no names. If both days are given, one of them
/// must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both days were given.
    either_day: bool,
}

const FIELDS: [(&str, u32, u32); 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("weekday", 0, 7),
];

impl Cron {
    /// Parses five fields. Errors: what is wrong.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let parts: Vec<&str> = text.split_ascii_whitespace().take(FIELDS.len() + 1).collect();
        let [minute, hour, day, month, weekday] = parts[..] else {
            return Err(format!(
                "{text:?}: give five fields: minute hour day month weekday"
            ));
        };
        let mut sets = [0; 5];
        for (set, (part, field)) in sets
            .iter_mut()
            .zip([minute, hour, day, month, weekday].into_iter().zip(FIELDS))
        {
            *set = parse_field(part, field).ok_or_else(|| {
                format!(
                    "{part:?} is no {}: {} to {}, lists, ranges, steps",
                    field.0, field.1, field.2
                )
            })?;
        }
        let [minutes, hours, days, months, weekdays] = sets;
        Ok(Cron {
            minutes,
            hours,
            days,
            months,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// The first time that fits and is later than `last`. A time that clocks skip is the moment after the gap; one that comes twice is the first.
    pub fn next_after(&self, last: &Zoned) -> Option<Zoned> {
        let mut date = last.date();
        for _ in 0..DAYS_AHEAD_MAX {
            date = self.next_day(date)?;
            for hour in (0..24_i8).filter(|hour| self.hours >> hour & 1 == 1) {
                for minute in (0..60_i8).filter(|minute| self.minutes >> minute & 1 == 1) {
                    let time = Time::new(hour, minute, 0, 0).ok()?;
                    let found = date.to_datetime(time).to_zoned(last.time_zone().clone()).ok()?;
                    if found > *last {
                        return Some(found);
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    /// The first day from `date` on that fits.
    fn next_day(&self, date: Date) -> Option<Date> {
        let days = std::iter::successors(Some(date), |date| date.checked_add(1.day()).ok());
        days.take(DAYS_AHEAD_MAX).find(|date| {
            let day = self.days >> date.day() & 1 == 1;
            let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
            let fits = if self.either_day {
                day || weekday
            } else {
                day && weekday
            };
            self.months >> date.month() & 1 == 1 && fits
        })
    }
}

fn parse_field(text: &str, (_, least, most): (&str, u32, u32)) -> Option<u64> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>()
            .ok()
            .filter(|number| is_number && (least..=most).contains(number))
    };
    let mut set = 0;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (
                range,
                step.parse::<u32>()
                    .ok()
                    .filter(|step| (1..=most).contains(step))?,
            ),
            None => (item, 1),
        };
        let (from, to) = match (range, range.split_once('-')) {
            // Sunday once only, so that steps count from it.
            ("*", _) => (least, if most == 7 { 6 } else { most }),
            (_, Some((from, to))) => (number(from)?, number(to)?),
            (_, None) if item.contains('/') => return None,
            (one, None) => (number(one)?, number(one)?),
        };
        if from > to {
            return None;
        }
        for value in (from..=to).step_by(step as usize) {
            set |= 1 << value;
        }
    }
    Some(set)
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Cron::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Timestamp;

    use super::{Cron, Schedule};
    use crate::repository::config::Span;

    /// The next times after a time, as text.
    fn next(cron: &str, after: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(cron).unwrap();
        let mut at: jiff::Zoned = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = cron.next_after(&at).unwrap();
            found.push(at.strftime("%a %F %H:%M %:z").to_string());
        }
        found
    }

    #[test]
    fn times_of_the_calendar() {
        let after = "2026-11-21T14:03:09+00:00[UTC]";
        assert_eq!(
            next("*/20 14 * * *", after, 3),
            [
                "Sat 2026-11-21 14:20 +00:00",
                "Sat 2026-11-21 14:40 +00:00",
                "Sun 2026-11-22 14:00 +00:00",
            ]
        );
        assert_eq!(
            next("0 3 * * 1-5", after, 2),
            ["Mon 2026-11-23 03:00 +00:00", "Tue 2026-11-24 03:00 +00:00"]
        );
        assert_eq!(
            next("30 0 29 2 *", after, 2),
            ["Tue 2028-02-29 00:30 +00:00", "Sun 2032-02-29 00:30 +00:00"]
        );
        // Both days given: one of them is enough. Sunday is 0 and 7.
        assert_eq!(
            next("0 0 25 * 7", after, 2),
            ["Sun 2026-11-22 00:00 +00:00", "Wed 2026-11-25 00:00 +00:00"]
        );
        assert_eq!(
            next("3 14 * * 0", "2026-11-22T14:03:00+00:00[UTC]", 1),
            ["Sun 2026-11-29 14:03 +00:00"]
        );
    }

    #[test]
    fn clocks_that_are_set_are_met_once() {
        // Forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.
        let spring = next("30 2 * * *", "2026-03-28T12:00:00+01:00[Europe/Berlin]", 2);
        assert_eq!(
            spring,
            ["Sun 2026-03-29 03:30 +02:00", "Mon 2026-03-30 02:30 +02:00"]
        );
        let autumn = next("30 2 * * *", "2026-10-24T12:00:00+02:00[Europe/Berlin]", 2);
        assert_eq!(
            autumn,
            ["Sun 2026-10-25 02:30 +02:00", "Mon 2026-10-26 02:30 +01:00"]
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "*/99 * * * *",
            "5/2 * * * *",
            "a * * * *",
            "+1 * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "@daily",
        ] {
            assert!(Cron::parse(wrong).is_err(), "{wrong}");
        }
        let never = Schedule {
            cron: Some(Cron::parse("0 0 31 2 *").unwrap()),
            ..Schedule::default()
        };
        assert!(never.check().unwrap_err().contains("no such day"));
        assert!(
            Schedule {
                every: Some(Span(59)),
                ..Schedule::default()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn a_schedule_says_when_it_is_due() {
        let at = Timestamp::new(1_795_269_789, 7);
        let hourly = Schedule {
            every: Some(Span(3600)),
            ..Schedule::default()
        };
        assert_eq!(hourly.next_after(at), Some(Timestamp::new(1_795_273_389, 7)));
        assert_eq!(
            Schedule {
                suspend: true,
                ..hourly
            }
            .next_after(at),
            None
        );
        let cron = Schedule {
            cron: Some(Cron::parse("0 * * * *").unwrap()),
            ..Schedule::default()
        };
        assert_eq!(cron.next_after(at), Some(Timestamp::new(1_795_273_200, 0)));
        assert_eq!(cron.next_after(Timestamp::new(i64::MAX, 0)), None);
    }

    #[test]
    fn jitter_spreads_and_stays_the_same() {
        let schedule = Schedule {
            every: Some(Span(3600)),
            jitter: Span(59),
            ..Schedule::default()
        };
        let due = Timestamp::new(1_795_273_200, 0);
        let delays: std::collections::BTreeSet<u64> =
            (0..200_u8).map(|seed| schedule.delay(&[seed], due)).collect();
        assert!(
            delays.len() > 30 && delays.iter().all(|delay| *delay <= 59),
            "{delays:?}"
        );
        assert_eq!(schedule.delay(b"a", due), schedule.delay(b"a", due));
        let without = Schedule {
            jitter: Span(0),
            ..schedule.clone()
        };
        assert_eq!(without.delay(b"a", due), 0);
        for jitter in [3600, 86_401] {
            let wrong = Schedule {
                jitter: Span(jitter),
                ..schedule.clone()
            };
            assert!(wrong.check().unwrap_err().contains("jitter"));
        }
    }

    #[test]
    fn a_deadline_passes_over_what_is_too_late() {
        let due = Timestamp::new(1000, 0);
        let schedule = Schedule {
            every: Some(Span(3600)),
            jitter: Span(30),
            starting_deadline: Some(Span(600)),
            ..Schedule::default()
        };
        for (now, late) in [(0, false), (1000, false), (1630, false), (1631, true)] {
            assert_eq!(schedule.is_too_late(due, Timestamp::new(now, 0)), late, "{now}");
        }
        let patient = Schedule {
            starting_deadline: None,
            ..schedule
        };
        assert!(!patient.is_too_late(due, Timestamp::new(i64::MAX, 0)));
    }
}
