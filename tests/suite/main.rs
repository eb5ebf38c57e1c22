//! The tests of the whole: layers in, file systems out, judged by others than ourselves.
//!
//! One program, because each links everything anew. The modules are configured for tests by
//! name so that the lints know that failing loudly is their job.

#[cfg(test)]
mod acls;
#[cfg(test)]
mod common;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flatten;
#[cfg(test)]
mod formats;
#[cfg(all(test, target_os = "linux"))]
mod giants;
#[cfg(test)]
mod hcsshim;
#[cfg(test)]
mod inspect;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod media;
#[cfg(test)]
mod names;
#[cfg(test)]
mod not_layers;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reproducible;
#[cfg(test)]
mod scratch;
#[cfg(test)]
mod semantics_entries;
#[cfg(test)]
mod semantics_hard_links;
#[cfg(test)]
mod semantics_lower;
#[cfg(test)]
mod semantics_metadata;
#[cfg(test)]
mod semantics_paths;
#[cfg(test)]
mod semantics_records;
#[cfg(test)]
mod semantics_whiteouts;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod verity;
#[cfg(test)]
mod virtual_disk;
