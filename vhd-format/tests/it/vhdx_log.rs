//! The log of a VHDX: replay, crashes and the order of writes.

use proptest::prelude::*;
use uuid::Uuid;
use vhd_format::vhdx::Vhdx;
use vhd_format::{Error, ErrorKind, ReadAt, Storage};

use crate::support::{Journaled, Operation, Possible, crash, new_file, noise, oracle, pick, run};
use crate::vhdx::{MIB, content, small};

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
fn qemu_finds_the_newest_entry() {
    if !oracle("qemu-img") {
        return;
    }
    // Entries of two sectors fill the log's 256 to the last; what follows the 129th, at the
    // start again, is the second, as valid as when it was written.
    let mut disk = Vhdx::create(Vec::new(), &small(140 * MIB)).unwrap();
    for block in 0..129 {
        disk.write_at(block * MIB, &[1; 512]).unwrap();
        disk.flush().unwrap();
    }
    let mut file = disk.into_inner();
    forget_table(&mut file);
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.vhdx");
    std::fs::write(&image, &file).unwrap();
    run("qemu-img", &["check", "-f", "vhdx", "-r", "all"], &[&image]);
    let disk = Vhdx::open(std::fs::read(&image).unwrap()).unwrap();
    let mut found = [0; 512];
    disk.read_at(128 * MIB, &mut found).unwrap();
    assert_eq!(found, [1; 512]);
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

/// A disk whose log is named by a GUID, with these sectors from a position in the log on.
fn with_sectors(position: u64, sectors: &[u8]) -> Vec<u8> {
    let mut file = filled();
    file.write_at(MIB + position, sectors).unwrap();
    set_in_headers(&mut file, 48, &LOG.to_bytes_le());
    file
}

const LOG: Uuid = Uuid::from_u128(0x1bad_c0de_5eed_f00d_abcd_ef01_2345_6789);

/// An entry of three sectors that would change the first block, each number otherwise.
fn change(guid: Uuid, number: u64, position: u32) -> Vec<u8> {
    let data = |i: u64| Step::Data {
        offset: 4 * MIB + 4096 * i,
        page: noise(2 * number + i, 4096),
    };
    log_entry(guid, number, position, 4 * MIB, &[data(0), data(1)])
}

#[test]
fn a_log_without_an_entry_of_its_own_has_nothing_to_replay() {
    let clean = content(&Vhdx::open(filled()).unwrap());
    let entry = change(LOG, 7, 0x3000);
    let older = change(Uuid::from_u128(77), 6, 0x3000);
    let cut = |sectors: usize| {
        // What the rest had before: an entry of an older log.
        let mut torn = older.clone();
        torn[..sectors * 4096].copy_from_slice(&entry[..sectors * 4096]);
        torn
    };
    let zeros = |sectors: usize| [&entry[..sectors * 4096], &vec![0; 3 * 4096]].concat();
    for (what, sectors) in [
        ("no entry at all", Vec::new()),
        ("an entry of an older log", older.clone()),
        ("one sector over an older entry", cut(1)),
        ("two sectors over an older entry", cut(2)),
        ("one sector over zeros", zeros(1)),
        ("two sectors over zeros", zeros(2)),
        (
            "the last sector before the second",
            [&entry[..4096], &[0; 4096], &entry[8192..]].concat(),
        ),
    ] {
        let file = with_sectors(0x3000, &sectors);
        let disk = Vhdx::open(&file).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(disk.replayed_entries(), 0, "{what}");
        assert_eq!(disk.notes().len(), 1, "{what}");
        assert!(content(&disk) == clean, "{what}");

        if oracle("qemu-img") {
            let dir = tempfile::tempdir().unwrap();
            let (image, raw) = (dir.path().join("disk.vhdx"), dir.path().join("disk.raw"));
            std::fs::write(&image, &file).unwrap();
            std::fs::write(&raw, &clean).unwrap();
            let compare = ["compare", "-f", "vhdx", "-F", "raw"];
            run("qemu-img", &compare, &[&image, &raw]);
        }

        // Who opens it to write leaves it closed, and what was there before cannot come back.
        let mut disk = Vhdx::open_writable(file).unwrap();
        disk.write_at(77, b"new").unwrap();
        let disk = Vhdx::open(disk.close().unwrap()).unwrap();
        assert!(disk.header().log_guid.is_nil(), "{what}");
        assert_eq!(disk.notes(), [""; 0], "{what}");
        let mut expected = clean.clone();
        expected[77..80].copy_from_slice(b"new");
        assert!(content(&disk) == expected, "{what}");
    }
}

#[test]
fn a_damaged_log_is_told_from_one_that_was_not_begun() {
    let entry = change(LOG, 7, 0x3000);
    let whole = Vhdx::open(with_sectors(0x3000, &entry)).unwrap();
    assert_eq!(whole.replayed_entries(), 1);
    // The first sector, marks of the others, and contents.
    let header = (0..128).filter(|byte| !(16 + 64..20 + 64).contains(byte));
    let marks = [4096, 4099, 4100, 4107, 8191, 8188, 8192, 8196, 12_287];
    for byte in header.chain(marks).chain([200, 4095, 5000, 10_000]) {
        let mut entry = entry.clone();
        entry[byte] ^= 0x10;
        let error = Vhdx::open(with_sectors(0x3000, &entry)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "byte {byte}");
    }
    // An entry that goes on from one that is gone, and two of which none is whole.
    let torn = |position: u32, tail: u32| {
        let mut entry = change(LOG, 7, tail);
        entry.truncate(2 * 4096);
        let mut file = with_sectors(0x3000, &[]);
        let at = MIB + u64::from(position);
        file.write_at(at, &entry).unwrap();
        file
    };
    Vhdx::open(torn(0x3000, 0x3000)).unwrap();
    Vhdx::open(torn(0x3000, 0x1000)).unwrap_err();
    let mut two = torn(0x3000, 0x3000);
    two.write_at(MIB + 0x8000, &change(LOG, 6, 0x8000)[..8192])
        .unwrap();
    Vhdx::open(two).unwrap_err();
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
fn numbers_of_headers_last_for_a_session_or_it_does_not_begin() {
    let mut disk = Vhdx::create(Vec::new(), &small(2 * MIB)).unwrap();
    disk.write_at(0, b"abc").unwrap();
    disk.flush().unwrap();
    let mut file = disk.into_inner();

    // The log is replayed, then the ids change, and another log begins and ends.
    let last = u64::MAX - 10;
    set_in_headers(&mut file, 8, &last.to_le_bytes());
    let mut disk = Vhdx::open_writable(file.clone()).unwrap();
    disk.write_at(MIB, b"def").unwrap();
    let disk = Vhdx::open(disk.close().unwrap()).unwrap();
    assert_eq!(disk.header().sequence_number, u64::MAX);
    let expected = content(&disk);
    assert_eq!(&expected[..3], b"abc");
    assert_eq!(&expected[1 << 20..][..3], b"def");

    for number in [last + 1, u64::MAX] {
        set_in_headers(&mut file, 8, &number.to_le_bytes());
        let file = Journaled::new(file.clone());
        let journal = file.journal.clone();
        let error = Vhdx::open_writable(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(journal.lock().unwrap().is_empty());
    }
    let disk = Vhdx::open(&file).unwrap();
    assert_eq!(&content(&disk)[..3], b"abc");
}

/// An entry of the log as §2.3.1 has it.
fn log_entry(
    guid: Uuid,
    sequence_number: u64,
    tail: u32,
    file_size: u64,
    steps: &[Step],
) -> Vec<u8> {
    let mut entry = b"loge\0\0\0\0\0\0\0\0".to_vec();
    entry.extend_from_slice(&tail.to_le_bytes());
    entry.extend_from_slice(&sequence_number.to_le_bytes());
    entry.extend_from_slice(&(steps.len() as u64).to_le_bytes());
    entry.extend_from_slice(&guid.to_bytes_le());
    entry.extend_from_slice(&file_size.to_le_bytes());
    entry.extend_from_slice(&file_size.to_le_bytes());
    let mut sectors = Vec::new();
    for step in steps {
        match step {
            Step::Zeros { offset, len } => {
                entry.extend_from_slice(b"zero\0\0\0\0");
                entry.extend_from_slice(&len.to_le_bytes());
                entry.extend_from_slice(&offset.to_le_bytes());
            }
            Step::Data { offset, page } => {
                entry.extend_from_slice(b"desc");
                entry.extend_from_slice(&page[4092..]);
                entry.extend_from_slice(&page[..8]);
                entry.extend_from_slice(&offset.to_le_bytes());
                sectors.extend_from_slice(b"data");
                sectors.extend_from_slice(&((sequence_number >> 32) as u32).to_le_bytes());
                sectors.extend_from_slice(&page[8..4092]);
                sectors.extend_from_slice(&(sequence_number as u32).to_le_bytes());
            }
        }
        entry.extend_from_slice(&sequence_number.to_le_bytes());
    }
    entry.resize(entry.len().next_multiple_of(4096), 0);
    entry.extend_from_slice(&sectors);
    let len = entry.len() as u32;
    entry[8..12].copy_from_slice(&len.to_le_bytes());
    let crc = crc32c::crc32c(&entry);
    entry[4..8].copy_from_slice(&crc.to_le_bytes());
    entry
}

#[derive(Clone, Debug)]
enum Step {
    Zeros { offset: u64, len: u64 },
    Data { offset: u64, page: Vec<u8> },
}

/// A file whose log holds these entries, one behind the other around the ring from a position,
/// and the last of them reaching back to the first.
fn with_log(mut file: Vec<u8>, first: u32, numbered_from: u64, entries: &[Vec<Step>]) -> Vec<u8> {
    let guid = Uuid::from_u128(0xabcdef);
    let file_size = file.len() as u64;
    let mut position = first;
    for (sequence_number, steps) in (numbered_from..).zip(entries) {
        for sector in log_entry(guid, sequence_number, first, file_size, steps).chunks(4096) {
            file.write_at(MIB + u64::from(position), sector).unwrap();
            position = (position + 4096) % (1 << 20);
        }
    }
    set_in_headers(&mut file, 48, &guid.to_bytes_le());
    file
}

/// Sets a field of both headers (§2.2.2), and their checksums.
fn set_in_headers(file: &mut [u8], field: usize, value: &[u8]) {
    for header in [64 << 10, 128 << 10] {
        let header = &mut file[header..header + 4096];
        header[field..field + value.len()].copy_from_slice(value);
        header[4..8].fill(0);
        let crc = crc32c::crc32c(header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// What a replay leaves, done one step at a time.
fn replayed(mut file: Vec<u8>, entries: &[Vec<Step>]) -> Vec<u8> {
    for step in entries.iter().flatten() {
        match step {
            Step::Zeros { offset, len } => file.write_at(*offset, &vec![0; *len as usize]),
            Step::Data { offset, page } => file.write_at(*offset, page),
        }
        .unwrap();
    }
    file
}

/// Three blocks, filled, from 4 MiB of the file on.
fn filled() -> Vec<u8> {
    let mut disk = Vhdx::create(Vec::new(), &small(3 * MIB)).unwrap();
    disk.write_at(0, &noise(9, 3 << 20)).unwrap();
    disk.close().unwrap()
}

#[test]
fn every_kind_of_log_is_replayed_as_qemu_does() {
    let file = filled();
    let page = |i: u64| noise(1000 + i, 4096);
    let at = |page: u64| 4 * MIB + page * 4096;
    let data = |i| Step::Data {
        offset: at(i),
        page: page(i),
    };
    let zeros = |i, pages: u64| Step::Zeros {
        offset: at(i),
        len: pages * 4096,
    };
    // Zeros over data and data over zeros, within an entry and between entries, and one entry
    // with nothing to do.
    let plain = vec![
        vec![data(0), zeros(10, 100), data(11), zeros(300, 1), data(600)],
        Vec::new(),
        vec![zeros(0, 3), data(2), zeros(50, 0), data(109), zeros(105, 4)],
    ];
    // More descriptors than two sectors hold, which QEMU fails to read.
    let mut large = plain.clone();
    large.insert(
        2,
        (0..270)
            .map(|i| match i % 7 {
                3 => zeros(2 * i, 2),
                _ => data(2 * i + 30),
            })
            .collect(),
    );
    for (entries, first) in [
        (&plain, 0),
        (&plain, 4096),
        (&plain, (1 << 20) - 4096),
        (&plain, (1 << 20) - 3 * 4096),
        (&large, 0),
        (&large, (1 << 20) - 7 * 4096),
    ] {
        // The number passes 32 bits on the way.
        let dirty = with_log(file.clone(), first, u64::from(u32::MAX) - 1, entries);
        let expected = content(&Vhdx::open(replayed(file.clone(), entries)).unwrap());
        let disk = Vhdx::open(&dirty).unwrap();
        assert_eq!(disk.replayed_entries(), entries.len() as u64);
        assert!(content(&disk) == expected, "in memory, from {first}");
        let closed = Vhdx::open_writable(dirty.clone()).unwrap().close().unwrap();
        let disk = Vhdx::open(&closed).unwrap();
        assert_eq!(disk.replayed_entries(), 0);
        assert!(content(&disk) == expected, "in the file, from {first}");

        // QEMU also takes a sequence around the end of the ring for one at its start.
        if entries.len() == plain.len() && first <= 4096 && oracle("qemu-img") {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("disk.vhdx");
            let raw = dir.path().join("disk.raw");
            std::fs::write(&image, &dirty).unwrap();
            std::fs::write(&raw, &expected).unwrap();
            run("qemu-img", &["check", "-f", "vhdx", "-r", "all"], &[&image]);
            let compare = ["compare", "-f", "vhdx", "-F", "raw"];
            run("qemu-img", &compare, &[&image, &raw]);
        }
    }
}

#[test]
fn the_newest_whole_sequence_counts() {
    let file = filled();
    let guid = Uuid::from_u128(0xabcdef);
    let page = |byte| vec![byte; 4096];
    let step = |byte| {
        [Step::Data {
            offset: 4 * MIB,
            page: page(byte),
        }]
    };
    let size = file.len() as u64;
    // An older sequence, a newer one, and the newest, whose tail is lost.
    let mut dirty = with_log(file, 0, 5, &[step(5).to_vec()]);
    let mut put = |position: u32, number, tail, byte| {
        let entry = log_entry(guid, number, tail, size, &step(byte));
        dirty.write_at(MIB + u64::from(position), &entry).unwrap();
    };
    put(0x10000, 20, 0x10000, 20);
    put(0x12000, 21, 0x12000, 21);
    put(0x14000, 23, 0x14000, 23);
    put(0x20000, 40, 0x40000, 40);
    put(0x30000, 30, 0x30000, 30);
    // A run around the end of the ring, higher but for its number.
    put((1 << 20) - 0x2000, 11, (1 << 20) - 0x2000, 11);
    let disk = Vhdx::open(dirty).unwrap();
    assert_eq!(disk.replayed_entries(), 1);
    assert_eq!(content(&disk)[..4096], page(30));
}

#[test]
fn logs_that_reach_where_they_must_not_are_refused() {
    let page = vec![1; 4096];
    let data = |offset| Step::Data {
        offset,
        page: page.clone(),
    };
    for step in [
        data(0),
        data(64 << 10),
        data(MIB),
        data(4 * MIB + 512),
        data(u64::MAX - 4095),
        Step::Zeros {
            offset: 0,
            len: 2 * MIB,
        },
        Step::Zeros {
            offset: 4 * MIB,
            len: 100,
        },
        Step::Zeros {
            offset: 4 * MIB,
            len: u64::MAX - 4095,
        },
        Step::Zeros {
            offset: 192 << 10,
            len: MIB,
        },
    ] {
        let file = with_log(filled(), 0, 1, &[vec![step.clone()]]);
        let error = Vhdx::open(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{step:?}");
    }
}

#[test]
fn a_hostile_log_is_read_in_linear_time() {
    // Every sector starts an entry that claims the whole log, and all but the last are right
    // about everything but that.
    let mut parameters = small(3 * MIB);
    parameters = parameters.log_size(64 << 20);
    let mut file = Vhdx::create(Vec::new(), &parameters)
        .unwrap()
        .close()
        .unwrap();
    let guid = Uuid::from_u128(0xabcdef);
    file = with_log(file, 0, 1, &[Vec::new()]);
    let mut entry = log_entry(guid, 1, 0, 0, &[]);
    entry[8..12].copy_from_slice(&(64_u32 << 20).to_le_bytes());
    for position in (4096..64 << 20).step_by(4096) {
        file.write_at(MIB + position, &entry).unwrap();
    }
    // 16,384 entries of 64 MiB each are a terabyte: reading it would take minutes.
    assert_eq!(Vhdx::open(file).unwrap().replayed_entries(), 1);
}
