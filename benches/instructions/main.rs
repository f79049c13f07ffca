//! How many instructions the hot paths take, counted under Valgrind: repeatable where times are not.
//!
//! `scripts/instructions.sh` installs what this needs, runs it, and fails where a path takes 5% more than its budget in
//! `budgets.rs`. The name of a budget is that of its function, in capitals.

#![expect(unreachable_pub, clippy::unnecessary_wraps, reason = "so Gungraun's macros write it")]

#[path = "../fixtures/mod.rs"]
mod fixtures;

mod budgets;
mod fanout;
mod input;

use gungraun::main;

use self::fanout::{broadcast, index, send_queue};
use self::input::{bytes_in, bytes_out};

main!(library_benchmark_groups = [bytes_out, index, broadcast, send_queue, bytes_in]);
