//! Tokens of token servers: for everyone, for passwords, for identity tokens, and when they run out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::image::{Content, choose, layer, noise, options, ranged, read_lowest};
use crate::server::{Answer, Request, Server};

/// A token server, whose tokens are numbered.
fn tokens(field: &'static str) -> (Server, Arc<Mutex<String>>) {
    let valid = Arc::new(Mutex::new(String::new()));
    let given = Arc::clone(&valid);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let token = format!("token-{}", count.fetch_add(1, Ordering::Relaxed));
        given.lock().unwrap().clone_from(&token);
        Answer::ok(
            json!({ field: token, "expires_in": 60 })
                .to_string()
                .into_bytes(),
        )
    });
    (server, valid)
}

/// A registry that knows one token at a time.
fn guarded(
    content: Content,
    tokens: &Server,
    valid: Arc<Mutex<String>>,
    answer: impl Fn(&Content, &Request) -> Answer + Send + Sync + 'static,
) -> Server {
    let realm = format!("http://{}/token", tokens.address);
    Server::start(move |request| {
        let expected = format!("Bearer {}", valid.lock().unwrap());
        match request.header("authorization") {
            Some(found) if found == expected => answer(&content, request),
            _ => Answer::new(401, *br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"x:y:push\""),
            ),
        }
    })
}

fn small() -> Content {
    Content::new(&[layer("a", b"a")])
}

#[test]
fn everyone_gets_a_token_to_pull() {
    for field in ["token", "access_token"] {
        let (tokens, valid) = tokens(field);
        let server = guarded(small(), &tokens, valid, Content::answer);
        let image = choose(&server, options()).unwrap();
        read_lowest(&image).unwrap();
        let asked = tokens.requests();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].method, "GET");
        assert_eq!(
            asked[0].path,
            "/token?scope=repository%3Ar%3Apull&service=the+registry"
        );
        assert_eq!(asked[0].header("authorization"), None);
        // The first is refused; manifest, configuration and layer follow.
        assert_eq!(server.requests().len(), 4);
    }
}

#[test]
fn passwords_go_to_the_token_server() {
    let (tokens, valid) = tokens("token");
    let server = guarded(small(), &tokens, valid, Content::answer);
    choose(&server, options().credentials("user", "hunter2")).unwrap();
    let encoded = STANDARD.encode("user:hunter2");
    let asked = tokens.requests();
    assert_eq!(
        asked[0].header("authorization"),
        Some(&*format!("Basic {encoded}"))
    );
    for request in server.requests() {
        let header = request.header("authorization").unwrap_or("none");
        assert!(!header.contains(&encoded), "{header}");
    }
}

#[test]
fn identity_tokens_are_posted() {
    let (tokens, valid) = tokens("access_token");
    let server = guarded(small(), &tokens, valid, Content::answer);
    let file = tempfile::NamedTempFile::new().unwrap();
    let entry = json!({ "auth": STANDARD.encode("u:"), "identitytoken": "secret&token" });
    let auths = json!({ "auths": { server.address.to_string(): entry } });
    std::fs::write(file.path(), auths.to_string()).unwrap();
    choose(&server, options().auth_file(file.path())).unwrap();
    let asked = tokens.requests();
    assert_eq!((&*asked[0].method, &*asked[0].path), ("POST", "/token"));
    assert_eq!(asked[0].header("authorization"), None);
    let expected = "scope=repository%3Ar%3Apull&service=the+registry&grant_type=refresh_token&\
        client_id=tar2vhd&refresh_token=secret%26token";
    assert_eq!(asked[0].body, expected);
}

#[test]
fn a_token_that_runs_out_in_the_middle_is_renewed() {
    let content = Content::new(&[layer("noise", &noise(1, 2 << 20))]);
    let whole = content.lowest();
    let (tokens, valid) = tokens("token");
    let expires = Arc::clone(&valid);
    let server = guarded(content, &tokens, valid, move |content, request| {
        if !request.path.ends_with(&content.layers[0]) {
            return content.answer(request);
        }
        let answer = ranged(request, &content.lowest());
        match request.from() {
            0 => {
                "none any more".clone_into(&mut expires.lock().unwrap());
                answer.cut(1_000_000)
            }
            _ => answer,
        }
    });
    let image = choose(&server, options()).unwrap();
    assert_eq!(read_lowest(&image).unwrap(), *whole);
    assert_eq!(tokens.requests().len(), 2);
    let last = server.requests().pop().unwrap();
    assert_eq!(last.from(), 1_000_000);
    assert_eq!(last.header("authorization"), Some("Bearer token-1"));
}

#[test]
fn a_token_that_is_refused_is_renewed_once() {
    let (tokens, _) = tokens("token");
    let never = Arc::new(Mutex::new("never".to_owned()));
    let server = guarded(small(), &tokens, never, Content::answer);
    let error = choose(&server, options()).err().unwrap();
    assert!(error.to_string().contains("log in"), "{error}");
    assert!(!format!("{error:?}").contains("token-"), "{error:?}");
    assert_eq!((tokens.requests().len(), server.requests().len()), (1, 2));
}

#[test]
fn a_token_server_that_gives_none_is_named() {
    for (answer, words) in [
        (Answer::ok(*b"{}"), "gave no token"),
        (Answer::ok(*b"secret"), "gave no token"),
        (Answer::ok(*br#"{"token":"secret\n"}"#), "gave no token"),
        (Answer::status(401), "does not accept the credentials"),
        (Answer::status(503), "cannot answer now"),
        (
            Answer::status(307).header("Location", "http://localhost:1/secret"),
            "redirects to where it should not",
        ),
    ] {
        let tokens = Server::start(move |_| answer.clone());
        let server = guarded(small(), &tokens, Arc::default(), Content::answer);
        let error = choose(&server, options().credentials("user", "hunter2"));
        let error = error.err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&tokens.address.to_string()), "{text}");
        assert!(
            !text.contains("secret") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
