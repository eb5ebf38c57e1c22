//! Progress where there is no terminal, and the style of bars where there is one.

use std::time::{Duration, Instant};

use indicatif::ProgressStyle;

use crate::output::{self, human};

/// A line now and then.
pub(crate) struct Lines {
    pub(super) start: Instant,
    pub(super) last: Option<Instant>,
    pub(super) total: Option<u64>,
    pub(super) entries: Option<u64>,
}

impl Lines {
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn show(&mut self, bytes: u64) {
        let now = Instant::now();
        if self
            .last
            .is_some_and(|last| now.duration_since(last) < Self::INTERVAL)
        {
            return;
        }
        self.last = Some(now);
        let seconds = now.duration_since(self.start).as_secs_f64().max(1e-3);
        let done = human(bytes);
        let rate = human((bytes as f64 / seconds) as u64);
        let of = self.total.map(|total| format!(" of {}", human(total)));
        let entries = self.entries.map(|entries| format!(", {entries} entries"));
        let (of, entries) = (of.unwrap_or_default(), entries.unwrap_or_default());
        output::stderr(format_args!("{done}{of}, {rate}/s{entries}"));
    }
}

pub(super) fn style_of(template: &str) -> ProgressStyle {
    // The tests show that all are valid.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
