use std::fmt;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Geometry, MAX_VIRTUAL_SIZE, SECTOR_SIZE};
use crate::{Error, Result};

/// "Hard Disk Footer Format".
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFooter {
    cookie: [u8; 8],
    features: U32,
    file_format_version: U32,
    data_offset: U64,
    time_stamp: U32,
    creator_application: [u8; 4],
    creator_version: U32,
    creator_host_os: [u8; 4],
    original_size: U64,
    current_size: U64,
    cylinders: U16,
    heads: u8,
    sectors_per_track: u8,
    disk_type: U32,
    checksum: U32,
    unique_id: [u8; 16],
    saved_state: u8,
    reserved: [u8; 427],
}

const _: () = assert!(size_of::<RawFooter>() == Footer::SIZE);

pub(crate) const COOKIE: [u8; 8] = *b"conectix";
/// The bit that the specification reserves as always set.
const FEATURES_RESERVED: u32 = 2;
const VERSION_1_0: u32 = 0x0001_0000;
/// The data offset of a fixed disk, which has no dynamic header.
const NO_DATA_OFFSET: u64 = u64::MAX;

/// The type of a virtual disk: "Disk Type".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskType {
    /// The disk's bytes, then the footer.
    Fixed,
    /// Blocks that are allocated as they are written.
    Dynamic,
    /// Blocks that differ from a parent disk.
    Differencing,
}

impl DiskType {
    fn to_raw(self) -> u32 {
        match self {
            Self::Fixed => 2,
            Self::Dynamic => 3,
            Self::Differencing => 4,
        }
    }

    fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            2 => Some(Self::Fixed),
            3 => Some(Self::Dynamic),
            4 => Some(Self::Differencing),
            _ => None,
        }
    }
}

/// The footer: the last 512 bytes of every VHD, copied to the front of dynamic and differencing
/// ones.
///
/// ```
/// use vhd_format::vhd::Footer;
///
/// let footer = Footer::fixed(3 << 30, [0x5a; 16])?;
/// assert_eq!(footer.geometry().cylinders, 6241);
/// let again = Footer::from_bytes(&footer.to_bytes())?;
/// assert_eq!(again.virtual_size(), 3 << 30);
/// # Ok::<(), vhd_format::Error>(())
/// ```
#[derive(Clone)]
pub struct Footer {
    // Kept as it was read, so that a footer is given back bit for bit.
    raw: RawFooter,
    disk_type: DiskType,
}

impl Footer {
    /// The size of a footer in bytes.
    pub const SIZE: usize = 512;

    /// The footer of a fixed disk.
    ///
    /// It names the creator that Windows 7 names: application "win ", version 6.1, host
    /// "Wi2k". Readers take the exact size from footers of that creator and may take the
    /// geometry's, which is smaller, from others. The time stamp is 0 until
    /// [`with_time_stamp`](Self::with_time_stamp) sets it, so that equal arguments give equal
    /// bytes.
    ///
    /// # Errors
    /// The virtual size must be a multiple of 512 from 512 bytes to 2,040 GiB.
    pub fn fixed(virtual_size: u64, unique_id: [u8; 16]) -> Result<Self> {
        Self::new(DiskType::Fixed, NO_DATA_OFFSET, virtual_size, unique_id)
    }

    /// The footer of a dynamic disk whose dynamic disk header follows the footer's copy at the
    /// front.
    pub(super) fn dynamic(virtual_size: u64, unique_id: [u8; 16]) -> Result<Self> {
        let data_offset = Self::SIZE as u64;
        Self::new(DiskType::Dynamic, data_offset, virtual_size, unique_id)
    }

    fn new(
        disk_type: DiskType,
        data_offset: u64,
        virtual_size: u64,
        unique_id: [u8; 16],
    ) -> Result<Self> {
        check_virtual_size(virtual_size).map_err(Error::input)?;
        let geometry = Geometry::of_size(virtual_size);
        let mut footer = Self {
            raw: RawFooter {
                cookie: COOKIE,
                features: FEATURES_RESERVED.into(),
                file_format_version: VERSION_1_0.into(),
                data_offset: data_offset.into(),
                time_stamp: 0.into(),
                creator_application: *b"win ",
                creator_version: 0x0006_0001.into(),
                creator_host_os: *b"Wi2k",
                original_size: virtual_size.into(),
                current_size: virtual_size.into(),
                cylinders: geometry.cylinders.into(),
                heads: geometry.heads,
                sectors_per_track: geometry.sectors_per_track,
                disk_type: disk_type.to_raw().into(),
                checksum: 0.into(),
                unique_id,
                saved_state: 0,
                reserved: [0; 427],
            },
            disk_type,
        };
        footer.update_checksum();
        Ok(footer)
    }

    /// Sets the id that tells the disk from others.
    #[must_use]
    pub fn with_unique_id(mut self, unique_id: [u8; 16]) -> Self {
        self.raw.unique_id = unique_id;
        self.update_checksum();
        self
    }

