/// The meaning of a path component in a layer: the OCI image specification's whiteouts, and the
/// names that aufs left in old layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whiteout<'a> {
    /// An ordinary name.
    No,
    /// `.wh.NAME`: NAME of the layers below is gone.
    Name(&'a [u8]),
    /// `.wh..wh..opq`: so is everything else in this directory.
    Opaque,
    /// Bookkeeping of aufs itself, never shown.
    Hidden,
    /// A whiteout of nothing, of `.` or of `..`.
    Invalid,
}

pub(crate) fn classify(component: &[u8]) -> Whiteout<'_> {
    match component.strip_prefix(b".wh.") {
        None => Whiteout::No,
        Some(b".wh..opq") => Whiteout::Opaque,
        Some(b".wh.aufs" | b".wh.orph" | b".wh.plnk") => Whiteout::Hidden,
        Some(b"" | b"." | b"..") => Whiteout::Invalid,
        Some(name) => Whiteout::Name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind() {
        for (component, expected) in [
            ("a", Whiteout::No),
            (".wh", Whiteout::No),
            ("a.wh.b", Whiteout::No),
            (".WH.a", Whiteout::No),
            (".wh.a", Whiteout::Name(b"a")),
            (".wh...a", Whiteout::Name(b"..a")),
            (".wh.....", Whiteout::Name(b"....")),
            (".wh.", Whiteout::Invalid),
            (".wh..", Whiteout::Invalid),
            (".wh...", Whiteout::Invalid),
            (".wh..wh..opq", Whiteout::Opaque),
            (".wh..wh..opq2", Whiteout::Name(b".wh..opq2")),
            (".wh..wh.aufs", Whiteout::Hidden),
            (".wh..wh.orph", Whiteout::Hidden),
            (".wh..wh.plnk", Whiteout::Hidden),
            (".wh..wh.plnk2", Whiteout::Name(b".wh.plnk2")),
            (".wh..wh.a", Whiteout::Name(b".wh.a")),
        ] {
            assert_eq!(classify(component.as_bytes()), expected, "{component}");
        }
    }
}
