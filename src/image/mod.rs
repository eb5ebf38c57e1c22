//! Images on disk: which layers there are, and where.
//!
//! [`Images::open`] finds images in an OCI image layout, in what `docker save` writes and in
//! skopeo's `dir:`; [`Images::choose`] reads the documents of one of them. An [`Image`] opens its
//! layers as streams, which [`convert`](crate::convert) takes. Images that are kept elsewhere are
//! read through a [`Store`].
//!
//! Sources: OCI image specification 1.1; Docker image manifest version 2 schema 2; `docker save`
//! for archives with a manifest.json; containers-transports(5) for `dir:`. Of their JSON a few
//! fields are read, so that no crate for all of it is needed.

mod choice;
mod convert;
mod documents;
mod flatten;
mod images;
mod json;
mod media_type;
mod platform;
mod record;
mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod search;
mod store;

pub use convert::{ConvertedImage, ConvertedLayer, ImageEvent};
pub use images::{Image, Images, Layer};
pub use media_type::{MediaTypeError, layer_compression};
pub use platform::{ParsePlatformError, Platform};
pub use reference::{Reference, Transport};
pub use store::Store;
