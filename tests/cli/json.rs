//! The library's results are the JSON of the command, but for paths.

use std::fs;

use serde::Serialize;
use serde_json::Value;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::timings::Timings;
use tar2vhd::verify::VerifyOptions;
use tar2vhd::verity::Verity;
use tar2vhd::virtual_disk::DiskOptions;
use tar2vhd::{DiskFormat, Options, Volume};

use crate::common::{Layer, Place, layer, stdout, tar2vhd};

/// What the command printed, without what only it knows, as text: the order of keys matters.
#[track_caller]
fn printed(place: &Place, arguments: &[&str], extra: &[&[&str]]) -> String {
    let output = tar2vhd()
        .current_dir(place.path(""))
        .args(arguments)
        .output()
        .unwrap();
    let mut object: Value = serde_json::from_str(stdout(&output)).unwrap();
    for path in extra {
        let (last, inner) = path.split_last().unwrap();
        let mut place = &mut object;
        for key in inner {
            place = &mut place[*key];
        }
        let place = place.as_object_mut().unwrap();
        assert!(place.shift_remove(*last).is_some(), "{path:?}");
    }
    object.to_string()
}

fn json(result: &impl Serialize) -> String {
    serde_json::to_string(result).unwrap()
}

/// The layer of other tests, and one that warns.
fn layers() -> [Vec<u8>; 2] {
    let odd = Layer::new()
        .add(tar::EntryType::Regular, "a\\b/c", b"x")
        .finish();
    [layer(), odd]
}

#[test]
fn a_summary_is_the_commands() {
    let place = Place::new();
    for layer in layers() {
        fs::write(place.path("layer"), &layer).unwrap();
        let convert = ["convert", "layer", "disk", "--json"];
        let (disk, format) = (["disk", "path"], ["disk", "format"]);
        let options = Options::new();
        let summary = tar2vhd::convert(&layer[..], &MemoryDisk::new(), &options).unwrap();
        assert_eq!(
            printed(&place, &convert, &[&disk, &format, &["timings"]]),
            json(&summary)
        );
        let convert = [&convert[..], &["--verity", "--verity-salt", "00ff"]].concat();
        let options = options.verity(Verity::new().salt([0, 255]));
        let summary = tar2vhd::convert(&layer[..], &MemoryDisk::new(), &options).unwrap();
        assert_eq!(
            printed(
                &place,
                &convert,
                &[&disk, &format, &["timings"], &["verity", "path"]]
            ),
            json(&summary)
        );
    }
}

#[test]
fn timings_have_the_commands_keys() {
    let place = Place::new();
    fs::write(place.path("layer"), layer()).unwrap();
    let printed = printed(
        &place,
        &["convert", "layer", "disk", "--json", "--timings"],
        &[],
    );
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let made = serde_json::to_value(Timings::new().stages()).unwrap();
    let keys = |timings: &Value| -> Vec<Vec<String>> {
        let stages = timings.as_array().unwrap().iter();
        stages
            .map(|stage| stage.as_object().unwrap().keys().cloned().collect())
            .collect()
    };
    assert_eq!(keys(&printed["timings"]), keys(&made));
}

#[test]
fn reports_on_a_disk_are_the_commands() {
    let place = Place::new();
    for format in DiskFormat::ALL {
        for layer in layers() {
            let options = Options::new().format(*format);
            tar2vhd::convert_file(&layer[..], place.path("disk"), &options).unwrap();
            for damaged in [false, true] {
                if damaged {
                    // The inode table and, of the odd one, a directory are wherever the format
                    // has them: most of the file is damaged.
                    let mut bytes = fs::read(place.path("disk")).unwrap();
                    let structures = bytes.len().min(4 << 20) / 2;
                    for byte in bytes[structures..].iter_mut().step_by(4099) {
                        *byte ^= 0x55;
                    }
                    fs::write(place.path("disk"), bytes).unwrap();
                }
                let Ok(volume) = Volume::open(place.path("disk")) else {
                    assert!(damaged);
                    continue;
                };
                assert_eq!(
                    printed(
                        &place,
                        &["disk", "info", "--json", "disk"],
                        &[&["path"], &["problems"]]
                    ),
                    json(&volume.info().unwrap())
                );
                match volume.inspect() {
                    Err(e) => assert!(damaged, "{e:?}"),
                    Ok(found) => assert_eq!(
                        printed(&place, &["inspect", "--json", "disk"], &[&["path"]]),
                        json(&found)
                    ),
                }
                match volume.verify(&VerifyOptions::new()) {
                    Err(e) => assert!(damaged, "{e:?}"),
                    Ok(found) => assert_eq!(
                        printed(&place, &["verify", "--json", "disk"], &[&["path"]]),
                        json(&found)
                    ),
                }
            }
        }
    }
}

#[test]
fn disks_that_are_made_are_the_commands() {
    let place = Place::new();
    for format in DiskFormat::ALL {
        let name = format.as_str();
        let options = DiskOptions::new().format(*format);
        let report = tar2vhd::virtual_disk::create(1 << 20, &MemoryDisk::new(), &options).unwrap();
        let create = ["disk", "create", "new", "1MiB", "-O", name, "--json"];
        assert_eq!(printed(&place, &create, &[&["path"]]), json(&report));
        let options = ScratchOptions::new().size(8 << 20).format(*format);
        let summary = tar2vhd::scratch::create(&MemoryDisk::new(), &options).unwrap();
        let scratch = ["scratch", "new", "--size", "8MiB", "-O", name, "--json"];
        assert_eq!(
            printed(&place, &scratch, &[&["path"], &["format"]]),
            json(&summary)
        );
    }
}
