//! Any bytes, as a disk, to the check to the bottom.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tar2vhd::Volume;
use tar2vhd::verify::{Verdict, VerifyOptions};
use tar2vhd_fuzz::disk::{correct_footer, correct_superblock};

/// The most findings to list.
const MOST: usize = 20;

fuzz_target!(|data: &[u8]| {
    let options = VerifyOptions::new().max_findings(MOST);
    let Ok(found) = Volume::from_bytes(data.to_vec()).and_then(|disk| disk.verify(&options)) else {
        return;
    };
    assert!(found.findings.len() <= MOST);
    assert_eq!(
        found.verdict() == Verdict::Damaged,
        !found.findings.is_empty()
    );
    for finding in &found.findings {
        let line = finding.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let again = Volume::from_bytes(data.to_vec())
        .and_then(|disk| disk.verify(&options))
        .unwrap();
    assert_eq!(again, found, "the threads decide what is found");
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    // Other checksums that are wrong are findings, but do not end the check.
    if !seed.is_multiple_of(8) {
        correct_superblock(&mut data[..size]);
        correct_footer(&mut data[..size]);
    }
    size
});
