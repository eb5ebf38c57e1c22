//! Errors name the file that they are about, each thing once, and the option that helps.

use std::process::Output;

use crate::common::{Layer, Place, assert_fails, code, layer, stderr, tar2vhd};

fn run(place: &Place, arguments: &[&str]) -> Output {
    tar2vhd()
        .current_dir(place.0.path())
        .args(arguments)
        .output()
        .unwrap()
}

/// The line of the error, without what every one starts with.
fn error(place: &Place, arguments: &[&str], status: i32) -> String {
    let output = run(place, arguments);
    assert_fails(&output, status, "");
    let text = stderr(&output).trim_end();
    text.strip_prefix("tar2vhd: error: ").unwrap().to_owned()
}

#[test]
fn errors_name_the_file_once() {
    let place = Place::new();
    place.write("broken.tar", &layer()[..3000]);
    place.write("noise.img", [7; 70_000]);
    for (command, named) in [
        ("convert broken.tar -o disk", "broken.tar: "),
        ("convert broken.tar -o disk --expect-size 7", "broken.tar: "),
        ("convert absent.tar -o disk", "absent.tar"),
        ("roothash broken.tar", "broken.tar: "),
        ("roothash absent.tar", "absent.tar"),
        ("inspect noise.img", "noise.img: "),
        ("inspect absent.img", "absent.img: "),
        ("verify absent.img", "absent.img: "),
        ("disk info absent.img", "absent.img: "),
        ("disk convert absent.img copy", "absent.img: "),
        ("disk convert noise.img no/copy", "in no: "),
        ("convert broken.tar -o no/such/disk", "no/such"),
        ("scratch no/such/disk", "no/such"),
        ("disk create no/such/disk 1M", "no/such"),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let text = error(&place, &arguments, 1);
        assert_eq!(text.matches(named).count(), 1, "{command}: {text}");
        // Neither the temporary file nor the path that the command made of the given one.
        assert!(!text.contains(".tar2vhd-"), "{command}: {text}");
        let directory = place.0.path().to_str().unwrap();
        assert!(!text.contains(directory), "{command}: {text}");
        assert!(text.matches("os error").count() <= 1, "{command}: {text}");
    }
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["convert", "-", "-o", "disk"])
        .stdin(std::fs::File::open(place.path("broken.tar")).unwrap())
        .output()
        .unwrap();
    assert_fails(&output, 1, "standard input: ");
    assert_eq!(place.names(), ["broken.tar", "noise.img"]);
}

#[test]
#[cfg(target_os = "linux")]
fn errors_of_writing_name_the_output() {
    let place = Place::new();
    place.write("layer.tar", crate::common::large_layer());
    place.converted(&crate::common::large_layer(), &[]);
    for command in [
        "convert layer.tar -o new",
        "disk convert disk new",
        "scratch new --size 1G --journal",
    ] {
        let script = format!(
            "ulimit -f 16; exec {} {command}",
            env!("CARGO_BIN_EXE_tar2vhd")
        );
        let output = std::process::Command::new("sh")
            .current_dir(place.0.path())
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_fails(&output, 1, "tar2vhd: error: new: ");
        assert_fails(&output, 1, "ulimit -f");
    }
}

#[test]
fn errors_name_the_option_that_helps() {
    let place = Place::new();
    let entries = (0..70).fold(Layer::new(), |layer, n| {
        layer.add(tar::EntryType::Regular, &format!("f{n}"), &[7; 9000])
    });
    place.write("layer.tar", entries.finish());
    for (arguments, option, number) in [
        ("--max-size 100001", "--max-size", ""),
        ("--max-size 600001", "--max-size", ""),
        ("--max-entries 5", "--max-entries", "5"),
        ("--writable --size 1M --inodes 16", "--inodes", "16"),
        ("--writable --size 1M --inodes 2000", "--size", ""),
    ] {
        let command = format!("convert layer.tar -o disk {arguments}");
        let command: Vec<_> = command.split(' ').collect();
        let text = error(&place, &command, 1);
        let hint = format!("; {option} can be larger");
        assert!(text.ends_with(&hint), "{arguments}: {text}");
        assert!(text.contains(number), "{text}");
        // Another number than the one that was given would puzzle.
        assert!(
            !text.contains("98304") && !text.contains("598016"),
            "{text}"
        );
    }
    let text = error(
        &place,
        &["scratch", "x", "--size", "1M", "--inodes", "4096"],
        2,
    );
    assert!(text.ends_with("; --size can be larger"), "{text}");
    assert_eq!(
        code(&run(&place, &["convert", "layer.tar", "-o", "disk"])),
        0
    );
}
