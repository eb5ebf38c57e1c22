//! The command, as people and programs meet it.

#[cfg(test)]
mod atomic;
#[cfg(test)]
mod common;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod flags;
#[cfg(test)]
mod image;
#[cfg(test)]
mod json;
#[cfg(test)]
mod lower;
#[cfg(test)]
#[cfg(unix)]
mod paths;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod roothash;
#[cfg(test)]
mod runhcs;
#[cfg(test)]
mod scratch;
#[cfg(test)]
#[cfg(unix)]
mod signals;
#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "../suite/common/skip.rs"]
mod skip;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod verify;
