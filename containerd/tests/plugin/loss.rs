//! The store is lost, damaged, or never came to be: nothing is deleted, and no root is bricked.
//!
//! `TAR2VHD_LOSSES=300` tries that often instead of a few times.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tonic::Code;

use crate::image::{GZIP, Layer, compress, digest, noise};
use crate::process::{Labels, Plugin, Process, code, wait_for};
use crate::skip;

const BINARY: &str = env!("CARGO_BIN_EXE_containerd-tar2vhd");

/// How often a thing is tried, `share` of 100 of all.
fn times(share: usize) -> usize {
    let all = std::env::var("TAR2VHD_LOSSES").ok();
    let all = all.map_or(30, |times| times.parse().unwrap());
    (all * share).div_ceil(100)
}

/// Every file below a directory, with its contents but of the names in `but`.
fn files(directory: &Path, but: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if but.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if kind.is_dir() {
            found.insert(path.clone(), Vec::new());
            found.extend(files(&path, but));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A plugin with three layers, a container, a view and one removed.
fn filled() -> Plugin {
    let plugin = Plugin::with_content(&[]);
    let mut parent = String::new();
    for i in 0..3 {
        let key = format!("default/{i}/extract-{i}");
        let mounts = plugin.prepare(&key, &parent).unwrap();
        let tar = Layer::new().file(&format!("f{i}"), noise(10_000, i)).tar();
        plugin
            .apply(&plugin.blob(GZIP, &compress(GZIP, &tar)), &mounts)
            .unwrap();
        parent = format!("default/{i}/layer-{i}");
        plugin.commit(&parent, &key).unwrap();
    }
    let labels = Labels::from([("some".to_owned(), "label".to_owned())]);
    plugin
        .prepare_with("default/7/extract-held", &parent, labels)
        .unwrap();
    plugin.view("default/8/view", &parent).unwrap();
    plugin.prepare("default/9/extract-gone", "").unwrap();
    plugin.remove("default/9/extract-gone").unwrap();
    plugin
}

/// Runs the plugin to its end, which it comes to by itself.
fn fails(plugin: &Plugin) -> String {
    let directory = plugin.directory.path();
    let mut child = plugin
        .command()
        .stderr(fs::File::create(directory.join("said")).unwrap())
        .spawn()
        .unwrap();
    let mut status = None;
    wait_for("end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let said = fs::read_to_string(directory.join("said")).unwrap();
    assert!(!status.unwrap().success(), "{said}");
    said
}

fn recover(plugin: &Plugin) -> Output {
    Command::new(BINARY)
        .arg("recover")
        .arg("--root")
        .arg(plugin.root())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_damaged_store_deletes_nothing_and_is_recovered() {
    let mut plugin = filled();
    let committed = plugin.list(&["kind==committed"]).unwrap();
    let infos: Vec<_> = committed
        .iter()
        .map(|name| plugin.stat(name).unwrap())
        .collect();
    let held = plugin.stat("default/7/extract-held").unwrap();
    let all = plugin.list(&[]).unwrap();
    plugin.kill();
    let metadata = plugin.root().join("metadata.redb");
    let whole = fs::read(&metadata).unwrap();
    let snapshots = plugin.root().join("snapshots");
    let before = files(&snapshots, &[]);
    let mut state = 3_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let (mut refused, mut recovered) = (0, 0);
    let tried = times(60).max(10);
    for i in 0..tried {
        // The first of each kind, then mostly flips.
        let kind = match i {
            0..=5 => i,
            _ => [3, 4, 5, 5, 5, 5][i % 6],
        };
        let name = match kind {
            0 => {
                fs::remove_file(&metadata).unwrap();
                "missing".to_owned()
            }
            1 => {
                fs::write(&metadata, b"").unwrap();
                "empty".to_owned()
            }
            2 => {
                fs::write(&metadata, vec![0; whole.len()]).unwrap();
                "zeroed".to_owned()
            }
            3 => {
                let len = random(whole.len());
                fs::write(&metadata, &whole[..len]).unwrap();
                format!("cut to {len}")
            }
            4 => {
                let from = random(whole.len() / 4096) * 4096;
                let mut bytes = whole.clone();
                bytes[from..].iter_mut().take(4096).for_each(|b| *b = 0);
                fs::write(&metadata, bytes).unwrap();
                format!("zeros at {from}")
            }
            _ => {
                let (at, bit) = (random(whole.len()), random(8));
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&metadata, bytes).unwrap();
                format!("bit {bit} of byte {at} flipped")
            }
        };
        // It starts and knows the same, or says what to do.
        let mut child = Process(plugin.command().spawn().unwrap());
        let socket = plugin.socket();
        let mut ended = false;
        wait_for("plugin or its end", || {
            ended = child.0.try_wait().unwrap().is_some();
            ended || std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        drop(child);
        let but = ["snapshot"];
        assert_eq!(
            files(&snapshots, &but),
            before
                .iter()
                .filter(|(path, _)| !path.ends_with("snapshot"))
                .map(|(path, bytes)| (path.clone(), bytes.clone()))
                .collect(),
            "{name}"
        );
        if ended {
            refused += 1;
            let said = fails(&plugin);
            assert!(
                said.contains("metadata.redb") && said.contains("recover --root"),
                "{name}: {said}"
            );
            let said = recover(&plugin);
            assert!(said.status.success(), "{name}: {said:?}");
            recovered += 1;
        }
        plugin.restart();
        for info in &infos {
            assert_eq!(plugin.stat(&info.name).unwrap(), *info, "{name}");
        }
        assert_eq!(plugin.stat(&held.name).unwrap(), held, "{name}");
        let names = plugin.list(&[]).unwrap();
        match ended {
            // A view has nothing of its own to be brought back from.
            true => assert_eq!(names.len(), all.len() - 1, "{name}"),
            false => assert_eq!(names, all, "{name}"),
        }
        plugin.kill();
        if ended && kind != 0 {
            // The damaged file is kept.
            let kept = plugin.root().join("metadata.redb.damaged-1");
            fs::remove_file(kept).unwrap();
        }
        fs::write(&metadata, &whole).unwrap();
    }
    eprintln!("{tried} damaged stores: {refused} refused, {recovered} recovered, 0 files lost");
    assert!(refused >= 6 && recovered == refused);
}

#[test]
fn recovery_brings_back_what_it_can_and_moves_the_rest_aside() {
    let mut plugin = filled();
    plugin.kill();
    let snapshots = plugin.root().join("snapshots");
    // The middle layer's record is damaged, so that what is above has no parent; a removal may
    // not have ended; and there are strangers.
    fs::write(snapshots.join("2/snapshot"), "damaged").unwrap();
    fs::rename(snapshots.join("1"), snapshots.join("rm-1")).unwrap();
    fs::create_dir(snapshots.join("77")).unwrap();
    fs::write(snapshots.join("77/layer.vhd"), "precious").unwrap();
    fs::create_dir(snapshots.join("mine")).unwrap();
    fs::remove_file(plugin.root().join("metadata.redb")).unwrap();
    let said = recover(&plugin);
    let report = text(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    for line in [
        "metadata.redb is missing",
        "1 snapshots are brought back\n  default/0/layer-0\n",
        "5 directories are moved aside",
        "it has no record",
        "its name is not that of a snapshot",
        "its parent \"default/1/layer-1\" is gone",
    ] {
        assert!(report.contains(line), "no {line} in\n{report}");
    }
    let aside = plugin.root().join("aside-1");
    for kept in ["2/layer.vhd", "3/layer.vhd", "77/layer.vhd", "mine"] {
        assert!(aside.join(kept).exists(), "{kept}");
    }
    plugin.restart();
    assert_eq!(plugin.list(&[]).unwrap(), ["default/0/layer-0"]);
    assert_eq!(plugin.directories(), ["1"]);
    // What follows has an id that nothing had.
    plugin.prepare("extract-new", "default/0/layer-0").unwrap();
    assert_eq!(plugin.directories(), ["1", "78"]);

    // A store that is whole takes in what it does not know, and does not lose what it does.
    plugin.kill();
    fs::rename(aside.join("2"), snapshots.join("2")).unwrap();
    let left = recover(&plugin);
    let report = text(&left.stdout);
    assert!(
        report.starts_with("the metadata are whole: 2 snapshots\n"),
        "{report}"
    );
    assert!(plugin.root().join("aside-2/2/layer.vhd").exists());
    // Not while it runs.
    plugin.restart();
    let running = recover(&plugin);
    assert!(
        text(&running.stderr).contains("already open"),
        "{running:?}"
    );
    assert!(!running.status.success());
}

#[test]
fn what_the_store_does_not_know_is_left_alone_and_can_be_taken_in() {
    let mut plugin = filled();
    let all = plugin.list(&[]).unwrap();
    plugin.kill();
    let snapshots = plugin.root().join("snapshots");
    // An older copy of the store: the last of the layers is not known to it.
    let older = Plugin::with_content(&[]);
    older.prepare("default/0/extract-0", "").unwrap();
    older
        .commit("default/0/layer-0", "default/0/extract-0")
        .unwrap();
    let from = older.root().join("metadata.redb");
    drop(older.list(&[]).unwrap());
    let bytes = fs::read(from).unwrap();
    drop(older);
    fs::write(plugin.root().join("metadata.redb"), bytes).unwrap();
    fs::create_dir(snapshots.join("rm-60")).unwrap();
    fs::write(snapshots.join("rm-60/layer.vhd"), "x").unwrap();
    fs::create_dir(snapshots.join("new-61")).unwrap();
    fs::write(snapshots.join("new-61/layer.vhd"), "x").unwrap();
    plugin.restart();
    for directory in ["2", "3", "4", "rm-60", "new-61"] {
        assert!(plugin.directories().contains(&directory.to_owned()));
    }
    assert!(plugin.log().contains("the metadata do not know this"));
    assert_eq!(plugin.list(&[]).unwrap(), ["default/0/layer-0"]);
    plugin.kill();
    assert!(recover(&plugin).status.success());
    plugin.restart();
    let brought: Vec<_> = all
        .into_iter()
        .filter(|name| name != "default/8/view")
        .collect();
    assert_eq!(plugin.list(&[]).unwrap(), brought);
}

#[test]
fn a_committed_layer_that_is_gone_or_cut_is_noticed() {
    let mut plugin = filled();
    let layer = plugin.root().join("snapshots/2/layer.vhd");
    let whole = fs::read(&layer).unwrap();
    type Change = fn(&Path, &[u8]);
    let changes: [(&str, Change); 4] = [
        ("is missing", |layer, _| fs::remove_file(layer).unwrap()),
        ("bytes, and had", |layer, whole| {
            fs::write(layer, &whole[..whole.len() - 512]).unwrap();
        }),
        ("superblock or footer differs", |layer, whole| {
            fs::write(layer, vec![0; whole.len()]).unwrap();
        }),
        ("is gone", |layer, _| {
            fs::remove_dir_all(layer.parent().unwrap()).unwrap();
        }),
    ];
    for (wanted, change) in changes {
        change(&layer, &whole);
        // Whether or not there was a start in between.
        for round in 0..2 {
            for top in ["default/1/layer-1", "default/2/layer-2"] {
                let refused = plugin.prepare("c", top).unwrap_err();
                assert_eq!(refused.code(), Code::FailedPrecondition);
                let what = if wanted == "is gone" { "" } else { wanted };
                assert!(refused.message().contains(what), "{refused}");
                assert!(refused.message().contains("snapshots/2"), "{refused}");
                assert_eq!(code(plugin.view("c", top)), Code::FailedPrecondition);
            }
            // What is below it is as good as ever.
            plugin.prepare("extract-fine", "default/0/layer-0").unwrap();
            plugin.remove("extract-fine").unwrap();
            if round == 0 {
                plugin.restart();
                assert!(plugin.log().contains(wanted), "{wanted}");
            }
        }
        fs::create_dir_all(layer.parent().unwrap()).unwrap();
        fs::write(&layer, &whole).unwrap();
        plugin.prepare("c", "default/2/layer-2").unwrap();
        plugin.remove("c").unwrap();
    }
}

#[test]
fn a_kill_at_the_first_start_bricks_no_root() {
    let tried = times(20).max(6);
    let mut plugin = Plugin::start(&[]);
    plugin.kill();
    for i in 0..tried {
        fs::remove_dir_all(plugin.root()).unwrap();
        let mut child = Process(plugin.command().spawn().unwrap());
        // From the first instant to some time after it is ready.
        std::thread::sleep(Duration::from_micros(60_000 * i as u64 / tried as u64));
        child.kill();
        plugin.restart();
        plugin.prepare("a", "").unwrap();
        plugin.remove("a").unwrap();
        plugin.kill();
        assert_eq!(plugin.directories(), [""; 0]);
        let left = fs::read_dir(plugin.root()).unwrap().count();
        assert_eq!(left, 4, "lock, metadata, reserve, snapshots");
    }
    eprintln!("{tried} kills at the first start: 0 roots bricked");
}

/// A small file system that is unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, size: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .output()
            .unwrap();
        if !mounted.status.success() {
            skip::oracle_missing("mounting is refused here: no disk was filled");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn grow(&self, size: usize) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_at_the_first_start_bricks_no_root() {
    let tried = times(20).max(6);
    let mut plugin = Plugin::start(&[]);
    plugin.kill();
    let (mut failed, mut started) = (0, 0);
    for i in 0..tried {
        fs::remove_dir_all(plugin.root()).unwrap();
        // From one page to more than a first start takes.
        let size = 4096 + 160_000 * i / tried;
        let Some(small) = Small::mount(&plugin.root(), size) else {
            return;
        };
        let mut child = Process(plugin.command().spawn().unwrap());
        let socket = plugin.socket();
        let mut ended = false;
        wait_for("plugin or its end", || {
            ended = child.0.try_wait().unwrap().is_some();
            ended || std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        child.kill();
        match ended {
            true => failed += 1,
            false => started += 1,
        }
        small.grow(64 << 20);
        plugin.restart();
        plugin.prepare("extract-a", "").unwrap();
        plugin.kill();
        drop(small);
    }
    eprintln!(
        "{tried} first starts on a small disk: {failed} failed, {started} succeeded, 0 roots bricked"
    );
    assert!(failed > 0);
}

#[test]
fn a_full_disk_does_not_keep_snapshots_from_being_removed() {
    let mut plugin = Plugin::start(&[]);
    plugin.kill();
    fs::remove_dir_all(plugin.root()).unwrap();
    let Some(small) = Small::mount(&plugin.root(), 8 << 20) else {
        return;
    };
    plugin.restart();
    for i in 0..20 {
        plugin.prepare(&format!("extract-{i}"), "").unwrap();
    }
    // Whatever is free, to the last page.
    let fill = fs::File::create(plugin.root().join("fill")).unwrap();
    let mut at = 0;
    while fill.write_all_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
    drop(fill);
    assert_eq!(
        code(plugin.prepare("extract-x", "")),
        Code::ResourceExhausted
    );
    for i in 0..20 {
        plugin.remove(&format!("extract-{i}")).unwrap();
    }
    assert_eq!(plugin.list(&[]).unwrap(), [""; 0]);
    fs::remove_file(plugin.root().join("fill")).unwrap();
    plugin.prepare("extract-x", "").unwrap();
    plugin.restart();
    assert_eq!(plugin.list(&[]).unwrap(), ["extract-x"]);
    assert_eq!(plugin.directories().len(), 1);
    plugin.kill();
    drop(small);
}

#[test]
fn a_directory_has_a_record_of_its_snapshot() {
    let plugin = filled();
    let record = |id: u64| {
        let path = plugin.root().join(format!("snapshots/{id}/snapshot"));
        let text = fs::read_to_string(path).unwrap();
        let (head, json) = text.split_once('\n').unwrap();
        assert!(head.starts_with("tar2vhd-snapshot 1 crc32c:"), "{head}");
        serde_json::from_str::<serde_json::Value>(json).unwrap()
    };
    let layer = record(2);
    let tar = Layer::new().file("f1", noise(10_000, 1)).tar();
    assert_eq!(layer["key"], "default/1/layer-1");
    assert_eq!(layer["kind"], "committed");
    assert_eq!(layer["parent"], "default/0/layer-0");
    assert_eq!(layer["layer"]["diff_id"], digest(&tar).as_str());
    let disk = plugin.root().join("snapshots/2/layer.vhd");
    assert_eq!(layer["layer"]["size"], disk.metadata().unwrap().len());
    let held = record(4);
    assert_eq!(held["kind"], "active");
    assert_eq!(held["labels"]["some"], "label");
}
