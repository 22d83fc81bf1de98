//! Patterns with claims in them, as `users/{sub}/**`. The value of a claim stands in one segment, whole and as it is: what
//! would change the shape of the pattern, or be another name under normalising, makes the pattern match nothing.

use std::{fmt, str::FromStr};

use tailwire_model::{FilterError, Term, Topic};

/// A pattern with claims in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<TemplatePart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePart {
    Text(Box<str>),
    Claim(Box<str>),
}

/// Why a text is no pattern with claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without the other, or nothing between them.
    #[error("a claim is a name in braces, as in `users/{{sub}}/**`; a brace stands for nothing else")]
    Braces,
    /// Two claims in one segment: two principals could make the same of them.
    #[error("a segment has at most one claim, or two principals could come to the same topic")]
    TwoClaims,
    /// A claim in a first segment that begins with `$`.
    #[error("no claim names topics of the broker's own, which begin with `$`")]
    Reserved,
    /// The expanded template is no topic and no pattern.
    #[error(transparent)]
    Term(#[from] FilterError),
    /// Claims in a rule for those who have none.
    #[error("those whom the rule is for have no claims")]
    NobodyHasClaims,
    /// Publishing to the broker's own topics.
    #[error("no client publishes to topics of the broker's own, which begin with `$`")]
    BrokersOwn,
}

/// Why a pattern matches nothing for somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("there is no claim `{0}` that is a string or a whole number")]
    Missing(Box<str>),
    #[error("the claim `{0}` is no single segment of a topic")]
    NoSegment(Box<str>),
    #[error("with these claims it would be no topic or pattern, or one of the broker's own")]
    Term,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(open);
            let inner = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, behind) = inner.ok_or(TemplateError::Braces)?;
            if name.is_empty() || name.contains('{') {
                return Err(TemplateError::Braces);
            }
            if matches!(parts.last(), Some(TemplatePart::Claim(_))) && !before.contains('/') {
                return Err(TemplateError::TwoClaims);
            }
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.into()));
            }
            parts.push(TemplatePart::Claim(name.into()));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(TemplatePart::Text(rest.into()));
        }
        let template = Self { parts };
        // The shape is that of a term, whatever one letter stands in the place of the claims.
        let sample = template.fill(|_| Some("x")).unwrap_or_default();
        Term::parse(&sample)?;
        if template.has_claim_in_first_segment() && sample.starts_with('$') {
            return Err(TemplateError::Reserved);
        }
        Ok(template)
    }
}

impl Template {
    /// The claims that it takes.
    pub(crate) fn claim_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Claim(name) => Some(&**name),
            TemplatePart::Text(_) => None,
        })
    }

    /// The term for somebody's claims.
    pub(crate) fn expand<'a>(&self, claim: impl Fn(&str) -> Option<&'a str>) -> Result<Term, Misfit> {
        for name in self.claim_names() {
            match claim(name) {
                None => return Err(Misfit::Missing(name.into())),
                Some(value) if !is_segment(value) => return Err(Misfit::NoSegment(name.into())),
                Some(_) => {}
            }
        }
        let name = self.fill(claim).unwrap_or_default();
        if name.starts_with('$') && self.has_claim_in_first_segment() {
            return Err(Misfit::Term);
        }
        Term::parse(&name).map_err(|_| Misfit::Term)
    }

    fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let mut name = String::new();
        for part in &self.parts {
            name.push_str(match part {
                TemplatePart::Text(text) => text,
                TemplatePart::Claim(claim) => value(claim)?,
            });
        }
        Some(name)
    }

    fn has_claim_in_first_segment(&self) -> bool {
        for part in &self.parts {
            match part {
                TemplatePart::Claim(_) => return true,
                TemplatePart::Text(text) if text.contains('/') => return false,
                TemplatePart::Text(_) => {}
            }
        }
        false
    }
}

/// Whether a claim's value is one valid segment of a topic by itself.
fn is_segment(value: &str) -> bool {
    !value.contains('/') && Topic::parse(value).is_ok()
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(text),
            TemplatePart::Claim(name) => write!(f, "{{{name}}}"),
        })
    }
}
