//! TLS: ring for the cryptography, the system's certificate authorities, or none.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::options::RegistryOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::summary::display_file;

/// The configuration of every connection.
pub(super) fn configuration(options: &RegistryOptions) -> Result<ClientConfig> {
    let failed = |e: rustls::Error| {
        Error::new(ErrorKind::Input, "cannot set up TLS for registries").with_source(e)
    };
    let provider = Arc::new(ring::default_provider());
    let extra = match &options.ca_file {
        Some(path) => authorities(path)?,
        None => Vec::new(),
    };
    let verifier: Arc<dyn ServerCertVerifier> = match options.tls_verify {
        true => {
            let provider = Arc::clone(&provider);
            let verifier = Verifier::new_with_extra_roots(extra, provider);
            Arc::new(verifier.map_err(failed)?)
        }
        false => Arc::new(AnyCertificate(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// The certificates of a PEM file.
fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |reason: &str| {
        let path = display_file(path);
        Error::new(
            ErrorKind::InvalidOptions,
            format!("cannot read certificate authorities from {path}{reason}"),
        )
    };
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| failed("").with_source(e))?
        .collect();
    let all = all.map_err(|e| failed("").with_source(e))?;
    match all.is_empty() {
        true => Err(failed(": it has no certificate in PEM")),
        false => Ok(all),
    }
}

/// Takes every certificate, and has the other side prove that it has the key of it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
