//! Any bytes, as a disk, to the footer and the inspector.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tar2vhd_fuzz::disk::{FOOTER, correct_footer, correct_superblock};
use vhd_format::vhd::Footer;

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.last_chunk::<FOOTER>() {
        if let Ok(footer) = Footer::from_bytes(bytes) {
            let bytes = footer.to_bytes();
            assert_eq!(Footer::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        }
    }
    if let Ok(report) = tar2vhd::Volume::from_bytes(data.to_vec()).and_then(|disk| disk.inspect()) {
        let _ = format!("{report:?}");
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) {
        correct_superblock(&mut data[..size]);
        correct_footer(&mut data[..size]);
    }
    size
});
