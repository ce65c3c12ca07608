// An answer of a language model as a stream, as the npm client `openai` reads it; that client judges. Then cut at every token and
// resumed, called off when its reader leaves, and over kept connections. That takes a server of at most 120 lines.
// needs: node npm:openai
// usage: completions.mjs [COMPLETIONS]   else $PROGRAMS/completions.
// Exit code: 0 ok, 1 failed.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {readFileSync} from 'node:fs';
import http from 'node:http';
import {createRequire} from 'node:module';
import path from 'node:path';
import {createInterface} from 'node:readline';

const OpenAI = createRequire(import.meta.url)('openai').OpenAI;   // honours NODE_PATH
const lines = readFileSync(new URL('../../examples/completions/main.cpp', import.meta.url), 'utf8').trimEnd().split('\n').length;
assert.ok(lines <= 120, `examples/completions/main.cpp has ${lines} lines`);
const program = process.argv[2] || path.join(process.env.PROGRAMS || 'build/dev/bin', 'completions');
const patience = AbortSignal.timeout(60_000);
patience.onabort = () => { console.error('FAILED completions.mjs: nothing came in time'); process.exit(1); };

const child = spawn(program, ['--port', '0', '--pace', '3'], {stdio: ['ignore', 'pipe', 'ignore']});
process.on('exit', () => child.kill('SIGKILL'));
const first = await new Promise((done, fail) => {
  createInterface(child.stdout).once('line', done);
  child.on('error', fail);
  child.on('exit', code => fail(new Error(`it ended with ${code}`)));
});
const url = /^listening on (http:\S+)$/.exec(first)[1];
const client = new OpenAI({apiKey: 'none', baseURL: url + 'v1', maxRetries: 0});
const prompt = Array.from({length: 30}, (_, n) => `word${n}`).join(' ');
const expected = `You said: ${prompt} `;
const ask = (stream = true) => ({model: 'echo', stream, messages: [{role: 'user', content: prompt}]});

{
  const stream = await client.chat.completions.create(ask());
  let text = '', finish;
  for await (const chunk of stream) {
    text += chunk.choices[0].delta.content ?? '';
    finish = chunk.choices[0].finish_reason ?? finish;
  }
  assert.equal(text, expected);
  assert.equal(finish, 'stop');
}
console.log('ok      openai reads it');

{
  await assert.rejects(client.chat.completions.create(ask(false)), e => e.status === 400);
  const nothing = {...ask(), messages: [{role: 'user', content: ''}]};
  await assert.rejects(client.chat.completions.create(nothing), e => e.status === 422);
}
console.log('ok      a bad request is a plain answer, and so is what the model refuses later');

// Frames of a stream: id and data; stops after `most` of them and hangs up.
async function read(target, headers, body, most = Infinity) {
  const call = new AbortController;
  const r = await fetch(url + target, {method: body ? 'POST' : 'GET', headers, body, signal: call.signal});
  const got = [];
  if (r.status !== 200) return {status: r.status, got};
  let rest = '';
  for await (const bytes of r.body.pipeThrough(new TextDecoderStream)) {
    rest += bytes;
    for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) {
      const frame = rest.slice(0, end), data = /^data: (.*)$/m.exec(frame);
      if (data) got.push({id: /^id: (\d+)$/m.exec(frame)[1], data: data[1]});
      if (got.length >= most) { call.abort(); return {status: 200, got}; }
    }
  }
  return {status: 200, got};
}
const text = got => got.filter(e => e.data !== '[DONE]').map(e => JSON.parse(e.data).choices[0].delta.content ?? '').join('');

for (let cut = 1; cut <= 34; cut++) {
  const {got} = await read('v1/chat/completions', {}, JSON.stringify(ask()), cut);
  const id = JSON.parse(got[0].data).id, target = `v1/chat/completions/${id}`;
  if (got.at(-1).data !== '[DONE]') {
    const more = await read(target, {'Last-Event-ID': got.at(-1).id});
    assert.equal(more.status, 200);
    got.push(...more.got);
  }
  assert.equal(text(got), expected);
  assert.deepEqual(got.map(e => Number(e.id)), got.map((_, n) => n + 1));
  assert.equal(got.at(-1).data, '[DONE]');
  assert.equal((await read(target, {'Last-Event-ID': got.at(-1).id})).status, 204);   // an EventSource stays away
}
console.log('ok      resumed at every token, 204 at the end');

{
  const long = JSON.stringify({...ask(), messages: [{role: 'user', content: 'x '.repeat(100_000)}]});
  const {got} = await read('v1/chat/completions', {}, long, 2);
  const target = `v1/chat/completions/${JSON.parse(got[0].data).id}`;
  while ((await fetch(url + target, {method: 'HEAD'})).status !== 404) await new Promise(done => setTimeout(done, 50));
}
console.log('ok      called off when nobody reads it');

{
  const agent = new http.Agent({keepAlive: true, maxSockets: 1});
  let used = 0;
  const request = (method, target, ...pieces) => new Promise((done, fail) => {
    const r = http.request(url + target, {method, agent}, answer => {
      let all = '';
      used += r.reusedSocket;
      answer.on('data', d => all += d).on('end', () => done({status: answer.statusCode, all})).on('error', fail);
    });
    r.on('error', fail);
    for (const piece of pieces) r.write(piece);   // no length is known: in chunks
    r.end();
  });
  const body = JSON.stringify(ask());
  for (let n = 0; n < 10; n++) {
    assert.equal((await request('GET', 'health')).status, 200);
    assert.ok((await request('POST', 'v1/chat/completions', body.slice(0, n), body.slice(n))).all.endsWith('data: [DONE]\n\n'));
  }
  assert.equal(used, 19);   // all of them on one connection
  const stream = new Blob([body]).stream();
  const r = await fetch(url + 'v1/chat/completions', {method: 'POST', body: stream, duplex: 'half'});
  assert.ok((await r.text()).endsWith('data: [DONE]\n\n'));
}
console.log('ok      streams between plain requests of an http.Agent, bodies in chunks');
process.exit(0);
