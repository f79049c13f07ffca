import type { Client, Entry, Key, State } from './client.js';

type Rows<T> = { [Name in keyof T]: object };

/** The row; undefined while it is not known, or if it does not exist. The component is drawn again when it changes. */
export function useRow<T extends Rows<T>, Name extends keyof T & string>(client: Client<T>, table: Name, key: Key): T[Name] | undefined;

/** The rows that exist of these keys, in the order in which they came; all of the table for `'*'`. */
export function useRows<T extends Rows<T>, Name extends keyof T & string>(
  client: Client<T>,
  table: Name,
  keys: readonly Key[] | '*',
): readonly Entry<T[Name]>[];

/** The client's state. */
export function useClientState<T extends Rows<T>>(client: Client<T>): State;
