//! The nouns: [`product`], the row, and [`change`], what happened to it. No I/O.

pub mod change;
pub mod product;
