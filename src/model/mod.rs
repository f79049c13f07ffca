//! The nouns: [`table`], [`key`] and [`topic`], which row of which table; [`row`], its JSON; [`product`], the schema that is
//! built in; [`change`], a change to a row, [`event`], an event of a source, and [`epoch`], a history of versions. No I/O.

pub mod change;
pub mod epoch;
pub mod event;
pub mod key;
mod merge;
pub mod product;
pub mod row;
pub mod table;
pub mod topic;
