//! Server-Sent Events (WHATWG HTML, §9.2): a message of the server as an event whose data is its JSON.
//!
//! An event ends with an empty line, and has none within: so a run of events is taken apart without reading their data.

use std::fmt::Write as _;

use memchr::{memchr2, memmem};

use super::frame::{Frame, FrameRun};
use crate::model::epoch::Epoch;

/// The content type of a stream of events.
pub const CONTENT_TYPE: &str = "text/event-stream";
/// The end of an event.
const END: &[u8] = b"\n\n";
/// The bytes of an event beside its data and its id, where the data is one line; and one that stays free.
const AROUND_DATA: usize = b"data: \n\n".len() + 1;
/// The most bytes of an id's line.
const ID_BYTES_MAX: usize = b"id: -\n".len() + 13 + 20;

/// Returns the event of a WebSocket's text frame.
#[must_use]
pub fn event(frame: &Frame) -> Frame {
    let mut bytes = Vec::with_capacity(AROUND_DATA + frame.payload().len());
    write_data(&mut bytes, frame.payload());
    Frame::of_bytes(bytes)
}

/// Returns the event of a row's text frame, whose id tells the version of the row and the epoch of it, if that is known.
#[must_use]
pub fn row(epoch: Option<Epoch>, version: u64, frame: &Frame) -> Frame {
    let mut bytes = Vec::with_capacity(AROUND_DATA + ID_BYTES_MAX + frame.payload().len());
    write_row(&mut bytes, epoch, version, frame.payload());
    Frame::of_bytes(bytes)
}

/// Returns the same of each frame of a run.
#[must_use]
pub fn rows(epoch: Option<Epoch>, run: &FrameRun) -> FrameRun {
    let mut bytes = Vec::with_capacity(run.len() + run.frames() * (AROUND_DATA + ID_BYTES_MAX));
    for (version, payload) in run.payloads() {
        write_row(&mut bytes, epoch, version, payload);
    }
    run.with_bytes(bytes)
}

/// Returns the event of a text frame that asks its reader to come back after so many milliseconds, which `EventSource`
/// does by itself.
#[must_use]
pub fn reconnect(after_ms: u64, frame: &Frame) -> Frame {
    let mut bytes = format!("retry: {after_ms}\n").into_bytes();
    write_data(&mut bytes, frame.payload());
    Frame::of_bytes(bytes)
}

/// Returns the last event of a stream, of the type `close`: what a close frame says.
#[must_use]
pub fn close(code: Option<u16>, sentence: &str) -> Frame {
    let json = serde_json::json!({ "code": code, "reason": sentence });
    Frame::of_bytes(format!("event: close\ndata: {json}\n\n").into_bytes())
}

/// Returns a comment, which keeps proxies from taking the stream for idle, with an event of the type `ping`, by which a page
/// that listens to that type knows that the stream is alive: comments are not told to it.
#[must_use]
pub fn ping() -> Frame {
    Frame::of_bytes(b":\nevent: ping\ndata:\n\n".to_vec())
}

/// Returns the epoch and the version that an id tells (`Last-Event-ID`), if it is one that [`row`] writes.
#[must_use]
pub fn read_id(id: &str) -> Option<(Epoch, u64)> {
    let (epoch, version) = id.split_once('-')?;
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit());
    Some((epoch.parse().ok()?, version.parse().ok().filter(|_| is_number)?))
}

/// Returns the length of the event at the front of `bytes`.
pub(super) fn event_bytes(bytes: &[u8]) -> usize {
    memmem::find(bytes, END).map_or(bytes.len(), |at| at + END.len())
}

fn write_row(bytes: &mut Vec<u8>, epoch: Option<Epoch>, version: u64, json: &[u8]) {
    if let Some(epoch) = epoch {
        let mut id = String::with_capacity(ID_BYTES_MAX);
        let _ = writeln!(id, "id: {epoch}-{version}");
        bytes.extend_from_slice(id.as_bytes());
    }
    write_data(bytes, json);
}

/// Writes JSON as the data of an event, which it ends. JSON as it was written to a database may have ends of lines between
/// its values: each line is a field of its own, and a reader joins them again, by line feeds.
fn write_data(bytes: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        write_line(bytes, &rest[..end]);
        let is_pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    write_line(bytes, rest);
    bytes.push(b'\n');
}

