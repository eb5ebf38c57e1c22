//! Debian's docker-registry as a process, skopeo to fill it, openssl and htpasswd for its secrets.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::skip::oracle_missing;

/// The user and the password of a registry with a lock.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "hunter2";

/// Runs a program to its end; none, visibly, if it is not installed.
pub(crate) fn run(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().to_string_lossy();
            oracle_missing(&format!("{program} is not installed"));
            return None;
        }
        output => output.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    Some(said)
}

/// A registry.
pub(crate) struct DockerRegistry {
    pub(crate) address: SocketAddr,
    pub(crate) directory: TempDir,
    process: Child,
}

impl DockerRegistry {
    /// Without TLS, for everyone.
    pub(crate) fn plain() -> Option<Self> {
        Self::start(tempfile::tempdir().unwrap(), "")
    }

    /// With TLS and a password. The authority of its certificate is in `ca.pem`.
    pub(crate) fn locked() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        let mut htpasswd = Command::new("htpasswd");
        let users = run(htpasswd.args(["-nbB", "-C", "4", USER, PASSWORD]))?;
        fs::write(&path, users).unwrap();
        let path = path.display();
        let auth = format!("auth:\n  htpasswd:\n    realm: tests\n    path: {path}\n");
        Self::with_tls(directory, &auth)
    }

    /// With TLS, and tokens of a server at this URL.
    pub(crate) fn with_tokens(realm: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: s\n    issuer: i\n    \
             rootcertbundle: {path}/ca.pem\n"
        );
        Self::with_tls(directory, &auth)
    }

    /// With TLS and other settings. The authority of its certificate is in `ca.pem`.
    pub(crate) fn with_tls(directory: TempDir, more: &str) -> Option<Self> {
        let path = directory.path();
        certificate(path)?;
        let path = path.display();
        let tls = format!(
            "  tls:\n    certificate: {path}/server.pem\n    key: {path}/server.key\n{more}"
        );
        Self::start(directory, &tls)
    }

    fn start(directory: TempDir, more: &str) -> Option<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let program = target.join("registry/usr/bin/docker-registry");
        if !program.exists() {
            oracle_missing("there is no docker-registry, which .ci/registry fetches");
            return None;
        }
        // Another process may take the port first.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let storage = directory.path().join("storage");
            let config = format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
                 storage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: {address}\n  secret: s\n{more}",
                storage.display()
            );
            let path = directory.path().join("config.yml");
            fs::write(&path, config).unwrap();
            let log = fs::File::create(directory.path().join("log")).unwrap();
            let mut process = Command::new(&program)
                .arg("serve")
                .arg(&path)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            if is_up(&mut process, address) {
                return Some(Self {
                    address,
                    directory,
                    process,
                });
            }
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        panic!("docker-registry does not start: {log}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Copies an OCI layout to a name in the registry.
    pub(crate) fn fill(&self, layout: &Path, name: &str, is_locked: bool) -> Option<()> {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--all", "--dest-tls-verify=false"]);
        // The user's own policy is not asked.
        skopeo.arg("--insecure-policy");
        if is_locked {
            skopeo.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        skopeo
            .arg(format!("oci:{}:t", layout.display()))
            .arg(format!("docker://{}/{name}", self.address));
        run(&mut skopeo).map(drop)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_up(process: &mut Child, address: SocketAddr) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("docker-registry does not listen");
}

/// An authority in `ca.pem` and a certificate by it in `server.pem`.
fn certificate(path: &Path) -> Option<()> {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        run(command.current_dir(path).args(arguments.split(' ')))
    };
    fs::write(path.join("san"), "subjectAltName=IP:127.0.0.1").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"
    ))?;
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=registry"
    ))?;
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile san -out server.pem",
    )?;
    Some(())
}
