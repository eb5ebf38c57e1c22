//! How far a conversion has come, on standard error.

pub(crate) mod layers;
mod lines;
mod terminal;

use std::fmt::Write;
use std::io::{self, IsTerminal, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use tar2vhd::Progress;

use crate::args::When;
use lines::{Lines, style_of};
use terminal::Narrowed;

const SPINNER: &str = "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {entries} entries";
const DISK_BAR: &str =
    "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
const BAR: &str = "{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, \
    {entries} entries, {eta} left";

/// Shows progress, or not. Clones show the same.
#[derive(Clone)]
pub(crate) enum Display {
    Nothing,
    /// On a terminal.
    Bar {
        bar: ProgressBar,
        entries: Arc<AtomicU64>,
    },
    /// Elsewhere: a line now and then.
    Lines(Arc<Mutex<Lines>>),
}

impl Display {
    pub(crate) fn new(when: When, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        match (when, terminal) {
            _ if quiet => Self::Nothing,
            (When::Never, _) | (When::Auto, false) => Self::Nothing,
            (_, true) => Self::bar(),
            (When::Always, false) => Self::Lines(Arc::new(Mutex::new(Lines {
                start: Instant::now(),
                last: None,
                total: None,
                entries: Some(0),
            }))),
        }
    }

    fn bar() -> Self {
        // As often as indicatif draws by itself.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Narrowed::stderr()), 20);
        let bar = ProgressBar::with_draw_target(None, target);
        let entries = Arc::new(AtomicU64::new(0));
        bar.set_style(style(SPINNER, &entries));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self::Bar { bar, entries }
    }

    /// Says how many bytes there will be.
    pub(crate) fn set_total(&self, bytes: u64) {
        match self {
            Self::Nothing => {}
            Self::Bar { bar, entries } => {
                bar.set_style(style(BAR, entries));
                bar.set_length(bytes);
            }
            Self::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).total = Some(bytes);
            }
        }
    }

    /// Says how many bytes a disk has that is read.
    pub(crate) fn set_disk_total(&self, bytes: u64) {
        self.set_total(bytes);
        match self {
            Self::Nothing => {}
            Self::Bar { bar, entries } => bar.set_style(style(DISK_BAR, entries)),
            Self::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).entries = None;
            }
        }
    }

    /// Shows how much of a disk is done.
    pub(crate) fn show_bytes(&self, bytes: u64) {
        match self {
            Self::Nothing => {}
            Self::Bar { bar, .. } => bar.set_position(bytes),
            Self::Lines(lines) => lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .show(bytes),
        }
    }

    /// Counts the entries of a layer; [`counting`](Self::counting) counts its bytes.
    pub(crate) fn show_entries(&self, progress: Progress) {
        match self {
            Self::Nothing => {}
            Self::Bar { entries, .. } => entries.store(progress.entries, Ordering::Relaxed),
            Self::Lines(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.entries = Some(progress.entries);
            }
        }
    }

    /// Shows what is read from `input`, from the first byte on.
    pub(crate) fn counting<R: Read>(&self, input: R) -> Counting<R> {
        Counting {
            input,
            bytes: 0,
            display: self.clone(),
        }
    }

    /// Makes room for what is printed next.
    pub(crate) fn clear(&self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

/// Input whose progress is shown.
pub(crate) struct Counting<R> {
    input: R,
    bytes: u64,
    display: Display,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buffer)?;
        self.bytes += len as u64;
        self.display.show_bytes(self.bytes);
        Ok(len)
    }
}

fn style(template: &str, entries: &Arc<AtomicU64>) -> ProgressStyle {
    let entries = Arc::clone(entries);
    style_of(template).with_key("entries", move |_: &ProgressState, text: &mut dyn Write| {
        let _ = write!(text, "{}", entries.load(Ordering::Relaxed));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        for template in [SPINNER, BAR, DISK_BAR] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
