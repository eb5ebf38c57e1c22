//! Disks made empty and copied between formats, against the bytes that they should hold and
//! against other programs.

use std::fs;
use std::path::Path;

use tar2vhd::disk::MemoryDisk;
use tar2vhd::virtual_disk::{self, DiskOptions, DiskReport};
use tar2vhd::{CancelToken, DiskFormat, ErrorKind, Volume};
use vhd_format::vhd::Vhd;
use vhd_format::vhdx::Vhdx;
use vhd_format::{vhd, vhdx};

use crate::common::oracle::{run, shown};

const FORMATS: [DiskFormat; 5] = [
    DiskFormat::Raw,
    DiskFormat::Vhd,
    DiskFormat::VhdDynamic,
    DiskFormat::Vhdx,
    DiskFormat::VhdxFixed,
];

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
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

/// Contents of so many bytes: all noise, or a little of it at places that suit no alignment.
fn contents(len: usize, full: bool) -> Vec<u8> {
    if full {
        return noise(len as u64, len);
    }
    let mut bytes = vec![0; len];
    for place in [0, len / 3, len / 2 + 77, len.saturating_sub(700)] {
        let end = len.min(place + 5000);
        bytes[place..end].copy_from_slice(&noise(place as u64, end - place));
    }
    bytes
}

fn copied(input: &Volume, options: &DiskOptions) -> (Vec<u8>, DiskReport) {
    let disk = MemoryDisk::new();
    let report = input.convert_to(&disk, options).unwrap();
    let bytes = disk.into_vec();
    assert_eq!(report.size, bytes.len() as u64);
    (bytes, report)
}

fn read(volume: &Volume) -> Vec<u8> {
    let mut bytes = vec![0xee; volume.virtual_size() as usize];
    volume.read_at(0, &mut bytes).unwrap();
    bytes
}

fn open(bytes: Vec<u8>) -> Volume {
    let volume = Volume::from_bytes(bytes).unwrap();
    volume.check(|problem| panic!("{problem}")).unwrap();
    volume
}

#[test]
fn every_format_becomes_every_other() {
    for full in [false, true] {
        let raw = contents((3 << 20) + 7 * 512, full);
        let input = open(raw.clone());
        for from in FORMATS {
            let (first, _) = copied(&input, &DiskOptions::new().format(from));
            let first = open(first);
            assert_eq!(first.format(), from);
            assert!(read(&first) == raw, "{from:?}");
            for to in FORMATS {
                let options = DiskOptions::new().format(to);
                let (second, report) = copied(&first, &options);
                assert!(
                    second == copied(&input, &options).0,
                    "{from:?} shows in {to:?}"
                );
                assert_eq!(report.id.is_none(), to == DiskFormat::Raw);
                assert_eq!(report.virtual_size, raw.len() as u64);
                let second = open(second);
                assert_eq!(second.format(), to);
                assert!(read(&second) == raw, "{from:?} {to:?}");
            }
        }
    }
}

#[test]
fn ids_follow_from_the_contents_alone() {
    let len = (3 << 20) + 7 * 512;
    let raw = contents(len, false);
    let options = || DiskOptions::new().format(DiskFormat::Vhdx);
    let (bytes, report) = copied(&open(raw.clone()), &options());
    // The same with its last sector cut where the zeros begin that fill it up.
    let mut ends_in_zeros = raw.clone();
    ends_in_zeros[len - 300..].fill(0);
    let cut = ends_in_zeros[..len - 300].to_vec();
    let whole = copied(&open(ends_in_zeros), &options()).0;
    assert!(copied(&open(cut), &options()).0 == whole);
    // Each page counts, and so does its place.
    let mut seen = vec![report.id];
    let mut others = vec![raw.clone(); 4];
    others[0][7] ^= 1;
    others[1][len - 1] ^= 1;
    others[2][1 << 20] ^= 1;
    others[3].copy_within(..4096, 2 << 20);
    others[3][..4096].fill(0);
    for other in others {
        let (_, report) = copied(&open(other), &options());
        assert!(!seen.contains(&report.id));
        seen.push(report.id);
    }
    assert_eq!(copied(&open(bytes), &options()).1.id, seen[0]);
}

