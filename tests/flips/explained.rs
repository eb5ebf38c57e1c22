//! Where `verify` and e2fsck do not agree, and why: the table of docs/verify.md.

use tar2vhd::verify::FindingKind as F;

use crate::campaign::Verdicts;

/// A kind of disagreement that is known.
pub(crate) struct Explanation {
    /// What docs/verify.md calls it.
    pub(crate) name: &'static str,
    applies: fn(&Verdicts) -> bool,
}

/// Whether every finding is of one of these kinds, and e2fsck has none.
fn only(verdicts: &Verdicts, kinds: &[F]) -> bool {
    let mut found = verdicts.findings.iter().map(|finding| finding.kind);
    verdicts.e2fsck_is_content
        && !verdicts.findings.is_empty()
        && found.all(|kind| kinds.contains(&kind))
}

fn says(verdicts: &Verdicts, text: &str) -> bool {
    verdicts
        .findings
        .iter()
        .any(|finding| finding.message.contains(text))
}

pub(crate) const EXPLANATIONS: &[Explanation] = &[
    Explanation {
        name: "time-to-come",
        applies: |verdicts| {
            let mut lines = verdicts.e2fsck_says.lines();
            let questions = lines.clone().filter(|line| line.ends_with("? no")).count();
            let times = lines
                .clone()
                .filter(|line| line.ends_with("is in the future."));
            verdicts.is_clean
                && questions == times.count()
                && lines.any(|line| line.starts_with("Superblock last"))
        },
    },
    Explanation {
        name: "waits-for-replay",
        applies: |verdicts| verdicts.e2fsck_is_content && verdicts.verdict == "needs-replay",
    },
    Explanation {
        name: "unknown-feature",
        applies: |verdicts| verdicts.e2fsck_is_content && verdicts.verdict == "undecided",
    },
    Explanation {
        name: "recorded-errors",
        applies: |verdicts| only(verdicts, &[F::RecordedErrors]),
    },
    Explanation {
        name: "size-of-quotas",
        applies: |verdicts| {
            let says = &verdicts.e2fsck_says;
            let questions = says.lines().filter(|line| line.ends_with("? no"));
            verdicts.is_clean
                && questions.count() > 0
                && (says.lines().filter(|line| line.ends_with("? no")))
                    .all(|line| line.starts_with("Update quota info for quota type"))
        },
    },
    Explanation {
        name: "list-of-orphans",
        applies: |verdicts| only(verdicts, &[F::Orphan]),
    },
    Explanation {
        name: "number-without-feature",
        applies: |verdicts| {
            only(verdicts, &[F::Superblock, F::Journal])
                && verdicts.findings.iter().all(|finding| {
                    let message = &finding.message;
                    message.contains("the superblock names") && message.contains(", without the")
                        || message.contains("names a journal inside and one outside")
                })
        },
    },
    Explanation {
        name: "start-of-journal",
        applies: |verdicts| {
            only(verdicts, &[F::Journal]) && says(verdicts, "the journal starts at")
        },
    },
    Explanation {
        name: "depth-of-node",
        applies: |verdicts| {
            only(verdicts, &[F::BlockMap]) && says(verdicts, "an extent node is of depth")
        },
    },
    Explanation {
        name: "named-value",
        applies: |verdicts| {
            only(
                verdicts,
                &[
                    F::AttributeReferences,
                    F::AttributeHash,
                    F::AttributeInode,
                    F::Name,
                ],
            ) && says(verdicts, "leads to the value of an attribute")
        },
    },
    Explanation {
        name: "tree-of-quotas",
        applies: |verdicts| {
            only(verdicts, &[F::Quota])
                && says(verdicts, "the tree of quotas leads to")
                && says(verdicts, " twice")
        },
    },
    Explanation {
        name: "hash-of-value",
        applies: |verdicts| {
            only(verdicts, &[F::AttributeHash]) && says(verdicts, "the hash of the value")
        },
    },
    Explanation {
        name: "attribute-name",
        applies: |verdicts| {
            only(verdicts, &[F::Attribute, F::Inode, F::Acl])
                && says(verdicts, "is no name of an attribute")
        },
    },
    Explanation {
        name: "attribute-order",
        applies: |verdicts| only(verdicts, &[F::AttributeOrder]),
    },
    Explanation {
        name: "copy-of-superblock",
        applies: |verdicts| only(verdicts, &[F::BackupSuperblock]),
    },
    Explanation {
        name: "room-for-descriptors",
        applies: |verdicts| {
            only(verdicts, &[F::Inode])
                && says(verdicts, "the inode with room for descriptors has other")
        },
    },
    Explanation {
        name: "empty-inner-node",
        applies: |verdicts| {
            only(verdicts, &[F::BlockMap]) && says(verdicts, "an inner extent node is empty")
        },
    },
    Explanation {
        name: "inline-size",
        applies: |verdicts| only(verdicts, &[F::Size]) && says(verdicts, "which are inline"),
    },
    Explanation {
        name: "acl-and-mode",
        applies: |verdicts| only(verdicts, &[F::Acl]),
    },
    Explanation {
        name: "magic-of-quotas",
        applies: |verdicts| {
            only(verdicts, &[F::Quota]) && says(verdicts, "the quota file has the magic")
        },
    },
    Explanation {
        name: "bits-of-tables",
        applies: |verdicts| {
            only(verdicts, &[F::BlockBitmap, F::Checksum])
                && (verdicts.findings.iter()).all(|finding| {
                    finding.kind == F::BlockBitmap && finding.message.contains("marked as free")
                        || finding
                            .message
                            .contains("the checksum of the bitmap of blocks")
                })
                && says(verdicts, "marked as free")
        },
    },
    Explanation {
        name: "reserved-inode",
        applies: |verdicts| {
            let is_reserved = |ino: Option<u32>| ino.is_some_and(|ino| ino != 2 && ino < 11);
            only(
                verdicts,
                &[F::Inode, F::BlockMap, F::BlockCount, F::Attribute, F::Size],
            ) && (verdicts.findings.iter()).all(|finding| is_reserved(finding.place.inode))
        },
    },
];

/// Why the two do not agree of an image, if that is known.
pub(crate) fn explain(verdicts: &Verdicts) -> Option<&'static Explanation> {
    EXPLANATIONS.iter().find(|known| (known.applies)(verdicts))
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
