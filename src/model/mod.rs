//! The nouns: [`product`], the row, [`change`], what happened to it, and [`event`], what a source tells of it. No I/O.

pub mod change;
pub mod event;
pub mod product;
