//! The images whose metadata is changed: ours and mke2fs', as small as they may be.

use std::fs;
use std::path::Path;

use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::{DiskFormat, Options, Profile, Writable};

use crate::common::entry::{Segment, char_device, dir, fifo, file, link, sparse, symlink};
use crate::common::oracle::run;
use crate::common::tar::Tar;

/// An image and what it is called in reports.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// system.posix_acl_access as getxattr gives it: the owner, user 7, the group, the mask, others.
fn acl() -> Vec<u8> {
    const ENTRIES: [(u16, u16, u32); 5] = [
        (1, 6, u32::MAX),
        (2, 6, 7),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 4, u32::MAX),
    ];
    let entries = ENTRIES.iter().flat_map(|(tag, permissions, id)| {
        let [tag, permissions] = [tag, permissions].map(|field| field.to_le_bytes());
        [&tag[..], &permissions, &id.to_le_bytes()].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// A layer with something of each kind that has metadata of its own; hcsshim takes no ACLs and no
/// large values.
fn layer(with_all: bool) -> Vec<u8> {
    let noise: Vec<u8> = (0..20_000_u32).map(|i| ((i * 77) >> 5) as u8).collect();
    let fragments = (0..12).flat_map(|_| [Segment::Data(vec![1; 4096]), Segment::Hole(8192)]);
    let mut entries = vec![
        dir("d"),
        dir("d/below"),
        file("d/file", "contents").xattr("user.small", "value"),
        file("d/other", "others")
            .xattr("user.a", [1; 300])
            .mode(0o664),
        file("d/inline", [b'i'; 130]),
        link("again", "d/file"),
        symlink("short", "x"),
        symlink("long", [b'y'; 100]),
        char_device("null", 1, 3),
        fifo("pipe"),
        sparse("fragments", fragments.collect()),
    ];
    if with_all {
        let guarded = file("d/acl", "guarded").mode(0o664);
        entries.push(guarded.xattr("system.posix_acl_access", acl()));
        entries.push(file("d/large", "large").xattr("user.large", noise));
    }
    entries.extend((0..150).map(|i| file(format!("many-names-in-one-directory-{i}"), "")));
    Tar::of(&entries)
}

fn converted(name: &'static str, options: Options) -> Image {
    let options = options.format(DiskFormat::Raw).fsync(false).threads(1);
    let disk = MemoryDisk::new();
    tar2vhd::convert(&layer(!name.contains("hcsshim"))[..], &disk, &options).unwrap();
    Image {
        name,
        bytes: disk.into_vec(),
    }
}

fn scratched(name: &'static str, options: &ScratchOptions) -> Image {
    let disk = MemoryDisk::new();
    tar2vhd::scratch::create(&disk, options).unwrap();
    Image {
        name,
        bytes: disk.into_vec(),
    }
}

/// The image of tar2ext4, with the padding of its bitmap that it leaves out.
fn hcsshim() -> Option<Image> {
    let mut image = converted("ours, hcsshim", Options::new().profile(Profile::Hcsshim));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &image.bytes).unwrap();
    // The read-only feature keeps e2fsck from writing.
    run("tune2fs", |c| c.args(["-O", "^read-only"]).arg(file.path()))?;
    run("e2fsck", |c| {
        c.env("E2FSPROGS_FAKE_TIME", "1700000000")
            .arg("-fy")
            .arg(file.path())
    })?;
    image.bytes = fs::read(file.path()).unwrap();
    Some(image)
}

/// Images of our own making.
pub(crate) fn ours() -> Vec<Image> {
    // The descriptors reserved for it take one block.
    let small = || Options::new().max_size(64 << 20);
    let scratch = || {
        let options = ScratchOptions::new().size(16 << 20).fsync(false);
        options.format(DiskFormat::Raw)
    };
    vec![
        converted("ours", small()),
        converted("ours, inline data", small().inline_data(true)),
        converted("ours, aligned", small().align(1 << 20)),
        converted(
            "ours, writable",
            Options::new().writable(Writable::of_size(16 << 20)),
        ),
        converted(
            "ours, writable, inline data",
            Options::new()
                .writable(Writable::of_size(16 << 20))
                .inline_data(true),
        ),
        converted(
            "ours, writable, journal",
            Options::new().writable(Writable::of_size(32 << 20).journal(true)),
        ),
        scratched("scratch", &scratch()),
        scratched("scratch, compat", &scratch().compat(true)),
        scratched("scratch, journal", &scratch().size(32 << 20).journal(true)),
    ]
}

/// The files that mke2fs copies.
fn files(folder: &Path) {
    fs::create_dir_all(folder.join("d/below/deeper")).unwrap();
    for i in 0..120 {
        let name = folder.join(format!("d/a-rather-long-name-for-a-file-{i}"));
        fs::write(name, if i < 3 { "contents" } else { "" }).unwrap();
    }
    #[cfg(unix)]
    for (name, target) in [("short", "/x".to_owned()), ("long", "y".repeat(200))] {
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    // More extents than an inode has room for.
    let mut sparse = vec![0; 640 << 10];
    (0..10).for_each(|i| sparse[i << 16] = 1);
    fs::write(folder.join("sparse"), sparse).unwrap();
    fs::hard_link(folder.join("sparse"), folder.join("hard")).unwrap();
    fs::write(folder.join("inline"), [b'i'; 100]).unwrap();
}

const BASE: &str = "none,filetype,dir_index,ext_attr,sparse_super,large_file,huge_file,dir_nlink,\
    extra_isize";

/// mke2fs' images: a name, KiB, features beside the base, other arguments, extended
/// options first.
#[rustfmt::skip]
const FOREIGN: [(&str, u32, &str, &[&str]); 20] = [
    ("4 KiB", 2048, "extent,flex_bg,metadata_csum", &[]),
    ("4 KiB, no checksums", 2048, "extent,flex_bg", &[]),
    ("4 KiB, 64bit, journal", 8192, "extent,flex_bg,metadata_csum,64bit,metadata_csum_seed,has_journal", &[]),
    ("4 KiB, journal, no checksums", 8192, "extent,flex_bg,has_journal", &[]),
    ("4 KiB, quota, large values", 2048, "extent,flex_bg,metadata_csum,quota,ea_inode", &[]),
    ("4 KiB, quota, project, no checksums", 2048, "extent,flex_bg,quota,project", &["-E", "quotatype=usrquota:grpquota:prjquota"]),
    ("4 KiB, inline data", 2048, "extent,flex_bg,metadata_csum,inline_data", &[]),
    ("4 KiB, large values", 2048, "extent,flex_bg,metadata_csum,ea_inode,large_dir", &[]),
    ("2 KiB", 2048, "extent,flex_bg,metadata_csum,64bit", &["-b", "2048"]),
    ("2 KiB, inline data, no checksums", 2048, "extent,flex_bg,inline_data", &["-b", "2048"]),
    ("1 KiB, resize inode", 4096, "extent,metadata_csum,resize_inode", &["-E", "resize=65536", "-b", "1024", "-g", "1024"]),
    ("1 KiB, resize inode, journal, no checksums", 4096, "extent,flex_bg,resize_inode,has_journal", &["-E", "resize=65536", "-b", "1024", "-g", "2048"]),
    ("1 KiB, meta groups", 4096, "extent,flex_bg,metadata_csum,meta_bg,64bit", &["-b", "1024", "-g", "512"]),
    ("1 KiB, uninit_bg", 4096, "extent,flex_bg,uninit_bg", &["-b", "1024", "-g", "1024"]),
    ("1 KiB, orphan file", 4096, "extent,flex_bg,metadata_csum,has_journal,orphan_file", &["-b", "1024"]),
    ("1 KiB, sparse_super2", 4096, "extent,flex_bg,metadata_csum,sparse_super2", &["-b", "1024", "-g", "1024"]),
    ("ext2, 1 KiB", 2048, "", &["-b", "1024", "-I", "128", "-r", "1"]),
    ("ext2, 4 KiB", 2048, "resize_inode", &["-E", "resize=16777216"]),
    ("ext3, 1 KiB", 4096, "has_journal,resize_inode", &["-E", "resize=65536", "-b", "1024"]),
    ("1 KiB, block numbers, checksums", 4096, "metadata_csum", &["-b", "1024"]),
];

/// Images of mke2fs and debugfs; `None` where the machine has them not.
pub(crate) fn foreign() -> Option<Vec<Image>> {
    let foreign = FOREIGN.iter().map(|(name, kib, features, arguments)| {
        let bytes = mke2fs(name, *kib, features, arguments)?;
        Some(Image { name, bytes })
    });
    foreign.chain([hcsshim()]).collect()
}

fn mke2fs(name: &str, kib: u32, features: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    files(&at("files"));
    let (more, arguments) = match arguments {
        ["-E", more, rest @ ..] => (*more, rest),
        _ => ("lazy_itable_init=0", arguments),
    };
    let extended = format!("hash_seed=12345678-9abc-def0-1122-334455667788,{more}");
    let output = run("mke2fs", |c| {
        c.env("E2FSPROGS_FAKE_TIME", "1700000000")
            .env("MKE2FS_CONFIG", "/dev/null")
            .args(["-q", "-F", "-N", "256", "-I", "256"])
            .args(["-U", "12345678-9abc-def0-1122-334455667788"])
            .args(["-O", &format!("{BASE},{features}")])
            .args(["-E", &extended])
            .arg("-d")
            .arg(at("files"))
            .args(arguments)
            .arg(at("image"))
            .arg(format!("{kib}k"))
    })?;
    assert!(output.status.success(), "{name}: {output:?}");
    fs::write(at("small"), [7; 40]).unwrap();
    fs::write(at("value"), [7; 200]).unwrap();
    fs::write(at("large"), [7; 9000]).unwrap();
    fs::write(at("acl"), acl()).unwrap();
    let mut commands = vec![
        "ea_set -f value /d user.first",
        "ea_set -f value /d user.second",
        "ea_set -f small /sparse user.small",
        "ea_set -f acl /sparse system.posix_acl_access",
        "sif /sparse mode 0100664",
        "mknod null c 1 3",
        "mknod pipe p",
    ];
    if features.contains("ea_inode") {
        commands.push("ea_set -f large /d/below user.large");
    }
    fs::write(at("commands"), commands.join("\n")).unwrap();
    run("debugfs", |c| {
        c.current_dir(folder.path())
            .env("E2FSPROGS_FAKE_TIME", "1700000000")
            .args(["-w", "-f", "commands", "image"])
    })?;
    // Makes hash trees, and counts again what debugfs did not.
    run("e2fsck", |c| {
        c.env("E2FSPROGS_FAKE_TIME", "1700000000")
            .arg("-fyD")
            .arg(at("image"))
    })?;
    Some(fs::read(at("image")).unwrap())
}
