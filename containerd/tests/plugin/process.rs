//! The plugin's process, and calls to it.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::api::containerd::services::diff::v1::diff_client::DiffClient;
use crate::api::containerd::services::diff::v1::{ApplyRequest, ApplyResponse};
use crate::api::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use crate::api::containerd::services::snapshots::v1::{
    CommitSnapshotRequest, Info, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest,
    RemoveSnapshotRequest, StatSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest,
};
use crate::api::containerd::types::{Descriptor, Mount};

pub(crate) type Labels = HashMap<String, String>;

/// A process that is killed when this ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something holds, for a minute at most.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A plugin with a root of its own.
pub(crate) struct Plugin {
    pub(crate) directory: tempfile::TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
    preload: Option<PathBuf>,
    descriptors: Option<(u32, u32)>,
    runtime: tokio::runtime::Runtime,
    channel: Option<Channel>,
}

impl Plugin {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut plugin = Self {
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            process: None,
            preload: None,
            descriptors: None,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            channel: None,
        };
        plugin.restart();
        plugin
    }

    /// With layers read from a directory that [`blob`](Self::blob) fills.
    pub(crate) fn with_content(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
        let content = directory.to_str().unwrap().to_owned();
        let arguments = [&["--content-root", &content], arguments].concat();
        Self::start(&arguments)
    }

    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("plugin.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// The limits of open files that the process is started with from now on.
    pub(crate) fn limit_descriptors(&mut self, soft: u32, hard: u32) {
        self.descriptors = Some((soft, hard));
    }

    /// A library that the process is started with from now on.
    pub(crate) fn preload(&mut self, library: &Path) {
        self.preload = Some(library.to_owned());
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let binary = env!("CARGO_BIN_EXE_containerd-tar2vhd");
        let mut command = match self.descriptors {
            None => Command::new(binary),
            Some((soft, hard)) => {
                let mut command = Command::new("sh");
                let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$@\"");
                command.args(["-c", &script, "sh", binary]);
                command
            }
        };
        command
            .arg("--root")
            .arg(self.root())
            .arg("--address")
            .arg(self.socket())
            .args(["--log-level", "debug"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// Kills it, if it lives, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let child = self.command().spawn().unwrap();
        self.process = Some(Process(child));
        self.reconnect();
    }

    /// Connects anew to the process that runs.
    pub(crate) fn reconnect(&mut self) {
        let socket = self.socket();
        wait_for("plugin", || UnixStream::connect(&socket).is_ok());
        let address = format!("unix://{}", socket.display());
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        let channel = self.runtime.block_on(endpoint.connect()).unwrap();
        self.channel = Some(channel);
    }

    pub(crate) fn kill(&mut self) {
        self.channel = None;
        self.process = None;
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone().unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel())
    }

    pub(crate) fn prepare_with(
        &self,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, Status> {
        let request = prepare_request(key, parent, labels);
        let response = self.block_on(self.snapshots().prepare(request));
        response.map(|response| response.into_inner().mounts)
    }

    pub(crate) fn prepare(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        self.prepare_with(key, parent, Labels::new())
    }

    pub(crate) fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
        let request = ViewSnapshotRequest {
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().view(request));
        response.map(|response| response.into_inner().mounts)
    }

    pub(crate) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let request = MountsRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().mounts(request));
        response.map(|response| response.into_inner().mounts)
    }

    pub(crate) fn commit_onto(&self, name: &str, key: &str, parent: &str) -> Result<(), Status> {
        let request = CommitSnapshotRequest {
            name: name.to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().commit(request));
        response.map(|response| response.into_inner())
    }

    pub(crate) fn commit(&self, name: &str, key: &str) -> Result<(), Status> {
        self.commit_onto(name, key, "")
    }

    pub(crate) fn remove(&self, key: &str) -> Result<(), Status> {
        let request = RemoveSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().remove(request));
        response.map(|response| response.into_inner())
    }

    pub(crate) fn stat(&self, key: &str) -> Result<Info, Status> {
        let request = StatSnapshotRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().stat(request))?;
        Ok(response.into_inner().info.unwrap())
    }

    pub(crate) fn usage(&self, key: &str) -> Result<UsageResponse, Status> {
        let request = UsageRequest {
            key: key.to_owned(),
            ..Default::default()
        };
        let response = self.block_on(self.snapshots().usage(request));
        response.map(|response| response.into_inner())
    }

    /// Keys and names that match.
    pub(crate) fn list(&self, filters: &[&str]) -> Result<Vec<String>, Status> {
        let request = ListSnapshotsRequest {
            filters: filters.iter().map(|f| (*f).to_owned()).collect(),
            ..Default::default()
        };
        let mut client = self.snapshots();
        self.block_on(async {
            let mut stream = client.list(request).await?.into_inner();
            let mut names = Vec::new();
            while let Some(message) = stream.message().await? {
                names.extend(message.info.into_iter().map(|info| info.name));
            }
            Ok(names)
        })
    }

    /// Puts a blob where the plugin reads layers; returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = crate::image::digest(bytes);
        let content = Path::new(&self.arguments[1]);
        let name = digest.trim_start_matches("sha256:");
        fs::write(content.join("blobs/sha256").join(name), bytes).unwrap();
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as i64,
            annotations: Default::default(),
        }
    }

    /// Puts the bytes of one blob under the name of another.
    pub(crate) fn replace_blob(&self, hex: &str, by: &str) {
        let blobs = Path::new(&self.arguments[1]).join("blobs/sha256");
        fs::copy(
            blobs.join(by.trim_start_matches("sha256:")),
            blobs.join(hex),
        )
        .unwrap();
    }

    pub(crate) fn apply(
        &self,
        descriptor: &Descriptor,
        mounts: &[Mount],
    ) -> Result<Descriptor, Status> {
        let request = apply_request(descriptor, mounts);
        let mut client = DiffClient::new(self.channel());
        let response = self.block_on(client.apply(Request::new(request)));
        response
            .map(|response: tonic::Response<ApplyResponse>| response.into_inner().applied.unwrap())
    }

    /// The directories of snapshots, by name.
    pub(crate) fn directories(&self) -> Vec<String> {
        let directories = fs::read_dir(self.root().join("snapshots")).unwrap();
        let mut names: Vec<_> = directories
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every file below the root, but the metadata and the records of snapshots.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for directory in self.directories() {
            let entries = fs::read_dir(self.root().join("snapshots").join(&directory)).unwrap();
            files.extend(entries.map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                format!("{directory}/{name}")
            }));
        }
        files.retain(|file| !file.ends_with("/snapshot"));
        files.sort();
        files
    }

    /// What the process said on `GET /metrics`.
    pub(crate) fn metrics(&self, address: &str) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill();
        if let Some(["--content-root", content]) = self
            .arguments
            .first_chunk::<2>()
            .map(|a| a.each_ref().map(|a| &a[..]))
        {
            let _ = fs::remove_dir_all(content);
        }
        if std::thread::panicking() {
            eprintln!("the plugin's log:\n{}", self.log());
        }
    }
}

pub(crate) fn prepare_request(key: &str, parent: &str, labels: Labels) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest {
        snapshotter: "lcow".to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels,
    }
}

pub(crate) fn apply_request(descriptor: &Descriptor, mounts: &[Mount]) -> ApplyRequest {
    ApplyRequest {
        diff: Some(descriptor.clone()),
        mounts: mounts.to_vec(),
        ..Default::default()
    }
}

/// The code of what should have failed.
#[track_caller]
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.expect_err("this should fail").code()
}

/// Labels of hcsshim.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let prefix = "containerd.io/snapshot/io.microsoft.";
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| (format!("{prefix}{k}"), (*v).to_owned()))
        .collect()
}
