//! Digests of layers as descriptors have them.

use std::fmt;
use std::str::FromStr;

use sha2::digest::DynDigest;
use sha2::{Sha384, Sha512};
use tar2vhd::Digest;

/// A digest that names a blob: SHA-256, which the library checks, or another that containerd's
/// content store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlobDigest {
    Sha256(Digest),
    Other { algorithm: Algorithm, hex: String },
}

/// Algorithms that are not checked by the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha384,
    Sha512,
}

impl Algorithm {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Hexadecimal digits of a digest.
    fn digits(self) -> usize {
        match self {
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }
}

impl BlobDigest {
    /// The name of the algorithm, and the digits: how a content store names its files.
    pub(crate) fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Sha256(digest) => {
                let text = digest.to_string();
                ("sha256", text.trim_start_matches("sha256:").to_owned())
            }
            Self::Other { algorithm, hex } => (algorithm.as_str(), hex.clone()),
        }
    }

    /// The digest to compute of the bytes, if the library does not compute it.
    pub(crate) fn check(&self) -> Option<Check> {
        match self {
            Self::Sha256(_) => None,
            Self::Other { algorithm, .. } => Some(Check {
                hasher: match algorithm {
                    Algorithm::Sha384 => Box::new(Sha384::default()),
                    Algorithm::Sha512 => Box::new(Sha512::default()),
                },
                wanted: self.clone(),
            }),
        }
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, hex) = self.parts();
        write!(f, "{algorithm}:{hex}")
    }
}

impl FromStr for BlobDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, hex) = text.split_once(':').unwrap_or((text, ""));
        let algorithm = match name {
            "sha384" => Algorithm::Sha384,
            "sha512" => Algorithm::Sha512,
            _ => {
                let digest = text.parse::<Digest>();
                return digest.map(Self::Sha256).map_err(|e| e.to_string());
            }
        };
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match hex.len() == algorithm.digits() && hex.bytes().all(is_hex) {
            true => Ok(Self::Other {
                algorithm,
                hex: hex.to_owned(),
            }),
            false => Err(format!(
                "{name} has {} lower-case hexadecimal digits",
                algorithm.digits()
            )),
        }
    }
}

/// A digest that is computed while a blob is read.
pub(crate) struct Check {
    hasher: Box<dyn DynDigest + Send>,
    wanted: BlobDigest,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.wanted).finish()
    }
}

impl Check {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of what was read, where it is not the one that is wanted.
    pub(crate) fn finish(self) -> Result<(), String> {
        let hex: String = self
            .hasher
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let (algorithm, wanted) = self.wanted.parts();
        match hex == wanted {
            true => Ok(()),
            false => Err(format!(
                "the layer has the digest {algorithm}:{hex}, expected {algorithm}:{wanted}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_have_one_spelling() {
        for (name, digits) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
            let text = format!("{name}:{}", "0a".repeat(digits / 2));
            let digest: BlobDigest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            for wrong in [
                text.to_uppercase(),
                format!("{text}0"),
                text[..text.len() - 1].to_owned(),
                text.replace("0a", "0A"),
                text.replacen("0a", "..", 1),
                name.to_owned(),
                format!("{name}:"),
            ] {
                assert!(wrong.parse::<BlobDigest>().is_err(), "{wrong}");
            }
        }
        assert!("md5:00".parse::<BlobDigest>().is_err());
    }

    #[test]
    fn other_bytes_have_another_digest() {
        // Of no bytes at all.
        let empty = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                     47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let digest: BlobDigest = empty.parse().unwrap();
        digest.check().unwrap().finish().unwrap();
        let mut check = digest.check().unwrap();
        check.update(b"x");
        assert!(check.finish().unwrap_err().contains("expected sha512:cf83"));
        let sha256 = format!("sha256:{}", "0".repeat(64));
        assert!(sha256.parse::<BlobDigest>().unwrap().check().is_none());
    }
}
