//! `tar2vhd image`.

mod convert;
mod flatten;
mod source;

use crate::args::image::{Image, ImageCommand};
use crate::failure::Failure;

pub(crate) fn run(args: Image) -> Result<(), Failure> {
    match args.command {
        ImageCommand::Convert(args) => convert::run(*args),
        ImageCommand::Flatten(args) => flatten::run(*args),
    }
}
