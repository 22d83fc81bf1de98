//! The one digest that stands for secrets.

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a secret: what is kept and compared in its place.
pub(crate) type Digest = [u8; 32];

/// The digest of a secret.
pub(crate) fn sha256(secret: &[u8]) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest(&SHA256, secret).as_ref());
    out
}
