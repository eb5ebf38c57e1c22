//! Formats that are neither a layer nor a disk of ours, told by the bytes that a file has at
//! fixed places.
//!
//! One table serves those who expect a layer and those who expect a disk, so that both call a
//! thing by the same name. Source: the specification of each format, or the source code of the
//! program that writes it.

use std::borrow::Cow;

/// Bytes of a file's beginning that [`identify`] looks at: btrfs and ReiserFS have their magic
/// numbers behind 64 KiB.
pub(crate) const HEAD: usize = 0x1_0048;

/// Bytes of a file's end that [`identify_end`] looks at.
pub(crate) const TAIL: usize = 512;

/// A format that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The name, with its article.
    pub name: &'static str,
    pub class: Class,
    /// Whether the bytes leave no room for chance: at least four are fixed.
    pub certain: bool,
}

/// The kind of thing that a format is for, with what a person can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One compressed stream, and the command that decompresses it.
    Compressed(&'static str),
    /// Files in another archive than tar, and how to get at them.
    Archive(&'static str),
    /// A tar. The layer's own reader says what is wrong with one.
    Tar,
    /// A VHD or VHDX.
    VirtualDisk,
    /// A disk in a format that is not read, and how to make one of it that is.
    DiskImage(&'static str),
    /// The bytes of a disk as they are: a file system, a volume or a partition table.
    RawDisk,
    /// JSON, and how to get from there to a layer.
    Json(&'static str),
    /// Other text, pictures, databases, and where such a file may come from.
    Document(&'static str),
    Program,
}

impl Signature {
    /// The reason why the file is no layer, and the remedy. `None` for a tar.
    pub(crate) fn instead_of_layer(&self) -> Option<String> {
        let advice: Cow<'_, str> = match self.class {
            Class::Tar => return None,
            Class::Compressed(tool) => format!("decompress it first ({tool})").into(),
            Class::Archive("") => "extract it and make a tar of its files".into(),
            Class::Archive(advice) | Class::Json(advice) | Class::Document(advice) => advice.into(),
            Class::VirtualDisk | Class::RawDisk => {
                "it is a disk already; `tar2vhd disk convert` copies one to another format".into()
            }
            Class::DiskImage(advice) => format!("it is a disk already, and {advice}").into(),
            Class::Program => "a layer holds programs as files of a tar".into(),
        };
        Some(match advice.is_empty() {
            true => format!("not a layer but {}", self.name),
            false => format!("not a layer but {}: {advice}", self.name),
        })
    }

    /// The reason why a file that is neither VHD nor VHDX is no raw disk, and the remedy. `None`
    /// for a format whose first bytes a raw disk may well have.
    pub(crate) fn instead_of_disk(&self) -> Option<String> {
        let advice: Cow<'_, str> = match self.class {
            _ if !self.certain => return None,
            // A tar is written to disks as it is to tapes.
            Class::Tar | Class::VirtualDisk | Class::RawDisk | Class::Json(_) => return None,
            Class::Compressed(tool) => format!("decompress it first ({tool})").into(),
            Class::Archive(_) => "extract the disk from it first".into(),
            Class::DiskImage(advice) => advice.into(),
            Class::Document(_) | Class::Program => "it holds no disk".into(),
        };
        Some(format!(
            "not a VHD, a VHDX or a raw disk but {}: {advice}",
            self.name
        ))
    }
}

/// A row of the table.
struct Row(usize, &'static [u8], &'static str, Class);

const QEMU: &str = "`qemu-img convert -O raw` makes a raw disk of it";
const EWF: &str = "`ewfexport -f raw` makes a raw disk of it";
const CPIO: &str = "extract it (cpio -id) and make a tar of its files";

const fn compressed(
    offset: usize,
    magic: &'static [u8],
    name: &'static str,
    tool: &'static str,
) -> Row {
    Row(offset, magic, name, Class::Compressed(tool))
}

const fn archive(magic: &'static [u8], name: &'static str) -> Row {
    Row(0, magic, name, Class::Archive(""))
}

const fn image(offset: usize, magic: &'static [u8], name: &'static str) -> Row {
    Row(offset, magic, name, Class::DiskImage(QEMU))
}

const fn raw(offset: usize, magic: &'static [u8], name: &'static str) -> Row {
    Row(offset, magic, name, Class::RawDisk)
}

const fn document(magic: &'static [u8], name: &'static str) -> Row {
    Row(0, magic, name, Class::Document(""))
}

/// Formats with a magic number. The first row that fits counts, so what stands behind a boot
/// sector comes after what the file begins with.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    compressed(0, b"\x1f\x8b\x08", "gzip", "gzip -dc"),
    compressed(0, b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    compressed(0, b"\xfd7zXZ\0", "xz", "xz -dc"),
    compressed(0, b"BZh", "bzip2", "bzip2 -dc"),
    compressed(0, b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    compressed(0, b"\x02\x21\x4c\x18", "lz4", "lz4 -dc"),
    compressed(0, b"\x1f\x9d", "compress (.Z)", "gzip -dc"),
    compressed(0, b"\x1f\x1e", "pack (.z)", "gzip -dc"),
    compressed(0, b"LZIP", "lzip", "lzip -dc"),
    compressed(0, b"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -dc"),
    compressed(0, b"LRZI", "lrzip", "lrzip -d"),
    compressed(0, b"\xff\x06\0\0sNaPpY", "snappy", "snzip -dc"),

    archive(b"PK\x03\x04", "a zip archive"),
    archive(b"PK\x05\x06", "an empty zip archive"),
    archive(b"PK\x07\x08", "a part of a zip archive"),
    archive(b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    archive(b"Rar!\x1a\x07", "a RAR archive"),
    archive(b"MSCF\0\0\0\0", "a cabinet (.cab)"),
    archive(b"xar!", "a xar archive"),
    archive(b"!<thin>\n", "a thin ar archive"),
    Row(7, b"**ACE**", "an ACE archive", Class::Archive("")),
    Row(0, b"070701", "a cpio archive", Class::Archive(CPIO)),
    Row(0, b"070702", "a cpio archive", Class::Archive(CPIO)),
    Row(0, b"070707", "a cpio archive", Class::Archive(CPIO)),
    Row(0, b"\xc7\x71", "a cpio archive", Class::Archive(CPIO)),
    Row(0, b"\x71\xc7", "a cpio archive", Class::Archive(CPIO)),
    Row(0, b"!<arch>\ndebian-binary", "a Debian package",
        Class::Archive("`dpkg-deb --fsys-tarfile` writes the tar that is in it")),
    archive(b"!<arch>\n", "an ar archive"),
    Row(0, b"\xed\xab\xee\xdb", "an RPM package",
        Class::Archive("`rpm2archive` makes a tar of it")),
    Row(0, b"MSWIM\0\0\0", "a Windows image (WIM)",
        Class::Archive("extract it (wimapply) and make a tar of its files")),

    Row(0, b"conectix", "a VHD", Class::VirtualDisk),
    Row(0, b"cxsparse", "a VHD without its first block", Class::VirtualDisk),
    Row(0, b"vhdxfile", "a VHDX", Class::VirtualDisk),
    image(0, b"QFI\xfb\0\0\0\x01", "a qcow disk image"),
    image(0, b"QFI\xfb", "a qcow2 disk image"),
    image(0, b"KDMV", "a VMDK disk image"),
    image(0, b"COWD", "a VMDK disk image"),
    image(0, b"QED\0", "a QED disk image"),
    image(0x40, b"\x7f\x10\xda\xbe", "a VDI disk image"),
    image(0, b"WithoutFreeSpace", "a Parallels disk image"),
    image(0, b"WithouFreSpacExt", "a Parallels disk image"),
    image(0, b"Bochs Virtual HD Image", "a Bochs disk image"),
    image(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "a cloop disk image"),
    Row(0, b"EVF\x09\x0d\x0a\xff\0", "an EWF (EnCase) disk image", Class::DiskImage(EWF)),
    Row(0, b"EVF2\r\n\x81\0", "an EWF (EnCase) disk image", Class::DiskImage(EWF)),
    Row(0, b"LVF\x09\x0d\x0a\xff\0", "a logical EWF (EnCase) image", Class::DiskImage(EWF)),
    Row(0, b"LEF2\r\n\x81\0", "a logical EWF (EnCase) image", Class::DiskImage(EWF)),
    Row(0, b"AFF10\r\n\0", "an AFF disk image",
        Class::DiskImage("`affconvert -r` makes a raw disk of it")),
    Row(0, b"MComprHD", "a CHD disk image",
        Class::DiskImage("`chdman extracthd` makes a raw disk of it")),
    Row(0, b"\x3a\xff\x26\xed", "an Android sparse disk image",
        Class::DiskImage("`simg2img` makes a raw disk of it")),
    Row(0, b"partclone-image", "a Partclone disk image",
        Class::DiskImage("`partclone.restore` makes a raw disk of it")),
    Row(0, b"ntfsclone-image\0", "an ntfsclone disk image",
        Class::DiskImage("`ntfsclone --restore-image` makes a raw disk of it")),
    Row(0, b"sprs", "a sparse disk image of macOS",
        Class::DiskImage("`hdiutil convert -format UDTO` makes a raw disk of it")),

    document(b"%PDF-", "a PDF document"),
    document(b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    document(b"\xff\xd8\xff", "a JPEG picture"),
    document(b"GIF8", "a GIF picture"),
    document(b"SQLite format 3\0", "an SQLite database"),
    document(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE document, such as an MSI package"),
    document(b"-----BEGIN ", "a key, certificate or signature (PEM)"),
    Row(0, b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS",
        Class::Document("`git lfs pull` fetches the file that it stands for")),
    Row(0, b"\x37\xa4\x30\xec", "a zstd dictionary", Class::Document("")),

    Row(0, b"\x7fELF", "an ELF program", Class::Program),
    Row(0, b"\xcf\xfa\xed\xfe", "a Mach-O program", Class::Program),
    Row(0, b"\xce\xfa\xed\xfe", "a Mach-O program", Class::Program),
    Row(0, b"\xca\xfe\xba\xbe", "a Mach-O program or a Java class", Class::Program),
    Row(0, b"\0asm", "a WebAssembly program", Class::Program),

    raw(0, b"hsqs", "a squashfs file system"),
    raw(0, b"sqsh", "a squashfs file system"),
    raw(0, b"\x45\x3d\xcd\x28", "a cramfs file system"),
    raw(0, b"-rom1fs-", "a romfs file system"),
    raw(0, b"XFSB", "an XFS file system"),
    raw(0, b"UBI#", "a UBI volume"),
    raw(0, b"\x31\x18\x10\x06", "a UBIFS file system"),
    raw(0, b"LUKS\xba\xbe", "a LUKS volume"),
    raw(0, b"verity\0\0", "a dm-verity hash tree"),
    raw(0, b"ANDROID!", "an Android boot image"),
    raw(3, b"NTFS    ", "an NTFS file system"),
    raw(3, b"EXFAT   ", "an exFAT file system"),
    raw(3, b"-FVE-FS-", "a BitLocker volume"),
    raw(3, b"ReFS\0", "a ReFS file system"),
    raw(32, b"NXSB", "an APFS container"),
    raw(54, b"FAT1", "a FAT file system"),
    raw(82, b"FAT32", "a FAT file system"),
    raw(512, b"EFI PART", "a disk with a GUID partition table"),
    raw(4096, b"EFI PART", "a disk with a GUID partition table"),
    raw(512, b"LABELONE", "an LVM volume"),
    raw(1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    raw(1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    raw(1024, b"H+\0\x04", "an HFS+ file system"),
    raw(1024, b"HX\0\x05", "an HFS+ file system"),
    raw(4086, b"SWAPSPACE2", "swap space"),
    raw(4086, b"SWAP-SPACE", "swap space"),
    raw(0x8000, b"JFS1", "a JFS file system"),
    raw(0x8001, b"CD001", "an ISO 9660 file system"),
    raw(0x8001, b"BEA01", "a UDF file system"),
    raw(0x1_0034, b"ReIsEr", "a ReiserFS file system"),
    raw(0x1_0040, b"_BHRfS_M", "a btrfs file system"),
];

/// The format of a file, by its beginning: all of it, or [`HEAD`] bytes and more.
pub(crate) fn identify(head: &[u8]) -> Option<Signature> {
    of_table(head)
        .or_else(|| tar(head))
        .or_else(|| weak(head))
        .or_else(|| text(head))
}

/// The compressed stream that begins here; gzip and zstd are among them.
pub(crate) fn compression(head: &[u8]) -> Option<Signature> {
    let found = of_table(head).or_else(|| lzma(head))?;
    matches!(found.class, Class::Compressed(_)).then_some(found)
}

/// The format of a file, by its last [`TAIL`] bytes.
pub(crate) fn identify_end(tail: &[u8; TAIL]) -> Option<Signature> {
    tail.starts_with(b"koly\0\0\0\x04").then_some(Signature {
        name: "an Apple disk image (DMG)",
        class: Class::DiskImage(QEMU),
        certain: true,
    })
}

/// A set of VHDs is not known by its contents, whose form Microsoft does not publish.
pub(crate) const VHD_SET: Signature = Signature {
    name: "a VHD set, by its name",
    class: Class::DiskImage("Hyper-V's Convert-VHD makes a VHDX of it"),
    certain: true,
};

fn of_table(head: &[u8]) -> Option<Signature> {
    let fits = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let Row(_, magic, name, class) = TABLE
        .iter()
        .find(|Row(offset, magic, name, _)| fits(*offset, magic) && also_fits(name, head))?;
    Some(Signature {
        name,
        class: *class,
        // The method follows gzip's two bytes, and a plausible block bzip2's three.
        certain: magic.len() >= 4 || matches!(*name, "gzip" | "bzip2"),
    })
}

/// Requirements of a format beyond a short magic number.
fn also_fits(name: &str, head: &[u8]) -> bool {
    match name {
        // Reserved flags are zero.
        "gzip" => head.get(3).is_some_and(|flags| flags & 0xe0 == 0),
        // The size of blocks, then a block or the end of the stream.
        "bzip2" => {
            matches!(head.get(3), Some(b'1'..=b'9'))
                && head.get(4..10).is_none_or(|rest| {
                    rest == b"\x31\x41\x59\x26\x53\x59" || rest == b"\x17\x72\x45\x38\x50\x90"
                })
        }
        _ => true,
    }
}

/// A header of a tar, whatever its checksum says.
fn tar(head: &[u8]) -> Option<Signature> {
    let is_tar = head.get(257..262) == Some(b"ustar");
    let name = until_nul(head.get(..100)?);
    let signature = |name, class| Signature {
        name,
        class,
        certain: true,
    };
    is_tar.then(|| match name.ends_with(b".ovf") {
        true => signature(
            "an OVA (a virtual machine in a tar)",
            Class::Archive("it holds disks, not a layer's files"),
        ),
        false => signature("a tar archive", Class::Tar),
    })
}

/// Formats that less than four bytes tell, or that no fixed bytes do.
fn weak(head: &[u8]) -> Option<Signature> {
    let signature = |name, class| Signature {
        name,
        class,
        certain: false,
    };
    lzma(head)
        .or_else(|| {
            is_ext(head).then(|| signature("an ext2, ext3 or ext4 file system", Class::RawDisk))
        })
        // Kernels stood on disks as boot sectors.
        .or_else(|| {
            let is_kernel = head.get(0x202..0x206) == Some(b"HdrS");
            is_kernel.then(|| signature("a Linux kernel", Class::Program))
        })
        .or_else(|| is_pe(head).then(|| signature("a Windows program", Class::Program)))
        .or_else(|| is_lha(head).then(|| signature("an LHA archive", Class::Archive(""))))
        .or_else(|| {
            let name = "a disk with a partition table, or a boot sector";
            is_boot_sector(head).then(|| signature(name, Class::RawDisk))
        })
}

/// It has no magic number, but properties and a size of the dictionary that lzma really writes.
fn lzma(head: &[u8]) -> Option<Signature> {
    matches!(head, [0x5d, 0, 0, _, 0..=0x0f, ..]).then_some(Signature {
        name: "lzma",
        class: Class::Compressed("xz -dc"),
        certain: false,
    })
}

/// The superblock's magic number, a block size that there is, and a revision that there is.
fn is_ext(head: &[u8]) -> bool {
    let Some(superblock) = head.get(1024..2048) else {
        return false;
    };
    let word = |at: usize| {
        superblock[at..]
            .first_chunk()
            .map(|b| u32::from_le_bytes(*b))
    };
    superblock[56..58] == [0x53, 0xef]
        && word(24).is_some_and(|log_block_size| log_block_size <= 6)
        && word(76).is_some_and(|revision| revision <= 1)
}

fn is_pe(head: &[u8]) -> bool {
    let at = head.get(60..64).and_then(|at| at.first_chunk());
    let at = at.map(|at| u32::from_le_bytes(*at) as usize);
    head.starts_with(b"MZ")
        && at
            .and_then(|at| head.get(at..))
            .is_some_and(|rest| rest.starts_with(b"PE\0\0"))
}

fn is_lha(head: &[u8]) -> bool {
    matches!(head.get(2..7), Some([b'-', b'l', b'h' | b'z', _, b'-']))
}

/// The mark of a boot sector. Where it is, four entries of partitions are either in use or not.
fn is_boot_sector(head: &[u8]) -> bool {
    let Some(sector) = head.first_chunk::<512>() else {
        return false;
    };
    let boots = matches!(sector[0], 0xeb | 0xe9);
    let partitions = sector[446..510].chunks(16);
    let well_formed = partitions.clone().all(|entry| matches!(entry[0], 0 | 0x80));
    let any = partitions.clone().any(|entry| entry[4] != 0);
    sector[510..] == [0x55, 0xaa] && (boots || well_formed && any)
}

/// Tells the kind of a text by words in it.
fn text(head: &[u8]) -> Option<Signature> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.trim_ascii_start();
    let starts_with = |what: &[u8]| {
        start
            .get(..what.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(what))
    };
    let signature = |name, class, certain| {
        Some(Signature {
            name,
            class,
            certain,
        })
    };
    if [&b"<!doctype html"[..], b"<html", b"<head>"]
        .iter()
        .any(|tag| starts_with(tag))
    {
        let origin = "it may be the error page of a download that failed";
        return signature("an HTML page", Class::Document(origin), true);
    }
    if starts_with(b"# disk descriptorfile") {
        return signature("a VMDK descriptor", Class::DiskImage(QEMU), true);
    }
    if !is_text(head) {
        return None;
    }
    if starts_with(b"<?xml") {
        return signature("an XML document", Class::Document(""), true);
    }
    if matches!(start, [b'{' | b'[', ..]) {
        let (name, advice) = json(start);
        return signature(name, Class::Json(advice), false);
    }
    if start.starts_with(b"#!") {
        return signature("a script", Class::Program, false);
    }
    let origin = "it may be the error message of a download that failed";
    signature("text", Class::Document(origin), false)
}

/// The name and the way to a layer of a JSON document, by the keys that stand near its
/// beginning.
fn json(text: &[u8]) -> (&'static str, &'static str) {
    const MANIFEST: &str = "convert the blobs that its `layers` name, one by one; \
        `tar2vhd roothash` takes the whole image";
    const INDEX: &str = "convert the layers that the manifests it names list, one by one; \
        `tar2vhd roothash` takes the whole image";
    let text = String::from_utf8_lossy(text);
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    if has("Layers") && has("Config") {
        let advice = "convert the files that its `Layers` name, one by one; \
            `tar2vhd roothash` takes the whole archive";
        ("the manifest.json of a `docker save` archive", advice)
    } else if has("manifests") {
        ("the index of an image (JSON)", INDEX)
    } else if has("layers") && has("config") || has("fsLayers") {
        ("the manifest of an image (JSON)", MANIFEST)
    } else if has("rootfs") && has("diff_ids") {
        let advice = "the manifest of the image names its layers";
        ("the configuration of an image (JSON)", advice)
    } else if has("imageLayoutVersion") {
        ("the oci-layout file of an image (JSON)", INDEX)
    } else if has("errors") {
        let advice = "it may be a registry's answer to a download that failed";
        ("an error message (JSON)", advice)
    } else {
        ("JSON", "")
    }
}

/// Whether this is the beginning of a text of some length, with words in it. A tar that is cut
/// within its first name is none.
fn is_text(head: &[u8]) -> bool {
    const SEEN: usize = 4096;
    const SHORTEST: usize = 8;
    let seen = &head[..head.len().min(SEEN)];
    let chunks = || seen.utf8_chunks();
    // The last character may be cut.
    let broken = chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    let cut = chunks()
        .last()
        .is_some_and(|chunk| !chunk.invalid().is_empty());
    let printable = chunks().all(|chunk| {
        let mut chars = chunk.valid().chars();
        chars.all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c'))
    });
    seen.len() >= SHORTEST
        && printable
        && (broken == 0 || broken == 1 && cut)
        && seen.iter().any(u8::is_ascii_whitespace)
        || is_short_json(seen)
}

/// `{}` and the like: too short to be told from a name otherwise.
fn is_short_json(seen: &[u8]) -> bool {
    let seen = seen.trim_ascii();
    let ends = matches!(seen, [b'{', .., b'}'] | [b'[', .., b']']);
    ends && seen
        .iter()
        .all(|byte| (0x20..0x7f).contains(byte) || byte.is_ascii_whitespace())
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests;
