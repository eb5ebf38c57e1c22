//! Any bytes as the disk of a layer below, or good ones with bytes changed, and a layer over it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar2vhd_fuzz::lower::exercise;

fuzz_target!(|data: &[u8]| exercise(data));
