//! `tar2vhd image convert`.

use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::{Value, json};
use tar2vhd::image::{ConvertedLayer, Image, ImageEvent};
use tar2vhd::{CancelToken, DiskFormat, Options};

use super::source::{check, image_json, open, options};
use crate::args::image::ConvertImage;
use crate::convert::report;
use crate::failure::Failure;
use crate::output::{self, human};
use crate::progress::layers::LayersDisplay;
use crate::signals::Signals;

pub(crate) fn run(args: ConvertImage) -> Result<(), Failure> {
    check(&args.disk)?;
    let format = args.disk.format.unwrap_or(DiskFormat::Vhd);
    let options = options(&args.disk)?
        .format(format)
        .profile(args.profile)
        .faithful(args.faithful);
    let signals = Signals::catch()?;
    let cancel = CancelToken::new();
    let options = options.cancel(cancel.clone());
    let token = cancel.clone();
    signals.supervise(&cancel, &[], move || work(&options, &args, &token))
}

fn work(options: &Options, args: &ConvertImage, cancel: &CancelToken) -> Result<(), Failure> {
    let opened = open(&args.source, cancel)?;
    let image = &opened.image;
    let display = LayersDisplay::new(args.disk.progress, args.disk.quiet, &labels(image));
    // A line that cannot be printed becomes the error of the command.
    let unprinted: Mutex<Option<Failure>> = Mutex::new(None);
    let events = |event: ImageEvent<'_>| {
        display.show(&event);
        let ImageEvent::Done { layer, converted } = event else {
            return;
        };
        if args.disk.json {
            let object = layer_json(layer, converted);
            if let Err(failure) = output::stdout(format!("{object}\n").as_bytes()) {
                let mut first = unprinted.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(failure);
            }
        } else if !args.disk.quiet {
            display.suspend(|| tell(layer, converted));
        }
    };
    let converted = image.convert(&args.output, options, &events);
    display.clear();
    let converted =
        converted.map_err(|error| Failure::copying(&opened.path, &args.output, error))?;
    if let Some(failure) = unprinted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(failure);
    }
    if args.disk.json {
        let mut object = json!({ "image": image_json(image, &opened.path) });
        object["document"] = tar2vhd::escape_file(&converted.path).into();
        object["layers"] = converted.document["layers"].clone();
        object["configuration"] = image.configuration().clone();
        output::stdout(format!("{object}\n").as_bytes())?;
    } else if !args.disk.quiet {
        let reused = converted
            .layers
            .iter()
            .filter(|layer| layer.summary.is_none());
        output::stderr(format_args!(
            "{}: {} layers, {} of them there already",
            tar2vhd::display_file(&converted.path),
            converted.layers.len(),
            reused.count(),
        ));
    }
    Ok(())
}

/// A name for each layer, and its bytes.
fn labels(image: &Image) -> Vec<(String, Option<u64>)> {
    let label = |layer: &tar2vhd::image::Layer| {
        let hex = layer.diff_id.to_hex();
        (hex.chars().take(12).collect(), layer.size)
    };
    image.layers().iter().map(label).collect()
}

fn layer_json(number: usize, layer: &ConvertedLayer) -> Value {
    let mut object = layer.record.clone();
    object["layer"] = number.into();
    object["path"] = tar2vhd::escape_file(&layer.path).into();
    object["reused"] = layer.summary.is_none().into();
    let summary = layer.summary.as_ref();
    object["entries"] = json!(summary.map(|summary| &summary.entries));
    object["warnings"] = json!(summary.map(|summary| &summary.warnings));
    object
}

/// A line for each layer on standard error, and its warnings.
fn tell(number: usize, layer: &ConvertedLayer) {
    let path = tar2vhd::display_file(&layer.path);
    match &layer.summary {
        None => output::stderr(format_args!(
            "layer {}: {path} is there already",
            number + 1
        )),
        Some(summary) => {
            output::stderr(format_args!(
                "layer {}: {path}: {}",
                number + 1,
                human(summary.disk.size)
            ));
            report::warnings(&summary.warnings);
        }
    }
}
