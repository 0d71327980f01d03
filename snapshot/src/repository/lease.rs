//! The lease of a repository: one holder at a time changes anything in it, on whatever machine.
//!
//! A lease is the file `lock/lease-TOKEN.json` with the highest token. Who wants the lease makes the file with the next token, which the
//! file system lets only one of all contenders do, looks that it is the highest, and removes the lower ones. The highest is never
//! removed, so tokens only grow. A lease is free when its file says that it was released, when its holder is a process of this machine
//! that has ended, or when a contender has seen no change of its file for [`LeaseTimes::expire_after`] by its own monotonic clock. The
//! holder renews it in the background; wall clocks decide nothing.
//!
//! A holder that was stopped for longer than that, and goes on, finds a higher token: [`Lease::check`] fails, and it publishes nothing. What
//! it could write between the check and the end of its own system call is bounded by the fence in the [state](super::State), which
//! refuses lower tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use cairn_types::{ErrorKind, Timestamp, hexadecimal};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::control::{ControlDirectory, Creation, Survival};
use super::document::{self, Document};
use super::error::RepositoryError;
use super::host::Host;
use super::layout::{Area, DOCUMENT_BYTES_MAX};
use super::text;

/// A clock that only goes forward, and the way to let it. The real one is [`SystemTicks`].
pub trait Ticks: Send + Sync + 'static {
    /// Time since some moment.
    fn now(&self) -> Duration;
    /// Returns when at least `duration` has passed.
    fn pause(&self, duration: Duration);
}

/// The monotonic clock of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemTicks {
    origin: Instant,
}

impl SystemTicks {
    /// A clock that begins now.
    pub fn new() -> Self {
        SystemTicks {
            origin: Instant::now(),
        }
    }
}

impl Default for SystemTicks {
    fn default() -> Self {
        SystemTicks::new()
    }
}

impl Ticks for SystemTicks {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The times of a lease. All who share a repository use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How often the holder renews it.
    pub renew_every: Duration,
    /// How long a contender sees no renewal before it takes over. At least three times `renew_every`.
    pub expire_after: Duration,
    /// How often a contender looks.
    pub poll_every: Duration,
}

impl Default for LeaseTimes {
    /// Renewed every 10 s, taken over after 30 s, looked at every 50 ms.
    fn default() -> Self {
        LeaseTimes {
            renew_every: Duration::from_secs(10),
            expire_after: Duration::from_secs(30),
            poll_every: Duration::from_millis(50),
        }
    }
}

/// A lease as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRecord {
    /// The fencing token: higher than that of every earlier lease.
    pub token: u64,
    /// 32 hexadecimal digits that this holder drew.
    pub nonce: String,
    /// Who holds it.
    pub holder: Host,
    /// What for: a word, for people.
    pub operation: String,
    /// When it was acquired by the holder's wall clock; for people.
    #[serde(with = "text")]
    pub acquired: Timestamp,
    /// How often it was renewed.
    pub renewals: u64,
    /// The holder has given it back.
    pub released: bool,
}

impl Document for LeaseRecord {
    const KIND: &'static str = "lease";

    fn check(&self) -> Result<(), String> {
        if self.nonce.len() > 64 || self.operation.len() > Host::TEXT_BYTES_MAX {
            return Err("nonce or operation is too long".to_owned());
        }
        self.holder.check()
    }
}

/// Why a lease cannot be had, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else holds it, and did so until the end of the wait.
    #[error("the repository is in use: {operation} by {holder}, for longer than the {} ms that were waited", waited.as_millis())]
    Held {
        /// What the other does.
        operation: String,
        /// Who it is.
        holder: String,
        /// Since when by the other's wall clock; nothing if its lease cannot be read.
        since: Option<Timestamp>,
        /// How long was waited.
        waited: Duration,
    },
    /// Another one took it over: nothing more may be published.
    #[error("the lease with token {token} was taken over by that with token {found}: nothing was published")]
    Lost {
        /// The token of the lost lease.
        token: u64,
        /// The token of the present one.
        found: u64,
    },
    /// The wait was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The file of the lease cannot be read or written.
    #[error("the lease cannot be read or written")]
    File(#[source] Box<RepositoryError>),
    /// The thread that renews it cannot be started.
    #[error("the thread that renews the lease cannot be started")]
    Thread(#[source] std::io::Error),
}

impl LeaseError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LeaseError::Held { .. } | LeaseError::Thread(_) => ErrorKind::Unavailable,
            LeaseError::Lost { .. } | LeaseError::Cancelled => ErrorKind::Conflict,
            LeaseError::File(error) => error.kind(),
        }
    }
}

impl From<RepositoryError> for LeaseError {
    fn from(error: RepositoryError) -> Self {
        LeaseError::File(Box::new(error))
    }
}

/// What a lease is asked for with.
#[derive(Debug, Clone, Copy)]
pub struct LeaseRequest<'a> {
    /// What for: a word, at most 1,024 bytes.
    pub operation: &'a str,
    /// How long to wait for another holder. Zero: only what is free at once is taken.
    pub wait: Duration,
    /// By whom.
    pub host: &'a Host,
    /// When, by the wall clock; for people.
    pub now: Timestamp,
    /// The times of the repository's leases.
    pub times: LeaseTimes,
}

