//! Any bytes as the JSON of an image: an index, manifests and configurations that lead to each
//! other.

use std::collections::HashMap;
use std::io::{self, Cursor, ErrorKind, Read};

use sha2::{Digest as _, Sha256};
use tar2vhd::image::{Images, Platform, Store};

/// Documents by every name under which they may be looked for.
struct Memory(HashMap<String, Vec<u8>>);

impl Store for Memory {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let found = self.0.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(found.clone())))
    }
}

/// More documents have no numbers of one digit.
const DOCUMENTS_MAX: usize = 10;

/// Reads the image that the documents make, which NULs part. `@N` stands for the digest of the
/// N-th one, so that what a fuzzer changes keeps its digest. The first byte says what the first
/// document is, and what is asked for.
pub fn exercise(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let (tag, platform) = (choice & 4 != 0, choice & 8 != 0);
    let tag = tag.then_some("1");
    let platform: Option<Platform> = platform.then(|| "linux/arm64".parse().unwrap());
    let once = read(*choice, text, tag, platform.as_ref());
    assert_eq!(once, read(*choice, text, tag, platform.as_ref()));
    if let Err(message) = once {
        assert!(
            !message.is_empty() && !message.contains(char::is_control),
            "{message:?}"
        );
    }
}

/// The image's tag, platform and layers.
type Told = (Option<String>, Option<String>, usize);

fn read(
    choice: u8,
    text: &[u8],
    tag: Option<&str>,
    platform: Option<&Platform>,
) -> Result<Told, String> {
    let told = |error: tar2vhd::Error| format!("{error:#}");
    let Some(images) = Images::from_store(store(choice, text)).map_err(told)? else {
        return Err("no image".to_owned());
    };
    let image = images.choose(tag, platform).map_err(told)?;
    assert!(!image.layers().is_empty());
    let shown = image.platform().map(|platform| platform.to_string());
    assert!(
        shown
            .as_ref()
            .is_none_or(|shown| !shown.starts_with("windows/"))
    );
    for layer in image.layers() {
        // It need not be there.
        let _ = image.open_layer(layer);
    }
    let name = image.name().map(str::to_owned);
    Ok((name, shown, image.layers().len()))
}

fn store(choice: u8, text: &[u8]) -> Memory {
    let documents: Vec<_> = text.split(|byte| *byte == 0).take(DOCUMENTS_MAX).collect();
    let mut digests = vec![String::new(); documents.len()];
    let mut files = HashMap::new();
    // Each can lead to those behind it alone, as digests have it.
    for (number, document) in documents.iter().enumerate().rev() {
        let document = filled_in(document, &digests);
        let digest: String = Sha256::digest(&document)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        for name in [
            format!("blobs/sha256/{digest}"),
            format!("{digest}.manifest.json"),
            digest.clone(),
            format!("{number}.json"),
        ] {
            files.insert(name, document.clone());
        }
        if number == 0 {
            let name = match choice & 1 {
                0 => "index.json",
                _ => "manifest.json",
            };
            files.insert(name.to_owned(), document);
        }
        digests[number] = digest;
    }
    if choice & 2 != 0 {
        files.insert("oci-layout".to_owned(), b"{}".to_vec());
    }
    Memory(files)
}

/// A document with the digests that it stands for.
fn filled_in(document: &[u8], digests: &[String]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(document.len());
    let mut rest = document;
    while let Some((first, others)) = rest.split_first() {
        rest = others;
        let number = match (first, others.first()) {
            (b'@', Some(digit @ b'0'..=b'9')) => Some(usize::from(digit - b'0')),
            _ => None,
        };
        match number.and_then(|number| digests.get(number)) {
            Some(digest) if !digest.is_empty() => {
                filled.extend_from_slice(b"sha256:");
                filled.extend_from_slice(digest.as_bytes());
                rest = &others[1..];
            }
            _ => filled.push(*first),
        }
    }
    filled
}

/// Images to start from, of every form.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    const LAYER: &str =
        r#"{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"@0","size":3}"#;
    let diff_id = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let configuration = |os: &str| {
        format!(r#"{{"os":"{os}","architecture":"arm64","rootfs":{{"diff_ids":["{diff_id}"]}}}}"#)
    };
    let layer = |number: u8| LAYER.replace('0', &number.to_string());
    let manifest = |configuration: u8, blob: u8| {
        format!(
            r#"{{"config":{{"digest":"@{configuration}"}},"layers":[{}]}}"#,
            layer(blob)
        )
    };
    let index = |descriptors: &[&str]| format!(r#"{{"manifests":[{}]}}"#, descriptors.join(","));
    let named = r#"{"digest":"@1","annotations":{"org.opencontainers.image.ref.name":"a:1"}}"#;
    let other =
        r#"{"digest":"@2","platform":{"os":"linux","architecture":"arm64","variant":"v8"}}"#;
    let docker = r#"[{"Config":"1.json","RepoTags":["a:1"],"Layers":["2.json"]}]"#;
    let all = |choice: u8, documents: &[&str]| {
        let mut seed = vec![choice];
        seed.extend_from_slice(documents.join("\0").as_bytes());
        seed
    };
    let (linux, windows) = (configuration("linux"), configuration("windows"));
    vec![
        (
            "layout",
            all(2, &[&index(&[named]), &manifest(2, 3), &linux, "blob"]),
        ),
        (
            "tagged",
            all(
                6,
                &[
                    &index(&[named, other]),
                    &manifest(3, 4),
                    &manifest(3, 4),
                    &linux,
                    "b",
                ],
            ),
        ),
        (
            "platform",
            all(
                10,
                &[
                    &index(&[other, named]),
                    &manifest(3, 4),
                    &manifest(3, 4),
                    &linux,
                    "b",
                ],
            ),
        ),
        (
            "nested",
            all(
                2,
                &[
                    &index(&[named]),
                    &index(&[other]),
                    &manifest(3, 4),
                    &linux,
                    "b",
                ],
            ),
        ),
        (
            "windows",
            all(2, &[&index(&[named]), &manifest(2, 3), &windows, "blob"]),
        ),
        ("docker", all(1, &[docker, &linux, "blob"])),
        ("directory", all(1, &[&manifest(1, 2), &linux, "blob"])),
        (
            "list",
            all(1, &[&index(&[named]), &manifest(2, 3), &linux, "blob"]),
        ),
        ("empty", all(0, &[&index(&[])])),
    ]
}
