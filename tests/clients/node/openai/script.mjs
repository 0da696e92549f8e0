// OpenAI's client for Node: whole answers, the stream helper, runTools, parse with zod, typed errors, aborting.

import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import {
  ANSWER, ENDLESS, MODEL, NOTE, PLACES, QUESTION, TWO_CALLS, TWO_WEATHERS, WEATHER, WEATHER_RESULT, holds, rejected, run, streams, suite,
} from './checklist.mjs';

const client = new OpenAI({ baseURL: `${suite.url}/v1`, apiKey: 'any', maxRetries: 0, timeout: 120_000 });
const busy = new OpenAI({ baseURL: `${suite.busyUrl}/v1`, apiKey: 'any', maxRetries: 0, timeout: 120_000 });
const chat = client.chat.completions;
const greedy = { model: MODEL, temperature: 0 };
const ask = { ...greedy, messages: [{ role: 'user', content: QUESTION }] };
const City = z.object({ city: z.string() });
const getWeather = { name: 'get_weather', description: 'Get the current weather of a city' };
const weather = zodFunction({ ...getWeather, parameters: City });
const askWeather = { ...greedy, messages: [{ role: 'user', content: WEATHER }] };
const call = {
  ...askWeather,
  tools: [weather],
  tool_choice: { type: 'function', function: { name: 'get_weather' } },
};
const Place = z.object({ name: z.string().max(20), people: z.int().min(0).max(99) });
const note = zodFunction({
  name: 'write_note',
  description: 'Write a note',
  parameters: z.object({ text: z.string().min(200).max(240) }),
});
const callNote = {
  ...greedy,
  messages: [{ role: 'user', content: NOTE }],
  tools: [note],
  tool_choice: { type: 'function', function: { name: 'write_note' } },
};
const askPlace = {
  ...greedy,
  messages: [{ role: 'user', content: PLACES }],
  response_format: zodResponseFormat(Place, 'place'),
};

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

holds('answer', async () => {
  const completion = await chat.create(ask);
  const [choice] = completion.choices;
  assert.equal(choice.message.content, ANSWER);
  assert.equal(choice.finish_reason, 'stop');
  assert.match(completion.id, /^chatcmpl-/);
  assert.ok(completion._request_id);
  const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
  assert(prompt_tokens > 0 && completion_tokens > 0);
});

holds('stream', async () => {
  const { usage } = await chat.create(ask);
  const chunks = await all(await chat.create({ ...ask, stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, usage.total_tokens);
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''), ANSWER);
  assert.deepEqual(chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean), ['stop']);
});

