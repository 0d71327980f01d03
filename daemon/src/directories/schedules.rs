//! Schedules: which saves are due, by the configurations of the repositories, and what is remembered of it.
//!
//! Invariants:
//! - A time is carried out at most once, also over restarts: the save of a time has the time in its key, and what was carried out is written
//!   down.
//! - Times that passed while nothing could be done, or while the save before was still running, are made up for by one save, unless they are
//!   later than the deadline of the schedule.
//! - A clock that goes back by less than [`CLOCK_ERROR_MAX`] makes no time due again.
//!
//! Decides only; time and the means to start a save are given.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cairn_snapshot::repository::RepositoryId;
use cairn_snapshot::repository::config::Config;
use cairn_snapshot::repository::schedule::Schedule;
use cairn_types::{SnapshotId, Timestamp};
use parking_lot::Mutex;

use super::DirectoriesError;
use super::records::{FAILURE_BYTES_MAX, Records, ScheduleRecord, ScheduleState};
use super::requests::{SaveRequest, Scheduled};
use crate::assembly::with_causes;

/// Seconds between two looks at a repository, at most: a changed configuration is noticed so soon.
pub const LOOK_INTERVAL: i64 = 30;
/// A schedule that was carried out further in the future than so many seconds was so by a clock that was wrong.
pub const CLOCK_ERROR_MAX: i64 = 24 * 60 * 60;
/// Missed times that are counted one by one.
const MISSED_COUNTED_MAX: u64 = 10_000;

/// A schedule as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// It makes no snapshots for now.
    pub suspended: bool,
    /// When it is due next, without jitter.
    pub next_due: Option<Timestamp>,
    /// What is remembered of it.
    pub state: ScheduleState,
}

/// Schedules of all repositories.
#[derive(Debug)]
pub struct Schedules {
    records: Arc<Records>,
    entries: Mutex<HashMap<RepositoryId, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    loaded: bool,
    states: BTreeMap<String, ScheduleState>,
    views: Vec<ScheduleView>,
    /// Those whose saves wait or run.
    running: HashSet<String>,
}

