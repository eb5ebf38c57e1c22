//! Media types, and the compressions they promise.

use std::fmt;

use crate::summary::Compression;

/// Media types of layers, and the compression that each promises. Docker has used two of them for
/// compressed layers, too: they promise nothing.
const LAYERS: [(&str, Option<Compression>); 12] = [
    (
        "application/vnd.oci.image.layer.v1.tar",
        Some(Compression::None),
    ),
    (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        Some(Compression::Gzip),
    ),
    (
        "application/vnd.oci.image.layer.v1.tar+zstd",
        Some(Compression::Zstd),
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        Some(Compression::None),
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        Some(Compression::Gzip),
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        Some(Compression::Zstd),
    ),
    ("application/vnd.docker.image.rootfs.diff.tar", None),
    (
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        Some(Compression::Gzip),
    ),
    (
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        Some(Compression::Zstd),
    ),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", None),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        Some(Compression::Gzip),
    ),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
        Some(Compression::Zstd),
    ),
];

/// A media type that is not that of an OCI or Docker layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaTypeError;

impl fmt::Display for MediaTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not the media type of an OCI or Docker layer")
    }
}

impl std::error::Error for MediaTypeError {}

/// The compression that the media type of a layer promises; `None` if it promises nothing.
///
/// # Errors
/// If it is not the media type of an OCI or Docker layer.
pub fn layer_compression(media_type: &str) -> Result<Option<Compression>, MediaTypeError> {
    let known = LAYERS.iter().find(|(known, _)| *known == media_type);
    known
        .map(|(_, compression)| *compression)
        .ok_or(MediaTypeError)
}

/// Whether a configuration of this media type is one of something else than an image, such as a
/// chart or a signature. Old and careless writers leave it out.
pub(super) fn is_artifact(configuration: &str) -> bool {
    const IMAGES: [&str; 2] = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    configuration.starts_with("application/vnd.") && !IMAGES.contains(&configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_promise_compressions() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let promised = layer_compression(compression.media_type());
            assert_eq!(promised, Ok(Some(compression)));
        }
        for (text, compression) in [
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                Some(Compression::Gzip),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Some(Compression::Gzip),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                Some(Compression::Zstd),
            ),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar", None),
        ] {
            assert_eq!(layer_compression(text), Ok(compression), "{text}");
        }
        for text in [
            "",
            "gzip",
            "application/vnd.oci.image.layer.v1.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.manifest.v1+json",
        ] {
            layer_compression(text).unwrap_err();
        }
    }
}
