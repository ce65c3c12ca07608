// The chat's /graphql/sse as the npm client `graphql-sse` sees it, in its distinct connections mode: that client judges.
// needs: node npm:graphql-sse npm:graphql
// usage: graphql_sse.mjs [CHAT]   else CHAT_PROGRAM, else $PROGRAMS/chat.
// Exit code: 0 ok, 1 failed.
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {createRequire} from 'node:module';
import path from 'node:path';
import {createInterface} from 'node:readline';

const {createClient} = createRequire(import.meta.url)('graphql-sse');   // honours NODE_PATH
const program = process.argv[2] || process.env.CHAT_PROGRAM || path.join(process.env.PROGRAMS || 'build/dev/bin', 'chat');
const patience = AbortSignal.timeout(60_000);
patience.onabort = () => { console.error('FAILED graphql_sse.mjs: nothing came in time'); process.exit(1); };

const child = spawn(program, ['--port', '0'], {stdio: ['ignore', 'pipe', 'ignore']});
process.on('exit', () => child.kill('SIGKILL'));
const [first] = await Promise.race([
  new Promise(done => createInterface(child.stdout).once('line', line => done([line]))),
  new Promise((_, fail) => { child.on('error', fail); child.on('exit', code => fail(new Error(`it ended with ${code}`))); }),
]);
const url = /^listening on (http:\S+)$/.exec(first)[1];
const post = async (target, body) => {
  const r = await fetch(url + target, {method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body)});
  assert.ok(r.ok, `${target}: ${r.status} ${await r.text()}`);
};
const connections = async () => (await (await fetch(url + 'graphql/subscriptions')).json()).items.find(s => s.name === 'liveEvents')?.connections;
const becomes = async n => { while (await connections() !== n) await new Promise(done => setTimeout(done, 20)); };
const client = createClient({url: url + 'graphql/sse', retryAttempts: 0});

await post('graphql/subscriptions', {name: 'liveEvents', initial: 'ready'});

// A subscription: the resolver's value, then what is published; closed by the client.
{
  const results = client.iterate({query: 'subscription Live($x: Int) { news: liveEvents(x: $x) }', variables: {x: 1}, operationName: 'Live'});
  assert.deepEqual((await results.next()).value, {data: {news: 'ready'}});
  for (const said of ['{"event":"user_joined","n":[1,2.5]}', 'plain "text"\nof two lines', 'x'.repeat(200_000)]) {
    await post('graphql/subscriptions/liveEvents', said);
    const {value} = await results.next();
    assert.deepEqual(value, {data: {news: said.startsWith('{') ? JSON.parse(said) : said}});
  }
  assert.equal(await connections(), 1);
  await results.return();
  await becomes(0);
}
console.log('ok      a subscription');

// Two at once, over connections of their own, in order.
{
  const a = client.iterate({query: 'subscription { liveEvents }'}), b = client.iterate({query: 'subscription { liveEvents }'});
  for (const results of [a, b]) assert.deepEqual((await results.next()).value, {data: {liveEvents: 'ready'}});
  await becomes(2);
  for (let n = 0; n < 100; n++) await post('graphql/subscriptions/liveEvents', String(n));
  for (const results of [a, b]) for (let n = 0; n < 100; n++) assert.deepEqual((await results.next()).value, {data: {liveEvents: n}});
  await a.return(); await b.return();
  await becomes(0);
}
console.log('ok      two subscriptions');

// Queries: one result, then complete.
async function all(request) {
  const got = [];
  for await (const result of client.iterate(request)) got.push(result);
  return got;
}
assert.deepEqual(await all({query: '{ liveEvents twice: liveEvents __typename }'}), [{data: {liveEvents: 99, twice: 99, __typename: 'Query'}}]);
console.log('ok      a query');

// What is wrong with an operation is a result with errors, then complete.
for (const [query, message] of [['subscription { nope }', /Cannot query field "nope"/], ['{ nope }', /Cannot query field "nope"/], ['{', /Syntax Error/],
  ['subscription { a: liveEvents b: liveEvents }', /only one top level field/], ['mutation { liveEvents }', /mutations/],
  ['{ ...f } fragment f on Query { liveEvents }', /Fragments/]]) {
  const [result, ...more] = await all({query});
  assert.match(result.errors[0].message, message);
  assert.deepEqual(more, []);
}
console.log('ok      errors');

// The host ends it: complete, no error.
{
  const results = client.iterate({query: 'subscription { liveEvents }'});
  assert.deepEqual((await results.next()).value, {data: {liveEvents: 'ready'}});
  const gone = await fetch(url + 'graphql/subscriptions/liveEvents', {method: 'DELETE'});
  assert.equal(gone.status, 200);
  assert.equal((await results.next()).done, true);
}
console.log('ok      unregistered');
process.exit(0);
