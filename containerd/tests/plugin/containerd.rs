//! The plugin under a real containerd, which `.ci/containerd` fetches.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tonic::Code;

use crate::apply::check_stack;
use crate::image::{self, GZIP, Layer, archive, noise};
use crate::process::{Plugin, Process, code, wait_for};
use crate::skip;

/// The client unpacks, through the diff service.
const LOCAL: &str = "--local=true";
/// The transfer service does. Releases differ in what they do when nothing is said.
const TRANSFER: &str = "--local=false";

/// Directories with `containerd` and `ctr`.
fn releases() -> Vec<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let fetched = fs::read_dir(target.join("containerd"))
        .into_iter()
        .flatten();
    let mut releases: Vec<_> = fetched
        .map(|entry| entry.unwrap().path().join("usr/bin"))
        .filter(|bin| bin.join("containerd").exists())
        .collect();
    releases.sort();
    if releases.is_empty() {
        skip::oracle_missing("no containerd (.ci/containerd fetches one): not tested with it");
    }
    releases
}

/// containerd with the plugin, all in a directory of its own.
struct Containerd {
    plugin: Plugin,
    bin: PathBuf,
    process: Option<Process>,
}

impl Containerd {
    /// `None`, and a visible skip, where containerd cannot run.
    fn start(bin: &Path, differs: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip::oracle_missing("not root: containerd cannot run");
            return None;
        }
        let directory = tempfile::tempdir().unwrap().keep();
        let address = directory.join("containerd.sock");
        let plugin = Plugin::start(&["--containerd-address", address.to_str().unwrap()]);
        let version = Command::new(bin.join("containerd"))
            .arg("--version")
            .output()
            .unwrap();
        let is_v1 = String::from_utf8_lossy(&version.stdout).contains(" 1.");
        let release = if is_v1 { "1.7" } else { "2" };
        // As the README says: a file of its own beside the configuration that containerd has by
        // default, which imports it.
        let snippet = Command::new(env!("CARGO_BIN_EXE_containerd-tar2vhd"))
            .arg("--root")
            .arg(plugin.root())
            .arg("--address")
            .arg(plugin.socket())
            .args(["config", "--containerd", release])
            .output()
            .unwrap();
        let snippet = String::from_utf8(snippet.stdout).unwrap();
        let snippet = snippet.replace(r#"["lcowdiff", "walking"]"#, differs);
        assert!(snippet.contains(differs));
        let imported = directory.join("conf.d");
        fs::create_dir(&imported).unwrap();
        fs::write(imported.join("lcow.toml"), snippet).unwrap();
        let path = directory.display();
        let version = if is_v1 { 2 } else { 3 };
        let own = format!(
            "version = {version}\nroot = \"{path}/root\"\nstate = \"{path}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
             \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\"]\n\
             [grpc]\naddress = \"{path}/containerd.sock\"\n\
             [ttrpc]\naddress = \"{path}/containerd.sock.ttrpc\"\n"
        );
        fs::write(imported.join("test.toml"), own).unwrap();
        let default = Command::new(bin.join("containerd"))
            .args(["config", "default"])
            .output()
            .unwrap();
        let default = String::from_utf8(default.stdout).unwrap();
        let lines = default
            .lines()
            .map(|line| match line.starts_with("imports = ") {
                true => format!("imports = [\"{path}/conf.d/*.toml\"]"),
                false => line.to_owned(),
            });
        let config = lines.collect::<Vec<_>>().join("\n");
        assert!(config.contains("conf.d"));
        fs::write(directory.join("config.toml"), config).unwrap();
        let mut containerd = Self {
            plugin,
            bin: bin.to_owned(),
            process: None,
        };
        containerd.restart();
        Some(containerd)
    }

    fn directory(&self) -> PathBuf {
        let at = self
            .plugin
            .arguments()
            .iter()
            .position(|a| a == "--containerd-address");
        let address = Path::new(&self.plugin.arguments()[at.unwrap() + 1]);
        address.parent().unwrap().to_owned()
    }

