//! What is a filter made of, and how many of the kernel's tests does it take?

use std::fmt;

/// A filter or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// A single test.
    Test(String),
    /// Holds if all parts do.
    All(Vec<Self>),
    /// Holds if one part does.
    Any(Vec<Self>),
}

pub(super) fn test(text: impl Into<String>) -> Expression {
    Expression::Test(text.into())
}

pub(super) fn all(parts: impl IntoIterator<Item = Expression>) -> Expression {
    Expression::All(parts.into_iter().collect())
}

/// Holds if one of the parts that are there does; nothing if none is there.
pub(super) fn any(parts: impl IntoIterator<Item = Option<Expression>>) -> Option<Expression> {
    let mut parts: Vec<_> = parts.into_iter().flatten().collect();
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Expression::Any(parts)),
    }
}

impl Expression {
    pub(super) fn tests(&self) -> usize {
        match self {
            Self::Test(_) => 1,
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::tests).sum(),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, between) = match self {
            Self::Test(text) => return f.write_str(text),
            Self::All(parts) => (parts, " and "),
            Self::Any(parts) => (parts, " or "),
        };
        for (at, part) in parts.iter().enumerate() {
            f.write_str(if at == 0 { "(" } else { between })?;
            part.fmt(f)?;
        }
        f.write_str(")")
    }
}
