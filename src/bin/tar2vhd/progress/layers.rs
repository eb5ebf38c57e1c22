//! Progress of several layers at once: a line for each that is under way, and one for all.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use tar2vhd::image::ImageEvent;

use super::lines::{Lines, style_of};
use super::terminal::Narrowed;
use crate::args::When;

const LAYER: &str = "{prefix} {wide_bar} {binary_bytes} of {binary_total_bytes}, \
    {binary_bytes_per_sec}";
const LAYER_OF_UNKNOWN_SIZE: &str = "{prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}";
const TOTAL: &str = "{prefix} {wide_bar} {binary_bytes} of {binary_total_bytes}, \
    {binary_bytes_per_sec}, {eta} left";
const TOTAL_OF_UNKNOWN_SIZE: &str = "{prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}";

/// Shows progress, or not.
pub(crate) struct LayersDisplay {
    kind: Kind,
    layers: Mutex<Layers>,
}

enum Kind {
    Nothing,
    /// On a terminal.
    Bars {
        all: MultiProgress,
        total: ProgressBar,
    },
    /// Elsewhere: a line now and then.
    Lines(Mutex<Lines>),
}

struct Layers {
    labels: Vec<(String, Option<u64>)>,
    /// Bytes read of each layer.
    bytes: Vec<u64>,
    bars: Vec<Option<ProgressBar>>,
}

impl LayersDisplay {
    /// For layers of these names and sizes.
    pub(crate) fn new(when: When, quiet: bool, labels: &[(String, Option<u64>)]) -> Self {
        let total: Option<u64> = labels.iter().map(|(_, size)| *size).sum();
        let kind = match (when, io::stderr().is_terminal()) {
            _ if quiet => Kind::Nothing,
            (When::Never, _) | (When::Auto, false) => Kind::Nothing,
            (_, true) => {
                let target =
                    ProgressDrawTarget::term_like_with_hz(Box::new(Narrowed::stderr()), 20);
                let all = MultiProgress::with_draw_target(target);
                let bar = all.add(bar(total, TOTAL, TOTAL_OF_UNKNOWN_SIZE));
                bar.set_prefix(format!("{} layers", labels.len()));
                bar.enable_steady_tick(Duration::from_millis(200));
                Kind::Bars { all, total: bar }
            }
            (When::Always, false) => Kind::Lines(Mutex::new(Lines {
                start: Instant::now(),
                last: None,
                total,
                entries: None,
            })),
        };
        Self {
            kind,
            layers: Mutex::new(Layers {
                labels: labels.to_vec(),
                bytes: vec![0; labels.len()],
                bars: labels.iter().map(|_| None).collect(),
            }),
        }
    }

    pub(crate) fn show(&self, event: &ImageEvent<'_>) {
        let mut layers = self.layers();
        match event {
            ImageEvent::Begun { layer } => {
                if let Kind::Bars { all, total } = &self.kind {
                    let (label, size) = &layers.labels[*layer];
                    let bar = bar(*size, LAYER, LAYER_OF_UNKNOWN_SIZE);
                    bar.set_prefix(label.clone());
                    layers.bars[*layer] = Some(all.insert_before(total, bar));
                }
            }
            ImageEvent::Progress { layer, progress } => {
                layers.bytes[*layer] = progress.input_bytes;
                if let Some(bar) = &layers.bars[*layer] {
                    bar.set_position(progress.input_bytes);
                }
                self.show_total(&layers);
            }
            ImageEvent::Postponed { layer } => {
                layers.bytes[*layer] = 0;
                self.end_bar(&mut layers, *layer);
            }
            ImageEvent::Done { layer, .. } => {
                if let (_, Some(size)) = layers.labels[*layer] {
                    layers.bytes[*layer] = size;
                }
                self.end_bar(&mut layers, *layer);
                self.show_total(&layers);
            }
            _ => {}
        }
    }

    fn show_total(&self, layers: &Layers) {
        let bytes = layers.bytes.iter().sum();
        match &self.kind {
            Kind::Nothing => {}
            Kind::Bars { total, .. } => total.set_position(bytes),
            Kind::Lines(lines) => lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .show(bytes),
        }
    }

    fn end_bar(&self, layers: &mut Layers, layer: usize) {
        if let (Some(bar), Kind::Bars { all, .. }) = (layers.bars[layer].take(), &self.kind) {
            bar.finish_and_clear();
            all.remove(&bar);
        }
    }

    /// Prints lines above the bars.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.kind {
            Kind::Bars { all, .. } => all.suspend(print),
            _ => print(),
        }
    }

    /// Makes room for what is printed next.
    pub(crate) fn clear(&self) {
        if let Kind::Bars { all, total } = &self.kind {
            total.finish_and_clear();
            // A terminal that fails keeps the bars.
            let _ = all.clear();
        }
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bar(size: Option<u64>, known: &str, unknown: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
    let template = if size.is_some() { known } else { unknown };
    bar.with_style(style_of(template))
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [LAYER, LAYER_OF_UNKNOWN_SIZE, TOTAL, TOTAL_OF_UNKNOWN_SIZE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