    fn restart(&mut self) {
        self.process = None;
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory().join("log"))
            .unwrap();
        let child = Command::new(self.bin.join("containerd"))
            .arg("--config")
            .arg(self.directory().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(Process(child));
        wait_for("containerd", || {
            self.ctr("default", &["version"]).status.success()
        });
    }

    fn command(&self, namespace: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("ctr"));
        command
            .arg("-a")
            .arg(self.directory().join("containerd.sock"))
            .args(["-n", namespace, "--timeout", "120s"])
            .args(arguments);
        command
    }

    fn ctr(&self, namespace: &str, arguments: &[&str]) -> Output {
        self.command(namespace, arguments).output().unwrap()
    }

    #[track_caller]
    fn succeed(&self, namespace: &str, arguments: &[&str]) -> String {
        let output = self.ctr(namespace, arguments);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "ctr {arguments:?}: {}{}",
            said(&output.stdout),
            said(&output.stderr)
        );
        said(&output.stdout)
    }

    /// Waits until containerd calls a plugin again that was away: after a call in vain it does
    /// not try for a while.
    fn wait_for_plugin(&self) {
        wait_for("call of the plugin", || {
            let list = ["snapshots", "--snapshotter", "lcow", "ls"];
            self.ctr("default", &list).status.success()
        });
    }

    fn snapshots(&self, namespace: &str, arguments: &[&str]) -> String {
        self.succeed(
            namespace,
            &[&["snapshots", "--snapshotter", "lcow"], arguments].concat(),
        )
    }

    fn archive(&self, name: &str, layers: &[(&str, Vec<u8>)]) -> String {
        let path = self.directory().join("image.tar");
        fs::write(&path, archive(name, layers)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Keys of committed snapshots, the bottom one first.
    fn chain(&self, namespace: &str) -> Vec<String> {
        let listed = self.snapshots(namespace, &["ls"]);
        let mut parents = BTreeMap::new();
        for line in listed.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [key, "Committed"] => parents.insert(String::new(), key.to_owned()),
                [key, parent, "Committed"] => parents.insert(parent.to_owned(), key.to_owned()),
                _ => None,
            };
        }
        let mut chain = Vec::new();
        let mut at = String::new();
        while let Some(key) = parents.get(&at) {
            chain.push(key.clone());
            at.clone_from(key);
        }
        chain
    }

    /// Removes what nothing holds any more. By itself containerd does so when it thinks that
    /// enough has changed, which may be never; it does before a lease's removal returns.
    fn collect(&self) {
        self.succeed("default", &["leases", "create", "--id", "collect"]);
        self.succeed("default", &["leases", "rm", "--sync", "collect"]);
    }

    /// Gives up images and leases; then nothing may be left of their layers.
    fn check_nothing_leaks(&self, namespaces: &[&str]) {
        for namespace in namespaces {
            for (list, remove) in [
                (&["images", "ls", "-q"][..], &["images", "rm", "--sync"][..]),
                (&["leases", "ls", "-q"], &["leases", "rm", "--sync"]),
            ] {
                for name in self.succeed(namespace, list).lines() {
                    self.succeed(namespace, &[remove, &[name]].concat());
                }
            }
        }
        self.collect();
        wait_for("empty root", || self.plugin.directories().is_empty());
        assert_eq!(self.plugin.list(&[]).unwrap(), [""; 0]);
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process = None;
        let directory = self.directory();
        if std::thread::panicking() {
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("containerd's log, the newest first:\n{}", tail.join("\n"));
        }
        let _ = fs::remove_dir_all(directory);
    }
}

/// With each release there is.
fn with_each(differs: &str, test: impl Fn(&mut Containerd)) {
    for bin in releases() {
        if let Some(mut containerd) = Containerd::start(&bin, differs) {
            test(&mut containerd);
        }
    }
}

