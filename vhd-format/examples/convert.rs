//! Copies any disk into a dynamic VHDX and leaves out what is zero: `convert FROM TO`.

use std::fs::File;

use vhd_format::Disk;
use vhd_format::vhdx::{Parameters, Vhdx};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (paths.next(), paths.next()) else {
        return Err("usage: convert FROM TO".into());
    };
    let from = Disk::open(File::open(from)?)?;
    let mut options = File::options();
    let to = options.read(true).write(true).create_new(true).open(to)?;
    let parameters = Parameters::new(from.virtual_size()).block_size(1 << 20);
    let mut to = Vhdx::create(to, &parameters)?;

    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    while let Some(data) = from.next_data(position)? {
        position = data.start;
        while position < data.end {
            // Up to the end of the block, so that a block of zeros is written at once.
            let block_end = (position + 1).next_multiple_of(1 << 20);
            let part = &mut buffer[..(block_end.min(data.end) - position) as usize];
            from.read_at(position, part)?;
            to.write_at(position, part)?;
            position += part.len() as u64;
        }
    }
    to.close()?;
    Ok(())
}
