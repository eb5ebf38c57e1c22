//! Owner, mode and access list of a file that takes the place of another.

use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};

/// The mode to create a file with, from which the kernel takes the umask away: one that will
/// take the place of another is for its owner alone until it has that one's mode.
pub(crate) fn mode(old: Option<&Metadata>) -> u32 {
    match old {
        Some(_) => 0o600,
        None => 0o666,
    }
}

/// Gives `file` what the file at `path` has, whose metadata `old` is: owner and group as far
/// as the system lets this process, access list and mode, but for the bits that let a
/// program act as its owner.
///
/// An attribute that cannot be set leaves the file accessible to fewer users, never to more.
pub(crate) fn copy(file: &File, path: &Path, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    let (uid, gid) = (Uid::from_raw(old.uid()), Gid::from_raw(old.gid()));
    let mut same_group = new.gid() == old.gid();
    if new.uid() != old.uid() || !same_group {
        // A member may give a file to a group, where only root may give it to another user.
        same_group |= fchown(file, Some(uid), Some(gid))
            .or_else(|_| fchown(file, None, Some(gid)))
            .is_ok();
    }
    let mut mode = old.mode() & 0o777;
    if !same_group || !acl::copy(file, path) {
        // These bits would be another group's, or those that the list granted to others.
        mode &= !0o070;
    }
    // Some file systems know no modes and refuse all but the one that is there.
    if file.metadata()?.mode() & 0o7777 != mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod acl {
    use std::fs::File;
    use std::path::Path;

    use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr};
    use rustix::io::Errno;

    const ACL: &str = "system.posix_acl_access";

    /// Makes the file's access list that of `path`; false if that cannot be had.
    pub(super) fn copy(file: &File, path: &Path) -> bool {
        // The kernel holds no larger attribute.
        let mut list = vec![0; 64 << 10];
        match getxattr(path, ACL, &mut list) {
            Ok(len) => fsetxattr(file, ACL, &list[..len], XattrFlags::empty()).is_ok(),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {
                // The directory may have given it one that the old file has not.
                matches!(
                    fremovexattr(file, ACL),
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP)
                )
            }
            Err(_) => false,
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod acl {
    use std::fs::File;
    use std::path::Path;

    /// Access lists of other systems are beside the mode, and the new file has none.
    pub(super) fn copy(_: &File, _: &Path) -> bool {
        true
    }
}
