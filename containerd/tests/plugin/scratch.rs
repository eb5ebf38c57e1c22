//! The disks of containers.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

use tonic::Code;

use crate::process::{Labels, Plugin, code, labels};
use crate::skip;

const SIZE: &str = "container.storage.rootfs.size-gb";
const LOCATION: &str = "container.storage.rootfs.location";

/// What qemu-img says of a disk's size.
fn virtual_size(disk: &Path) -> Option<u64> {
    let info = Command::new("qemu-img")
        .args(["info", "-f", "vhdx", "--output=json"])
        .arg(disk)
        .output();
    let Ok(info) = info else {
        skip::oracle_missing("no qemu-img: scratch disks were not looked into");
        return None;
    };
    assert!(info.status.success(), "{info:?}");
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    info["virtual-size"].as_u64()
}

fn sandbox(plugin: &Plugin, id: u64) -> std::path::PathBuf {
    plugin.root().join(format!("snapshots/{id}/sandbox.vhdx"))
}

#[test]
fn a_container_gets_a_disk_of_the_size_it_asks_for() {
    let plugin = Plugin::start(&[]);
    plugin.prepare("a", "").unwrap();
    plugin
        .prepare_with("b", "", labels(&[(SIZE, "3")]))
        .unwrap();
    plugin
        .prepare_with("c", "", labels(&[(SIZE, "0")]))
        .unwrap();
    for (id, size) in [(1, 20 << 30), (2, 3 << 30), (3, 20 << 30)] {
        let disk = sandbox(&plugin, id);
        assert!(fs::metadata(&disk).unwrap().len() < 32 << 20);
        if let Some(found) = virtual_size(&disk) {
            assert_eq!(found, size);
        }
    }
    plugin.prepare("x extract-1", "").unwrap();
    plugin.view("v", "").unwrap();
    assert_eq!(plugin.files().len(), 3);
}

#[test]
fn a_size_that_is_none_is_refused() {
    let plugin = Plugin::start(&[]);
    let huge = u64::MAX.to_string();
    for size in [
        "x",
        "-1",
        "1.5",
        " 1",
        "+1",
        "1000000",
        &huge,
        "99999999999999999999999",
    ] {
        let refused = plugin.prepare_with("a", "", labels(&[(SIZE, size)]));
        assert_eq!(code(refused), Code::InvalidArgument, "{size}");
    }
    assert_eq!(plugin.directories(), [""; 0]);
    plugin.prepare("a", "").unwrap();
}

#[test]
fn scratch_disks_are_kept_only_where_that_is_allowed() {
    let cache = tempfile::tempdir().unwrap();
    let at = |name: &str| cache.path().join(name);
    let allowed = at("allowed");
    fs::create_dir_all(allowed.join("disks")).unwrap();
    fs::create_dir(at("other")).unwrap();
    symlink(at("other"), allowed.join("link")).unwrap();
    let plugin = Plugin::start(&["--scratch-location", allowed.to_str().unwrap()]);
    let prepare = |key: &str, size: &str, location: &Path| {
        let location = location.to_str().unwrap();
        plugin.prepare_with(key, "", labels(&[(SIZE, size), (LOCATION, location)]))
    };
    for refused in [
        at("other"),
        at("absent"),
        allowed.join("link"),
        allowed.join("../other"),
        at("allowed-not"),
        "allowed".into(),
        "/".into(),
    ] {
        let status = prepare("x", "1", &refused);
        assert_eq!(code(status), Code::PermissionDenied, "{refused:?}");
    }
    let absent = prepare("x", "1", &allowed.join("absent"));
    assert_eq!(code(absent), Code::FailedPrecondition);
    assert_eq!(plugin.directories(), [""; 0]);
    assert_eq!(fs::read_dir(at("other")).unwrap().count(), 0);

    let disks = allowed.join("disks");
    prepare("a", "1", &disks).unwrap();
    let kept = disks.join("scratch_1.vhdx");
    let made = kept.metadata().unwrap();
    prepare("b", "1", &disks).unwrap();
    prepare("c", "", &disks).unwrap();
    assert_eq!(kept.metadata().unwrap().ino(), made.ino());
    let mut names: Vec<_> = fs::read_dir(&disks)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["scratch.vhdx", "scratch_1.vhdx"]);
    // A copy, not the disk itself.
    let files = plugin.files();
    let disk = plugin.root().join("snapshots").join(&files[0]);
    assert_eq!(fs::read(&disk).unwrap(), fs::read(&kept).unwrap());
    assert_ne!(disk.metadata().unwrap().ino(), made.ino());
    // Nobody's link is taken for the disk to copy.
    symlink("/etc/passwd", disks.join("scratch_2.vhdx")).unwrap();
    let linked = prepare("d", "2", &disks);
    assert_eq!(code(linked), Code::FailedPrecondition);
}

#[test]
fn without_a_configured_place_there_is_none() {
    let plugin = Plugin::start(&[]);
    let place = tempfile::tempdir().unwrap();
    let location = place.path().to_str().unwrap();
    let refused = plugin.prepare_with("a", "", labels(&[(LOCATION, location)]));
    assert_eq!(code(refused), Code::PermissionDenied);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn containers_share_the_disk_of_their_owner() {
    let plugin = Plugin::start(&[]);
    let share = |owner: &str| -> Labels {
        labels(&[
            ("container.storage.reuse-scratch", "true"),
            ("owner.key", owner),
        ])
    };
    plugin.prepare("one/1/pod", "").unwrap();
    plugin.prepare("two/2/pod", "").unwrap();
    plugin.prepare("one/3/podling", "").unwrap();
    plugin.prepare_with("one/4/a", "", share("pod")).unwrap();
    plugin.prepare_with("two/5/b", "", share("pod")).unwrap();
    plugin.prepare_with("one/6/c", "", share("a")).unwrap();
    let leads_to = |id: u64| fs::read_link(sandbox(&plugin, id)).unwrap();
    assert_eq!(leads_to(4), sandbox(&plugin, 1));
    assert_eq!(leads_to(5), sandbox(&plugin, 2));
    assert_eq!(leads_to(6), sandbox(&plugin, 1));
    // What is shared takes no room twice.
    assert!(plugin.usage("one/4/a").unwrap().size < 1 << 20);
    let nobody = plugin.prepare_with("one/7/d", "", share("absent"));
    assert_eq!(code(nobody), Code::NotFound);
    plugin.prepare("one/8/extract-x", "").unwrap();
    let diskless = plugin.prepare_with("one/9/e", "", share("extract-x"));
    assert_eq!(code(diskless), Code::FailedPrecondition);
    plugin.prepare("one/10/pod", "").unwrap();
    let several = plugin.prepare_with("one/11/f", "", share("pod"));
    assert_eq!(code(several), Code::FailedPrecondition);
    // A label without the other asks for a disk of one's own.
    let own = labels(&[("container.storage.reuse-scratch", "true")]);
    plugin.prepare_with("one/12/g", "", own).unwrap();
    assert_eq!(plugin.list(&[]).unwrap().len(), 9);
}
