//! Against zlib: the same bytes and the same verdict on every input, however it is cut.

#[cfg(test)]
mod blocks;
#[cfg(test)]
mod chosen;
#[cfg(test)]
mod decoders;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod writer;