impl Schedules {
    /// Those that are remembered in `records`.
    pub fn new(records: Arc<Records>) -> Self {
        Schedules {
            records,
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// The schedules of a repository, as they were seen last, by name.
    pub fn views(&self, repository: RepositoryId) -> Vec<ScheduleView> {
        let entries = self.entries.lock();
        let Some(entry) = entries.get(&repository) else {
            return Vec::new();
        };
        let fresh = |view: &ScheduleView| ScheduleView {
            state: entry.states.get(&view.name).unwrap_or(&view.state).clone(),
            ..view.clone()
        };
        entry.views.iter().map(fresh).collect()
    }

    /// Forgets a repository.
    ///
    /// # Errors
    /// The record cannot be removed.
    pub fn forget(&self, repository: RepositoryId) -> Result<(), DirectoriesError> {
        self.entries.lock().remove(&repository);
        self.records.remove::<ScheduleRecord>(&repository.to_string())
    }

    /// Starts what is due at `now`, with `start`. Says when to look again.
    ///
    /// # Errors
    /// What is remembered cannot be read or written: then nothing was started, or what was started is found again by its key.
    pub fn look(
        &self,
        repository: RepositoryId,
        config: &Config,
        now: Timestamp,
        mut start: impl FnMut(SaveRequest) -> Result<(), DirectoriesError>,
    ) -> Result<Timestamp, DirectoriesError> {
        self.load(repository)?;
        let mut next = Timestamp::new(now.seconds().saturating_add(LOOK_INTERVAL), 0);
        let mut views = Vec::new();
        for (name, schedule) in &config.schedules {
            let (state, is_running) = {
                let mut entries = self.entries.lock();
                let entry = entries.entry(repository).or_default();
                let state = entry.states.get(name).cloned();
                (state, entry.running.contains(name))
            };
            let before = state.clone();
            let mut state = state.unwrap_or_else(|| ScheduleState::begun(now));
            if state.since.seconds() > now.seconds().saturating_add(CLOCK_ERROR_MAX) {
                tracing::warn!(%repository, schedule = name, "the clock has gone back by more than a day: the schedule begins anew");
                state.since = now;
            }
            let missed = pass_over(schedule, &mut state, now);
            if missed > 0 {
                tracing::warn!(%repository, schedule = name, missed, "times of a schedule were missed by more than its deadline");
            }
            let due = schedule.next_after(state.since);
            let seed = [&repository.0[..], name.as_bytes()].concat();
            let starts = due.map(|due| {
                let delay = i64::try_from(schedule.delay(&seed, due)).unwrap_or(0);
                (
                    due,
                    Timestamp::new(due.seconds().saturating_add(delay), due.nanoseconds()),
                )
            });
            match starts {
                Some((due, at)) if at <= now && !is_running => {
                    // Before it begins: it may have ended when it is heard of.
                    self.set_running(repository, name, true);
                    match start(request(name, schedule, due, config)) {
                        Ok(()) => {
                            state.missed = state.missed.saturating_add(times_until(schedule, due, now) - 1);
                            state.runs = state.runs.saturating_add(1);
                            state.last_due = Some(due);
                            state.last_started = Some(now);
                            state.since = now.max(due);
                        }
                        Err(error) => {
                            self.set_running(repository, name, false);
                            let error = with_causes(&error);
                            tracing::warn!(%repository, schedule = name, error, "the save of a schedule cannot be started; it is tried again");
                        }
                    }
                }
                Some((_, at)) if at > now => next = next.min(at),
                Some(_) | None => {}
            }
            views.push(ScheduleView {
                name: name.clone(),
                suspended: schedule.suspend,
                next_due: schedule.next_after(state.since),
                state: state.clone(),
            });
            if before.as_ref() != Some(&state) {
                self.set(repository, name, state)?;
            }
        }
        let gone = {
            let mut entries = self.entries.lock();
            let entry = entries.entry(repository).or_default();
            entry.views = views;
            let before = entry.states.len();
            entry.states.retain(|name, _| config.schedules.contains_key(name));
            entry.states.len() < before
        };
        if gone {
            self.store(repository)?;
        }
        Ok(next)
    }

    /// Says what came of the save of a schedule. What cannot be written down is told in the log.
    pub fn ended(&self, repository: RepositoryId, name: &str, outcome: Result<SnapshotId, String>) {
        let loaded = self.load(repository);
        if let Err(error) = &loaded {
            tracing::error!(%repository, error = with_causes(error), "what schedules were carried out for cannot be read");
        }
        {
            let mut entries = self.entries.lock();
            let entry = entries.entry(repository).or_default();
            entry.running.remove(name);
            if loaded.is_err() {
                return;
            }
            let Some(state) = entry.states.get_mut(name) else {
                return;
            };
            match outcome {
                Ok(snapshot) => {
                    state.last_snapshot = Some(snapshot);
                    state.last_failure.clear();
                }
                Err(mut failure) => {
                    failure.truncate(failure.floor_char_boundary(FAILURE_BYTES_MAX));
                    state.failures = state.failures.saturating_add(1);
                    state.last_failure = failure;
                }
            }
        }
        if let Err(error) = self.store(repository) {
            let error = with_causes(&error);
            tracing::error!(%repository, error, "what a schedule was carried out for cannot be written down");
        }
    }

    /// Says whether the save of a schedule waits or runs. No other one of the schedule begins meanwhile.
    pub fn set_running(&self, repository: RepositoryId, name: &str, is_running: bool) {
        let mut entries = self.entries.lock();
        let entry = entries.entry(repository).or_default();
        match is_running {
            true => entry.running.insert(name.to_owned()),
            false => entry.running.remove(name),
        };
    }

    fn load(&self, repository: RepositoryId) -> Result<(), DirectoriesError> {
        if self
            .entries
            .lock()
            .get(&repository)
            .is_some_and(|entry| entry.loaded)
        {
            return Ok(());
        }
        let states = match self.records.load::<ScheduleRecord>(&repository.to_string()) {
            Ok(record) => record.map(|record| record.schedules).unwrap_or_default(),
            Err(error @ DirectoriesError::RecordDamaged { .. }) => {
                let error = with_causes(&error);
                tracing::error!(%repository, error, "what schedules were carried out for cannot be read: they begin anew");
                BTreeMap::new()
            }
            Err(error) => return Err(error),
        };
        let mut entries = self.entries.lock();
        let entry = entries.entry(repository).or_default();
        if !entry.loaded {
            entry.loaded = true;
            entry.states = states;
        }
        Ok(())
    }

    fn set(
        &self,
        repository: RepositoryId,
        name: &str,
        state: ScheduleState,
    ) -> Result<(), DirectoriesError> {
        {
            let mut entries = self.entries.lock();
            let entry = entries.entry(repository).or_default();
            match entry.states.get_mut(name) {
                // What came of a save may have been said meanwhile.
                Some(present) => {
                    *present = ScheduleState {
                        last_snapshot: present.last_snapshot,
                        failures: present.failures,
                        last_failure: std::mem::take(&mut present.last_failure),
                        ..state
                    }
                }
                None => {
                    entry.states.insert(name.to_owned(), state);
                }
            }
        }
        self.store(repository)
    }

    fn store(&self, repository: RepositoryId) -> Result<(), DirectoriesError> {
        let schedules = match self.entries.lock().get(&repository) {
            Some(entry) => entry.states.clone(),
            None => return Ok(()),
        };
        self.records.store(&ScheduleRecord {
            repository,
            schedules,
        })
    }
}

/// The save of a schedule for a time.
fn request(name: &str, schedule: &Schedule, due: Timestamp, config: &Config) -> SaveRequest {
    SaveRequest {
        note: match &schedule.template {
            Some(_) => String::new(),
            None => format!("schedule {name}"),
        },
        template: schedule.template.clone(),
        key: Some(format!(
            "cairnd/schedule/{name}/{}.{}",
            due.seconds(),
            due.nanoseconds()
        )),
        skip_unchanged: schedule.skip_unchanged,
        schedule: Some(Scheduled {
            name: name.to_owned(),
            due,
        }),
        collect: config.retention.automatic,
        ..SaveRequest::default()
    }
}

/// Passes over the times that are too late, and says how many.
fn pass_over(schedule: &Schedule, state: &mut ScheduleState, now: Timestamp) -> u64 {
    let mut missed = 0;
    while let Some(due) = schedule.next_after(state.since)
        && due <= now
        && schedule.is_too_late(due, now)
    {
        missed += 1;
        state.since = due;
        if missed >= MISSED_COUNTED_MAX {
            state.since = now;
        }
    }
    state.missed = state.missed.saturating_add(missed);
    missed
}

/// How many times of a schedule there are from `due` to `now`, at least one.
fn times_until(schedule: &Schedule, due: Timestamp, now: Timestamp) -> u64 {
    let later = std::iter::successors(Some(due), |last| schedule.next_after(*last));
    let count = later
        .take_while(|time| *time <= now)
        .take(usize::try_from(MISSED_COUNTED_MAX).unwrap_or(usize::MAX))
        .count();
    (count as u64).max(1)
}

#[cfg(test)]
mod tests;
