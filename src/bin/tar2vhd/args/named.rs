//! Arguments that are values of enums of the library, by the names that these have.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use tar2vhd::{DiskFormat, Inflater, Profile, UnknownName};

pub(super) fn format() -> impl TypedValueParser<Value = DiskFormat> {
    named(DiskFormat::ALL, DiskFormat::as_str, |format| match format {
        DiskFormat::Vhd => "A fixed VHD: the bytes of the disk and a footer",
        DiskFormat::VhdDynamic => "A dynamic VHD",
        DiskFormat::Vhdx => "A dynamic VHDX",
        DiskFormat::VhdxFixed => "A fixed VHDX",
        DiskFormat::Raw => "The bytes of the disk alone",
        _ => "",
    })
}

pub(super) fn profile() -> impl TypedValueParser<Value = Profile> {
    named(Profile::ALL, Profile::as_str, |profile| match profile {
        Profile::Default => "What a good ext4 is today",
        Profile::Hcsshim => {
            "Byte for byte hcsshim's, as policies of confidential containers name it"
        }
        _ => "",
    })
}

pub(super) fn inflater() -> impl TypedValueParser<Value = Inflater> {
    named(Inflater::ALL, Inflater::as_str, |inflater| match inflater {
        Inflater::Own => "The fastest",
        Inflater::ZlibRs => "Another implementation, without unsafe code of ours",
        _ => "",
    })
}

/// Takes the values' names, with a line of help for each.
fn named<T>(
    all: &[T],
    name: fn(T) -> &'static str,
    help: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err = UnknownName> + Send + Sync + 'static,
{
    let values = all
        .iter()
        .map(|value| PossibleValue::new(name(*value)).help(help(*value)));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_help() {
        fn check(parser: &impl TypedValueParser, number: usize) {
            let values: Vec<_> = parser.possible_values().unwrap().collect();
            assert_eq!(values.len(), number);
            for value in values {
                let help = value.get_help().unwrap().to_string();
                assert!(!help.is_empty(), "{}", value.get_name());
            }
        }
        check(&format(), DiskFormat::ALL.len());
        check(&profile(), Profile::ALL.len());
        check(&inflater(), Inflater::ALL.len());
    }
}
