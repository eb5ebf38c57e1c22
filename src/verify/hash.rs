//! Directory hashes of every version, over signed and unsigned bytes.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Hash Tree Directories", and fs/ext4/hash.c.

/// How the names of a directory are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameHash {
    version: Version,
    unsigned: bool,
    seed: [u32; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Legacy,
    HalfMd4,
    Tea,
}

impl NameHash {
    /// By the number on disk; `None` where it has no meaning.
    pub(super) fn new(version: u8, unsigned: bool, seed: [u32; 4]) -> Option<Self> {
        let version = match version {
            0 => Version::Legacy,
            1 => Version::HalfMd4,
            2 => Version::Tea,
            _ => return None,
        };
        let seed = match seed {
            [0, 0, 0, 0] => [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476],
            seed => seed,
        };
        Some(Self {
            version,
            unsigned,
            seed,
        })
    }

    /// The part of a name's hash that the tree is sorted by; its lowest bit is zero.
    pub(super) fn of(self, name: &[u8]) -> u32 {
        let mut state = self.seed;
        let hash = match self.version {
            Version::Legacy => self.legacy(name),
            Version::HalfMd4 => {
                for start in (0..name.len()).step_by(32) {
                    half_md4(&mut state, &self.words::<8>(&name[start..]));
                }
                state[1]
            }
            Version::Tea => {
                for start in (0..name.len()).step_by(16) {
                    tea(&mut state, &self.words::<4>(&name[start..]));
                }
                state[0]
            }
        };
        // The highest value marks the end of a directory.
        match hash & !1 {
            0xFFFF_FFFE => 0xFFFF_FFFC,
            hash => hash,
        }
    }

    fn byte(self, byte: u8) -> u32 {
        match self.unsigned {
            true => byte.into(),
            false => i32::from(byte as i8) as u32,
        }
    }

    fn legacy(self, name: &[u8]) -> u32 {
        let (mut hash, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
        for byte in name {
            let mixed = before.wrapping_add(hash ^ self.byte(*byte).wrapping_mul(7_152_373));
            // Kept to 31 bits.
            let next = match mixed >> 31 {
                1 => mixed.wrapping_sub(0x7fff_ffff),
                _ => mixed,
            };
            (before, hash) = (hash, next);
        }
        hash << 1
    }

    /// The next bytes of a name, four in a word, filled up with the length that remains.
    fn words<const N: usize>(self, rest: &[u8]) -> [u32; N] {
        let length = rest.len() as u32 & 0xff;
        let pad = length | length << 8 | length << 16 | length << 24;
        let mut words = [pad; N];
        for (at, byte) in rest.iter().take(4 * N).enumerate() {
            let word = &mut words[at / 4];
            *word = self.byte(*byte).wrapping_add(*word << 8);
        }
        words
    }
}

fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (
            |x, y, z| z ^ x & (y ^ z),
            0,
            [0, 1, 2, 3, 4, 5, 6, 7],
            [3, 7, 11, 19],
        ),
        (
            |x, y, z| (x & y).wrapping_add((x ^ y) & z),
            0x5A82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            |x, y, z| x ^ y ^ z,
            0x6ED9_EBA1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let mut words = *state;
    for (mix, constant, order, shifts) in ROUNDS {
        for (step, at) in order.into_iter().enumerate() {
            // The word that changes goes backwards: a, d, c, b.
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| (i + 4 - step % 4) % 4);
            let sum = words[a]
                .wrapping_add(mix(words[b], words[c], words[d]))
                .wrapping_add(input[at])
                .wrapping_add(constant);
            words[a] = sum.rotate_left(shifts[step % 4]);
        }
    }
    for (word, add) in state.iter_mut().zip(words) {
        *word = word.wrapping_add(add);
    }
}

fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    let (mut x, mut y) = (state[0], state[1]);
    let mut sum = 0_u32;
    for _ in 0..16 {
        sum = sum.wrapping_add(0x9E37_79B9);
        let mixed = |z: u32, first: u32, second: u32| {
            (z << 4).wrapping_add(first) ^ z.wrapping_add(sum) ^ (z >> 5).wrapping_add(second)
        };
        x = x.wrapping_add(mixed(y, key[0], key[1]));
        y = y.wrapping_add(mixed(x, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_debugfs() {
        // debugfs -R 'dx_hash -h VERSION [-s 12345678-9abc-def0-1122-334455667788] NAME'
        let seed = [0x7856_3412, 0xf0de_bc9a, 0x4433_2211, 0x8877_6655];
        let names: [&[u8]; 4] = [
            b"a",
            b"lost+found",
            b"abcdefghijklmnopqrstuvwxyz0123456789",
            "Főtanúsítvány".as_bytes(),
        ];
        let cases = [
            (
                0,
                [0; 4],
                [0xe74b_53e2, 0x5e2a_ba24, 0x9015_281a, 0x5862_600e],
            ),
            (
                0,
                seed,
                [0xe74b_53e2, 0x5e2a_ba24, 0x9015_281a, 0x5862_600e],
            ),
            (
                1,
                [0; 4],
                [0xd5fa_7d7a, 0x591d_e422, 0x97c6_9942, 0x278b_2d14],
            ),
            (
                1,
                seed,
                [0x970a_1d6c, 0xab04_c708, 0x1a13_e270, 0x4680_ba52],
            ),
            (
                2,
                [0; 4],
                [0x6d0e_a4c0, 0x2dbf_9e80, 0xe073_581c, 0x8183_7b60],
            ),
            (
                2,
                seed,
                [0x42e8_f46e, 0x2ede_4faa, 0x28c6_d3b8, 0xd265_461c],
            ),
        ];
        for (version, seed, want) in cases {
            let hash = NameHash::new(version, false, seed).unwrap();
            assert_eq!(names.map(|name| hash.of(name)), want, "version {version}");
            let unsigned = NameHash::new(version, true, seed).unwrap();
            for (name, want) in names.into_iter().zip(want) {
                assert_eq!(unsigned.of(name) == want, name.is_ascii(), "{name:?}");
            }
        }
        assert_eq!(NameHash::new(6, false, seed), None);
    }
}
