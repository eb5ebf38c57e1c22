//! Requests that failed: whether another attempt may do, and the sentence for a person.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::name::ImageName;
use super::options::RegistryOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::image::json::{list_of, text};

/// A request that failed.
pub(super) enum Failure {
    /// Another attempt would fail as well.
    Final(Error),
    /// Another attempt may do, after a pause that the server may have asked for.
    Passing {
        error: Error,
        after: Option<Duration>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// The longest pause that a server is granted.
const AFTER_MAX: Duration = Duration::from_secs(60);
/// The longest pause that is made otherwise.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Attempts that are left.
pub(super) struct Patience {
    retries: u32,
    first: Duration,
    left: u32,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(options: &RegistryOptions) -> Self {
        let (retries, first) = (options.retries, options.retry_pause);
        Self {
            retries,
            first,
            left: retries,
            pause: first,
        }
    }

    /// Grants all attempts anew.
    pub(super) fn renew(&mut self) {
        *self = Self {
            left: self.retries,
            pause: self.first,
            ..*self
        };
    }

    /// Waits before another attempt, or gives up.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<()> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { error, after } => (error, after),
        };
        let Some(left) = self.left.checked_sub(1) else {
            return Err(error);
        };
        self.left = left;
        let pause = self.pause.min(PAUSE_MAX);
        tokio::time::sleep(after.map_or(pause, |after| after.max(pause))).await;
        self.pause = pause.saturating_mul(2);
        Ok(())
    }
}

/// The part of an image that a request is about.
#[derive(Clone)]
pub(super) enum Part {
    /// The manifest or index that the image's name leads to.
    Named,
    /// Another manifest or index.
    Manifest(String),
    /// A configuration or layer.
    Blob(String),
}

fn input(message: String) -> Error {
    Error::new(ErrorKind::Input, message)
}

/// The failure of a request that was not answered, or not to its end. The server's URL, which may
/// hold a signature, has no place in its text.
pub(super) fn of_connection(name: &ImageName, host: &str, error: reqwest::Error) -> Failure {
    let is_redirect = error.is_redirect();
    let is_timeout = error.is_timeout();
    let is_connect = error.is_connect();
    let error = error.without_url();
    let cause = innermost(&error);
    if is_redirect {
        let message = format!("cannot read {name}: {host} redirects to where it should not");
        return input(message).with_source(cause).into();
    }
    match tls_error(&error) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            return input(format!(
                "cannot read {name}: the certificate of {host} is not trusted, which \
                 --tls-verify=false would not ask for"
            ))
            .with_source(cause)
            .into();
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            return input(format!(
                "cannot read {name}: {host} does not speak TLS; with --tls-verify=false plain \
                 HTTP is tried as well"
            ))
            .with_source(cause)
            .into();
        }
        Some(_) => {
            return input(format!(
                "cannot read {name}: TLS with {host} failed; --tls-verify=false asks for less"
            ))
            .with_source(cause)
            .into();
        }
        None => {}
    }
    let message = match (is_connect, is_timeout) {
        (true, _) => format!("cannot read {name}: {host} cannot be reached"),
        (_, true) => format!("cannot read {name}: {host} does not answer in time"),
        _ => format!("cannot read {name}: the connection to {host} broke off"),
    };
    Failure::Passing {
        error: input(message).with_source(cause),
        after: None,
    }
}

/// The text of the error that caused all others.
fn innermost(error: &dyn StdError) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    // The source of an I/O error is that of the error which it wraps.
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    let inner = inner.map(|inner| inner as &(dyn StdError + 'static));
    tls_error(inner.or_else(|| error.source())?)
}

/// Whether there is no TLS to be had, so that plain HTTP may be.
pub(super) fn is_without_tls(error: &reqwest::Error) -> bool {
    error.is_connect() || tls_error(error).is_some()
}

/// The failure of a request that was answered by a refusal.
pub(super) fn of_answer(
    name: &ImageName,
    host: &str,
    part: &Part,
    has_credentials: bool,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Failure {
    let registry = name.registry();
    let login = format!("`docker login {registry}` or `skopeo login {registry}`");
    match status {
        StatusCode::UNAUTHORIZED if has_credentials => input(format!(
            "cannot read {name}: {host} does not accept the credentials that are kept for it; \
             {login} renews them"
        ))
        .into(),
        StatusCode::UNAUTHORIZED => input(format!(
            "cannot read {name}: {host} has no such image for everyone; log in by {login} if it \
             is not public"
        ))
        .into(),
        StatusCode::FORBIDDEN => input(format!(
            "cannot read {name}: {host} does not allow it; log in by {login} as somebody who may"
        ))
        .into(),
        StatusCode::NOT_FOUND => {
            let message = match part {
                Part::Named => format!(
                    "there is no image {name}: {host} knows no such repository, tag or digest"
                ),
                Part::Manifest(digest) | Part::Blob(digest) => {
                    format!("{name} is incomplete: {host} does not have {digest}")
                }
            };
            Error::new(ErrorKind::Mismatch, message).into()
        }
        StatusCode::TOO_MANY_REQUESTS => passing(
            headers,
            format!(
                "cannot read {name}: {host} is asked for too much; those who log in by {login} \
                 may be granted more"
            ),
        ),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => passing(
            headers,
            format!("cannot read {name}: {host} cannot answer now ({status})"),
        ),
        _ => {
            let code = code(body).map_or(String::new(), |code| format!(", {code}"));
            input(format!(
                "cannot read {name}: {host} answered {status}{code}"
            ))
            .into()
        }
    }
}

fn passing(headers: &HeaderMap, message: String) -> Failure {
    match pause_asked_for(headers) {
        Some(after) if after > AFTER_MAX => {
            let seconds = after.as_secs();
            input(format!("{message}: it asks to wait {seconds} seconds")).into()
        }
        after => Failure::Passing {
            error: input(message),
            after,
        },
    }
}

/// The pause of a `Retry-After`, which is a number of seconds or a date.
fn pause_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

/// The code of an error of the distribution specification. The text beside it is the server's own,
/// and may repeat anything.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = text(list_of(&body, Some("errors")).first()?, "code")?;
    let is_code = code.len() <= 40 && code.bytes().all(|c| c.is_ascii_uppercase() || c == b'_');
    is_code.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        let pause = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            pause_asked_for(&headers)
        };
        assert_eq!(pause("7"), Some(Duration::from_secs(7)));
        let date = SystemTime::now() + Duration::from_secs(30);
        let found = pause(&httpdate::fmt_http_date(date)).unwrap();
        assert!((25..=30).contains(&found.as_secs()), "{found:?}");
        assert_eq!(pause("Thu, 01 Jan 1970 00:00:00 GMT"), None);
        assert_eq!(pause("soon"), None);
    }
}