#[test]
fn images_are_imported_mounted_and_removed() {
    with_each(r#"["lcowdiff", "walking"]"#, |containerd| {
        let layers = image::layers();
        let file = containerd.archive("example.org/image", &layers);
        let import = ["images", "import", "--snapshotter", "lcow"];
        containerd.succeed("one", &[&import[..], &[LOCAL, &file]].concat());
        // In another namespace, by the transfer service.
        containerd.succeed("two", &[&import[..], &[TRANSFER, &file]].concat());
        for namespace in ["one", "two"] {
            let chain = containerd.chain(namespace);
            assert_eq!(chain.len(), layers.len(), "{chain:?}");
            let top = chain.last().unwrap();

            containerd.snapshots(namespace, &["prepare", "container", top]);
            let keys = containerd.plugin.list(&[]).unwrap();
            let key = keys
                .iter()
                .find(|key| key.starts_with(namespace) && key.ends_with("/container"))
                .unwrap();
            let mounts = containerd.plugin.mounts(key).unwrap();
            check_stack(&mounts[0], &layers);
            let told = containerd.snapshots(namespace, &["mounts", "/mnt", "container"]);
            assert!(told.contains(&mounts[0].source), "{told}");

            containerd.snapshots(namespace, &["view", "view", top]);
            assert!(containerd.snapshots(namespace, &["tree"]).contains("view"));
            let usage = containerd.snapshots(namespace, &["usage"]);
            assert!(
                usage.contains(top.as_str()) && usage.contains("MiB"),
                "{usage}"
            );
            containerd.snapshots(namespace, &["label", "view", "containerd.io/snapshot/x=y"]);
            let info = containerd.snapshots(namespace, &["info", "view"]);
            assert!(info.contains("containerd.io/snapshot/x"), "{info}");
            containerd.snapshots(namespace, &["rm", "view"]);
            containerd.snapshots(namespace, &["commit", "kept", "container"]);
            assert_eq!(containerd.chain(namespace).len(), layers.len() + 1);
            let held = ["snapshots", "--snapshotter", "lcow", "rm", top];
            assert!(!containerd.ctr(namespace, &held).status.success());
            containerd.snapshots(namespace, &["rm", "kept"]);
        }
        containerd.collect();
        let left = || containerd.plugin.list(&[]).unwrap();
        wait_for("removal", || left().len() == 2 * layers.len());
        // All of it outlives both processes.
        let before = left();
        containerd.plugin.restart();
        containerd.restart();
        assert_eq!(containerd.plugin.list(&[]).unwrap(), before);
        assert_eq!(containerd.chain("one").len(), layers.len());
        containerd.check_nothing_leaks(&["one", "two"]);
    });
}

#[test]
fn the_hosts_own_images_are_unpacked_as_before() {
    with_each(r#"["lcowdiff", "walking"]"#, |containerd| {
        let dumped = Command::new(containerd.bin.join("containerd"))
            .arg("--config")
            .arg(containerd.directory().join("config.toml"))
            .args(["config", "dump"])
            .output()
            .unwrap();
        let dumped: toml::Table = toml::from_str(&String::from_utf8_lossy(&dumped.stdout)).unwrap();
        let exports = &dumped["proxy_plugins"]["lcow"]["exports"];
        let root = containerd.plugin.root();
        assert_eq!(exports["root"].as_str(), root.to_str());
        let transfer = &dumped["plugins"]["io.containerd.transfer.v1.local"];
        let pairs: Vec<_> = transfer["unpack_config"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| pair["snapshotter"].as_str().unwrap())
            .collect();
        assert_eq!(pairs, ["overlayfs", "lcow"]);

        let layers = [(GZIP, Layer::new().file("file", "data").tar())];
        let file = containerd.archive("example.org/image", &layers);
        // Nothing is said of a snapshotter; whoever unpacks.
        let overlay = containerd.ctr("plain", &["plugins", "ls", "id==overlayfs"]);
        if !String::from_utf8_lossy(&overlay.stdout).contains(" ok") {
            skip::oracle_missing("overlayfs does not work here: not tested as the host's own");
            return;
        }
        for (namespace, way) in [("client", LOCAL), ("transfer", TRANSFER)] {
            containerd.succeed(namespace, &["images", "import", way, &file]);
            let listed = ["snapshots", "--snapshotter", "overlayfs", "ls"];
            let listed = containerd.succeed(namespace, &listed);
            assert!(listed.contains("Committed"), "{way}: {listed}");
        }
        assert_eq!(containerd.plugin.list(&[]).unwrap(), [""; 0]);
    });
}

