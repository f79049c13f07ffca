//! What a connection's task does each time it wakes: write what waits, read what came, carry commands out.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::{ANSWERS_WAITING_MAX, Connection, Connections, Phase};
use crate::fanout::{self, Core, Operation, SlotKey, Subscriber};
use crate::metrics::Limit;
use crate::model::product::ProductId;
use crate::session::close::CloseReason;
use crate::session::command::{self as protocol, Command, Refusal, Why};
use crate::wire::frame::Frame;
use crate::wire::websocket::Opcode;
use crate::wire::websocket::{CodecError, Received};

/// How often a task reads before the core's other tasks get a turn.
const READS_MAX: usize = 8;

/// A command that is being carried out, and what the shards said once all have.
#[derive(Debug)]
pub(super) struct Advancing {
    step: Step,
    /// What was withheld of the command.
    withheld: Option<Why>,
    /// Whether the shards have it, so that their word is news to the task.
    pub(super) is_given: bool,
    /// How many products the shards changed or counted.
    pub(super) applied: Option<usize>,
}

#[derive(Debug)]
enum Step {
    /// Which of the command's products are not new? It may be above the limit only if they all are.
    Counting(Command),
    /// The subscriptions change.
    Applying(Operation, Option<protocol::ReplyId>),
}

/// Goes on until the connection has ended, or nothing can be done before the socket or the shards move.
pub(super) fn drive(connections: &Rc<Connections>, key: SlotKey, cx: &mut Context<'_>) -> Poll<CloseReason> {
    let core = &mut *connections.core.borrow_mut();
    let scratch = &mut *connections.shared.scratch.borrow_mut();
    core.get_mut(key).expect("only its own task removes a connection").resume_writing(cx);
    for _ in 0..READS_MAX {
        advance_command(core, key);
        let connection = core.get_mut(key).expect("only its own task removes a connection");
        match connection.phase {
            Phase::Ended(reason) => return Poll::Ready(reason),
            Phase::Open if connection.is_paused() => return Poll::Pending,
            Phase::Open | Phase::Closing { .. } => {}
        }
        match ready!(connection.poll_read(cx, scratch)) {
            Ok(0) | Err(_) => connection.end(CloseReason::Vanished),
            Ok(read) => receive(core, key, &mut scratch[..read]),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Takes what was read message by message, and keeps what follows a command that is not carried out at once.
fn receive(core: &mut Core<Connection>, key: SlotKey, mut input: &mut [u8]) {
    while !input.is_empty() {
        let connection = core.get_mut(key).expect("only its own task removes a connection");
        if connection.phase != Phase::Open {
            break;
        }
        if connection.is_paused() {
            // What was read earlier and waits still comes after this.
            connection.unread = [&*input, &connection.unread].concat().into();
            break;
        }
        let (taken, command) = connection.decode(input);
        if let Some(command) = command {
            begin_command(core, key, command);
            advance_command(core, key);
        }
        input = &mut input[taken..];
    }
    let connection = core.get_mut(key).expect("only its own task removes a connection");
    connection.decoder.release();
    connection.flush();
}

fn begin_command(core: &mut Core<Connection>, key: SlotKey, mut command: Command) {
    let Some(connection) = core.get_mut(key) else { return };
    let withheld = connection.grant.as_deref().and_then(|grant| protocol::withhold(&mut command, grant));
    let may_exceed = command.operation == Operation::Subscribe
        && connection.subscriptions as usize + command.products.len() > connection.shared.limits.subscriptions_max;
    if may_exceed {
        command.products.sort_unstable();
        command.products.dedup();
        let products = command.products.clone();
        give(core, key, Step::Counting(command), withheld, Operation::Count, products);
    } else {
        apply(core, key, command, withheld);
    }
}

fn apply(core: &mut Core<Connection>, key: SlotKey, command: Command, withheld: Option<Why>) {
    let step = Step::Applying(command.operation, command.reply);
    give(core, key, step, withheld, command.operation, command.products);
}

/// Gives the shards a step of a command.
fn give(
    core: &mut Core<Connection>,
    key: SlotKey,
    step: Step,
    withheld: Option<Why>,
    operation: Operation,
    products: Vec<ProductId>,
) {
    // One is under way at a time.
    const NUMBER: u32 = 0;
    let Some(connection) = core.get_mut(key) else { return };
    let command = Advancing { step, withheld, is_given: false, applied: None };
    connection.command = Some(Box::new(command));
    core.command(key, fanout::Command { number: NUMBER, operation, products });
    if let Some(command) = core.get_mut(key).and_then(|connection| connection.command.as_mut()) {
        command.is_given = true;
    }
}

/// Takes the step after the one that all shards have finished, if one is finished.
fn advance_command(core: &mut Core<Connection>, key: SlotKey) {
    loop {
        let Some(connection) = core.get_mut(key) else { return };
        let Some(command) = connection.command.take_if(|command| command.applied.is_some()) else { return };
        let Advancing { step, withheld, applied: Some(products), .. } = *command else { return };
        match step {
            Step::Applying(operation, reply) => connection.answer_applied(operation, products, reply, withheld),
            Step::Counting(command) => {
                let limit = connection.shared.limits.subscriptions_max;
                if connection.subscriptions as usize + command.products.len() - products > limit {
                    connection.shared.process_metrics.refused(Limit::Subscriptions);
                    let why = Why::TooManySubscriptions { limit };
                    connection.queue.push_control(protocol::refused(&Refusal { reply: command.reply, why }));
                } else {
                    apply(core, key, command, withheld);
                }
            }
        }
        if let Some(connection) = core.get_mut(key) {
            connection.flush();
        }
    }
}

impl Connection {
    /// Remembers how to wake this task, and writes again if the socket can take more.
    fn resume_writing(&mut self, cx: &mut Context<'_>) {
        self.waker.clone_from(cx.waker());
        if self.blocked && self.socket.poll_write_ready(cx).is_ready() {
            self.blocked = false;
            self.flush();
        }
    }

    /// Counts what a command changed, and answers it.
    fn answer_applied(
        &mut self,
        operation: Operation,
        products: usize,
        reply: Option<protocol::ReplyId>,
        withheld: Option<Why>,
    ) {
        let products = u32::try_from(products).expect("fewer products than the limit of subscriptions");
        match operation {
            Operation::Subscribe => self.subscriptions += products,
            Operation::Unsubscribe => self.subscriptions -= products,
            Operation::Count => {}
        }
        let answer = match withheld {
            Some(why) => Some(protocol::refused(&Refusal { reply, why })),
            None => reply.map(|reply| protocol::accepted(&reply, self.subscriptions as usize)),
        };
        if let Some(answer) = answer {
            self.queue.push_control(answer);
        }
    }

    /// Whether to leave the peer's next message where it is.
    fn is_paused(&self) -> bool {
        self.command.is_some() || self.is_held() || (self.blocked && self.queue.control_len() >= ANSWERS_WAITING_MAX)
    }

    /// Whether the peer has sent all that it may in this second.
    fn is_held(&self) -> bool {
        let max = self.shared.limits.messages_per_second_max;
        let (second, messages) = self.messages;
        max > 0 && messages >= max && second == self.shared.wheel.borrow().now()
    }

    /// Counts a message of the peer; the last that it may send in a second holds it until the next.
    fn count_message(&mut self) {
        let now = self.shared.wheel.borrow().now();
        let (second, messages) = self.messages;
        self.messages = (now, if second == now { messages.saturating_add(1) } else { 1 });
        if self.messages.1 == self.shared.limits.messages_per_second_max {
            self.shared.process_metrics.refused(Limit::Commands);
            self.shared.held.borrow_mut().push(self.key);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(scratch.len());
            scratch[..length].copy_from_slice(&self.unread[..length]);
            self.unread = self.unread[length..].into();
            return Poll::Ready(Ok(length));
        }
        let result = ready!(self.socket.poll_read(cx, scratch));
        self.heard = self.shared.wheel.borrow().now();
        Poll::Ready(result)
    }

    /// Decodes one message at the front of `input`: how many bytes it took, and the command that it was.
    fn decode(&mut self, input: &mut [u8]) -> (usize, Option<Command>) {
        let (taken, received) = match self.decoder.decode(input) {
            Ok(decoded) => decoded,
            Err(error) => {
                if error == CodecError::MessageTooBig {
                    self.shared.process_metrics.refused(Limit::MessageBytes);
                }
                self.begin_close(error.into());
                return (0, None);
            }
        };
        match received {
            None => {}
            Some(Received::Pong(_)) => self.count_message(),
            Some(Received::Text(text)) => {
                let parsed = protocol::parse(text, &mut self.shared.json_buffers.borrow_mut());
                self.count_message();
                match parsed {
                    Ok(command) => return (taken, Some(command)),
                    Err(refusal) => self.answer(protocol::refused(&refusal)),
                }
            }
            Some(Received::Ping(payload)) => {
                let pong = Frame::new(Opcode::Pong, payload);
                self.count_message();
                self.answer(pong);
            }
            Some(Received::Binary(_)) => self.begin_close(CloseReason::Binary),
            Some(Received::Close(status)) => {
                let code = status.map(|(code, _)| code);
                self.begin_close(CloseReason::Peer(code));
            }
        }
        (taken, None)
    }

    /// Sends an answer with those that wait, or at once where many wait.
    fn answer(&mut self, frame: Frame) {
        self.queue.push_control(frame);
        if self.queue.control_len() >= ANSWERS_WAITING_MAX {
            self.flush();
        }
    }
}
