//! The nouns: [`product`], the row, [`change`], a change to it, [`event`], an event of a source, and [`epoch`], a history
//! of versions. No I/O.

pub mod change;
pub mod epoch;
pub mod event;
pub mod product;
