/** A key of a row: an integer up to ±(2^53 − 1), or a text as the server writes it (a UUID in lower case). */
export type Key = number | string;

/** The rows of each table by its name, for whoever tells their types: `connect<{ orders: Order }>(…)`. */
export type Tables = Record<string, object>;

type Rows<T> = { [Name in keyof T]: object };

/** A row as it is known. It is never altered; a change makes another. */
export interface Entry<Row> {
  readonly key: Key;
  readonly row: Row;
  readonly version: number;
  /** A newer state was told by its key alone, and is being read. */
  readonly isOwed: boolean;
}

/** What happened to a row that a subscriber follows. */
export interface Change<Row> {
  readonly table: string;
  readonly key: Key;
  /** The row as it is; undefined if it does not exist (or was told by its key alone, and is being read). */
  readonly row: Row | undefined;
  /** The row as this client knew it before. */
  readonly previous: Row | undefined;
  readonly version: number;
  /** `SNAPSHOT` and `ABSENT` tell how things are; what happened in between is not known. */
  readonly action: 'INSERT' | 'UPDATE' | 'DELETE' | 'SNAPSHOT' | 'ABSENT';
  readonly isOwed: boolean;
}

export interface Handlers<Row> {
  /**
   * Is told each row as it is first, and then every change. If it throws, or returns a promise that is rejected, it is
   * told the newest state of that row again, after 1, 2, 4 … 30 seconds, until it has taken it.
   */
  change?(change: Change<Row>): unknown;
  /** All that was asked for has been told; after each reconnect again. */
  complete?(): void;
  /** The server will not let it follow some of its rows (`forbidden`, `bad_keys`), or all; most is asked for again. */
  refused?(error: RowcastError): void;
}

export type Handler<Row> = ((change: Change<Row>) => unknown) | Handlers<Row>;

/** `connecting` until everything was there for the first time; then `live`, or `stale`: what is shown may be old. */
export type State = 'connecting' | 'live' | 'stale' | 'closed';

/** What the connection does: it waits until `retryAt`, or it is open and `syncing` until all answers are there. */
export type Phase = 'connecting' | 'syncing' | 'open' | 'waiting' | 'closed';

export interface Options {
  /** The token, or a function that gives one: it is asked again when the token has expired, or may have been refused. */
  token?: string | (() => string | undefined | Promise<string | undefined>);
  /** Where there is none: that of the package `ws`, for example. */
  WebSocket?: new (url: string, protocols: string[]) => object;
  /** Follows rows where no WebSocket gets through. Where there is none: that of the package `eventsource`, or nothing does. */
  EventSource?: new (url: string) => object;
  /** Reads the JSON of messages, for numbers that JavaScript's cannot hold. */
  parse?: (text: string) => any;
  /** After so many milliseconds without a word the server is asked whether it is there (30,000). */
  silenceMs?: number;
  /** The server runs with `--slow-consumer drop`: what it says to have skipped is asked for anew. */
  losesChanges?: boolean;
}

export interface Client<T extends Rows<T> = Tables> {
  readonly state: State;
  readonly phase: Phase;
  /** The time of the next attempt while it waits, as `Date.now()` has it; else null. */
  readonly retryAt: number | null;
  /**
   * Another token, or function. The server takes it at once, by the open connection or a new one; what it grants no more is told
   * as gone and `refused`. One that it does not take (`bad_token`) is an error: the connection goes on under the one before, and
   * the next is opened with it.
   */
  set token(token: Options['token']);

  /** Follows rows of a table. Returns the end of that. */
  subscribe<Name extends keyof T & string>(what: { table: Name; keys: readonly Key[] | '*' }, handler: Handler<T[Name]>): () => void;
  /** Follows products, by their ids. */
  subscribe<Product extends object = 'products' extends keyof T ? T['products'] : object>(
    what: { productIDs: readonly number[] | '*' } | readonly number[] | '*',
    handler: Handler<Product>,
  ): () => void;

  /** The row, as far as somebody follows it here; undefined if it does not exist, or is not known yet. */
  get<Name extends keyof T & string>(table: Name, key: Key): T[Name] | undefined;
  /** The rows of a table that are followed here: of these keys, or all. */
  rows<Name extends keyof T & string>(table: Name, keys?: readonly Key[] | '*'): Iterable<Entry<T[Name]>>;
  /** Whether what is known of a table is its present state, as far as the server knows. */
  isLive(table: string): boolean;

  /** `state`: it, the phase, or a table's liveness has changed. Returns the end of listening. */
  on(type: 'state', listener: (state: State) => void): () => void;
  /** What nobody else hears: refusals, a handler's errors, a token that cannot be had. Without a listener the console tells. */
  on(type: 'error', listener: (error: unknown) => void): () => void;
  /** So many changes gave way, since this reader was too slow. Their newest state comes, unless the server drops it. */
  on(type: 'skipped', listener: (count: number) => void): () => void;

  /** Connects at once, or looks whether the connection is alive. Pages do so by themselves when they are looked at again. */
  hurry(): void;
  /** Ends everything. What was known stays readable. */
  close(): void;
}

/** The server's refusal, with its code. */
export class RowcastError extends Error {
  readonly code: string;
  readonly table: string | undefined;
}

/**
 * Connects to a server, and comes back by itself. `url`: `https://host/`, `wss://host/websocket`, or one that is relative to
 * the page's.
 */
export function connect<T extends Rows<T> = Tables>(url?: string | URL, options?: Options): Client<T>;
