//! The TLS of a TCP endpoint: rustls with the ring provider, named here so that no process-wide default is needed.
//!
//! It reads certificate files when the client is made; a changed file is seen by the next client.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::endpoint::TlsFiles;

/// Where distributions keep the system's CA certificates; `SSL_CERT_FILE` is not read, for docker does not either.
const SYSTEM_CAS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("cannot read the {what} in {}: {source}", path.display())]
    File {
        /// certificates or key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls_pki_types::pem::Error,
    },
    /// Only one of certificate and key was found.
    #[error("{} has no {missing} beside it: both are needed", present.display())]
    Half {
        /// The file that exists.
        present: PathBuf,
        /// The one that does not.
        missing: &'static str,
    },
    /// There is nothing to check the daemon's certificate against.
    #[error("no ca.pem was found and the system has no CA certificates: put the daemon's CA into DOCKER_CERT_PATH")]
    NoRoots,
    /// rustls does not take the key or the certificates.
    #[error("cannot use the certificates: {0}")]
    Rejected(#[from] rustls::Error),
}

/// The client's side of TLS for these files.
///
/// # Errors
/// When a file cannot be read, one of certificate and key is missing, or rustls does not take them.
pub fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let wants_client = if files.skip_verify {
        versions.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider }))
    } else {
        versions.with_root_certificates(roots(files)?)
    };
    match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => {
            let read_key = PrivateKeyDer::from_pem_file(key);
            let key = read_key.map_err(|source| TlsError::File { what: "key", path: key.clone(), source })?;
            Ok(wants_client.with_client_auth_cert(certificates(cert)?, key)?)
        }
        (Some(cert), None) => Err(TlsError::Half { present: cert.clone(), missing: "key.pem" }),
        (None, Some(key)) => Err(TlsError::Half { present: key.clone(), missing: "cert.pem" }),
        (None, None) => Ok(wants_client.with_no_client_auth()),
    }
}

fn roots(files: &TlsFiles) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let path = match &files.ca {
        Some(path) => path.as_path(),
        None => SYSTEM_CAS.iter().map(Path::new).find(|path| path.is_file()).ok_or(TlsError::NoRoots)?,
    };
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 { Err(TlsError::NoRoots) } else { Ok(store) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|source| TlsError::File {
        what: "certificates",
        path: path.to_owned(),
        source,
    })
}

/// Takes any certificate; the handshake's signatures are still checked. For contexts with SkipTLSVerify.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
