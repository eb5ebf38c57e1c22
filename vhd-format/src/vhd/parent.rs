use super::dynamic_header::DynamicHeader;
use crate::{Error, ReadAt, Result};

/// The most bytes that are read for one locator. Paths on Windows have 32,767 units at most.
const MAX_LOCATOR_LENGTH: u32 = 64 << 10;

/// The parent that a differencing disk names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentReference {
    /// The [unique id](super::Footer::unique_id) that the parent must have.
    pub unique_id: [u8; 16],
    /// When the parent's file was last modified, in seconds since 2000-01-01T00:00:00Z.
    pub time_stamp: u32,
    /// The name of the parent's file.
    pub name: String,
    /// Where to look for the parent, in the disk's order.
    pub locators: Vec<ParentLocator>,
}

/// Where one platform finds the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentLocator {
    /// The platform: `b"W2ku"` for absolute and `b"W2ru"` for relative Windows paths,
    /// `b"MacX"` for a file URL.
    pub platform_code: [u8; 4],
    /// The locator as stored, in the platform's encoding.
    pub data: Vec<u8>,
}

impl ParentLocator {
    /// The path or URL as text, if the platform is one whose locators are text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match &self.platform_code {
            b"W2ku" | b"W2ru" => {
                let units = self.data.chunks_exact(2);
                let units = units.map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
                let units = units.take_while(|&unit| unit != 0).collect::<Vec<_>>();
                Some(String::from_utf16_lossy(&units))
            }
            b"MacX" => {
                let text = self.data.split(|&byte| byte == 0).next()?;
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        }
    }
}

impl ParentReference {
    pub(super) fn read(storage: &impl ReadAt, header: &DynamicHeader) -> Result<Self> {
        let mut locators = Vec::new();
        for place in header.locators() {
            if place.length > MAX_LOCATOR_LENGTH {
                return Err(Error::invalid(format!(
                    "a parent locator of {} bytes is too long",
                    place.length
                ))
                .at(place.offset));
            }
            let mut data = vec![0; place.length as usize];
            storage
                .read_at(place.offset, &mut data)
                .map_err(|error| Error::read("a parent locator", place.offset, error))?;
            locators.push(ParentLocator {
                platform_code: place.platform_code,
                data,
            });
        }
        Ok(Self {
            unique_id: header.parent_unique_id(),
            time_stamp: header.parent_time_stamp(),
            name: header.parent_name(),
            locators,
        })
    }
}
