//! Any bytes, as a disk and the dm-verity hash tree over it.
//!
//! The first four bytes say where the superblock of the tree is, the fifth whether the tree is on
//! a device of its own, which then begins there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar2vhd::Volume;
use tar2vhd::verity::VerityCheck;

fuzz_target!(|input: &[u8]| {
    let Some(([place @ .., apart], disk)) = input.split_first_chunk::<5>() else {
        return;
    };
    let place = u32::from_le_bytes(*place) as usize;
    let (data, hashes, offset) = match *apart & 1 {
        0 => (disk, disk, place as u64),
        _ => {
            let (data, hashes) = disk.split_at(place.min(disk.len()));
            (data, hashes, 0)
        }
    };
    let Ok(found) = check(data, hashes, offset) else {
        return;
    };
    // Checked blocks exist, whatever the superblock says.
    assert!(found.data_blocks <= data.len() as u64 / 4096);
    if let Some(bad) = found.first_bad {
        assert!(bad.offset < input.len() as u64);
    }
    let again = check(data, hashes, offset).unwrap();
    assert_eq!(again, found, "the threads decide what is found");

    // A disk that is as its tree says is not so with another byte.
    if found.first_bad.is_none() {
        let mut other = data.to_vec();
        let byte = (place * 7919) % (found.data_blocks as usize * 4096);
        other[byte] ^= 1;
        let hashes = match *apart & 1 {
            0 => &other[..],
            _ => hashes,
        };
        if let Ok(changed) = check(&other, hashes, offset) {
            // The tree may lie over its data, and then the byte is in both.
            let is_found = changed.first_bad.is_some() || changed.root_hash != found.root_hash;
            assert!(is_found, "byte {byte}");
        }
    }
});

fn check(data: &[u8], hashes: &[u8], offset: u64) -> tar2vhd::Result<VerityCheck> {
    let disk = |bytes: &[u8]| Volume::raw_from_storage(bytes.to_vec());
    disk(data)?.verify_verity(&disk(hashes)?, offset)
}
