// Many rows through a service that takes a few at a time, refuses bad ones and may be busy. Knows nothing of the page.

const MOST_REFUSED_IN_A_ROW = 20;
const FRAME_BYTES = 64; // what a request holds beside its items

/** Classify rows ({item, result, error}); a row gets its result, or the error that it alone met. What is stopped can
 *  be called again with the same rows: those that have an answer are passed over.
 *
 *  `predict(items, signal)` answers or throws an error with status, code, item and retryAfter; `report({waiting})` is
 *  called after each answer, `waiting` in seconds when the service asked for patience. Throws what no later row could
 *  escape: no answer in so many `tries`, a token that is asked for, a long run of refusals. */
export async function classifyAll(rows, { predict, limits, signal, report, tries = 4, wait = patience }) {
  let most = Math.max(1, limits.items);
  let size = most;
  let place = 0;
  let failures = 0;
  let refusals = 0;

  async function pause(seconds) {
    report({ waiting: seconds });
    await wait(seconds, signal);
  }

  function refuse(row, error) {
    row.error = error.message;
    refusals += 1;
    if (refusals >= MOST_REFUSED_IN_A_ROW) throw error;
  }

  async function afterError(batch, error) {
    if (error.status === 401 || error.status === undefined) throw error;
    if (error.status === 429) return pause(Math.max(error.retryAfter, 0.1));
    if (error.status === 0 || error.status >= 500) {
      failures += 1;
      if (failures >= tries) throw error;
      return pause(error.retryAfter ?? 2 ** (failures - 1));
    }
    if (batch.length === 1) return refuse(batch[0], error);
    // Where there are too many characters, the item named is only the one at which the sum crossed the limit.
    const named = error.code === "too_many_characters" || error.item === null ? undefined : batch[error.item];
    if (named) return refuse(named, error);
    size = Math.ceil(batch.length / 2); // the fault is somewhere in here, or there are too many
    if (error.code === "too_many_items") most = size;
  }

  for (;;) {
    while (place < rows.length && answered(rows[place])) place += 1;
    const batch = nextBatch(rows, place, size, limits);
    if (batch.length === 0) return;
    signal.throwIfAborted();
    try {
      const results = await predict(batch.map(({ item }) => item), signal);
      batch.forEach((row, index) => { row.result = results[index]; });
      failures = refusals = 0;
      size = Math.min(most, size * 2);
    } catch (error) {
      signal.throwIfAborted();
      await afterError(batch, error);
    }
    report({ waiting: 0 });
  }
}

export const answered = (row) => row.result !== null || row.error !== null;

/** The next rows without an answer: at most `size`, within the limits together, but one however long it is. */
function nextBatch(rows, place, size, limits) {
  const batch = [];
  let bytes = limits.body_bytes - FRAME_BYTES;
  let characters = limits.characters;
  for (let index = place; index < rows.length && batch.length < size; index += 1) {
    if (answered(rows[index])) continue;
    const written = JSON.stringify(rows[index].item);
    bytes -= ENCODER.encode(written).length + 1;
    characters -= written.length; // a little more than its texts have
    if (batch.length && (bytes < 0 || characters < 0)) break;
    batch.push(rows[index]);
  }
  return batch;
}

const ENCODER = new TextEncoder();

function patience(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", stop, { once: true });
  });
}
