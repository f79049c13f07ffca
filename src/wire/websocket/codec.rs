//! The input from clients, message by message: [`Decoder`], pure and sans I/O.
//!
//! A message that stands whole in the input is decoded where it stands: the mask is taken off in place, and nothing is
//! allocated. Only an incomplete message is copied, as it comes, so that a length that a peer announces costs nothing.

use super::header::{HEADER_BYTES_MAX, Header, Kind, unmask};
use crate::wire::websocket::Opcode;

/// A peer's breach of RFC 6455, or of the limit. The connection is to be failed (§7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The framing is wrong.
    #[error("{0}")]
    Protocol(&'static str),
    /// A text message, or the reason in a close frame, is not UTF-8.
    #[error("a text message is not UTF-8")]
    InvalidUtf8,
    /// A message is longer than the limit.
    #[error("a message is too big")]
    MessageTooBig,
}

/// A whole message, or a control frame, that has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text message, which is UTF-8; the reader may use the bytes as working space.
    Text(&'a mut [u8]),
    /// A binary message.
    Binary(&'a mut [u8]),
    /// A ping, to be answered with the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes, with the code and the reason if it gave them.
    Close(Option<(u16, &'a str)>),
}

/// A message costs one unit of work for each frame, and one for each further part of so many bytes.
pub const UNIT_BYTES: usize = 4 * 1024;
/// The most frames of an incomplete message that one call takes.
const FRAMES_MAX: u32 = 64;

/// Cuts the bytes of one client into messages.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: u32,
    /// The work that the bytes so far have cost, since it was last asked for.
    units: u32,
    /// The incomplete message; most connections, most of the time, have none.
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// Returns a decoder at the start of a connection, for messages of at most so many bytes.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max: u32::try_from(message_bytes_max).unwrap_or(u32::MAX), units: 0, partial: None }
    }

    /// Returns the units of work that were decoded since this was last asked: one for each frame, those of control and
    /// continuation included, and one for each further 4 KiB of a message.
    pub fn take_units(&mut self) -> u32 {
        std::mem::take(&mut self.units)
    }

    /// Takes bytes off the front of `input`, up to and including the end of the first message or control frame; returns
    /// the number of bytes, and that message or frame: `None` if the input ended before, or after 64 frames of a
    /// message that goes on; call again then with the bytes that were not taken.
    ///
    /// # Errors
    /// The peer broke the protocol or the limit; the decoder is of no use from then on.
    pub fn decode<'a>(&'a mut self, input: &'a mut [u8]) -> Result<(usize, Option<Received<'a>>), CodecError> {
        self.release();
        let message_bytes_max = self.message_bytes_max as usize;
        if self.partial.is_none()
            && let Some(whole) = whole_message(input, message_bytes_max)?
        {
            self.units = self.units.saturating_add(1 + units_of(0, whole.end - whole.header.bytes));
            return Ok((whole.end, Some(received_whole(input, &whole)?)));
        }
        self.partial.get_or_insert_default().decode(input, message_bytes_max, &mut self.units)
    }

    /// Gives back the memory of a message that was complete.
    pub fn release(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_done()) {
            self.partial = None;
        } else if let Some(partial) = &mut self.partial
            && partial.control_done
        {
            partial.control_done = false;
            partial.control = Vec::new();
        }
    }
}

/// The place of a whole, unfragmented message in the input.
struct WholeMessage {
    header: Header,
    end: usize,
}

fn whole_message(input: &[u8], message_bytes_max: usize) -> Result<Option<WholeMessage>, CodecError> {
    let Some(header) = Header::parse(input)? else { return Ok(None) };
    check_length(&header, 0, message_bytes_max)?;
    let end = header.bytes as u64 + header.payload_bytes;
    let is_whole = header.fin && header.kind != Kind::Continuation;
    Ok(usize::try_from(end).ok().filter(|&end| is_whole && end <= input.len()).map(|end| WholeMessage { header, end }))
}

fn received_whole<'a>(input: &'a mut [u8], whole: &WholeMessage) -> Result<Received<'a>, CodecError> {
    let payload = &mut input[whole.header.bytes..whole.end];
    unmask(payload, whole.header.mask, 0);
    match whole.header.kind {
        Kind::Control(opcode) => control(opcode, payload),
        Kind::Start(Opcode::Text) => match std::str::from_utf8(payload) {
            Ok(_) => Ok(Received::Text(payload)),
            Err(_) => Err(CodecError::InvalidUtf8),
        },
        Kind::Start(_) | Kind::Continuation => Ok(Received::Binary(payload)),
    }
}

/// Returns the units that bytes of a message cost, if `before` of it came earlier.
fn units_of(before: usize, bytes: usize) -> u32 {
    u32::try_from((before + bytes) / UNIT_BYTES - before / UNIT_BYTES).unwrap_or(u32::MAX)
}

const fn check_length(header: &Header, before: usize, message_bytes_max: usize) -> Result<(), CodecError> {
    let is_control = matches!(header.kind, Kind::Control(_));
    if !is_control && header.payload_bytes > (message_bytes_max - before) as u64 {
        return Err(CodecError::MessageTooBig);
    }
    Ok(())
}

