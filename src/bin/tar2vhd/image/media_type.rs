//! Media types, and the compressions they promise.

use tar2vhd::Compression;

/// The compression that a layer's media type promises; none if it promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub Option<Compression>);

pub(crate) fn media_type(text: &str) -> Result<MediaType, String> {
    const OCI: [&str; 2] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ];
    const DOCKER: [&str; 2] = [
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let after = |bases: [&str; 2]| bases.iter().find_map(|base| text.strip_prefix(base));
    let compression = match (after(OCI), after(DOCKER)) {
        (Some(""), _) => Some(Compression::None),
        (Some("+gzip"), _) | (_, Some(".gzip")) => Some(Compression::Gzip),
        (Some("+zstd"), _) | (_, Some(".zstd")) => Some(Compression::Zstd),
        // Docker has used this one for compressed layers, too.
        (_, Some("")) => None,
        _ => return Err("this is not the media type of an OCI or Docker layer".into()),
    };
    Ok(MediaType(compression))
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
            let promised = media_type(compression.media_type());
            assert_eq!(promised, Ok(MediaType(Some(compression))));
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
            assert_eq!(media_type(text), Ok(MediaType(compression)), "{text}");
        }
        for text in [
            "",
            "gzip",
            "application/vnd.oci.image.layer.v1.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+xz",
            "application/vnd.oci.image.manifest.v1+json",
        ] {
            media_type(text).unwrap_err();
        }
    }
}
