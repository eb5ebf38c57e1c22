//! Any text as the map of a PAX sparse file, held against a plain reading of the map.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar::{Builder, EntryType, Header};
use tar2vhd::disk::MemoryDisk;
use tar2vhd::{DiskFormat, Options};
use tar2vhd_fuzz::disk::readable;

/// The first bytes: the version of the format, the size of the file, and how much data follows.
const PREFIX: usize = 6;

fuzz_target!(|data: &[u8]| {
    let Some((prefix, map)) = data.split_first_chunk::<PREFIX>() else {
        return;
    };
    let [version, size @ .., more] = *prefix;
    let size = u32::from_le_bytes(size) & 0x3f_ffff;
    let contents: Vec<u8> = (0..usize::from(more) * 61).map(|i| i as u8 | 1).collect();
    let Some(layer) = layer(version % 3, u64::from(size), map, &contents) else {
        return;
    };
    let disk = MemoryDisk::new();
    let options = Options::new()
        .format(DiskFormat::Raw)
        .max_size(64 << 20)
        .threads(1);
    let converted = tar2vhd::convert(&layer[..], &disk, &options);
    let model = model(version % 3, u64::from(size), map, &contents);
    match (converted, model) {
        (Ok(_), Some(model)) => assert!(read(&disk.into_vec()) == model, "other contents"),
        (Ok(_), None) => {}
        (Err(error), Some(_)) => panic!("refused: {error}"),
        (Err(_), None) => {}
    }
});

/// A tar with one sparse file, or none if PAX cannot hold the map.
fn layer(version: u8, size: u64, map: &[u8], contents: &[u8]) -> Option<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let size = size.to_string();
    let mut body = contents.to_vec();
    match version {
        0 => {
            // Pairs of lines become pairs of records.
            let mut records: Vec<(&str, &[u8])> = vec![("GNU.sparse.size", size.as_bytes())];
            let mut lines = map.split(|byte| *byte == b'\n');
            while let (Some(offset), Some(length)) = (lines.next(), lines.next()) {
                records.push(("GNU.sparse.offset", offset));
                records.push(("GNU.sparse.numbytes", length));
            }
            let count = (records.len() / 2).to_string();
            records.insert(1, ("GNU.sparse.numblocks", count.as_bytes()));
            tar.append_pax_extensions(records).ok()?;
        }
        1 => tar
            .append_pax_extensions([
                ("GNU.sparse.name", &b"f"[..]),
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", map),
            ])
            .ok()?,
        _ => {
            tar.append_pax_extensions([
                ("GNU.sparse.major", &b"1"[..]),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"f"),
                ("GNU.sparse.realsize", size.as_bytes()),
            ])
            .ok()?;
            body = map.to_vec();
            body.resize(body.len().next_multiple_of(512), 0);
            body.extend_from_slice(contents);
        }
    }
    let mut header = Header::new_ustar();
    header.set_path("f").ok()?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(body.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, &body[..]).ok()?;
    tar.into_inner().ok()
}

/// The file's contents, if the map is plainly a valid one: segments in order, inside the file,
/// and as long together as the data.
fn model(version: u8, size: u64, map: &[u8], contents: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(map).ok()?;
    let fields: Vec<&str> = match version {
        1 => text.split(',').collect(),
        _ => text.split('\n').collect(),
    };
    let number = |text: &&str| {
        let plain = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let mut numbers: Vec<u64> = fields.iter().map_while(number).collect();
    match version {
        2 => {
            let count = usize::try_from(*numbers.first()?).ok()?;
            // The lines of the map end with one, and nothing but padding follows.
            if numbers.len() != 1 + count.checked_mul(2)? || fields.len() != numbers.len() + 1 {
                return None;
            }
            if !fields.last()?.is_empty() {
                return None;
            }
            numbers.remove(0);
        }
        _ if numbers.len() != fields.len() => return None,
        _ => {}
    }
    if !numbers.len().is_multiple_of(2) || numbers.is_empty() {
        return None;
    }
    let mut file = vec![0; usize::try_from(size).ok()?];
    let (mut end, mut data) = (0, contents);
    for pair in numbers.chunks_exact(2) {
        let (offset, length) = (pair[0], pair[1]);
        if offset < end || offset + length > size || length > data.len() as u64 {
            return None;
        }
        end = offset + length;
        let (now, later) = data.split_at(length as usize);
        file[offset as usize..end as usize].copy_from_slice(now);
        data = later;
    }
    data.is_empty().then_some(file)
}

fn read(image: &[u8]) -> Vec<u8> {
    let fs = ext4_view::Ext4::load(Box::new(readable(image))).unwrap();
    fs.read("/f").unwrap()
}
