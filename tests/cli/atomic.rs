//! The destination: replaced by a whole disk, or as it was.

use std::fs;
use std::process::Output;

use crate::common::{Layer, Place, assert_fails, code, gzip, large_layer, layer, stdout, tar2vhd};

/// Runs with the destination absent and with it present, and finds it as it was.
fn leaves_no_trace(message: &str, run: impl Fn(&Place) -> Output) {
    let place = Place::new();
    assert_fails(&run(&place), 1, message);
    assert_eq!(place.names(), [""; 0]);
    place.write("disk", "old");
    assert_fails(&run(&place), 1, message);
    assert_eq!(place.names(), ["disk"]);
    assert_eq!(fs::read(place.path("disk")).unwrap(), b"old");
}

#[test]
fn an_old_file_is_replaced() {
    let place = Place::new();
    let expected = place.converted(&layer(), &[]);
    place.write("disk", vec![b'x'; 10 << 20]);
    assert!(place.converted(&layer(), &[]) == expected);
    assert_eq!(place.names(), ["disk"]);
}

#[test]
fn bad_input_leaves_no_trace() {
    let good = layer();
    let compressed = gzip(&large_layer());
    let mut bad_sum = compressed.clone();
    let at = bad_sum.len() - 6;
    bad_sum[at] ^= 1;
    let mut bad_header = large_layer();
    bad_header.truncate(bad_header.len() - 1024);
    bad_header.extend(layer());
    let at = bad_header.len() - 1536 + 150;
    bad_header[at] ^= 1;
    let link = Layer::new()
        .add(tar::EntryType::Link, "nowhere", b"")
        .finish();
    for (input, arguments) in [
        (&b""[..], &[][..]),
        (&gzip(b""), &[]),
        (&[b'x'; 3000], &[]),
        (&good[..good.len() - 3000], &[]),
        (&compressed[..compressed.len() / 2], &[]),
        (&bad_sum, &[]),
        (&bad_header, &[]),
        (&link, &[]),
        (&good, &["--expect-size", "1"]),
        (&good, &["--json", "--expect-size", "1"]),
        (&good, &["--threads", "1", "--expect-size", "1"]),
        (&large_layer(), &["--max-size", "1MiB"]),
    ] {
        leaves_no_trace("", |place| {
            let output = place.convert(input, arguments);
            assert_eq!(stdout(&output), "");
            output
        });
    }
    leaves_no_trace("cannot open", |place| {
        tar2vhd()
            .current_dir(place.0.path())
            .args(["convert", "absent", "-o", "disk"])
            .output()
            .unwrap()
    });
    leaves_no_trace("cannot", |place| {
        tar2vhd()
            .current_dir(place.0.path())
            .args(["convert", ".", "-o", "disk"])
            .output()
            .unwrap()
    });
}

#[test]
fn destinations_that_are_no_files_are_refused() {
    let place = Place::new();
    fs::create_dir(place.path("directory")).unwrap();
    place.write("file", "old");
    for (destination, message) in [
        ("directory", "is a directory"),
        ("directory/", "is not the name of a file"),
        (".", "is not the name of a file"),
        ("", "is not the name of a file"),
        ("new/", "is not the name of a file"),
        ("absent/disk", "cannot create a file in"),
        // What is wrong with this one depends on the system.
        ("file/disk", "cannot"),
    ] {
        let input = tempfile::NamedTempFile::new().unwrap();
        fs::write(&input, layer()).unwrap();
        let output = tar2vhd()
            .current_dir(place.0.path())
            .arg("convert")
            .arg(input.path())
            .args(["-o", destination])
            .output()
            .unwrap();
        assert_fails(&output, 1, message);
    }
    assert_eq!(place.names(), ["directory", "file"]);
    assert_eq!(fs::read(place.path("file")).unwrap(), b"old");
}

#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_cannot_be_written_is_an_error() {
    // Not even root can make a file there.
    let place = Place::new();
    let input = place.write("layer.tar", layer());
    let output = tar2vhd()
        .arg("convert")
        .arg(input)
        .args(["-o", "/proc/self/disk"])
        .output()
        .unwrap();
    assert_fails(&output, 1, "cannot create a file in /proc/self");
}

