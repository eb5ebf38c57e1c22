//! Layers converted by the plugin alone, read from the directory of a content store.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tonic::Code;

use crate::api::containerd::types::{Descriptor, Mount};
use crate::image::{self, GZIP, Layer, PLAIN, ZSTD, compress, digest, noise};
use crate::process::{Plugin, code};
use crate::tree::{self, run};

fn layer(plugin: &Plugin, id: u64) -> PathBuf {
    plugin.root().join(format!("snapshots/{id}/layer.vhd"))
}

fn small() -> Vec<u8> {
    Layer::new().file("file", "data").tar()
}

#[track_caller]
fn fsck(disk: &std::path::Path) {
    let Some(output) = run(Command::new("e2fsck").arg("-fn").arg(disk)) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
fn every_media_type_gives_the_descriptor_of_the_uncompressed_layer() {
    let plugin = Plugin::with_content(&[]);
    let tar = small();
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    let docker_gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    for (i, (media_type, kind)) in [
        (PLAIN, PLAIN),
        (GZIP, GZIP),
        (ZSTD, ZSTD),
        (docker, PLAIN),
        (docker_gzip, GZIP),
        // Docker's types are taken for what the bytes are.
        (docker, GZIP),
        (docker_gzip, ZSTD),
    ]
    .into_iter()
    .enumerate()
    {
        let mounts = plugin.prepare(&format!("extract-{i}"), "").unwrap();
        let blob = plugin.blob(media_type, &compress(kind, &tar));
        let applied = plugin.apply(&blob, &mounts).unwrap();
        let wanted = Descriptor {
            media_type: PLAIN.into(),
            digest: digest(&tar),
            size: tar.len() as i64,
            annotations: Default::default(),
        };
        assert_eq!(applied, wanted);
        fsck(&layer(&plugin, i as u64 + 1));
    }
}

#[test]
fn what_contradicts_its_description_leaves_nothing() {
    let plugin = Plugin::with_content(&[]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let good = plugin.blob(GZIP, &compress(GZIP, &small()));
    let mut cases = Vec::new();
    let mut case = |code, change: &dyn Fn(&mut Descriptor)| {
        let mut descriptor = good.clone();
        change(&mut descriptor);
        cases.push((code, descriptor));
    };
    case(Code::InvalidArgument, &|d| {
        d.media_type = "text/plain".into()
    });
    case(Code::FailedPrecondition, &|d| d.media_type = PLAIN.into());
    case(Code::FailedPrecondition, &|d| d.media_type = ZSTD.into());
    case(Code::FailedPrecondition, &|d| d.size += 1);
    case(Code::InvalidArgument, &|d| d.size = -1);
    case(Code::InvalidArgument, &|d| {
        d.digest = "sha256:../../../etc/passwd".into()
    });
    case(Code::InvalidArgument, &|d| {
        d.digest = d.digest.to_uppercase()
    });
    case(Code::NotFound, &|d| {
        d.digest = format!("sha512:{}", "0".repeat(128))
    });
    case(Code::InvalidArgument, &|d| {
        d.digest = format!("sha512:{}", "0".repeat(64))
    });
    case(Code::NotFound, &|d| d.digest = digest(b"absent"));
    // Other bytes under the name of these.
    let named = plugin.blob(GZIP, b"to be replaced");
    let name = named.digest.trim_start_matches("sha256:");
    let other = plugin.blob(GZIP, &compress(GZIP, &small()));
    plugin.replace_blob(name, &other.digest);
    let size = other.size;
    cases.push((Code::FailedPrecondition, Descriptor { size, ..named }));
    let cut = compress(GZIP, &small());
    cases.push((
        Code::InvalidArgument,
        plugin.blob(GZIP, &cut[..cut.len() - 5]),
    ));
    cases.push((Code::InvalidArgument, plugin.blob(PLAIN, &[7; 4096])));
    let bad = Layer::new().file(&format!("{}/x", ".wh.a"), "").tar();
    cases.push((Code::InvalidArgument, plugin.blob(PLAIN, &bad)));
    for (wanted, descriptor) in cases {
        let refused = plugin.apply(&descriptor, &mounts);
        assert_eq!(code(refused), wanted, "{descriptor:?}");
        assert_eq!(plugin.files(), [""; 0], "{descriptor:?}");
    }
    // And the server lives.
    plugin.apply(&good, &mounts).unwrap();
    assert_eq!(plugin.files(), ["1/layer.vhd"]);
}

#[test]
fn media_types_and_digests_are_those_of_containerds_own_differs() {
    use sha2::Digest as _;
    let plugin = Plugin::with_content(&[]);
    let tar = small();
    for (i, media_type) in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ]
    .into_iter()
    .enumerate()
    {
        let mounts = plugin.prepare(&format!("extract-{i}"), "").unwrap();
        let bytes = compress(GZIP, &tar);
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let sums = [
            ("sha256", hex(&sha2::Sha256::digest(&bytes))),
            ("sha384", hex(&sha2::Sha384::digest(&bytes))),
            ("sha512", hex(&sha2::Sha512::digest(&bytes))),
        ];
        for (algorithm, sum) in sums {
            let mut blob = plugin.blob(media_type, &bytes);
            let blobs = std::path::Path::new(&plugin.arguments()[1]).join("blobs");
            fs::create_dir_all(blobs.join(algorithm)).unwrap();
            let at = blobs.join(algorithm).join(&sum);
            fs::write(&at, &bytes).unwrap();
            blob.digest = format!("{algorithm}:{sum}");
            let applied = plugin.apply(&blob, &mounts).unwrap();
            assert_eq!(applied.digest, digest(&tar), "{media_type} {algorithm}");
            let disk = layer(&plugin, i as u64 + 1);
            fs::remove_file(&disk).unwrap();
            // What follows the size is not looked at.
            fs::write(&at, [&bytes[..], b"more"].concat()).unwrap();
            plugin.apply(&blob, &mounts).unwrap();
            fs::remove_file(&disk).unwrap();
            // Other bytes that convert as well.
            let other = compress(GZIP, &Layer::new().file("file", "dat_").tar());
            fs::write(&at, &other).unwrap();
            blob.size = other.len() as i64;
            let refused = plugin.apply(&blob, &mounts);
            assert!(
                matches!(code(refused), Code::FailedPrecondition | Code::Internal),
                "{media_type} {algorithm}"
            );
            assert!(!disk.exists());
        }
    }
}

#[test]
fn only_the_mount_of_an_active_snapshot_is_written_to() {
    let plugin = Plugin::with_content(&[]);
    let blob = plugin.blob(PLAIN, &small());
    let bottom = plugin.prepare("extract-1", "").unwrap();
    plugin.apply(&blob, &bottom).unwrap();
    plugin.commit("c", "extract-1").unwrap();
    let good = plugin.prepare("extract-2", "c").unwrap();
    let with = |change: &dyn Fn(&mut Mount)| {
        let mut mount = good[0].clone();
        change(&mut mount);
        vec![mount]
    };
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().to_str().unwrap();
    let snapshots = plugin.root().join("snapshots");
    let snapshots = snapshots.to_str().unwrap();
    for (wanted, mounts) in [
        (Code::Unimplemented, with(&|m| m.r#type = "bind".into())),
        (Code::InvalidArgument, vec![]),
        (Code::InvalidArgument, [&good[..], &good[..]].concat()),
        (Code::InvalidArgument, with(&|m| m.source = outside.into())),
        (Code::InvalidArgument, with(&|m| m.source += "/../2")),
        (Code::InvalidArgument, with(&|m| m.source += "/")),
        (Code::InvalidArgument, with(&|m| m.source = String::new())),
        (
            Code::NotFound,
            with(&|m| m.source = format!("{snapshots}/77")),
        ),
        // The parent, which is committed.
        (Code::FailedPrecondition, bottom.clone()),
        (Code::InvalidArgument, with(&|m| m.options.clear())),
        (
            Code::InvalidArgument,
            with(&|m| m.options[1] = "parentLayerPaths=[]".into()),
        ),
        (
            Code::InvalidArgument,
            with(&|m| m.options[1] = "parentLayerPaths=[\"/etc\"]".into()),
        ),
    ] {
        assert_eq!(code(plugin.apply(&blob, &mounts)), wanted, "{mounts:?}");
    }
    let view = plugin.view("v", "").unwrap();
    assert_eq!(code(plugin.apply(&blob, &view)), Code::FailedPrecondition);
    assert_eq!(plugin.files(), ["1/layer.vhd"]);
    plugin.apply(&blob, &good).unwrap();
    // Once more does no harm.
    plugin.apply(&blob, &good).unwrap();
}

#[test]
fn no_link_below_the_root_is_followed() {
    let plugin = Plugin::with_content(&[]);
    let blob = plugin.blob(PLAIN, &small());
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), layer(&plugin, 1)).unwrap();
    let refused = plugin.apply(&blob, &mounts);
    assert_eq!(code(refused), Code::FailedPrecondition);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"");

    let directory = plugin.root().join("snapshots/1");
    fs::remove_dir_all(&directory).unwrap();
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(other.path(), &directory).unwrap();
    let refused = plugin.apply(&blob, &mounts);
    assert_eq!(code(refused), Code::FailedPrecondition);
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
}

