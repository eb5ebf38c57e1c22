//! Any bytes, as a layer, to an image. What becomes an image is read as a whole.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tar2vhd::Volume;
use tar2vhd::{Error, ErrorKind};
use tar2vhd_fuzz::convert::{Choice, LOWER_FAILS, PREFIX};
use tar2vhd_fuzz::{disk, tar_blocks, walk};

fuzz_target!(|data: &[u8]| {
    let Some((choice, layer)) = Choice::split(data) else {
        return;
    };
    let (image, summary) = match choice.convert(layer, 1) {
        Ok(converted) => converted,
        Err(error) => return expected(&error),
    };
    disk::Superblock::new(&image).check(&image, &summary);
    walk::check(&image, &summary);
    let report = Volume::from_bytes(image.clone())
        .and_then(|disk| disk.inspect())
        .unwrap();
    assert!(
        report.checks.hold() && report.problems.is_empty(),
        "{report:?}"
    );
    if choice.twice() {
        let (again, again_summary) = choice.convert(layer, 3).unwrap();
        assert!(again == image, "the bytes depend on the threads");
        assert_eq!(again_summary, summary);
    }
});

/// Panics at an error that no layer can be the cause of.
fn expected(error: &Error) {
    use ErrorKind::{Corrupt, Entry, Input, Limit, Unsupported};
    let kinds = [Corrupt, Entry, Limit, Unsupported];
    // The input itself does not fail, but the lower layers do.
    let lower = error.kind() == Input && format!("{error:#}").contains(LOWER_FAILS);
    assert!(kinds.contains(&error.kind()) || lower, "{error:?}");
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    if !seed.is_multiple_of(8) && size > PREFIX {
        tar_blocks::correct_checksums(&mut data[PREFIX..size]);
    }
    size
});
