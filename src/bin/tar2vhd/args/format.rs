//! The format of a disk, by what was asked for and by the name of its file.

use std::path::Path;

use tar2vhd::DiskFormat;

/// The extensions of files of a format; the first values are those that they stand for.
const EXTENSIONS: [(DiskFormat, &[&str]); 5] = [
    (DiskFormat::Vhd, &["vhd"]),
    (DiskFormat::Vhdx, &["vhdx"]),
    (DiskFormat::Raw, &["raw", "img"]),
    (DiskFormat::VhdDynamic, &["vhd"]),
    (DiskFormat::VhdxFixed, &["vhdx"]),
];

/// The format for a file of this name, as its extension says.
fn of_extension(output: &Path) -> Option<DiskFormat> {
    let extension = output.extension()?.to_str()?.to_ascii_lowercase();
    EXTENSIONS
        .iter()
        .find(|(_, extensions)| extensions.contains(&&*extension))
        .map(|(format, _)| *format)
}

/// Whether files of both formats have the same extension.
fn are_akin(one: DiskFormat, other: DiskFormat) -> bool {
    let extensions = |format| EXTENSIONS.iter().find(|(known, _)| *known == format);
    match (extensions(one), extensions(other)) {
        (Some((_, one)), Some((_, other))) => one == other,
        _ => false,
    }
}

/// The format that was asked for, else that of the extension, else the command's default;
/// and a warning if the first two contradict each other.
pub(crate) fn choose(
    asked: Option<DiskFormat>,
    output: &Path,
    default: DiskFormat,
) -> (DiskFormat, Option<String>) {
    let by_extension = of_extension(output);
    let warning = match (asked, by_extension) {
        (Some(asked), Some(other)) if !are_akin(asked, other) => Some(format!(
            "{} gets the format {asked}, as --format says, and not the {other} of its extension",
            tar2vhd::display_file(output),
        )),
        _ => None,
    };
    (asked.or(by_extension).unwrap_or(default), warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(asked: Option<DiskFormat>, output: &str) -> (DiskFormat, bool) {
        let (format, warning) = choose(asked, Path::new(output), DiskFormat::VhdxFixed);
        (format, warning.is_some())
    }

    #[test]
    fn each_format_has_an_extension() {
        for format in DiskFormat::ALL {
            assert!(are_akin(*format, *format), "{format}");
        }
    }

    #[test]
    fn the_extension_decides_unless_a_format_is_asked_for() {
        for (output, format) in [
            ("a/disk.vhd", DiskFormat::Vhd),
            ("disk.VHD", DiskFormat::Vhd),
            ("disk.old.vhdx", DiskFormat::Vhdx),
            ("disk.raw", DiskFormat::Raw),
            ("disk.img", DiskFormat::Raw),
            ("disk", DiskFormat::VhdxFixed),
            ("disk.qcow2", DiskFormat::VhdxFixed),
            (".vhd", DiskFormat::VhdxFixed),
            ("disk.vhd/x", DiskFormat::VhdxFixed),
        ] {
            assert_eq!(chosen(None, output), (format, false), "{output}");
        }
        for (asked, output, warns) in [
            (DiskFormat::Raw, "disk.vhd", true),
            (DiskFormat::Vhd, "disk.vhdx", true),
            (DiskFormat::Vhdx, "disk.img", true),
            (DiskFormat::VhdDynamic, "disk.vhd", false),
            (DiskFormat::VhdxFixed, "disk.vhdx", false),
            (DiskFormat::Raw, "disk.bin", false),
            (DiskFormat::Vhd, "disk", false),
        ] {
            assert_eq!(chosen(Some(asked), output), (asked, warns), "{output}");
        }
    }
}
