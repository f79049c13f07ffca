//! The nouns: [`product`], the row, [`change`], a change to it, and [`event`], an event of a source. No I/O.

pub mod change;
pub mod event;
pub mod product;
