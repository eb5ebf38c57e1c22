//! VHDs against qemu-img, vhdiinfo, a plain vector and crashes.

use std::fs::File;
use std::path::Path;

use crate::support::{Journaled, Possible, crash, new_file, noise, oracle, pick, run, samples};
use proptest::prelude::*;
use vhd_format::vhd::{DiskType, Footer, Layout, Parameters, SECTOR_SIZE, Vhd};
use vhd_format::{AnyStorage, Disk, ErrorKind, Format, ReadAt, Storage};

const ID: [u8; 16] = *b"0123456789abcdef";

fn content<S: ReadAt>(disk: &Vhd<S>) -> Vec<u8> {
    let mut bytes = vec![0xee; disk.virtual_size() as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

fn both(virtual_size: u64) -> [(&'static str, Parameters); 2] {
    [
        ("fixed", Parameters::fixed(virtual_size, ID)),
        ("dynamic", Parameters::dynamic(virtual_size, ID)),
    ]
}

#[test]
fn qemu_reads_what_is_written() {
    if !oracle("qemu-img") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.vhd");
    let raw = dir.path().join("disk.raw");
    // Whole MiB, and a size that is no product of any geometry.
    for virtual_size in [512, 5 << 20, (33 << 20) + 7 * 512] {
        for (name, parameters) in both(virtual_size) {
            for block_size in [512 << 10, 2 << 20] {
                let parameters = parameters.clone().block_size(block_size);
                let mut disk = Vhd::create(new_file(&image), &parameters).unwrap();
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

                let json = run(
                    "qemu-img",
                    &["info", "-f", "vpc", "--output=json"],
                    &[&image],
                );
                assert!(
                    json.contains(&format!("\"virtual-size\": {virtual_size},")),
                    "{name}: {json}"
                );
                let compare = ["compare", "-f", "vpc", "-F", "raw"];
                run("qemu-img", &compare, &[&image, &raw]);
                let disk = Vhd::open(File::open(&image).unwrap()).unwrap();
                assert!(content(&disk) == model);
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
        "subformat=fixed,force_size=on",
        "subformat=dynamic,force_size=on",
    ] {
        let image = dir.path().join("disk.vhd");
        let convert = ["convert", "-f", "raw", "-O", "vpc", "-o", options];
        run("qemu-img", &convert, &[&raw, &image]);
        let file = File::options().read(true).write(true).open(&image).unwrap();
        let mut disk = Vhd::open_writable(file).unwrap();
        assert!(content(&disk) == model, "{options}");

        let mut changed = model.clone();
        for (i, start) in [1_000_000, 7 << 20, 100].into_iter().enumerate() {
            let data = noise(100 + i as u64, 12_345);
            disk.write_at(start, &data).unwrap();
            changed[start as usize..][..data.len()].copy_from_slice(&data);
        }
        disk.close().unwrap();
        let changed_raw = dir.path().join("changed.raw");
        std::fs::write(&changed_raw, &changed).unwrap();
        let compare = ["compare", "-f", "vpc", "-F", "raw"];
        run("qemu-img", &compare, &[&image, &changed_raw]);
    }
}

#[test]
fn vhdiinfo_agrees() {
    if !oracle("vhdiinfo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, parameters) in both(40 << 20) {
        let path = dir.path().join(name);
        drop(File::create_new(&path).unwrap());
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut disk = Vhd::create(file, &parameters).unwrap();
        disk.write_at(1 << 20, b"x").unwrap();
        disk.close().unwrap();
        let said = run("vhdiinfo", &[], &[&path]).to_lowercase();
        for word in [
            name,
            "41943040 bytes",
            "30313233-3435-3637-3839-616263646566",
            "format version",
        ] {
            assert!(said.contains(word), "{name}: no {word:?} in {said}");
        }
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
        if path.extension().is_none_or(|extension| extension != "vhd") {
            continue;
        }
        seen += 1;
        compare_with_qemu(&path);
    }
    assert!(seen > 0, "no *.vhd among the samples");
}

fn compare_with_qemu(path: &Path) {
    let disk = Vhd::open(File::open(path).unwrap()).unwrap();
    eprintln!("{}: {:?}", path.display(), disk.footer());
    if !oracle("qemu-img") || disk.footer().disk_type() == DiskType::Differencing {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    // By default qemu takes the geometry's size for some creators.
    let image = format!(
        "driver=vpc,force_size_calc=current_size,file.filename={}",
        path.display()
    );
    let convert = ["convert", "--image-opts", "-O", "raw", &image];
    run("qemu-img", &convert, &[&raw]);
    let theirs = File::open(&raw).unwrap();
    assert_eq!(ReadAt::size(&theirs).unwrap(), disk.virtual_size());
    let mut position = 0;
    let (mut ours_part, mut theirs_part) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    // The far parts of a disk of 127 GiB are as absent as the near ones.
    while position < disk.virtual_size().min(1 << 30) {
        let len = (disk.virtual_size() - position).min(1 << 20) as usize;
        disk.read_at(position, &mut ours_part[..len]).unwrap();
        ReadAt::read_at(&theirs, position, &mut theirs_part[..len]).unwrap();
        assert!(ours_part[..len] == theirs_part[..len], "at {position}");
        position += len as u64;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_like_a_vector(
        sectors in 1_u64..300,
        dynamic in any::<bool>(),
        block_shift in 12_u32..16,
        operations in prop::collection::vec(
            (any::<u64>(), any::<u64>(), prop_oneof![Just(None), any::<u8>().prop_map(Some)]),
            1..40,
        ),
    ) {
        let size = sectors * SECTOR_SIZE;
        let parameters = match dynamic {
            true => Parameters::dynamic(size, ID).block_size(1 << block_shift),
            false => Parameters::fixed(size, ID),
        };
        let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
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
            if i % 7 == 3 {
                let file = disk.close().unwrap();
                disk = Vhd::open_writable(file).unwrap();
            }
            let mut found = vec![0xee; len];
            disk.read_at(start, &mut found).unwrap();
            prop_assert!(found == data);
        }
        prop_assert!(content(&disk) == model);
        let disk = Vhd::open(disk.close().unwrap()).unwrap();
        prop_assert!(content(&disk) == model);
    }

    #[test]
    fn survives_a_crash_anywhere(seed in any::<u64>(), dynamic in any::<bool>()) {
        let mut state = seed;
        let size = 150 * SECTOR_SIZE;
        let parameters = match dynamic {
            true => Parameters::dynamic(size, ID).block_size(4096),
            false => Parameters::fixed(size, ID),
        };
        let base = Vhd::create(Vec::new(), &parameters).unwrap().close().unwrap();
        let file = Journaled::new(base.clone());
        let journal = file.journal.clone();
        let mut disk = Vhd::open_writable(file).unwrap();
        // What may be found, by the number of operations done.
        let mut possible = Possible::new(vec![0; size as usize]);
        let mut stop = 3 + pick(&mut state, 40) as usize;
        while stop > 0 {
            stop -= 1;
            if pick(&mut state, 5) == 0 {
                disk.flush().unwrap();
                possible.flush();
            } else {
                let start = pick(&mut state, size);
                let len = pick(&mut state, (size - start).min(6000) + 1);
                let data = noise(state, len as usize);
                disk.write_at(start, &data).unwrap();
                possible.write(start, &data);
            }
        }
        // Somewhere in a last flush, or before it.
        let before = journal.lock().unwrap().len();
        disk.flush().unwrap();
        let journal = journal.lock().unwrap().clone();
        for _ in 0..8 {
            let done = before + pick(&mut state, (journal.len() - before) as u64 + 1) as usize;
            let medium = crash(&base, &journal, done, &mut state);
            let disk = Vhd::open(medium.clone()).unwrap();
            possible.check(&content(&disk));
            // It is written to as if nothing had been.
            let mut disk = Vhd::open_writable(medium).unwrap();
            let before = content(&disk);
            disk.write_at(size - 700, &[0x77; 700]).unwrap();
            let disk = Vhd::open(disk.close().unwrap()).unwrap();
            let mut expected = before;
            expected[size as usize - 700..].fill(0x77);
            prop_assert!(content(&disk) == expected);
        }
    }

    #[test]
    fn arbitrary_fields_never_panic(seed in any::<u64>()) {
        let mut state = seed;
        let parameters = Parameters::dynamic(64 << 10, ID).block_size(4096);
        let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
        disk.write_at(5000, &[1; 20_000]).unwrap();
        let mut file = disk.close().unwrap();
        let header_and_table = 512 + 1024 + 64;
        for _ in 0..=pick(&mut state, 4) {
            let at = 512 + pick(&mut state, header_and_table - 512) as usize;
            file[at] = noise(state, 1)[0];
        }
        // Only with a right checksum does a change get further than that.
        let header = &mut file[512..1536];
        header[36..40].fill(0);
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[36..40].copy_from_slice(&(!sum).to_be_bytes());
        if let Ok(disk) = Vhd::open(&file) {
            let mut buffer = vec![0; 64 << 10];
            let _ = disk.read_at(0, &mut buffer);
        }
        if let Ok(mut disk) = Vhd::open_writable(file) {
            let _ = disk.write_at(100, &[2; 60_000]);
            let _ = disk.close();
        }
    }
}

#[test]
fn a_lost_footer_is_found_at_the_front() {
    let mut disk = Vhd::create(Vec::new(), &Parameters::dynamic(1 << 20, ID)).unwrap();
    disk.write_at(0, b"abc").unwrap();
    let mut file = disk.close().unwrap();
    assert_eq!(findings(&file), 0);
    let last = file.len() - 512;
    file[last] ^= 1;
    assert_eq!(findings(&file), 1);
    let mut disk = Vhd::open_writable(file.clone()).unwrap();
    assert_eq!(&content(&disk)[..3], b"abc");
    disk.write_at(3, b"d").unwrap();
    let repaired = disk.close().unwrap();
    assert_eq!(&repaired[repaired.len() - 512..][..8], b"conectix");
    assert_eq!(&content(&Vhd::open(&repaired).unwrap())[..4], b"abcd");
    assert_eq!(findings(&repaired), 0);
    let mut other = repaired;
    other[0] ^= 1;
    assert_eq!(findings(&other), 1, "the copy is damaged");
    // With both gone nothing is left to go by.
    file[0] ^= 1;
    assert_eq!(Vhd::open(file).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn footers_of_511_bytes_are_read() {
    let mut file = vec![7; 2048];
    file.extend_from_slice(&Footer::fixed(2048, ID).unwrap().to_bytes()[..511]);
    let disk = Disk::open(file).unwrap();
    assert_eq!(disk.format(), Format::Vhd);
    assert_eq!(disk.virtual_size(), 2048);
}

#[test]
fn a_fixed_disk_needs_its_bytes() {
    let mut file = vec![0; 1024];
    file.extend_from_slice(&Footer::fixed(2048, ID).unwrap().to_bytes());
    assert_eq!(Vhd::open(file).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn zeros_take_no_space() {
    let mut disk = Vhd::create(Vec::new(), &Parameters::dynamic(64 << 20, ID)).unwrap();
    disk.write_at(0, &vec![0; 64 << 20]).unwrap();
    assert!(!disk.is_allocated(0).unwrap());
    disk.write_at(4 << 20, &[0, 1, 0]).unwrap();
    let disk = Disk::open(disk.close().unwrap()).unwrap();
    assert_eq!(disk.next_data(0).unwrap(), Some(4 << 20..6 << 20));
    assert_eq!(disk.next_data(6 << 20).unwrap(), None);

    let mut disk = Vhd::create(Vec::new(), &Parameters::dynamic(64 << 20, ID)).unwrap();
    disk.write_at(5, &[0; 10]).unwrap();
    assert_eq!(disk.close().unwrap().len(), 512 + 1024 + 512 + 512);
}

#[test]
fn sectors_that_the_bitmap_leaves_out_read_as_zero() {
    let mut disk =
        Vhd::create(Vec::new(), &Parameters::dynamic(8192, ID).block_size(8192)).unwrap();
    disk.write_at(0, &[0x11; 8192]).unwrap();
    let mut file = disk.close().unwrap();
    let bitmap = 4096 - 512;
    assert_eq!(file[bitmap], 0xff);
    file[bitmap] = 0b1011_0000;
    file[bitmap + 1] = 0;
    let mut expected = vec![0; 8192];
    for sector in [0, 2, 3] {
        expected[sector * 512..][..512].fill(0x11);
    }
    let mut disk = Vhd::open_writable(file).unwrap();
    assert!(content(&disk) == expected);

    // Writing part of such a sector must not bring its old bytes back.
    for (start, len) in [(600, 10), (2100, 100), (5000, 1100)] {
        disk.write_at(start, &vec![0x22; len]).unwrap();
        expected[start as usize..][..len].fill(0x22);
    }
    assert!(content(&disk) == expected);
    assert!(content(&Vhd::open(disk.close().unwrap()).unwrap()) == expected);
}

fn findings(file: &[u8]) -> usize {
    let mut findings = 0;
    let disk = Disk::open(file).unwrap();
    disk.check(|_| findings += 1).unwrap();
    findings
}

#[test]
fn blocks_over_each_other_are_not_written_to() {
    let parameters = Parameters::dynamic(64 << 10, ID).block_size(4096);
    let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
    disk.write_at(0, &[1; 8192]).unwrap();
    let file = disk.close().unwrap();
    let table = 1536;
    let entry = |file: &[u8], i: usize| file[table + 4 * i..][..4].to_vec();
    for (value, why) in [
        (entry(&file, 1), "twice the same"),
        (0_u32.to_be_bytes().to_vec(), "over the footer's copy"),
        (3_u32.to_be_bytes().to_vec(), "over the table"),
        (1000_u32.to_be_bytes().to_vec(), "past the end"),
    ] {
        let mut file = file.clone();
        file[table..table + 4].copy_from_slice(&value);
        assert_ne!(findings(&file), 0, "{why}");
        let error = Vhd::open_writable(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{why}");
    }
}

#[test]
fn a_failing_storage_is_reported_and_not_trusted_again() {
    let parameters = Parameters::dynamic(1 << 20, ID).block_size(4096);
    let base = Vhd::create(Vec::new(), &parameters)
        .unwrap()
        .close()
        .unwrap();
    // Count the operations of a run, then fail at each.
    let work = |file: Journaled| -> Result<u64, vhd_format::Error> {
        let mut disk = Vhd::open_writable(file)?;
        for i in 0..5 {
            disk.write_at(i * 10_000, &[i as u8 + 1; 5000])?;
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
fn out_of_range_and_read_only_are_refused() {
    for (_, parameters) in both(4096) {
        let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
        for (offset, len) in [(4096, 1), (0, 4097), (u64::MAX, 2)] {
            let error = disk.write_at(offset, &vec![1; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = disk.read_at(offset, &mut vec![1; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        disk.write_at(4096, &[]).unwrap();
        let mut disk = Vhd::open(disk.close().unwrap()).unwrap();
        let error = disk.write_at(0, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly);
    }
}

/// A differencing disk as no tool at hand makes one: sectors 1 and 9 of its own, a second
/// block that it does not have, and a parent of another size.
fn differencing(parent_id: [u8; 16]) -> Vec<u8> {
    let parameters = Parameters::dynamic(12_288, *b"fedcba9876543210").block_size(8192);
    let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
    disk.write_at(0, &[0xcc; 8192]).unwrap();
    let mut file = disk.close().unwrap();
    let bitmap = 4096 - 512;
    file[bitmap] = 0b0100_0000;
    file[bitmap + 1] = 0b0100_0000;
    let sum = |bytes: &mut [u8], checksum: usize| {
        bytes[checksum..checksum + 4].fill(0);
        let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
        bytes[checksum..checksum + 4].copy_from_slice(&(!sum).to_be_bytes());
    };
    for start in [0, file.len() - 512] {
        let footer = &mut file[start..start + 512];
        footer[63] = 4;
        sum(footer, 64);
    }
    let path: Vec<u8> = "..\\parent.vhd"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let locator = 2200;
    file[locator..locator + path.len()].copy_from_slice(&path);
    let header = &mut file[512..1536];
    header[40..56].copy_from_slice(&parent_id);
    for (i, unit) in "parent.vhd".encode_utf16().enumerate() {
        header[64 + 2 * i..][..2].copy_from_slice(&unit.to_be_bytes());
    }
    header[576..580].copy_from_slice(b"W2ru");
    header[584..588].copy_from_slice(&(path.len() as u32).to_be_bytes());
    header[592..600].copy_from_slice(&(locator as u64).to_be_bytes());
    sum(header, 36);
    file
}

#[test]
fn a_differencing_disk_reads_through_its_parent() {
    let mut parent = Vhd::create(Vec::new(), &Parameters::fixed(10_240, ID)).unwrap();
    parent.write_at(0, &[0xaa; 10_240]).unwrap();
    let parent = parent.close().unwrap();
    let open_parent = || Vhd::open(Box::new(parent.clone()) as AnyStorage).unwrap();

    let file = differencing(ID);
    let mut disk = Vhd::open(file.clone()).unwrap();
    let reference = disk.parent_reference().unwrap();
    assert_eq!(reference.unique_id, ID);
    assert_eq!(reference.name, "parent.vhd");
    assert_eq!(reference.locators[0].platform_code, *b"W2ru");
    assert_eq!(reference.locators[0].text().unwrap(), "..\\parent.vhd");

    let mut sector = [0; 512];
    disk.read_at(512, &mut sector).unwrap();
    assert_eq!(sector, [0xcc; 512]);
    let error = disk.read_at(0, &mut sector).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);

    disk.attach_parent(open_parent()).unwrap();
    let mut expected = vec![0xaa; 10_240];
    expected.resize(12_288, 0);
    expected[512..1024].fill(0xcc);
    expected[9 * 512..10 * 512].fill(0xcc);
    assert!(content(&disk) == expected);

    let mut disk = Vhd::open(differencing(*b"somebody else's.")).unwrap();
    let error = disk.attach_parent(open_parent()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Parent);
    let error = Vhd::open_writable(file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

#[test]
fn a_layout_places_what_writes_would() {
    // The same blocks written in the same order, by a disk and by hand.
    let parameters = Parameters::dynamic(1 << 20, ID).block_size(64 << 10);
    let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
    let mut layout = Layout::new(&parameters).unwrap();
    let mut places = Vec::new();
    for block in [7, 0, 15, 3] {
        let data = noise(block, 64 << 10);
        disk.write_at(block << 16, &data).unwrap();
        places.push((layout.place(block).unwrap(), data));
        assert_eq!(layout.place(block).unwrap(), places[places.len() - 1].0);
    }
    assert_eq!(layout.offset_of(1), None);
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    assert_eq!(file.len() as u64, layout.file_size());
    for (offset, data) in places {
        assert_eq!(offset % 4096, 0);
        file.write_at(offset, &data).unwrap();
    }
    assert!(file == disk.close().unwrap());
    let error = layout.place(16).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    // A size that is known only now.
    let error = layout.set_virtual_size(15 << 16).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = layout.set_virtual_size(2 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    layout.set_virtual_size((1 << 20) - 512).unwrap();
    let mut file = Vec::new();
    layout.write_to(&mut file).unwrap();
    let disk = Vhd::open_writable(file).unwrap();
    assert_eq!(disk.virtual_size(), (1 << 20) - 512);
    disk.check(|finding| panic!("{finding}")).unwrap();
}

/// Max Table Entries and the current size, as a dynamic disk's header and footer have them.
fn entries_and_size(file: &[u8]) -> (u32, u64) {
    let entries = u32::from_be_bytes(file[512 + 28..][..4].try_into().unwrap());
    let size = u64::from_be_bytes(file[48..56].try_into().unwrap());
    (entries, size)
}

/// Sets Max Table Entries in the header of a dynamic disk, and the header's checksum.
fn set_entries(file: &mut [u8], entries: u32) {
    let header = &mut file[512..512 + 1024];
    header[28..32].copy_from_slice(&entries.to_be_bytes());
    header[36..40].fill(0);
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[36..40].copy_from_slice(&(!sum).to_be_bytes());
}

#[test]
fn the_table_has_an_entry_for_each_block_and_no_more() {
    for block_size in [4 << 10, 512 << 10, 2 << 20] {
        let block = u64::from(block_size);
        for most in [block, 1000 * block, 65_536 * block] {
            for size in [512, block, block + 512, 5 * block - 512, most] {
                if size > most {
                    continue;
                }
                let parameters = Parameters::dynamic(most, ID).block_size(block_size);
                let mut layout = Layout::new(&parameters).unwrap();
                layout.place(0).unwrap();
                layout.set_virtual_size(size).unwrap();
                let mut file = Vec::new();
                layout.write_to(&mut file).unwrap();
                let blocks = size.div_ceil(block) as u32;
                assert_eq!(entries_and_size(&file), (blocks, size));
                let disk = Vhd::open_writable(file).unwrap();
                assert_eq!(disk.max_table_entries(), Some(blocks));
                assert_eq!(disk.notes(), [""; 0]);
                disk.check(|finding| panic!("{finding}")).unwrap();
            }
        }
        let parameters = Parameters::dynamic(7 * block + 512, ID).block_size(block_size);
        let disk = Vhd::create(Vec::new(), &parameters).unwrap();
        assert_eq!(entries_and_size(&disk.into_inner()).0, 8);
    }
}

#[test]
fn entries_that_no_block_needs_are_noted() {
    let parameters = Parameters::dynamic(4 << 20, ID).block_size(64 << 10);
    let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
    disk.write_at(1 << 20, b"data").unwrap();
    let file = disk.close().unwrap();
    // The table's 64 entries are padded to a sector, which has room for 128. A block is behind.
    for (entries, noted, findings) in [(64, 0, 0), (65, 1, 0), (128, 1, 0), (10_000, 1, 1)] {
        let mut file = file.clone();
        set_entries(&mut file, entries);
        let disk = Disk::open(&file).unwrap();
        let notes = disk.notes();
        assert_eq!(notes.len(), noted, "{notes:?}");
        if let Some(note) = notes.first() {
            assert!(note.contains(&format!("{entries} entries")), "{note}");
            assert!(note.contains("64 blocks"), "{note}");
        }
        assert_eq!(self::findings(&file), findings, "{entries} entries");
        assert_eq!(Vhd::open_writable(file).is_ok(), findings == 0);
    }
    let mut file = file;
    set_entries(&mut file, u32::MAX);
    assert_eq!(findings(&file), 2, "past the end and over a block");
    set_entries(&mut file, 63);
    assert_eq!(Vhd::open(file).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_fixed_layout_is_the_disk_and_a_footer() {
    let mut layout = Layout::new(&Parameters::fixed(5 << 20, ID)).unwrap();
    assert_eq!(layout.place(1).unwrap(), 2 << 20);
    let pieces: Vec<_> = layout.structures().collect();
    let footer = Footer::fixed(5 << 20, ID).unwrap().to_bytes().to_vec();
    assert_eq!(pieces, [(5 << 20, footer)]);
}

#[test]
fn storage_must_be_empty() {
    let used = vec![1; 100];
    let error = Vhd::create(used, &Parameters::fixed(512, ID)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_formats_tell_themselves_apart() {
    let raw = vec![3; 5000];
    let mut disk = Disk::open_writable(raw).unwrap();
    assert_eq!(disk.format(), Format::Raw);
    assert_eq!(disk.virtual_size(), 5000);
    disk.write_at(4999, b"x").unwrap();
    assert_eq!(disk.close().unwrap()[4998..], [3, b'x']);
    assert_eq!(Disk::open(Vec::new()).unwrap().format(), Format::Raw);

    for (_, parameters) in both(1 << 20) {
        let mut file = Vhd::create(Vec::new(), &parameters)
            .unwrap()
            .close()
            .unwrap();
        let mut disk = Disk::open_writable(file.clone()).unwrap();
        assert_eq!(disk.format(), Format::Vhd);
        disk.write_at(1000, b"x").unwrap();
        disk.flush().unwrap();
        file.write_at(60, &[0]).unwrap();
    }
}
