//! Registries that do not give what they are asked for, and the sentences that say so.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tar2vhd::image::registry::{Registry, RegistryOptions};
use tar2vhd::{Error, ErrorKind};

use crate::image::{Content, choose, layer, options};
use crate::server::{Answer, Server};

fn refused(answer: Answer) -> (Error, usize) {
    let server = Server::start(move |_| answer.clone());
    let error = choose(&server, options()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("{}/r:t", server.address)), "{text}");
    (error, server.requests().len())
}

#[test]
fn each_refusal_says_what_to_do() {
    let basic = || Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    for (answer, kind, requests, words) in [
        (
            basic(),
            ErrorKind::Input,
            1,
            "log in by `docker login 127.0.0.1:",
        ),
        (
            Answer::status(401),
            ErrorKind::Input,
            1,
            "log in by `docker login",
        ),
        (
            Answer::status(403),
            ErrorKind::Input,
            1,
            "does not allow it; log in",
        ),
        (
            Answer::status(404),
            ErrorKind::Mismatch,
            1,
            "there is no image 127.0.0.1:",
        ),
        (
            Answer::status(429),
            ErrorKind::Input,
            3,
            "asked for too much",
        ),
        (
            Answer::status(500),
            ErrorKind::Input,
            3,
            "cannot answer now (500",
        ),
        (
            Answer::status(503),
            ErrorKind::Input,
            3,
            "cannot answer now (503",
        ),
        (
            Answer::new(
                400,
                *br#"{"errors":[{"code":"NAME_INVALID","message":"secret"}]}"#,
            ),
            ErrorKind::Input,
            1,
            "answered 400 Bad Request, NAME_INVALID",
        ),
        (
            Answer::new(418, *br#"{"errors":[{"code":"secret"}]}"#),
            ErrorKind::Input,
            1,
            "answered 418 I'm a teapot",
        ),
        (
            Answer::ok(*b"<html>"),
            ErrorKind::Corrupt,
            1,
            "malformed JSON in 127.0.0.1",
        ),
    ] {
        let (error, count) = refused(answer);
        let text = format!("{error:#}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert_eq!((error.kind(), count), (kind, requests), "{text}");
    }
}

#[test]
fn wrong_passwords_are_not_shown() {
    let basic = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    let server = Server::start(move |_| basic.clone());
    let options = options().credentials("user", "hunter2");
    assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
    let registry = Registry::new(options.clone()).unwrap();
    assert!(!format!("{registry:?}").contains("hunter2"), "{registry:?}");
    let error = choose(&server, options).err().unwrap();
    let text = format!("{error:#} {error:?}");
    assert!(text.contains("does not accept the credentials"), "{text}");
    assert!(
        !text.contains("hunter2") && !text.contains("user"),
        "{text}"
    );
    // Without them, and with them once.
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn what_passes_is_tried_again() {
    let content = Content::new(&[layer("a", b"a")]);
    let requests = AtomicUsize::new(0);
    let server = {
        let content = content.clone();
        Server::start(
            move |request| match requests.fetch_add(1, Ordering::Relaxed) {
                0 => Answer::status(503),
                1 => Answer::status(429),
                // A document that breaks off.
                3 => content.answer(request).cut(10),
                _ => content.answer(request),
            },
        )
    };
    choose(&server, options()).unwrap();
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_registry_that_asks_to_wait_is_waited_for() {
    for date in [false, true] {
        let content = Content::new(&[layer("a", b"a")]);
        let requests = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            if requests.fetch_add(1, Ordering::Relaxed) > 0 {
                return content.answer(request);
            }
            let after = match date {
                // Dates are whole seconds, of which a part is over.
                true => httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2)),
                false => "1".to_owned(),
            };
            Answer::status(429).header("Retry-After", after)
        });
        let started = Instant::now();
        choose(&server, options()).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(950));
    }
}

#[test]
fn a_registry_that_asks_to_wait_for_long_is_not() {
    let started = Instant::now();
    let (error, requests) = refused(Answer::status(429).header("Retry-After", "3600"));
    assert!(error.to_string().contains("wait 3600 seconds"), "{error}");
    assert_eq!(requests, 1);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn plain_http_is_tried_only_without_verification() {
    let content = Content::new(&[layer("a", b"a")]);
    let server = content.serve();
    let error = choose(&server, options().tls_verify(true)).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("--tls-verify=false"), "{text}");
    assert_eq!(server.requests().len(), 0);
    choose(&server, options()).unwrap();
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let registry = Registry::new(options()).unwrap();
    let name = format!("{port}/r:t").parse().unwrap();
    let error = registry.images(&name).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Input);
    let text = error.to_string();
    assert!(
        text.contains(&format!("{port} cannot be reached")),
        "{text}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = RegistryOptions::new().ca_file("/nonexistent/ca.pem");
    let error = Registry::new(missing).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = RegistryOptions::new().ca_file(file.path());
    let error = Registry::new(empty).err().unwrap();
    assert!(error.to_string().contains("no certificate"), "{error}");

    let registry = Registry::new(options().auth_file("/nonexistent/auth.json")).unwrap();
    let error = registry
        .images(&"h.invalid/r".parse().unwrap())
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("/nonexistent/auth.json"),
        "{error}"
    );
}
