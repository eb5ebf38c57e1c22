use std::fmt;

/// An error of a stream.
///
/// An error is final: the bytes before it were given out, and there are no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// A block is of the reserved type.
    BlockType,
    /// A stored block's length and its complement contradict each other.
    StoredLength,
    /// A dynamic block has more symbols than there are.
    SymbolCount,
    /// The code of a dynamic block's code lengths is over-subscribed or incomplete.
    LengthCode,
    /// A code length is repeated before there is one, or past the last symbol.
    Repeat,
    /// A dynamic block cannot end.
    NoEndOfBlock,
    /// The code of literals and lengths is over-subscribed or incomplete.
    LiteralCode,
    /// The code of distances is over-subscribed or incomplete.
    DistanceCode,
    /// A literal or length is none that the format or the block's code knows.
    Literal,
    /// A distance is none that the format or the block's code knows.
    Distance,
    /// A match begins before the stream does.
    TooFarBack,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlockType => "a block is of the reserved type",
            Self::StoredLength => "the length of a stored block is damaged",
            Self::SymbolCount => "a block defines too many symbols",
            Self::LengthCode => "the code of a block's code lengths is invalid",
            Self::Repeat => "a code length is repeated wrongly",
            Self::NoEndOfBlock => "a block has no code for its end",
            Self::LiteralCode => "a block's code of literals and lengths is invalid",
            Self::DistanceCode => "a block's code of distances is invalid",
            Self::Literal => "a literal or length is invalid",
            Self::Distance => "a distance is invalid",
            Self::TooFarBack => "a match begins before the stream does",
        })
    }
}

impl std::error::Error for Error {}
