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
            "unexpected argument",
        ),
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
        (&["--max-size", "1.5GiB"], "the unit has to be one of"),
        (&["--max-size", "1GB"], "the unit has to be one of"),
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
        (&["--expect-size", "1KiB"], "invalid digit"),
        (&["--threads", "-1"], "unexpected argument"),
        (&["--progress", "often"], "invalid value 'often'"),
        (&["--bottom-layer", "--no-whiteouts"], "cannot be used with"),
        (&["--quiet", "--progress", "always"], "contradicts"),
        (&["--json", "--json"], "cannot be used multiple times"),
    ];
    for (arguments, message) in cases {
        let output = place.convert(&layer(), arguments);
        assert_fails(&output, 2, message);
        assert_eq!(stdout(&output), "");
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
    ] {
        let output = tar2vhd().args(command).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains(text), "{output:?}");
        assert!(stdout(&output).contains(".TH"));
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
