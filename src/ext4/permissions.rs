//! The mode of an inode and its access ACL, which follow each other as the kernel has it: the
//! mode shows what the ACL gives owner, group class and others, and a change of one changes the
//! other. An ACL whose group class has more than the mode would not be heeded at all where the
//! mode gives the group nothing.
//!
//! Source: Linux, fs/posix_acl.c.

use super::acl::Acl;
use super::area::BlockSink;
use super::sets::Stored;
use super::tree::Ino;
use super::writer::{Writer, written_out};
use super::xattr::{INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, Set, Value};
use crate::error::{Error, Result};

impl<S: BlockSink> Writer<S> {
    /// Sets the nine permission bits of the mode, as an access ACL does that is set.
    pub(crate) fn set_permissions(&mut self, ino: Ino, bits: u16) {
        let mode = &mut self.tree.node_mut(ino).attributes.mode;
        *mode = *mode & !0o777 | bits & 0o777;
    }

    /// Gives the access ACL, if there is one, the mode that the inode has now.
    pub(crate) fn acl_follows_mode(&mut self, ino: Ino) -> Result<()> {
        let node = self.tree.node(ino);
        let mode = node.attributes.mode;
        let Some(mut set) = self.set_with_acl(node.xattrs, INDEX_ACL_ACCESS)? else {
            return Ok(());
        };
        if matches!(set.get(INDEX_ACL_ACCESS, b""), Some(Value::Inode { .. })) {
            return Err(Error::limit(
                "another entry changes the mode of a file whose ACL is too large to be kept",
            ));
        }
        set.change(INDEX_ACL_ACCESS, b"", |value| {
            let mut acl = Acl::from_disk(value)?;
            acl.chmod(mode);
            Some(acl.to_disk())
        });
        self.put_xattrs(ino, set)
    }

    /// Removes the access ACL.
    pub(crate) fn remove_access_acl(&mut self, ino: Ino) -> Result<()> {
        self.remove_acl(ino, INDEX_ACL_ACCESS)
    }

    /// Removes the default ACL.
    pub(crate) fn remove_default_acl(&mut self, ino: Ino) -> Result<()> {
        self.remove_acl(ino, INDEX_ACL_DEFAULT)
    }

    fn remove_acl(&mut self, ino: Ino, index: u8) -> Result<()> {
        let number = self.tree.node(ino).xattrs;
        match self.set_with_acl(number, index)? {
            None => Ok(()),
            Some(mut set) => {
                set.remove(index, b"");
                self.put_xattrs(ino, set)
            }
        }
    }

    /// The set of a number, if it has an ACL of a kind.
    fn set_with_acl(&self, number: u32, index: u8) -> Result<Option<Set>> {
        match self.sets.get(number) {
            None => Ok(None),
            Some(Stored::Live(bytes)) => {
                let set = Set::decode(bytes);
                Ok(set.get(index, b"").is_some().then_some(set))
            }
            Some(Stored::Sealed(sealed)) => {
                let has_acl = match index {
                    INDEX_ACL_ACCESS => sealed.access_acl,
                    _ => sealed.default_acl,
                };
                match has_acl {
                    true => Err(written_out()),
                    false => Ok(None),
                }
            }
        }
    }
}
