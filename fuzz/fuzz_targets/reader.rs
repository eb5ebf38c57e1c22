//! Changed bytes of metadata, with their checksums made right again or not, to the reader of file
//! systems. What verify finds clean, it reads to the end.

#![cfg_attr(fuzzing, no_main)]

/// The library shows its reader only where fuzz/run builds it.
#[cfg(fuzzing)]
mod target {
    use std::cell::RefCell;

    use libfuzzer_sys::fuzz_target;
    use tar2vhd::verify::{Verdict, VerifyOptions};
    use tar2vhd::{ErrorKind, Volume, exercise_reader};
    use tar2vhd_fuzz::verdict::Seeds;

    thread_local! {
        static SEEDS: RefCell<Seeds> = RefCell::default();
    }

    fuzz_target!(
        // The images are made before the time of the first input counts.
        init: SEEDS.with(|_| ()),
        |data: &[u8]| SEEDS.with_borrow_mut(|seeds| seeds.show(data, read))
    );

    fn read(volume: Volume, is_sound: bool) {
        let result = exercise_reader(volume.clone());
        let verdict = || volume.verify(&VerifyOptions::new().max_findings(1));
        // What is not understood by one may be understood by the other.
        let is_damage = |kind| !matches!(kind, ErrorKind::Unsupported | ErrorKind::Limit);
        let damage = match &result {
            Err(error) => Some(error).filter(|e| is_damage(e.kind())),
            Ok((_, errors)) => errors.iter().find(|e| is_damage(e.kind())),
        };
        if let Some(damage) = damage {
            assert!(!is_sound, "{damage:#}");
            let found = verdict();
            let is_clean = found.is_ok_and(|found| found.verdict() == Verdict::Clean);
            assert!(!is_clean, "clean, but {damage:#}");
        }
    }
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("fuzz/run builds this target");
}