#[test]
fn disks_that_end_within_a_sector_are_filled_up() {
    for len in [1, 511, 512, 513, 4095, 4097, (1 << 20) - 1, (2 << 20) + 1] {
        let raw = noise(len as u64, len);
        let input = open(raw.clone());
        for to in FORMATS {
            let is_vhdx = matches!(to, DiskFormat::Vhdx | DiskFormat::VhdxFixed);
            for sector in [512, 4096] {
                if sector == 4096 && !is_vhdx {
                    continue;
                }
                let options = DiskOptions::new().format(to).logical_sector_size(sector);
                let (bytes, report) = copied(&input, &options);
                let sector = if to == DiskFormat::Raw {
                    1
                } else {
                    sector as usize
                };
                let mut expected = raw.clone();
                expected.resize(len.next_multiple_of(sector), 0);
                assert_eq!(report.virtual_size, expected.len() as u64);
                assert!(read(&open(bytes)) == expected, "{len} {to:?} {sector}");
            }
        }
    }
    let nothing = open(Vec::new());
    let (bytes, _) = copied(&nothing, &DiskOptions::new().format(DiskFormat::Raw));
    assert_eq!(bytes, [0; 0]);
    let error = nothing
        .convert_to(&MemoryDisk::new(), &DiskOptions::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

/// What qemu-img calls a format, and how it is to make one.
fn qemu(format: DiskFormat) -> (&'static str, &'static str) {
    match format {
        DiskFormat::Vhd => ("vpc", "subformat=fixed,force_size=on"),
        DiskFormat::VhdDynamic => ("vpc", "subformat=dynamic,force_size=on"),
        DiskFormat::Vhdx => ("vhdx", "subformat=dynamic,block_size=2M"),
        DiskFormat::VhdxFixed => ("vhdx", "subformat=fixed"),
        _ => ("raw", ""),
    }
}

fn qemu_img(arguments: &[&str], files: &[&Path]) -> Option<String> {
    let output = run("qemu-img", |c| c.args(arguments).args(files))?;
    assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn qemu_and_vhdiinfo_take_every_copy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (len, full) in [
        (512, true),
        ((5 << 20) + 512, true),
        ((67 << 20) + 3584, false),
    ] {
        let raw = contents(len, full);
        fs::write(at("raw"), &raw).unwrap();
        let input = Volume::open(at("raw")).unwrap();
        for format in FORMATS {
            let block_sizes: &[u32] = match format {
                DiskFormat::VhdDynamic => &[512 << 10, 2 << 20, 8 << 20],
                DiskFormat::Vhdx | DiskFormat::VhdxFixed => &[1 << 20, 4 << 20, 32 << 20],
                _ => &[0],
            };
            for &block_size in block_sizes {
                let mut options = DiskOptions::new().format(format).fsync(false);
                if block_size > 0 {
                    options = options.block_size(block_size);
                }
                Volume::open(at("raw"))
                    .and_then(|disk| disk.convert_to_file(at("disk"), &options))
                    .unwrap();
                let (name, _) = qemu(format);
                let info = ["info", "-f", name, "--output=json"];
                let Some(info) = qemu_img(&info, &[&at("disk")]) else {
                    return;
                };
                assert!(
                    info.contains(&format!("\"virtual-size\": {len},")),
                    "{info}"
                );
                if name == "vhdx" {
                    let cluster = format!("\"cluster-size\": {block_size},");
                    assert!(info.contains(&cluster), "{info}");
                    qemu_img(&["check", "-f", name], &[&at("disk")]);
                }
                qemu_img(
                    &["compare", "-f", name, "-F", "raw"],
                    &[&at("disk"), &at("raw")],
                );
                vhdiinfo(&at("disk"), format, len, 512);

                // QEMU reads no sectors of 4,096 bytes.
                if name == "vhdx" {
                    let options = options.logical_sector_size(4096);
                    let report = input.convert_to(&fs_file(&at("disk")), &options).unwrap();
                    let filled = report.virtual_size as usize;
                    assert_eq!(filled, len.next_multiple_of(4096));
                    vhdiinfo(&at("disk"), format, filled, 4096);
                    let mut bytes = read(&Volume::open(at("disk")).unwrap());
                    assert!(bytes.split_off(len).iter().all(|&byte| byte == 0));
                    assert!(bytes == raw);
                }
            }
        }
    }
}

/// An empty file that is written to.
fn fs_file(path: &Path) -> fs::File {
    let _ = fs::remove_file(path);
    fs::File::create_new(path).unwrap()
}

fn vhdiinfo(path: &Path, format: DiskFormat, size: usize, sector: u32) {
    if format == DiskFormat::Raw {
        return;
    }
    let Some(output) = run("vhdiinfo", |c| c.arg(path)) else {
        return;
    };
    let text = shown(&output);
    let kind = match format {
        DiskFormat::Vhd | DiskFormat::VhdxFixed => "Fixed",
        _ => "Dynamic",
    };
    for part in [
        format!("{size} bytes"),
        format!("Bytes per sector\t: {sector} bytes"),
        format!("Disk type\t\t: {kind}"),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
}

#[test]
fn every_disk_of_qemu_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let raw = contents((9 << 20) + 512, false);
    fs::write(at("raw"), &raw).unwrap();
    for from in FORMATS {
        let (name, options) = qemu(from);
        let mut arguments = vec!["convert", "-f", "raw", "-O", name];
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        let Some(_) = qemu_img(&arguments, &[&at("raw"), &at("disk")]) else {
            return;
        };
        let input = Volume::open(at("disk")).unwrap();
        assert_eq!(input.format(), from);
        for to in FORMATS {
            let (copy, _) = copied(&input, &DiskOptions::new().format(to));
            assert!(read(&open(copy)) == raw, "{from:?} {to:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn holes_are_skipped_and_kept() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let raw = fs::File::create_new(at("raw")).unwrap();
    raw.set_len(1 << 40).unwrap();
    // The last one is not whole, and some file systems know holes of 1 KiB.
    let places = [0_u64, (70 << 30) + 1024, (1 << 40) - 512];
    for place in places {
        raw.write_all_at(&noise(place, 512), place).unwrap();
    }
    let check = |volume: &Volume| {
        for place in places {
            let mut found = vec![0; 512];
            volume.read_at(place, &mut found).unwrap();
            assert!(found == noise(place, 512), "{volume:?} at {place}");
        }
    };
    let mut from = at("raw");
    // A fixed VHD has holes of its own.
    for to in [
        DiskFormat::Vhd,
        DiskFormat::Raw,
        DiskFormat::VhdxFixed,
        DiskFormat::VhdDynamic,
    ] {
        let path = at(to.as_str());
        let options = DiskOptions::new().format(to).fsync(false);
        let report = Volume::open(&from)
            .and_then(|disk| disk.convert_to_file(&path, &options))
            .unwrap();
        assert!(report.data <= 3 * 4096, "{report:?}");
        let found = path.metadata().unwrap();
        // A fixed VHDX of 1 TiB has a table of 8 MiB.
        assert!(
            found.blocks() * 512 < 17 << 20,
            "{to:?}: {}",
            found.blocks()
        );
        check(&Volume::open(&path).unwrap());
        // The table of a fixed VHDX says that all of it is data.
        if to != DiskFormat::VhdxFixed {
            from = path;
        }
    }
}

#[test]
fn new_disks_are_empty_and_the_same_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for format in FORMATS {
        let options = DiskOptions::new().format(format).fsync(false);
        for size in [4096, (3 << 30) + 4096] {
            let report = virtual_disk::create_file(size, at("disk"), &options).unwrap();
            assert_eq!((report.virtual_size, report.data), (size, 0));
            assert_eq!(at("disk").metadata().unwrap().len(), report.size);
            let volume = Volume::open(at("disk")).unwrap();
            volume.check(|problem| panic!("{problem}")).unwrap();
            assert_eq!((volume.format(), volume.virtual_size()), (format, size));
            let mut end = [1; 4096];
            volume.read_at(size - 4096, &mut end).unwrap();
            assert_eq!(end, [0; 4096]);
            let (name, _) = qemu(format);
            let info = ["info", "-f", name, "--output=json"];
            if let Some(info) = qemu_img(&info, &[&at("disk")]) {
                assert!(
                    info.contains(&format!("\"virtual-size\": {size},")),
                    "{info}"
                );
            }
            vhdiinfo(&at("disk"), format, size as usize, 512);
        }
        let make = |options: &DiskOptions| {
            let disk = MemoryDisk::new();
            let report = virtual_disk::create(1 << 20, &disk, options).unwrap();
            (disk.into_vec(), report)
        };
        assert_eq!(make(&options), make(&options));
        if format != DiskFormat::Raw {
            let (bytes, report) = make(&options.clone().id([9; 16]));
            assert_eq!(report.id, Some([9; 16]));
            assert_ne!(bytes, make(&options).0);
            let info = open(bytes).info().unwrap();
            let id = info.vhd.map(|vhd| vhd.unique_id);
            assert_eq!(
                id.or(info.vhdx.map(|vhdx| vhdx.virtual_disk_id)),
                Some([9; 16])
            );
        }
    }
    // The time is in a VHD's footer.
    let options = DiskOptions::new()
        .format(DiskFormat::Vhd)
        .time(946_684_800 + 77);
    let disk = MemoryDisk::new();
    virtual_disk::create(512, &disk, &options).unwrap();
    let info = open(disk.into_vec()).info().unwrap();
    assert_eq!(info.vhd.unwrap().created, 946_684_800 + 77);
}

#[test]
fn the_largest_disks_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    for (format, size, most) in [
        (DiskFormat::Vhdx, 64 << 40, 32 << 20),
        (DiskFormat::VhdDynamic, 2040 << 30, 5 << 20),
        (DiskFormat::Vhd, 2040 << 30, u64::MAX),
    ] {
        let options = DiskOptions::new().format(format).fsync(false);
        let report = virtual_disk::create_file(size, &path, &options).unwrap();
        assert!(report.size < most, "{report:?}");
        assert_eq!(Volume::open(&path).unwrap().virtual_size(), size);
        let error = virtual_disk::create_file(size + 512, &path, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    }
}

#[test]
fn what_no_disk_can_be_is_refused() {
    let new = DiskOptions::new;
    let vhd = || new().format(DiskFormat::Vhd);
    let dynamic = || new().format(DiskFormat::VhdDynamic);
    for (size, options) in [
        (0, new()),
        (511, new()),
        (513, vhd()),
        (512, new().logical_sector_size(4096)),
        (4096, new().logical_sector_size(1024)),
        (4096, new().physical_sector_size(0)),
        (4096, vhd().logical_sector_size(4096)),
        (4096, new().block_size(512 << 10)),
        (4096, new().block_size(3 << 20)),
        (4096, new().block_size(512 << 20)),
        (4096, dynamic().block_size(2048)),
        (4096, vhd().block_size(1 << 20)),
        (u64::MAX, new().format(DiskFormat::Raw)),
    ] {
        let disk = MemoryDisk::new();
        let error = virtual_disk::create(size, &disk, &options).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidOptions,
            "{size} {options:?}"
        );
        assert_eq!(disk.into_vec(), [0; 0]);
    }
}

#[test]
fn damage_and_cancellation_leave_the_output_alone() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("copy"), "old").unwrap();
    let refused = |bytes: &[u8], options: &DiskOptions| {
        fs::write(at("disk"), bytes).unwrap();
        let error = Volume::open(at("disk"))
            .and_then(|disk| disk.convert_to_file(at("copy"), options))
            .unwrap_err();
        assert_eq!(fs::read(at("copy")).unwrap(), b"old");
        error.kind()
    };
    let options = DiskOptions::new();
    let input = open(contents(4 << 20, true));

    // A footer that is wrong although what is before it could be copied.
    let (mut bytes, _) = copied(&input, &options.clone().format(DiskFormat::Vhd));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(refused(&bytes, &options), ErrorKind::InvalidDisk);

    // A block past the end of the file, which is met on the way.
    let (mut bytes, _) = copied(&input, &options);
    bytes[(3 << 20) + 24..][..8].copy_from_slice(&((1 << 40) | 6_u64).to_le_bytes());
    assert_eq!(refused(&bytes, &options), ErrorKind::InvalidDisk);

    let now = std::time::Instant::now();
    let late = options.clone().cancel(CancelToken::with_deadline(now));
    let sound = open(contents(4 << 20, true));
    let error = sound.convert_to(&MemoryDisk::new(), &late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let hour = std::time::Duration::from_secs(3600);
    let early = options
        .clone()
        .cancel(CancelToken::with_deadline(now + hour));
    sound.convert_to(&MemoryDisk::new(), &early).unwrap();
    let cancel = CancelToken::new();
    let at_once = cancel.clone();
    let options = options.cancel(cancel).progress(move |_| at_once.cancel());
    let good = contents(4 << 20, true);
    assert_eq!(refused(&good, &options), ErrorKind::Cancelled);
}

/// A differencing VHD that has all of its second half itself and names its parent as told.
fn differencing_vhd(parent: [u8; 16], name: &str, relative: Option<&str>) -> Vec<u8> {
    let parameters = vhd::Parameters::dynamic(8192, [0xcd; 16]).block_size(4096);
    let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
    disk.write_at(4096, &[0xcc; 4096]).unwrap();
    let mut file = disk.close().unwrap();
    let sum = |bytes: &mut [u8], checksum: usize| {
        bytes[checksum..checksum + 4].fill(0);
        let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
        bytes[checksum..checksum + 4].copy_from_slice(&(!sum).to_be_bytes());
    };
    // What a tool may put between the structures.
    let locator = file.len() - 512;
    let path: Vec<u8> = relative
        .unwrap_or_default()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let footer = file.split_off(locator);
    file.extend_from_slice(&path);
    file.resize(locator + 512, 0);
    file.extend_from_slice(&footer);
    for start in [0, file.len() - 512] {
        file[start + 63] = 4;
        sum(&mut file[start..start + 512], 64);
    }
    let header = &mut file[512..1536];
    header[40..56].copy_from_slice(&parent);
    for (i, unit) in name.encode_utf16().enumerate() {
        header[64 + 2 * i..][..2].copy_from_slice(&unit.to_be_bytes());
    }
    if relative.is_some() {
        header[576..580].copy_from_slice(b"W2ru");
        header[584..588].copy_from_slice(&(path.len() as u32).to_be_bytes());
        header[592..600].copy_from_slice(&(locator as u64).to_be_bytes());
    }
    sum(header, 36);
    file
}

#[test]
fn parents_are_found_beside_the_disk_and_where_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("base")).unwrap();
    fs::create_dir_all(at("children")).unwrap();
    let parent = |id: u8, fill: u8| {
        let mut disk = Vhd::create(Vec::new(), &vhd::Parameters::fixed(8192, [id; 16])).unwrap();
        disk.write_at(0, &[fill; 8192]).unwrap();
        disk.close().unwrap()
    };
    fs::write(at("base/parent.vhd"), parent(1, 0xaa)).unwrap();
    let half = |fill: u8| [vec![fill; 4096], vec![0xcc; 4096]].concat();
    let found = |child: Vec<u8>| {
        fs::write(at("children/child.vhd"), child).unwrap();
        Volume::open(at("children/child.vhd"))
    };
    let by_path = differencing_vhd([1; 16], "x", Some(r"..\base\parent.vhd"));
    assert!(read(&found(by_path.clone()).unwrap()) == half(0xaa));
    // And so it is copied.
    let options = DiskOptions::new().format(DiskFormat::Raw);
    Volume::open(at("children/child.vhd"))
        .and_then(|disk| disk.convert_to_file(at("raw"), &options))
        .unwrap();
    assert!(fs::read(at("raw")).unwrap() == half(0xaa));
    // But neither onto itself nor onto its parent, without which it is worth nothing.
    for lost in ["children/child.vhd", "base/parent.vhd"] {
        fs::hard_link(at(lost), at("link")).unwrap();
        for path in [at(lost), at("link")] {
            let before = fs::read(&path).unwrap();
            let error = Volume::open(at("children/child.vhd"))
                .and_then(|disk| disk.convert_to_file(&path, &options))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
            assert!(fs::read(&path).unwrap() == before);
        }
        fs::remove_file(at("link")).unwrap();
    }

    // By its name; whole paths are not followed.
    let whole = at("base/parent.vhd").to_str().unwrap().to_owned();
    for relative in [
        None,
        Some(&*whole),
        Some(r"C:\base\parent.vhd"),
        Some(r"\\host\share\parent.vhd"),
    ] {
        let child = differencing_vhd([1; 16], "parent.vhd", relative);
        let error = found(child.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        fs::write(at("children/parent.vhd"), parent(1, 0xbb)).unwrap();
        assert!(read(&found(child).unwrap()) == half(0xbb), "{relative:?}");
        fs::remove_file(at("children/parent.vhd")).unwrap();
    }

    // One that is another, and a disk that is its own parent.
    fs::write(at("base/parent.vhd"), parent(2, 0xaa)).unwrap();
    assert_eq!(found(by_path).unwrap_err().kind(), ErrorKind::InvalidDisk);
    let own = differencing_vhd([0xcd; 16], "child.vhd", None);
    assert_eq!(found(own).unwrap_err().kind(), ErrorKind::InvalidDisk);

    // What the disk says of itself needs no parent.
    let alone = Volume::open_alone(at("children/child.vhd")).unwrap();
    let info = alone.info().unwrap();
    let parent = info.vhd.unwrap().parent.unwrap();
    assert_eq!(parent.pairs[0], ("name".to_owned(), "child.vhd".to_owned()));
    alone.read_at(0, &mut [0]).unwrap_err();
}

#[test]
fn a_disk_tells_what_it_is() {
    let parameters = vhdx::Parameters::new(5 << 30)
        .block_size(8 << 20)
        .logical_sector_size(4096)
        .log_size(2 << 20)
        .creator("somebody");
    let mut disk = Vhdx::create(Vec::new(), &parameters).unwrap();
    disk.write_at(1 << 30, b"x").unwrap();
    disk.write_at(3 << 30, b"x").unwrap();
    // As if its writer had died.
    disk.flush().unwrap();
    let id = disk.virtual_disk_id();
    let mut file = disk.into_inner();
    file[128 << 10] ^= 1;
    let volume = Volume::from_bytes(file).unwrap();
    let info = volume.info().unwrap();
    assert_eq!(
        (info.format, info.virtual_size),
        (DiskFormat::Vhdx, 5 << 30)
    );
    assert_eq!(info.vhd, None);
    let vhdx = info.vhdx.unwrap();
    assert_eq!(vhdx.creator, "somebody");
    assert_eq!(
        (vhdx.logical_sector_size, vhdx.physical_sector_size),
        (4096, 4096)
    );
    assert_eq!(vhdx.virtual_disk_id, id.into_bytes());
    assert_eq!(vhdx.log_size, 2 << 20);
    assert_eq!(vhdx.replayed_entries, 1);
    assert_eq!(vhdx.damaged_headers, [false, true]);
    assert_eq!(vhdx.damaged_region_tables, [false, false]);
    let blocks = vhdx.blocks;
    assert_eq!(
        (blocks.size, blocks.all, blocks.allocated),
        (8 << 20, 640, 2)
    );
    assert_eq!((vhdx.regions.len(), vhdx.metadata.len()), (2, 5));
    let mut problems = 0;
    volume.check(|_| problems += 1).unwrap();
    assert_eq!(problems, 1);
}
