//! Changed bytes of metadata, with their checksums made right again or not, to `verify`.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tar2vhd_fuzz::verdict::Seeds;

thread_local! {
    static SEEDS: RefCell<Seeds> = RefCell::default();
}

fuzz_target!(
    // The images are made before the time of the first input counts.
    init: SEEDS.with(|_| ()),
    |data: &[u8]| SEEDS.with_borrow_mut(|seeds| seeds.exercise(data))
);
