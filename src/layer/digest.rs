use sha2::{Digest as _, Sha256};

use crate::summary::{Blob, Digest};

/// Digests and counts a stream of bytes.
#[derive(Default)]
pub(crate) struct BlobHasher {
    sha256: Sha256,
    size: u64,
}

impl BlobHasher {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> Blob {
        Blob {
            digest: Digest(self.sha256.finalize().into()),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second example of FIPS 180-2, appendix B.
    #[test]
    fn digests_in_pieces() {
        let mut hasher = BlobHasher::new();
        hasher.update(b"abcdbcdecdefdefgefghfghighij");
        hasher.update(b"");
        hasher.update(b"hijkijkljklmklmnlmnomnopnopq");
        let blob = hasher.finish();
        assert_eq!(blob.size, 56);
        assert_eq!(
            blob.digest.to_string(),
            "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
    }
}
