//! Keys, and manifests signed with them.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use semver::Version;
use tidegate_config::{Config, Name, ProcessEnv, Signatures};
use tidegate_engine::{MAX_WASI_MODULE_BYTES, Manifest, SigningKey, Trust};

use crate::cli::token::random;
use crate::wiring::manifest_path;

pub(super) fn keygen(name: &Name, out: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let key = SigningKey::of(&random()?);
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key.to_pkcs8()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.with_context(|| format!("{} cannot be made", out.display()))?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all())?;
    let public: String = key.public().iter().map(|byte| format!("{byte:02x}")).collect();
    if json {
        println!("{}", serde_json::json!({ "name": name.as_str(), "public": public, "file": out }));
        return Ok(ExitCode::SUCCESS);
    }
    println!("[rules]\nrequire_signatures = true\n\n[rules.keys]\n{name} = \"{public}\"");
    eprintln!(
        "\nThe private key is in {}: keep it off the hosts. Put the lines above into the tidegate.toml of each host.",
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(
    modules: &[PathBuf],
    key: &Path,
    version: &Version,
    name: Option<&Name>,
    days: u32,
) -> anyhow::Result<ExitCode> {
    let der = PrivatePkcs8KeyDer::from_pem_file(key)
        .with_context(|| format!("{} cannot be read as a private key in PEM form", key.display()))?;
    let key = SigningKey::from_pkcs8(der.secret_pkcs8_der()).with_context(|| key.display().to_string())?;
    let expires = SystemTime::now() + Duration::from_secs(u64::from(days) * 86_400);
    if name.is_some() && modules.len() > 1 {
        bail!("one --name is for one module: {} are given", modules.len());
    }
    for module in modules {
        let stem = module.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = match name {
            Some(name) => name.clone(),
            None => stem.parse().with_context(|| format!("{} tells no name; give --name", module.display()))?,
        };
        let manifest = Manifest::sign(name, version.clone(), &digest(module)?, expires, &key)?;
        let path = manifest_path(module);
        std::fs::write(&path, manifest.to_json()).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{}: {manifest}, until {}", path.display(), manifest.expires);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(modules: &[PathBuf], keys: &[String], config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut known = match config {
        Some(path) => Config::load(path, &ProcessEnv)?.signatures,
        None => Signatures::default(),
    };
    for (number, key) in keys.iter().enumerate() {
        known.keys.push((
            format!("key-{}", number + 1).parse()?,
            tidegate_config::unhex(key).context("a key has 64 hexadecimal digits")?,
        ));
    }
    known.required = true;
    let trust = Trust::open(&known, None)?;
    let mut refused = 0;
    for module in modules {
        let manifest = std::fs::read(manifest_path(module)).ok();
        match trust.check(&digest(module)?, manifest.as_deref()) {
            Ok(Some(signed)) => {
                println!("{}: {} {}, signed by {}", module.display(), signed.name, signed.version, signed.key)
            }
            Ok(None) => {}
            Err(error) => {
                refused += 1;
                eprintln!("tidegate: {}: {error}", module.display());
            }
        }
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn digest(module: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(module).with_context(|| format!("{} cannot be read", module.display()))?;
    if bytes.len() > MAX_WASI_MODULE_BYTES {
        bail!("{} is larger than any module that a host takes", module.display());
    }
    Ok(tidegate_admin::digest(&bytes))
}
