//! Metadata of an inode.

use std::io;

use super::disk::Disk;
use super::entry::LowerMetadata;
use super::xattr;
use crate::ext4::format::Inode;

impl Disk {
    pub(super) fn metadata(&self, inode: &Inode) -> io::Result<LowerMetadata> {
        let extra = inode.i_mtime_extra.get();
        let low = inode.i_mtime.get() as i32;
        let whole = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        Ok(LowerMetadata {
            mode: inode.i_mode.get() & 0o7777,
            uid: whole(inode.i_uid.get(), inode.i_uid_high.get()),
            gid: whole(inode.i_gid.get(), inode.i_gid_high.get()),
            // Two bits of the extra field carry the seconds on, the others are nanoseconds.
            mtime: (i64::from(low) + (i64::from(extra & 3) << 32), extra >> 2),
            xattrs: xattr::all(self, inode)?,
        })
    }

    pub(super) fn is_opaque(&self, inode: &Inode) -> io::Result<bool> {
        let opaque =
            |(name, value): &(Vec<u8>, Vec<u8>)| name == b"trusted.overlay.opaque" && value == b"y";
        Ok(xattr::all(self, inode)?.iter().any(opaque))
    }
}
