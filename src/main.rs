//! The `rowcast` command.

fn main() {}
