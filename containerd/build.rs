//! Messages and services of containerd's API, generated from its .proto files without protoc.

use std::path::Path;

const PROTOS: [&str; 4] = [
    "services/content/v1/content.proto",
    "services/diff/v1/diff.proto",
    "services/introspection/v1/introspection.proto",
    "services/snapshots/v1/snapshots.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(PROTOS, [root])?;
    tonic_prost_build::configure()
        .include_file("containerd.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