#[test]
fn a_parent_without_a_layer_is_an_error() {
    let plugin = Plugin::with_content(&[]);
    plugin.prepare("extract-1", "").unwrap();
    plugin.commit("c", "extract-1").unwrap();
    let mounts = plugin.prepare("extract-2", "c").unwrap();
    let blob = plugin.blob(PLAIN, &small());
    let refused = plugin.apply(&blob, &mounts);
    assert_eq!(code(refused), Code::FailedPrecondition);
}

#[test]
fn an_empty_blob_is_an_empty_layer() {
    let plugin = Plugin::with_content(&[]);
    let mounts = plugin.prepare("extract-1", "").unwrap();
    let blob = plugin.blob(PLAIN, b"");
    let applied = plugin.apply(&blob, &mounts).unwrap();
    assert_eq!((applied.digest, applied.size), (digest(b""), 0));
    fsck(&layer(&plugin, 1));
}

#[test]
fn layers_stacked_on_a_scratch_disk_are_what_gnu_tar_unpacks() {
    let plugin = Plugin::with_content(&[]);
    let layers = image::layers();
    let mut parent = String::new();
    for (i, (media_type, tar)) in layers.iter().enumerate() {
        let key = format!("extract-{i}");
        let mounts = plugin.prepare(&key, &parent).unwrap();
        let blob = plugin.blob(media_type, &compress(media_type, tar));
        assert_eq!(plugin.apply(&blob, &mounts).unwrap().digest, digest(tar));
        parent = format!("layer-{i}");
        plugin.commit(&parent, &key).unwrap();
    }
    let mounts = plugin.prepare("container", &parent).unwrap();
    check_stack(&mounts[0], &layers);
}

