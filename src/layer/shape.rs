//! Whether an archive is a layer at all, or an archive of images, or a layer for Windows: told by
//! the names in it.

/// Why a layer for Windows is refused.
pub(super) const WINDOWS: &str = "this is a layer for Windows, whose files, security descriptors \
    and registry hives ext4 cannot show: choose the image for linux";

/// Archives that are no Linux layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As `docker save` writes it.
    DockerArchive,
    /// An OCI image layout, or what skopeo's `dir:` has.
    ImageLayout,
    /// Files and Hives, for wcifs.
    WindowsLayer,
}

/// Looks at each name until one fits no shape, which most layers begin with.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// A name was found that no archive of images has.
    no_image: bool,
    /// A name was found that no layer for Windows has.
    no_windows: bool,
    manifest: bool,
    repositories: bool,
    index: bool,
    layout: bool,
    version: bool,
    /// A name that may be that of a layer's blob.
    blob: bool,
    /// Directories at the top that may be layers of `docker save`.
    directories: u64,
    /// Those that hold a layer, as far as all names differ.
    layer_tars: u64,
    files: bool,
    hives: bool,
    utility_vm: bool,
    windows_files: bool,
}

impl Names {
    /// Looks at the name of an entry, as the tar spells it.
    #[inline]
    pub(super) fn see(&mut self, path: &[u8], is_directory: bool) {
        if !(self.no_image && self.no_windows) {
            self.judge(path, is_directory);
        }
    }

    #[cold]
    fn judge(&mut self, path: &[u8], is_directory: bool) {
        let mut parts = path
            .split(|byte| *byte == b'/')
            .filter(|part| !matches!(**part, [] | [b'.']));
        let Some(first) = parts.next() else {
            return;
        };
        let (second, third) = (parts.next(), parts.next());
        if !self.no_windows {
            self.see_windows(first, second);
        }
        if !self.no_image {
            match (second, third) {
                (None, _) => self.see_top(first, is_directory),
                (Some(second), None) => self.see_below(first, second, is_directory),
                _ => self.see_blob(first, is_directory),
            }
        }
    }

    /// The shape that all names together have, if any.
    pub(super) fn shape(&self) -> Option<Shape> {
        if !self.no_windows && self.files && (self.hives || self.utility_vm || self.windows_files) {
            return Some(Shape::WindowsLayer);
        }
        // A directory without a layer is something else.
        if self.no_image || self.directories > self.layer_tars {
            return None;
        }
        if self.manifest && self.version && self.blob || self.layout && self.index && !self.manifest
        {
            return Some(Shape::ImageLayout);
        }
        let docker = self.manifest && self.blob || self.repositories && self.layer_tars > 0;
        docker.then_some(Shape::DockerArchive)
    }

    fn see_windows(&mut self, first: &[u8], second: Option<&[u8]>) {
        match first {
            b"Files" => self.files = true,
            b"Hives" => self.hives = true,
            b"UtilityVM" => self.utility_vm = true,
            _ => self.no_windows = true,
        }
        // A directory that happens to be called Files has none of these.
        if first == b"Files" && matches!(second, Some(b"Windows" | b"ProgramData")) {
            self.windows_files = true;
        }
    }

    fn see_top(&mut self, name: &[u8], is_directory: bool) {
        match name {
            b"blobs" if is_directory => {}
            _ if is_directory => self.directories += 1,
            b"manifest.json" => self.manifest = true,
            b"repositories" => self.repositories = true,
            b"index.json" => self.index = true,
            b"oci-layout" => self.layout = true,
            b"version" => self.version = true,
            _ if is_blob(name) => self.blob = true,
            // Configurations, named by their digests or otherwise.
            _ if name.ends_with(b".json") => {}
            _ => self.no_image = true,
        }
    }