/// A held lease. It is renewed in the background and given back when it is dropped.
pub struct Lease {
    shared: Arc<Shared>,
    stop: Option<SyncSender<()>>,
    renewer: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    control: Arc<ControlDirectory>,
    ticks: Arc<dyn Ticks>,
    times: LeaseTimes,
    /// The record and when it was last written. Held while the file is written, so that a renewal never undoes a release.
    record: Mutex<(LeaseRecord, Duration)>,
}

const PREFIX: &str = "lease-";

fn name_of(token: u64) -> String {
    format!("{PREFIX}{token:020}.json")
}

fn token_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(".json")?;
    let token = digits.parse().ok()?;
    (name_of(token) == name).then_some(token)
}

/// All tokens that have a file.
fn tokens(control: &ControlDirectory) -> Result<Vec<u64>, RepositoryError> {
    let names = control.list(Area::Lock)?;
    Ok(names.iter().filter_map(|name| token_of(name)).collect())
}

/// What a contender found.
enum Look {
    /// Nobody holds a lease; the highest token that was ever given, as far as files tell.
    Free { highest: u64 },
    /// Somebody does.
    Held { token: u64, bytes: Vec<u8> },
}

fn look(control: &ControlDirectory, host: &Host) -> Result<Look, RepositoryError> {
    loop {
        let Some(highest) = tokens(control)?.into_iter().max() else {
            return Ok(Look::Free { highest: 0 });
        };
        // It goes only after a higher one has come: then that one counts.
        let Some(bytes) = control.read(Area::Lock, &name_of(highest), DOCUMENT_BYTES_MAX)? else {
            continue;
        };
        let free = match document::decode::<LeaseRecord>(&bytes) {
            Ok(record) => record.released || host.knows_ended(&record.holder),
            // Nobody knows whose it is: only time tells.
            Err(_) => false,
        };
        return Ok(match free {
            true => Look::Free { highest },
            false => Look::Held {
                token: highest,
                bytes,
            },
        });
    }
}

/// Who holds the lease now; nothing if nobody does. Errors: the file cannot be read, or is damaged.
pub fn holder(control: &ControlDirectory, host: &Host) -> Result<Option<LeaseRecord>, RepositoryError> {
    match look(control, host)? {
        Look::Free { .. } => Ok(None),
        Look::Held { token, .. } => control.load(Area::Lock, &name_of(token)),
    }
}

