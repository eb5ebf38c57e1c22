//! Sequential and random reads and writes of a dynamic VHDX in a file.
//!
//! What is timed is checked before: what was written is found again, by this crate and in the
//! blocks' own places. Nothing waits for the medium, so it is the format that is timed.
#![expect(
    clippy::expect_used,
    reason = "what is timed has nobody to hand an error to"
)]

use std::error::Error;
use std::fs::File;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use vhd_format::storage::WithoutFlush;
use vhd_format::vhdx::{BlockState, Parameters, Vhdx};

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Disk = Vhdx<WithoutFlush<File>>;

/// The part of the disk that is read and written: 64 blocks.
const PART: u64 = 64 << 20;
const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;
/// Random places for each iteration.
const PLACES: usize = 1024;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let block = noise(BLOCK);
    check(&block)?;
    sequential(&mut criterion, &block)?;
    random(&mut criterion, &block)?;
    criterion.final_summary();
    Ok(())
}

/// A new disk, much larger than what will be in it.
fn create() -> Result<Disk> {
    let parameters = Parameters::new(64 << 30).block_size(BLOCK as u32);
    Ok(Vhdx::create(
        WithoutFlush(tempfile::tempfile()?),
        &parameters,
    )?)
}

fn filled(block: &[u8]) -> Result<Disk> {
    let mut disk = create()?;
    fill(&mut disk, block)?;
    Ok(disk)
}

/// Writes all blocks of the part in order.
fn fill(disk: &mut Disk, block: &[u8]) -> Result<()> {
    for start in (0..PART).step_by(BLOCK) {
        disk.write_at(start, block)?;
    }
    Ok(())
}

/// Reads all blocks of the part in order.
fn read_all(disk: &Disk, buffer: &mut [u8]) -> Result<()> {
    for start in (0..PART).step_by(BLOCK) {
        disk.read_at(start, buffer)?;
        black_box(&*buffer);
    }
    Ok(())
}

/// That what is timed does what it should.
fn check(block: &[u8]) -> Result<()> {
    let mut disk = filled(block)?;
    let mut buffer = vec![0; BLOCK];
    for (number, start) in (0..PART).step_by(BLOCK).enumerate() {
        disk.read_at(start, &mut buffer)?;
        assert!(buffer == block, "block {number} holds other bytes");
        assert_eq!(disk.block_state(number as u64)?.0, BlockState::FullyPresent);
    }
    for place in places() {
        disk.write_at(place, &block[..PAGE])?;
        disk.read_at(place, &mut buffer[..PAGE])?;
        assert!(buffer[..PAGE] == block[..PAGE], "other bytes at {place}");
    }
    assert!(places().all(|place| place + PAGE as u64 <= PART));
    let disk = Vhdx::open(disk.close()?)?;
    let mut damage = Vec::new();
    disk.check(|finding| damage.push(finding))?;
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!(disk.allocated_blocks()?, PART / BLOCK as u64);
    Ok(())
}

fn sequential(criterion: &mut Criterion, block: &[u8]) -> Result<()> {
    let mut group = criterion.benchmark_group("vhdx-sequential");
    group.throughput(Throughput::Bytes(PART));
    group.sample_size(10);
    group.bench_function("write-new-blocks", |bencher| {
        bencher.iter_batched(
            || create().expect("a disk"),
            |mut disk| {
                fill(&mut disk, block).expect("written");
                disk.close().expect("closed")
            },
            BatchSize::PerIteration,
        );
    });
    let mut disk = filled(block)?;
    group.bench_function("write", |bencher| {
        bencher.iter(|| fill(&mut disk, block).expect("written"));
    });
    let mut buffer = vec![0; BLOCK];
    group.bench_function("read", |bencher| {
        bencher.iter(|| read_all(&disk, &mut buffer).expect("read"));
    });
    group.finish();
    Ok(())
}

fn random(criterion: &mut Criterion, block: &[u8]) -> Result<()> {
    let mut group = criterion.benchmark_group("vhdx-random");
    group.throughput(Throughput::Elements(PLACES as u64));
    let mut disk = filled(block)?;
    group.bench_function("write-4k", |bencher| {
        bencher.iter(|| {
            for place in places() {
                disk.write_at(place, &block[..PAGE]).expect("written");
            }
        });
    });
    let mut page = [0; PAGE];
    group.bench_function("read-4k", |bencher| {
        bencher.iter(|| {
            for place in places() {
                disk.read_at(place, &mut page).expect("read");
                black_box(&page);
            }
        });
    });
    // A page in each block of a new disk: every write allocates.
    group.sample_size(10);
    group.throughput(Throughput::Elements(PART / BLOCK as u64));
    group.bench_function("write-4k-new-blocks", |bencher| {
        bencher.iter_batched(
            || create().expect("a disk"),
            |mut disk| {
                for start in (0..PART).step_by(BLOCK) {
                    let scattered = start * 17 % (64 << 30);
                    disk.write_at(scattered, &block[..PAGE]).expect("written");
                }
                disk.close().expect("closed")
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    Ok(())
}

/// Offsets of pages in the part, in no order, the same each time.
fn places() -> impl Iterator<Item = u64> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % (PART / PAGE as u64) * PAGE as u64
    })
    .take(PLACES)
}

/// Bytes that no block of zeros is taken for.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
