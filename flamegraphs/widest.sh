#!/usr/bin/env bash
# Prints the widest frames of folded stacks, as shares of all samples: by what they and all that they called took, and by
# what they took themselves. Leaves out of the first list what starts a thread, polls a task or enters the kernel, which
# are in nearly every stack.
#
#   flamegraphs/widest.sh FOLDED [HOW_MANY]
set -euo pipefail

awk -v how_many="${2:-12}" '
    function print_top(shares, title,    command, name) {
        print title
        command = "sort -rn | head -n " how_many
        for (name in shares) printf "%6.1f %%  %s\n", 100 * shares[name] / all, name | command
        close(command)
    }
    BEGIN { base = "^core$|^rowcast$|start_thread|thread_start|__rust_begin_short_backtrace|FnOnce::call_once|tokio::runtime::|entry_SYSCALL|do_syscall_64|task_tracker" }
    {
        samples = $NF
        sub(/ [0-9]+$/, "")
        depth = split($0, frames, ";")
        all += samples
        own[frames[depth]] += samples
        delete seen
        for (place = 1; place <= depth; place++)
            if (!(frames[place] in seen) && frames[place] !~ base) { seen[frames[place]]; whole[frames[place]] += samples }
    }
    END { print_top(whole, "with what they called:"); print_top(own, "by themselves:") }
' "$1"
