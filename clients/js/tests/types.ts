// The types, as a user meets them: compiled with --strict, never run.

import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { connect, RowcastError, type Change, type Client, type Entry, type State } from 'rowcast-client';
import { useClientState, useRow, useRows } from 'rowcast-client/react';

interface Order {
  id: number;
  state: 'placed' | 'paid';
}

interface Product {
  productId: number;
  productName: string;
}

const client: Client<{ orders: Order; products: Product }> = connect('wss://host/websocket', {
  token: async () => 'a token',
  WebSocket,
  EventSource,
  parse: JSON.parse,
  silenceMs: 10_000,
  losesChanges: true,
});

const end: () => void = client.subscribe({ table: 'orders', keys: [17, 'a-9'] }, ({ key, row, previous, action }) => {
  const state: 'placed' | 'paid' | undefined = row?.state;
  const was: Order | undefined = previous;
  const name: 'INSERT' | 'UPDATE' | 'DELETE' | 'SNAPSHOT' | 'ABSENT' = action;
  console.log(key, state, was, name);
});
end();

client.subscribe('*', ({ row }) => row?.productName);
client.subscribe([1, 2], async ({ row }: Change<Product>) => row);
client.subscribe({ productIDs: [1] }, { complete() {}, refused: (error) => console.log(error.code, error.table) });
client.subscribe({ table: 'orders', keys: '*' }, { change: (change: Change<Order>) => change.version });
const order: Order | undefined = client.get('orders', 17);
for (const entry of client.rows('orders')) console.log(entry.row.state, entry.version, order);
const off: () => void = client.on('state', (state: State) => console.log(state));
client.on('error', (error) => error instanceof RowcastError && error.code);
client.on('skipped', (count) => count + 1);
client.token = 'another';
client.hurry();
off();
client.close();

// @ts-expect-error: there is no such table.
client.subscribe({ table: 'nothing', keys: '*' }, () => {});
// @ts-expect-error: a row may not exist.
client.subscribe({ table: 'orders', keys: [1] }, ({ row }) => row.state);
// @ts-expect-error: an order has no such member.
client.subscribe({ table: 'orders', keys: [1] }, ({ row }) => row?.colour);
// @ts-expect-error: a key is a number or a text.
client.subscribe({ table: 'orders', keys: [{}] }, () => {});
// @ts-expect-error: the state is the client's.
client.state = 'live';
// @ts-expect-error: there is no such event.
client.on('sometimes', () => {});

const untyped: Client = connect();
const anything: object | undefined = untyped.get('whatever', 1);
untyped.subscribe({ table: 'whatever', keys: [1] }, ({ row }) => console.log(row, anything));

export function Orders(): string {
  const one: Order | undefined = useRow(client, 'orders', 17);
  const all: readonly Entry<Order>[] = useRows(client, 'orders', '*');
  const state: State = useClientState(client);
  return `${one?.state} ${all.length} ${state}`;
}
