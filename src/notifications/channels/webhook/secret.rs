//! A secret that a receiver shares with us, and what is signed with it.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The fewest and the most bytes of a secret, as the specification has them.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// Why a text is no secret. Says nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    #[error("does not start with {PREFIX}")]
    Prefix,
    #[error("is not in base64 after {PREFIX}")]
    Encoding,
    #[error("has {bytes} bytes, and must have {BYTES_MIN} to {BYTES_MAX}")]
    Length { bytes: usize },
}

/// Filled up with zeros to the block of SHA-256, as HMAC does with a shorter key (RFC 2104,
/// section 2), so that signing cannot fail.
#[derive(Debug)]
pub struct Secret(SecretBox<[u8; BYTES_MAX]>);

impl Secret {
    /// Reads `whsec_<base64>`.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret::Encoding)?;
        if !(BYTES_MIN..=BYTES_MAX).contains(&key.len()) {
            return Err(InvalidSecret::Length { bytes: key.len() });
        }
        let mut block = Box::new([0; BYTES_MAX]);
        for (place, byte) in block.iter_mut().zip(key) {
            *place = byte;
        }
        Ok(Self(SecretBox::new(block)))
    }

    /// `v1,<base64>`; `timestamp` in whole seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new(self.0.expose_secret().into());
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a valid secret");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_longest_secret_signs_as_elsewhere() {
        let text = format!("whsec_{}", STANDARD.encode([7; BYTES_MAX]));
        let other = standardwebhooks::Webhook::new(&text).expect("a valid secret");
        let secret = Secret::parse(&text).expect("a valid secret");
        assert_eq!(secret.sign("3-42", 1, b"{}"), other.sign("3-42", 1, b"{}").expect("a signature"));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        let check = |text: &str, reason| assert_eq!(Secret::parse(text).err(), Some(reason), "{text}");
        check("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", InvalidSecret::Prefix);
        check("whsec_no-base64!", InvalidSecret::Encoding);
        check("whsec_", InvalidSecret::Length { bytes: 0 });
        check(&format!("whsec_{}", STANDARD.encode([1; 23])), InvalidSecret::Length { bytes: 23 });
        check(&format!("whsec_{}", STANDARD.encode([1; 65])), InvalidSecret::Length { bytes: 65 });
    }
}
