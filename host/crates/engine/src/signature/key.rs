//! The key that modules are signed with. It is never on a host; only `tidegate rule` holds one, for as long as it signs.

use std::fmt;

use ed25519_dalek::Signer;

/// What stands before the 32 bytes of an ed25519 key in PKCS #8 (RFC 8410, section 7).
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A private ed25519 key.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is no ed25519 key in PKCS #8, as `tidegate rule keygen` or `openssl genpkey -algorithm ed25519` write it"
)]
pub struct KeyError;

impl SigningKey {
    /// Of 32 random bytes.
    pub fn of(random: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(random))
    }

    /// Of a PKCS #8 document in DER. What comes after the key itself, as a public key, is not looked at.
    ///
    /// # Errors
    /// It is another sort of key, or none.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // The second byte tells the length of all and the fifth the version; both say whether a public key follows.
        let (head, rest) = der.split_at_checked(PKCS8.len()).ok_or(KeyError)?;
        let same =
            head.iter().zip(PKCS8).enumerate().all(|(at, (&found, wanted))| matches!(at, 1 | 4) || found == wanted);
        let seed = rest.first_chunk::<32>().filter(|_| same).ok_or(KeyError)?;
        Ok(Self::of(seed))
    }

    /// As a PKCS #8 document in DER.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        [&PKCS8[..], self.0.as_bytes()].concat()
    }

    /// What tells its signatures.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(super) fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(«secret»)")
    }
}
