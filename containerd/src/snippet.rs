//! The part of containerd's configuration that calls this plugin: a file of its own, for `imports`.

use crate::config::Config;

/// A generation of containerd's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Release {
    /// containerd 1.7.4 and later.
    #[value(name = "1.7")]
    V1,
    /// containerd 2.0 and later.
    #[value(name = "2")]
    V2,
}

/// The snapshotter that containerd has by default on this system.
pub(crate) const HOST_SNAPSHOTTER: &str = if cfg!(windows) {
    "windows"
} else {
    "overlayfs"
};
/// The differs that it has.
const HOST_DIFFERS: &[&str] = match cfg!(windows) {
    true => &["windows", "windows-lcow"],
    false => &["walking"],
};

/// The snippet, for the configuration as it is and the architecture of this host.
///
/// A list in an import replaces containerd's own: so the pair that the host has for its own images
/// stands in front of ours, or those would not be unpacked any more.
pub(crate) fn snippet(release: Release, host: &str, config: &Config) -> String {
    let version = match release {
        Release::V1 => 2,
        Release::V2 => 3,
    };
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    };
    let platform = format!("linux/{architecture}");
    let host_platform = match cfg!(windows) {
        true => format!("windows/{architecture}"),
        false => platform.clone(),
    };
    let root = std::path::absolute(&config.root).unwrap_or_else(|_| config.root.clone());
    let (address, root) = (quoted(&config.address), quoted(&root.to_string_lossy()));
    let (snapshotter, differ) = (quoted(&config.snapshotter), quoted(&config.differ));
    let mut text = format!(
        "# For a file that containerd's configuration imports, such as\n\
         # /etc/containerd/conf.d/{}.toml.\n",
        config.snapshotter
    );
    if release == Release::V1 {
        text += "# containerd 1.7 lets the sections below replace those of the same name in other files:\n\
                 # what is set there (config_path, say) has to be said here again.\n";
    }
    text += &format!("version = {version}\n");
    for (name, kind) in [(&snapshotter, "snapshot"), (&differ, "diff")] {
        text += &format!(
            "\n[proxy_plugins.{name}]\n  type = \"{kind}\"\n  address = {address}\n  \
             platform = \"{platform}\"\n"
        );
    }
    // CRI measures the file system that this is on.
    text += &format!("\n[proxy_plugins.{snapshotter}.exports]\n  root = {root}\n");
    let differs: Vec<_> = HOST_DIFFERS.iter().map(|name| quoted(name)).collect();
    text += &format!(
        "\n[plugins.\"io.containerd.service.v1.diff-service\"]\n  default = [{differ}, {}]\n",
        differs.join(", ")
    );
    let host_pair = (host_platform, quoted(host), quoted(HOST_DIFFERS[0]));
    for (platform, snapshotter, differ) in [host_pair, (platform, snapshotter, differ)] {
        text += &format!(
            "\n[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  \
             platform = \"{platform}\"\n  snapshotter = {snapshotter}\n  differ = {differ}\n"
        );
    }
    text
}

/// A basic string of TOML, which those of JSON are.
fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
}
