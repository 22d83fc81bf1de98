//! Text that strangers wrote, made fit for XML 1.0 and for one-line titles.

/// The replacement of a character that XML 1.0 doesn't have (§2.2): the Unicode replacement character.
const REPLACEMENT: &str = "\u{fffd}";

/// Appends text as XML character data or as an attribute's value in double quotes. White space that parsers would normalise
/// (XML 1.0 §2.11, §3.3.3) is written as references; characters that XML has not are replaced.
pub(super) fn xml(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_special(c)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.extend_from_slice(match c {
            '&' => b"&amp;",
            '<' => b"&lt;",
            // `]]>` may not stand in character data (§2.4).
            '>' => b"&gt;",
            '"' => b"&quot;",
            '\r' => b"&#13;",
            '\n' => b"&#10;",
            '\t' => b"&#9;",
            // A line break to readers that count lines by Unicode.
            '\u{85}' => b"&#133;",
            '\u{2028}' => b"&#8232;",
            '\u{2029}' => b"&#8233;",
            _ => REPLACEMENT.as_bytes(),
        });
        rest = &rest[at + c.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The characters that [`xml`] does not copy. Controls from U+007F to U+009F are legal but discouraged (§2.2), and
/// nobody's text.
const fn is_special(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '&' | '<' | '>' | '"' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
        || is_noncharacter(c)
}

const fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fdd0}'..='\u{fdef}') || (c as u32) & 0xfffe == 0xfffe
}

/// One line of at most `chars` characters: white space folded, and nothing in it that would change how text around it is
/// shown (controls, and the directional formatting of Unicode's annex 9).
pub(super) fn one_line(text: &str, chars: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = count > 0;
            continue;
        }
        if c.is_control() || is_directional(c) || is_noncharacter(c) {
            continue;
        }
        // Room for the character, the space before it, and the ellipsis.
        if count + usize::from(gap) + 1 >= chars {
            line.push('…');
            return line;
        }
        if gap {
            line.push(' ');
            count += 1;
            gap = false;
        }
        line.push(c);
        count += 1;
    }
    line
}

const fn is_directional(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        xml(text, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_character_is_one_that_xml_has() {
        assert_eq!(escaped("a<b>&\"c\" ]]>"), "a&lt;b&gt;&amp;&quot;c&quot; ]]&gt;");
        assert_eq!(escaped("\0\u{1}\u{b}\u{1f}\u{7f}\u{9f}"), "\u{fffd}".repeat(6));
        assert_eq!(escaped("\u{fffe}\u{ffff}\u{fdd0}\u{1fffe}\u{10ffff}"), "\u{fffd}".repeat(5));
        assert_eq!(escaped("\r\n\t\u{85}\u{2028}"), "&#13;&#10;&#9;&#133;&#8232;");
        assert_eq!(escaped("äöü \u{202e}😀"), "äöü \u{202e}😀");
    }

    #[test]
    fn a_title_is_one_line() {
        assert_eq!(one_line("  one\r\n\ttwo \u{202e}three\0 ", 80), "one two three");
        assert_eq!(one_line("abcdef", 6), "abcde…");
        assert_eq!(one_line("abcde", 6), "abcde");
        assert_eq!(one_line("ab cdef", 4), "ab…");
        assert_eq!(one_line("\u{2066}\u{2069}", 4), "");
    }
}