holds('reasoning', async () => {
  const whole = (await chat.create(ask)).choices[0].message.reasoning_content;
  const chunks = await all(await chat.create({ ...ask, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.reasoning_content ?? '').join(''), whole);
  assert.notEqual(whole, '');
});

holds('call', async () => {
  const [choice] = (await chat.parse(call)).choices;
  const [made] = choice.message.tool_calls;
  assert.equal(made.id, 'functions.get_weather:0');
  assert.equal(made.function.name, 'get_weather');
  assert.deepEqual(made.function.parsed_arguments, { city: 'Paris' });
  assert.equal(choice.finish_reason, 'tool_calls');
});

holds('streamed call', async () => {
  const whole = (await chat.create(callNote)).choices[0].message.tool_calls[0].function.arguments;
  const chunks = await all(await chat.create({ ...callNote, stream: true }));
  const deltas = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert(deltas.length >= 6);
  assert.equal(deltas[0].id, 'functions.write_note:0');
  assert.equal(deltas[0].function.arguments, '');
  assert(deltas.slice(1).every((delta) => delta.id === undefined && delta.function.name === undefined));
  assert.equal(deltas.map((delta) => delta.function.arguments).join(''), whole);
});

holds('call events', async () => {
  const deltas = [];
  const done = [];
  const stream = chat.stream(call);
  stream.on('tool_calls.function.arguments.delta', (event) => deltas.push(event.arguments_delta));
  stream.on('tool_calls.function.arguments.done', (event) => done.push(event));
  const completion = await stream.finalChatCompletion();
  assert.equal(done.length, 1);
  assert.equal(done[0].name, 'get_weather');
  assert.deepEqual(done[0].parsed_arguments, { city: 'Paris' });
  assert.equal(deltas.join(''), done[0].arguments);
  assert.deepEqual(completion.choices[0].message.tool_calls[0].function.parsed_arguments, { city: 'Paris' });

  const contents = [];
  const text = chat.stream({ ...ask, stream_options: { include_usage: true } });
  text.on('content.done', (event) => contents.push(event.content));
  assert.equal(await text.finalContent(), ANSWER);
  assert.deepEqual(contents, [ANSWER]);
  assert((await text.totalUsage()).total_tokens > 0);
});

holds('two calls', async () => {
  const done = [];
  const stream = chat.stream({ ...greedy, tools: [weather], messages: [{ role: 'user', content: TWO_WEATHERS }] });
  stream.on('tool_calls.function.arguments.done', (event) => done.push([event.index, event.parsed_arguments]));
  const { message } = (await stream.finalChatCompletion()).choices[0];
  assert.deepEqual(message.tool_calls.map((made) => [made.id, made.function.parsed_arguments]), TWO_CALLS);
  assert.deepEqual(done, TWO_CALLS.map(([, parsed], index) => [index, parsed]));
});

function runTools(stream) {
  const cities = [];
  const runner = chat.runTools({
    ...askWeather,
    stream,
    tools: [
      zodFunction({
        ...getWeather,
        parameters: City,
        function: ({ city }) => {
          cities.push(city);
          return WEATHER_RESULT;
        },
      }),
    ],
  });
  return { runner, cities };
}

holds('loop', async () => {
  const { runner, cities } = runTools(false);
  assert.match(await runner.finalContent(), /22/);
  assert.deepEqual(cities, ['Paris']);
  assert.deepEqual(runner.messages.map((message) => message.role), ['user', 'assistant', 'tool', 'assistant']);
});

holds('streamed loop', async () => {
  const { runner, cities } = runTools(true);
  let streamed = '';
  runner.on('content', (delta) => (streamed += delta));
  const content = await runner.finalContent();
  assert.match(content, /22/);
  assert(streamed.endsWith(content));
  assert.deepEqual(cities, ['Paris']);
});

holds('structured', async () => {
  const { message } = (await chat.parse(askPlace)).choices[0];
  assert.deepEqual(message.parsed, Place.parse(JSON.parse(message.content)));
});

holds('streamed structured', async () => {
  const whole = (await chat.parse(askPlace)).choices[0].message.parsed;
  const done = [];
  const stream = chat.stream(askPlace);
  stream.on('content.done', (event) => done.push(event.parsed));
  assert.deepEqual((await stream.finalChatCompletion()).choices[0].message.parsed, whole);
  assert.deepEqual(done, [whole]);
});

holds('400', async () => {
  for (const stream of [false, true]) {
    const error = await rejected(OpenAI.BadRequestError, () => chat.create({ ...ask, temperature: 9, stream }));
    assert.equal(error.status, 400);
    assert.equal(error.param, 'temperature');
    assert.ok(error.requestID);
  }
  const missing = await rejected(OpenAI.NotFoundError, () => chat.create({ ...ask, model: 'nobody' }));
  assert.equal(missing.code, 'model_not_found');
});

holds('429', async () => {
  for (const stream of [false, true]) {
    const error = await rejected(OpenAI.RateLimitError, () => busy.chat.completions.create({ ...ask, stream }));
    assert.equal(error.code, 'overloaded');
    assert(Number(error.headers.get('retry-after')) >= 1);
  }
});

holds('retry', async () => {
  const started = performance.now();
  await rejected(OpenAI.RateLimitError, () => busy.chat.completions.create(ask, { maxRetries: 1 }));
  const waited = performance.now() - started;
  assert(waited >= 990 && waited < 5000, `${waited} ms`);
});

streams(async function* pieces(controller) {
  const body = { ...ask, max_tokens: 3000, stream: true, ...ENDLESS };
  for await (const chunk of await chat.create(body, { signal: controller.signal })) {
    for (const { delta } of chunk.choices) yield delta.content || delta.reasoning_content || '';
  }
});

await run();
