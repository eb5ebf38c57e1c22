//! Start, health, metrics, log and end of the process.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::api::containerd::services::diff::v1::DiffRequest;
use crate::api::containerd::services::diff::v1::diff_client::DiffClient;
use crate::api::containerd::services::introspection::v1::introspection_client::IntrospectionClient;
use crate::api::containerd::services::introspection::v1::{PluginInfoRequest, PluginsRequest};
use crate::image::{GZIP, Layer, compress, digest, noise};
use crate::process::{Plugin, apply_request, code, wait_for};

/// An address of no other test's.
const METRICS: &str = "127.0.0.1:19571";
const BINARY: &str = env!("CARGO_BIN_EXE_containerd-tar2vhd");

#[test]
fn socket_and_directories_are_private() {
    let plugin = Plugin::start(&[]);
    plugin.prepare("a", "").unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&plugin.socket()), 0o600);
    for directory in ["", "snapshots", "snapshots/1"] {
        assert_eq!(mode(&plugin.root().join(directory)), 0o700, "{directory}");
    }
}

#[test]
fn health_and_introspection_answer() {
    let plugin = Plugin::start(&[]);
    let mut health = HealthClient::new(plugin.channel());
    for service in [
        "",
        "containerd.services.diff.v1.Diff",
        "containerd.services.snapshots.v1.Snapshots",
    ] {
        let service = service.to_owned();
        let answer = plugin.block_on(health.check(HealthCheckRequest { service }));
        assert_eq!(answer.unwrap().into_inner().status, 1);
    }
    let mut introspection = IntrospectionClient::new(plugin.channel());
    let list = |filters: &[&str]| {
        let filters = filters.iter().map(|f| (*f).to_owned()).collect();
        let mut introspection = introspection.clone();
        let answer = plugin.block_on(introspection.plugins(PluginsRequest { filters }));
        answer.unwrap().into_inner().plugins
    };
    let plugins = list(&[]);
    let ids: Vec<_> = plugins.iter().map(|p| (&p.r#type[..], &p.id[..])).collect();
    assert_eq!(
        ids,
        [
            ("io.containerd.snapshotter.v1", "lcow"),
            ("io.containerd.differ.v1", "lcowdiff")
        ]
    );
    for plugin in &plugins {
        let platforms: Vec<_> = plugin
            .platforms
            .iter()
            .map(|p| format!("{}/{}", p.os, p.architecture))
            .collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        // Layers are converted with what is below them: not before their parent is known.
        assert_eq!(plugin.capabilities, [""; 0]);
    }
    assert_eq!(list(&["id==lcowdiff"]), plugins[1..]);
    let mut info = |id: &str| {
        let request = PluginInfoRequest {
            r#type: "io.containerd.differ.v1".into(),
            id: id.into(),
            options: None,
        };
        plugin.block_on(introspection.plugin_info(request))
    };
    assert_eq!(
        info("lcowdiff").unwrap().into_inner().plugin.unwrap(),
        plugins[1]
    );
    assert_eq!(code(info("lcow")), Code::NotFound);
    let server = plugin.block_on(introspection.server(()));
    assert!(server.unwrap().into_inner().pid > 1);
}

#[test]
fn layers_are_not_taken_back() {
    let plugin = Plugin::start(&[]);
    let mut diff = DiffClient::new(plugin.channel());
    let compared = plugin.block_on(diff.diff(DiffRequest::default()));
    assert_eq!(code(compared), Code::Unimplemented);
}

#[test]
fn metrics_count_calls_and_conversions() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let plugin = Plugin::with_content(&["--metrics", &address]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let tar = Layer::new().file("f", "x").tar();
    let blob = plugin.blob(GZIP, &compress(GZIP, &tar));
    plugin.apply(&blob, &mounts).unwrap();
    plugin.stat("absent").unwrap_err();
    let text = plugin.metrics(&address);
    for line in [
        "tar2vhd_calls_total{call=\"Prepare\",code=\"Ok\"} 1".to_owned(),
        "tar2vhd_calls_total{call=\"Stat\",code=\"NotFound\"} 1".to_owned(),
        "tar2vhd_conversions_total 1".to_owned(),
        format!("tar2vhd_layer_bytes_total {}", tar.len()),
        "tar2vhd_conversion_seconds_count 1".to_owned(),
        "tar2vhd_conversions_running 0".to_owned(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    assert!(text.starts_with("HTTP/1.1 200"));
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let request = format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    // The format is the one that is asked for; without a word it is the older one.
    let plain = ask("GET /metrics HTTP/1.1");
    assert!(plain.contains("content-type: text/plain; version=0.0.4"));
    assert!(
        !plain.contains("# EOF") && !plain.contains("# UNIT"),
        "{plain}"
    );
    for line in [
        "# HELP tar2vhd_calls_total Calls by their status code.",
        "# TYPE tar2vhd_calls_total counter",
        "# TYPE tar2vhd_conversion_seconds histogram",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_open_fds gauge",
        "# TYPE tar2vhd_build_info gauge",
    ] {
        assert!(
            plain.lines().any(|found| found == line),
            "no {line} in\n{plain}"
        );
    }
    for name in [
        "tar2vhd_build_info{version=\"",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_max_fds ",
        "process_resident_memory_bytes ",
        "process_virtual_memory_bytes ",
        "process_start_time_seconds ",
    ] {
        assert!(
            plain.lines().any(|line| line.starts_with(name)),
            "no {name} in\n{plain}"
        );
    }
    // Every sample follows the type and help of its family.
    let mut family = String::new();
    for line in plain.split("\r\n\r\n").nth(1).unwrap().lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["#", "HELP", name, ..] => family = name.to_owned(),
            ["#", "TYPE", name, _] => assert_eq!(name, family),
            _ => assert!(line.starts_with(&family), "{line} is not of {family}"),
        }
    }
    let open = ask(
        "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    );
    assert!(open.contains("content-type: application/openmetrics-text"));
    assert!(open.contains("# TYPE tar2vhd_calls counter\n") && open.ends_with("# EOF\n"));
    let head = ask("HEAD /metrics HTTP/1.1");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(ask("POST /metrics HTTP/1.1").contains("405"));
    assert!(ask("GET / HTTP/1.1").contains("404"));
}

#[test]
fn the_log_is_json_when_asked_and_numbers_requests() {
    let plugin = Plugin::start(&["--log-format", "json"]);
    plugin.prepare("extract-1", "").unwrap();
    plugin.prepare("extract-1", "").unwrap_err();
    let lines: Vec<serde_json::Value> = plugin
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let made = lines
        .iter()
        .find(|line| line["message"] == "a snapshot is made");
    let made = made.unwrap();
    assert_eq!(made["key"], "extract-1");
    assert_eq!(made["span"]["call"], "Prepare");
    // A text is a string, and not the text of one.
    let failed = lines.iter().find(|line| line["message"] == "failed");
    assert_eq!(
        failed.unwrap()["error"],
        "the snapshot \"extract-1\" exists"
    );
    assert!(made["span"]["id"].as_u64().unwrap() > 0);
    let ids: std::collections::BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line["span"]["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn errors_at_the_start_have_a_path_and_the_form_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "").unwrap();
    fs::write(path("bad.toml"), "nonsense = 1").unwrap();
    let root = path("root");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().to_string();
    for (arguments, named) in [
        (vec!["--root", &path("file")], path("file")),
        (vec!["--config", &path("bad.toml")], path("bad.toml")),
        (vec!["--config", &path("none.toml")], path("none.toml")),
        (
            vec!["--root", &root, "--content-root", &path("none")],
            path("none"),
        ),
        (
            vec!["--root", &root, "--scratch-location", &path("none")],
            path("none"),
        ),
        (
            vec!["--root", &root, "--address", &path("file")],
            path("file"),
        ),
        (
            vec![
                "--root",
                &root,
                "--metrics",
                &taken,
                "--address",
                &path("s"),
            ],
            taken.clone(),
        ),
    ] {
        for format in ["text", "json"] {
            let output = Command::new(BINARY)
                .args(&arguments)
                .args(["--log-format", format])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && said.contains(&named), "{said}");
            if format == "json" {
                let last = said.lines().last().unwrap();
                let last: serde_json::Value = serde_json::from_str(last).unwrap();
                assert_eq!(last["level"], "ERROR");
                assert!(last["error"].as_str().unwrap().contains(&named));
            }
        }
    }
}

#[test]
fn a_hang_up_ends_nothing_and_the_socket_of_another_stays() {
    let mut plugin = Plugin::start(&[]);
    plugin.process().signal("-HUP");
    wait_for("line", || plugin.log().contains("SIGHUP"));
    plugin.prepare("extract-1", "").unwrap();
    let socket = plugin.socket();
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    plugin.process().signal("-TERM");
    assert!(plugin.process().0.wait().unwrap().success());
    assert!(socket.exists());
    drop(other);
}

#[test]
fn a_clock_before_1970_breaks_no_call() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (
        directory.path().join("clock.c"),
        directory.path().join("clock.so"),
    );
    let text = "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n\
                #include <sys/syscall.h>\n\
                int clock_gettime(clockid_t id, struct timespec *ts) {\n\
                int result = syscall(SYS_clock_gettime, id, ts);\n\
                if (result == 0 && id == CLOCK_REALTIME) ts->tv_sec -= 3000000000L;\n\
                return result; }\n";
    fs::write(&source, text).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    if !made.is_ok_and(|made| made.success()) {
        crate::skip::oracle_missing("no C compiler: no clock before 1970");
        return;
    }
    let mut plugin = Plugin::start(&[]);
    plugin.preload(&library);
    plugin.restart();
    plugin.prepare("extract-1", "").unwrap();
    plugin.commit("c", "extract-1").unwrap();
    assert_eq!(plugin.list(&[]).unwrap(), ["c"]);
    assert!(!plugin.log().contains("a fault of this program"));
}

#[test]
fn a_second_process_has_neither_root_nor_socket() {
    let plugin = Plugin::start(&[]);
    let other = tempfile::tempdir().unwrap();
    for (root, address, complaint) in [
        (plugin.root(), other.path().join("s"), "already open"),
        (other.path().join("r"), plugin.socket(), "listens there"),
    ] {
        let second = Command::new(BINARY)
            .arg("--root")
            .arg(root)
            .arg("--address")
            .arg(address)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&second.stderr).to_lowercase();
        assert!(
            !second.status.success() && said.contains(complaint),
            "{said}"
        );
    }
    plugin.prepare("a", "").unwrap();
}

#[test]
fn what_a_killed_process_left_is_cleaned_at_the_next_start() {
    let mut plugin = Plugin::start(&[]);
    plugin.prepare("extract-1", "").unwrap();
    plugin.prepare("extract-2", "").unwrap();
    let snapshots = plugin.root().join("snapshots");
    plugin.kill();
    // A snapshot that nobody was given, a removal that did not end, one that was seen and has
    // not its name yet, and a file of a conversion.
    fs::create_dir(snapshots.join("new-77")).unwrap();
    fs::write(snapshots.join("new-77/sandbox.vhdx"), "x").unwrap();
    fs::rename(snapshots.join("2"), snapshots.join("rm-2")).unwrap();
    fs::rename(snapshots.join("1"), snapshots.join("new-1")).unwrap();
    fs::write(snapshots.join("new-1/.tar2vhd-abc"), "x").unwrap();
    plugin.restart();
    assert_eq!(plugin.directories(), ["1", "2"]);
    assert_eq!(plugin.files(), [""; 0]);
    plugin.remove("extract-2").unwrap();
    assert_eq!(plugin.directories(), ["1"]);
    // Ids of all that was there are not given again.
    plugin.prepare("extract-3", "").unwrap();
    assert_eq!(plugin.directories(), ["1", "78"]);
}

/// A plugin that converts a layer whose bytes come through a FIFO as slowly as a test wants:
/// through containerd's part played by this test.
struct Slow {
    // Dropped before the plugin, whose runtime waits for what waits for this.
    feed: std::sync::mpsc::Sender<bool>,
    plugin: Plugin,
}

#[test]
fn a_shutdown_lets_conversions_end() {
    let mut slow = Slow::start(&["--grace-seconds", "60"]);
    let applied = slow.apply();
    slow.plugin.process().signal("-TERM");
    std::thread::sleep(Duration::from_millis(200));
    assert!(slow.plugin.process().0.try_wait().unwrap().is_none());
    slow.feed.send(true).unwrap();
    slow.plugin.block_on(applied).unwrap().unwrap();
    let status = slow.plugin.process().0.wait().unwrap();
    assert!(status.success());
    assert_eq!(slow.plugin.files(), ["1/layer.vhd"]);
    assert!(!slow.plugin.socket().exists());
}

#[test]
fn a_shutdown_cancels_conversions_that_take_too_long() {
    let mut slow = Slow::start(&["--grace-seconds", "0"]);
    let applied = slow.apply();
    slow.plugin.process().signal("-TERM");
    let refused = slow.plugin.block_on(applied).unwrap();
    assert_eq!(code(refused), Code::Unavailable);
    let status = slow.plugin.process().0.wait().unwrap();
    assert!(status.success());
    assert_eq!(slow.plugin.files(), [""; 0]);
}

#[test]
fn a_conversion_nobody_waits_for_is_cancelled() {
    let slow = Slow::start(&["--metrics", METRICS]);
    let applied = slow.apply();
    applied.abort();
    wait_for("line", || {
        let log = slow.plugin.log();
        log.contains("the caller went away") && log.contains("nobody waits for has ended")
    });
    let text = slow.plugin.metrics(METRICS);
    for line in [
        "tar2vhd_calls_total{call=\"Apply\",code=\"Cancelled\"} 1",
        "tar2vhd_conversions_cancelled_total 1",
        "tar2vhd_conversion_failures_total 0",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
    // The place is free again, and nothing is left.
    let mounts = slow.plugin.mounts("extract-1").unwrap();
    wait_for("free snapshot", || {
        let busy = slow.plugin.commit("c", "extract-1");
        if busy.is_err() {
            assert_eq!(code(busy), Code::FailedPrecondition);
            return false;
        }
        true
    });
    assert_eq!(mounts.len(), 1);
    assert_eq!(slow.plugin.files(), [""; 0]);
}

#[test]
fn a_stream_that_stands_still_gives_up_its_place() {
    let slow = Slow::start(&["--stall-seconds", "1"]);
    let applied = slow.apply();
    let refused = slow.plugin.block_on(applied).unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert!(refused.message().contains("stall-seconds"), "{refused}");
    assert_eq!(slow.plugin.files(), [""; 0]);
    slow.plugin.commit("c", "extract-1").unwrap();
}

#[test]
fn a_stream_ends_at_the_size_of_the_layer() {
    let slow = Slow::start(&[]);
    let bytes = layer();
    // The half that comes before the stream stands still.
    let half = &bytes[..bytes.len() / 2];
    let mounts = slow.plugin.mounts("extract-1").unwrap();
    let descriptor = crate::api::containerd::types::Descriptor {
        media_type: GZIP.into(),
        digest: digest(half),
        size: half.len() as i64,
        annotations: Default::default(),
    };
    let mut request = tonic::Request::new(apply_request(&descriptor, &mounts));
    let namespace = "given".parse().unwrap();
    request
        .metadata_mut()
        .insert("containerd-namespace", namespace);
    let mut client = DiffClient::new(slow.plugin.channel());
    // It is half of a layer, and nobody waits for more.
    let refused = slow.plugin.block_on(client.apply(request));
    assert_eq!(code(refused), Code::InvalidArgument);
}

#[test]
fn a_stream_that_breaks_off_fails_the_conversion() {
    let slow = Slow::start(&[]);
    let applied = slow.apply();
    slow.feed.send(false).unwrap();
    let refused = slow.plugin.block_on(applied).unwrap();
    assert_eq!(code(refused), Code::DataLoss);
    assert_eq!(slow.plugin.files(), [""; 0]);
    slow.plugin.commit("c", "extract-1").unwrap();
}

#[test]
fn removal_cancels_the_conversion_into_it() {
    let slow = Slow::start(&[]);
    let applied = slow.apply();
    slow.plugin.remove("extract-1").unwrap();
    let refused = slow.plugin.block_on(applied).unwrap();
    assert!(matches!(code(refused), Code::Cancelled | Code::NotFound));
    assert_eq!(slow.plugin.directories(), [""; 0]);
}

#[test]
fn systemd_hands_over_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("activated.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // What systemd does before it starts a service; the shell has the process id.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
    let child = Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            BINARY,
            "--address",
            "/nowhere",
            "--root",
        ])
        .arg(directory.path().join("root"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = crate::process::Process(child);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // A connection in HTTP/2 gets settings.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4);
    drop(stream);
    process.signal("-TERM");
    let mut said = String::new();
    let stderr = process.0.stderr.take();
    stderr.unwrap().read_to_string(&mut said).unwrap();
    // Where it listens, and not where it would have.
    assert!(
        said.contains("activated.sock") && !said.contains("/nowhere"),
        "{said}"
    );
    assert!(process.0.wait().unwrap().success());
    // It is systemd's, and stays.
    assert!(socket.exists());
}

#[test]
fn the_config_verb_prints_what_containerd_needs() {
    let print = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args([
                "--address",
                "/run/p.sock",
                "--snapshotter",
                "mine",
                "config",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        toml::from_str::<toml::Table>(&String::from_utf8(output.stdout).unwrap()).unwrap()
    };
    for (release, version) in [("1.7", 2), ("2", 3)] {
        let table = print(&["--containerd", release]);
        assert_eq!(table["version"].as_integer(), Some(version));
        let proxies = &table["proxy_plugins"];
        assert_eq!(proxies["mine"]["type"].as_str(), Some("snapshot"));
        assert_eq!(proxies["lcowdiff"]["type"].as_str(), Some("diff"));
        assert_eq!(proxies["lcowdiff"]["address"].as_str(), Some("/run/p.sock"));
        let plugins = &table["plugins"];
        let order = &plugins["io.containerd.service.v1.diff-service"]["default"];
        assert_eq!(order.as_array().unwrap().len(), 2);
        let unpack = &plugins["io.containerd.transfer.v1.local"]["unpack_config"];
        assert_eq!(unpack[0]["snapshotter"].as_str(), Some("overlayfs"));
        assert_eq!(unpack[1]["snapshotter"].as_str(), Some("mine"));
        assert_eq!(unpack[1]["differ"].as_str(), Some("lcowdiff"));
        let exports = &proxies["mine"]["exports"];
        assert_eq!(
            exports["root"].as_str(),
            Some("/var/lib/containerd-tar2vhd")
        );
    }
}

impl Slow {
    /// The plugin, and a containerd whose stream of a layer stops in the middle until it is
    /// fed `true`, and breaks off at `false`.
    fn start(arguments: &[&str]) -> Self {
        let (feed, fed) = std::sync::mpsc::channel();
        let directory = tempfile::tempdir().unwrap().keep();
        let address = directory.join("containerd.sock");
        let listener = UnixListener::bind(&address).unwrap();
        let address = address.to_str().unwrap().to_owned();
        let arguments = [&["--containerd-address", &address], arguments].concat();
        let plugin = Plugin::start(&arguments);
        plugin.prepare("extract-1", "").unwrap();
        listener.set_nonblocking(true).unwrap();
        crate::feed::serve_content(&plugin, listener, layer(), fed);
        Self { feed, plugin }
    }

    /// Starts the conversion and waits until it has begun.
    fn apply(
        &self,
    ) -> tokio::task::JoinHandle<
        Result<
            tonic::Response<crate::api::containerd::services::diff::v1::ApplyResponse>,
            tonic::Status,
        >,
    > {
        let mounts = self.plugin.mounts("extract-1").unwrap();
        let bytes = layer();
        let descriptor = crate::api::containerd::types::Descriptor {
            media_type: GZIP.into(),
            digest: digest(&bytes),
            size: bytes.len() as i64,
            annotations: Default::default(),
        };
        let mut request = tonic::Request::new(apply_request(&descriptor, &mounts));
        let namespace = "given".parse().unwrap();
        request
            .metadata_mut()
            .insert("containerd-namespace", namespace);
        let mut client = DiffClient::new(self.plugin.channel());
        let applied = self
            .plugin
            .spawn(async move { client.apply(request).await });
        wait_for("conversion", || {
            self.plugin.log().contains("converting a layer")
        });
        applied
    }
}

fn layer() -> Vec<u8> {
    compress(GZIP, &Layer::new().file("f", noise(3 << 20, 5)).tar())
}
