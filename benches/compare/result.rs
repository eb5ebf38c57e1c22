//! Results of a benchmark, whose errors end it.

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
