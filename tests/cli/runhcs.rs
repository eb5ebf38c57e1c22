//! The drop-in for runhcs, driven as containerd drives it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::common::{Place, layer, tar2vhd};

/// The command under the name runhcs.
fn runhcs(place: &Place) -> Command {
    let path = place.path(if cfg!(windows) {
        "runhcs.exe"
    } else {
        "runhcs"
    });
    let built = env!("CARGO_BIN_EXE_tar2vhd");
    if !path.exists() && fs::hard_link(built, &path).is_err() {
        fs::copy(built, &path).unwrap();
    }
    let mut command = Command::new(path);
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

/// Runs it as go-runhcs does: both outputs into one buffer, and the exit status. Standard input
/// gets these bytes.
fn combined(mut command: Command, input: &[u8]) -> (i32, String) {
    let (mut reader, writer) = io::pipe().unwrap();
    command
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let mut child = command.spawn().unwrap();
    // What the command holds of the pipe would keep it open.
    drop(command);
    let mut stdin = child.stdin.take().unwrap();
    let text = thread::scope(|scope| {
        // A command that fails need not have read everything.
        scope.spawn(move || stdin.write_all(input).ok());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    (child.wait().unwrap().code().unwrap(), text)
}

/// The flags that containerd passes before the verb.
fn with_globals(place: &Place) -> Command {
    let mut command = runhcs(place);
    command.args(["--debug", "--log"]).arg(place.path("log"));
    command.args(["--log-format", "json", "--owner", "containerd"]);
    command
}

fn logged(place: &Place) -> Vec<(String, String)> {
    let text = fs::read_to_string(place.path("log")).unwrap_or_default();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let time = line["time"].as_str().unwrap();
            assert_eq!((time.len(), &time[19..]), (20, "Z"), "{time}");
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            (field("level"), field("msg"))
        })
        .collect()
}

fn create_scratch(place: &Place, to: &Path, more: &[&str]) -> (i32, String) {
    let mut command = with_globals(place);
    command
        .args(["create-scratch", "--destpath"])
        .arg(to)
        .args(more);
    combined(command, b"")
}

fn convert(place: &Place, flags: &[(&str, &Path)], input: &[u8]) -> (i32, String) {
    let mut command = with_globals(place);
    command.arg("tar2vhd");
    for (name, path) in flags {
        command.arg(name).arg(path);
    }
    combined(command, input)
}

const DONE: (i32, String) = (0, String::new());

/// The size of the disk inside a VHDX.
fn virtual_size(path: &Path) -> u64 {
    vhd_format::Disk::open(fs::File::open(path).unwrap())
        .unwrap()
        .virtual_size()
}

#[test]
fn a_layer_on_standard_input_becomes_what_convert_makes() {
    let place = Place::new();
    let [scratch, vhd] = ["scratch.vhdx", "layer.vhd"].map(|name| place.path(name));
    assert_eq!(create_scratch(&place, &scratch, &[]), DONE);
    let flags = [("--scratchpath", &*scratch), ("--destpath", &*vhd)];
    assert_eq!(convert(&place, &flags, &layer()), DONE);
    let converted = place.converted(&layer(), &[]);
    assert!(fs::read(&vhd).unwrap() == converted);
    let wrote = format!("wrote {} bytes to {}", converted.len(), vhd.display());
    assert_eq!(logged(&place).last(), Some(&("debug".to_owned(), wrote)));

    // The same from a file, in the other spelling, by the command's own name.
    let tar = place.write("layer.tar", layer());
    fs::remove_file(&vhd).unwrap();
    let mut command = tar2vhd();
    command.args(["runhcs", "-log-format=text", "tar2vhd"]);
    for (name, path) in [
        ("sourcepath", &tar),
        ("scratchpath", &scratch),
        ("destpath", &vhd),
    ] {
        command.arg(format!("-{name}={}", path.display()));
    }
    assert_eq!(combined(command, b""), DONE);
    assert!(fs::read(&vhd).unwrap() == converted);
}

#[test]
fn errors_are_said_as_they_are_and_logged() {
    let place = Place::new();
    let [scratch, vhd] = ["scratch.vhdx", "layer.vhd"].map(|name| place.path(name));
    assert_eq!(create_scratch(&place, &scratch, &["--sizeGB", "1"]), DONE);
    let no_disk = place.write("no-disk", "x");
    let absent = place.path("absent");
    let in_no_directory = place.path("absent/layer.vhd");
    let both = |scratch, vhd| vec![("--scratchpath", scratch), ("--destpath", vhd)];
    for (flags, input, message) in [
        (vec![], &layer()[..], "'scratchpath' is required"),
        (both(Path::new(""), &vhd), &[], "'scratchpath' is required"),
        (
            vec![("--scratchpath", &*scratch)],
            &[],
            "'destpath' is required",
        ),
        (both(&no_disk, &vhd), &[], "failed to open 'scratchpath'"),
        (both(&absent, &vhd), &[], "failed to open 'scratchpath'"),
        (
            vec![("--sourcepath", &*absent)],
            &[],
            "failed to open 'sourcepath'",
        ),
        (
            both(&scratch, &vhd),
            b"no tar at all",
            "failed to convert tar2vhd to",
        ),
        (both(&scratch, &vhd), b"", "the input is empty"),
        (
            both(&scratch, &in_no_directory),
            &[],
            "cannot create a file",
        ),
        (
            vec![("--scratch", &*scratch)],
            &[],
            "flag provided but not defined: -scratch",
        ),
        (vec![("too", &*scratch)], &[], "invalid command usage"),
    ] {
        let (code, text) = convert(&place, &flags, input);
        assert_eq!(code, 1, "{flags:?}");
        assert!(text.contains(message), "{message:?} is not in {text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
        // The line of standard error, with its end.
        assert_eq!(logged(&place).last(), Some(&("error".to_owned(), text)));
        assert!(!vhd.exists());
    }
}

#[test]
fn other_verbs_are_refused_by_name() {
    let place = Place::new();
    for verb in ["run", "create", "prepare-disk", "state"] {
        let mut command = with_globals(&place);
        command.args([verb, "--bundle", "x", "container"]);
        let (code, text) = combined(command, b"");
        assert_eq!(code, 1);
        for part in [verb, "tar2vhd", "create-scratch"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
    let mut command = runhcs(&place);
    command.args(["--log-format", "xml", "tar2vhd"]);
    assert_eq!(
        combined(command, b""),
        (1, "unknown log-format \"xml\"\n".to_owned())
    );
    for arguments in [&["--help"][..], &["help"], &["tar2vhd", "-h"], &[]] {
        let mut command = runhcs(&place);
        command.args(arguments);
        let (code, text) = combined(command, b"");
        assert_eq!(code, 0, "{arguments:?}");
        assert!(text.contains("create-scratch --destpath"), "{text}");
    }
}

#[test]
fn a_scratch_disk_has_the_size_that_is_asked_for() {
    let place = Place::new();
    for (size, gib) in [
        (None, 20),
        (Some("0"), 20),
        (Some("20"), 20),
        (Some("1"), 1),
        (Some("65536"), 65_536),
    ] {
        let path = place.path(&format!("{size:?}.vhdx"));
        let more: Vec<_> = size.iter().flat_map(|size| ["--sizeGB", size]).collect();
        assert_eq!(create_scratch(&place, &path, &more), DONE);
        assert_eq!(virtual_size(&path), gib << 30);
        fs::remove_file(&path).unwrap();
    }
    let path = place.path("scratch.vhdx");
    for (more, message) in [
        (
            ["--sizeGB", "-1"],
            "invalid value \"-1\" for flag -sizeGB: parse error",
        ),
        (
            ["--sizeGB", "x"],
            "invalid value \"x\" for flag -sizeGB: parse error",
        ),
        (["--sizeGB", "65537"], "a size of 70369817919488 bytes"),
        (["--destpath", ""], "'destpath' is required"),
    ] {
        let (code, text) = create_scratch(&place, &path, &more);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(message), "{message:?} is not in {text:?}");
        assert!(!path.exists());
    }
    // What is there may be in use.
    fs::write(&path, "in use").unwrap();
    let (code, text) = create_scratch(&place, &path, &["--use-virtual-memory"]);
    assert_eq!(code, 1);
    assert!(text.contains("there is something of that name"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), b"in use");
}

#[test]
fn the_cache_is_seeded_once_and_copied_then() {
    let place = Place::new();
    let cache = place.path("cache.vhdx");
    let with_cache = ["--cache-path", cache.to_str().unwrap()];
    let create = |name: &str, more: &[&str]| {
        let path = place.path(name);
        assert_eq!(create_scratch(&place, &path, more), DONE);
        fs::read(&path).unwrap()
    };
    // Another size has nothing to do with it.
    create("small", &[&with_cache[..], &["--sizeGB", "1"]].concat());
    assert!(!cache.exists());
    let first = create("first", &with_cache);
    assert!(fs::read(&cache).unwrap() == first);
    // What is there counts, whatever it is.
    let small = fs::read(place.path("small")).unwrap();
    fs::write(&cache, &small).unwrap();
    assert!(create("second", &with_cache) == small);
    assert!(create("third", &[&with_cache[..], &["--sizeGB", "20"]].concat()) == small);
    let other = create("fourth", &[&with_cache[..], &["--sizeGB", "2"]].concat());
    assert!(other != small && fs::read(&cache).unwrap() == small);
    // But not what is no disk.
    fs::write(&cache, "x").unwrap();
    let fifth = place.path("fifth");
    let (code, text) = create_scratch(&place, &fifth, &with_cache);
    assert_eq!(code, 1);
    assert!(text.contains("failed to copy cached file"), "{text}");
    assert!(!fifth.exists());
}

#[test]
fn eight_at_once_share_a_cache() {
    for round in 0..3 {
        let place = Place::new();
        let cache = place.path("cache.vhdx");
        let children: Vec<_> = (0..8)
            .map(|i| {
                let mut command = with_globals(&place);
                command.args(["create-scratch", "--destpath"]);
                command.arg(place.path(&format!("scratch-{i}.vhdx")));
                command.arg("--cache-path").arg(&cache);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{round}: {output:?}");
            assert!(output.stdout.is_empty() && output.stderr.is_empty());
        }
        let cached = fs::read(&cache).unwrap();
        assert_eq!(virtual_size(&cache), 20 << 30);
        for i in 0..8 {
            let path = place.path(&format!("scratch-{i}.vhdx"));
            assert!(fs::read(path).unwrap() == cached, "{round}: {i}");
        }
        // Nothing else is left, and the lines of the log are whole.
        assert_eq!(place.names().len(), 8 + 3, "{:?}", place.names());
        assert!(logged(&place).len() >= 8);
    }
}
