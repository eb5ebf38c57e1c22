//! Any bytes, in their short form, as a differencing disk and its parents.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar2vhd_fuzz::virtual_disk::exercise_chain;

fuzz_target!(|data: &[u8]| exercise_chain(data));