impl Lease {
    /// Takes the lease as soon as it is free. Errors: it was not free during the wait ([`LeaseError::Held`]), somebody set `cancelled`, I/O.
    pub fn acquire(
        control: &Arc<ControlDirectory>,
        ticks: &Arc<dyn Ticks>,
        request: &LeaseRequest<'_>,
        cancelled: &AtomicBool,
    ) -> Result<Lease, LeaseError> {
        let begun = ticks.now();
        // The lease that was last seen, and since when it has not changed.
        let mut seen: Option<(u64, Vec<u8>, Duration)> = None;
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(LeaseError::Cancelled);
            }
            let now = ticks.now();
            let highest = match look(control, request.host)? {
                Look::Free { highest } => highest,
                Look::Held { token, bytes } => {
                    let same = seen.as_ref().filter(|seen| seen.0 == token && seen.1 == bytes);
                    let since = same.map_or(now, |seen| seen.2);
                    if now.saturating_sub(since) < request.times.expire_after {
                        if now.saturating_sub(begun) >= request.wait {
                            return Err(held(&bytes, request.wait));
                        }
                        seen = Some((token, bytes, since));
                        ticks.pause(request.times.poll_every);
                        continue;
                    }
                    tracing::warn!(token, "the lease of the repository expired and is taken over");
                    token
                }
            };
            if let Some(lease) = Lease::take(control, ticks, request, highest)? {
                return Ok(lease);
            }
        }
    }

    /// Tries to make the lease that follows `highest`. Nothing if another one was faster.
    fn take(
        control: &Arc<ControlDirectory>,
        ticks: &Arc<dyn Ticks>,
        request: &LeaseRequest<'_>,
        highest: u64,
    ) -> Result<Option<Lease>, LeaseError> {
        let record = LeaseRecord {
            token: highest.saturating_add(1),
            nonce: hexadecimal::text(&control.random::<16>()),
            holder: request.host.clone(),
            operation: request.operation.to_owned(),
            acquired: request.now,
            renewals: 0,
            released: false,
        };
        let name = name_of(record.token);
        let bytes = document::encode(&record).map_err(RepositoryError::from)?;
        let written = ticks.now();
        if control.create(Area::Lock, &name, &bytes, Survival::Volatile)? == Creation::Existed {
            return Ok(None);
        }
        let all = tokens(control)?;
        if all.iter().any(|token| *token > record.token) {
            // What was seen to be free is long past: the file is one of those that its successors removed.
            control.unlink(Area::Lock, &name, Survival::Volatile)?;
            return Ok(None);
        }
        for lower in all.into_iter().filter(|token| *token < record.token) {
            control.unlink(Area::Lock, &name_of(lower), Survival::Volatile)?;
        }
        let shared = Arc::new(Shared {
            control: control.clone(),
            ticks: ticks.clone(),
            times: request.times,
            record: Mutex::new((record, written)),
        });
        let (stop, stopped) = sync_channel::<()>(1);
        let theirs = shared.clone();
        let renewer = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(theirs.times.renew_every) == Err(RecvTimeoutError::Timeout) {
                    match theirs.renew() {
                        Ok(()) => {}
                        Err(error @ LeaseError::Lost { .. }) => {
                            tracing::error!(%error, "the lease of the repository is lost");
                            return;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the lease of the repository cannot be renewed now")
                        }
                    }
                }
            });
        let mut lease = Lease {
            shared,
            stop: Some(stop),
            renewer: None,
        };
        // Without its thread the lease is dropped here, and given back by that.
        lease.renewer = Some(renewer.map_err(LeaseError::Thread)?);
        Ok(Some(lease))
    }

    /// The fencing token.
    pub fn token(&self) -> u64 {
        self.shared.record.lock().0.token
    }

    /// What the file of the lease says now.
    pub fn record(&self) -> LeaseRecord {
        self.shared.record.lock().0.clone()
    }

    /// Makes sure that the lease is still held: to be called right before anything is published. Renews it first if that is due. Errors:
    /// another one has taken it over, or nobody can tell; then nothing may be published.
    pub fn check(&self) -> Result<(), LeaseError> {
        let renewed = self.shared.record.lock().1;
        match self.shared.ticks.now().saturating_sub(renewed) > self.shared.times.renew_every * 2 {
            true => self.shared.renew(),
            false => self.shared.check(),
        }
    }

    /// Makes the token higher than `floor`, the highest token that is known otherwise: where the directory of the lease was lost, tokens would
    /// begin anew. Errors: as of [`Lease::check`].
    pub fn raise_above(&self, floor: u64) -> Result<(), LeaseError> {
        let mut record = self.shared.record.lock();
        if record.0.token > floor {
            return Ok(());
        }
        let mut higher = record.0.clone();
        higher.token = floor.saturating_add(1);
        let bytes = document::encode(&higher).map_err(RepositoryError::from)?;
        let control = &self.shared.control;
        // Both files exist for a moment, so that nobody finds the lease free.
        if control.create(Area::Lock, &name_of(higher.token), &bytes, Survival::Volatile)?
            == Creation::Existed
        {
            return Err(LeaseError::Lost {
                token: record.0.token,
                found: higher.token,
            });
        }
        control.unlink(Area::Lock, &name_of(record.0.token), Survival::Volatile)?;
        record.0 = higher;
        Ok(())
    }

    /// Gives the lease back. Errors: it was lost before, or its file cannot be written: then it is taken over when this process has ended or the
    /// lease expires.
    pub fn release(mut self) -> Result<(), LeaseError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), LeaseError> {
        let Some(stop) = self.stop.take() else {
            return Ok(());
        };
        drop(stop);
        if let Some(renewer) = self.renewer.take()
            && renewer.join().is_err()
        {
            tracing::error!("the thread that renewed the lease failed");
        }
        self.shared.check()?;
        let mut record = self.shared.record.lock();
        record.0.released = true;
        self.shared.write(&record.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            tracing::warn!(%error, "the lease of the repository could not be given back");
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({})", self.token())
    }
}

impl Shared {
    fn check(&self) -> Result<(), LeaseError> {
        let token = self.record.lock().0.token;
        match tokens(&self.control)?.into_iter().max() {
            Some(found) if found > token => Err(LeaseError::Lost { token, found }),
            _ => Ok(()),
        }
    }

    fn renew(&self) -> Result<(), LeaseError> {
        {
            let mut record = self.record.lock();
            if record.0.released {
                return Ok(());
            }
            let now = self.ticks.now();
            let mut renewed = record.0.clone();
            renewed.renewals += 1;
            self.write(&renewed)?;
            *record = (renewed, now);
        }
        // After the file is written: who takes over later than this look has seen the renewal.
        self.check()
    }

    fn write(&self, record: &LeaseRecord) -> Result<(), LeaseError> {
        let bytes = document::encode(record).map_err(RepositoryError::from)?;
        let name = name_of(record.token);
        match self
            .control
            .replace(Area::Lock, &name, &bytes, Survival::Volatile)
        {
            // On a full disk it is written where it is. Who reads a mixture finds a damaged lease, which is held, and that it has changed.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                Ok(self.control.overwrite(Area::Lock, &name, &bytes)?)
            }
            written => Ok(written?),
        }
    }
}

fn held(bytes: &[u8], waited: Duration) -> LeaseError {
    match document::decode::<LeaseRecord>(bytes) {
        Ok(record) => LeaseError::Held {
            operation: record.operation,
            holder: record.holder.to_string(),
            since: Some(record.acquired),
            waited,
        },
        Err(damage) => LeaseError::Held {
            operation: "something".to_owned(),
            holder: format!("somebody whose lease is damaged ({damage})"),
            since: None,
            waited,
        },
    }
}
