//! The events of a source, in one order: [`SourceEvent`].

use crate::model::change::Change;
use crate::model::epoch::Epoch;
use crate::model::table::TableId;

/// One thing that a source tells. The order of events counts: an event says something of all that came before it and of
/// all that comes after it.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// A change was committed.
    Change(Change),
    /// From here on, every change that is committed is told, until a [`SourceEvent::Gap`], and its version is one of
    /// this epoch. A change that came since the last gap may be ahead of it: the source was being connected then. It
    /// comes without a gap before it where the epoch alone is another: the versions told before mean nothing then.
    Began(Epoch),
    /// From here back, changes may have been missed, and until the next [`SourceEvent::Began`] others may be.
    Gap,
    /// From here back, changes of this table may have been missed; from here on, none is. Ends a [`SourceEvent::TableLost`].
    Missed(TableId),
    /// From here back, changes of this table may have been missed, and until the next [`SourceEvent::Missed`] or
    /// [`SourceEvent::TableBegan`] of it others may be.
    TableLost(TableId),
    /// As [`SourceEvent::Missed`], and the versions of this table are of this epoch from here on: those told before mean
    /// nothing. It ends with the next epoch of the table, and with the next of all, unless it came before the first.
    TableBegan(TableId, Epoch),
    /// The mark that the read with this number put into the stream: all that the read saw has been told before it.
    Barrier(u64),
}
