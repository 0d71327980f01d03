//! What a byte costs on its way into a pack and back, stage by stage on one thread: cut, identify, compress, decompress; and
//! the chunker with the hash and the compressor behind it, as a whole.
//!
//! The pipeline can be no faster than the sum of its stages on all cores allows; these are the figures to hold it against.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::hint::black_box;

use cairn_content::chunking::{ChunkSizes, Chunker, chunk_id};
use cairn_content::codec::{Compression, Decoder, Encoder};
use cairn_content::pack::{OpenFrame, PackIndex, PackWriter};
use cairn_content::testing::{random, text, weights};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const DATA_BYTES: usize = 16 << 20;
const FRAME_BYTES: usize = 1 << 20;

fn cut(chunker: &Chunker, mut data: &[u8], mut each: impl FnMut(&[u8])) {
    while let Some(length) = chunker.cut(data, true) {
        each(&data[..length]);
        data = &data[length..];
    }
}

fn pack(data: &[u8], chunker: &Chunker, encoder: &mut Encoder) -> usize {
    let mut writer = PackWriter::new();
    let mut frame = OpenFrame::new();
    cut(chunker, data, |chunk| {
        if frame.length() + chunk.len() > FRAME_BYTES {
            let mut full = std::mem::take(&mut frame);
            writer.push(&full.seal(encoder).unwrap()).unwrap();
        }
        frame.push(chunk_id(chunk), chunk).unwrap();
    });
    writer.push(&frame.seal(encoder).unwrap()).unwrap();
    let pack = writer.finish().unwrap();
    assert_eq!(PackIndex::of(&pack.bytes).unwrap(), pack.index);
    pack.bytes.len()
}

fn benches(criterion: &mut Criterion) {
    let noise = random(1, DATA_BYTES);
    let mut group = criterion.benchmark_group("chunks");
    group.throughput(Throughput::Bytes(DATA_BYTES as u64));
    group.sample_size(20);
    for average in [16 << 10, 64 << 10, 256 << 10] {
        let chunker = Chunker::new(ChunkSizes::around(average).unwrap());
        group.bench_function(format!("cut at {} KiB", average >> 10), |bencher| {
            bencher.iter(|| cut(&chunker, &noise, |chunk| _ = black_box(chunk)));
        });
    }
    group.bench_function("identify 64 KiB", |bencher| {
        bencher.iter(|| {
            noise
                .chunks(64 << 10)
                .for_each(|chunk| _ = black_box(chunk_id(chunk)));
        });
    });
    group.finish();

    let kinds = [
        ("noise", noise),
        ("text", text(1, DATA_BYTES)),
        ("bf16", weights(1, DATA_BYTES, 2)),
        ("f32", weights(1, DATA_BYTES, 4)),
    ];
    let chunker = Chunker::new(ChunkSizes::default());
    for (name, data) in &kinds {
        let mut group = criterion.benchmark_group(format!("frames of {name}"));
        group.throughput(Throughput::Bytes(DATA_BYTES as u64));
        group.sample_size(10);
        let mut encoder = Encoder::new(Compression::default()).unwrap();
        let mut stored = vec![Vec::new(); DATA_BYTES / FRAME_BYTES];
        let mut encodings = Vec::new();
        group.bench_function("compress", |bencher| {
            bencher.iter(|| {
                encodings = data
                    .chunks(FRAME_BYTES)
                    .zip(&mut stored)
                    .map(|(frame, out)| encoder.encode(frame, out).unwrap())
                    .collect();
            });
        });
        let bytes: usize = stored.iter().map(Vec::len).sum();
        println!(
            "stored as {:?}, {:.3} of the size",
            encodings.first(),
            bytes as f64 / DATA_BYTES as f64
        );
        let (mut decoder, mut out) = (Decoder::new().unwrap(), Vec::new());
        group.bench_function("decompress", |bencher| {
            bencher.iter(|| {
                for (stored, encoding) in stored.iter().zip(&encodings) {
                    decoder.decode(*encoding, stored, FRAME_BYTES, &mut out).unwrap();
                    black_box(&out);
                }
            });
        });
        group.bench_function("cut, identify, compress, pack", |bencher| {
            bencher.iter(|| black_box(pack(data, &chunker, &mut encoder)));
        });
        group.finish();
    }
}

criterion_group!(pack_benches, benches);
criterion_main!(pack_benches);
