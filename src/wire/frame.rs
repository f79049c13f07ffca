//! The frames that go out on a WebSocket: [`Frame`], encoded once and shared by everything that sends it. On an event
//! stream go [events](super::event_stream) in their place.

use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::event_stream;
use super::websocket::Opcode;
use crate::model::change::{Change, ChangeBody, write_key_alone, write_snapshot_json};
use crate::model::key::Key;
use crate::model::row::Row;
use crate::model::table::{Table, TableId, Tables};

/// FIN, one bit of the first byte: this frame ends its message.
const FIN: u8 = 0x80;
/// Two bytes, and eight more for a length of 65,536 and above.
const HEADER_BYTES_MAX: usize = 10;
/// The room that is left in a buffer, so that `Bytes` counts its holders from the start: a full one is found out to be
/// shared by each that comes.
const SPARE_BYTES: usize = 1;
/// The bytes around a row in the JSON of its change, about: a version, and of other tables than products a name and a key.
const ROW_HEAD_BYTES: usize = 64;

/// A whole, unmasked server WebSocket frame (RFC 6455, §5.2), or an event: immutable, and shared rather than copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Returns a frame of this kind around `payload`.
    #[must_use]
    pub fn new(opcode: Opcode, payload: &[u8]) -> Self {
        Self::build(opcode, payload.len(), |buffer| buffer.extend_from_slice(payload))
    }

    /// Reads the places in memory that whoever shares it begins with.
    pub(crate) fn fetch(&self) -> u8 {
        u8::from(self.0.is_unique()) ^ self.0.first().copied().unwrap_or(0)
    }

    /// Returns the text frame of a change. This is the one place where a change's bytes are produced.
    #[must_use]
    pub fn of_change(change: &Change, tables: &Tables) -> Self {
        let json_bytes = match &change.body {
            ChangeBody::Row(_, row) => ROW_HEAD_BYTES + row.as_bytes().len(),
            ChangeBody::Encoded(json) => json.len(),
        };
        Self::build(Opcode::Text, json_bytes, |buffer| change.write_json(tables, buffer))
    }

    /// Returns the text frame of a row as it is.
    #[must_use]
    pub fn of_snapshot(version: u64, table: &Table, key: &Key, row: &Row) -> Self {
        let json_bytes = ROW_HEAD_BYTES + row.as_bytes().len();
        Self::build(Opcode::Text, json_bytes, |buffer| write_snapshot_json(version, table, key, row, buffer))
    }

    /// Returns the text frame that says that a row does not exist, and the version of its deletion; 0: not known.
    #[must_use]
    pub fn of_absence(table: &Table, key: &Key, version: u64) -> Self {
        Self::of_absences(table, &[(key, version)])
    }

    /// Returns the text frame that says that these rows of a table do not exist, with the version up to which that is
    /// known of each; 0 if it is not known.
    #[must_use]
    pub fn of_absences(table: &Table, rows: &[(&Key, u64)]) -> Self {
        Self::build(Opcode::Text, 32 + 24 * rows.len(), |json| {
            let mut head: &[u8] = br#"{"absent":["#;
            for (key, _) in rows {
                json.extend_from_slice(head);
                key.write_json(json);
                head = b",";
            }
            head = br#"],"versions":["#;
            for (_, version) in rows {
                json.extend_from_slice(head);
                json.extend_from_slice(version.to_string().as_bytes());
                head = b",";
            }
            json.push(b']');
            if table.id != TableId::PRODUCTS {
                json.extend_from_slice(br#","table":"#);
                table.write_name(json);
            }
            json.push(b'}');
        })
    }

    /// Returns the text frame of a row that cannot be read: its key alone, like that of a change that is too large.
    #[must_use]
    pub fn of_unreadable(table: &Table, key: &Key, version: u64) -> Self {
        Self::build(Opcode::Text, 96, |json| write_key_alone("SNAPSHOT", version, table, key, json))
    }

    /// Writes the payload behind room for the longest header, then the header right before it: no second copy.
    fn build(opcode: Opcode, payload_bytes_expected: usize, write_payload: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES_MAX + payload_bytes_expected + SPARE_BYTES);
        buffer.resize(HEADER_BYTES_MAX, 0);
        write_payload(&mut buffer);
        let payload_bytes = buffer.len() - HEADER_BYTES_MAX;
        let start = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
            (Ok(short @ 0..=125), _) => {
                buffer[9] = short;
                8
            }
            (_, Ok(medium)) => {
                buffer[7] = 126;
                buffer[8..10].copy_from_slice(&medium.to_be_bytes());
                6
            }
            _ => {
                buffer[1] = 127;
                buffer[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                0
            }
        };
        buffer[start] = FIN | opcode as u8;
        let mut frame = Bytes::from(buffer);
        frame.advance(start);
        Self(frame)
    }

    /// Returns what is no WebSocket's frame.
    pub(crate) fn of_bytes(mut bytes: Vec<u8>) -> Self {
        bytes.reserve_exact(SPARE_BYTES);
        Self(bytes.into())
    }

    /// Returns the payload of a whole WebSocket frame.
    pub(super) fn payload(&self) -> &[u8] {
        &self.0[header_bytes(&self.0)..]
    }

    /// Returns the rest of this frame after its first `sent` bytes, for a socket that took only a part.
    #[must_use]
    pub fn after(&self, sent: usize) -> Self {
        Self(self.0.slice(sent..))
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Frames that go out one after the other, in one buffer, each with the version of its change: the casts of one topic
/// in one batch, so that each subscriber is given all of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRun {
    bytes: Bytes,
    versions: Versions,
}

