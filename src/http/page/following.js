// The page's one subscription: all that it may read of its table. Tells the state that the page shows.

// The state of a page whose client is in this one. `isRefused`: the server will not let it follow the table.
export function shownState({ state, phase }, isRefused) {
  if (phase !== 'open' && phase !== 'syncing') return phase;
  if (isRefused) return 'refused';
  if (state === 'live') return 'live';
  return phase === 'open' ? 'stale' : 'syncing';
}

// `on`: state(state, retryAtMs); row(change) of each row that came, changed or went; change() of what changed while it
// was live; complete() once everything was told; refused(text, code).
export function follow(client, subscription, on) {
  let isRefused = false;
  const settle = () => {
    if (client.phase === 'waiting') isRefused = false;
    on.state(shownState(client, isRefused), client.retryAt);
  };
  client.on('state', settle);
  client.subscribe(subscription, {
    change: (change) => {
      const isChange = change.action !== 'SNAPSHOT' && change.action !== 'ABSENT';
      if (isChange && client.phase === 'open') on.change();
      on.row(change);
    },
    complete: () => {
      isRefused = false;
      on.complete();
      settle();
    },
    refused: ({ message, code }) => {
      isRefused = true;
      on.refused(message, code);
      settle();
    },
  });
  settle();
}
