//! Platforms of images.

use std::env::consts;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// An operating system and a processor, as OCI names them; all empty where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Empty for any.
    variant: String,
}

impl Platform {
    pub(super) fn linux_amd64() -> Self {
        Self {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        }
    }

    /// Linux on this machine's processor, whatever it runs itself: the disks are for guests.
    pub(super) fn host() -> Self {
        // The names of Go, which OCI takes.
        let architecture = match consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            architecture => architecture,
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: String::new(),
        }
    }

    /// Whether anything is said.
    pub(super) fn is_known(&self) -> bool {
        !self.os.is_empty()
    }

    /// Whether it is BuildKit's, of what is for no platform.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown"
    }

    pub(super) fn is_windows(&self) -> bool {
        self.os.eq_ignore_ascii_case("windows")
    }

    /// That of a descriptor or a configuration, if it has one.
    pub(super) fn of_json(object: &Value) -> Option<Self> {
        let text = |name: &str| object[name].as_str().map(str::to_owned);
        Some(Self {
            os: text("os")?,
            architecture: text("architecture")?,
            variant: text("variant").unwrap_or_default(),
        })
    }

    /// Whether an image for `other` is one for this.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_empty() || self.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() {
            return f.write_str("no platform");
        }
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<_> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => (os, architecture, variant),
            _ => return Err(ParsePlatformError),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(ParsePlatformError);
        }
        Ok(Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.into(),
        })
    }
}

/// A text that is not a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePlatformError;

impl fmt::Display for ParsePlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a platform is written OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT")
    }
}

impl std::error::Error for ParsePlatformError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_parsed_as_they_are_shown() {
        for text in ["linux/amd64", "linux/arm64/v8"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/", "a/b/c/d"] {
            text.parse::<Platform>().unwrap_err();
        }
    }

    #[test]
    fn a_variant_that_is_not_named_is_any() {
        let [any, v7] = ["linux/arm", "linux/arm/v7"].map(|text| text.parse::<Platform>().unwrap());
        assert!(any.covers(&v7) && v7.covers(&v7) && !v7.covers(&any));
    }
}
