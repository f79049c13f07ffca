//! The events of a source, in one order: [`SourceEvent`].

use crate::model::change::Change;

/// One thing that a source tells. The order of events counts: an event says something of all that came before it and of
/// all that comes after it.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// A change was committed.
    Change(Change),
    /// From here on, every change that is committed is told, until a [`SourceEvent::Gap`]. A change that came since the
    /// last gap may be ahead of it: the source was being connected then.
    Barrier,
    /// From here back, changes may have been missed, and until the next [`SourceEvent::Barrier`] others may be.
    Gap,
}
