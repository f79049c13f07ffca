//! Turns: a core reads from the connections that have sent much one after the other, for a short time, and between two
//! such times delivers changes and looks at its sockets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::Connections;
use super::read::Slice;
use crate::fanout::SlotKey;

/// The time for which a core reads before it does something else. A single message may take longer.
const TURN: Duration = Duration::from_micros(50);

/// The connections of a core that wait for a turn, first in first out.
#[derive(Default)]
pub(super) struct Turns {
    waiting: RefCell<VecDeque<SlotKey>>,
    waker: Cell<Option<Waker>>,
}

impl Turns {
    pub(super) fn push(&self, key: SlotKey) {
        self.waiting.borrow_mut().push_back(key);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn pop(&self) -> Option<SlotKey> {
        self.waiting.borrow_mut().pop_front()
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.waiting.borrow().is_empty() {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

impl Connections {
    /// Gives turns, for ever.
    pub(super) async fn take_turns(&self) {
        loop {
            self.shared.turns.wait().await;
            let until = Instant::now() + TURN;
            while let Some(key) = self.shared.turns.pop() {
                self.take_turn(key, until);
                if Instant::now() >= until {
                    break;
                }
            }
            // Comes back only after the runtime has looked at its sockets; a task that wakes itself comes back before.
            tokio::task::yield_now().await;
        }
    }

    fn take_turn(&self, key: SlotKey, until: Instant) {
        let waker = match self.core.borrow_mut().get_mut(key) {
            Some(connection) => {
                connection.in_turns = false;
                connection.waker.clone()
            }
            None => return,
        };
        self.serve(key, &mut std::task::Context::from_waker(&waker), Slice::turn(until));
    }
}
