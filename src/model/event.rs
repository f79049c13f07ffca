//! What a source tells, in one order: [`SourceEvent`].

use crate::model::change::Change;

/// One thing that a source tells. What counts is the order in which it is told: an event says something of what came
/// before it and of what comes after it.
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
