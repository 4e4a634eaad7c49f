//! TLS to brokers and databases: rustls on ring, certificates from PEM files.

use std::fs;
use std::io::BufReader;
use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use tidegate_config::Tls;
use tidegate_model::SinkError;

/// Where systems keep the certificates they trust, the first that exists: Debian, Red Hat, Alpine.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client that trusts `tls.ca_file`, or what the system trusts, and shows `tls.cert_file` if there is one.
///
/// Files are read at every call, so that a certificate renewed on disk is used by the next connection. All errors want an operator.
pub(crate) fn client(tls: &Tls) -> Result<ClientConfig, SinkError> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SinkError::NeedsOperator(format!("TLS: {error}")))?
        .with_root_certificates(roots(tls.ca_file.as_deref())?);
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file)?;
            let key = rustls_pemfile::private_key(&mut open(key_file)?)
                .map_err(|error| unusable(key_file, &error))?
                .ok_or_else(|| unusable(key_file, &"it holds no private key in PEM form"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(cert_file, &error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(SinkError::NeedsOperator(
            "TLS: cert_file and key_file go together: give both for mutual TLS, or none".to_owned(),
        )),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, SinkError> {
    let system = || SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = ca_file.or_else(system) else {
        return Err(SinkError::NeedsOperator(format!(
            "TLS: no trusted certificates: none of {} exists; install ca-certificates or give ca_file",
            SYSTEM_BUNDLES.join(", ")
        )));
    };
    let mut roots = RootCertStore::empty();
    let (taken, refused) = roots.add_parsable_certificates(certificates(path)?);
    if taken == 0 {
        return Err(unusable(path, &format!("it holds no certificate that can be used ({refused} refused)")));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, SinkError> {
    rustls_pemfile::certs(&mut open(path)?).collect::<Result<_, _>>().map_err(|error| unusable(path, &error))
}

fn open(path: &Path) -> Result<BufReader<fs::File>, SinkError> {
    fs::File::open(path).map(BufReader::new).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> SinkError {
    SinkError::NeedsOperator(format!("TLS: cannot use {}: {why}", path.display()))
}
