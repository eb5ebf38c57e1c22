//! Requests of somebody who means no good, or of many at once.

use std::fs;
use std::io::Write;
use std::process::Command;

use tonic::Code;

use crate::api::containerd::services::diff::v1::diff_client::DiffClient;
use crate::api::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use crate::image::{GZIP, Layer, PLAIN, ZSTD, compress, noise};
use crate::process::{Labels, Plugin, apply_request, code, prepare_request};
use crate::tree::{self, run};

#[test]
fn keys_are_names_and_never_paths() {
    let plugin = Plugin::start(&[]);
    for key in [
        "extract-../../escape",
        "/etc/extract-passwd",
        "extract-\0",
        "extract-\n",
        "extract-é",
        "..extract-",
    ] {
        plugin.prepare(key, "").unwrap();
    }
    assert_eq!(plugin.directories(), ["1", "2", "3", "4", "5", "6"]);
    let mut beside: Vec<_> = fs::read_dir(plugin.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    beside.sort();
    assert_eq!(beside, ["log", "plugin.sock", "root"]);
    assert_eq!(code(plugin.prepare("", "")), Code::InvalidArgument);
    let long = "extract-".repeat(10_000);
    assert_eq!(code(plugin.prepare(&long, "")), Code::InvalidArgument);
    // The log stays one line for each thing it tells.
    assert!(plugin.log().lines().all(|line| line.starts_with("20")));
}

#[test]
fn labels_of_a_megabyte_are_refused() {
    let plugin = Plugin::start(&[]);
    let large = Labels::from([("k".to_owned(), "v".repeat(1 << 20))]);
    let refused = plugin.prepare_with("extract-a", "", large);
    assert_eq!(code(refused), Code::InvalidArgument);
    // A message over any bound does not even arrive.
    let huge = Labels::from([("k".to_owned(), "v".repeat(20 << 20))]);
    let refused = plugin.prepare_with("extract-a", "", huge);
    assert!(matches!(
        code(refused),
        Code::OutOfRange | Code::ResourceExhausted
    ));
    assert_eq!(plugin.directories(), [""; 0]);
    plugin.prepare("extract-a", "").unwrap();
}

#[test]
fn a_thousand_at_once_are_served() {
    let plugin = Plugin::start(&[]);
    let client = SnapshotsClient::new(plugin.channel());
    let codes = plugin.block_on(async {
        let calls: Vec<_> = (0..1000)
            .map(|i| {
                let mut client = client.clone();
                // Each key is asked for twice.
                let key = format!("extract-{}", i / 2);
                tokio::spawn(async move {
                    let prepared = client
                        .prepare(prepare_request(&key, "", Labels::new()))
                        .await;
                    prepared.map_or_else(|status| status.code(), |_| Code::Ok)
                })
            })
            .collect();
        let mut codes = Vec::new();
        for call in calls {
            codes.push(call.await.unwrap());
        }
        codes
    });
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!((count(Code::Ok), count(Code::AlreadyExists)), (500, 500));
    assert_eq!(plugin.list(&[]).unwrap().len(), 500);
    assert_eq!(plugin.directories().len(), 500);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let plugin = Plugin::with_content(&[]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let large = Layer::new().file("large", noise(8 << 20, 1)).tar();
    let large = plugin.blob(PLAIN, &large);
    let small = plugin.blob(PLAIN, &Layer::new().file("small", "x").tar());
    let directory = plugin.root().join("snapshots/1");
    let options = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
    let Some(output) = run(Command::new("mount").args(options).arg(&directory)) else {
        return;
    };
    if !output.status.success() {
        crate::skip::oracle_missing("mounting is refused here: no disk was filled");
        return;
    }
    let full = plugin.apply(&large, &mounts);
    let left = fs::read_dir(&directory).unwrap().count();
    let then = plugin.apply(&small, &mounts);
    tree::succeed(Command::new("umount").arg(&directory));
    assert_eq!(code(full), Code::ResourceExhausted);
    assert_eq!(left, 0);
    then.unwrap();
}

#[test]
fn a_layer_over_the_configured_size_is_told() {
    let plugin = Plugin::with_content(&["--max-layer-gib", "1"]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    // So many ones compress to next to nothing.
    let size = (1 << 30) + (64 << 20);
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(header.as_bytes()).unwrap();
    let ones = [1; 1 << 20];
    for _ in 0..size >> 20 {
        encoder.write_all(&ones).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    let blob = plugin.blob(ZSTD, &encoder.finish().unwrap());
    let refused = plugin.apply(&blob, &mounts);
    assert_eq!(code(refused), Code::ResourceExhausted);
    assert_eq!(plugin.files(), [""; 0]);
}

#[test]
fn conversions_at_once_are_bounded_and_so_is_their_memory() {
    const LAYERS: u64 = 200;
    let mut plugin = Plugin::with_content(&["--max-concurrent", "2", "--threads", "2"]);
    let mut parent = String::new();
    let mut jobs = Vec::new();
    for i in 0..LAYERS {
        let key = format!("extract-{i}");
        let layer = Layer::new()
            .dir("d", 0o755)
            .file(&format!("d/{i}"), noise(1 << 20, i));
        let blob = plugin.blob(GZIP, &compress(GZIP, &layer.tar()));
        jobs.push((blob, plugin.prepare(&key, &parent).unwrap()));
        // Some stand on others, whose layers are there.
        if i == 0 {
            let (blob, mounts) = jobs.pop().unwrap();
            plugin.apply(&blob, &mounts).unwrap();
            parent = "bottom".into();
            plugin.commit(&parent, &key).unwrap();
        }
    }
    let client = DiffClient::new(plugin.channel());
    plugin.block_on(async {
        let calls: Vec<_> = jobs
            .iter()
            .map(|(blob, mounts)| {
                let (mut client, request) = (client.clone(), apply_request(blob, mounts));
                tokio::spawn(async move { client.apply(request).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    assert_eq!(plugin.files().len() as u64, LAYERS);
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.process().0.id()));
    let Ok(status) = status else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    // Twice the library's 64 MiB, and 64 MiB for the process itself.
    assert!(peak < 192 << 10, "{peak} KiB");
}
