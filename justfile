# What is done every day; `just` lists it. CI is .ci/run.

_default:
    @just --list

# Format, lint, document.
check:
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# The tests; what a missing tool skips is listed at the end. Some need root on Linux.
test *ARGS:
    cargo test --workspace {{ ARGS }}

# Fetch containerd for the tests of the plugin; Debian.
containerd:
    .ci/containerd

# Fetch a registry for the tests of registries; Debian.
registry:
    .ci/registry

# The tests with large images; minutes and some gigabytes of disk.
giants:
    TAR2VHD_GIANTS=1 cargo test --test suite giants

# Time conversions of generated layers and scratch disks, or those whose name contains FILTER.
bench FILTER="":
    cargo bench --bench convert --bench scratch -- {{ FILTER }}

# Time tar2vhd beside every other converter on PATH; --help lists the options.
compare *ARGS:
    cargo bench --bench compare -- {{ ARGS }}

# Count instructions, and compare with what is kept; --update keeps them (needs valgrind).
instructions *ARGS:
    cargo bench --bench instructions -- {{ ARGS }}

# Check what the benches time, once, without timing it.
bench-check:
    cargo bench --bench convert --bench scratch -- --test
    cargo bench --bench compare -- --rounds 1 --scale 0.01

# Change FLIPS bytes of metadata one at a time, and hold verify against e2fsck; docs/verify.md.
flips FLIPS="5000" SEED="1":
    TAR2VHD_FLIPS={{ FLIPS }} TAR2VHD_FLIPS_SEED={{ SEED }} cargo test --test flips -- --nocapture campaign

# Fuzz TARGET, one of fuzz/fuzz_targets or all, for SECONDS each.
fuzz TARGET="all" SECONDS="60":
    fuzz/run {{ TARGET }} {{ SECONDS }}

# Build for Windows; Debian, root.
windows:
    .ci/windows

# Licences, sources and duplicates of the dependencies (needs cargo-deny).
deny:
    cargo deny --all-features check licenses bans sources

# All that CI does.
ci:
    .ci/run
