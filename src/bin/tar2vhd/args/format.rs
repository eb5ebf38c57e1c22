//! What a disk is wrapped in.

use std::path::Path;

use clap::ValueEnum;
use tar2vhd::DiskFormat;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A fixed VHD: the bytes of the disk and a footer.
    #[default]
    Vhd,
    /// A dynamic VHD.
    VhdDynamic,
    /// A dynamic VHDX.
    Vhdx,
    /// A fixed VHDX.
    VhdxFixed,
    /// The bytes of the disk alone.
    Raw,
}

impl Format {
    /// The format for a file of this name, as its extension says.
    fn of_extension(output: &Path) -> Option<Self> {
        let extension = output.extension()?.to_str()?.to_ascii_lowercase();
        match &*extension {
            "vhd" => Some(Self::Vhd),
            "vhdx" => Some(Self::Vhdx),
            "raw" | "img" => Some(Self::Raw),
            _ => None,
        }
    }

    /// Whether files of both formats have the same extension.
    fn is_akin(self, other: Self) -> bool {
        let kind = |format| match format {
            Self::Vhd | Self::VhdDynamic => Self::Vhd,
            Self::Vhdx | Self::VhdxFixed => Self::Vhdx,
            Self::Raw => Self::Raw,
        };
        kind(self) == kind(other)
    }

    /// The format that was asked for, else that of the extension, else the command's default;
    /// and a warning if the first two contradict each other.
    pub(crate) fn choose(
        asked: Option<Self>,
        output: &Path,
        default: Self,
    ) -> (Self, Option<String>) {
        let by_extension = Self::of_extension(output);
        let warning = match (asked, by_extension) {
            (Some(asked), Some(other)) if !asked.is_akin(other) => Some(format!(
                "{} gets the format {}, as --format says, and not the {} of its extension",
                tar2vhd::display_file(output),
                DiskFormat::from(asked).as_str(),
                DiskFormat::from(other).as_str(),
            )),
            _ => None,
        };
        (asked.or(by_extension).unwrap_or(default), warning)
    }
}

impl From<Format> for DiskFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Vhd => Self::Vhd,
            Format::VhdDynamic => Self::VhdDynamic,
            Format::Vhdx => Self::Vhdx,
            Format::VhdxFixed => Self::VhdxFixed,
            Format::Raw => Self::Raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(asked: Option<Format>, output: &str) -> (Format, bool) {
        let (format, warning) = Format::choose(asked, Path::new(output), Format::VhdxFixed);
        (format, warning.is_some())
    }

    #[test]
    fn the_extension_decides_unless_a_format_is_asked_for() {
        for (output, format) in [
            ("a/disk.vhd", Format::Vhd),
            ("disk.VHD", Format::Vhd),
            ("disk.old.vhdx", Format::Vhdx),
            ("disk.raw", Format::Raw),
            ("disk.img", Format::Raw),
            ("disk", Format::VhdxFixed),
            ("disk.qcow2", Format::VhdxFixed),
            (".vhd", Format::VhdxFixed),
            ("disk.vhd/x", Format::VhdxFixed),
        ] {
            assert_eq!(choose(None, output), (format, false), "{output}");
        }
        for (asked, output, warns) in [
            (Format::Raw, "disk.vhd", true),
            (Format::Vhd, "disk.vhdx", true),
            (Format::Vhdx, "disk.img", true),
            (Format::VhdDynamic, "disk.vhd", false),
            (Format::VhdxFixed, "disk.vhdx", false),
            (Format::Raw, "disk.bin", false),
            (Format::Vhd, "disk", false),
        ] {
            assert_eq!(choose(Some(asked), output), (asked, warns), "{output}");
        }
    }
}
