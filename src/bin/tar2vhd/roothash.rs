//! `tar2vhd roothash`.

mod image;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::{Digest, Options, Summary, Verity, VeritySummary};

use crate::Failure;
use crate::args::{Roothash, Salt};
use crate::output::{self, escape, hex};
use image::Image;

pub(crate) fn run(args: &Roothash) -> Result<(), Failure> {
    let options = options(args);
    for input in &args.inputs {
        let image = match input == Path::new("-") {
            true => None,
            false => Image::open(input)?,
        };
        let hashed = match image {
            None => {
                let layer: Box<dyn Read> = match input == Path::new("-") {
                    true => Box::new(io::stdin().lock()),
                    false => Box::new(File::open(input).map_err(|e| {
                        Failure::error(format!("cannot open {}: {e}", input.display()))
                    })?),
                };
                vec![hash(layer, input, &options, args)?]
            }
            Some(image) => layers(&image, input, &options, args)?,
        };
        print(input, &hashed, args)?;
    }
    Ok(())
}

fn options(args: &Roothash) -> Options {
    let mut verity = Verity::new();
    if let Some(Salt(salt)) = &args.verity_salt {
        verity = verity.salt(salt.as_slice());
    }
    Options::new()
        .profile(args.profile.into())
        .faithful(args.faithful)
        .whiteouts(!args.no_whiteouts)
        .max_size(args.max_size)
        .inline_data(args.inline_data)
        .threads(args.threads)
        .verity(verity)
}

/// The root hash of a layer, and which layer that is.
struct Hashed {
    diff_id: Digest,
    verity: VeritySummary,
    /// Of an image: the blob's digest, where that is told.
    digest: Option<Digest>,
    /// A part of an image.
    in_image: bool,
}

fn hash(
    layer: impl Read,
    input: &Path,
    options: &Options,
    args: &Roothash,
) -> Result<Hashed, Failure> {
    let Summary {
        layer,
        verity,
        warnings,
        ..
    } = tar2vhd::root_hash(layer, options).map_err(|error| Failure::reading(input, error))?;
    if !args.quiet && !args.json {
        for warning in &warnings {
            output::stderr(format_args!("tar2vhd: warning: {warning}"));
        }
    }
    let verity = verity.ok_or_else(|| Failure::error("a hash tree was not made"))?;
    Ok(Hashed {
        diff_id: layer.digest,
        verity,
        digest: None,
        in_image: false,
    })
}

fn layers(
    image: &Image,
    input: &Path,
    options: &Options,
    args: &Roothash,
) -> Result<Vec<Hashed>, Failure> {
    let mut hashed = Vec::new();
    for layer in image.layers(args.platform.as_ref())? {
        let mut options = options.clone();
        if let Some(compression) = layer.compression {
            options = options.compression(compression);
        }
        if let Some(digest) = layer.digest {
            options = options.expect_digest(digest);
        }
        if let Some(size) = layer.size {
            options = options.expect_size(size);
        }
        if let Some(diff_id) = layer.diff_id {
            options = options.expect_diff_id(diff_id);
        }
        let result = hash(image.read(&layer)?, input, &options, args)?;
        hashed.push(Hashed {
            digest: layer.digest,
            in_image: true,
            ..result
        });
    }
    Ok(hashed)
}

fn print(input: &Path, hashed: &[Hashed], args: &Roothash) -> Result<(), Failure> {
    let shown = |path: &Path| {
        path.to_str().map_or_else(
            || escape(path.as_os_str().as_encoded_bytes()),
            str::to_owned,
        )
    };
    if args.json {
        let layers: Vec<Value> = hashed.iter().map(json_of).collect();
        let object = json!({ "input": shown(input), "layers": layers });
        return output::stdout(format!("{object}\n").as_bytes());
    }
    let mut text = String::new();
    for layer in hashed {
        text += &format!("{}  {}", hex(&layer.verity.root_hash.0), shown(input));
        if layer.in_image {
            text += &format!(" {}", layer.diff_id);
        }
        text.push('\n');
    }
    output::stdout(text.as_bytes())
}

fn json_of(layer: &Hashed) -> Value {
    let mut object = json!({
        "diffId": layer.diff_id.to_string(),
        "rootHash": hex(&layer.verity.root_hash.0),
        "hashOffset": layer.verity.hash_offset,
        "salt": hex(&layer.verity.salt),
        "dataBlocks": layer.verity.data_blocks,
    });
    if let Some(digest) = layer.digest {
        object["digest"] = digest.to_string().into();
    }
    object
}
