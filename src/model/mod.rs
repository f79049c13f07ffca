//! The nouns: [`table`], [`key`] and [`topic`], which row of which table; [`product`], the schema that is built in;
//! [`change`], a change to a row, [`event`], an event of a source, and [`epoch`], a history of versions. No I/O.

pub mod change;
pub mod epoch;
pub mod event;
pub mod key;
pub mod product;
pub mod table;
pub mod topic;
