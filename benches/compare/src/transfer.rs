//! Uploads and downloads beside a plain parallel PUT and GET of the same bytes to the same S3 server, with the same number of
//! requests at once. The plain ones move bytes that are in memory and do nothing else with them; ours cuts, identifies,
//! packs and verifies. The bytes are noise, so that as many come out as go in.
//!
//! The server runs in this process and shares the processors with the client, a process of its own.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use cairn_benches::Chance;
use cairn_content::codec::Compression;
use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects};
use cairn_content::pipeline::{Pipeline, PipelineSettings, Run, RunSink};
use cairn_content::sealing::Sealing;
use cairn_content::store::{ChunkStore, ChunkStoreParts, ChunkStoreSettings, ReadSettings};
use cairn_e2e::random::Random;
use cairn_types::ChunkId;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as ObjectPath;
use tokio::runtime::Runtime;

use crate::archive::content::noise;
use crate::archive::server::{ACCESS_KEY, BUCKET, REGION, S3Server, SECRET_KEY};

/// Bytes of an object.
const OBJECT: usize = 16 << 20;

/// What is measured.
#[derive(Debug, Args)]
pub struct TransferArguments {
    /// Bytes to move, in MiB
    #[arg(long, default_value_t = 512)]
    mib: usize,
    /// Requests at once
    #[arg(long, default_value_t = 4)]
    requests: usize,
    /// Turns of each; medians are shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The server; one is started without it
    #[arg(long, hide = true)]
    endpoint: Option<String>,
}

pub fn run(arguments: &TransferArguments) -> anyhow::Result<()> {
    if let Some(endpoint) = &arguments.endpoint {
        return measure(arguments, endpoint);
    }
    let runtime = Runtime::new()?;
    let directory = cairn_benches::directory()?;
    let server = S3Server::start(&runtime, directory.path())?;
    let status = Command::new(std::env::current_exe()?)
        .arg("transfer")
        .args(["--mib", &arguments.mib.to_string()])
        .args(["--requests", &arguments.requests.to_string()])
        .args(["--rounds", &arguments.rounds.to_string()])
        .args(["--endpoint", &server.endpoint])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", REGION)
        .status()?;
    ensure!(status.success(), "the client failed: {status}");
    Ok(())
}

/// The chunks in the order in which they were fed.
#[derive(Default)]
struct Chunks(Vec<(ChunkId, u32)>);

impl RunSink for Chunks {
    fn run(&mut self, run: Run) {
        if let Run::Chunk(id, length) = run {
            self.0.push((id, length));
        }
    }

    fn end_of_file(&mut self) {}
}

fn measure(arguments: &TransferArguments, endpoint: &str) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let mut random = Random::new(7);
    let mut taken = [const { Vec::new() }; 4];
    for round in 0..arguments.rounds {
        let data = Bytes::from(noise(&mut random, arguments.mib << 20));
        let plain = plain(&runtime, arguments, endpoint, round, &data)?;
        let ours = ours(&runtime, arguments, endpoint, round, &data)?;
        for (times, found) in taken.iter_mut().zip([plain.0, ours.0, plain.1, ours.1]) {
            times.push(found);
        }
    }
    let rates = taken.map(|mut times| {
        times.sort_by(f64::total_cmp);
        arguments.mib as f64 / times[times.len() / 2]
    });
    println!(
        "Medians of {} rounds of {} MiB, {} requests at once, MiB/s\n\n| | plain | cairn | cairn / plain |\n| --- | --- | --- | --- |\n\
         | upload | {:.0} | {:.0} | {:.2} |\n| download | {:.0} | {:.0} | {:.2} |",
        arguments.rounds,
        arguments.mib,
        arguments.requests,
        rates[0],
        rates[1],
        rates[1] / rates[0],
        rates[2],
        rates[3],
        rates[3] / rates[2],
    );
    Ok(())
}

/// Seconds of a parallel PUT and of a parallel GET.
fn plain(
    runtime: &Runtime,
    arguments: &TransferArguments,
    endpoint: &str,
    round: usize,
    data: &Bytes,
) -> anyhow::Result<(f64, f64)> {
    let store = AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_bucket_name(BUCKET)
        .with_allow_http(true)
        .build()?;
    let objects: Vec<(ObjectPath, Bytes)> = (0..data.len().div_ceil(OBJECT))
        .map(|number| {
            let name = ObjectPath::from(format!("plain-{round}/{number}"));
            (
                name,
                data.slice(number * OBJECT..data.len().min((number + 1) * OBJECT)),
            )
        })
        .collect();
    let started = Instant::now();
    runtime.block_on(
        stream::iter(&objects)
            .map(|(name, part)| store.put(name, part.clone().into()))
            .buffer_unordered(arguments.requests)
            .try_for_each(async |_| Ok(())),
    )?;
    let put = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let got: usize = runtime.block_on(
        stream::iter(&objects)
            .map(async |(name, _)| store.get(name).await?.bytes().await)
            .buffer_unordered(arguments.requests)
            .try_fold(0, async |sum, part| Ok(sum + part.len())),
    )?;
    ensure!(got == data.len(), "{got} bytes came back");
    Ok((put, started.elapsed().as_secs_f64()))
}

/// Seconds of storing the same bytes as chunks, durably, and of reading them, verified.
fn ours(
    runtime: &Runtime,
    arguments: &TransferArguments,
    endpoint: &str,
    round: usize,
    data: &Bytes,
) -> anyhow::Result<(f64, f64)> {
    let url = ObjectStoreUrl::parse(&format!("s3://{BUCKET}/cairn-{round}"))?;
    let options = ObjectOptions {
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..ObjectOptions::default()
    };
    let cache = cairn_benches::directory()?;
    let parts = ChunkStoreParts {
        objects: Objects::open(&url, options, Arc::new(Chance::default()))?,
        runtime: runtime.handle().clone(),
        cache: cache.path().join("cache"),
        sealing: Sealing::plain(),
    };
    let store = ChunkStore::open(parts, ChunkStoreSettings::default())?;
    let settings = PipelineSettings {
        compression: Compression::default(),
        pack_bytes: OBJECT,
        stores_max: arguments.requests,
        ..PipelineSettings::default()
    };
    let started = Instant::now();
    let pipeline = Pipeline::start(settings, Arc::new(store.clone()))?;
    let mut feeder = pipeline.feeder(Chunks::default());
    feeder.write(data)?;
    feeder.end_file()?;
    let chunks = feeder.finish()?.0;
    pipeline.finish()?;
    let put = started.elapsed().as_secs_f64();
    let settings = ReadSettings {
        fetches_in_flight: arguments.requests,
        ..ReadSettings::default()
    };
    let started = Instant::now();
    let mut got = 0;
    for chunk in store.read_ordered(chunks.into_iter(), settings)? {
        got += chunk?.len();
    }
    ensure!(got == data.len(), "{got} bytes came back");
    Ok((put, started.elapsed().as_secs_f64()))
}
