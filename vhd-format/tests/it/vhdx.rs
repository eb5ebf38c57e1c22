//! VHDXs against qemu-img, plain vectors and crashes.

use std::fs::File;
use std::path::Path;

use proptest::prelude::*;
use uuid::Uuid;
use vhd_format::vhdx::{BlockState, Identity, Layout, Parameters, Vhdx};
use vhd_format::{AnyStorage, Disk, Error, ErrorKind, Format, Parent, ReadAt, Storage};

use crate::support::{
    Journaled, Operation, Possible, crash, new_file, noise, oracle, pick, run, samples,
};

const MIB: u64 = 1 << 20;

fn identity(seed: u128) -> Identity {
    Identity {
        file_write_guid: Uuid::from_u128(seed << 8 | 1),
        data_write_guid: Uuid::from_u128(seed << 8 | 2),
        virtual_disk_id: Uuid::from_u128(seed << 8 | 3),
    }
}

fn small(virtual_size: u64) -> Parameters {
    Parameters::new(virtual_size)
        .block_size(1 << 20)
        .identity(identity(7))
}

fn content<S: ReadAt>(disk: &Vhdx<S>) -> Vec<u8> {
    let mut bytes = vec![0xee; disk.virtual_size() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn qemu_reads_what_is_written() {
    if !oracle("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.vhdx");
    let raw = dir.path().join("disk.raw");
    for virtual_size in [512, 5 * MIB, 33 * MIB + 7 * 512] {
        for block_size in [1 << 20, 2 << 20, 32 << 20] {
            for fixed in [false, true] {
                let parameters = Parameters::new(virtual_size)
                    .fixed(fixed)
                    .block_size(block_size);
                let mut disk = Vhdx::create(new_file(&image), &parameters).unwrap();
                let mut model = vec![0; virtual_size as usize];
                let mut state = virtual_size;
                for i in 0..8 {
                    let start = pick(&mut state, virtual_size);
                    let len = pick(&mut state, (virtual_size - start).min(300_000) + 1);
                    let data = noise(i, len as usize);
                    disk.write_at(start, &data).unwrap();
                    model[start as usize..][..len as usize].copy_from_slice(&data);
                }
                disk.close().unwrap();
                std::fs::write(&raw, &model).unwrap();

                let info = ["info", "-f", "vhdx", "--output=json"];
                let json = run("qemu-img", &info, &[&image]);
                for wanted in [
                    format!("\"virtual-size\": {virtual_size},"),
                    format!("\"cluster-size\": {block_size},"),
                ] {
                    assert!(json.contains(&wanted), "{json}");
                }
                run("qemu-img", &["check", "-f", "vhdx"], &[&image]);
                let compare = ["compare", "-f", "vhdx", "-F", "raw"];
                run("qemu-img", &compare, &[&image, &raw]);
                let disk = Vhdx::open(File::open(&image).unwrap()).unwrap();
                assert!(content(&disk) == model);
                assert_eq!(disk.is_fixed(), fixed);
            }
        }
    }
}

#[test]
fn reads_and_writes_what_qemu_makes() {
    if !oracle("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let mut model = vec![0; 9 << 20];
    for (i, start) in [0, 3 << 20, (5 << 20) + 512, 8_900_000]
        .into_iter()
        .enumerate()
    {
        model[start..start + 70_000].copy_from_slice(&noise(i as u64, 70_000));
    }
    std::fs::write(&raw, &model).unwrap();
    for options in [
        "subformat=fixed",
        "subformat=dynamic,block_size=1M",
        "subformat=dynamic,block_size=8M,log_size=3M",
        "subformat=dynamic,block_state_zero=off",
    ] {
        let image = dir.path().join("disk.vhdx");
        let convert = ["convert", "-f", "raw", "-O", "vhdx", "-o", options];
        run("qemu-img", &convert, &[&raw, &image]);
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let mut disk = Vhdx::open_writable(file).unwrap();
        assert!(content(&disk) == model, "{options}");
        assert!(disk.creator().starts_with("QEMU"), "{}", disk.creator());

        let mut changed = model.clone();
        for (i, start) in [1_000_000, 7 << 20, 100].into_iter().enumerate() {
            let data = noise(100 + i as u64, 12_345);
            disk.write_at(start, &data).unwrap();
            changed[start as usize..][..data.len()].copy_from_slice(&data);
        }
        disk.close().unwrap();
        let changed_raw = dir.path().join("changed.raw");
        std::fs::write(&changed_raw, &changed).unwrap();
        run("qemu-img", &["check", "-f", "vhdx"], &[&image]);
        let compare = ["compare", "-f", "vhdx", "-F", "raw"];
        run("qemu-img", &compare, &[&image, &changed_raw]);
    }
}

/// Takes away from the file what a replay of its log puts back.
fn forget_table(file: &mut Vec<u8>) {
    let disk = Vhdx::open(&*file).unwrap();
    assert_ne!(disk.replayed_entries(), 0);
    let table = disk.regions().iter().find(|r| r.offset == 3 * MIB).unwrap();
    let (start, end) = (table.offset as usize, table.offset as usize + 8192);
    file[start..end].fill(0);
}

#[test]
fn qemu_replays_the_log() {
    if !oracle("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.vhdx");
    let raw = dir.path().join("disk.raw");
    let mut disk = Vhdx::create(Vec::new(), &small(600 * MIB)).unwrap();
    let mut model = new_file(&raw);
    model.grow(600 * MIB).unwrap();
    // Several entries, of which the last is what counts; the last and the first of a page of
    // the table lie in its descriptors.
    for (i, start) in [0, 5 * MIB + 77, 511 * MIB, 512 * MIB]
        .into_iter()
        .enumerate()
    {
        let data = noise(i as u64, 100_000);
        disk.write_at(start, &data).unwrap();
        model.write_at(start, &data).unwrap();
        if i != 2 {
            disk.flush().unwrap();
        }
    }
    let mut file = disk.into_inner();
    forget_table(&mut file);
    std::fs::write(&image, &file).unwrap();
    run("qemu-img", &["check", "-f", "vhdx", "-r", "all"], &[&image]);
    let compare = ["compare", "-f", "vhdx", "-F", "raw"];
    run("qemu-img", &compare, &[&image, &raw]);
}

#[test]
fn a_log_is_replayed_in_memory_or_in_the_file() {
    let mut disk = Vhdx::create(Vec::new(), &small(5 * MIB)).unwrap();
    let data = noise(1, 2 << 20);
    disk.write_at(MIB / 2, &data).unwrap();
    disk.flush().unwrap();
    let mut file = disk.into_inner();
    let mut model = vec![0; 5 << 20];
    model[1 << 19..][..data.len()].copy_from_slice(&data);
    forget_table(&mut file);

    let disk = Vhdx::open(&file).unwrap();
    assert_eq!(disk.replayed_entries(), 1);
    assert!(content(&disk) == model);
    let header = *disk.header();
    assert!(!header.log_guid.is_nil());

    let disk = Vhdx::open_writable(file).unwrap();
    assert!(content(&disk) == model);
    let file = disk.close().unwrap();
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(disk.replayed_entries(), 0);
    assert!(disk.header().log_guid.is_nil());
    // The file is another than before; what the guest sees is not.
    assert_ne!(disk.header().file_write_guid, header.file_write_guid);
    assert_eq!(disk.header().data_write_guid, header.data_write_guid);
    assert!(content(&disk) == model);
}

#[test]
fn a_log_that_cannot_be_replayed_is_an_error() {
    let mut disk = Vhdx::create(Vec::new(), &small(5 * MIB)).unwrap();
    disk.write_at(0, b"abc").unwrap();
    disk.flush().unwrap();
    let good = disk.into_inner();
    Vhdx::open(&good).unwrap();
    let kind = |file: &[u8]| Vhdx::open(file).unwrap_err().kind();
    // Any byte of the entry counts.
    for position in [0, 4, 8, 12, 16, 40, 64, 80, 4096, 4100, 5000, 8191] {
        let mut file = good.clone();
        file[MIB as usize + position] ^= 1;
        assert_eq!(kind(&file), ErrorKind::Invalid, "byte {position}");
    }
    // The block that the log speaks of is cut off.
    assert_eq!(kind(&good[..good.len() - 4096]), ErrorKind::Invalid);
}

#[test]
fn the_log_wraps_around() {
    // One page of the table for each of these blocks.
    let far = 512 * MIB;
    let pages = 120;
    let mut disk = Vhdx::create(Vec::new(), &small(far * pages)).unwrap();
    for round in 0..5 {
        for page in 0..pages {
            let block = page * 512 + round;
            disk.write_at(block * MIB, &[round as u8 + 1; 16]).unwrap();
        }
        // 121 sectors each time: the third entry wraps around the log's 256.
        disk.flush().unwrap();
        let copy = disk.into_inner();
        let replayed = Vhdx::open(&copy).unwrap();
        assert_eq!(replayed.replayed_entries(), 1);
        let mut found = [0; 16];
        for page in 0..pages {
            replayed
                .read_at((page * 512 + round) * MIB, &mut found)
                .unwrap();
            assert_eq!(found, [round as u8 + 1; 16]);
        }
        disk = Vhdx::open_writable(copy).unwrap();
    }
}

/// Images of other makers that are not ours to pass on; see tests/data/README.md.
#[test]
fn samples_of_other_makers_open() {
    let Some(dir) = samples() else {
        return;
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "vhdx") {
            continue;
        }
        seen += 1;
        compare_with_qemu(&path);
    }
    assert!(seen > 0, "no *.vhdx among the samples");
}

fn compare_with_qemu(path: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.vhdx");
    std::fs::copy(path, &copy).unwrap();
    let disk = Vhdx::open(File::open(path).unwrap()).unwrap();
    eprintln!(
        "{}: {disk:?}, {} entries replayed",
        path.display(),
        disk.replayed_entries()
    );
    if !oracle("qemu-img") {
        return;
    }
    run("qemu-img", &["check", "-f", "vhdx", "-r", "all"], &[&copy]);
    let raw = dir.path().join("raw");
    let convert = ["convert", "-f", "vhdx", "-O", "raw"];
    run("qemu-img", &convert, &[&copy, &raw]);
    let theirs = File::open(&raw).unwrap();
    // Once as it is, once after a replay of our own.
    std::fs::copy(path, &copy).unwrap();
    let file = File::options().read(true).write(true).open(&copy).unwrap();
    let replayed = Vhdx::open_writable(file).unwrap().close().unwrap();
    let replayed = Vhdx::open(replayed).unwrap();
    assert_eq!(ReadAt::size(&theirs).unwrap(), disk.virtual_size());
    let mut parts = [vec![0; 1 << 20], vec![0; 1 << 20], vec![0; 1 << 20]];
    let mut position = 0;
    let mut used = 0;
    while position < disk.virtual_size().min(12 << 30) {
        let len = (disk.virtual_size() - position).min(1 << 20) as usize;
        let block = position / u64::from(disk.block_size());
        if disk.block_state(block).unwrap().0 == BlockState::FullyPresent || len < 1 << 20 {
            disk.read_at(position, &mut parts[0][..len]).unwrap();
            ReadAt::read_at(&theirs, position, &mut parts[1][..len]).unwrap();
            replayed.read_at(position, &mut parts[2][..len]).unwrap();
            assert!(parts[0][..len] == parts[1][..len], "at {position}");
            assert!(parts[0][..len] == parts[2][..len], "at {position}");
            used += len;
        }
        position += len as u64;
    }
    assert!(used > 0, "nothing to compare");
}

/// The places of a large disk that a test looks at: a few KiB in blocks whose entries lie in
/// different pages of the table, first and last ones among them.
const WINDOWS: [u64; 7] = [0, 1, 511, 512, 1500, 1501, 8191];
const WINDOW: u64 = 6 << 10;

fn windows<S: ReadAt>(disk: &Vhdx<S>) -> Vec<u8> {
    let mut bytes = vec![0xee; WINDOWS.len() * WINDOW as usize];
    for (block, part) in WINDOWS.into_iter().zip(bytes.chunks_mut(WINDOW as usize)) {
        disk.read_at(block * MIB, part).unwrap();
    }
    bytes
}

fn write_to_window<S: Storage>(disk: &mut Vhdx<S>, possible: &mut Possible, state: &mut u64) {
    let window = pick(state, WINDOWS.len() as u64);
    let start = pick(state, WINDOW);
    let len = pick(state, (WINDOW - start).min(5000)) + 1;
    let data = match pick(state, 6) {
        0 => vec![0; len as usize],
        _ => noise(*state, len as usize),
    };
    let block = WINDOWS[window as usize];
    disk.write_at(block * MIB + start, &data).unwrap();
    possible.write(window * WINDOW + start, &data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn behaves_like_a_vector(
        sectors in 1_u64..1500,
        fixed in any::<bool>(),
        large_sectors in any::<bool>(),
        block_shift in 20_u32..23,
        operations in prop::collection::vec(
            (any::<u64>(), any::<u64>(), prop_oneof![Just(None), any::<u8>().prop_map(Some)]),
            1..24,
        ),
    ) {
        let size = sectors * 4096;
        let parameters = Parameters::new(size)
            .fixed(fixed)
            .block_size(1 << block_shift)
            .logical_sector_size(if large_sectors { 4096 } else { 512 });
        let mut disk = Vhdx::create(Vec::new(), &parameters).unwrap();
        let mut model = vec![0; size as usize];
        for (i, (start, len, fill)) in operations.into_iter().enumerate() {
            let start = start % size;
            let len = (len % (size - start + 1)) as usize;
            let data = match fill {
                Some(fill) => vec![fill; len],
                None => noise(start, len),
            };
            disk.write_at(start, &data).unwrap();
            model[start as usize..][..len].copy_from_slice(&data);
            match i % 9 {
                2 => disk = Vhdx::open_writable(disk.close().unwrap()).unwrap(),
                5 => {
                    // As if the program had ended: the log is left behind.
                    disk.flush().unwrap();
                    disk = Vhdx::open_writable(disk.into_inner()).unwrap();
                }
                _ => {}
            }
            let mut found = vec![0xee; len];
            disk.read_at(start, &mut found).unwrap();
            prop_assert!(found == data);
        }
        prop_assert!(content(&disk) == model);
        let disk = Vhdx::open(disk.close().unwrap()).unwrap();
        prop_assert!(content(&disk) == model);
        prop_assert_eq!(disk.replayed_entries(), 0);
    }

    #[test]
    fn survives_a_crash_anywhere(seed in any::<u64>()) {
        let mut state = seed;
        let size = 8192 * MIB;
        let mut base = Vhdx::create(Vec::new(), &small(size)).unwrap().close().unwrap();
        let mut possible = Possible::new(vec![0; WINDOWS.len() * WINDOW as usize]);
        // Three lives of one file, each ended by a crash.
        for _ in 0..3 {
            let file = Journaled::new(base.clone());
            let journal = file.journal.clone();
            let mut disk = Vhdx::open_writable(file).unwrap();
            // How many operations were done and what may be found, at some moments.
            let mut moments = Vec::new();
            let count = || journal.lock().unwrap().len();
            for _ in 0..3 + pick(&mut state, 12) {
                if pick(&mut state, 3) == 0 {
                    let before = count();
                    disk.flush().unwrap();
                    moments.push((before, count(), possible.clone()));
                    possible.flush();
                } else {
                    let before = count();
                    write_to_window(&mut disk, &mut possible, &mut state);
                    moments.push((before, count(), possible.clone()));
                }
            }
            let before = count();
            if pick(&mut state, 2) == 0 {
                disk.close().unwrap();
            } else {
                disk.flush().unwrap();
            }
            moments.push((before, count(), possible.clone()));

            let journal = journal.lock().unwrap().clone();
            for life in 0..6 {
                let (from, to, possible_then) =
                    &moments[pick(&mut state, moments.len() as u64) as usize];
                let done = from + pick(&mut state, (to - from) as u64 + 1) as usize;
                let medium = crash(&base, &journal, done, &mut state);
                let found = windows(&Vhdx::open(&medium).unwrap());
                possible_then.check(&found);
                // A replay that crashes too changes nothing.
                let file = Journaled::new(medium.clone());
                let journal = file.journal.clone();
                let disk = Vhdx::open_writable(file).unwrap();
                prop_assert!(windows(&disk) == found);
                let journal = journal.lock().unwrap().clone();
                let done = pick(&mut state, journal.len() as u64 + 1) as usize;
                let again = crash(&medium, &journal, done, &mut state);
                prop_assert!(windows(&Vhdx::open(&again).unwrap()) == found);
                if life == 5 {
                    // The next life starts here.
                    base = again;
                    possible = Possible::new(found);
                }
            }
        }
    }

    #[test]
    fn damaged_structures_never_panic(seed in any::<u64>()) {
        let mut state = seed;
        let mut disk = Vhdx::create(Vec::new(), &small(5 * MIB)).unwrap();
        disk.write_at(5000, &[1; 20_000]).unwrap();
        disk.write_at(3 * MIB, &[2; 20_000]).unwrap();
        disk.flush().unwrap();
        let mut file = if pick(&mut state, 2) == 0 {
            disk.into_inner()
        } else {
            disk.close().unwrap()
        };
        let kib = 1 << 10;
        let places = [
            (64 * kib, 80), (128 * kib, 80), (192 * kib, 80), (256 * kib, 80),
            (MIB, 160), (2 * MIB, 200), (2 * MIB + 64 * kib, 40), (3 * MIB, 40),
        ];
        for _ in 0..=pick(&mut state, 5) {
            let (start, len) = places[pick(&mut state, places.len() as u64) as usize];
            let at = start + pick(&mut state, len);
            file[at as usize] = match pick(&mut state, 3) {
                0 => 0,
                1 => 0xff,
                _ => noise(state, 1)[0],
            };
        }
        // Only with right checksums does a change get further than those.
        for (start, len) in [
            (64 * kib, 4096), (128 * kib, 4096), (192 * kib, 64 * kib), (256 * kib, 64 * kib),
            (MIB, 8192),
        ] {
            let bytes = &mut file[start as usize..][..len as usize];
            bytes[4..8].fill(0);
            let crc = crc32c::crc32c(bytes);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(disk) = Vhdx::open(&file) {
            let mut buffer = vec![0; 70_000];
            for offset in [0, 3 * MIB, disk.virtual_size().saturating_sub(70_000)] {
                let _ = disk.read_at(offset, &mut buffer);
            }
        }
        if let Ok(mut disk) = Vhdx::open_writable(Limited(file)) {
            let _ = disk.write_at(100, &[2; 60_000]);
            let _ = disk.write_at(4 * MIB, &[2; 60_000]);
            let _ = disk.close();
        }
    }
}

/// A file in memory that does not grow without bound.
struct Limited(Vec<u8>);

impl ReadAt for Limited {
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, buffer)
    }
}

impl Storage for Limited {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.grow(offset.saturating_add(data.len() as u64))?;
        self.0.write_at(offset, data)
    }

    fn grow(&mut self, len: u64) -> std::io::Result<()> {
        if len > 64 << 20 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.grow(len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a write of a VHDX is of, by where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Header { log_is_empty: bool },
    Log,
    Table,
    Block,
}

#[test]
fn flushes_stand_between_the_steps_of_a_change() {
    let base = Vhdx::create(Vec::new(), &small(8 * MIB))
        .unwrap()
        .close()
        .unwrap();
    let file = Journaled::new(base);
    let journal = file.journal.clone();
    let mut disk = Vhdx::open_writable(file).unwrap();
    for i in 0..5 {
        disk.write_at(i * MIB, b"x").unwrap();
        if i != 3 {
            disk.flush().unwrap();
        }
    }
    disk.write_at(6 * MIB, b"x").unwrap();
    disk.close().unwrap();

    let mut since_flush: Vec<Kind> = Vec::new();
    let mut seen = Vec::new();
    for operation in journal.lock().unwrap().iter() {
        let (offset, data) = match operation {
            Operation::Flush => {
                since_flush.clear();
                continue;
            }
            Operation::Grow(_) => continue,
            Operation::Write(offset, data) => (*offset, data),
        };
        let kind = match offset / MIB {
            0 => Kind::Header {
                log_is_empty: data[48..64] == [0; 16],
            },
            1 => Kind::Log,
            3 => Kind::Table,
            _ => Kind::Block,
        };
        let must_be_flushed: &[Kind] = match kind {
            // What the last entry replaced is in place before the log is said to be empty.
            Kind::Header { log_is_empty: true } => &[Kind::Table, Kind::Block],
            // An entry is there before the log is said to be in use.
            Kind::Header {
                log_is_empty: false,
            } => &[Kind::Log],
            // Blocks are there before an entry speaks of them, and what the entry before
            // replaced is in place before another takes over.
            Kind::Log => &[Kind::Block, Kind::Table],
            Kind::Table => &[
                Kind::Log,
                Kind::Header {
                    log_is_empty: false,
                },
            ],
            Kind::Block => &[Kind::Header { log_is_empty: true }],
        };
        for earlier in must_be_flushed {
            assert!(
                !since_flush.contains(earlier),
                "{kind:?} with {earlier:?} not flushed"
            );
        }
        since_flush.push(kind);
        seen.push(kind);
    }
    for kind in [Kind::Log, Kind::Table, Kind::Block] {
        assert!(seen.contains(&kind));
    }
}

#[test]
fn a_failing_storage_is_reported_and_not_trusted_again() {
    let base = Vhdx::create(Vec::new(), &small(8 * MIB))
        .unwrap()
        .close()
        .unwrap();
    let work = |file: Journaled| -> Result<u64, Error> {
        let mut disk = Vhdx::open_writable(file)?;
        for i in 0..4 {
            disk.write_at(i * 1_500_000, &[i as u8 + 1; 5000])?;
            if let Err(error) = disk.flush() {
                let later = disk.write_at(0, b"x").unwrap_err();
                assert_eq!(later.kind(), ErrorKind::Io);
                return Err(error);
            }
        }
        Ok(disk.close()?.journal.lock().unwrap().len() as u64)
    };
    let operations = work(Journaled::new(base.clone())).unwrap();
    assert!(operations > 20);
    for allowed in 0..operations {
        let mut file = Journaled::new(base.clone());
        file.allowed = allowed;
        assert_eq!(work(file).unwrap_err().kind(), ErrorKind::Io);
    }
}

#[test]
fn nothing_is_written_before_the_first_write() {
    let base = Vhdx::create(Vec::new(), &small(2 * MIB))
        .unwrap()
        .close()
        .unwrap();
    let disk = Vhdx::open_writable(Journaled::new(base.clone())).unwrap();
    let file = disk.close().unwrap();
    assert!(file.content == base);
    let journal = file.journal.lock().unwrap();
    assert!(journal.iter().all(|op| matches!(op, Operation::Flush)));
}

#[test]
fn equal_parameters_and_writes_give_equal_files() {
    let make = || {
        let mut disk = Vhdx::create(Vec::new(), &small(8 * MIB).creator("tests")).unwrap();
        disk.write_at(3 * MIB, &noise(1, 10_000)).unwrap();
        disk.flush().unwrap();
        disk.write_at(5 * MIB, &noise(2, 10_000)).unwrap();
        disk.close().unwrap()
    };
    let file = make();
    assert!(file == make());
    let disk = Vhdx::open(&file).unwrap();
    assert_eq!(disk.header().file_write_guid, identity(7).file_write_guid);
    assert_eq!(disk.header().data_write_guid, identity(7).data_write_guid);
    assert_eq!(disk.virtual_disk_id(), identity(7).virtual_disk_id);
    assert_eq!(disk.creator(), "tests");

    // Another session is another content.
    let mut disk = Vhdx::open_writable(file).unwrap();
    disk.write_at(0, b"x").unwrap();
    let disk = Vhdx::open(disk.close().unwrap()).unwrap();
    assert_ne!(disk.header().file_write_guid, identity(7).file_write_guid);
    assert_ne!(disk.header().data_write_guid, identity(7).data_write_guid);
}

#[test]
fn every_parameter_is_kept() {
    for (logical, physical) in [(512, 512), (512, 4096), (4096, 4096)] {
        for (block_size, log_size) in [(1 << 20, 1 << 20), (256 << 20, 7 << 20)] {
            let parameters = Parameters::new(3 << 40)
                .block_size(block_size)
                .logical_sector_size(logical)
                .physical_sector_size(physical)
                .log_size(log_size);
            let file = Vhdx::create(tempfile::tempfile().unwrap(), &parameters).unwrap();
            let disk = Vhdx::open(file.close().unwrap()).unwrap();
            assert_eq!(disk.virtual_size(), 3 << 40);
            assert_eq!(disk.block_size(), block_size);
            assert_eq!(disk.logical_sector_size(), logical);
            assert_eq!(disk.physical_sector_size(), physical);
            assert_eq!(disk.header().log_length, log_size);
            assert_eq!(disk.damaged_headers(), [false; 2]);
            assert_eq!(disk.damaged_region_tables(), [false; 2]);
            assert_eq!(disk.metadata_items().len(), 5);
        }
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    for parameters in [
        small(0),
        small(511),
        small((64 << 40) + 512),
        small(512).logical_sector_size(4096),
        small(MIB).logical_sector_size(2048),
        small(MIB).physical_sector_size(0),
        small(MIB).block_size(512 << 10),
        small(MIB).block_size(512 << 20),
        small(MIB).block_size(3 << 20),
        small(MIB).log_size(0),
        small(MIB).log_size(1000),
        small(MIB).creator("x".repeat(257)),
    ] {
        let error = Vhdx::create(Vec::new(), &parameters).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{parameters:?}");
    }
    let error = Vhdx::create(vec![1; 10], &small(MIB)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_largest_disk_works() {
    let parameters = small(64 << 40);
    let mut disk = Vhdx::create(tempfile::tempfile().unwrap(), &parameters).unwrap();
    let last = (64 << 40) - 5;
    disk.write_at(last, b"hello").unwrap();
    let file = disk.close().unwrap();
    assert!(file.metadata().unwrap().len() < 1 << 30);
    let disk = Disk::open(file).unwrap();
    assert_eq!(disk.format(), Format::Vhdx);
    let mut found = [0; 5];
    disk.read_at(last, &mut found).unwrap();
    assert_eq!(&found, b"hello");
    assert_eq!(
        disk.read_at(last + 1, &mut found).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn zeros_take_no_space() {
    let mut disk = Vhdx::create(Vec::new(), &small(8 * MIB)).unwrap();
    disk.write_at(MIB + 5, &[0; 10]).unwrap();
    assert_eq!(disk.block_state(0).unwrap(), (BlockState::NotPresent, None));
    // Whoever writes zeros is to find them again, which only this state promises.
    assert_eq!(disk.block_state(1).unwrap(), (BlockState::Zero, None));
    let file = disk.close().unwrap();
    assert_eq!(file.len() as u64, 4 * MIB);
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(disk.block_state(1).unwrap(), (BlockState::Zero, None));
    assert!(disk.block_state(8).is_err());
}

#[test]
fn old_bytes_behind_the_last_block_do_not_show() {
    let mut disk = Vhdx::create(Vec::new(), &small(8 * MIB)).unwrap();
    disk.write_at(0, b"abc").unwrap();
    let mut file = disk.close().unwrap();
    // A block that was on its way when its writer crashed.
    file.resize(file.len() + (1 << 20), 0x99);
    let before = file.len();
    let mut disk = Vhdx::open_writable(file).unwrap();
    disk.write_at(MIB + 10, b"def").unwrap();
    let file = disk.close().unwrap();
    assert_eq!(file.len(), before, "the space is used again");
    let disk = Vhdx::open(file).unwrap();
    let mut expected = vec![0; 8 << 20];
    expected[..3].copy_from_slice(b"abc");
    expected[(1 << 20) + 10..][..3].copy_from_slice(b"def");
    assert!(content(&disk) == expected);
}

fn findings(file: &[u8]) -> Vec<Error> {
    let mut findings = Vec::new();
    let disk = Disk::open(file).unwrap();
    disk.check(|finding| findings.push(finding)).unwrap();
    findings
}

#[test]
fn blocks_over_each_other_are_not_written_to() {
    let mut disk = Vhdx::create(Vec::new(), &small(8 * MIB)).unwrap();
    disk.write_at(0, &[1; 2 << 20]).unwrap();
    let file = disk.close().unwrap();
    let table = 3 << 20;
    let second = u64::from_le_bytes(file[table + 8..table + 16].try_into().unwrap());
    for (value, why) in [
        (second, "twice the same"),
        (MIB | 6, "over the log"),
        ((2 * MIB) | 6, "over the metadata"),
        ((3 * MIB) | 6, "over the table"),
        (6, "over the headers"),
        ((6 * MIB) | 6, "past the end"),
        (u64::MAX << 20 | 6, "far past the end"),
        ((4 * MIB) | 7, "partially present"),
        (4, "a reserved state"),
    ] {
        let mut file = file.clone();
        file.write_at(table as u64, &value.to_le_bytes()).unwrap();
        assert_eq!(findings(&file).len(), 1, "{why}: {:?}", findings(&file));
        let error = Vhdx::open_writable(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{why}");
    }
}

#[test]
fn states_without_contents_read_as_zero() {
    let mut layout = Layout::new(&small(6 * MIB)).unwrap();
    let states = [
        BlockState::FullyPresent,
        BlockState::Zero,
        BlockState::Unmapped,
        BlockState::Undefined,
        BlockState::NotPresent,
        BlockState::FullyPresent,
    ];
    layout.assign(states).unwrap();
    assert_eq!(layout.file_size(), 6 * MIB);
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    file[4 << 20..].fill(0x44);
    let disk = Vhdx::open(file.clone()).unwrap();
    for (block, state) in (0..).zip(states) {
        assert_eq!(disk.block_state(block).unwrap().0, state);
    }
    let mut expected = vec![0; 6 << 20];
    expected[..1 << 20].fill(0x44);
    expected[5 << 20..].fill(0x44);
    assert!(content(&disk) == expected);

    // And take a write without showing anything else.
    let mut disk = Vhdx::open_writable(file).unwrap();
    for block in 1..5 {
        disk.write_at(block * MIB + 700, b"new").unwrap();
        expected[block as usize * (1 << 20) + 700..][..3].copy_from_slice(b"new");
    }
    assert!(content(&disk) == expected);
}

#[test]
fn layouts_place_in_the_order_of_the_calls() {
    let mut layout = Layout::new(&small(100 << 30)).unwrap();
    let first = layout.place(70_000).unwrap();
    let second = layout.place(3).unwrap();
    assert_eq!(second, first + MIB);
    assert_eq!(layout.place(70_000).unwrap(), first);
    assert_eq!(layout.offset_of(3), Some(second));
    assert_eq!(layout.offset_of(4), None);
    assert_eq!(layout.file_size(), second + MIB);
    let kind = |result: Result<(), Error>| result.unwrap_err().kind();
    let wrong = ErrorKind::InvalidInput;
    assert_eq!(kind(layout.place(102_400).map(drop)), wrong);
    assert_eq!(kind(layout.set(3..4, BlockState::Zero)), wrong);
    assert_eq!(kind(layout.set(5..6, BlockState::FullyPresent)), wrong);
    assert_eq!(kind(layout.set(0..102_401, BlockState::Zero)), wrong);
    layout.set(50_000..60_000, BlockState::Zero).unwrap();

    let mut file = tempfile::tempfile().unwrap();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(
        disk.block_state(70_000).unwrap(),
        (BlockState::FullyPresent, Some(first))
    );
    for (block, state) in [
        (49_999, BlockState::NotPresent),
        (50_000, BlockState::Zero),
        (59_999, BlockState::Zero),
        (60_000, BlockState::NotPresent),
    ] {
        assert_eq!(disk.block_state(block).unwrap(), (state, None));
    }
}

#[test]
fn a_layout_can_be_given_its_size_at_the_end() {
    let mut layout = Layout::new(&small(8 << 30)).unwrap();
    for block in 0..3 {
        layout.place(block).unwrap();
    }
    layout.set(3..8000, BlockState::Zero).unwrap();
    let error = layout.set_virtual_size(3 * MIB - 512).map(drop);
    assert!(error.is_ok(), "the last block may be cut");
    let error = layout.set_virtual_size(2 * MIB).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    layout.set_identity(identity(9));
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(&file).unwrap();
    assert_eq!(disk.virtual_size(), 3 * MIB - 512);
    assert_eq!(disk.virtual_disk_id(), identity(9).virtual_disk_id);
    assert_eq!(disk.header().data_write_guid, identity(9).data_write_guid);
    Vhdx::open_writable(&mut file).unwrap();

    // What was cut off is not there when the disk grows again.
    layout.set_virtual_size(8 << 30).unwrap();
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open(file).unwrap();
    assert_eq!(disk.block_state(5).unwrap().0, BlockState::NotPresent);
    let error = layout.set_virtual_size(1 << 40).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_fixed_layout_has_every_block_in_order() {
    let mut layout = Layout::new(&small(10 * MIB).fixed(true)).unwrap();
    let first = layout.place(0).unwrap();
    for block in 0..10 {
        assert_eq!(layout.place(block).unwrap(), first + block * MIB);
    }
    assert_eq!(layout.file_size(), first + 10 * MIB);
    layout.set(0..1, BlockState::Zero).unwrap_err();
    layout.set_virtual_size(4 * MIB).unwrap();
    assert_eq!(layout.file_size(), first + 4 * MIB);
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhdx::open_writable(file).unwrap();
    for block in 0..4 {
        let expected = (BlockState::FullyPresent, Some(first + block * MIB));
        assert_eq!(disk.block_state(block).unwrap(), expected);
    }
}

/// Makes a differencing disk of a dynamic one, for no tool at hand does: block 0 has some
/// sectors of its own, block 1 all, blocks 2 and 3 none, block 4 is zero.
fn differencing(parent_data_write_guid: Uuid) -> Vec<u8> {
    let parameters = small(5 * MIB).identity(identity(8));
    let mut disk = Vhdx::create(Vec::new(), &parameters).unwrap();
    disk.write_at(0, &[0xcc; 2 << 20]).unwrap();
    disk.write_at(4 * MIB, &[0; 10]).unwrap();
    let mut file = disk.close().unwrap();

    let metadata = 2 << 20;
    // One more item, the locator, and the flag that there is a parent.
    file[metadata + 10] += 1;
    file[metadata + (64 << 10) + 4] |= 2;
    let entry = metadata + 32 * 6;
    let locator_id = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);
    let kind = Uuid::from_u128(0xb04aefb7_d19e_4a81_b789_25b8e9445913);
    let utf16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let (key, value) = (
        utf16("parent_linkage"),
        utf16(&parent_data_write_guid.braced().to_string()),
    );
    let mut locator = kind.to_bytes_le().to_vec();
    locator.extend_from_slice(&[0, 0, 1, 0]);
    locator.extend_from_slice(&32_u32.to_le_bytes());
    locator.extend_from_slice(&(32 + key.len() as u32).to_le_bytes());
    locator.extend_from_slice(&(key.len() as u16).to_le_bytes());
    locator.extend_from_slice(&(value.len() as u16).to_le_bytes());
    locator.extend_from_slice(&key);
    locator.extend_from_slice(&value);
    let mut item = locator_id.to_bytes_le().to_vec();
    item.extend_from_slice(&70_000_u32.to_le_bytes());
    item.extend_from_slice(&(locator.len() as u32).to_le_bytes());
    item.extend_from_slice(&4_u32.to_le_bytes());
    file[entry..entry + item.len()].copy_from_slice(&item);
    file[metadata + 70_000..][..locator.len()].copy_from_slice(&locator);

    let table = 3 << 20;
    file[table] = file[table] & !7 | 7;
    // After 4096 blocks of 1 MiB the entry of the first sector bitmap.
    let bitmap = file.len();
    file.resize(bitmap + (1 << 20), 0);
    file[table + 4096 * 8..][..8].copy_from_slice(&(bitmap as u64 | 6).to_le_bytes());
    file[bitmap] = 0b0000_0010;
    file[bitmap + 1] = 0b1000_0000;
    file
}

#[test]
fn a_differencing_disk_reads_through_its_parent() {
    let mut parent = Vhdx::create(Vec::new(), &small(4 * MIB - 512)).unwrap();
    parent
        .write_at(0, &vec![0xaa; 4 * (1 << 20) - 512])
        .unwrap();
    let parent = parent.close().unwrap();
    let open_parent = || Disk::open(Box::new(parent.clone()) as AnyStorage).unwrap();

    let file = differencing(identity(7).data_write_guid);
    let mut disk = Vhdx::open(file.clone()).unwrap();
    let linkage = disk
        .parent_locator()
        .unwrap()
        .get("parent_linkage")
        .unwrap();
    assert_eq!(linkage.len(), 38);
    let mut sector = [0; 512];
    disk.read_at(512, &mut sector).unwrap();
    assert_eq!(sector, [0xcc; 512]);
    for offset in [0, 2 * MIB] {
        let error = disk.read_at(offset, &mut sector).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Parent);
    }
    assert_eq!(disk.block_state(0).unwrap().0, BlockState::PartiallyPresent);

    disk.attach_parent(open_parent()).unwrap();
    let mut expected = vec![0xaa; 4 << 20];
    expected[(4 << 20) - 512..].fill(0);
    expected.resize(5 << 20, 0);
    expected[512..1024].fill(0xcc);
    expected[15 * 512..16 * 512].fill(0xcc);
    expected[1 << 20..2 << 20].fill(0xcc);
    assert!(content(&disk) == expected);

    let mut asked = 0;
    let disk = Disk::open_chain(&file[..], |wanted| {
        asked += 1;
        assert!(matches!(wanted, Parent::Vhdx(locator) if locator.get("parent_linkage").is_some()));
        Ok(Box::new(parent.clone()))
    })
    .unwrap();
    let mut found = vec![0; 5 << 20];
    disk.read_at(0, &mut found).unwrap();
    assert!(found == expected);
    assert_eq!(asked, 1);
    // A disk that is its own parent.
    let own = differencing(identity(8).data_write_guid);
    let error = Disk::open_chain(&own[..], |_| Ok(Box::new(own.clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);

    let mut disk = Vhdx::open(differencing(Uuid::from_u128(5))).unwrap();
    let error = disk.attach_parent(open_parent()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);
    assert_eq!(findings(&file).len(), 0);
    let mut lost = file.clone();
    lost[(3 << 20) + 4096 * 8] = 0;
    assert_eq!(findings(&lost).len(), 1, "the bitmap is missing");
    let error = Vhdx::open_writable(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

#[test]
fn read_only_is_refused() {
    let file = Vhdx::create(Vec::new(), &small(MIB))
        .unwrap()
        .close()
        .unwrap();
    let mut disk = Vhdx::open(file).unwrap();
    let error = disk.write_at(0, b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(disk.flush().unwrap_err().kind(), ErrorKind::ReadOnly);
    disk.close().unwrap();
}

#[test]
fn one_damaged_copy_of_anything_is_survived() {
    let mut disk = Vhdx::create(Vec::new(), &small(2 * MIB)).unwrap();
    disk.write_at(0, b"abc").unwrap();
    let file = disk.close().unwrap();
    for (header, table) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut file = file.clone();
        file[(64 << 10) * (1 + header)] ^= 1;
        file[(64 << 10) * (3 + table)] ^= 1;
        let places: Vec<_> = findings(&file).iter().map(Error::offset).collect();
        let expected = [(1 + header) << 16, (3 + table) << 16];
        assert_eq!(places, expected.map(|offset| Some(offset as u64)));
        let mut disk = Vhdx::open_writable(file).unwrap();
        assert_eq!(disk.damaged_headers(), [header == 0, header == 1]);
        assert_eq!(disk.damaged_region_tables(), [table == 0, table == 1]);
        assert_eq!(&content(&disk)[..3], b"abc");
        disk.write_at(3, b"def").unwrap();
        let disk = Vhdx::open(disk.close().unwrap()).unwrap();
        assert_eq!(&content(&disk)[..6], b"abcdef");
        assert_eq!(disk.damaged_headers(), [false; 2], "writing makes new ones");
    }
}
