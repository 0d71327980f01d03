//! Snapshots that a crash test took, and what they must hold.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use parking_lot::Mutex;

use super::model::State;
use super::observe::observe;
use super::worker::{Journal, Worker, one_of};
use super::{Boot, WORKSPACE};
use crate::control::Control;
use crate::random::Random;

/// The workspace that a snapshot is forked to.
const FORK: &str = "crash-check";
/// Snapshots that the last check looks at; of more, the latest.
const LAST_CHECK_MAX: usize = 40;

/// A snapshot.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its identity.
    pub id: String,
    /// What each worker's directory may be in it.
    pub candidates: Vec<Vec<State>>,
}

/// A snapshot that was asked for.
#[derive(Debug)]
pub struct Attempt {
    note: String,
    journals: Vec<Arc<Mutex<Journal>>>,
    id: Option<String>,
}

impl Attempt {
    /// Takes the snapshot while the journals record.
    pub async fn take(mut self, control: &Control) -> Attempt {
        for journal in &self.journals {
            journal.lock().record();
        }
        // An error is no verdict: the daemon may have been killed at any point.
        let taken = control.snapshot(WORKSPACE, &self.note, &["crash"]).await;
        self.id = taken.ok().map(|snapshot| snapshot.id);
        self
    }
}

/// All snapshots of a crash test.
#[derive(Debug, Default)]
pub struct Snapshots {
    taken: Vec<Taken>,
    /// Asked for and not acknowledged, with its note.
    uncertain: Option<(String, Vec<Vec<State>>)>,
    attempts: u64,
    journals: Vec<Arc<Mutex<Journal>>>,
}

impl Snapshots {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Some snapshot.
    pub fn choose(&self, random: &mut Random) -> Option<Taken> {
        random.pick(&self.taken).cloned()
    }

    /// A snapshot to be taken under load.
    pub fn attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt {
            note: format!("attempt {}", self.attempts),
            journals: self.journals.clone(),
            id: None,
        }
    }

    /// Notes what became of an attempt.
    pub fn add(&mut self, attempt: Attempt) {
        let acknowledged = attempt.id.is_some();
        let candidates = attempt.journals.iter().map(|journal| {
            let moments = journal.lock().recorded();
            moments
                .iter()
                .flat_map(|moment| moment.candidates(acknowledged))
                .collect()
        });
        let candidates = candidates.collect();
        match attempt.id {
            Some(id) => self.taken.push(Taken { id, candidates }),
            None => self.uncertain = Some((attempt.note, candidates)),
        }
    }

    /// Notes the snapshot that a restore took of what it replaced.
    pub fn add_safety(&mut self, id: String, workers: &[Worker]) {
        let candidates = workers
            .iter()
            .map(|worker| vec![worker.state().clone()])
            .collect();
        self.taken.push(Taken { id, candidates });
    }

    /// After a restart: every acknowledged snapshot must be listed. One that was not acknowledged may be.
    pub async fn recover(&mut self, boot: &Boot, workers: &[Worker]) -> anyhow::Result<()> {
        self.journals = workers.iter().map(|worker| worker.journal.clone()).collect();
        let history = boot.control.history(WORKSPACE).await?;
        let listed: HashMap<&str, &str> = history
            .iter()
            .map(|snapshot| (snapshot.id.as_str(), snapshot.note.as_str()))
            .collect();
        if let Some(lost) = self
            .taken
            .iter()
            .find(|taken| !listed.contains_key(taken.id.as_str()))
        {
            bail!("snapshot {} was acknowledged and is not listed", lost.id);
        }
        if let Some((note, candidates)) = self.uncertain.take() {
            let made = history.iter().find(|snapshot| snapshot.note == note);
            if let Some(made) = made {
                self.taken.push(Taken {
                    id: made.id.clone(),
                    candidates,
                });
            }
        }
        Ok(())
    }

    /// Checks a random snapshot; whether there was one.
    pub async fn check_one(
        &mut self,
        boot: &Boot,
        random: &mut Random,
        workers: &[Worker],
    ) -> anyhow::Result<bool> {
        if self.taken.is_empty() {
            return Ok(false);
        }
        let index = random.below(self.taken.len() as u64) as usize;
        self.check(boot, index, workers).await?;
        Ok(true)
    }

    /// Checks the latest snapshots; how many.
    pub async fn check_all(&mut self, boot: &Boot, workers: &[Worker]) -> anyhow::Result<u64> {
        let first = self.taken.len().saturating_sub(LAST_CHECK_MAX);
        for index in first..self.taken.len() {
            self.check(boot, index, workers).await?;
        }
        Ok((self.taken.len() - first) as u64)
    }

    /// Forks a snapshot and compares what is there with what may be. From then on it must stay that.
    async fn check(&mut self, boot: &Boot, index: usize, workers: &[Worker]) -> anyhow::Result<()> {
        let taken = &mut self.taken[index];
        let shown = || format!("fork of snapshot {} (the {index}th)", taken.id);
        boot.control.delete_if_there(FORK).await.with_context(shown)?;
        boot.control
            .fork(WORKSPACE, &taken.id, FORK)
            .await
            .with_context(shown)?;
        let client = boot.client().await?;
        for (worker, candidates) in workers.iter().zip(&mut taken.candidates) {
            let directory = boot.directory(&client, FORK, worker.name()).await?;
            let observed = observe(&client, &directory).await?;
            let without_handles: Vec<State> = candidates.iter().map(State::without_handles).collect();
            let mut state = match one_of(&without_handles, &observed) {
                Ok(state) => state,
                Err(what) => bail!(
                    "snapshot {} (the {index}th), {}:\n{what}",
                    taken.id,
                    worker.name()
                ),
            };
            state.adopt(&observed);
            *candidates = vec![state.without_handles()];
        }
        boot.control
            .delete(FORK)
            .await
            .with_context(|| format!("deleting {FORK}"))?;
        Ok(())
    }
}
