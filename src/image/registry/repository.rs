//! Requests to a repository of a registry.
//!
//! Source: OCI distribution specification 1.1, "Pulling".

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Response, StatusCode, Url};

use super::credentials::Credentials;
use super::failure::{Failure, Part, Patience, is_without_tls, of_answer, of_connection};
use super::name::ImageName;
use super::options::RegistryOptions;
use crate::error::{Error, ErrorKind, Result};

/// A repository, and how it is to be asked.
pub(super) struct Repository {
    pub(super) name: ImageName,
    pub(super) options: RegistryOptions,
    pub(super) credentials: Option<Credentials>,
    http: Client,
    /// For token servers: what they are sent goes nowhere else.
    pub(super) tokens: Client,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    scheme: Scheme,
    /// The header that the registry asked for.
    authorization: Option<HeaderValue>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    /// TLS where there is any, else plain HTTP.
    Either,
    Http,
}

/// A document of a registry.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: Option<String>,
    /// The digest that the registry says it has.
    pub(super) digest: Option<String>,
}

/// Bytes of a document that are read at most, as of those in files.
const DOCUMENT_MAX: usize = 4 << 20;
/// Bytes of a refusal that are read at most.
const REFUSAL_MAX: usize = 64 << 10;
const REDIRECTS_MAX: usize = 10;
const CONNECT_MAX: Duration = Duration::from_secs(30);
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Repository {
    pub(super) fn new(
        name: ImageName,
        options: RegistryOptions,
        tls: &rustls::ClientConfig,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let build = |policy: Policy| {
            let mut builder = ClientBuilder::new()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(concat!("tar2vhd/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_MAX.min(options.timeout))
                .read_timeout(options.timeout)
                .referer(false)
                .redirect(policy);
            if name.is_loopback() {
                builder = builder.no_proxy();
            }
            builder.build().map_err(|e| {
                Error::new(ErrorKind::Input, "cannot set up HTTP for registries").with_source(e)
            })
        };
        let http = build(Policy::custom(follow))?;
        let tokens = build(Policy::custom(follow_at_home))?;
        let state = State {
            scheme: match options.tls_verify {
                true => Scheme::Https,
                false => Scheme::Either,
            },
            authorization: None,
        };
        Ok(Self {
            name,
            options,
            credentials,
            http,
            tokens,
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn set_scheme(&self, scheme: Scheme) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.scheme = scheme;
    }

    pub(super) fn set_authorization(&self, mut value: HeaderValue) {
        value.set_sensitive(true);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.authorization = Some(value);
    }

    /// Reads a document of a registry, in as many attempts as it is granted.
    pub(super) async fn document(&self, part: &Part) -> Result<Document> {
        let mut patience = Patience::new(&self.options);
        loop {
            let read = async {
                let response = self.get(part, 0).await?;
                let header = |name| header(response.headers(), name);
                let (media_type, digest) = (header(CONTENT_TYPE), header(DIGEST));
                let bytes = self.whole(response, DOCUMENT_MAX).await?;
                Ok(Document {
                    bytes,
                    media_type,
                    digest,
                })
            };
            match read.await {
                Ok(document) => return Ok(document),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    /// Asks for a part of an image, from a byte on, of which there may be none.
    pub(super) async fn get(
        &self,
        part: &Part,
        from: u64,
    ) -> std::result::Result<Response, Failure> {
        let mut is_renewed = false;
        loop {
            let response = self.send(part, from).await?;
            let status = response.status();
            let is_answer = match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => true,
                StatusCode::RANGE_NOT_SATISFIABLE => from > 0,
                _ => false,
            };
            if is_answer {
                return Ok(response);
            }
            // A token that has run out is refused like none. What another host asks for is not given.
            if status == StatusCode::UNAUTHORIZED
                && !is_renewed
                && self.is_registry(response.url())
                && self.authorize(&response).await?
            {
                is_renewed = true;
                continue;
            }
            return Err(self.refusal(part, response).await);
        }
    }

    async fn send(&self, part: &Part, from: u64) -> std::result::Result<Response, Failure> {
        let failed = |e| of_connection(&self.name, self.name.server(), e);
        let scheme = self.state().scheme;
        if scheme != Scheme::Either {
            return self.send_by(scheme, part, from).await.map_err(failed);
        }
        let error = match self.send_by(Scheme::Https, part, from).await {
            Err(error) if is_without_tls(&error) => error,
            Err(error) => return Err(failed(error)),
            Ok(response) => {
                self.set_scheme(Scheme::Https);
                return Ok(response);
            }
        };
        match self.send_by(Scheme::Http, part, from).await {
            Ok(response) => {
                self.set_scheme(Scheme::Http);
                Ok(response)
            }
            // Neither is there.
            Err(other) if is_without_tls(&other) => Err(failed(error)),
            Err(other) => Err(failed(other)),
        }
    }

    async fn send_by(&self, scheme: Scheme, part: &Part, from: u64) -> reqwest::Result<Response> {
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https | Scheme::Either => "https",
        };
        let (server, repository) = (self.name.server(), self.name.repository());
        let path = match part {
            Part::Named => format!("manifests/{}", self.name.version()),
            Part::Manifest(digest) => format!("manifests/{digest}"),
            Part::Blob(digest) => format!("blobs/{digest}"),
        };
        let url = format!("{scheme}://{server}/v2/{repository}/{path}");
        let mut request = self.http.get(url);
        if !matches!(part, Part::Blob(_)) {
            request = request.header(ACCEPT, MANIFESTS);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(value) = self.state().authorization {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await
    }

    /// Whether a URL is one of the registry itself, and not of a host to which it redirects.
    fn is_registry(&self, url: &Url) -> bool {
        let scheme = url.scheme();
        Url::parse(&format!("{scheme}://{}", self.name.server()))
            .is_ok_and(|own| own.origin() == url.origin())
    }

    /// Whether secrets may go to a URL.
    pub(super) fn may_have_secrets(&self, url: &Url) -> bool {
        url.scheme() == "https" || !self.options.tls_verify
    }

    async fn refusal(&self, part: &Part, response: Response) -> Failure {
        let status = response.status();
        let headers = response.headers().clone();
        let host = host(response.url());
        let body = self.whole(response, REFUSAL_MAX).await.unwrap_or_default();
        self.refused(&host, part, status, &headers, &body)
    }

    pub(super) fn refused(
        &self,
        host: &str,
        part: &Part,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Failure {
        let has_credentials = self.credentials.is_some();
        of_answer(
            &self.name,
            host,
            part,
            has_credentials,
            status,
            headers,
            body,
        )
    }

    /// The failure of a connection that was answered at first.
    pub(super) fn broken(&self, url: &Url, error: reqwest::Error) -> Failure {
        of_connection(&self.name, &host(url), error)
    }

    /// The body of a response.
    pub(super) async fn whole(
        &self,
        mut response: Response,
        most: usize,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let url = response.url().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broken(&url, error))?
        {
            if bytes.len() + chunk.len() > most {
                let host = host(&url);
                return Err(Error::limit(format!(
                    "cannot read {}: {host} sends more than {most} bytes of a document",
                    self.name
                ))
                .into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The host of a URL, with its port if it states one.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// Follows a redirection, without credentials if it leads to another host, as reqwest does it. One
/// from TLS to plain HTTP is refused.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let was_secure = attempt
        .previous()
        .last()
        .is_some_and(|url| url.scheme() == "https");
    if was_secure && attempt.url().scheme() != "https" {
        return attempt.error("it leads from TLS to plain HTTP");
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("there are too many redirections");
    }
    attempt.follow()
}

/// Follows a redirection on the same host.
fn follow_at_home(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_home = |url: &Url| url.origin() == attempt.url().origin();
    if attempt.previous().len() > REDIRECTS_MAX || !attempt.previous().iter().all(is_home) {
        return attempt.error("it leads from a token server to another host");
    }
    attempt.follow()
}
