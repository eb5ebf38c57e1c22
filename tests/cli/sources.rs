//! No output replaces what the command reads, whatever names lead to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Place, assert_fails, code, layer, tar2vhd};

/// Runs the command in the directory; nothing in that may change.
fn leaves_all<S: AsRef<OsStr>>(place: &Place, setup: impl FnOnce(&mut Command), arguments: &[S]) {
    let before = contents(place);
    let mut command = tar2vhd();
    command.current_dir(place.0.path()).args(arguments);
    setup(&mut command);
    let output = command.output().unwrap();
    assert_fails(&output, 2, " itself, which would be lost");
    assert!(contents(place) == before, "{output:?}");
}

/// Every name in the directory with what it leads to.
fn contents(place: &Place) -> Vec<(String, Option<Vec<u8>>)> {
    let names = place.names().into_iter();
    names
        .map(|name| {
            let bytes = fs::read(place.path(&name)).ok();
            (name, bytes)
        })
        .collect()
}

/// The file under other names: a hard link, and where it can be made a symbolic one and a path
/// through a symbolic link to the directory.
fn aliases(place: &Place, name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned(), format!("./{name}")];
    fs::hard_link(place.path(name), place.path("hard")).unwrap();
    all.push("hard".to_owned());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(name, place.path("soft")).unwrap();
        std::os::unix::fs::symlink(".", place.path("here")).unwrap();
        all.extend(["soft".to_owned(), format!("here/{name}")]);
    }
    all
}

#[test]
fn a_layer_is_not_replaced_by_its_disk() {
    let place = Place::new();
    place.write("layer", layer());
    place.write("disk", "old");
    for alias in aliases(&place, "layer") {
        leaves_all(&place, |_| {}, &["convert", "layer", "-o", &alias]);
        leaves_all(&place, |_| {}, &["convert", &alias, "-o", "layer"]);
        let separate = ["--verity", "--verity-separate", &alias];
        let convert = ["convert", "layer", "-o", "disk"];
        leaves_all(&place, |_| {}, &[&convert[..], &separate].concat());
        for input in [&["convert", "-"][..], &["convert"]] {
            let stdin = |command: &mut Command| {
                command.stdin(File::open(place.path("layer")).unwrap());
            };
            leaves_all(&place, stdin, &[input, &["-o", &alias]].concat());
        }
    }
}

#[test]
fn a_disk_and_its_hash_tree_do_not_replace_each_other() {
    let place = Place::new();
    place.write("layer", layer());
    place.write("old", "old");
    let mut aliases = aliases(&place, "old");
    aliases.push("absent".to_owned());
    for alias in &aliases {
        let disk = if alias == "absent" { "absent" } else { "old" };
        for (disk, tree) in [(disk, &**alias), (alias, disk)] {
            let arguments = ["convert", "layer", "-o", disk, "--verity"];
            let separate = ["--verity-separate", tree];
            leaves_all(&place, |_| {}, &[&arguments[..], &separate].concat());
        }
    }
}

#[test]
fn a_disk_is_not_replaced_by_its_copy() {
    let place = Place::new();
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["disk", "create", "disk", "--size", "1MiB"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    for alias in aliases(&place, "disk") {
        leaves_all(&place, |_| {}, &["disk", "convert", "disk", &alias]);
        leaves_all(&place, |_| {}, &["disk", "convert", &alias, "disk"]);
    }
}

#[test]
fn what_goes_to_standard_output_is_not_replaced() {
    let place = Place::new();
    place.write("layer", layer());
    place.write("disk", "");
    let convert = ["convert", "layer", "-o", "disk", "--json"];
    let scratch = ["scratch", "-o", "disk", "--json"];
    let create = ["disk", "create", "disk", "--size", "1MiB", "--json"];
    for arguments in [&convert[..], &scratch, &create] {
        let before = contents(&place);
        let output = run_into(&place.path("disk"), &place, arguments);
        assert_fails(&output, 2, "is standard output itself");
        assert!(contents(&place) == before);
    }
}

fn run_into(stdout: &Path, place: &Place, arguments: &[&str]) -> Output {
    tar2vhd()
        .current_dir(place.0.path())
        .args(arguments)
        .stdout(File::options().append(true).open(stdout).unwrap())
        .output()
        .unwrap()
}

#[test]
fn runhcs_replaces_neither_layer_nor_scratch_disk() {
    let place = Place::new();
    place.write("layer", layer());
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["scratch", "-o", "scratch", "--size", "1MiB"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let before = contents(&place);
    for (destination, stdin) in [("layer", false), ("layer", true), ("scratch", false)] {
        let mut command = tar2vhd();
        command
            .current_dir(place.0.path())
            .args(["runhcs", "tar2vhd", "--scratchpath", "scratch"])
            .args(["--destpath", destination]);
        if stdin {
            command.stdin(File::open(place.path("layer")).unwrap());
        } else {
            command.args(["--sourcepath", "layer"]);
        }
        let output = command.output().unwrap();
        assert_eq!(code(&output), 1, "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(" itself, which would be lost"), "{text}");
        assert!(contents(&place) == before);
    }
}
