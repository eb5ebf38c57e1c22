//! VHDXs against qemu-img, plain vectors and crashes.

use std::fs::File;
use std::path::Path;

use proptest::prelude::*;
use uuid::Uuid;
use vhd_format::vhdx::{BlockState, Identity, Layout, Parameters, Vhdx};
use vhd_format::{Disk, Error, ErrorKind, ReadAt, Storage};

use crate::support::{new_file, noise, oracle, pick, run, samples};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn identity(seed: u128) -> Identity {
    Identity {
        file_write_guid: Uuid::from_u128(seed << 8 | 1),
        data_write_guid: Uuid::from_u128(seed << 8 | 2),
        virtual_disk_id: Uuid::from_u128(seed << 8 | 3),
    }
}

pub(crate) fn small(virtual_size: u64) -> Parameters {
    Parameters::new(virtual_size)
        .block_size(1 << 20)
        .identity(identity(7))
}

pub(crate) fn content<S: ReadAt>(disk: &Vhdx<S>) -> Vec<u8> {
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
fn vhdiinfo_agrees() {
    if !oracle("vhdiinfo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.vhdx");
    for sector in [512, 4096] {
        for (fixed, kind) in [(false, "Dynamic"), (true, "Fixed")] {
            let parameters = Parameters::new(40 * MIB - 4096)
                .fixed(fixed)
                .block_size(2 << 20)
                .logical_sector_size(sector);
            let mut disk = Vhdx::create(new_file(&path), &parameters).unwrap();
            disk.write_at(5, b"x").unwrap();
            let id = disk.header().data_write_guid;
            disk.close().unwrap();
            let text = run("vhdiinfo", &[], &[&path]);
            for wanted in [
                format!("{} bytes", 40 * MIB - 4096),
                format!(": {sector} bytes"),
                format!(": {kind}"),
                format!(": {id}"),
            ] {
                assert!(text.contains(&wanted), "{wanted}: {text}");
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

pub(crate) fn findings(file: &[u8]) -> Vec<Error> {
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
    let disk = Disk::open(&file).unwrap();
    assert_eq!(disk.next_data(0).unwrap(), Some(0..MIB));
    assert_eq!(disk.next_data(MIB).unwrap(), Some(5 * MIB..6 * MIB));
    assert_eq!(
        disk.next_data(5 * MIB + 7).unwrap(),
        Some(5 * MIB + 7..6 * MIB)
    );
    assert_eq!(disk.next_data(6 * MIB).unwrap(), None);

    // And take a write without showing anything else.
    let mut disk = Vhdx::open_writable(file).unwrap();
    for block in 1..5 {
        disk.write_at(block * MIB + 700, b"new").unwrap();
        expected[block as usize * (1 << 20) + 700..][..3].copy_from_slice(b"new");
    }
    assert!(content(&disk) == expected);
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
