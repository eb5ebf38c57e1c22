//! Names of images in registries, in docker's spelling.
//!
//! Source: `reference` of distribution, whose grammar and defaults docker, containerd and skopeo
//! share.

use std::fmt;
use std::str::FromStr;

use crate::summary::Digest;

/// The name of an image in a registry: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`.
///
/// A name without a host is one of `docker.io`, where a name of one part is below `library/`. A
/// name without a tag and a digest has the tag `latest`. It displays with all of these.
///
/// ```
/// use tar2vhd::image::registry::ImageName;
///
/// let name: ImageName = "debian".parse()?;
/// assert_eq!(name.to_string(), "docker.io/library/debian:latest");
/// # Ok::<_, tar2vhd::image::registry::ParseNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// The registry of names without a host, and the host that serves it.
pub(super) const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";
/// The most bytes of host and repository.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

impl ImageName {
    /// The registry, as a name spells it: a host, with its port if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.host
    }

    /// The repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, which a digest makes meaningless.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The host that requests go to.
    pub(super) fn server(&self) -> &str {
        match self.host.as_str() {
            DOCKER => DOCKER_HOST,
            host => host,
        }
    }

    /// Whether the registry runs on this machine, so that no proxy is asked for it.
    pub(super) fn is_loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        let is_address = |address: std::net::IpAddr| address.is_loopback();
        host == "localhost" || host.parse().is_ok_and(is_address)
    }

    /// The tag or digest that a request names.
    pub(super) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|_| ParseNameError::Digest)?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        // The colon of a port has a slash behind it.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if !tag.is_none_or(is_tag) {
            return Err(ParseNameError::Tag);
        }
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host_by_form(first) => (first, rest),
            _ => (DOCKER, name),
        };
        if !is_host(host) {
            return Err(ParseNameError::Host);
        }
        let host = match host {
            "index.docker.io" | DOCKER_HOST => DOCKER,
            host => host,
        };
        let repository = match host == DOCKER && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        if !path.split('/').all(is_part) || host.len() + 1 + repository.len() > NAME_MAX {
            return Err(ParseNameError::Repository);
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Whether the first part of a name is a host and not a part of the repository.
fn is_host_by_form(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.contains(char::is_uppercase)
}

fn is_host(text: &str) -> bool {
    let (host, port) = match (text.strip_prefix('['), text.split_once(':')) {
        (Some(rest), _) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port.strip_prefix(':') {
                None => return port.is_empty(),
                port => ("localhost", port),
            }
        }
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (text, None),
    };
    let is_label = |label: &str| {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        !label.is_empty()
            && label.bytes().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether a part of a repository is letters and digits with separators between them: one period,
/// one or two underscores, or hyphens.
fn is_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |text: &str| {
        matches!(text, "." | "_" | "__") || !text.is_empty() && text.bytes().all(|c| c == b'-')
    };
    let mut rest = part.trim_start_matches(is_word);
    if rest.len() == part.len() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest.find(is_word).unwrap_or(rest.len());
        let (separator, more) = rest.split_at(end);
        if !is_separator(separator) || more.is_empty() {
            return false;
        }
        rest = more.trim_start_matches(is_word);
    }
    true
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|c| is_word(c) || c == b'.' || c == b'-')
}

/// The part of a text that keeps it from being an [`ImageName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseNameError {
    /// The host, or its port.
    Host,
    /// The name of the repository.
    Repository,
    /// The tag.
    Tag,
    /// The digest.
    Digest,
}

impl fmt::Display for ParseNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the part before the first slash is not a host with or without a port",
            Self::Repository => {
                "a repository is named by lower-case letters, digits, single separators and slashes"
            }
            Self::Tag => "a tag is up to 128 letters, digits, underscores, periods and hyphens",
            Self::Digest => "a digest is written sha256: and 64 hexadecimal digits",
        })
    }
}

impl std::error::Error for ParseNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_defaults_of_docker() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:13", "docker.io/library/debian:13"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("registry-1.docker.io/a/b", "docker.io/a/b:latest"),
            ("a/b", "docker.io/a/b:latest"),
            ("ghcr.io/a/b/c:1.0", "ghcr.io/a/b/c:1.0"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("HOST/a", "HOST/a:latest"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("[::1]/a", "[::1]/a:latest"),
            ("a.b__c-d--e_f", "docker.io/library/a.b__c-d--e_f:latest"),
        ] {
            let name = text.parse::<ImageName>().unwrap();
            assert_eq!(name.to_string(), expected, "{text}");
            assert_eq!(expected.parse(), Ok(name), "{text}");
        }
        let name: ImageName = format!("a@{digest}").parse().unwrap();
        assert_eq!(name.to_string(), format!("docker.io/library/a@{digest}"));
        let name: ImageName = format!("h:1/a:b@{digest}").parse().unwrap();
        assert_eq!(name.to_string(), format!("h:1/a:b@{digest}"));
        assert_eq!(name.version(), digest);
    }

    #[test]
    fn other_texts_are_no_names() {
        for (text, error) in [
            ("", ParseNameError::Repository),
            ("a/", ParseNameError::Repository),
            ("/a", ParseNameError::Repository),
            ("a//b", ParseNameError::Repository),
            ("a..b", ParseNameError::Repository),
            ("a___b", ParseNameError::Repository),
            ("a-", ParseNameError::Repository),
            ("-a", ParseNameError::Repository),
            ("Debian", ParseNameError::Repository),
            ("docker.io/A", ParseNameError::Repository),
            ("https://host/a", ParseNameError::Host),
            ("host:/a", ParseNameError::Host),
            ("host:99999/a", ParseNameError::Host),
            ("host..x/a", ParseNameError::Host),
            ("[::1/a", ParseNameError::Host),
            ("[1::1::1]/a", ParseNameError::Host),
            ("user@host/a", ParseNameError::Digest),
            ("a:", ParseNameError::Tag),
            ("a:-b", ParseNameError::Tag),
            ("a:b c", ParseNameError::Tag),
            ("a@sha256:0", ParseNameError::Digest),
        ] {
            assert_eq!(text.parse::<ImageName>(), Err(error), "{text}");
        }
        assert_eq!(
            format!("a/{}", "b".repeat(250)).parse::<ImageName>(),
            Err(ParseNameError::Repository)
        );
    }

    #[test]
    fn no_proxy_is_asked_for_this_machine() {
        for (text, loopback) in [
            ("localhost/a", true),
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("[::2]/a", false),
            ("10.0.0.1/a", false),
            ("localhost.example.com/a", false),
        ] {
            let name = text.parse::<ImageName>().unwrap();
            assert_eq!(name.is_loopback(), loopback, "{text}");
        }
    }
}