/// The versions of a run's frames. Most runs have one frame, and own nothing for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Versions {
    One(u64),
    /// The last `frames` of `all`: taking a frame off the run moves nothing.
    Last {
        frames: u32,
        all: Arc<Vec<u64>>,
    },
}

impl FrameRun {
    /// Returns a run of one frame.
    #[must_use]
    pub fn one(version: u64, frame: Frame) -> Self {
        Self { bytes: frame.0, versions: Versions::One(version) }
    }

    /// Joins these frames, with the versions of their changes, into one run, in their order. A single one is shared;
    /// several are copied, once for all subscribers that get them.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn join(frames: &[(u64, Frame)]) -> Self {
        match frames {
            [] => panic!("a run has a frame"),
            [(version, frame)] => Self::one(*version, frame.clone()),
            _ => {
                let mut bytes =
                    Vec::with_capacity(frames.iter().map(|(_, frame)| frame.len()).sum::<usize>() + SPARE_BYTES);
                for (_, frame) in frames {
                    bytes.extend_from_slice(frame);
                }
                let all = Arc::new(frames.iter().map(|&(version, _)| version).collect());
                let frames = u32::try_from(frames.len()).expect("few frames make a run");
                Self { bytes: bytes.into(), versions: Versions::Last { frames, all } }
            }
        }
    }

    /// Returns the number of its frames; at least one.
    #[must_use]
    pub const fn frames(&self) -> usize {
        match &self.versions {
            Versions::One(_) => 1,
            Versions::Last { frames, .. } => *frames as usize,
        }
    }

    /// Returns the version of each frame, in their order.
    #[must_use]
    pub fn versions(&self) -> &[u64] {
        match &self.versions {
            Versions::One(version) => slice::from_ref(version),
            Versions::Last { frames, all } => &all[all.len() - *frames as usize..],
        }
    }

    /// Returns the version and the payload of each of its WebSocket frames, in their order.
    pub(super) fn payloads(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &*self.bytes;
        self.versions().iter().map(move |&version| {
            let (frame, after) = rest.split_at(frame_bytes(rest));
            rest = after;
            (version, &frame[header_bytes(frame)..])
        })
    }

    /// Returns a run of as many frames with the same versions, whose bytes are these.
    pub(super) fn with_bytes(&self, mut bytes: Vec<u8>) -> Self {
        bytes.reserve_exact(SPARE_BYTES);
        Self { bytes: bytes.into(), versions: self.versions.clone() }
    }

    /// Takes the first frame and its version off; the run is gone with its last.
    #[must_use]
    pub fn split_first(self) -> ((u64, Frame), Option<Self>) {
        let version = self.versions()[0];
        if self.frames() == 1 {
            return ((version, Frame(self.bytes)), None);
        }
        let first = frame_bytes(&self.bytes);
        let (frame, bytes) = (Frame(self.bytes.slice(..first)), self.bytes.slice(first..));
        let versions = match self.versions {
            Versions::Last { frames, all } if frames > 2 => Versions::Last { frames: frames - 1, all },
            Versions::Last { all, .. } => Versions::One(*all.last().expect("it has two")),
            Versions::One(_) => unreachable!("it has several frames"),
        };
        ((version, frame), Some(Self { bytes, versions }))
    }
}

