// What the scripts of Node's clients share: assertions by name, each reported as a line of JSON.

import assert from 'node:assert/strict';
import readline from 'node:readline';

export const MODEL = 'kimi-nano';
export const QUESTION = 'Which one is bigger, 9.11 or 9.9?';
export const ANSWER = '9.9 is bigger.';
export const WEATHER = 'What is the weather in Paris?';
export const WEATHER_RESULT = '{"city": "Paris", "sky": "sunny", "celsius": 22}';
export const TWO_WEATHERS = 'What is the weather in Paris and Rome?';
export const TWO_CALLS = [
  ['functions.get_weather:0', { city: 'Paris' }],
  ['functions.get_weather:1', { city: 'Rome' }],
];
export const PLACES = 'Name a place.';
export const NOTE = 'Write a note.';
// An answer that goes on: greedy, and its end is no end.
export const ENDLESS = { ignore_eos: true };

const [, , url, busyUrl, mode] = process.argv;

// Where the suite is, and a gateway that is full.
export const suite = { url, busyUrl };

async function isIdle() {
  const text = await (await fetch(`${url}/metrics`)).text();
  const counts = [...text.matchAll(/^perigee_requests_(?:running|waiting)(?:\{.*\})? (\S+)$/gm)];
  assert.notEqual(counts.length, 0, text);
  return counts.every(([, count]) => Number(count) === 0);
}

async function secondsUntilIdle() {
  const started = performance.now();
  while (!(await isIdle())) {
    assert(performance.now() < started + 20_000, 'requests are still running after 20 s');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return (performance.now() - started) / 1000;
}

const assertions = new Map();
let opened;

// Registers an assertion: it holds if the function returns; what it returns is reported.
export function holds(name, assertion) {
  assertions.set(name, assertion);
}

// Registers the function that streams a long answer, for the cancelled and the stopped: given an AbortController, it
// returns an async iterable of texts.
export function streams(pieces) {
  opened = pieces;
  holds('cancel', async () => {
    const controller = new AbortController();
    let count = 0;
    let seconds;
    try {
      for await (const _ of pieces(controller)) {
        count += 1;
        if (count === 3) {
          assert(!(await isIdle()));
          controller.abort();
          seconds = secondsUntilIdle();
        }
      }
    } catch (error) {
      if (!controller.signal.aborted) throw error;
    }
    const waited = await seconds;
    assert(waited < 1, `${waited} s`);
    return `${waited.toFixed(2)} s`;
  });
}

function tell(fields) {
  process.stdout.write(`${JSON.stringify(fields)}\n`);
}

// Says when it is ready, streams when it is told to, says what its first piece is, and then all.
async function streamOnce() {
  const lines = readline.createInterface({ input: process.stdin });
  tell({ ready: true });
  await new Promise((resolve) => lines.once('line', resolve));
  let text = '';
  for await (const piece of opened(new AbortController())) {
    if (piece && !text) tell({ first: piece });
    text += piece;
  }
  tell({ text });
  lines.close();
}

// Checks all assertions, or streams once through a stop of a worker.
export async function run() {
  if (mode === '--stream') return streamOnce();
  for (const [name, assertion] of assertions) {
    const started = performance.now();
    let report;
    try {
      report = { holds: true, detail: String((await assertion()) ?? '') };
    } catch (error) {
      report = { holds: false, detail: error?.stack ?? String(error) };
    }
    tell({ assertion: name, seconds: Math.round(performance.now() - started) / 1000, ...report });
  }
}

// The error of this very type that `call` rejects with.
export async function rejected(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor, kind, error?.stack);
    return error;
  }
  return assert.fail(`no ${kind.name}`);
}
