//! The rules of a snapshotter, by gRPC, as containerd's own tests have them.

use tonic::Code;

use crate::api::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use crate::api::containerd::services::snapshots::v1::{Info, Kind, UpdateSnapshotRequest};
use crate::process::{Labels, Plugin, code};

fn update(plugin: &Plugin, info: Info, paths: &[&str]) -> Result<Info, tonic::Status> {
    let request = UpdateSnapshotRequest {
        info: Some(info),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
        }),
        ..Default::default()
    };
    let mut client = SnapshotsClient::new(plugin.channel());
    let response = plugin.block_on(client.update(request));
    response.map(|response| response.into_inner().info.unwrap())
}

fn map(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn mounts_name_the_directory_and_its_parents_the_nearest_first() {
    let plugin = Plugin::start(&[]);
    let snapshots = plugin.root().join("snapshots");
    let directory = |id: u64| format!("{}/{id}", snapshots.display());
    let check = |mounts: Vec<crate::api::containerd::types::Mount>, mode: &str, ids: &[u64]| {
        let [mount] = &mounts[..] else {
            panic!("{mounts:?}")
        };
        let parents: Vec<_> = ids[1..]
            .iter()
            .map(|id| format!("{:?}", directory(*id)))
            .collect();
        let parents = format!("parentLayerPaths=[{}]", parents.join(","));
        assert_eq!(mount.r#type, "lcow-layer");
        assert_eq!(mount.source, directory(ids[0]));
        assert_eq!(mount.options, [mode, &parents]);
    };
    check(plugin.prepare("extract-1", "").unwrap(), "rw", &[1]);
    check(plugin.mounts("extract-1").unwrap(), "rw", &[1]);
    plugin.commit("one", "extract-1").unwrap();
    check(plugin.prepare("extract-2", "one").unwrap(), "rw", &[2, 1]);
    plugin.commit("two", "extract-2").unwrap();
    check(
        plugin.prepare("container", "two").unwrap(),
        "rw",
        &[3, 2, 1],
    );
    check(plugin.view("view", "two").unwrap(), "ro", &[2, 1]);
    check(plugin.mounts("view").unwrap(), "ro", &[2, 1]);
    check(plugin.view("empty", "").unwrap(), "ro", &[5]);
    assert_eq!(code(plugin.mounts("two")), Code::FailedPrecondition);
    assert_eq!(code(plugin.mounts("absent")), Code::NotFound);
    assert_eq!(plugin.directories(), ["1", "2", "3", "5"]);
    assert_eq!(plugin.files(), ["3/sandbox.vhdx"]);
}

#[test]
fn what_is_there_is_told_and_updated() {
    let mut plugin = Plugin::start(&[]);
    plugin.prepare("extract-c1", "").unwrap();
    plugin.commit("c1", "extract-c1").unwrap();
    plugin.prepare("extract-a1", "c1").unwrap();
    plugin.view("v1", "c1").unwrap();
    for (key, kind, parent) in [
        ("c1", Kind::Committed, ""),
        ("extract-a1", Kind::Active, "c1"),
        ("v1", Kind::View, "c1"),
    ] {
        let made = plugin.stat(key).unwrap();
        assert_eq!((made.kind(), &made.parent[..]), (kind, parent));
        assert_eq!(made.created_at, made.updated_at);

        let all = map(&[("l1", "v1"), ("l2", "v2")]);
        let mut wanted = made.clone();
        wanted.parent = "absent".into();
        wanted.labels.clone_from(&all);
        let updated = update(&plugin, wanted.clone(), &[]).unwrap();
        assert_eq!((updated.kind(), &updated.parent[..]), (kind, parent));
        assert_eq!(updated.labels, all);
        assert_eq!(updated.created_at, made.created_at);
        let times = [made.updated_at, updated.updated_at].map(|time| {
            let time = time.unwrap();
            (time.seconds, time.nanos)
        });
        assert!(times[0] < times[1]);

        wanted.labels = map(&[("l1", "new")]);
        let updated = update(&plugin, wanted.clone(), &["labels.l1"]).unwrap();
        assert_eq!(updated.labels, map(&[("l1", "new"), ("l2", "v2")]));
        let refused = update(&plugin, wanted, &["parent"]);
        assert_eq!(code(refused), Code::InvalidArgument);
    }
    // All of it outlives the process, however that ends.
    let before = plugin.stat("v1").unwrap();
    plugin.restart();
    assert_eq!(plugin.stat("v1").unwrap(), before);
    assert_eq!(plugin.list(&[]).unwrap(), ["c1", "extract-a1", "v1"]);
}

#[test]
fn usage_is_measured_while_active_and_kept_when_committed() {
    let plugin = Plugin::start(&[]);
    plugin.prepare("extract-a", "").unwrap();
    assert_eq!(plugin.usage("extract-a").unwrap().inodes, 1);
    let layer = plugin.root().join("snapshots/1/layer.vhd");
    std::fs::write(&layer, vec![1; 100_000]).unwrap();
    let active = plugin.usage("extract-a").unwrap();
    assert_eq!(active.inodes, 2);
    assert!((100_000..200_000).contains(&active.size), "{active:?}");
    plugin.commit("c", "extract-a").unwrap();
    plugin.view("v", "c").unwrap();
    std::fs::remove_file(layer).unwrap();
    assert_eq!(plugin.usage("c").unwrap(), active);
    let view = plugin.usage("v").unwrap();
    assert_eq!((view.size, view.inodes), (0, 0));
    assert_eq!(code(plugin.usage("absent")), Code::NotFound);
}

#[test]
fn lists_are_filtered_and_come_in_pieces() {
    let plugin = Plugin::start(&[]);
    for i in 0..250 {
        plugin.view(&format!("v{i:03}"), "").unwrap();
    }
    plugin.prepare("extract-p", "").unwrap();
    plugin.commit("p", "extract-p").unwrap();
    assert_eq!(plugin.list(&[]).unwrap().len(), 251);
    assert_eq!(plugin.list(&["kind==view"]).unwrap().len(), 250);
    assert_eq!(
        plugin.list(&["kind==committed", "name==v007"]).unwrap(),
        ["p", "v007"]
    );
    assert_eq!(plugin.list(&["name~=^v00[12]$"]).unwrap(), ["v001", "v002"]);
    assert_eq!(code(plugin.list(&["name="])), Code::InvalidArgument);
}

#[test]
fn removal_deletes_the_directory_and_frees_the_key() {
    let plugin = Plugin::start(&[]);
    plugin.prepare("extract-a", "").unwrap();
    plugin.commit("c", "extract-a").unwrap();
    plugin.prepare("reuse", "c").unwrap();
    assert_eq!(code(plugin.remove("c")), Code::FailedPrecondition);
    plugin.remove("reuse").unwrap();
    plugin.view("reuse", "c").unwrap();
    plugin.remove("reuse").unwrap();
    plugin.prepare("reuse", "").unwrap();
    plugin.remove("c").unwrap();
    plugin.commit("c", "reuse").unwrap();
    assert_eq!(plugin.directories(), ["4"]);
    plugin.remove("c").unwrap();
    assert_eq!(plugin.directories(), [""; 0]);
    assert_eq!(code(plugin.remove("c")), Code::NotFound);
}

#[test]
fn a_committed_snapshot_without_a_layer_may_get_a_parent_at_its_commit() {
    let plugin = Plugin::start(&[]);
    for key in ["extract-p", "extract-a", "extract-b"] {
        plugin.prepare(key, "").unwrap();
    }
    plugin.commit("p", "extract-p").unwrap();
    plugin.commit_onto("a", "extract-a", "p").unwrap();
    assert_eq!(plugin.stat("a").unwrap().parent, "p");
    assert_eq!(code(plugin.remove("p")), Code::FailedPrecondition);
    let absent = plugin.commit_onto("b", "extract-b", "absent");
    assert_eq!(code(absent), Code::NotFound);
    // But one whose layer is the bottom one, without whiteouts, cannot be put on another.
    std::fs::write(plugin.root().join("snapshots/3/layer.vhd"), "").unwrap();
    let bottom = plugin.commit_onto("b", "extract-b", "p");
    assert_eq!(code(bottom), Code::FailedPrecondition);
    plugin.commit("b", "extract-b").unwrap();
}
