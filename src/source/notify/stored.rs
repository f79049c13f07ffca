//! The messages that were too long for a notification: [`Stored`].

use super::Lost;
use super::notification::{self, Notification, Payload, RowAt, TableChange, TablePayload};

/// A message that was too long for its notification, as it stands under its version. It may be that of another row: where the
/// sequence was set back, two changes have drawn the same version.
pub(super) struct Stored(pub(super) String);

impl Stored {
    /// Returns the message, if it is that of this product.
    pub(super) fn of_product(self, notification: &Notification) -> Result<String, Lost> {
        let is_its =
            |found: &Notification| (found.product_id, found.version) == (notification.product_id, notification.version);
        match notification::parse(&self.0) {
            Some(Payload::Change(found)) if is_its(&found) => Ok(self.0),
            _ => Err(Lost::Removed(notification.version)),
        }
    }

    /// Returns the row, if it is that of this change.
    pub(super) fn row_of(&self, change: &TableChange<'_>) -> Result<&str, Lost> {
        match notification::parse(&self.0) {
            Some(Payload::Table(TablePayload::Change(found @ TableChange { row: RowAt::Payload(row), .. })))
                if found.is_of(change) =>
            {
                Ok(row)
            }
            _ => Err(Lost::Removed(change.version)),
        }
    }
}
