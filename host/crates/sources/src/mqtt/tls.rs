//! TLS to a broker, from PEM files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tidegate_config::Tls;

/// The system's certificates, where Debian and its kin keep them.
const SYSTEM_CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why TLS cannot be set up: always a file, or what is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{path} cannot be read: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error("{path} holds no {what} in PEM form")]
    Empty { path: String, what: &'static str },
    #[error("cert_file and key_file go together: one of them is missing")]
    HalfAnIdentity,
    #[error("the certificate or key is refused: {0}")]
    Refused(#[from] rustls::Error),
}

/// A client configuration on the `ring` provider.
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let ca_file = tls.ca_file.as_deref().unwrap_or(Path::new(SYSTEM_CA_FILE));
    roots.add_parsable_certificates(certificates(ca_file)?);
    if roots.is_empty() {
        return Err(TlsError::Empty { path: ca_file.display().to_string(), what: "usable certificate" });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => builder.with_client_auth_cert(certificates(cert)?, private_key(key)?)?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(TlsError::HalfAnIdentity),
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = rustls_pemfile::certs(&mut open(path)?)
        .collect::<Result<_, _>>()
        .map_err(|cause| TlsError::Unreadable { path: path.display().to_string(), cause })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { path: path.display().to_string(), what: "certificate" });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    rustls_pemfile::private_key(&mut open(path)?)
        .map_err(|cause| TlsError::Unreadable { path: path.display().to_string(), cause })?
        .ok_or_else(|| TlsError::Empty { path: path.display().to_string(), what: "private key" })
}

fn open(path: &Path) -> Result<BufReader<File>, TlsError> {
    let file = File::open(path).map_err(|cause| TlsError::Unreadable { path: path.display().to_string(), cause })?;
    Ok(BufReader::new(file))
}
