//! Digests of the layer and of the blob that it comes in.

use sha2::{Digest as _, Sha256};

use crate::summary::{Blob, Digest};

/// Bytes that SHA-256 takes at a time (FIPS 180-4, 1).
const BLOCK_SIZE: usize = 64;

/// Digests and counts a stream of bytes.
#[derive(Default)]
pub(crate) struct BlobHasher {
    sha256: Sha256,
    size: u64,
}

impl BlobHasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// The same of two streams. Within each the instructions of SHA-256 wait for one another; of
    /// two that take turns the processor works on both at once, and the second one takes hardly
    /// more than half its time.
    pub(crate) fn update_both([(a, x), (b, y)]: [(&mut Self, &[u8]); 2]) {
        let (x, y) = (a.up_to_block(x), b.up_to_block(y));
        let (x_blocks, _) = x.as_chunks::<BLOCK_SIZE>();
        let (y_blocks, _) = y.as_chunks::<BLOCK_SIZE>();
        for (x, y) in x_blocks.iter().zip(y_blocks) {
            a.sha256.update(x);
            b.sha256.update(y);
        }
        let both = x_blocks.len().min(y_blocks.len()) * BLOCK_SIZE;
        a.size += both as u64;
        b.size += both as u64;
        a.update(&x[both..]);
        b.update(&y[both..]);
    }

    /// Digests the bytes that end a block which was begun, and returns the others.
    fn up_to_block<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let missing = (self.size.wrapping_neg() % BLOCK_SIZE as u64) as usize;
        let (first, others) = bytes.split_at(missing.min(bytes.len()));
        self.update(first);
        others
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_streams_do_not_mix(
            pieces in proptest::collection::vec((0..300_usize, 0..300_usize), 0..8),
        ) {
            let bytes: Vec<u8> = (0..600).map(|i| (i * 7 % 251) as u8).collect();
            let mut both = [BlobHasher::default(), BlobHasher::default()];
            let mut each = [BlobHasher::default(), BlobHasher::default()];
            for (x, y) in pieces {
                let (x, y) = (&bytes[..x], &bytes[300..300 + y]);
                let [a, b] = &mut both;
                BlobHasher::update_both([(a, x), (b, y)]);
                each[0].update(x);
                each[1].update(y);
            }
            prop_assert_eq!(both.map(BlobHasher::finish), each.map(BlobHasher::finish));
        }
    }

    /// The second example of FIPS 180-2, appendix B.
    #[test]
    fn digests_in_pieces() {
        let mut hasher = BlobHasher::default();
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
