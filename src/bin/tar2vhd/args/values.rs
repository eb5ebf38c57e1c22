//! Values of options that several commands have.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ValueEnum, ValueHint};
use tar2vhd::verity::Verity;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// The bytes that are hashed before each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Salt(pub Vec<u8>);

/// As veritysetup takes it.
pub(super) fn salt(text: &str) -> Result<Salt, &'static str> {
    const WRONG: &str = "a salt is written in pairs of hexadecimal digits, 256 pairs at most";
    if text == "-" {
        return Ok(Salt(Vec::new()));
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes
        .filter(|bytes| (1..=256).contains(&bytes.len()))
        .map(Salt)
        .ok_or(WRONG)
}

/// The parameters of a hash tree.
pub(crate) fn verity(salt: Option<&Salt>, uuid: Option<[u8; 16]>) -> Verity {
    let mut verity = Verity::new();
    if let Some(Salt(salt)) = salt {
        verity = verity.salt(salt.as_slice());
    }
    if let Some(uuid) = uuid {
        verity = verity.uuid(uuid);
    }
    verity
}

pub(super) fn uuid(text: &str) -> Result<[u8; 16], String> {
    let uuid = uuid::Uuid::try_parse(text).map_err(|e| e.to_string())?;
    Ok(uuid.into_bytes())
}

/// Where a disk goes: as an argument, or as an option.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// Where to write the disk: nothing or a regular file may be there.
    #[arg(value_name = "OUTPUT", value_hint = ValueHint::FilePath)]
    #[arg(required_unless_present = "output")]
    #[arg(value_parser = OsStringValueParser::new().try_map(output))]
    place: Option<PathBuf>,

    /// The same as an option.
    #[arg(short, long, value_hint = ValueHint::FilePath, conflicts_with = "place")]
    #[arg(value_parser = OsStringValueParser::new().try_map(output))]
    output: Option<PathBuf>,
}

impl To {
    pub(crate) fn path(&self) -> &Path {
        let given = self.place.as_ref().or(self.output.as_ref());
        // One of them is there, or the command line was refused.
        given.map_or(Path::new(""), PathBuf::as_path)
    }
}

pub(super) fn output(text: std::ffi::OsString) -> Result<PathBuf, &'static str> {
    if text == "-" {
        Err(
            "a disk is not written from start to end and cannot go to standard output; a file \
            of this name is written ./-",
        )
    } else {
        Ok(text.into())
    }
}
