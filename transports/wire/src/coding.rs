//! The content coding of a reply (RFC 9110 §8.4.1), as `Accept-Encoding` asks for it (§12.5.3).

use crate::accept::ranges;

/// How a body is coded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As it is.
    #[default]
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

impl Coding {
    /// Those that change a body, the preferred one first: zstd makes a page as small as brotli in a fraction of its time.
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// The name in `Content-Encoding`; none where the body is as it is.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
        }
    }

    fn is_named(self, name: &str) -> bool {
        let is_alias = self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip");
        is_alias || self.name().unwrap_or("identity").eq_ignore_ascii_case(name)
    }
}

/// What the `Accept-Encoding` headers of a request say, taken together: a list of ranges with their quality.
#[derive(Debug, Default)]
pub struct AcceptEncoding<'a>(Vec<(&'a str, u16)>);

impl<'a> AcceptEncoding<'a> {
    /// Takes one header's value. A range that is malformed says nothing.
    pub fn hear(&mut self, value: &'a str) {
        self.0.extend(ranges(value).filter(|(range, _)| !range.is_empty()));
    }

    /// The coding of the best quality; of those that are equally good, the first of ours. A body as it is is always an answer:
    /// it comes where nothing else is wanted, or where the client says that it rather has it so.
    pub fn choose(&self) -> Coding {
        let identity = self.named(Coding::Identity).unwrap_or(0);
        let mut best = (Coding::Identity, 0);
        for coding in Coding::ALL {
            let quality = self.named(coding).or_else(|| self.any()).unwrap_or(0);
            if quality > best.1 && quality >= identity {
                best = (coding, quality);
            }
        }
        best.0
    }

    fn named(&self, coding: Coding) -> Option<u16> {
        self.0.iter().filter(|(range, _)| coding.is_named(range)).map(|(_, quality)| *quality).max()
    }

    fn any(&self) -> Option<u16> {
        self.0.iter().filter(|(range, _)| *range == "*").map(|(_, quality)| *quality).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(values: &[&'static str]) -> Option<&'static str> {
        let mut accept = AcceptEncoding::default();
        values.iter().for_each(|value| accept.hear(value));
        accept.choose().name()
    }

    #[test]
    fn the_best_quality_wins_and_of_equals_the_first_of_ours() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[""]), None);
        assert_eq!(chosen(&["gzip"]), Some("gzip"));
        assert_eq!(chosen(&["X-GZIP"]), Some("gzip"));
        assert_eq!(chosen(&["gzip, deflate, br, zstd"]), Some("zstd"));
        assert_eq!(chosen(&["gzip, deflate, br"]), Some("br"));
        assert_eq!(chosen(&["gzip;q=1.0, zstd;q=0.5"]), Some("gzip"));
        assert_eq!(chosen(&["gzip;q=0.2", "br ; Q=0.3"]), Some("br"));
        assert_eq!(chosen(&["*"]), Some("zstd"));
        assert_eq!(chosen(&["*, zstd;q=0"]), Some("br"));
        assert_eq!(chosen(&["*;q=0, gzip"]), Some("gzip"));
        assert_eq!(chosen(&["deflate, compress"]), None);
    }

    #[test]
    fn a_client_may_rather_have_it_as_it_is() {
        assert_eq!(chosen(&["identity"]), None);
        assert_eq!(chosen(&["identity, gzip;q=0.5"]), None);
        assert_eq!(chosen(&["identity;q=0.5, gzip;q=0.5"]), Some("gzip"));
        assert_eq!(chosen(&["gzip;q=0"]), None);
        // Nothing is acceptable: an answer that can be read is better than none.
        assert_eq!(chosen(&["identity;q=0, compress"]), None);
        assert_eq!(chosen(&["gzip;q=nonsense"]), None);
    }
}
