//! `convert --lower`: what the layers below say.

use std::process::Output;

use crate::common::{Layer, Place, assert_fails, code, tar2vhd};

fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut command = tar2vhd();
    command.current_dir(place.0.path()).args(arguments);
    command.output().unwrap()
}

fn hard_link(path: &str, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    header.set_mode(0o640);
    header.set_path(path).unwrap();
    header.set_link_name(target).unwrap();
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, &[][..]).unwrap();
    tar.into_inner().unwrap()
}

fn base() -> Vec<u8> {
    Layer::new()
        .add(tar::EntryType::Directory, "d/", b"")
        .add(tar::EntryType::Regular, "d/file", &[7; 10_000])
        .finish()
}

#[test]
fn a_hard_link_into_a_layer_below_needs_its_disk() {
    let place = Place::new();
    place.write("base", base());
    place.write("top", hard_link("link", "d/file"));
    assert_fails(
        &run(&place, &["convert", "top", "-o", "top.vhd"]),
        1,
        "--lower",
    );
    let mut disks = Vec::new();
    for format in ["raw", "vhd", "vhd-dynamic", "vhdx", "vhdx-fixed"] {
        let disk = format!("base.{format}");
        let base = ["convert", "base", "-o", &disk, "--format", format];
        assert_eq!(code(&run(&place, &base)), 0);
        let top = [
            "convert", "top", "-o", "top.img", "--format", "raw", "--lower", &disk,
        ];
        let output = run(&place, &top);
        assert_eq!(code(&output), 0, "{output:?}");
        disks.push(std::fs::read(place.path("top.img")).unwrap());
    }
    assert!(disks.windows(2).all(|two| two[0] == two[1]));
    assert_eq!(code(&run(&place, &["verify", "top.img"])), 0);
    // A disk of a layer below is read, so it is not replaced.
    let onto = ["convert", "top", "-o", "base.vhd", "--lower", "base.vhd"];
    assert_fails(&run(&place, &onto), 2, "itself, which would be lost");
}

#[test]
fn layers_below_are_refused_where_they_mean_nothing() {
    let place = Place::new();
    place.write("base", base());
    assert_eq!(
        code(&run(&place, &["convert", "base", "-o", "base.vhd"])),
        0
    );
    let convert = ["convert", "base", "-o", "x", "--lower", "base.vhd"];
    for more in [&["--bottom-layer"][..], &["--profile", "hcsshim"]] {
        assert_fails(&run(&place, &[&convert[..], more].concat()), 2, "--lower");
    }
    let missing = ["convert", "base", "-o", "x", "--lower", "nowhere"];
    assert_fails(&run(&place, &missing), 1, "nowhere");
    let foreign = ["convert", "base", "-o", "x", "--lower", "base"];
    assert_fails(&run(&place, &foreign), 1, "base");
}