    /// Sets the time of creation, in seconds since 2000-01-01T00:00:00Z.
    #[must_use]
    pub fn with_time_stamp(mut self, seconds_since_2000: u32) -> Self {
        self.raw.time_stamp = seconds_since_2000.into();
        self.update_checksum();
        self
    }

    /// The footer as it stands on disk.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(self.raw.clone())
    }

    /// Parses a footer and checks its cookie, checksum, version, disk type and sizes.
    ///
    /// # Errors
    /// If one of them is wrong, or the version is one that this crate does not know.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self> {
        let raw: RawFooter = zerocopy::transmute!(*bytes);
        if raw.cookie != COOKIE {
            return Err(Error::invalid("the VHD footer has no \"conectix\" cookie"));
        }
        let (stored, computed) = (raw.checksum.get(), checksum(&raw));
        if stored != computed {
            return Err(Error::invalid(format!(
                "the VHD footer's checksum is {stored:#010x}, its bytes give {computed:#010x}"
            )));
        }
        let version = raw.file_format_version.get();
        if version >> 16 != VERSION_1_0 >> 16 {
            return Err(Error::unsupported(format!(
                "VHD format version {}.{} is not known",
                version >> 16,
                version & 0xffff
            )));
        }
        let disk_type = DiskType::from_raw(raw.disk_type.get()).ok_or_else(|| {
            Error::unsupported(format!("VHD disk type {} is not known", raw.disk_type))
        })?;
        check_virtual_size(raw.current_size.get()).map_err(Error::invalid)?;
        let has_header = raw.data_offset.get() != NO_DATA_OFFSET;
        if disk_type != DiskType::Fixed && !has_header {
            return Err(Error::invalid(
                "the VHD footer gives no offset of the dynamic disk header",
            ));
        }
        Ok(Self { raw, disk_type })
    }

    /// The size of the virtual disk in bytes: "Current Size".
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.raw.current_size.get()
    }

    /// The size that the disk was created with: "Original Size".
    #[must_use]
    pub fn original_size(&self) -> u64 {
        self.raw.original_size.get()
    }

    /// The type of the disk.
    #[must_use]
    pub fn disk_type(&self) -> DiskType {
        self.disk_type
    }

    /// The geometry as stored, whatever the size is.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry {
            cylinders: self.raw.cylinders.get(),
            heads: self.raw.heads,
            sectors_per_track: self.raw.sectors_per_track,
        }
    }

    /// The 16 bytes that tell this disk from others, and a differencing disk's parent from
    /// impostors, in the order they have on disk.
    #[must_use]
    pub fn unique_id(&self) -> [u8; 16] {
        self.raw.unique_id
    }

    /// Seconds since 2000-01-01T00:00:00Z.
    #[must_use]
    pub fn time_stamp(&self) -> u32 {
        self.raw.time_stamp.get()
    }

    /// The application that made the disk, such as `b"win "`, `b"vpc "`, `b"qemu"`.
    #[must_use]
    pub fn creator_application(&self) -> [u8; 4] {
        self.raw.creator_application
    }

    /// Major and minor version of that application.
    #[must_use]
    pub fn creator_version(&self) -> (u16, u16) {
        let [a, b, c, d] = self.raw.creator_version.to_bytes();
        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    }

    /// The system the disk was made on: `b"Wi2k"` or `b"Mac "`.
    #[must_use]
    pub fn creator_host_os(&self) -> [u8; 4] {
        self.raw.creator_host_os
    }

    /// Where the dynamic disk header lies.
    pub(super) fn data_offset(&self) -> u64 {
        self.raw.data_offset.get()
    }

    /// Whether the virtual machine that the disk belongs to is in a saved state.
    #[must_use]
    pub fn saved_state(&self) -> bool {
        self.raw.saved_state != 0
    }

    /// The checksum as it stands on disk.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.raw.checksum.get()
    }

    fn update_checksum(&mut self) {
        self.raw.checksum = checksum(&self.raw).into();
    }
}

impl fmt::Debug for Footer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: [u8; 4]| bytes.escape_ascii().to_string();
        f.debug_struct("Footer")
            .field("disk_type", &self.disk_type)
            .field("virtual_size", &self.virtual_size())
            .field("geometry", &self.geometry())
            .field("creator_application", &text(self.creator_application()))
            .field("creator_version", &self.creator_version())
            .field("creator_host_os", &text(self.creator_host_os()))
            .field("time_stamp", &self.time_stamp())
            .field("unique_id", &self.unique_id())
            .finish_non_exhaustive()
    }
}

fn checksum(raw: &RawFooter) -> u32 {
    ones_complement_sum(raw.as_bytes(), raw.checksum.as_bytes())
}

/// The ones' complement of the sum of all bytes but the checksum's own.
pub(super) fn ones_complement_sum(bytes: &[u8], checksum: &[u8]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    !(sum(bytes) - sum(checksum))
}

