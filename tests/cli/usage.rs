//! Command lines that are wrong, and help.

use crate::common::{Place, assert_fails, code, layer, stderr, stdout, tar2vhd};

#[test]
fn wrong_command_lines_exit_with_2_and_touch_nothing() {
    let place = Place::new();
    place.write("layer.tar", layer());
    place.write("disk", "old");
    let digest = format!("sha256:{}", "0".repeat(64));
    let upper = digest.to_uppercase();
    let cases: &[(&[&str], &str)] = &[
        (&[], "requires a subcommand"),
        (&["konvert"], "unrecognized subcommand"),
        (&["convert"], "required arguments"),
        (&["convert", "layer.tar"], "required arguments"),
        (&["convert", "layer.tar", "-o"], "a value is required"),
        (
            &["convert", "layer.tar", "-o", "-"],
            "cannot go to standard output",
        ),
        (
            &["convert", "layer.tar", "-o-"],
            "cannot go to standard output",
        ),
        (
            &["convert", "layer.tar", "x", "-o", "disk"],
            "cannot be used with",
        ),
        (
            &["convert", "layer.tar", "disk", "x"],
            "unexpected argument",
        ),
        (&["scratch"], "required arguments"),
        (&["disk", "create", "disk"], "required arguments"),
        (&["disk", "create", "-o", "disk"], "required arguments"),
        (&["disk", "convert", "disk"], "required arguments"),
        (&["man", "disk", "konvert"], "no command 'disk konvert'"),
        (&["inspect"], "required arguments"),
        (&["verify"], "required arguments"),
        (&["completions", "dos"], "invalid value"),
        (&["man", "konvert"], "no command 'konvert'"),
    ];
    for (arguments, message) in cases {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .args(*arguments)
            .output()
            .unwrap();
        assert_fails(&output, 2, message);
        assert_eq!(stdout(&output), "");
    }
    let cases: &[(&[&str], &str)] = &[
        (&["--frobnicate"], "unexpected argument"),
        (&["--format", "qcow2"], "invalid value 'qcow2'"),
        (&["--max-size", "1GX"], "the unit has to be one of"),
        (&["--max-size", "0.3K"], "not a whole number of bytes"),
        (&["--max-size", "99999999TiB"], "more than 64 bits"),
        (&["--max-size", "1KiB"], "maximum size"),
        (&["--max-size", "2041GiB"], "maximum size"),
        (&["--align", "1000"], "alignment"),
        (&["--max-entries", "many"], "invalid digit"),
        (&["--max-entries", "-1"], "unexpected argument"),
        (
            &["--media-type", "application/gzip"],
            "not the media type of",
        ),
        (&["--expect-digest", "sha256:12"], "64 hexadecimal digits"),
        (&["--expect-diff-id", &upper], "64 hexadecimal digits"),
        (&["--expect-size", "many"], "a size is a number"),
        (&["--threads", "-1"], "unexpected argument"),
        (&["--progress", "often"], "invalid value 'often'"),
        (&["--bottom-layer", "--no-whiteouts"], "cannot be used with"),
        (&["--quiet", "--progress", "always"], "contradicts"),
        (&["--quiet", "--timings"], "contradicts"),
        (&["--json", "--json"], "cannot be used multiple times"),
    ];
    for (arguments, message) in cases {
        let output = place.convert(&layer(), arguments);
        assert_fails(&output, 2, message);
        assert_eq!(stdout(&output), "");
    }
    for arguments in [
        "scratch x --format raw --block-size 2M",
        "scratch x.vhd --block-size 2M",
        "disk create x.raw 1M --block-size 2M",
        "disk create x.vhd 1M --block-size 2M",
        "disk create x.vhd 1M --logical-sector 4K",
        "disk create x.vhd 1M --physical-sector 512",
        "disk create x.raw 1M --physical-sector 512",
        "disk create x.raw 1M --uuid random",
    ] {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert_fails(&output, 2, "the format");
    }
    for epoch in [
        "",
        "now",
        "-1",
        "+1",
        "1.0",
        "99999999999999999999",
        "1099511627776",
    ] {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .env("SOURCE_DATE_EPOCH", epoch)
            .args(["convert", "layer.tar", "-o", "disk"])
            .output()
            .unwrap();
        assert_fails(&output, 2, "");
    }
    assert_eq!(place.names(), ["disk", "layer.tar"]);
    assert_eq!(std::fs::read(place.path("disk")).unwrap(), b"old");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (arguments, text) in [
        (&["--help"][..], "convert"),
        (&["convert", "--help"], "--keep-zeros"),
        (&["convert", "-h"], "--keep-zeros"),
        (&["help", "inspect"], "--json"),
        (&["help", "verify"], "--root-hash"),
        (
            &["--version"],
            concat!("tar2vhd ", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        let output = tar2vhd().args(arguments).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains(text), "{output:?}");
        assert_eq!(stderr(&output), "");
    }
}

#[test]
fn completions_and_manual_pages_know_the_arguments() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = tar2vhd().args(["completions", shell]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("keep-zeros"), "{shell}");
    }
    for (command, text) in [
        (&["man"][..], "tar2vhd\\-convert(1)"),
        (&["man", "convert"], "\\-\\-keep\\-zeros"),
        (&["man", "inspect"], "\\-\\-json"),
        (&["man", "disk", "convert"], "\\-\\-physical\\-sector"),
        (&["man", "disk convert"], "tar2vhd\\-disk\\-convert"),
    ] {
        let output = tar2vhd().args(command).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains(text), "{output:?}");
        assert!(stdout(&output).contains(".TH"));
    }
}

