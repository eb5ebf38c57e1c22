use super::SECTOR_SIZE;

/// Cylinders, heads and sectors per track, as the footer's "Disk Geometry" stores them.
///
/// A disk whose size is no product of the three is larger than they say: Windows and current
/// readers go by the footer's size and keep the geometry for guests that ask an ATA disk for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// The number of cylinders.
    pub cylinders: u16,
    /// The number of heads.
    pub heads: u8,
    /// The number of sectors in a track.
    pub sectors_per_track: u8,
}

impl Geometry {
    /// The geometry of a disk of that many bytes, by the appendix "CHS Calculation".
    #[must_use]
    pub fn of_size(virtual_size: u64) -> Self {
        const MOST_CYLINDERS: u64 = 65_535;
        let sectors = (virtual_size / SECTOR_SIZE).min(MOST_CYLINDERS * 16 * 255);

        let (tracks, heads, sectors_per_track) = if sectors >= MOST_CYLINDERS * 16 * 63 {
            (sectors / 255, 16, 255)
        } else {
            let tracks = sectors / 17;
            let heads = tracks.div_ceil(1024).max(4);
            if heads <= 16 && tracks < heads * 1024 {
                (tracks, heads, 17)
            } else if sectors / 31 < 16 * 1024 {
                (sectors / 31, 16, 31)
            } else {
                (sectors / 63, 16, 63)
            }
        };
        // The clamp above and the choice of the track length bound all three.
        Self {
            cylinders: u16::try_from(tracks / heads).unwrap_or(u16::MAX),
            heads: u8::try_from(heads).unwrap_or(16),
            sectors_per_track,
        }
    }

    /// Bytes that the three numbers address.
    #[must_use]
    pub fn size(self) -> u64 {
        u64::from(self.cylinders)
            * u64::from(self.heads)
            * u64::from(self.sectors_per_track)
            * SECTOR_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chs(virtual_size: u64) -> (u16, u8, u8) {
        let geometry = Geometry::of_size(virtual_size);
        (
            geometry.cylinders,
            geometry.heads,
            geometry.sectors_per_track,
        )
    }

    /// The appendix word for word, to hold the tidier form above against.
    fn appendix(virtual_size: u64) -> (u16, u8, u8) {
        let mut total_sectors = virtual_size / SECTOR_SIZE;
        if total_sectors > 65535 * 16 * 255 {
            total_sectors = 65535 * 16 * 255;
        }
        let mut sectors_per_track;
        let mut heads;
        let mut cylinder_times_heads;
        if total_sectors >= 65535 * 16 * 63 {
            sectors_per_track = 255;
            heads = 16;
            cylinder_times_heads = total_sectors / sectors_per_track;
        } else {
            sectors_per_track = 17;
            cylinder_times_heads = total_sectors / sectors_per_track;
            heads = cylinder_times_heads.div_ceil(1024);
            if heads < 4 {
                heads = 4;
            }
            if cylinder_times_heads >= heads * 1024 || heads > 16 {
                sectors_per_track = 31;
                heads = 16;
                cylinder_times_heads = total_sectors / sectors_per_track;
            }
            if cylinder_times_heads >= heads * 1024 {
                sectors_per_track = 63;
                heads = 16;
                cylinder_times_heads = total_sectors / sectors_per_track;
            }
        }
        (
            u16::try_from(cylinder_times_heads / heads).unwrap(),
            u8::try_from(heads).unwrap(),
            u8::try_from(sectors_per_track).unwrap(),
        )
    }

    #[test]
    fn agrees_with_windows_7() {
        assert_eq!(chs(3 << 30), (6241, 16, 63));
        assert_eq!(chs(32 << 30), (16448, 16, 255));
        assert_eq!(chs(100 << 30), (51400, 16, 255));
    }

    #[test]
    fn agrees_with_the_appendix_at_every_scale() {
        let mut sectors = 0_u64;
        while sectors < (3 << 40) / SECTOR_SIZE {
            for nearby in sectors.saturating_sub(2)..sectors + 3 {
                let size = nearby * SECTOR_SIZE;
                assert_eq!(chs(size), appendix(size), "{nearby} sectors");
            }
            sectors += sectors / 257 + 1;
        }
        // Where the track length changes.
        for edge in [
            17 * 1024 * 4,
            17 * 1024 * 16,
            31 * 1024 * 16,
            65535 * 16 * 63,
        ] {
            for nearby in edge - 600..edge + 600 {
                let size = nearby * SECTOR_SIZE;
                assert_eq!(chs(size), appendix(size), "{nearby} sectors");
            }
        }
    }

    #[test]
    fn never_addresses_more_than_the_disk() {
        for size in [0, 512, 67 * 512, 68 * 512, 1 << 20, 3 << 30, 2040 << 30] {
            assert!(Geometry::of_size(size).size() <= size);
        }
    }
}
