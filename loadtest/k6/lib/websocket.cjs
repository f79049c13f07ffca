// k6's WebSocket class, under whichever name this k6 has it: `k6/websockets` came with 1.6, and before it the same
// class was experimental. An `import` cannot be tried, so this one file is CommonJS.

function found() {
  try {
    return require('k6/websockets');
  } catch (absent) {
    return require('k6/experimental/websockets');
  }
}

module.exports = { WebSocket: found().WebSocket };
