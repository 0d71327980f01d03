//! Fetching the frames of a round, and decoding what has come.

use std::sync::Arc;

use super::flow::{Decoded, Failure, Flow, Job};
use super::{Inner, Location, ReadSettings};
use crate::objects::{ObjectError, ObjectName, Objects};
use crate::pack::PackId;
use crate::store::name::pack_name;

/// Frames of a pack that are fetched by one request, by offset.
struct Fetch {
    /// When the first of its frames is needed.
    turn: usize,
    pack: PackId,
    start: u64,
    end: u64,
    jobs: Vec<Job>,
}

/// Begins to fetch the frames of a round: neighbours together, what is needed first, first.
pub(super) fn fetch_round(
    inner: &Arc<Inner>,
    flow: &Arc<Flow>,
    settings: &ReadSettings,
    round: Vec<(Location, Job)>,
) {
    let mut frames: Vec<(usize, (Location, Job))> = round.into_iter().enumerate().collect();
    frames.sort_by_key(|(_, (_, job))| (job.frame.key.0, job.frame.entry.offset));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (turn, (location, job)) in frames {
        let start = u64::from(job.frame.entry.offset);
        let end = start + u64::from(job.frame.entry.stored);
        let joined = fetches.last_mut().filter(|last| {
            last.pack == location.pack
                && start.saturating_sub(last.end) <= settings.gap_bytes_max as u64
                && end - last.start <= settings.fetch_bytes_max as u64
        });
        match joined {
            Some(last) => {
                last.turn = last.turn.min(turn);
                last.end = end;
                last.jobs.push(job);
            }
            None => fetches.push(Fetch {
                turn,
                pack: location.pack,
                start,
                end,
                jobs: vec![job],
            }),
        }
    }
    fetches.sort_by_key(|fetch| fetch.turn);
    for fetch in fetches {
        let (objects, flow) = (inner.objects.clone(), flow.clone());
        let permits = flow.in_flight.clone();
        let handed = flow.clone();
        let task = inner.runtime.spawn(async move {
            // The semaphore is never closed; if it were, going on without a place would be right.
            let _place = permits.acquire().await.ok();
            run(&objects, &handed, fetch).await;
        });
        flow.remember(task.abort_handle());
    }
}

async fn run(objects: &Objects, flow: &Flow, mut fetch: Fetch) {
    let name = match pack_name(&fetch.pack) {
        Ok(name) => name,
        Err(error) => return fail(fetch.jobs, error.into()),
    };
    match objects.get_range(&name, fetch.start..fetch.end).await {
        Ok(bytes) => {
            for mut job in fetch.jobs {
                let start = (u64::from(job.frame.entry.offset) - fetch.start) as usize;
                job.stored = bytes.slice(start..start + job.frame.entry.stored as usize);
                flow.give(job);
            }
        }
        // The pack is cut off, but perhaps behind some of the frames.
        Err(ObjectError::Short { .. }) if fetch.jobs.len() > 1 => {
            for job in fetch.jobs.drain(..) {
                run_one(objects, flow, &name, job).await;
            }
        }
        Err(error) => fail(fetch.jobs, error),
    }
}

async fn run_one(objects: &Objects, flow: &Flow, name: &ObjectName, mut job: Job) {
    let start = u64::from(job.frame.entry.offset);
    let range = start..start + u64::from(job.frame.entry.stored);
    match objects.get_range(name, range).await {
        Ok(bytes) => {
            job.stored = bytes;
            flow.give(job);
        }
        Err(error) => fail(vec![job], error),
    }
}

fn fail(jobs: Vec<Job>, error: ObjectError) {
    let error = Arc::new(error);
    for job in jobs {
        job.frame.fill(Err(Failure::Fetch(error.clone())));
    }
}

/// A decoder.
pub(super) fn decode(inner: &Inner, flow: &Flow) {
    let _guard = StopOnPanic(flow);
    while let Some(job) = flow.take() {
        let outcome = decode_one(inner, &job);
        // What was not decoded is a part of what was fetched, and would keep all of that.
        let part = |decoded: &Decoded| decoded.bytes.as_ptr() == job.stored.as_ptr();
        if let Ok(decoded) = &outcome
            && !part(decoded)
        {
            inner.frames.insert(job.frame.key, decoded.bytes.clone());
        }
        job.frame.fill(outcome);
    }
}

fn decode_one(inner: &Inner, job: &Job) -> Result<Decoded, Failure> {
    let decoded = inner.decoding.frame(&job.frame.entry, &job.stored);
    let bytes = decoded
        .map_err(|error| Failure::Memory(Arc::new(error)))?
        .map_err(|error| Failure::Pack(Arc::new(error)))?;
    // What is not right is left to its taker, who finds it again and says so.
    let right = |(offset, length, id): &(u32, u32, cairn_types::ChunkId)| {
        let start = *offset as usize;
        let data = bytes.get(start..start + *length as usize);
        data.is_some_and(|data| inner.decoding.is_chunk(data, id))
    };
    let wanted = job.frame.wanted();
    let verified = wanted
        .iter()
        .filter(|chunk| right(chunk))
        .map(|(offset, ..)| *offset)
        .collect();
    Ok(Decoded { bytes, verified })
}

/// A decoder that panics may not leave others waiting for what is in the queue.
struct StopOnPanic<'a>(&'a Flow);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}
