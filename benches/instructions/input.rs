//! Bytes into changes and commands, changes into bytes.

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group};
use rowcast::model::change::Change;
use rowcast::model::table::Tables;
use rowcast::session::command::{self, Request};
use rowcast::source::notify::notification;
use rowcast::wire::frame::Frame;
use rowcast::wire::websocket::Decoder;
use simd_json::Buffers;

use crate::budgets::{self, within};
use crate::fixtures::{change, change_json, client_frame, encoded_change, subscribe_json, tables};

#[library_benchmark(config = within(budgets::FRAME_OF_A_ROW))]
#[bench::once(change(1), tables())]
fn frame_of_a_row(change: Change, tables: Tables) -> (Frame, Change, Tables) {
    (Frame::of_change(black_box(&change), &tables), change, tables)
}

#[library_benchmark(config = within(budgets::FRAME_OF_READY_JSON))]
#[bench::once(encoded_change(1), tables())]
fn frame_of_ready_json(change: Change, tables: Tables) -> (Frame, Change, Tables) {
    (Frame::of_change(black_box(&change), &tables), change, tables)
}

#[library_benchmark(config = within(budgets::DECODE_SUBSCRIBE))]
#[bench::once(client_frame(0x81, subscribe_json(0..10).as_bytes()))]
fn decode_subscribe(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut decoder = Decoder::new(1000);
    black_box(decoder.decode(black_box(&mut bytes)).expect("the frame is right"));
    bytes
}

#[library_benchmark(config = within(budgets::PARSE_SUBSCRIBE))]
#[bench::once((used_buffers(), Tables::new()), subscribe_json(0..10).into_bytes())]
fn parse_subscribe((mut buffers, tables): (Buffers, Tables), mut text: Vec<u8>) -> (Request, Buffers, Tables, Vec<u8>) {
    let command = command::parse(black_box(&mut text), &mut buffers, &tables, None).expect("it is a command");
    (command, buffers, tables, text)
}

#[library_benchmark(config = within(budgets::PARSE_NOTIFICATION))]
#[bench::once(change_json(1))]
fn parse_notification(payload: String) -> String {
    black_box(notification::parse(black_box(&payload)));
    payload
}

/// Buffers as a core has them, which were used before; the choice of the instructions to parse with is made by then.
fn used_buffers() -> Buffers {
    let mut buffers = Buffers::default();
    command::parse(&mut subscribe_json(0..10).into_bytes(), &mut buffers, &Tables::new(), None)
        .expect("it is a command");
    buffers
}

library_benchmark_group!(name = bytes_out, benchmarks = [frame_of_a_row, frame_of_ready_json]);
library_benchmark_group!(name = bytes_in, benchmarks = [decode_subscribe, parse_subscribe, parse_notification]);
