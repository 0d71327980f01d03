//! Schedules by a clock that the tests turn.

use std::path::Path;
use std::sync::Arc;

use cairn_snapshot::repository::RepositoryId;
use cairn_snapshot::repository::config::Config;
use cairn_types::{SnapshotId, Timestamp};

use super::{LOOK_INTERVAL, Schedules};
use crate::directories::DirectoriesError;
use crate::directories::records::{Records, ScheduleState};
use crate::directories::requests::SaveRequest;

const ID: RepositoryId = RepositoryId([7; 16]);
/// 2026-11-21 14:03:09 UTC.
const BEGIN: i64 = 1_795_269_789;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(BEGIN + seconds, 0)
}

fn config(text: &str) -> Config {
    Config::parse(text).unwrap()
}

struct Site {
    directory: tempfile::TempDir,
    schedules: Schedules,
    config: Config,
    started: Vec<SaveRequest>,
}

fn schedules(path: &Path) -> Schedules {
    Schedules::new(Arc::new(Records::open(&path.join("directories")).unwrap()))
}

impl Site {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Site {
            schedules: schedules(directory.path()),
            directory,
            config: config(text),
            started: Vec::new(),
        }
    }

    /// As after a crash: what was not written down is gone.
    fn restart(&mut self) {
        self.schedules = schedules(self.directory.path());
    }

    /// Looks; gives how many saves were started, and in how many seconds the next look is.
    fn look(&mut self, now: i64) -> (usize, i64) {
        let before = self.started.len();
        let started = &mut self.started;
        let next = self
            .schedules
            .look(ID, &self.config, at(now), |request| {
                started.push(request);
                Ok(())
            })
            .unwrap();
        (self.started.len() - before, next.seconds() - BEGIN - now)
    }

    fn ended(&self) {
        self.schedules.ended(ID, "s", Ok(SnapshotId([1; 16])));
    }

    fn state(&self) -> ScheduleState {
        self.schedules.views(ID)[0].state.clone()
    }

    fn keys(&self) -> Vec<&str> {
        self.started
            .iter()
            .map(|save| save.key.as_deref().unwrap())
            .collect()
    }
}

#[test]
fn a_time_is_carried_out_once() {
    let mut site = Site::new("[schedules.s]\ncron = '0 * * * *'\ntime_zone = 'Europe/Berlin'");
    // The next full hour is 14:00 + 56 min 51 s from here.
    let due = HOUR - 3 * MINUTE - 9;
    assert_eq!(site.look(0), (0, LOOK_INTERVAL));
    assert_eq!(site.look(due - 10), (0, 10));
    assert_eq!(site.look(due).0, 1);
    site.ended();
    assert_eq!(site.look(due), (0, LOOK_INTERVAL));
    assert_eq!(site.look(due + 5).0, 0);
    let request = &site.started[0];
    assert_eq!(request.schedule.as_ref().unwrap().due, at(due));
    assert_eq!(
        request.key.as_deref(),
        Some(format!("cairnd/schedule/s/{}.0", BEGIN + due).as_str())
    );
    let state = site.state();
    assert_eq!(
        (state.runs, state.missed, state.last_due, state.last_snapshot),
        (1, 0, Some(at(due)), Some(SnapshotId([1; 16])))
    );
    assert_eq!(site.schedules.views(ID)[0].next_due, Some(at(due + HOUR)));
    assert_eq!(site.look(due + HOUR).0, 1);
}

#[test]
fn a_restart_repeats_nothing_and_makes_up_for_what_was_missed_once() {
    let mut site = Site::new("[schedules.s]\ncron = '0 * * * *'");
    let due = HOUR - 3 * MINUTE - 9;
    site.look(0);
    assert_eq!(site.look(due + 1).0, 1);
    site.restart();
    assert_eq!(site.look(due + 2).0, 0);
    // Nine hours without a daemon.
    site.restart();
    assert_eq!(site.look(due + 9 * HOUR + 5).0, 1);
    site.ended();
    assert_eq!(site.look(due + 9 * HOUR + 6).0, 0);
    assert_eq!(site.started[1].schedule.as_ref().unwrap().due, at(due + HOUR));
    assert_eq!((site.state().runs, site.state().missed), (2, 8));
    assert_eq!(site.look(due + 10 * HOUR).0, 1);
}

#[test]
fn a_save_that_was_started_and_not_written_down_has_the_same_key_again() {
    let mut site = Site::new("[schedules.s]\nevery = '1h'");
    site.look(0);
    let file = site
        .directory
        .path()
        .join("directories/schedules")
        .join(format!("{ID}.json"));
    let before = std::fs::read(&file).unwrap();
    assert_eq!(site.look(HOUR).0, 1);
    // The crash came before the file was replaced.
    std::fs::write(&file, before).unwrap();
    site.restart();
    assert_eq!(site.look(HOUR + 30).0, 1);
    assert_eq!(site.keys()[0], site.keys()[1]);
}

