//! A streaming gzip decoder as fast as the format allows.
