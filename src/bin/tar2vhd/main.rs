//! The `tar2vhd` command.
fn main() {}
