//! Images mounted by the kernel.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::images::oracle_missing;

/// A mount that ends with this value, also when a test panics.
pub(super) struct Mount(tempfile::TempDir);

impl Mount {
    pub(super) fn read_only(image: &Path) -> Option<Self> {
        Self::new(image, "loop,ro,noload")
    }

    pub(super) fn writable(image: &Path) -> Option<Self> {
        Self::new(image, "loop,rw,user_xattr,acl")
    }

    fn new(image: &Path, options: &str) -> Option<Self> {
        let point = tempfile::tempdir().unwrap();
        let mut said = String::new();
        for _ in 0..20 {
            let mut mount = Command::new("mount");
            mount.env("LC_ALL", "C").args(["-t", "ext4", "-o", options]);
            let output = mount.arg(image).arg(point.path()).output().unwrap();
            if output.status.success() {
                return Some(Self(point));
            }
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            let refusals = ["permission denied", "not permitted", "superuser"];
            if refusals.iter().any(|refusal| said.contains(refusal)) {
                oracle_missing(&format!("mounting is refused here: {said}"));
                return None;
            }
            // Other processes take and free loop devices at the same time.
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("mount: {said}");
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..100 {
            let done = Command::new("umount").arg(self.path()).output();
            if done.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
