//! What containerd's configuration needs to call this plugin.

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

/// The snippet, for the configuration as it is and the architecture of this host.
pub(crate) fn snippet(release: Release, config: &Config) -> String {
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
    let address = quoted(&config.address);
    let (snapshotter, differ) = (quoted(&config.snapshotter), quoted(&config.differ));
    let mut text = format!("version = {version}\n");
    for (name, kind) in [(&snapshotter, "snapshot"), (&differ, "diff")] {
        text += &format!(
            "\n[proxy_plugins.{name}]\n  type = \"{kind}\"\n  address = {address}\n  \
             platform = \"{platform}\"\n"
        );
    }
    text += &format!(
        "\n[plugins.\"io.containerd.service.v1.diff-service\"]\n  \
         default = [{differ}, \"walking\"]\n\
         \n[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  \
         platform = \"{platform}\"\n  snapshotter = {snapshotter}\n  differ = {differ}\n"
    );
    text
}

/// A basic string of TOML, which those of JSON are.
fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
}
