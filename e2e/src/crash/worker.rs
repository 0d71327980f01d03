//! A worker: does operations in its own directory, one after the other, until the daemon dies; and finds out afterwards
//! what became of them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::model::{Id, State};
use super::observe::{Observed, observe};
use super::operation::{Operation, Outcome};
use super::{Violation, generate};
use crate::client::{Client, Handle};
use crate::random::Random;
use crate::rpc::Record;

/// Moments of a worker while a snapshot is being taken; a longer record is cut at its start.
const HISTORY_MAX: usize = 4096;

/// Latest operations that a violation is told with.
const TRAIL_MAX: usize = 16;

/// What all workers and the killer share while the load runs.
#[derive(Debug, Default)]
pub struct Load {
    acknowledged: AtomicU64,
    kill_after: AtomicU64,
    kill: Notify,
}

impl Load {
    /// A load that asks for the kill right after so many acknowledgements.
    pub fn until(acknowledgements: u64) -> Self {
        let load = Load::default();
        load.kill_after.store(acknowledgements, Ordering::Relaxed);
        load
    }

    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == self.kill_after.load(Ordering::Relaxed) {
            self.kill.notify_one();
        }
    }

    /// Waits until so many operations were acknowledged.
    pub async fn reached(&self) {
        self.kill.notified().await;
    }

    /// Operations that were acknowledged.
    pub fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// A moment of a worker: what was acknowledged, and the operation under way.
#[derive(Debug, Clone)]
pub struct Moment {
    acknowledged: State,
    under_way: Option<Operation>,
}

impl Moment {
    /// What a snapshot may hold that was taken at this moment. If it was acknowledged, it holds all data that was,
    /// committed or not; otherwise it is as good as a crash.
    pub fn candidates(&self, snapshot_acknowledged: bool) -> Vec<State> {
        let before = match snapshot_acknowledged {
            true => self.acknowledged.settled(),
            false => self.acknowledged.clone(),
        };
        let after = self.under_way.as_ref().map(|operation| before.after(operation));
        std::iter::once(before).chain(after).collect()
    }
}

/// What a worker shows to whoever takes snapshots.
#[derive(Debug, Default)]
pub struct Journal {
    latest: Option<Moment>,
    recorded: Option<Vec<Moment>>,
}

impl Journal {
    fn now(&mut self, moment: Moment) {
        if let Some(recorded) = &mut self.recorded {
            recorded.push(moment.clone());
            let excess = recorded.len().saturating_sub(HISTORY_MAX);
            recorded.drain(..excess);
        }
        self.latest = Some(moment);
    }

    /// Begins to record.
    pub fn record(&mut self) {
        self.recorded = Some(self.latest.iter().cloned().collect());
    }

    /// Ends recording: every moment that there was meanwhile.
    pub fn recorded(&mut self) -> Vec<Moment> {
        self.recorded.take().unwrap_or_default()
    }
}

/// A request that was sent, and what it does.
#[derive(Debug, Clone)]
struct Sent {
    operation: Operation,
    record: Record,
    /// The state if it is executed.
    after: State,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    name: String,
    random: Random,
    state: State,
    /// Sent, and not known whether executed.
    pending: Option<Sent>,
    /// The latest acknowledged request that must not be executed twice, with its answer.
    remembered: Option<(Sent, Outcome)>,
    /// What it shows to whoever takes snapshots.
    pub journal: Arc<Mutex<Journal>>,
    /// Its latest operations, for people.
    trail: VecDeque<String>,
    /// Write verifiers that it saw since the daemon started.
    pub verifiers: BTreeSet<[u8; 8]>,
}

impl Worker {
    /// A worker on an empty directory of this name.
    pub fn new(name: String, random: Random) -> Self {
        Worker {
            name,
            random,
            state: State::default(),
            pending: None,
            remembered: None,
            journal: Arc::default(),
            trail: VecDeque::new(),
            verifiers: BTreeSet::new(),
        }
    }

    /// The name of its directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has an operation of which it does not know whether it was executed.
    pub fn is_uncertain(&self) -> bool {
        self.pending.is_some()
    }

    /// What it knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Does operations until the connection is lost.
    pub async fn run(&mut self, client: &Client, load: &Load) -> Result<(), Violation> {
        loop {
            let operation = generate::next(&self.state, &mut self.random);
            if !self.perform(client, operation).await? {
                return Ok(());
            }
            load.acknowledge();
        }
    }

    /// Does `count` operations.
    pub async fn run_some(&mut self, client: &Client, count: usize) -> Result<(), Violation> {
        for _ in 0..count {
            let operation = generate::next(&self.state, &mut self.random);
            if !self.perform(client, operation).await? {
                return Err(self.violation("the connection was lost".to_owned()));
            }
        }
        Ok(())
    }

    /// Whether it was acknowledged.
    async fn perform(&mut self, client: &Client, operation: Operation) -> Result<bool, Violation> {
        let record = operation
            .record(client, &self.state)
            .map_err(|error| self.violation(format!("{}: {error:?}", operation.show())))?;
        let after = self.state.after(&operation);
        self.note(Some(operation.clone()));
        match operation.send(client, record.clone()).await {
            Ok(outcome) => {
                self.verifiers.extend(outcome.verifier);
                self.acknowledge(
                    Sent {
                        operation,
                        record,
                        after,
                    },
                    outcome,
                );
                Ok(true)
            }
            Err(error) if error.is_lost() => {
                self.pending = Some(Sent {
                    operation,
                    record,
                    after,
                });
                Ok(false)
            }
            Err(error) => Err(self.violation(format!("{}: {error:?}", operation.show()))),
        }
    }