fn write_line(bytes: &mut Vec<u8>, line: &[u8]) {
    bytes.extend_from_slice(b"data: ");
    bytes.extend_from_slice(line);
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::websocket::Opcode;

    /// An event as a reader is given it.
    #[derive(Debug, Default, PartialEq)]
    struct Event {
        kind: String,
        data: String,
        id: String,
    }

    /// Reads a stream as WHATWG HTML, §9.2.6, says; returns its events, and the time of reconnection.
    fn read(stream: &str) -> (Vec<Event>, Option<u64>) {
        let (mut events, mut retry, mut id) = (Vec::new(), None, String::new());
        let (mut kind, mut data) = (String::new(), String::new());
        for line in stream.replace("\r\n", "\n").replace('\r', "\n").split_terminator('\n') {
            if line.is_empty() {
                let (kind, data) = (std::mem::take(&mut kind), std::mem::take(&mut data));
                if let Some(data) = data.strip_suffix('\n') {
                    events.push(Event { kind, data: data.to_owned(), id: id.clone() });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "data" => data.extend([value, "\n"]),
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => retry = value.parse().ok(),
                _ => {}
            }
        }
        (events, retry)
    }

    fn text(frame: &[u8]) -> &str {
        str::from_utf8(frame).unwrap()
    }

    fn epoch() -> Epoch {
        "k3".parse().unwrap()
    }

    #[test]
    fn an_event_is_the_json_of_its_message() {
        let frame = Frame::new(Opcode::Text, br#"{"live":true}"#);
        assert_eq!(text(&event(&frame)), "data: {\"live\":true}\n\n");
        assert_eq!(text(&row(Some(epoch()), 42, &frame)), "id: k3-42\ndata: {\"live\":true}\n\n");
        assert_eq!(text(&row(None, 42, &frame)), "data: {\"live\":true}\n\n");
        let (events, retry) = read(text(&reconnect(850, &frame)));
        assert_eq!((events[0].data.as_str(), retry), (r#"{"live":true}"#, Some(850)));
        let (events, _) = read(text(&close(Some(1012), "the server restarts")));
        assert_eq!(
            (events[0].kind.as_str(), events[0].data.as_str()),
            ("close", r#"{"code":1012,"reason":"the server restarts"}"#)
        );
        let (events, _) = read(text(&ping()));
        assert_eq!((events[0].kind.as_str(), events[0].data.as_str()), ("ping", ""));
    }

    #[test]
    fn an_id_is_read_back_and_nothing_else_is_one() {
        assert_eq!(read_id("k3-42"), Some((epoch(), 42)));
        for id in [
            "",
            "-",
            "k3",
            "k3-",
            "-42",
            "k3-+42",
            "k3--42",
            "k3-4x",
            "K3-42",
            "k3-42-1",
            "k3-99999999999999999999",
            "0-1",
        ] {
            assert_eq!(read_id(id), None, "{id}");
        }
    }

    /// Texts with every end of a line, and what could be taken for a field.
    fn payloads() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("\r\n".to_owned()),
            Just(" ".to_owned()),
            Just(":".to_owned()),
            Just("data: x".to_owned()),
            Just("id".to_owned()),
            "[^\r\n]{0,20}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_a_payload_has_it_is_one_event(payload in payloads(), version: u64) {
            let frame = Frame::new(Opcode::Text, payload.as_bytes());
            // A reader joins lines by line feeds, whatever ended them.
            let data = payload.replace("\r\n", "\n").replace('\r', "\n");
            let (events, _) = read(text(&row(Some(epoch()), version, &frame)));
            prop_assert_eq!(events, [Event { kind: String::new(), data, id: format!("k3-{version}") }]);
        }

        #[test]
        fn a_run_is_taken_apart_into_its_events(payloads in prop::collection::vec(payloads(), 1..6)) {
            let frames: Vec<_> = (7..).zip(&payloads).map(|(version, payload)| {
                (version, Frame::new(Opcode::Text, payload.as_bytes()))
            }).collect();
            let mut rest = Some(rows(Some(epoch()), &FrameRun::join(&frames)));
            for (version, frame) in frames {
                let ((its, first), after) = rest.unwrap().split_first();
                prop_assert_eq!((its, first), (version, row(Some(epoch()), version, &frame)));
                rest = after;
            }
            prop_assert_eq!(rest, None);
        }
    }
}