/// The differ gives the parents as the layers below, which hard links may lead into.
#[test]
fn a_hard_link_into_a_parent_layer_copies_what_stands_there() {
    let plugin = Plugin::with_content(&[]);
    let data = noise(100_000, 5);
    let bottom = Layer::new()
        .dir("private", 0o700)
        .xattr("user.of-a-file", b"value")
        .file("private/file", &data)
        .hard_link("private/same", "private/file")
        .symlink("link", "private");
    let middle = Layer::new().file("other", "other");
    let top = Layer::new()
        .hard_link("new/a", "private/file")
        .hard_link("new/b", "link/same")
        .hard_link("new/c", "other");
    let layers = [bottom, middle, top].map(|layer| (PLAIN, layer.tar()));
    let mut parent = String::new();
    for (i, (media_type, tar)) in layers.iter().enumerate() {
        let key = format!("extract-{i}");
        let mounts = plugin.prepare(&key, &parent).unwrap();
        let blob = plugin.blob(media_type, tar);
        assert_eq!(plugin.apply(&blob, &mounts).unwrap().digest, digest(tar));
        parent = format!("layer-{i}");
        plugin.commit(&parent, &key).unwrap();
    }
    check_copies(&plugin, &layers, &data);
    // Without its parents the layer is refused.
    let alone = plugin.prepare("alone", "").unwrap();
    let blob = plugin.blob(PLAIN, &layers[2].1);
    assert_eq!(code(plugin.apply(&blob, &alone)), Code::InvalidArgument);
}