fn control(opcode: Opcode, payload: &[u8]) -> Result<Received<'_>, CodecError> {
    match opcode {
        Opcode::Ping => Ok(Received::Ping(payload)),
        Opcode::Pong => Ok(Received::Pong(payload)),
        _ => close(payload).map(Received::Close),
    }
}

fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, CodecError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(CodecError::Protocol("a close code is cut off")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(CodecError::Protocol("a close code is not one that may be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| CodecError::InvalidUtf8)?;
    Ok(Some((code, reason)))
}

/// A message of which only a part is there, and the frame of it that is arriving.
#[derive(Debug, Default)]
struct Partial {
    /// The bytes of an incomplete head.
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: usize,
    frame: Option<Arriving>,
    /// The kind of the message, once its first frame has come.
    opcode: Option<Opcode>,
    message: Vec<u8>,
    /// The number of bytes of a text message that are known to be UTF-8.
    utf8_bytes: usize,
    message_done: bool,
    /// The payload of a control frame, which may come between the frames of a message.
    control: Vec<u8>,
    control_done: bool,
}

/// A frame whose head is known.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    header: Header,
    arrived: u64,
}

/// The message or control frame that is complete with a frame that arrived whole.
enum Completed {
    Nothing,
    Control(Opcode),
    Message(Opcode),
}

impl Partial {
    /// Returns whether nothing is kept that is still to come to an end.
    const fn is_done(&self) -> bool {
        self.message_done || (self.opcode.is_none() && self.frame.is_none() && self.head_bytes == 0)
    }

    fn decode(
        &mut self,
        input: &mut [u8],
        message_bytes_max: usize,
        units: &mut u32,
    ) -> Result<(usize, Option<Received<'_>>), CodecError> {
        let (mut taken, mut frames) = (0, 0);
        while frames < FRAMES_MAX {
            let Some(mut frame) = self.frame else {
                let Some(&byte) = input.get(taken) else { return Ok((taken, None)) };
                taken += 1;
                self.take_head(byte, message_bytes_max)?;
                continue;
            };
            let left = frame.header.payload_bytes - frame.arrived;
            let available = &mut input[taken..];
            let length = usize::try_from(left).map_or(available.len(), |left| left.min(available.len()));
            let payload = &mut available[..length];
            unmask(payload, frame.header.mask, frame.arrived);
            if !matches!(frame.header.kind, Kind::Control(_)) {
                *units = units.saturating_add(units_of(self.message.len(), length));
            }
            self.take_payload(frame.header.kind, payload)?;
            taken += length;
            frame.arrived += length as u64;
            self.frame = Some(frame);
            if frame.arrived < frame.header.payload_bytes {
                return Ok((taken, None));
            }
            *units = units.saturating_add(1);
            frames += 1;
            match self.finish_frame(frame.header)? {
                Completed::Nothing => {}
                Completed::Control(opcode) => return Ok((taken, Some(control(opcode, &self.control)?))),
                Completed::Message(Opcode::Text) => return Ok((taken, Some(Received::Text(&mut self.message)))),
                Completed::Message(_) => return Ok((taken, Some(Received::Binary(&mut self.message)))),
            }
        }
        Ok((taken, None))
    }

    fn take_head(&mut self, byte: u8, message_bytes_max: usize) -> Result<(), CodecError> {
        self.head[self.head_bytes] = byte;
        self.head_bytes += 1;
        let Some(header) = Header::parse(&self.head[..self.head_bytes])? else { return Ok(()) };
        check_length(&header, self.message.len(), message_bytes_max)?;
        match (header.kind, self.opcode) {
            (Kind::Continuation, None) => return Err(CodecError::Protocol("there is no message to continue")),
            (Kind::Start(_), Some(_)) => return Err(CodecError::Protocol("a message begins inside another")),
            (Kind::Start(opcode), None) => self.opcode = Some(opcode),
            (Kind::Continuation, Some(_)) | (Kind::Control(_), _) => {}
        }
        self.head_bytes = 0;
        self.frame = Some(Arriving { header, arrived: 0 });
        Ok(())
    }

    fn take_payload(&mut self, kind: Kind, payload: &[u8]) -> Result<(), CodecError> {
        if matches!(kind, Kind::Control(_)) {
            self.control.extend_from_slice(payload);
            return Ok(());
        }
        self.message.extend_from_slice(payload);
        if self.opcode == Some(Opcode::Text) {
            match std::str::from_utf8(&self.message[self.utf8_bytes..]) {
                Ok(_) => self.utf8_bytes = self.message.len(),
                // A character may be cut at the end of the bytes that have come.
                Err(error) if error.error_len().is_none() => self.utf8_bytes += error.valid_up_to(),
                Err(_) => return Err(CodecError::InvalidUtf8),
            }
        }
        Ok(())
    }

    fn finish_frame(&mut self, header: Header) -> Result<Completed, CodecError> {
        self.frame = None;
        match (header.kind, self.opcode) {
            (Kind::Control(opcode), _) => {
                self.control_done = true;
                Ok(Completed::Control(opcode))
            }
            (_, Some(opcode)) if header.fin => {
                if opcode == Opcode::Text && self.utf8_bytes < self.message.len() {
                    return Err(CodecError::InvalidUtf8);
                }
                self.message_done = true;
                Ok(Completed::Message(opcode))
            }
            _ => Ok(Completed::Nothing),
        }
    }
}

#[cfg(test)]
mod tests;
