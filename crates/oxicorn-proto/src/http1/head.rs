//! A request head: the request line, then the header section.
//!
//! Decides where a head starts and ends and puts its pieces into [`HeadParts`]. What the line means
//! is [`request_line`](super::request_line), what the fields mean [`policy`](super::policy).

use super::policy::{Gathered, keeps_name};
use super::request_line::read_request_line;
use super::rules::Rules;
use super::section::{Line, Section};
use crate::fault::PeerFault;
use crate::message::{FieldTable, HeadParts};

/// How far a head has been read.
#[derive(Debug)]
pub(super) struct HeadParser {
    stage: Stage,
    gathered: Gathered,
}

#[derive(Debug)]
enum Stage {
    /// No LF of the request line before `searched`.
    RequestLine {
        searched: usize,
    },
    Fields(Section),
}

/// What ends a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadEnd {
    /// Where it is.
    pub(super) at: usize,
    /// How many fields came before, dropped ones included: they count against the trailers' limit.
    pub(super) field_count: usize,
}

impl HeadParser {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::RequestLine { searched: 0 },
            gathered: Gathered::default(),
        }
    }

    /// Reads on; `Some` when the head is complete. `input` starts where the head does.
    #[inline]
    pub(super) fn poll(
        &mut self,
        input: &[u8],
        rules: &Rules,
        trusted: bool,
        parts: &mut HeadParts,
    ) -> Result<Option<HeadEnd>, PeerFault> {
        let mut section = match &mut self.stage {
            Stage::Fields(section) => *section,
            Stage::RequestLine { searched } => {
                match read_request_line(input, searched, rules, parts)? {
                    Some(end) => Section::new(end, 0),
                    None => return Ok(None),
                }
            }
        };
        let end = self.poll_fields(&mut section, input, rules, trusted, parts)?;
        if end.is_none() {
            self.stage = Stage::Fields(section);
        }
        Ok(end)
    }

    #[inline]
    fn poll_fields(
        &mut self,
        section: &mut Section,
        input: &[u8],
        rules: &Rules,
        trusted: bool,
        parts: &mut HeadParts,
    ) -> Result<Option<HeadEnd>, PeerFault> {
        let HeadParts { fields, facts } = parts;
        loop {
            let line = if let Some(line) = section.fast_line(input, rules) {
                line
            } else if let Some(at) = section.end(input, rules) {
                let source = fields.source(input);
                self.gathered.conclude(facts, &rules.limits, source)?;
                let field_count = section.count();
                return Ok(Some(HeadEnd { at, field_count }));
            } else if let Some(line) = section.line(input, rules, &mut fields.scratch)? {
                line
            } else {
                return Ok(None);
            };
            take_field(&mut self.gathered, fields, input, line, rules, trusted)?;
        }
    }
}

#[inline]
fn take_field(
    gathered: &mut Gathered,
    fields: &mut FieldTable,
    input: &[u8],
    line: Line<'_>,
    rules: &Rules,
    trusted: bool,
) -> Result<(), PeerFault> {
    if !keeps_name(line.name, line.classes, &rules.strictness, trusted)? {
        return Ok(());
    }
    gathered.take(line.name, fields.source(input), line.value)?;
    fields.spans.push(line.spans());
    Ok(())
}
