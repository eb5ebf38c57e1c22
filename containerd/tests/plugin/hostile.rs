//! Requests of somebody who means no good, or of many at once.

use std::fs;
use std::io::Write;
use std::process::Command;

use tonic::Code;

use crate::api::containerd::services::diff::v1::diff_client::DiffClient;
use crate::api::containerd::services::snapshots::v1::ListSnapshotsRequest;
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

#[test]
fn a_layer_of_more_entries_than_are_allowed_is_told() {
    let plugin = Plugin::with_content(&["--max-entries", "10"]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let files = |count: usize| {
        let layer = (0..count).fold(Layer::new(), |layer, i| layer.file(&format!("f{i}"), ""));
        plugin.blob(PLAIN, &layer.tar())
    };
    let refused = plugin.apply(&files(11), &mounts);
    assert_eq!(code(refused), Code::ResourceExhausted);
    plugin.apply(&files(10), &mounts).unwrap();
}

/// Starts the plugin anew with another limit of open files.
fn with_descriptors(plugin: &mut Plugin, soft: u32, hard: u32) {
    plugin.limit_descriptors(soft, hard);
    plugin.restart();
}

#[test]
fn descriptors_bound_conversions_and_never_fail_them() {
    const DEPTH: usize = 60;
    let mut plugin = Plugin::with_content(&["--max-concurrent", "64", "--threads", "1"]);
    let blob = plugin.blob(PLAIN, &Layer::new().file("d/f", "x").tar());
    let mut parent = String::new();
    for i in 0..DEPTH {
        let key = format!("extract-{i}");
        let mounts = plugin.prepare(&key, &parent).unwrap();
        plugin.apply(&blob, &mounts).unwrap();
        parent = format!("layer-{i}");
        plugin.commit(&parent, &key).unwrap();
    }
    // The soft limit is raised; the hard one is for some at a time.
    with_descriptors(&mut plugin, 64, 300);
    let jobs: Vec<_> = (0..16)
        .map(|i| {
            plugin
                .prepare(&format!("extract-top-{i}"), &parent)
                .unwrap()
        })
        .collect();
    let client = DiffClient::new(plugin.channel());
    plugin.block_on(async {
        let calls: Vec<_> = jobs
            .iter()
            .map(|mounts| {
                let (mut client, request) = (client.clone(), apply_request(&blob, mounts));
                tokio::spawn(async move { client.apply(request).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
    // One that can never have enough is told so.
    with_descriptors(&mut plugin, 64, 90);
    let mounts = plugin.mounts("extract-top-0").unwrap();
    let refused = plugin.apply(&blob, &mounts).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("LimitNOFILE"), "{refused}");
}

#[test]
fn without_descriptors_connections_wait_and_no_processor_is_kept_busy() {
    let mut plugin = Plugin::start(&[]);
    with_descriptors(&mut plugin, 64, 64);
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(std::os::unix::net::UnixStream::connect(plugin.socket()).unwrap());
    }
    crate::process::wait_for("line", || {
        plugin.log().contains("no connection can be taken")
    });
    let pid = plugin.process().0.id();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_secs(1));
    // Of a hundred in a second.
    assert!(ticks() - before < 20);
    // One line for all of it, and whoever waits is served when there is room.
    assert_eq!(
        plugin.log().matches("no connection can be taken").count(),
        1
    );
    drop(clients);
    plugin.reconnect();
    plugin.prepare("extract-1", "").unwrap();
}

#[test]
fn slow_readers_of_a_list_take_little_memory() {
    let mut plugin = Plugin::start(&[]);
    let labels: Labels = (0..40)
        .map(|i| (format!("label-{i}"), "v".repeat(2000)))
        .collect();
    for i in 0..100 {
        plugin
            .prepare_with(&format!("extract-{i}"), "", labels.clone())
            .unwrap();
    }
    // Of 8 MB each, of which nobody reads more than the first message.
    // Each on a connection of its own, whose window it may fill.
    let address = format!("unix://{}", plugin.socket().display());
    let streams = plugin.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..40 {
            let endpoint = tonic::transport::Endpoint::from_shared(address.clone()).unwrap();
            let mut client = SnapshotsClient::new(endpoint.connect().await.unwrap());
            let request = ListSnapshotsRequest::default();
            let mut stream = client.list(request).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            streams.push(stream);
        }
        streams
    });
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.process().0.id())).unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 128 << 10, "{peak} KiB");
    // They all come to their end.
    plugin.block_on(async {
        for mut stream in streams {
            let mut count = 0;
            while let Some(message) = stream.message().await.unwrap() {
                count += message.info.len();
            }
            assert!(count >= 90, "{count}");
        }
    });
}

#[test]
fn an_escaped_path_as_authority_is_served() {
    use std::io::Read;
    let plugin = Plugin::start(&[]);
    let string = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [len[1], len[2], len[3], kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    };
    // As the clients in Python and C++ call: POST, http, path, authority, two more.
    let block = [
        vec![0x83, 0x86, 0x44],
        string("/containerd.services.snapshots.v1.Snapshots/Stat"),
        vec![0x41],
        string("%2Frun%2Fcontainerd-tar2vhd.sock"),
        vec![0x40],
        string("content-type"),
        string("application/grpc"),
        vec![0x40],
        string("te"),
        string("trailers"),
    ]
    .concat();
    // The second call names them by the table that both ends have filled.
    let again = [
        &[0x83, 0x86, 0x44][..],
        &string("/grpc.health.v1.Health/Check"),
        &[0xc1, 0xc0, 0xbf],
    ]
    .concat();
    let mut stream = std::os::unix::net::UnixStream::connect(plugin.socket()).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    let sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &block),
        frame(0, 1, 1, &[0, 0, 0, 0, 0]),
        frame(1, 4, 3, &again),
        frame(0, 1, 3, &[0, 0, 0, 0, 0]),
    ]
    .concat();
    stream.write_all(&sent).unwrap();
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 2 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; len];
        stream.read_exact(&mut payload).unwrap();
        // Neither RST_STREAM nor GOAWAY.
        assert!(head[3] != 3 && head[3] != 7, "{head:?} {payload:?}");
        if head[3] == 1 {
            answered.insert(head[8]);
        }
    }
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), [1, 3]);
    assert!(plugin.log().contains("call=\"Stat\""));
}
