//! How much memory the command takes at most, held against what README.md says.
//!
//! A program of its own: the system tells only the most that any child of a process took.

#[cfg(test)]
#[cfg(target_os = "linux")]
mod hard_links;