    fn see_below(&mut self, first: &[u8], second: &[u8], is_directory: bool) {
        match second {
            b"layer.tar" if !is_directory => {
                self.blob = true;
                self.layer_tars += 1;
            }
            b"json" | b"VERSION" if !is_directory => {}
            // An algorithm of digests.
            _ if first == b"blobs" && is_directory => {}
            _ if !is_directory && is_blob(second) => self.blob = true,
            _ => self.no_image = true,
        }
    }

    fn see_blob(&mut self, first: &[u8], is_directory: bool) {
        match first == b"blobs" && !is_directory {
            true => self.blob = true,
            false => self.no_image = true,
        }
    }
}

/// Whether a name is that of a layer's blob: a digest, or a tar.
fn is_blob(name: &[u8]) -> bool {
    let hex = name.strip_prefix(b"sha256:").unwrap_or(name);
    let is_digest = hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit);
    let endings: [&[u8]; 5] = [b".tar", b".tar.gz", b".tgz", b".tar.zst", b".tar+gzip"];
    is_digest || endings.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of an archive of these names; those that end in a slash are directories.
    fn shape(names: &[&str]) -> Option<Shape> {
        let mut all = Names::default();
        for name in names {
            all.see(name.as_bytes(), name.ends_with('/'));
        }
        all.shape()
    }

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn archives_of_images() {
        let named = |ending: &str| format!("{HEX}{ending}");
        let docker = Some(Shape::DockerArchive);
        let layout = Some(Shape::ImageLayout);
        let blob = format!("blobs/sha256/{HEX}");
        for (names, expected) in [
            // docker save, until 1.9, from 1.10 and from 25 on.
            (
                vec![
                    "aa/",
                    "aa/VERSION",
                    "aa/json",
                    "aa/layer.tar",
                    "repositories",
                ],
                docker,
            ),
            (
                vec!["aa/", "aa/layer.tar", "manifest.json", "c.json"],
                docker,
            ),
            (
                vec![
                    "blobs/",
                    "blobs/sha256/",
                    &blob,
                    "index.json",
                    "manifest.json",
                    "oci-layout",
                ],
                docker,
            ),
            // skopeo, podman and Bazel.
            (
                vec!["manifest.json", &named(".json"), &named(".tar")],
                docker,
            ),
            (
                vec!["./manifest.json", "./sha256:x.json", "./l.tar.gz"],
                docker,
            ),
            (
                vec![
                    "./",
                    "./oci-layout",
                    "./index.json",
                    "./blobs/",
                    "./blobs/sha256/",
                    &blob,
                ],
                layout,
            ),
            (vec!["oci-layout", "index.json"], layout),
            (vec!["version", "manifest.json", HEX], layout),
        ] {
            assert_eq!(shape(&names), expected, "{names:?}");
            // One more name, and it may be anything.
            for more in ["etc/passwd", "bin", "aa/b/c", "blobs/x", "README", "empty/"] {
                assert_eq!(
                    shape(&[&names[..], &[more]].concat()),
                    None,
                    "{names:?} {more}"
                );
            }
        }
        for names in [
            &[][..],
            &["manifest.json"],
            &["manifest.json", "data.json"],
            &["app.tar"],
            &["index.json", "blobs/", &blob],
            &["aa/", "aa/layer.tar"],
            &["srv/oci/oci-layout", "srv/oci/index.json"],
        ] {
            assert_eq!(shape(names), None, "{names:?}");
        }
    }

    #[test]
    fn layers_for_windows() {
        for names in [
            &["Files/", "Files/a.txt", "Hives/", "Hives/Software_Delta"][..],
            &["./Files/", "./Hives/"],
            &["Files/Windows/System32/ntdll.dll"],
            &["Files/x", "UtilityVM/Files/y"],
        ] {
            assert_eq!(shape(names), Some(Shape::WindowsLayer), "{names:?}");
            assert_eq!(shape(&[names, &["etc/"]].concat()), None, "{names:?}");
        }
        for names in [
            &["Files/", "Files/a.txt"][..],
            &["Hives/"],
            &["Files/x", "Bees/"],
        ] {
            assert_eq!(shape(names), None, "{names:?}");
        }
    }
}
