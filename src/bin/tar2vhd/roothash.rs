//! `tar2vhd roothash`.

mod below;

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::image::{Image, Images, Layer};
use tar2vhd::lower::LowerProbe;
use tar2vhd::{Options, Profile, Summary, WarningKind};

use crate::args::{Roothash, verity};
use crate::convert::report;
use crate::failure::Failure;
use crate::input;
use crate::output;
use below::Below;

pub(crate) fn run(args: &Roothash) -> Result<(), Failure> {
    let options = options(args);
    for input in &args.inputs {
        let named = |e| Failure::reading(input, e);
        let images = match input == Path::new("-") {
            true => None,
            false => Images::open(input).map_err(named)?,
        };
        let hashed = match images {
            None => Hashed {
                tag: None,
                platform: None,
                in_image: false,
                layers: vec![hash(input::open(input)?.reader, input, &options, args)?],
            },
            Some(images) => {
                let (tag, platform) = (args.tag.as_deref(), args.platform.as_ref());
                let image = images.choose(tag, platform).map_err(named)?;
                layers(&image, input, &options, args)?
            }
        };
        print(input, &hashed, args)?;
    }
    Ok(())
}

fn options(args: &Roothash) -> Options {
    Options::new()
        .profile(args.profile)
        .faithful(args.faithful)
        .whiteouts(!args.no_whiteouts)
        .max_size(args.max_size)
        .inline_data(args.inline_data)
        .threads(args.threads)
        .verity(verity(args.verity_salt.as_ref(), None))
}

/// The root hashes of an input's layers, and which image that is.
struct Hashed {
    tag: Option<String>,
    platform: Option<String>,
    in_image: bool,
    layers: Vec<Summary>,
}

fn hash(
    layer: impl Read,
    input: &Path,
    options: &Options,
    args: &Roothash,
) -> Result<Summary, Failure> {
    tell(tar2vhd::root_hash(layer, options), input, args)
}

/// Prints the warnings of what was hashed.
fn tell(
    summary: tar2vhd::Result<Summary>,
    input: &Path,
    args: &Roothash,
) -> Result<Summary, Failure> {
    let summary = summary.map_err(|error| Failure::reading(input, error))?;
    // As a layer it has no root hash that anybody asks for.
    let is_archive = |kind| kind == WarningKind::ImageArchive;
    if summary
        .warnings
        .iter()
        .any(|warning| is_archive(warning.kind))
    {
        return Err(Failure::error(format!(
            "{}: this is an archive of images in a form that is not read: it has to be a plain \
            tar in a file, with the manifest of an OCI layout or of `docker save`; decompress it \
            first if it is compressed",
            tar2vhd::display_file(input)
        )));
    }
    if !args.quiet && !args.json {
        report::warnings(&summary.warnings);
    }
    Ok(summary)
}

fn layers(
    image: &Image,
    input: &Path,
    options: &Options,
    args: &Roothash,
) -> Result<Hashed, Failure> {
    let mut layers = Vec::new();
    let read = |layer: &Layer| {
        image
            .open_layer(layer)
            .map_err(|e| Failure::reading(input, e))
    };
    let mut below = Below::new(options, image.layers());
    for (number, layer) in image.layers().iter().enumerate() {
        let mut options = layer.options(options);
        if number > 0 && args.profile != Profile::Hcsshim {
            // Few layers depend on those below; which do shows when they ask.
            let asked = LowerProbe::new();
            let alone = options.clone().lower_layers(asked.clone());
            let summary = tar2vhd::root_hash(read(layer)?, &alone);
            if !asked.was_asked() {
                layers.push(tell(summary, input, args)?);
                continue;
            }
            options = options.lower_layers(below.disks(number, read)?);
        }
        layers.push(hash(read(layer)?, input, &options, args)?);
    }
    Ok(Hashed {
        tag: image.name().map(str::to_owned),
        platform: image.platform().map(|platform| platform.to_string()),
        in_image: true,
        layers,
    })
}

fn print(input: &Path, hashed: &Hashed, args: &Roothash) -> Result<(), Failure> {
    if args.json {
        let layers: Vec<Value> = hashed.layers.iter().map(json_of).collect();
        let object = json!({
            "path": tar2vhd::escape_file(input),
            "tag": hashed.tag,
            "platform": hashed.platform,
            "layers": layers,
        });
        return output::stdout(format!("{object}\n").as_bytes());
    }
    let mut text = String::new();
    for layer in &hashed.layers {
        let root_hash = layer
            .verity
            .as_ref()
            .map(|verity| verity.root_hash.to_hex());
        text += &format!(
            "{}  {}",
            root_hash.unwrap_or_default(),
            tar2vhd::escape_file(input)
        );
        if hashed.in_image {
            text += &format!(" {}", layer.layer.digest);
        }
        text.push('\n');
    }
    output::stdout(text.as_bytes())
}

/// A layer, by the keys that the summary of a conversion has.
fn json_of(summary: &Summary) -> Value {
    let mut whole = json!(summary);
    let mut object = json!({
        "diffId": whole["diffId"].take(),
        "compressed": whole["compressed"].take(),
    });
    if let (Value::Object(object), Value::Object(verity)) = (&mut object, whole["verity"].take()) {
        object.extend(verity);
    }
    object["warnings"] = whole["warnings"].take();
    object
}
