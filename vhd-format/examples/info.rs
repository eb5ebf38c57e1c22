//! Tells what is in a disk file: `info disk.vhdx`.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::fs::File;

use vhd_format::{Disk, Error};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: info FILE")?;
    let disk = Disk::open(File::open(path)?)?;
    println!("{}, {} bytes", disk.format(), disk.virtual_size());
    match &disk {
        Disk::Vhd(vhd) => {
            let footer = vhd.footer();
            println!("{:?}, {:?}", footer.disk_type(), footer.geometry());
            let creator = footer.creator_application();
            println!("made by {:?}", String::from_utf8_lossy(&creator));
            if let Some(block_size) = vhd.block_size() {
                println!("blocks of {block_size} bytes");
            }
        }
        Disk::Vhdx(vhdx) => {
            let kind = if vhdx.is_fixed() { "fixed" } else { "dynamic" };
            println!(
                "{kind}, {} blocks of {} bytes",
                vhdx.blocks(),
                vhdx.block_size()
            );
            println!(
                "sectors of {} bytes, physically {}",
                vhdx.logical_sector_size(),
                vhdx.physical_sector_size()
            );
            println!("made by {:?}, {:?}", vhdx.creator(), vhdx.header());
            println!("{} log entries to replay", vhdx.replayed_entries());
        }
        _ => {}
    }
    if let Some(parent) = disk.parent() {
        println!("{parent:?}");
    }

    let (mut data, mut position) = (0, 0);
    // A disk without its parent cannot tell.
    while let Ok(Some(range)) = disk.next_data(position) {
        data += range.end - range.start;
        position = range.end;
    }
    println!("{data} bytes may hold data");
    disk.check(|finding: Error| println!("damaged: {finding}"))?;
    Ok(())
}
