//! Header checksums made right again after a mutation: with wrong ones a tar reader stops at
//! the first header, and nothing behind it is fuzzed.

const BLOCK: usize = 512;

/// Corrects the checksum of every header of the tar that starts at the first byte.
pub fn correct_checksums(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = tar.get_mut(at..at + BLOCK) {
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        correct_checksum(header);
        let (mut extended, kind) = (header[482] != 0, header[156]);
        let size = if (b'1'..=b'6').contains(&kind) {
            0
        } else {
            size(header)
        };
        while extended && kind == b'S' {
            // The map of an old GNU sparse file goes on.
            let Some(more) = tar.get(at..at + BLOCK) else {
                return;
            };
            extended = more[504] != 0;
            at += BLOCK;
        }
        let Some(next) = size
            .checked_next_multiple_of(BLOCK)
            .and_then(|n| at.checked_add(n))
        else {
            return;
        };
        at = next;
    }
}

fn correct_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn size(header: &[u8]) -> usize {
    header[124..136]
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| (b'0'..=b'7').contains(*byte))
        .fold(0usize, |size, byte| {
            size.saturating_mul(8)
                .saturating_add(usize::from(byte - b'0'))
        })
}