impl Deref for FrameRun {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Returns the length of the frame or the event at the front of `bytes`.
fn frame_bytes(bytes: &[u8]) -> usize {
    if bytes[0] & FIN == 0 {
        return event_stream::event_bytes(bytes);
    }
    let payload_bytes = match bytes[1] {
        126 => usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => {
            let length = u64::from_be_bytes(bytes[2..10].try_into().expect("eight bytes"));
            usize::try_from(length).expect("a frame fits in memory")
        }
        short => usize::from(short),
    };
    header_bytes(bytes) + payload_bytes
}

/// Returns the length of the header at the front of a WebSocket's frame.
fn header_bytes(bytes: &[u8]) -> usize {
    match bytes[1] {
        126 => 4,
        127 => HEADER_BYTES_MAX,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Action;
    use crate::model::product::{Product, ProductId};
    use crate::model::table::{PRODUCTS, Tables};

    #[test]
    fn the_header_is_the_shortest_that_holds_the_length() {
        for (payload_bytes, header) in [
            (0usize, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![b'x'; payload_bytes];
            let frame = Frame::new(Opcode::Text, &payload);
            assert_eq!(frame[..header.len()], header);
            assert_eq!(frame[header.len()..], payload);
        }
    }

    #[test]
    fn control_frames_have_their_opcodes() {
        assert_eq!(*Frame::new(Opcode::Ping, b"a"), [0x89, 1, b'a']);
        assert_eq!(*Frame::new(Opcode::Pong, b""), [0x8A, 0]);
        assert_eq!(*Frame::new(Opcode::Close, &1000u16.to_be_bytes()), [0x88, 2, 0x03, 0xE8]);
        assert_eq!(*Frame::new(Opcode::Binary, b"b"), [0x82, 1, b'b']);
    }

    #[test]
    fn a_change_is_its_json_in_one_text_frame() {
        let product = Product {
            product_id: ProductId::new(7).unwrap(),
            manufacturer: "m".into(),
            price_per_unit: "1EUR".into(),
            units_available: -1,
            product_name: "n".repeat(70_000),
        };
        let tables = Tables::new();
        let change = Change::of_row(Action::Delete, product.product_id.subject(), 3, Row::from(&product));
        let mut json = Vec::new();
        change.write_json(&tables, &mut json);
        assert_eq!(Frame::of_change(&change, &tables), Frame::new(Opcode::Text, &json));
    }

    #[test]
    fn what_is_absent_and_what_cannot_be_read_are_told_by_their_ids() {
        let (products, key) = (Tables::new().find(PRODUCTS).unwrap(), Key::Integer(7));
        assert_eq!(
            Frame::of_absence(&products, &key, 12),
            Frame::new(Opcode::Text, br#"{"absent":[7],"versions":[12]}"#)
        );
        let unreadable = br#"{"action":"SNAPSHOT","version":3,"product":{"productId":7}}"#;
        assert_eq!(Frame::of_unreadable(&products, &key, 3), Frame::new(Opcode::Text, unreadable));
    }

    #[test]
    fn a_frame_after_what_was_sent_is_the_rest_of_it() {
        let frame = Frame::new(Opcode::Text, b"abc");
        assert_eq!(*frame.after(3), *b"bc");
    }

    #[test]
    fn a_run_is_taken_apart_into_its_frames_and_their_versions() {
        let lengths = [0, 125, 126, 65_535, 65_536, 3];
        let frames: Vec<(u64, Frame)> =
            (10..).zip(lengths.map(|length| Frame::new(Opcode::Text, &vec![b'x'; length]))).collect();
        let run = FrameRun::join(&frames);
        let joined: Vec<u8> = frames.iter().flat_map(|(_, frame)| frame.to_vec()).collect();
        assert_eq!((run.frames(), &*run), (6, &*joined));
        let mut rest = Some(run);
        for (place, frame) in frames.iter().enumerate() {
            let run = rest.unwrap();
            assert!(run.versions().iter().eq(frames[place..].iter().map(|(version, _)| version)));
            let (first, after) = run.split_first();
            assert_eq!(first, *frame);
            rest = after;
        }
        assert_eq!(rest, None);
        assert_eq!(FrameRun::join(&frames[..1]), FrameRun::one(10, frames[0].1.clone()));
    }
}
