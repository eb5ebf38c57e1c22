//! The records that stand beside the disks of layers, and the document of an image.
//!
//! A record says which options shaped the bytes of a disk, so that a later run can tell whether the
//! disk is the one that it would make.

use serde_json::{Map, Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::identity;
use crate::options::Options;
use crate::summary::{Digest, Summary};

/// The form of records and documents.
const VERSION: u64 = 1;

/// The options that shape the bytes of a disk, and the layout that is written.
pub(super) fn options_json(options: &Options) -> Value {
    let shaping = identity::shaping(options);
    let shaping = shaping
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()));
    let mut object: Map<String, Value> = shaping.collect();
    object.insert("layoutVersion".into(), identity::LAYOUT_VERSION.into());
    Value::Object(object)
}

/// The record of a disk.
pub(super) fn of_disk(summary: &Summary, chain_id: Option<Digest>, options: &Value) -> Value {
    json!({
        "version": VERSION,
        "diffId": summary.layer.digest,
        "chainId": chain_id,
        "dependsOnLower": chain_id.is_some(),
        "options": options,
        "size": summary.layer.size,
        "compressed": json!(summary)["compressed"],
        "disk": summary.disk,
        "verity": summary.verity,
    })
}

/// The record of a layer whose disk is shaped by those below, and has another name.
pub(super) fn of_dependent(diff_id: Digest, options: &Value) -> Value {
    json!({
        "version": VERSION,
        "diffId": diff_id,
        "dependsOnLower": true,
        "options": options,
    })
}

/// Whether a record says that the layers below shape the disk of the layer.
pub(super) fn is_dependent(record: &Value) -> bool {
    record["dependsOnLower"] == true
}

/// Refuses a record of other options, and names the difference.
pub(super) fn check(record: &Value, options: &Value) -> Result<()> {
    if record["version"] != VERSION {
        return Err(mismatch("its record has another form".into()));
    }
    let empty = Map::new();
    let (there, asked) = (
        record["options"].as_object().unwrap_or(&empty),
        options.as_object().unwrap_or(&empty),
    );
    let names = asked.keys().chain(there.keys());
    let other = names
        .into_iter()
        .find(|name| asked.get(*name) != there.get(*name));
    match other {
        None => Ok(()),
        Some(name) => {
            let shown = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            Err(mismatch(format!(
                "it was made with other options: {name} was {}, and is {}",
                shown(there.get(name)),
                shown(asked.get(name)),
            )))
        }
    }
}

fn mismatch(message: String) -> Error {
    Error::new(
        ErrorKind::Mismatch,
        format!("a disk is there already, and {message}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_other_options_is_refused_by_name() {
        let one = options_json(&Options::new());
        let other = options_json(&Options::new().inline_data(true));
        let record = of_dependent(Digest([1; 32]), &one);
        check(&record, &one).unwrap();
        let error = check(&record, &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert!(
            error
                .to_string()
                .contains(r#"inlineData was "false", and is "true""#),
            "{error}"
        );
    }
}
