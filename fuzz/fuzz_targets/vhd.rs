//! Any bytes, in their short form, as a VHD to be read and written to.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar2vhd_fuzz::virtual_disk::exercise;

fuzz_target!(|data: &[u8]| exercise(data));
