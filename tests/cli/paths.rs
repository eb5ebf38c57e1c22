//! How messages spell paths.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::common::{Place, layer, stderr, stdout, tar2vhd};

/// A line end, an escape, a backslash, a letter, and a byte that is not UTF-8.
const NAME: &[u8] = b"a\n\x1b\\\xc3\xa4\xff";
const SPELLED: &str = "a\\n\\u{1b}\\\\\u{e4}\\xff";

fn named(suffix: &str) -> OsString {
    OsString::from_vec([NAME, suffix.as_bytes()].concat())
}

#[test]
fn every_message_spells_a_path_the_same_way() {
    let place = Place::new();
    let root = place.0.path();
    fs::create_dir(root.join(named("dir"))).unwrap();
    fs::write(root.join(named("layer")), layer()).unwrap();
    fs::write(root.join(named("text")), "no layer, nor a disk of any kind").unwrap();
    fs::write(root.join("layer"), layer()).unwrap();
    fs::write(root.join("vhd.raw"), "").unwrap();
    for (arguments, suffix) in [
        (&["convert", "@missing", "-o", "x"][..], "missing"),
        (&["convert", "@dir", "-o", "x"], "dir"),
        (&["convert", "@text", "-o", "x"], "text"),
        (&["convert", "layer", "-o", "@dir"], "dir"),
        (&["convert", "layer", "-o", "@dir/"], "dir/"),
        (&["convert", "layer", "-o", "@none/x"], "none"),
        (&["convert", "layer", "--lower", "@none", "-o", "x"], "none"),
        (&["convert", "@layer", "-o", "@layer"], "layer"),
        (
            &["convert", "layer", "-o", "@x.vhdx", "--format", "raw"],
            "x.vhdx",
        ),
        // A disk that is made is told of, too.
        (&["convert", "@layer", "-o", "@disk"], "disk"),
        (&["convert", "layer", "-o", "@disk", "--no-clobber"], "disk"),
        (&["scratch", "@scratch", "--size", "1M"], "scratch"),
        (&["scratch", "@dir"], "dir"),
        (&["disk", "create", "@new", "1M"], "new"),
        (&["disk", "create", "@dir", "1M"], "dir"),
        (&["disk", "convert", "@missing", "x"], "missing"),
        (&["disk", "convert", "@disk", "@copy"], "copy"),
        (&["disk", "info", "@missing"], "missing"),
        (&["disk", "info", "@dir"], "dir"),
        (&["inspect", "@missing"], "missing"),
        (&["inspect", "@text"], "text"),
        (&["verify", "@missing"], "missing"),
        (&["verify", "@text"], "text"),
        (&["verify", "@text", "vhd.raw"], "text"),
        (&["roothash", "@missing"], "missing"),
        (&["roothash", "@dir"], "dir"),
        (&["roothash", "@text"], "text"),
        (&["man", "--all", "@text"], "text"),
    ] {
        let arguments = arguments.iter().map(|text| match text.strip_prefix('@') {
            Some(suffix) => named(suffix),
            None => OsStr::new(text).to_owned(),
        });
        let output = tar2vhd()
            .current_dir(root)
            .args(arguments.clone())
            .output()
            .unwrap();
        let text = [stdout(&output), stderr(&output)].concat();
        let shown = format!("{SPELLED}{suffix}");
        assert!(text.contains(&shown), "{arguments:?}: {text:?}");
        // Nothing of it is there in another spelling.
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(!text.contains('\u{fffd}'), "{text:?}");
        assert_eq!(text.matches("a\n").count(), 0, "{text:?}");
    }
}

#[test]
fn what_has_no_special_characters_stays_as_it_is() {
    let place = Place::new();
    let name = OsStr::from_bytes("with blank, \u{e4} and 'quotes'".as_bytes());
    let output = tar2vhd()
        .current_dir(place.0.path())
        .arg("inspect")
        .arg(name)
        .output()
        .unwrap();
    assert!(stderr(&output).contains(name.to_str().unwrap()));
}
