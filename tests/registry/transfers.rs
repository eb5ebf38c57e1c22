//! Documents and layers as they come in: in pieces, broken off, too long, too short, from elsewhere.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tar2vhd::image::registry::Registry;
use tar2vhd::{CancelToken, ErrorKind};

use crate::image::{
    Content, choose, digest, image, layer, name, noise, options, ranged, read_lowest,
};
use crate::server::{Answer, Request, Server};

fn one_layer(bytes: usize) -> Content {
    Content::new(&[layer("noise", &noise(7, bytes))])
}

/// A server whose layers are answered by `blob`, which gets the number of the attempt.
fn with_layers(
    content: &Content,
    blob: impl Fn(&Request, &Arc<[u8]>, usize) -> Answer + Send + Sync + 'static,
) -> Server {
    let content = content.clone();
    let attempts = AtomicUsize::new(0);
    Server::start(move |request| {
        let name = request.path.rsplit('/').next().unwrap();
        match content.layers.iter().any(|layer| layer == name) {
            true => {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                blob(request, &content.blobs[name], attempt)
            }
            false => content.answer(request),
        }
    })
}

#[test]
fn only_the_image_that_is_chosen_is_asked_for() {
    let content = Content::for_architectures(&["arm64", "amd64", "s390x"]);
    let server = content.clone().serve();
    let image = image(&server);
    assert_eq!(image.platform().unwrap().to_string(), "linux/amd64");
    let name = image.name().unwrap();
    assert_eq!(name, format!("{}/r:t", server.address));
    let layer = crate::image::read(&image, &image.layers()[0]).unwrap();
    assert_eq!(
        digest(&layer),
        image.layers()[0].digest.unwrap().to_string()
    );
    let paths: Vec<_> = server.requests().into_iter().map(|r| r.path).collect();
    let manifest = image.manifest().unwrap();
    let expected = [
        "/v2/r/manifests/t".to_owned(),
        format!("/v2/r/manifests/{manifest}"),
        format!("/v2/r/blobs/{}", image.id()),
        format!("/v2/r/blobs/{}", image.layers()[0].digest.unwrap()),
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_digest_names_an_image() {
    let content = one_layer(10);
    let server = content.clone().serve();
    let registry = Registry::new(options()).unwrap();
    let named = format!("{}/r:ignored@{}", server.address, content.top);
    let image = registry.images(&named.parse().unwrap()).unwrap();
    let image = image.choose(None, None).unwrap();
    assert_eq!(image.manifest().unwrap().to_string(), content.top);
    assert_eq!(
        server.requests()[0].path,
        format!("/v2/r/manifests/{}", content.top)
    );
}

#[test]
fn a_connection_that_breaks_is_resumed_where_it_broke() {
    let content = one_layer(3 << 20);
    let whole = content.lowest();
    // More breaks than retries, but there is progress between them.
    let server = with_layers(&content, |request, blob, attempt| {
        let answer = ranged(request, blob);
        match attempt {
            0 => answer.cut(1_100_000),
            1 => answer.cut(0),
            2 => answer.cut(1_200_000),
            3 => answer.cut(10),
            _ => answer,
        }
    });
    let image = image(&server);
    assert_eq!(read_lowest(&image).unwrap(), *whole);
    let requests = server.requests();
    let blobs = requests
        .iter()
        .filter(|r| r.path.contains(&content.layers[0]));
    let from: Vec<_> = blobs.map(Request::from).collect();
    let expected = [0, 1_100_000, 1_100_000, 2_300_000, 2_300_010];
    assert_eq!(from, expected);
}

#[test]
fn a_server_without_ranges_is_read_from_its_beginning() {
    let content = one_layer(1 << 20);
    let whole = content.lowest();
    let server = with_layers(&content, |_, blob, attempt| {
        let answer = Answer::ok(Arc::clone(blob));
        match attempt {
            0 => answer.cut(700_000),
            1 => answer.cut(600_000),
            _ => answer,
        }
    });
    assert_eq!(read_lowest(&image(&server)).unwrap(), *whole);
    assert_eq!(server.count(&content.layers[0]), 3);
}

#[test]
fn another_range_than_was_asked_for_is_refused() {
    let content = one_layer(1 << 20);
    let server = with_layers(&content, |request, blob, attempt| match attempt {
        0 => ranged(request, blob).cut(1000),
        _ => Answer::new(206, &blob[2000..]).header("Content-Range", "bytes 2000-9/10"),
    });
    let error = read_lowest(&image(&server)).unwrap_err();
    assert!(error.to_string().contains("another part"), "{error}");
    assert_eq!(server.count(&content.layers[0]), 2);
}

#[test]
fn attempts_without_progress_come_to_an_end() {
    let content = one_layer(1 << 20);
    let server = with_layers(&content, |request, blob, _| ranged(request, blob).cut(1));
    let error = read_lowest(&image(&server)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("broke off"), "{error}");
    // The first one and two retries.
    assert_eq!(server.count(&content.layers[0]), 3);
}

#[test]
fn another_size_than_the_manifest_says_is_an_error() {
    let content = one_layer(1 << 20);
    let size = content.lowest().len();
    let longer = |blob: &Arc<[u8]>| [blob, &b"more"[..]].concat();
    type Blob = fn(&Arc<[u8]>) -> Answer;
    let cases: [(Blob, usize); 4] = [
        // Stated, and not.
        (|blob| Answer::ok(&blob[1..]), 0),
        (|blob| Answer::ok([blob, &b"more"[..]].concat()), 0),
        (|blob| Answer::ok(&blob[..9000]).length(None), 9000),
        (
            |blob| Answer::ok([blob, &b"more"[..]].concat()).length(None),
            size,
        ),
    ];
    assert_eq!(longer(&content.lowest()).len(), size + 4);
    for (number, (answer, most)) in cases.into_iter().enumerate() {
        let server = with_layers(&content, move |_, blob, _| answer(blob));
        let image = image(&server);
        let mut blob = image.open_layer(&image.layers()[0]).unwrap();
        let mut read = Vec::new();
        let error = blob.read_to_end(&mut read).unwrap_err();
        let error = error.downcast::<tar2vhd::Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{number}: {error}");
        let text = error.to_string();
        let words = match most == size || number == 1 {
            true => format!("has {size} bytes, and {} sends more", server.address),
            false => format!("has {size} bytes, and {} sends ", server.address),
        };
        assert!(text.contains(&words), "{number}: {text}");
        assert!(read.len() <= most, "{number}: {}", read.len());
    }
}

#[test]
fn a_range_behind_the_end_shows_that_the_layer_is_too_short() {
    let content = one_layer(1 << 20);
    let size = content.lowest().len();
    let server = with_layers(&content, |request, blob, _| match request.from() {
        0 => Answer::ok(&blob[..9000]).length(None),
        _ => Answer::status(416),
    });
    let error = read_lowest(&image(&server)).unwrap_err();
    let words = format!("has {size} bytes, and {} sends 9000", server.address);
    assert!(error.to_string().contains(&words), "{error}");
    assert_eq!(server.count(&content.layers[0]), 2);
}

#[test]
fn an_end_of_the_connection_may_be_that_of_the_layer() {
    let content = one_layer(1 << 20);
    let whole = content.lowest();
    let server = with_layers(&content, |request, blob, attempt| {
        let answer = ranged(request, blob).length(None);
        match attempt {
            0 => answer.cut(1234),
            _ => answer,
        }
    });
    assert_eq!(read_lowest(&image(&server)).unwrap(), *whole);
    assert_eq!(server.count(&content.layers[0]), 2);
}

#[test]
fn an_empty_layer_of_bytes_is_read() {
    // Not a layer that can be converted, but as many bytes as its descriptor says.
    let content = one_layer(1);
    let server = with_layers(&content, |_, blob, _| Answer::ok(Arc::clone(blob)));
    let image = image(&server);
    let mut blob = image.open_layer(&image.layers()[0]).unwrap();
    assert_eq!(blob.read(&mut []).unwrap(), 0);
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, *content.lowest());
    assert_eq!(blob.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn documents_have_the_digests_that_lead_to_them() {
    let content = Content::for_architectures(&["amd64"]);
    let manifest = image(&content.clone().serve())
        .manifest()
        .unwrap()
        .to_string();
    let id = image(&content.clone().serve()).id().to_string();
    for damaged in [&content.top, &manifest, &id] {
        let mut other = content.clone();
        let blob = [&other.blobs[damaged], &b" "[..]].concat();
        other.blobs.insert(damaged.clone(), blob.into());
        let server = other.serve();
        let error = choose(&server, options()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        let text = error.to_string();
        assert!(text.contains(damaged), "{text}");
        assert!(text.contains(&server.address.to_string()), "{text}");
    }
}

#[test]
fn an_endless_document_is_not_read_to_its_end() {
    let endless: Arc<[u8]> = vec![b' '; 64 << 20].into();
    let server = Server::start(move |_| Answer::ok(Arc::clone(&endless)));
    let error = choose(&server, options()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(server.sent() < 32 << 20, "{}", server.sent());
}

#[test]
fn documents_that_name_blobs_without_end_are_not_remembered() {
    let descriptors: Vec<_> = (0..70_000_u32)
        .map(|n| format!("{{\"digest\":\"sha256:{n:064x}\"}}"))
        .collect();
    let layers = |part: &[String]| format!("{{\"layers\":[{}]}}", part.join(","));
    let manifests = [
        layers(&descriptors[..35_000]),
        layers(&descriptors[35_000..]),
    ];
    let digests = manifests
        .clone()
        .map(|manifest| digest(manifest.as_bytes()));
    let named = digests
        .clone()
        .map(|digest| format!("{{\"digest\":\"{digest}\"}}"));
    let index = format!("{{\"manifests\":[{}]}}", named.join(","));
    let server = Server::start(move |request| {
        let found = digests
            .iter()
            .position(|digest| request.path.ends_with(digest));
        Answer::ok(
            found
                .map_or(&index, |number| &manifests[number])
                .clone()
                .into_bytes(),
        )
    });
    let error = choose(&server, options()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert!(error.to_string().contains("65536 blobs"), "{error}");
}

#[test]
fn what_is_not_read_yet_takes_little_memory() {
    let content = Content::new(&[layer("large", &noise(3, 48 << 20))]);
    let server = content.clone().serve();
    let image = image(&server);
    let before = server.sent();
    let mut blob = image.open_layer(&image.layers()[0]).unwrap();
    let mut first = [0; 16];
    blob.read_exact(&mut first).unwrap();
    // As soon as nothing more is taken, the window and what the system has between are full.
    let mut sent = 0;
    let started = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(150));
        let now = server.sent() - before;
        if now == sent && now > 4 << 20 {
            break;
        }
        sent = now;
        assert!(started.elapsed() < Duration::from_secs(30), "{sent}");
    }
    assert!(sent < 32 << 20, "{sent}");
    let mut rest = Vec::new();
    blob.read_to_end(&mut rest).unwrap();
    assert!([&first[..], &rest].concat() == *content.lowest());
}

#[test]
fn layers_are_read_at_the_same_time() {
    let layers: Vec<_> = (0..3).map(|n| layer("n", &noise(n, 6 << 20))).collect();
    let content = Content::new(&layers);
    let server = content.clone().serve();
    let image = image(&server);
    // Each is larger than what is read ahead.
    let mut blobs: Vec<_> = image
        .layers()
        .iter()
        .map(|layer| (image.open_layer(layer).unwrap(), Vec::new()))
        .collect();
    for _ in 0..7 {
        for (blob, bytes) in &mut blobs {
            blob.take(1 << 20).read_to_end(bytes).unwrap();
        }
    }
    for ((_, bytes), digest) in blobs.iter().zip(&content.layers) {
        assert!(*bytes == *content.blobs[digest]);
    }
}

#[test]
fn redirections_lead_to_the_layer_without_credentials() {
    let content = one_layer(1 << 20);
    let whole = content.lowest();
    let elsewhere = {
        let blob = content.lowest();
        Server::start(move |request| match request.from() {
            0 => ranged(request, &blob).cut(5000),
            _ => ranged(request, &blob),
        })
    };
    let target = elsewhere.address;
    let server = {
        let content = content.clone();
        Server::start(move |request| {
            if request.header("authorization").is_none() {
                return Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
            }
            match request.path.ends_with(&content.layers[0]) {
                true => Answer::status(307)
                    .header("Location", format!("http://{target}/blob?signature=x")),
                false => content.answer(request),
            }
        })
    };
    let image = choose(&server, options().credentials("user", "hunter2")).unwrap();
    assert_eq!(read_lowest(&image).unwrap(), *whole);
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].from(), 5000);
    for request in requests {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn what_another_host_asks_for_is_not_given() {
    let content = one_layer(10);
    let elsewhere =
        Server::start(|_| Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let target = elsewhere.address;
    let server = with_layers(&content, move |_, _, _| {
        Answer::status(302).header("Location", format!("http://{target}/secret-signature"))
    });
    let image = choose(&server, options().credentials("user", "hunter2")).unwrap();
    let error = read_lowest(&image).unwrap_err();
    assert!(error.to_string().contains(&target.to_string()), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
}

#[test]
fn redirections_end() {
    let server = Server::start(|request| Answer::status(302).header("Location", &request.path));
    let error = choose(&server, options()).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("too many redirections"), "{text}");
    assert_eq!(server.requests().len(), 11);
}

#[test]
fn a_layer_that_stalls_is_cancelled() {
    let content = one_layer(1 << 20);
    let server = with_layers(&content, |request, blob, _| {
        ranged(request, blob).stall(1000)
    });
    let token = CancelToken::new();
    let image = choose(&server, options().cancel(token.clone())).unwrap();
    let started = Instant::now();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        token.cancel();
    });
    let error = read_lowest(&image).unwrap_err();
    canceller.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_document_that_stalls_is_cancelled_and_a_conversion_says_so() {
    let stalls = Server::start(|_| Answer::ok(*b"{").length(Some(9)).stall(1));
    let deadline = Instant::now() + Duration::from_millis(200);
    let token = CancelToken::with_deadline(deadline);
    let error = choose(&stalls, options().cancel(token)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");

    let content = one_layer(1 << 20);
    let server = with_layers(&content, |request, blob, _| {
        ranged(request, blob).stall(1000)
    });
    let token = CancelToken::new();
    let image = choose(&server, options().cancel(token.clone())).unwrap();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        token.cancel();
    });
    let place = tempfile::tempdir().unwrap();
    // The conversion has another token.
    let result = image.convert(place.path(), &tar2vhd::Options::new(), &|_| {});
    canceller.join().unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_server_that_says_nothing_more_is_not_waited_for_for_ever() {
    let content = one_layer(1 << 20);
    let whole = content.lowest();
    let server = with_layers(&content, |request, blob, attempt| match attempt {
        0 => ranged(request, blob).stall(1000),
        _ => ranged(request, blob),
    });
    let image = choose(&server, options().timeout(Duration::from_secs(1))).unwrap();
    assert_eq!(read_lowest(&image).unwrap(), *whole);
    assert_eq!(server.count(&content.layers[0]), 2);
}

#[test]
fn readers_outlive_the_registry_and_may_be_dropped() {
    let content = one_layer(12 << 20);
    let server = content.clone().serve();
    let registry = Registry::new(options()).unwrap();
    let images = registry.images(&name(&server)).unwrap();
    let image = images.choose(None, None).unwrap();
    drop((registry, images));
    let mut dropped = image.open_layer(&image.layers()[0]).unwrap();
    dropped.read_exact(&mut [0; 10]).unwrap();
    drop(dropped);
    let mut blob = image.open_layer(&image.layers()[0]).unwrap();
    drop(image);
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).unwrap();
    assert!(bytes == *content.lowest());
}

#[test]
fn a_layer_with_wrong_bytes_is_found_by_the_conversion() {
    let content = one_layer(1 << 16);
    let server = with_layers(&content, |_, blob, _| {
        let mut bytes = blob.to_vec();
        // A time in the header of gzip, which changes nothing else.
        bytes[4] ^= 1;
        Answer::ok(bytes)
    });
    let image = image(&server);
    let place = tempfile::tempdir().unwrap();
    let result = image.convert(place.path(), &tar2vhd::Options::new(), &|_| {});
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[test]
fn reading_is_done_by_threads_of_any_kind() {
    // Within a runtime of tokio, too, where other ways of waiting panic.
    let content = one_layer(1 << 16);
    let server = content.clone().serve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let read = runtime.block_on(async { read_lowest(&image(&server)) });
    assert!(read.unwrap() == *content.lowest());
}
