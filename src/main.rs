//! The program around [`rowcast::program`].

use std::process::ExitCode;

/// Gives memory back after a flood, which the C library's allocator keeps (ARCHITECTURE.md, Decisions).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rowcast::program::main()
}
