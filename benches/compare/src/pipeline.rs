//! The pipeline that archives go through, beside each of its stages alone: what it reaches of its slowest stage, and what
//! memory it takes, whatever the input.
//!
//! The input is made of one block of text, noise and tensors that is changed a little each time it comes, so that no chunk comes
//! twice. Packs are thrown away: disks and networks are measured elsewhere.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use cairn_content::chunking::{ChunkSizes, Chunker, chunk_id};
use cairn_content::codec::{Compression, Encoder};
use cairn_content::pack::SealedPack;
use cairn_content::pipeline::{PackStore, Pipeline, PipelineSettings, Run, RunSink, StoreError};
use cairn_e2e::random::Random;
use cairn_types::ChunkId;
use clap::{Args, ValueEnum};

use crate::archive::content::{Text, noise};

/// Bytes of the block.
const BLOCK: usize = 64 << 20;
/// One byte in so many is changed each time.
const CHANGED_EVERY: usize = 8 << 10;
/// Bytes of a frame.
const FRAME: usize = 1 << 20;

/// What the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Input {
    /// Text alone.
    Text,
    /// Noise alone.
    Noise,
    /// Stretches of 1 MiB of text and of noise by turns.
    Half,
}

/// What is measured.
#[derive(Debug, Args)]
pub struct PipelineArguments {
    /// Sizes of the input in GiB: one run each
    #[arg(long, default_values_t = [1, 4])]
    gib: Vec<u64>,
    /// What the input is made of
    #[arg(long, value_enum, default_values_t = [Input::Half, Input::Text, Input::Noise])]
    input: Vec<Input>,
    /// The level of zstd
    #[arg(long, default_value_t = 3)]
    level: i32,
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Input::Text => "text",
            Input::Noise => "noise",
            Input::Half => "half",
        })
    }
}

fn block(input: Input) -> Vec<u8> {
    let mut random = Random::new(1);
    let text = Text::new(&mut random);
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        let of_text = match input {
            Input::Text => true,
            Input::Noise => false,
            Input::Half => (block.len() / FRAME).is_multiple_of(2),
        };
        let part = match of_text {
            true => text.bytes(&mut random, FRAME),
            false => noise(&mut random, FRAME),
        };
        block.extend_from_slice(&part);
    }
    block
}

fn change(block: &mut [u8]) {
    block
        .iter_mut()
        .step_by(CHANGED_EVERY)
        .for_each(|byte| *byte = byte.wrapping_add(1));
}

/// A store that keeps nothing.
struct Nowhere;

impl PackStore for Nowhere {
    fn contains(&self, _: &ChunkId) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn store(&self, _: SealedPack) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Ignored;

impl RunSink for Ignored {
    fn run(&mut self, _: Run) {}
    fn end_of_file(&mut self) {}
}

fn lengths(block: &[u8]) -> Vec<usize> {
    let chunker = Chunker::new(ChunkSizes::default());
    let (mut rest, mut lengths) = (block, Vec::new());
    while let Some(length) = chunker.cut(rest, true) {
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

/// Bytes a second of some work on the block on so many threads, each on a copy of its own.
fn rate(
    threads: usize,
    block: &[u8],
    work: impl Fn(&[u8]) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<f64> {
    let copies: Vec<Vec<u8>> = (0..threads).map(|_| block.to_vec()).collect();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> = copies.iter().map(|copy| scope.spawn(|| work(copy))).collect();
        running.into_iter().try_for_each(|thread| {
            let outcome = thread.join();
            outcome.map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    })?;
    Ok((threads * block.len()) as f64 / started.elapsed().as_secs_f64())
}

/// The most memory of this process that was resident since the last call, in bytes.
fn peak() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .context("no VmHWM in /proc/self/status")?
        .trim()
        .parse()?;
    std::fs::write("/proc/self/clear_refs", "5")?;
    Ok(kib << 10)
}

pub fn run(arguments: &PipelineArguments) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let compression = Compression::Zstd(arguments.level);
    let mib = |rate: f64| rate / f64::from(1 << 20);
    println!("| input | stage | MiB/s on {threads} threads |\n| --- | --- | --- |");
    let mut rows = Vec::new();
    for input in &arguments.input {
        let mut data = block(*input);
        let cut = rate(1, &data, |block| {
            std::hint::black_box(lengths(block));
            Ok(())
        })?;
        let pieces = lengths(&data);
        let hash = rate(threads, &data, |block| {
            let mut at = 0;
            for length in &pieces {
                std::hint::black_box(chunk_id(&block[at..at + length]));
                at += length;
            }
            Ok(())
        })?;
        let compress = rate(threads, &data, |block| {
            let mut encoder = Encoder::new(compression)?;
            let mut out = Vec::new();
            for frame in block.chunks(FRAME) {
                out.clear();
                std::hint::black_box(encoder.encode(frame, &mut out)?);
            }
            Ok(())
        })?;
        println!("| {input} | cut (one thread) | {:.0} |", mib(cut));
        println!("| {input} | identify | {:.0} |", mib(hash));
        println!("| {input} | compress | {:.0} |", mib(compress));
        let slowest = cut.min(hash).min(compress);
        let together = 1.0 / (1.0 / (cut * threads as f64) + 1.0 / hash + 1.0 / compress);
        for gib in &arguments.gib {
            peak()?;
            let settings = PipelineSettings {
                compression,
                ..PipelineSettings::default()
            };
            let pipeline = Pipeline::start(settings, Arc::new(Nowhere))?;
            let started = Instant::now();
            let mut feeder = pipeline.feeder(Ignored);
            let mut fed = 0u64;
            while fed < gib << 30 {
                feeder.write(&data)?;
                fed += data.len() as u64;
                change(&mut data);
            }
            feeder.end_file()?;
            feeder.finish()?;
            let totals = pipeline.finish()?;
            let reached = totals.bytes as f64 / started.elapsed().as_secs_f64();
            let memory = peak()? - data.len() as u64;
            rows.push(format!(
                "| {input} | {gib} | {:.0} | {:.2} | {:.2} | {:.3} | {} |",
                mib(reached),
                reached / slowest,
                reached / together,
                totals.stored_bytes as f64 / totals.bytes as f64,
                memory >> 20,
            ));
        }
    }
    println!(
        "\n| input | GiB | pipeline, MiB/s | of the slowest stage alone | of all stages on all cores | stored | peak MiB without the input |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    );
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}
