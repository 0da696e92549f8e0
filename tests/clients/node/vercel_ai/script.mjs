// Vercel's AI SDK with its provider for OpenAI-compatible servers: text, streams, tools, structured output, errors.

import assert from 'node:assert/strict';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, Output, generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';
import {
  ANSWER, ENDLESS, MODEL, NOTE, PLACES, QUESTION, TWO_CALLS, TWO_WEATHERS, WEATHER, WEATHER_RESULT, holds, run, streams, suite,
} from './checklist.mjs';

const options = { name: 'perigee', apiKey: 'any', includeUsage: true, supportsStructuredOutputs: true };
const model = createOpenAICompatible({ ...options, baseURL: `${suite.url}/v1` })(MODEL);
const busy = createOpenAICompatible({ ...options, baseURL: `${suite.busyUrl}/v1` })(MODEL);
const ask = { model, temperature: 0, maxRetries: 0, prompt: QUESTION };
const description = { description: 'Get the current weather of a city', inputSchema: z.object({ city: z.string() }) };
const askWeather = { ...ask, prompt: WEATHER };
const call = {
  ...askWeather,
  tools: { get_weather: tool(description) },
  toolChoice: { type: 'tool', toolName: 'get_weather' },
};
const loop = {
  ...askWeather,
  tools: { get_weather: tool({ ...description, execute: async () => WEATHER_RESULT }) },
  stopWhen: isStepCount(3),
};
const Place = z.object({ name: z.string().max(20), people: z.int().min(0).max(99) });
const askPlace = { ...ask, prompt: PLACES, output: Output.object({ schema: Place }) };

async function parts(result) {
  const read = [];
  for await (const part of result.fullStream) read.push(part);
  return read;
}

function textOf(read, type) {
  return read.filter((part) => part.type === type).map((part) => part.text).join('');
}

holds('answer', async () => {
  const { text, finishReason, usage, response } = await generateText(ask);
  assert.equal(text, ANSWER);
  assert.equal(finishReason, 'stop');
  assert.match(response.id, /^chatcmpl-/);
  assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
  assert(usage.inputTokens > 0 && usage.outputTokens > 0);
});

holds('stream', async () => {
  const { usage } = await generateText(ask);
  const result = streamText(ask);
  const read = await parts(result);
  assert.equal(textOf(read, 'text-delta'), ANSWER);
  assert.equal(await result.finishReason, 'stop');
  assert.deepEqual((await result.usage).totalTokens, usage.totalTokens);
  assert.match((await result.response).id, /^chatcmpl-/);
});

holds('reasoning', async () => {
  const { reasoningText } = await generateText(ask);
  const read = await parts(streamText(ask));
  assert.equal(textOf(read, 'reasoning-delta'), reasoningText);
  assert.notEqual(reasoningText, '');
  const order = read.map((part) => part.type).filter((type) => /^(text|reasoning)-(start|end)$/.test(type));
  assert.deepEqual(order, ['reasoning-start', 'reasoning-end', 'text-start', 'text-end']);
});

holds('call', async () => {
  const { toolCalls, finishReason } = await generateText(call);
  assert.deepEqual(
    toolCalls.map(({ toolCallId, toolName, input }) => [toolCallId, toolName, input]),
    [['functions.get_weather:0', 'get_weather', { city: 'Paris' }]],
  );
  assert.equal(finishReason, 'tool-calls');
});

holds('streamed call', async () => {
  const inputSchema = z.object({ text: z.string().min(200).max(240) });
  const callNote = {
    ...ask,
    prompt: NOTE,
    tools: { write_note: tool({ description: 'Write a note', inputSchema }) },
    toolChoice: { type: 'tool', toolName: 'write_note' },
  };
  const { toolCalls } = await generateText(callNote);
  const read = await parts(streamText(callNote));
  const [start] = read.filter((part) => part.type === 'tool-input-start');
  assert.deepEqual([start.id, start.toolName], ['functions.write_note:0', 'write_note']);
  const deltas = read.filter((part) => part.type === 'tool-input-delta').map((part) => part.delta);
  assert(deltas.length >= 5);
  assert.deepEqual(JSON.parse(deltas.join('')), toolCalls[0].input);
  const order = read.map((part) => part.type).filter((type) => /^tool-(input-start|input-end|call)$/.test(type));
  assert.deepEqual(order, ['tool-input-start', 'tool-input-end', 'tool-call']);
});

holds('two calls', async () => {
  const read = await parts(streamText({ ...ask, prompt: TWO_WEATHERS, tools: { get_weather: tool(description) } }));
  const made = read.filter((part) => part.type === 'tool-call').map((part) => [part.toolCallId, part.input]);
  assert.deepEqual(made, TWO_CALLS);
  // It ends the inputs of all calls at the end of the stream; only their starts and pieces show an order.
  const inputs = read.filter((part) => /^tool-input-(start|delta)$/.test(part.type)).map((part) => part.id);
  assert.deepEqual(inputs, inputs.toSorted());
});

holds('loop', async () => {
  const { text, steps } = await generateText(loop);
  assert.match(text, /22/);
  assert.deepEqual(steps.map((step) => step.finishReason), ['tool-calls', 'stop']);
});

holds('streamed loop', async () => {
  const result = streamText(loop);
  const read = await parts(result);
  assert.match(await result.text, /22/);
  assert.equal(read.filter((part) => part.type === 'tool-result').length, 1);
});

holds('structured', async () => {
  const { output } = await generateText(askPlace);
  assert.deepEqual(output, Place.parse(output));
});

holds('streamed structured', async () => {
  const { output } = await generateText(askPlace);
  const result = streamText(askPlace);
  let last;
  for await (const partial of result.partialOutputStream) last = partial;
  assert.deepEqual(last, output);
});

async function failure(body) {
  const whole = await generateText(body).then(() => assert.fail('no error'), (error) => error);
  assert(APICallError.isInstance(whole), whole.stack);
  let streamed;
  await parts(streamText({ ...body, onError: ({ error }) => (streamed = error) }));
  assert(APICallError.isInstance(streamed), String(streamed));
  assert.equal(streamed.statusCode, whole.statusCode);
  return whole;
}

holds('400', async () => {
  const error = await failure({ ...ask, topP: 9 });
  assert.equal(error.statusCode, 400);
  assert.equal(error.data.error.param, 'top_p');
  assert.equal(error.isRetryable, false);
  assert.ok(error.responseHeaders['x-request-id']);
});

holds('429', async () => {
  const error = await failure({ ...ask, model: busy });
  assert.equal(error.statusCode, 429);
  assert.equal(error.isRetryable, true);
  assert(Number(error.responseHeaders['retry-after']) >= 1);
});

streams(async function* pieces(controller) {
  const result = streamText({
    ...ask,
    maxOutputTokens: 3000,
    abortSignal: controller.signal,
    providerOptions: { perigee: ENDLESS },
  });
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.type === 'text-delta' || part.type === 'reasoning-delta') yield part.text;
  }
});

await run();
