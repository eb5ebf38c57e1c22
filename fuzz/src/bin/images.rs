//! Converts the inputs in a folder and writes the images of those that convert to another,
//! raw, for `e2fsck`.
// The coverage that everything here is compiled with calls into it.
use libfuzzer_sys as _;

use std::error::Error;
use std::fs;
use std::path::Path;

use tar2vhd_fuzz::convert::Choice;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: images CORPUS FOLDER";
    let (corpus, folder) = (
        arguments.next().ok_or(usage)?,
        arguments.next().ok_or(usage)?,
    );
    fs::create_dir_all(&folder)?;
    for input in fs::read_dir(corpus)? {
        let input = input?;
        let data = fs::read(input.path())?;
        if let Some((choice, layer)) = Choice::split(&data)
            && let Ok((image, _)) = choice.convert(layer, 1)
        {
            fs::write(Path::new(&folder).join(input.file_name()), image)?;
        }
    }
    Ok(())
}
