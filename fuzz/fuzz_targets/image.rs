//! Any bytes as the JSON of an image.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tar2vhd_fuzz::image::exercise;

fuzz_target!(|data: &[u8]| exercise(data));