#[test]
fn what_is_too_late_is_passed_over() {
    let mut site = Site::new("[schedules.s]\ncron = '0 * * * *'\nstarting_deadline = '10m'");
    let due = HOUR - 3 * MINUTE - 9;
    site.look(0);
    assert_eq!(site.look(due + 3 * HOUR + 11 * MINUTE).0, 0);
    assert_eq!((site.state().runs, site.state().missed), (0, 4));
    assert_eq!(site.look(due + 4 * HOUR + 9 * MINUTE).0, 1);
    site.ended();
    // The last of those that were missed is not too late.
    assert_eq!(site.look(due + 8 * HOUR + MINUTE).0, 1);
    assert_eq!(site.started[1].schedule.as_ref().unwrap().due, at(due + 8 * HOUR));
    assert_eq!((site.state().runs, site.state().missed), (2, 7));
}

#[test]
fn a_schedule_never_runs_twice_at_once() {
    let mut site = Site::new("[schedules.s]\nevery = '1m'");
    site.look(0);
    assert_eq!(site.look(MINUTE).0, 1);
    assert_eq!(site.look(3 * MINUTE).0, 0);
    site.schedules.ended(ID, "s", Err("no space".repeat(1000)));
    let state = site.state();
    assert_eq!((state.failures, state.last_failure.len()), (1, 1024));
    assert_eq!(site.look(4 * MINUTE).0, 1);
    // Of the times in between one was made up for.
    assert_eq!(site.state().missed, 2);
    site.ended();
    assert_eq!(site.state().last_failure, "");
    // One that was taken up again after a restart.
    site.restart();
    site.schedules.set_running(ID, "s", true);
    assert_eq!(site.look(6 * MINUTE).0, 0);
    site.ended();
    assert_eq!(site.look(6 * MINUTE).0, 1);
    assert_eq!(site.state().failures, 1);
}

#[test]
fn a_clock_that_goes_back_makes_nothing_due_again() {
    let mut site = Site::new("[schedules.s]\nevery = '1h'");
    site.look(0);
    assert_eq!(site.look(HOUR).0, 1);
    site.ended();
    for now in [HOUR - 10, 0, -5 * HOUR, HOUR + 10] {
        assert_eq!(site.look(now).0, 0, "{now}");
    }
    assert_eq!(site.look(2 * HOUR).0, 1);
    site.ended();
    // It was wrong by a year: it is not waited for a year.
    assert_eq!(site.look(365 * 24 * HOUR).0, 1);
    site.ended();
    assert_eq!(site.look(3 * HOUR).0, 0);
    assert_eq!(site.look(4 * HOUR).0, 1);
}

#[test]
fn jitter_puts_off_and_keeps_the_time() {
    let mut site = Site::new("[schedules.s]\ncron = '0 * * * *'\njitter = '20m'");
    let due = HOUR - 3 * MINUTE - 9;
    site.look(0);
    let delay = {
        let schedule = &site.config.schedules["s"];
        let seed = [&ID.0[..], b"s"].concat();
        i64::try_from(schedule.delay(&seed, at(due))).unwrap()
    };
    assert!((1..=1200).contains(&delay), "{delay}");
    assert_eq!(site.look(due + delay - 1), (0, 1));
    assert_eq!(site.look(due + delay).0, 1);
    assert_eq!(site.started[0].schedule.as_ref().unwrap().due, at(due));
}

#[test]
fn what_cannot_be_started_is_tried_again() {
    let mut site = Site::new("[schedules.s]\nevery = '1h'\n[schedules.t]\nevery = '1h'\nsuspend = true");
    site.look(0);
    let refused = |_| {
        Err(DirectoriesError::Invalid {
            what: "full".to_owned(),
        })
    };
    site.schedules.look(ID, &site.config, at(HOUR), refused).unwrap();
    assert_eq!(site.state().runs, 0);
    assert_eq!(site.look(HOUR + 30).0, 1);
    let views = site.schedules.views(ID);
    assert_eq!((views[1].suspended, views[1].next_due), (true, None));
}

#[test]
fn a_schedule_that_is_gone_is_forgotten() {
    let mut site = Site::new("[schedules.s]\nevery = '1h'");
    site.look(0);
    site.look(HOUR);
    site.ended();
    site.config = config("");
    site.look(HOUR + 1);
    site.config = config(
        "[schedules.s]\nevery = '1h'\ntemplate = 'work'\nskip_unchanged = true\n[retention]\nautomatic = true",
    );
    assert_eq!(site.look(5 * HOUR).0, 0);
    assert_eq!(site.state(), ScheduleState::begun(at(5 * HOUR)));
    assert_eq!(site.look(6 * HOUR).0, 1);
    let request = site.started.last().unwrap();
    assert!(request.skip_unchanged && request.collect && request.note.is_empty());
    assert_eq!(request.template.as_deref(), Some("work"));
}

#[test]
fn damaged_records_begin_anew() {
    let mut site = Site::new("[schedules.s]\nevery = '1h'");
    site.look(0);
    site.look(HOUR);
    let file = site
        .directory
        .path()
        .join("directories/schedules")
        .join(format!("{ID}.json"));
    std::fs::write(&file, b"{").unwrap();
    site.restart();
    assert_eq!(site.look(3 * HOUR).0, 0);
    assert_eq!(site.look(4 * HOUR).0, 1);
}