#[test]
fn a_summary_that_cannot_be_printed_leaves_no_trace() {
    leaves_no_trace("cannot write to standard output", |place| {
        let input = tempfile::NamedTempFile::new().unwrap();
        fs::write(&input, layer()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        tar2vhd()
            .current_dir(place.0.path())
            .arg("convert")
            .arg(input.path())
            .args(["-o", "disk", "--json"])
            .stdout(writer)
            .output()
            .unwrap()
    });
}

#[test]
#[cfg(unix)]
fn a_closed_output_is_no_place_for_a_report() {
    let place = Place::new();
    place.converted(&layer(), &[]);
    place.write("layer.tar", layer());
    for command in [
        "convert layer.tar -o new --json",
        "scratch -o new --size 1MiB --json",
        "disk create new --size 1MiB --json",
        "inspect disk",
        "verify disk",
        "disk info disk",
        "roothash layer.tar",
        "completions bash",
        "man",
        "--help",
    ] {
        let script = format!("exec {} {command} >&-", env!("CARGO_BIN_EXE_tar2vhd"));
        let output = std::process::Command::new("sh")
            .current_dir(place.0.path())
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_fails(&output, 1, "cannot write to standard output: it is closed");
        assert_eq!(place.names(), ["disk", "layer.tar"]);
    }
    let script = format!(
        "{} convert layer.tar -o new >&-",
        env!("CARGO_BIN_EXE_tar2vhd")
    );
    let output = std::process::Command::new("sh")
        .current_dir(place.0.path())
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
}

#[test]
fn nobody_watching_is_no_error() {
    let place = Place::new();
    let input = place.write("layer.tar", layer());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = tar2vhd()
        .arg("convert")
        .arg(input)
        .arg("-o")
        .arg(place.path("disk"))
        .args(["--progress", "always"])
        .stderr(writer)
        .status()
        .unwrap();
    assert!(status.success());
    assert!(place.path("disk").exists());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// Runs the command line in a shell after `setup`.
    pub(super) fn shell(place: &Place, setup: &str, then: &str) -> Output {
        place.write("layer.tar", layer());
        let script = format!(
            "{setup}\n{} convert layer.tar -o disk\ncode=$?\n{then}\nexit $code",
            env!("CARGO_BIN_EXE_tar2vhd")
        );
        Command::new("sh")
            .current_dir(place.0.path())
            .args(["-c", &script])
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap()
    }

    #[test]
    fn the_mode_is_the_old_files_or_the_umasks() {
        for (umask, expected) in [("022", 0o644), ("027", 0o640), ("077", 0o600), ("0", 0o666)] {
            let place = Place::new();
            let output = shell(&place, &format!("umask {umask}"), "");
            assert_eq!(code(&output), 0, "{output:?}");
            assert_eq!(mode(&place.path("disk")), expected);
        }
        for old in [0o600, 0o644, 0o666, 0o440, 0o6755] {
            let place = Place::new();
            let disk = place.write("disk", "old");
            fs::set_permissions(&disk, fs::Permissions::from_mode(old)).unwrap();
            let output = shell(&place, "umask 077", "");
            assert_eq!(code(&output), 0, "{output:?}");
            assert_eq!(mode(&disk), old & 0o777);
            assert_ne!(fs::read(&disk).unwrap(), b"old");
        }
    }

    #[test]
    fn a_link_to_a_file_stays_a_link() {
        let place = Place::new();
        let expected = place.converted(&layer(), &[]);
        fs::create_dir(place.path("elsewhere")).unwrap();
        place.write("elsewhere/file", "old");
        fs::remove_file(place.path("disk")).unwrap();
        symlink("elsewhere/file", place.path("disk")).unwrap();
        assert!(place.converted(&layer(), &[]) == expected);
        assert!(place.path("disk").is_symlink());
        assert!(fs::read(place.path("elsewhere/file")).unwrap() == expected);
        assert_eq!(place.names(), ["disk", "elsewhere"]);
    }

    #[test]
    fn devices_and_links_to_them_are_refused() {
        let place = Place::new();
        let input = place.write("layer.tar", layer());
        symlink("/dev/null", place.path("link")).unwrap();
        symlink("absent", place.path("dangling")).unwrap();
        for (destination, message) in [
            (Path::new("/dev/null"), "is not a regular file"),
            (&place.path("link"), "is not a regular file"),
            (
                &place.path("dangling"),
                "it is a link to absent, which does not exist",
            ),
            (Path::new("/dev/stdout"), "is not written from start to end"),
        ] {
            let output = tar2vhd()
                .arg("convert")
                .arg(&input)
                .arg("-o")
                .arg(destination)
                .output()
                .unwrap();
            assert_fails(&output, 1, message);
        }
        let null = fs::metadata("/dev/null").unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(place.names(), ["dangling", "layer.tar", "link"]);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::process::Command;

    use super::*;
    use crate::common::stderr;
    use crate::skip;

    /// Runs a script in name spaces where it may mount.
    fn as_root_apart(place: &Place, script: &str) -> Option<Output> {
        let apart = |script: &str| {
            Command::new("unshare")
                .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
                .current_dir(place.0.path())
                .env("LC_ALL", "C")
                .env("TAR2VHD", env!("CARGO_BIN_EXE_tar2vhd"))
                .env_remove("SOURCE_DATE_EPOCH")
                .output()
        };
        let may = apart("mount -t tmpfs none .");
        if !may.is_ok_and(|output| output.status.success()) {
            skip::oracle_missing("name spaces are refused here: no full disk was tried");
            return None;
        }
        Some(apart(script).unwrap())
    }

    #[test]
    fn a_full_disk_is_told_with_what_it_lacks() {
        use std::os::unix::fs::MetadataExt;

        let place = Place::new();
        place.converted(&large_layer(), &[]);
        // Holes take no room.
        let expected = fs::metadata(place.path("disk")).unwrap().blocks() * 512;
        fs::remove_file(place.path("disk")).unwrap();
        place.write("layer.tar", large_layer());
        fs::create_dir(place.path("small")).unwrap();
        let room = 1 << 20;
        for threads in [1, 4] {
            let script = format!(
                "mount -t tmpfs -o size={room} none small
                echo old > small/disk
                code=0
                $TAR2VHD convert layer.tar -o small/disk --threads {threads} || code=$?
                ls -A small
                cat small/disk
                exit $code"
            );
            let Some(output) = as_root_apart(&place, &script) else {
                return;
            };
            assert_fails(&output, 1, "bytes more are needed");
            assert_eq!(stdout(&output), "disk\nold\n");
            let text = stderr(&output);
            let missing: u64 = text
                .split_whitespace()
                .find_map(|word| word.parse().ok())
                .unwrap();
            // To the accuracy of what is written at a time.
            let lacking = expected - room;
            assert!(
                (lacking..lacking + (600 << 10)).contains(&missing),
                "{missing} of {lacking}: {text}"
            );
        }
    }

    #[test]
    fn the_disk_has_holes() {
        use std::os::unix::fs::MetadataExt;

        let place = Place::new();
        let len = place.converted(&layer(), &["--align", "64MiB"]).len() as u64;
        assert_eq!(len, (64 << 20) + 512);
        let allocated = fs::metadata(place.path("disk")).unwrap().blocks() * 512;
        assert!(allocated < 1 << 20, "{allocated}");
    }

    /// Without /proc a file without a name could not get one.
    #[test]
    fn a_temporary_name_does_as_well() {
        let place = Place::new();
        let expected = place.converted(&layer(), &[]);
        fs::remove_file(place.path("disk")).unwrap();
        place.write("layer.tar", layer());
        let script = "mount -t tmpfs none /proc
            umask 027
            $TAR2VHD convert layer.tar -o disk --quiet
            stat -c %a disk
            chmod 604 disk
            $TAR2VHD convert layer.tar -o disk --quiet
            stat -c %a disk
            ! $TAR2VHD convert layer.tar -o disk --quiet --expect-size 1
            ls -A";
        let Some(output) = as_root_apart(&place, script) else {
            return;
        };
        assert_eq!(code(&output), 0, "{output:?}");
        assert_eq!(stdout(&output), "640\n604\ndisk\nlayer.tar\n");
        assert!(fs::read(place.path("disk")).unwrap() == expected);
    }
}
