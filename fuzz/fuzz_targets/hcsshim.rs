//! Any bytes, as a layer, to an image of hcsshim's profile, which `verify` judges.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tar2vhd::Volume;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::verify::{FindingKind, VerifyOptions};
use tar2vhd::{Options, Profile};
use tar2vhd_fuzz::tar_blocks;

/// Bytes before the layer that choose the options.
const PREFIX: usize = 1;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, layer)) = data.split_first() else {
        return;
    };
    let chosen = |bit: u8| choice & 1 << bit != 0;
    let faithful = chosen(0);
    let convert = |threads| {
        let disk = MemoryDisk::new();
        let options = Options::new()
            .profile(Profile::Hcsshim)
            .faithful(faithful)
            .whiteouts(!chosen(1))
            .inline_data(chosen(2))
            .max_size(16 << 20)
            .max_entries(1 << 12)
            .max_window(8 << 20)
            .threads(threads);
        tar2vhd::convert(layer, &disk, &options).map(|summary| (disk.into_vec(), summary))
    };
    let Ok((image, summary)) = convert(1) else {
        return;
    };
    if chosen(7) {
        let again = convert(3).unwrap();
        assert!(again == (image.clone(), summary), "the threads change it");
    }
    let found = Volume::from_bytes(image)
        .and_then(|disk| disk.verify(&VerifyOptions::new().max_findings(64)))
        .unwrap();
    // hcsshim leaves the padding of inode bitmaps clear. What else it gets wrong is refused,
    // unless it was asked for.
    let others = found
        .findings
        .iter()
        .filter(|finding| finding.kind != FindingKind::BitmapPadding);
    assert!(
        faithful || others.clone().count() == 0,
        "{:?}",
        found.findings
    );
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) && size > PREFIX {
        tar_blocks::correct_checksums(&mut data[PREFIX..size]);
    }
    size
});
