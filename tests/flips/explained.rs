//! Where `verify` and e2fsck do not agree, and why: the table of docs/verify.md.

use tar2vhd::FindingKind as F;

use crate::campaign::Case;

/// A kind of disagreement that is known.
pub(crate) struct Explanation {
    /// What docs/verify.md calls it.
    pub(crate) name: &'static str,
    applies: fn(&Case) -> bool,
}

/// Whether every finding is of one of these kinds, and e2fsck has none.
fn only(case: &Case, kinds: &[F]) -> bool {
    let mut found = case.findings.iter().map(|finding| finding.kind);
    case.e2fsck_is_content && !case.findings.is_empty() && found.all(|kind| kinds.contains(&kind))
}

fn says(case: &Case, text: &str) -> bool {
    case.findings
        .iter()
        .any(|finding| finding.message.contains(text))
}

const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        name: "hash-of-value",
        applies: |case| only(case, &[F::AttributeHash]) && says(case, "the hash of the value"),
    },
    Explanation {
        name: "attribute-name",
        applies: |case| {
            only(case, &[F::Attribute, F::Inode, F::Acl])
                && says(case, "is no name of an attribute")
        },
    },
    Explanation {
        name: "attribute-order",
        applies: |case| only(case, &[F::AttributeOrder]),
    },
    Explanation {
        name: "copy-of-superblock",
        applies: |case| only(case, &[F::BackupSuperblock]),
    },
    Explanation {
        name: "room-for-descriptors",
        applies: |case| {
            only(case, &[F::Inode]) && says(case, "the inode with room for descriptors has other")
        },
    },
    Explanation {
        name: "empty-inner-node",
        applies: |case| only(case, &[F::BlockMap]) && says(case, "an inner extent node is empty"),
    },
    Explanation {
        name: "inline-size",
        applies: |case| only(case, &[F::Size]) && says(case, "which are inline"),
    },
    Explanation {
        name: "acl-and-mode",
        applies: |case| only(case, &[F::Acl]),
    },
    Explanation {
        name: "magic-of-quotas",
        applies: |case| only(case, &[F::Quota]) && says(case, "the quota file has the magic"),
    },
];

/// Why the two do not agree in a case, if that is known.
pub(crate) fn explain(case: &Case) -> Option<&'static Explanation> {
    EXPLANATIONS.iter().find(|known| (known.applies)(case))
}

#[test]
fn the_table_has_every_explanation() {
    let table = include_str!("../../docs/verify.md");
    for Explanation { name, .. } in EXPLANATIONS {
        assert!(table.contains(&format!("| `{name}` |")), "{name}");
    }
    let rows = table.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, EXPLANATIONS.len(), "rows that explain nothing");
}
