//! Numbers of threads beyond what helps, and threads that the system refuses.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Place, gzip, large_layer, layer};

#[test]
fn a_number_of_threads_beyond_all_use_takes_no_longer() {
    let place = Place::new();
    let start = Instant::now();
    let disk = place.converted(&layer(), &["--threads", "100000", "--verity"]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(disk == place.converted(&layer(), &["--threads", "1", "--verity"]));
}

/// Each number of threads that the system grants gives the disk or an error, and no panic.
#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_the_system_refuses_is_an_error() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use crate::common::names;

    let place = Place::new();
    let input = place.write("layer.tar.gz", gzip(&large_layer()));
    let disk = place.converted(&large_layer(), &["--format", "raw"]);
    let whole = place.write("whole.raw", &disk);
    if fs::metadata(&input).unwrap().uid() != 0 {
        // The limit counts the processes of a user, and does not hold for root.
        crate::skip::oracle_missing("refused threads: not root");
        return;
    }
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (mut refused, mut done) = (0, 0);
    for limit in 1..=24_u32 {
        // A user of its own, so that no other process counts.
        let user = 70_000 + limit;
        let output = tempfile::tempdir().unwrap();
        chown(output.path(), Some(user), Some(user)).unwrap();
        let run = |arguments: &[&std::ffi::OsStr]| {
            Command::new("prlimit")
                .arg(format!("--nproc={limit}"))
                .arg(env!("CARGO_BIN_EXE_tar2vhd"))
                .args(arguments)
                .current_dir(output.path())
                .uid(user)
                .gid(user)
                .output()
                .unwrap()
        };
        let convert = ["convert", "--threads=8", "--format=raw", "-o", "disk"];
        let mut arguments: Vec<_> = convert.iter().map(std::ffi::OsStr::new).collect();
        arguments.push(input.as_os_str());
        let converted = run(&arguments);
        let verified = run(&["verify".as_ref(), whole.as_os_str()]);
        for result in [&converted, &verified] {
            let stderr = String::from_utf8_lossy(&result.stderr);
            assert!(!stderr.contains("panic"), "{limit}: {stderr}");
            match result.status.code() {
                Some(0) => done += 1,
                Some(1) => {
                    assert!(stderr.contains("error: "), "{limit}: {stderr}");
                    refused += 1;
                }
                other => panic!("{limit}: {other:?}: {stderr}"),
            }
        }
        match converted.status.success() {
            true => assert!(fs::read(output.path().join("disk")).unwrap() == disk),
            false => assert_eq!(names(output.path()), [""; 0]),
        }
    }
    assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
}