    fn acknowledge(&mut self, sent: Sent, outcome: Outcome) {
        let time = outcome.attributes.map(|attributes| attributes.modified);
        self.remark(format!("{}: modified {time:?}", sent.operation.show()));
        self.state = sent.after.clone();
        self.state.acknowledged(&sent.operation, &outcome);
        self.note(None);
        if sent.operation.must_be_remembered() {
            self.remembered = Some((sent, outcome));
        }
    }

    /// After a restart: what is there must be what was acknowledged, with or without the operation under way, which is
    /// then sent again with the same bytes and must succeed; so must the latest acknowledged one, with the same answer.
    pub async fn recover(&mut self, client: &Arc<Client>, directory: &Handle) -> Result<(), Violation> {
        self.verifiers.clear();
        self.remark("the daemon was started".to_owned());
        let observed = self.observe(client, directory).await?;
        let executed = match (self.state.explain(&observed), &self.pending) {
            (Ok(()), _) => false,
            (Err(what), None) => return Err(self.violation(what)),
            (Err(before), Some(sent)) => match sent.after.explain(&observed) {
                Ok(()) => true,
                Err(after) => {
                    let operation = sent.operation.show();
                    return Err(self.violation(format!("without {operation}:\n{before}with it:\n{after}")));
                }
            },
        };
        if let Some(sent) = &self.pending
            && executed
        {
            self.state = sent.after.clone();
        }
        self.state.adopt(&observed);
        if let Some((sent, outcome)) = self.remembered.take() {
            self.repeat_acknowledged(client, &sent, &outcome).await?;
        }
        if let Some(sent) = self.pending.take() {
            self.repeat_pending(client, sent, executed).await?;
        }
        self.note(None);
        Ok(())
    }

    async fn repeat_acknowledged(
        &self,
        client: &Client,
        sent: &Sent,
        first: &Outcome,
    ) -> Result<(), Violation> {
        let show = |what: String| self.violation(format!("{} sent again: {what}", sent.operation.show()));
        let again = sent.operation.send(client, sent.record.clone()).await;
        let again = again.map_err(|error| show(format!("{error:?}")))?;
        match again.handle == first.handle && again.attributes == first.attributes {
            true => Ok(()),
            false => Err(show(format!("{again:?} instead of {first:?}"))),
        }
    }

    async fn repeat_pending(&mut self, client: &Client, sent: Sent, executed: bool) -> Result<(), Violation> {
        let outcome = sent
            .operation
            .send(client, sent.record.clone())
            .await
            .map_err(|error| {
                let done = if executed { "done" } else { "not done" };
                self.violation(format!(
                    "{} ({done}) sent again: {error:?}",
                    sent.operation.show()
                ))
            })?;
        self.verifiers.extend(outcome.verifier);
        // Executed before or only now: either way what it does is done once. Only a write is executed again.
        let again = !executed || matches!(sent.operation, Operation::Write { .. });
        let after = match again {
            true => self.state.after(&sent.operation),
            false => self.state.clone(),
        };
        self.acknowledge(Sent { after, ..sent }, outcome);
        Ok(())
    }

    /// After a quiet moment: what is there must be what is known.
    pub async fn check(&mut self, client: &Arc<Client>, directory: &Handle) -> Result<(), Violation> {
        let observed = self.observe(client, directory).await?;
        self.state.explain(&observed).map_err(|what| self.violation(what))
    }

    /// After a restore: what is there must be one of `candidates`, which becomes what is known.
    pub async fn become_one_of(
        &mut self,
        client: &Arc<Client>,
        directory: &Handle,
        candidates: &[State],
    ) -> Result<(), Violation> {
        let observed = self.observe(client, directory).await?;
        let mut state = one_of(candidates, &observed).map_err(|what| self.violation(what))?;
        state.adopt(&observed);
        self.state = state;
        self.pending = None;
        self.remembered = None;
        self.note(None);
        Ok(())
    }

    async fn observe(&self, client: &Arc<Client>, directory: &Handle) -> Result<Observed, Violation> {
        let root = self.state.inode(Id::ROOT).and_then(|root| root.handle.as_ref());
        if root.is_some_and(|root| root != directory) {
            return Err(self.violation("its directory has another handle".to_owned()));
        }
        observe(client, directory)
            .await
            .map_err(|error| self.violation(format!("{error:?}")))
    }

    fn note(&self, under_way: Option<Operation>) {
        let acknowledged = self.state.clone();
        self.journal.lock().now(Moment {
            acknowledged,
            under_way,
        });
    }

    fn remark(&mut self, what: String) {
        self.trail.truncate(TRAIL_MAX - 1);
        self.trail.push_front(what);
    }

    fn violation(&self, what: String) -> Violation {
        let trail: String = self.trail.iter().map(|line| format!("\n    {line}")).collect();
        Violation::new(
            &self.name,
            &format!("{what}  the latest operations, last first:{trail}"),
        )
    }
}

/// The first of the states that explains what was observed; otherwise what is wrong with the last.
pub fn one_of(candidates: &[State], observed: &Observed) -> Result<State, String> {
    let mut problem = "nothing is known of it".to_owned();
    for candidate in candidates {
        match candidate.explain(observed) {
            Ok(()) => return Ok(candidate.clone()),
            Err(what) => problem = what,
        }
    }
    Err(problem)
}
