//! The task of a core: [`run`].

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::hub::Inbox;
use super::idle::idle_time;
use super::message::Message;
use super::pace::{Pace, gather_step, is_waste};
use super::{Core, Subscriber};

/// The most messages that a core takes before it flushes: enough to join the writes of a burst, few enough that sockets
/// are read between bursts.
const BATCH_MAX: usize = 2048;

/// Carries a core's messages out as they come, and between two batches one slice of the work that its connections asked
/// for.
///
/// A batch is taken twice: once more after everybody who is about to add to it had a turn, the tasks of this thread
/// (they read the requests that write) and the threads that share this processor (they commit and cast). It costs a
/// change that comes alone some microseconds before its first write; a change that does not come alone is spared a
/// write of its own to every subscriber. A core that is busy all the time gives them longer, at most `gather_max`.
pub async fn run<S: Subscriber>(core: Rc<RefCell<Core<S>>>, mut inbox: Inbox, gather_max: Duration) {
    let mut batch = Vec::new();
    let mut pace = Pace::new(gather_max, Instant::now());
    loop {
        if core.borrow().has_work() {
            let_others_run().await;
            take_waiting(&mut inbox, &mut batch);
        } else {
            if inbox.messages.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return;
            }
            // Other cores can begin with their parts of the work that woke this one.
            core.borrow_mut().send_waiting();
            let_others_run().await;
            std::thread::yield_now();
        }
        if !batch.is_empty() {
            let longest = pace.gather(Instant::now());
            if longest.is_zero() {
                take_waiting(&mut inbox, &mut batch);
            } else {
                gather(longest, &core, &mut inbox, &mut batch).await;
            }
            let started = Instant::now();
            let frames_per_flush = core.borrow_mut().process(&mut batch);
            pace.delivered(started, Instant::now(), frames_per_flush);
        }
        core.borrow_mut().work();
    }
}

/// Lets every task of this thread that can go on do so, and lets the runtime look at the sockets: Tokio puts a task
/// that yields back into its queue after both. One that wakes itself is put back at once, and a queue that is never
/// empty keeps sockets unread for 61 turns.
async fn let_others_run() {
    tokio::task::yield_now().await;
}

/// Adds the messages that are there to a batch.
fn take_waiting(inbox: &mut Inbox, batch: &mut Vec<Message>) {
    while batch.len() < BATCH_MAX
        && let Ok(message) = inbox.messages.try_recv()
    {
        batch.push(message);
    }
}

/// Adds to a batch the messages of a time, while the core has other things to do: one that rests would only wait.
async fn gather<S: Subscriber>(
    longest: Duration,
    core: &RefCell<Core<S>>,
    inbox: &mut Inbox,
    batch: &mut Vec<Message>,
) {
    let (started, idle_before) = (Instant::now(), idle_time());
    let step = gather_step(longest);
    while started.elapsed() < longest && batch.len() < BATCH_MAX {
        if core.borrow().has_work() {
            core.borrow_mut().work();
            let_others_run().await;
            take_waiting(inbox, batch);
            continue;
        }
        // The end of the time is the usual case; the messages that came in it are in the batch.
        let is_full = timeout(step, fill(inbox, batch)).await.is_ok();
        if is_full || is_waste(idle_time().saturating_sub(idle_before), started.elapsed()) {
            return;
        }
    }
}

/// Adds messages to a batch as they come, until it is full or the inbox has closed. Cancel-safe.
async fn fill(inbox: &mut Inbox, batch: &mut Vec<Message>) {
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        if inbox.messages.recv_many(batch, room).await == 0 {
            return;
        }
    }
}
