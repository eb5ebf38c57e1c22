//! Names of images, spelled as skopeo's users spell them.
//!
//! Source: containers-transports(5).

use std::ffi::OsStr;
use std::path::PathBuf;

/// Where an image is, and which one of several is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In a file or a directory.
    Local {
        /// The transport that the name begins with; `None` for a bare path, whose contents tell.
        transport: Option<Transport>,
        /// The file or directory.
        path: PathBuf,
        /// The tag or name behind the path.
        name: Option<String>,
    },
    /// In a registry, by its name there: `HOST[:PORT]/NAME[:TAG|@DIGEST]`.
    Registry(String),
}

/// A form of images in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// A directory with an OCI image layout.
    Oci,
    /// The same in a tar.
    OciArchive,
    /// A tar as `docker save` writes it.
    DockerArchive,
    /// A directory as skopeo writes it.
    Dir,
}

/// The prefix of images in a registry.
const REGISTRY: &str = "docker://";

impl Transport {
    const ALL: [Self; 4] = [Self::Oci, Self::OciArchive, Self::DockerArchive, Self::Dir];

    /// What a name of this transport begins with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Oci => "oci:",
            Self::OciArchive => "oci-archive:",
            Self::DockerArchive => "docker-archive:",
            Self::Dir => "dir:",
        }
    }

    /// Whether a path of this transport may have a tag behind it.
    fn has_name(self) -> bool {
        self != Self::Dir
    }
}

impl Reference {
    /// Reads a reference: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]`,
    /// `dir:DIR`, `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]`, or a path.
    ///
    /// Behind one of these prefixes the path ends at its first colon; the colon of a Windows drive
    /// (`C:\\`, `C:/`) does not count. Any other text is a path as a whole, colons and all: one that
    /// begins like a prefix is written with `./` before it, and one with a colon is named without a
    /// prefix.
    #[must_use]
    pub fn parse(text: &OsStr) -> Self {
        let bare = || Self::Local {
            transport: None,
            path: text.into(),
            name: None,
        };
        // The prefixes are ASCII; a path behind one that is not Unicode has no tag.
        let Some(known) = text.to_str() else {
            return bare();
        };
        if let Some(name) = known.strip_prefix(REGISTRY) {
            return Self::Registry(name.to_owned());
        }
        let found = Transport::ALL
            .iter()
            .find_map(|transport| Some((*transport, known.strip_prefix(transport.prefix())?)));
        let Some((transport, rest)) = found else {
            return bare();
        };
        let drive = match rest.as_bytes() {
            [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic() => 2,
            _ => 0,
        };
        let (path, name) = match rest[drive..].find(':') {
            Some(colon) if transport.has_name() => {
                let (path, name) = rest.split_at(drive + colon);
                (path, Some(&name[1..]).filter(|name| !name.is_empty()))
            }
            _ => (rest, None),
        };
        Self::Local {
            transport: Some(transport),
            path: path.into(),
            name: name.map(str::to_owned),
        }
    }

    /// The tag or name behind a path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Local { name, .. } => name.as_deref(),
            Self::Registry(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(transport: Option<Transport>, path: &str, name: Option<&str>) -> Reference {
        Reference::Local {
            transport,
            path: path.into(),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn references_are_read_as_skopeo_reads_them() {
        for (text, expected) in [
            ("oci:dir", local(Some(Transport::Oci), "dir", None)),
            ("oci:dir:", local(Some(Transport::Oci), "dir", None)),
            ("oci:a/b:v1", local(Some(Transport::Oci), "a/b", Some("v1"))),
            (
                "docker-archive:a.tar:host:5000/name:tag",
                local(
                    Some(Transport::DockerArchive),
                    "a.tar",
                    Some("host:5000/name:tag"),
                ),
            ),
            (
                r"oci-archive:C:\images\a.tar:v1",
                local(Some(Transport::OciArchive), r"C:\images\a.tar", Some("v1")),
            ),
            ("oci:c:/a", local(Some(Transport::Oci), "c:/a", None)),
            ("oci:c:a", local(Some(Transport::Oci), "c", Some("a"))),
            ("dir:a:b", local(Some(Transport::Dir), "a:b", None)),
            (r"C:\a.tar", local(None, r"C:\a.tar", None)),
            ("a:b.tar", local(None, "a:b.tar", None)),
            ("./oci:a", local(None, "./oci:a", None)),
            (
                "docker://host:5000/a/b:v1",
                Reference::Registry("host:5000/a/b:v1".into()),
            ),
        ] {
            assert_eq!(Reference::parse(OsStr::new(text)), expected, "{text}");
        }
    }
}
