//! Names of the values of an enum: one list for text, both ways, and for JSON.

use std::fmt;

/// The text is not the name of a value. The message lists the names that are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    possible: &'static [&'static str],
}

impl UnknownName {
    pub(crate) fn new(kind: &'static str, name: &str, possible: &'static [&'static str]) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            possible,
        }
    }

    /// The names that there are, in the order of the values.
    #[must_use]
    pub fn possible(&self) -> &'static [&'static str] {
        self.possible
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            possible,
        } = self;
        let possible = possible.join(", ");
        write!(f, "{name:?} is not a {kind}: it is one of {possible}")
    }
}

impl std::error::Error for UnknownName {}

/// Gives each value of an enum its name, for [`Display`](fmt::Display),
/// [`FromStr`](std::str::FromStr) and, with the feature `serde`, `Serialize`.
///
/// The values come in the order of their declaration.
macro_rules! names {
    ($values:ident, $kind:literal, { $($value:ident = $name:literal),+ $(,)? }) => {
        impl $values {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The name that the command and JSON use, which is what this value displays.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }
        }

        impl std::fmt::Display for $values {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $values {
            type Err = $crate::names::UnknownName;

            fn from_str(name: &str) -> std::result::Result<Self, Self::Err> {
                match name {
                    $($name => Ok(Self::$value),)+
                    _ => Err($crate::names::UnknownName::new($kind, name, &[$($name),+])),
                }
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $values {
            fn serialize<S: serde::Serializer>(
                &self,
                serializer: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use names;