/// Mounts the layers one over the other, and holds them against what GNU tar unpacks.
fn check_copies(plugin: &Plugin, layers: &[(&str, Vec<u8>)], data: &[u8]) -> Option<()> {
    use std::os::unix::fs::MetadataExt;

    let mut disks = Vec::new();
    for id in (1..=layers.len() as u64).rev() {
        let disk = layer(plugin, id);
        fsck(&disk);
        let options = ["-t", "ext4", "-o", "loop,ro,noload"];
        disks.push(tree::Mount::new(&options, &disk)?);
    }
    let top = disks[0].path();
    assert_eq!(fs::read(top.join("private/file")).unwrap(), data);
    let inode = |name: &str| fs::metadata(top.join(name)).unwrap().ino();
    for name in ["private/same", "new/a", "new/b"] {
        assert_eq!(inode(name), inode("private/file"), "{name}");
    }
    assert_eq!(inode("new/c"), inode("other"));
    let lower: Vec<_> = disks.iter().map(|m| m.path().to_string_lossy()).collect();
    let options = format!("ro,lowerdir={}", lower.join(":"));
    let stack = tree::Mount::new(&["-t", "overlay", "-o", &options], "overlay".as_ref())?;
    let unpacked = tempfile::tempdir().unwrap();
    tree::unpack(layers, unpacked.path())?;
    let (mut shown, mut wanted) = (tree::tree(stack.path()), tree::tree(unpacked.path()));
    // Nothing describes the root, nor the new directory.
    for path in ["", "new"] {
        shown.remove(path);
        wanted.remove(path);
    }
    assert_eq!(shown, wanted);
    Some(())
}

/// Mounts what a guest would, compares it with the layers, and uses it.
pub(crate) fn check_stack(mount: &Mount, layers: &[(&str, Vec<u8>)]) -> Option<()> {
    let parents = mount.options[1].strip_prefix("parentLayerPaths=").unwrap();
    let parents: Vec<PathBuf> = serde_json::from_str(parents).unwrap();
    assert_eq!(parents.len(), layers.len());
    let mut lower = Vec::new();
    for parent in &parents {
        let disk = parent.join("layer.vhd");
        fsck(&disk);
        lower.push(tree::Mount::new(
            &["-t", "ext4", "-o", "loop,ro,noload"],
            &disk,
        )?);
    }
    let raw = tempfile::NamedTempFile::new().unwrap();
    let sandbox = PathBuf::from(&mount.source).join("sandbox.vhdx");
    tree::succeed(
        Command::new("qemu-img")
            .args(["convert", "-f", "vhdx", "-O", "raw"])
            .arg(&sandbox)
            .arg(raw.path()),
    )?;
    {
        let scratch = tree::Mount::new(&["-t", "ext4", "-o", "loop"], raw.path())?;
        let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let lower: Vec<_> = lower.iter().map(|m| m.path().to_string_lossy()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            upper.display(),
            work.display()
        );
        let stack = tree::Mount::new(&["-t", "overlay", "-o", &options], "overlay".as_ref())?;

        let unpacked = tempfile::tempdir().unwrap();
        tree::unpack(layers, unpacked.path())?;
        let (mut shown, mut wanted) = (tree::tree(stack.path()), tree::tree(unpacked.path()));
        // Nothing describes the root.
        shown.remove("");
        wanted.remove("");
        let differ: Vec<_> = shown
            .keys()
            .chain(wanted.keys())
            .filter(|path| shown.get(*path) != wanted.get(*path))
            .map(|path| (path, shown.get(path), wanted.get(path)))
            .collect();
        assert!(differ.is_empty(), "path, shown, wanted: {differ:#?}");

        // A container's everyday work.
        let at = |path: &str| stack.path().join(path);
        fs::write(at("etc/group"), "changed").unwrap();
        fs::remove_file(at("bin/ash")).unwrap();
        fs::remove_dir_all(at("usr")).unwrap();
        fs::create_dir(at("usr")).unwrap();
        fs::write(at("tmp/big"), noise(5 << 20, 3)).unwrap();
        assert_eq!(fs::read(at("etc/group")).unwrap(), b"changed");
        assert!(!at("bin/ash").exists() && fs::read_dir(at("usr")).unwrap().next().is_none());
    }
    fsck(raw.path());
    Some(())
}
