//! The side of the thread that reads: cuts, batches, and hears in order what became of it.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;

use super::workers::{Batch, Pipeline};
use super::{PipelineError, PipelineSettings, Run, RunSink};
use crate::chunking::Chunker;

/// Most files that end in one batch: files without bytes would gather without end.
const FILES_PER_BATCH_MAX: usize = 4096;

/// Feeds one pipeline from one thread. Several feeders may feed the same pipeline.
pub struct Feeder<'a, S> {
    pipeline: &'a Pipeline,
    chunker: Chunker,
    sink: S,
    /// Chunks, and from `cut` on what is not cut yet.
    buffer: Vec<u8>,
    cut: usize,
    lengths: Vec<u32>,
    /// After how many of `lengths` a file ends, in order; a number may come again, for files without bytes.
    ends: Vec<usize>,
    outstanding: VecDeque<Outstanding>,
}

/// A batch on its way.
struct Outstanding {
    runs: Receiver<Vec<Run>>,
    ends: Vec<usize>,
}

impl<'a, S: RunSink> Feeder<'a, S> {
    pub(super) fn new(pipeline: &'a Pipeline, sink: S) -> Self {
        Feeder {
            chunker: Chunker::new(pipeline.settings().chunk_sizes),
            sink,
            buffer: Vec::new(),
            cut: 0,
            lengths: Vec::new(),
            ends: Vec::new(),
            outstanding: VecDeque::new(),
            pipeline,
        }
    }

    /// More bytes of the current file. Waits while the pipeline is busy. Errors: those of the pipeline.
    pub fn write(&mut self, mut data: &[u8]) -> Result<(), PipelineError> {
        // So much that a batch is full, and the chunk that fills it can be cut, whatever it is.
        let settings = self.settings();
        let room = settings.frame_bytes + settings.chunk_sizes.maximum() as usize;
        while !data.is_empty() {
            self.buffer.reserve_exact(room.saturating_sub(self.buffer.len()));
            let (now, later) = data.split_at(data.len().min(room - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            self.cut_chunks(false)?;
        }
        Ok(())
    }

    /// The current file ends; the next begins. Errors: those of the pipeline.
    pub fn end_file(&mut self) -> Result<(), PipelineError> {
        self.cut_chunks(true)?;
        self.ends.push(self.lengths.len());
        if self.ends.len() >= FILES_PER_BATCH_MAX {
            self.submit()?;
        }
        Ok(())
    }

    /// Waits until the sink has heard of every file that has ended. Errors: those of the pipeline.
    pub fn flush(&mut self) -> Result<(), PipelineError> {
        self.submit()?;
        while !self.outstanding.is_empty() {
            self.hear()?;
        }
        Ok(())
    }

    /// Waits until the sink has heard everything, and gives it back. Bytes behind the last [`Feeder::end_file`] are of
    /// no complete file: the sink may have heard of some of them. Nothing is durable before [`Pipeline::finish`]. Errors: those of the pipeline.
    pub fn finish(mut self) -> Result<S, PipelineError> {
        self.flush()?;
        Ok(self.sink)
    }

    fn settings(&self) -> &PipelineSettings {
        self.pipeline.settings()
    }

    /// Cuts what can be cut. Afterwards the buffer has room.
    fn cut_chunks(&mut self, end: bool) -> Result<(), PipelineError> {
        while let Some(length) = self.chunker.cut(&self.buffer[self.cut..], end) {
            self.cut += length;
            self.lengths.push(length as u32);
            if self.cut >= self.settings().frame_bytes {
                self.submit()?;
            }
        }
        Ok(())
    }

    /// Hands on what is cut.
    fn submit(&mut self) -> Result<(), PipelineError> {
        if self.lengths.is_empty() && self.ends.is_empty() {
            return Ok(());
        }
        let mut rest = self.pipeline.spare_buffer();
        rest.extend_from_slice(&self.buffer[self.cut..]);
        let mut data = std::mem::replace(&mut self.buffer, rest);
        data.truncate(self.cut);
        self.cut = 0;
        let lengths = std::mem::take(&mut self.lengths);
        let ends = std::mem::take(&mut self.ends);
        while self.outstanding.len() >= self.pipeline.batches_max() {
            self.hear()?;
        }
        let (batch, runs) = Batch::new(data, lengths);
        self.pipeline.submit(batch)?;
        self.outstanding.push_back(Outstanding { runs, ends });
        Ok(())
    }

    /// Waits for the oldest batch and tells the sink.
    fn hear(&mut self) -> Result<(), PipelineError> {
        let Some(Outstanding { runs, ends }) = self.outstanding.pop_front() else {
            return Ok(());
        };
        // Whoever cannot say what became of a batch has stopped.
        let runs = runs.recv().map_err(|_| self.pipeline.stopped())?;
        let mut ends = ends.into_iter().peekable();
        for number in 0..=runs.len() {
            while ends.next_if_eq(&number).is_some() {
                self.sink.end_of_file();
            }
            if let Some(run) = runs.get(number) {
                self.sink.run(*run);
            }
        }
        Ok(())
    }
}
