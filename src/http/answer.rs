//! The answer to a request: [`Answer`], whose body is there whole or is made as the client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};

use super::budget::Lease;

/// An answer of either HTTP version.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
pub struct AnswerBody(Content);

enum Content {
    /// All of it, and the bytes of the budget that it holds.
    Whole { bytes: Bytes, _held: Lease },
    /// Made piece by piece; `bytes` is the length of what is still to come, where that is known.
    Pieces { pieces: Pin<Box<dyn Stream<Item = Result<Bytes, Broken>>>>, bytes: Option<u64> },
}

/// The next part of an answer could not be had; its client must see that it is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer ends early")]
pub struct Broken;

impl AnswerBody {
    /// Makes a body that is there, with its lease from the budget for answers.
    pub(super) fn whole(bytes: impl Into<Bytes>, lease: Lease) -> Self {
        Self(Content::Whole { bytes: bytes.into(), _held: lease })
    }

    /// Makes a body whose pieces are made as the client takes them.
    pub(super) fn pieces(pieces: impl Stream<Item = Result<Bytes, Broken>> + 'static) -> Self {
        Self(Content::Pieces { pieces: Box::pin(pieces), bytes: None })
    }

    /// Tells the length of all the pieces.
    pub(super) fn of_length(mut self, length: u64) -> Self {
        if let Content::Pieces { bytes, .. } = &mut self.0 {
            *bytes = Some(length);
        }
        self
    }
}

impl Default for AnswerBody {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl<T: Into<Bytes>> From<T> for AnswerBody {
    fn from(bytes: T) -> Self {
        Self::whole(bytes, Lease::default())
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Content::Whole { bytes, .. } => write!(f, "{} bytes", bytes.len()),
            Content::Pieces { .. } => f.write_str("pieces"),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.0 {
            Content::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Content::Whole { bytes, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces { pieces, bytes } => {
                let piece = ready!(pieces.as_mut().poll_next(cx)).transpose()?;
                if let (Some(bytes), Some(piece)) = (bytes, &piece) {
                    *bytes -= piece.len() as u64;
                }
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Whole { bytes, .. } if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces { bytes, .. } => bytes.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