#[test]
fn other_mounts_are_left_to_the_next_differ() {
    for (differs, lcow_is_first) in [
        (r#"["lcowdiff", "walking"]"#, true),
        (r#"["walking", "lcowdiff"]"#, false),
    ] {
        with_each(differs, |containerd| {
            let layers = [(GZIP, Layer::new().file("file", "data").tar())];
            let file = containerd.archive("example.org/image", &layers);
            // Bind mounts, which "walking" fills.
            containerd.succeed(
                "other",
                &["images", "import", "--snapshotter", "native", LOCAL, &file],
            );
            let listed = ["snapshots", "--snapshotter", "native", "ls"];
            assert!(containerd.succeed("other", &listed).contains("Committed"));
            assert_eq!(containerd.plugin.list(&[]).unwrap(), [""; 0]);
            // The transfer service knows its differ by name, the client takes the list's
            // first: "walking" tries to mount what only a guest can.
            let import = ["images", "import", "--snapshotter", "lcow"];
            containerd.succeed("one", &[&import[..], &[TRANSFER, &file]].concat());
            assert_eq!(containerd.chain("one").len(), 1);
            let local = containerd.ctr("two", &[&import[..], &[LOCAL, &file]].concat());
            assert_eq!(local.status.success(), lcow_is_first);
            containerd.check_nothing_leaks(&["one", "two", "other"]);
        });
    }
}

#[test]
fn a_process_killed_during_an_unpack_does_no_harm() {
    with_each(r#"["lcowdiff", "walking"]"#, |containerd| {
        let layers: Vec<_> = (1..4)
            .map(|i| {
                (
                    image::PLAIN,
                    Layer::new().file("big", noise(48 << 20, i)).tar(),
                )
            })
            .collect();
        let file = containerd.archive("example.org/big", &layers);
        let import = ["images", "import", "--snapshotter", "lcow"];
        for (round, (plugin_dies, local)) in
            [(true, true), (true, false), (false, true), (false, false)]
                .into_iter()
                .enumerate()
        {
            let namespace = format!("round-{round}");
            let way = if local { LOCAL } else { TRANSFER };
            let arguments = [&import[..], &[way, &file]].concat();
            let begun = conversions(&containerd.plugin);
            let mut command = containerd.command(&namespace, &arguments);
            let mut ctr = Process(
                command
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap(),
            );
            // The second layer, with one that is whole below it.
            wait_for("second conversion", || {
                conversions(&containerd.plugin) >= begun + 2
            });
            if plugin_dies {
                containerd.plugin.kill();
                assert!(!ctr.0.wait().unwrap().success());
                containerd.plugin.restart();
                containerd.wait_for_plugin();
            } else {
                containerd.process = None;
                ctr.kill();
                containerd.restart();
            }
            // The next try meets what the first has left, and succeeds.
            containerd.succeed(&namespace, &arguments);
            assert_eq!(containerd.chain(&namespace).len(), layers.len());
            containerd.check_nothing_leaks(&[&namespace]);
        }
    });
}

fn conversions(plugin: &Plugin) -> usize {
    plugin.log().matches("converting a layer").count()
}

#[test]
fn containerd_gone_is_no_reason_to_try_another_differ() {
    // No release is needed: nobody listens where containerd should.
    let plugin = Plugin::start(&["--containerd-address", "/nowhere/containerd.sock"]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let descriptor = crate::api::containerd::types::Descriptor {
        media_type: GZIP.into(),
        digest: image::digest(b""),
        size: 1,
        annotations: Default::default(),
    };
    // A key without a namespace tells none.
    let nameless = plugin.apply(&descriptor, &mounts);
    assert_eq!(code(nameless), Code::InvalidArgument);
    let mounts = plugin.prepare("ns/1/extract-2", "").unwrap();
    let unreachable = plugin.apply(&descriptor, &mounts);
    assert_eq!(code(unreachable), Code::Unavailable);
    assert_eq!(plugin.files(), [""; 0]);
}
