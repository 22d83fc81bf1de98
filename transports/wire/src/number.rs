//! Numbers in parameters and headers.

/// Digits only: no sign, no space. A number beyond `u64` is as good as its greatest.
pub(crate) fn whole(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}