#[test]
fn all_manual_pages_are_written_and_name_values() {
    let place = Place::new();
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["man", "--all", "made/man1"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let names = crate::common::names(&place.path("made/man1"));
    for name in ["tar2vhd.1", "tar2vhd-convert.1", "tar2vhd-disk-convert.1"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    let page = std::fs::read_to_string(place.path("made/man1/tar2vhd-convert.1")).unwrap();
    // Without what sets the type.
    let page = page
        .replace(r"\fB", "")
        .replace(r"\fI", "")
        .replace(r"\fR", "");
    for part in [
        r"[\-\-max\-size SIZE]",
        r"[\-o|\-\-output OUTPUT]",
        "[INPUT] [OUTPUT]",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["man", "--all", "made/man1/tar2vhd.1"])
        .output()
        .unwrap();
    assert_fails(&output, 1, "cannot write made/man1/tar2vhd.1");
}

#[test]
fn every_command_takes_its_disk_in_the_same_ways() {
    let place = Place::new();
    place.write("layer.tar", layer());
    place.converted(&layer(), &[]);
    let cases: &[&[&str]] = &[
        &["convert", "layer.tar", "a.img", "-q"],
        &["convert", "layer.tar", "-qo", "b.img"],
        &["convert", "-O", "raw", "layer.tar", "c"],
        &["convert", "-f", "raw", "layer.tar", "d"],
        &["scratch", "e.img", "--size", "1.5m", "-q"],
        &["scratch", "-f", "raw", "-o", "f", "--size", "1536k"],
        &["disk", "create", "g.img", "1.5M"],
        &["disk", "create", "h.img", "--size", "1536KiB", "-q"],
        &["disk", "create", "-o", "i.img", "--size", "1572864"],
        &["disk", "create", "-f", "raw", "j", "1536k", "-j"],
        &["disk", "convert", "disk", "k.img", "-q"],
        &["disk", "convert", "-O", "raw", "disk", "-o", "l"],
    ];
    for arguments in cases {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .args(*arguments)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
    }
    let read = |name: &str| {
        let bytes = std::fs::read(place.path(name));
        bytes
            .or_else(|_| std::fs::read(place.path(&format!("{name}.img"))))
            .unwrap()
    };
    for same in ["abcdkl", "ef", "ghij"] {
        let names: Vec<_> = same.chars().map(String::from).collect();
        for name in &names {
            assert!(read(name) == read(&names[0]), "{name}");
        }
    }
    assert_eq!(read("e").len(), 3 << 19);
    assert!(read("g") == vec![0; 3 << 19]);
}

#[test]
fn the_extension_chooses_the_format() {
    let place = Place::new();
    place.write("layer.tar", layer());
    place.converted(&layer(), &[]);
    let run = |arguments: &[&str]| {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        output
    };
    let format = |name: &str| {
        let told = run(&["disk", "info", "--json", name]);
        let told: serde_json::Value = serde_json::from_str(stdout(&told)).unwrap();
        told["format"].as_str().unwrap().to_owned()
    };
    for (name, expected) in [
        ("a.vhd", "vhd"),
        ("a.VHDX", "vhdx"),
        ("a.raw", "raw"),
        ("a.img", "raw"),
        ("plain", ""),
    ] {
        let commands: [(&[&str], &str); 4] = [
            (&["convert", "layer.tar", name], "vhd"),
            (&["scratch", name, "--size", "1MiB"], "vhdx"),
            (&["disk", "create", name, "1MiB"], "vhdx"),
            (&["disk", "convert", "disk", name], "vhdx"),
        ];
        for (command, default) in commands {
            let output = run(command);
            assert!(!stderr(&output).contains("warning"), "{output:?}");
            let expected = if expected.is_empty() {
                default
            } else {
                expected
            };
            assert_eq!(format(name), expected, "{command:?}");
        }
    }
    let output = run(&["convert", "layer.tar", "a.vhdx", "--format", "raw"]);
    let warning = "tar2vhd: warning: a.vhdx gets the format raw";
    assert!(stderr(&output).starts_with(warning), "{output:?}");
    assert_eq!(format("a.vhdx"), "raw");
    let output = run(&[
        "convert",
        "layer.tar",
        "a.vhdx",
        "--format",
        "raw",
        "--quiet",
    ]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn nothing_is_replaced_that_is_not_to_be() {
    let place = Place::new();
    place.write("layer.tar", layer());
    place.converted(&layer(), &[]);
    place.write("old", "old");
    let commands: [&[&str]; 5] = [
        &["convert", "layer.tar", "old"],
        &[
            "convert",
            "layer.tar",
            "new",
            "--verity",
            "--verity-separate",
            "old",
        ],
        &["scratch", "old", "--size", "1MiB"],
        &["disk", "create", "old", "1MiB"],
        &["disk", "convert", "disk", "old"],
    ];
    for command in commands {
        let run = |more: &[&str]| {
            tar2vhd()
                .current_dir(place.0.path())
                .args(command)
                .args(more)
                .output()
                .unwrap()
        };
        assert_fails(&run(&["--no-clobber"]), 1, "old is not replaced");
        assert_eq!(std::fs::read(place.path("old")).unwrap(), b"old");
        assert_eq!(place.names(), ["disk", "layer.tar", "old"]);
        std::fs::remove_file(place.path("old")).unwrap();
        assert_eq!(code(&run(&["--no-clobber"])), 0);
        std::fs::remove_file(place.path("new")).ok();
        place.write("old", "old");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_is_not_taken_for_a_layer() {
    let place = Place::new();
    // util-linux's, which gives its command a terminal.
    let script = std::process::Command::new("script")
        .current_dir(place.0.path())
        .args([
            "-qec",
            concat!(env!("CARGO_BIN_EXE_tar2vhd"), " convert -o disk"),
            "/dev/null",
        ])
        .output();
    match script {
        Ok(output) => {
            assert_eq!(code(&output), 2, "{output:?}");
            assert!(stdout(&output).contains("standard input is a terminal"));
        }
        Err(_) => crate::skip::oracle_missing("script is not installed"),
    }
    assert!(place.names().is_empty());
}
