//! What a registry asks for before it answers: a password, or a token of its token server.
//!
//! Sources: distribution's "Token Authentication" and "OAuth2 Token Authentication"; RFC 9110,
//! section 11.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;

use super::credentials::Credentials;
use super::failure::{Failure, Part};
use super::repository::{Repository, host};
use crate::error::{Error, ErrorKind};
use crate::image::json::text;

/// A way to be let in.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer {
        /// The URL of the token server.
        realm: String,
        service: Option<String>,
    },
}

/// Bytes of a token server's answer that are read at most.
const ANSWER_MAX: usize = 1 << 20;

impl Repository {
    /// Meets the challenge of a refusal; false if there is none that can be met.
    pub(super) async fn authorize(&self, refusal: &Response) -> std::result::Result<bool, Failure> {
        for challenge in challenges(refusal.headers()) {
            match (challenge, &self.credentials) {
                (Challenge::Bearer { realm, service }, _) => {
                    let realm = refusal.url().join(&realm).map_err(|_| {
                        self.failed(format!(
                            "{} does not say where its token server is",
                            self.name.server()
                        ))
                    })?;
                    let token = self.token(realm, service).await?;
                    self.set_authorization(token);
                    return Ok(true);
                }
                (Challenge::Basic, Some(Credentials::Password { user, password }))
                    if self.may_have_secrets(refusal.url()) =>
                {
                    self.set_authorization(self.basic(user, password)?);
                    return Ok(true);
                }
                (Challenge::Basic, _) => {}
            }
        }
        Ok(false)
    }

    /// Fetches a token that allows to read the repository and nothing else.
    async fn token(
        &self,
        realm: Url,
        service: Option<String>,
    ) -> std::result::Result<HeaderValue, Failure> {
        let host = host(&realm);
        if !self.may_have_secrets(&realm) {
            let server = self.name.server();
            return Err(self
                .failed(format!(
                    "the token server of {server}, {host}, does not speak TLS, which \
                     --tls-verify=false would allow"
                ))
                .into());
        }
        let mut pairs = vec![(
            "scope",
            format!("repository:{}:pull", self.name.repository()),
        )];
        pairs.extend(service.map(|service| ("service", service)));
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                pairs.push(("grant_type", "refresh_token".into()));
                pairs.push(("client_id", "tar2vhd".into()));
                pairs.push(("refresh_token", token.clone()));
                // A query is encoded as a form is.
                let mut form = realm.clone();
                form.query_pairs_mut().clear().extend_pairs(pairs);
                let body = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                self.tokens
                    .post(realm)
                    .header(CONTENT_TYPE, kind)
                    .body(body)
            }
            other => {
                let mut url = realm;
                url.query_pairs_mut().extend_pairs(pairs);
                let request = self.tokens.get(url);
                match other {
                    Some(Credentials::Password { user, password }) => {
                        request.header(AUTHORIZATION, self.basic(user, password)?)
                    }
                    _ => request,
                }
            }
        };
        let broken = |error| super::failure::of_connection(&self.name, &host, error);
        let response = request.send().await.map_err(broken)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.whole(response, ANSWER_MAX).await?;
        if status != StatusCode::OK {
            return Err(self.refused(&host, &Part::Named, status, &headers, &body));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = ["token", "access_token"]
            .into_iter()
            .find_map(|name| text(&answer, name).filter(|token| !token.is_empty()));
        let header = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        header.ok_or_else(|| self.failed(format!("{host} gave no token")).into())
    }

    fn basic(&self, user: &str, password: &str) -> std::result::Result<HeaderValue, Failure> {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
            .map_err(|_| self.failed("the password cannot be sent".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn failed(&self, reason: String) -> Error {
        Error::new(
            ErrorKind::Input,
            format!("cannot read {}: {reason}", self.name),
        )
    }
}

/// The challenges of a refusal that are known here, tokens first: passwords then go to the token
/// server alone.
fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut all: Vec<_> = texts
        .flat_map(|text| ChallengeParser::new(text).filter_map(Result::ok))
        .filter_map(|challenge| known(&challenge))
        .collect();
    all.sort_by_key(|challenge| *challenge == Challenge::Basic);
    all
}

fn known(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    let parameter = |name: &str| {
        let mut parameters = challenge.params.iter();
        let found = parameters.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped())
    };
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let is_bearer = challenge.scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then_some(())?;
    Some(Challenge::Bearer {
        realm: parameter("realm")?,
        service: parameter("service"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_from_all_headers_tokens_first() {
        let mut headers = HeaderMap::new();
        for value in [
            "Negotiate",
            "Basic realm=\"x\"",
            "bearer realm=\"https://h/token?a=b\",service=\"s, t\",scope=\"other\"",
            "Bearer service=\"no realm\"",
            "\"",
        ] {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        let expected = [
            Challenge::Bearer {
                realm: "https://h/token?a=b".into(),
                service: Some("s, t".into()),
            },
            Challenge::Basic,
        ];
        assert_eq!(challenges(&headers), expected);
    }
}
