//! What is wrong with a configuration, where it stands, and what to do about it.

use super::tree;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;
use std::ops::Range;
use std::path::Path;
use std::{fmt, io};
use toml::de::DeTable;

/// One problem of a configuration. `Display` draws it as rustc draws its own,
/// with a caret under the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// Counted from 1; 0 where the problem stands in no line.
    pub line: usize,
    /// In characters, counted from 1; 0 where the problem stands in no line.
    pub column: usize,
    /// The key with its section: `pool.per-user`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do next.
    pub help: String,
    #[serde(skip)]
    place: Place,
    #[serde(skip)]
    drawing: String,
}

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, and an administrator should look.
    Warning,
}

/// Which part of the file a finding points at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The value of its key.
    Value,
    /// One item of the list that its key holds.
    Item(usize),
    /// These bytes.
    Bytes(Range<usize>),
}

impl Finding {
    /// The configuration cannot be used.
    pub(super) fn error(
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            line: 0,
            column: 0,
            key: key.into(),
            message: message.into(),
            help: help.into(),
            place: Place::Value,
            drawing: String::new(),
        }
    }

    /// The configuration can be used, but not all of it as it reads.
    pub(super) fn warning(
        key: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, message, help) }
    }

    /// The configuration cannot even be read.
    pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self::error("", message, "name a file that is there and that you may read")
    }

    /// Points at one item of the list that the key holds.
    pub(super) fn item(self, index: usize) -> Self {
        Self { place: Place::Item(index), ..self }
    }

    /// Points at these bytes, for what no key leads to.
    pub(super) fn bytes(self, bytes: Range<usize>) -> Self {
        Self { place: Place::Bytes(bytes), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.drawing.is_empty() {
            let title = self.severity.level().primary_title(&self.message);
            let report = [title.element(Level::HELP.message(&self.help))];
            return f.write_str(&Renderer::plain().render(&report));
        }
        f.write_str(&self.drawing)
    }
}

impl Severity {
    fn level(self) -> Level<'static> {
        match self {
            Self::Error => Level::ERROR,
            Self::Warning => Level::WARNING,
        }
    }
}

/// Whether one of them is an error.
pub(super) fn any_error(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// Finds where each finding stands in `text`, the file called `name` that
/// parses to `root`, draws it, and puts them in the order of the file.
pub(super) fn place(name: &str, text: &str, root: &DeTable<'_>, findings: &mut [Finding]) {
    for finding in findings.iter_mut() {
        let bytes = match &finding.place {
            Place::Value => tree::locate(root, &finding.key, None),
            Place::Item(index) => tree::locate(root, &finding.key, Some(*index)),
            Place::Bytes(bytes) => bytes.clone(),
        };
        draw(name, text, bytes, finding);
    }
    findings.sort_by_key(|finding| (finding.line, finding.column));
}

/// Only the line where `bytes` start is handed to the renderer, so that the
/// work does not grow with the file.
fn draw(name: &str, text: &str, bytes: Range<usize>, finding: &mut Finding) {
    let start = floor_char_boundary(text, bytes.start);
    let end = floor_char_boundary(text, bytes.end).max(start);
    let (before, after) = text.split_at(start);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = after.find('\n').map_or(text.len(), |newline| start + newline);
    let line = text.get(line_start..line_end).unwrap_or_default();
    let caret = start - line_start..end.min(line_end) - line_start;

    finding.line = before.matches('\n').count() + 1;
    finding.column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let snippet = Snippet::source(line)
        .path(name)
        .line_start(finding.line)
        .annotation(AnnotationKind::Primary.span(caret));
    let title = finding.severity.level().primary_title(&finding.message);
    let report = [title.element(snippet).element(Level::HELP.message(&finding.help))];
    finding.drawing = Renderer::plain().render(&report);
}

/// As `str::floor_char_boundary`, which is younger than our oldest compiler.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    let to_index = 0..=index.min(text.len());
    to_index.rev().find(|&index| text.is_char_boundary(index)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(text: &str, bytes: Range<usize>) -> Finding {
        let mut finding = Finding::error("pool.sticky", "what", "do");
        draw("file", text, bytes, &mut finding);
        finding
    }

    #[test]
    fn a_place_is_counted_in_lines_and_characters_from_one() {
        let text = "a = 1\r\nb = \"ä\" # ö\nc = ö\n";
        let finding = drawn(text, text.rfind('ö').unwrap()..text.len());
        assert_eq!((finding.line, finding.column), (3, 5));
        assert_eq!((drawn("", 0..0).line, drawn("", 0..0).column), (1, 1));
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_can_be_drawn(text in ".{0,80}(\n.{0,80}){0,3}", a in 0usize..400, b in 0usize..400) {
            let finding = drawn(&text, a..b);
            prop_assert!(finding.line >= 1 && finding.column >= 1);
        }
    }
}