fn check_virtual_size(size: u64) -> std::result::Result<(), String> {
    if size == 0 || size > MAX_VIRTUAL_SIZE {
        return Err(format!(
            "a VHD of {size} bytes: the size must be from 512 bytes to 2,040 GiB"
        ));
    }
    if !size.is_multiple_of(SECTOR_SIZE) {
        return Err(format!(
            "a VHD of {size} bytes: the size must be a multiple of 512"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// Footers that Windows 7 wrote, and one that VirtualBox wrote: tests/data/README.md.
    const WINDOWS_7: &[u8; 512] = include_bytes!("../../tests/data/windows7-3gib.footer");
    const WINDOWS_7_32_GIB: &[u8; 512] = include_bytes!("../../tests/data/windows7-32gib.footer");
    const WINDOWS_7_100_GIB: &[u8; 512] = include_bytes!("../../tests/data/windows7-100gib.footer");
    const VIRTUALBOX: &[u8; 512] = include_bytes!("../../tests/data/virtualbox-20gib.footer");

    #[test]
    fn equals_what_windows_writes() {
        for (size, bytes) in [
            (3 << 30, WINDOWS_7),
            (32 << 30, WINDOWS_7_32_GIB),
            (100 << 30, WINDOWS_7_100_GIB),
        ] {
            let theirs = Footer::from_bytes(bytes).unwrap();
            let ours = Footer::fixed(size, theirs.unique_id())
                .unwrap()
                .with_time_stamp(theirs.time_stamp());
            assert_eq!(ours.to_bytes(), *bytes);
        }
    }

    #[test]
    fn reads_every_field() {
        let footer = Footer::from_bytes(WINDOWS_7).unwrap();
        assert_eq!(footer.virtual_size(), 3 << 30);
        assert_eq!(footer.original_size(), 3 << 30);
        assert_eq!(footer.disk_type(), DiskType::Fixed);
        assert_eq!(footer.geometry(), Geometry::of_size(3 << 30));
        assert_eq!(footer.time_stamp(), 0x15dc_bd20);
        assert_eq!(footer.creator_application(), *b"win ");
        assert_eq!(footer.creator_version(), (6, 1));
        assert_eq!(footer.creator_host_os(), *b"Wi2k");
        assert_eq!(footer.checksum(), 0xffff_e566);
        assert_eq!(footer.unique_id()[..4], [0x3a, 0xe3, 0xa9, 0x5e]);
        assert!(!footer.saved_state());

        let footer = Footer::from_bytes(VIRTUALBOX).unwrap();
        assert_eq!(footer.virtual_size(), 20 << 30);
        assert_eq!(footer.disk_type(), DiskType::Dynamic);
        assert_eq!(footer.creator_application(), *b"vbox");
        assert_eq!(footer.creator_version(), (4, 1));
    }

    #[test]
    fn gives_bytes_back_unchanged() {
        for bytes in [WINDOWS_7, VIRTUALBOX] {
            assert_eq!(Footer::from_bytes(bytes).unwrap().to_bytes(), *bytes);
        }
    }

    #[test]
    fn refuses_sizes_out_of_range() {
        for size in [0, 1, 511, 513, MAX_VIRTUAL_SIZE + 512, u64::MAX] {
            let error = Footer::fixed(size, [0; 16]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{size}");
        }
        for size in [512, MAX_VIRTUAL_SIZE] {
            assert_eq!(Footer::fixed(size, [0; 16]).unwrap().virtual_size(), size);
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..512 * 8 {
            let mut bytes = *WINDOWS_7;
            bytes[bit / 8] ^= 1 << (bit % 8);
            Footer::from_bytes(&bytes).unwrap_err();
        }
    }

    /// Changes a field under a valid checksum.
    fn with(change: impl FnOnce(&mut RawFooter)) -> Result<Footer> {
        let mut footer = Footer::from_bytes(WINDOWS_7).unwrap();
        change(&mut footer.raw);
        footer.update_checksum();
        Footer::from_bytes(&footer.to_bytes())
    }

    #[test]
    fn fields_are_checked_under_a_valid_checksum() {
        let kind = |result: Result<Footer>| result.unwrap_err().kind();
        assert_eq!(
            kind(with(|raw| raw.file_format_version = 0x0002_0000.into())),
            ErrorKind::Unsupported
        );
        for reserved in [0, 1, 5, 6] {
            assert_eq!(
                kind(with(|raw| raw.disk_type = reserved.into())),
                ErrorKind::Unsupported
            );
        }
        assert_eq!(
            kind(with(|raw| raw.disk_type = 3.into())),
            ErrorKind::Invalid
        );
        for size in [0, 513, u64::MAX] {
            assert_eq!(
                kind(with(|raw| raw.current_size = size.into())),
                ErrorKind::Invalid
            );
        }
        assert!(with(|raw| raw.saved_state = 1).unwrap().saved_state());
    }
}
