// The notifications program with the clients of its contract that run in a browser: four EventSources, a fetch with the token
// in its header, and the reconnecting function with its back-off from 1 to 30 s. Rows: N-01 N-08 N-12 N-15 N-23 N-28 N-39
// needs: node chromium npm:playwright-core
// usage: see _browser.mjs
import {check, equal, open as openView, programOf, run, start, until} from './_browser.mjs';

const serve = (...flags) => start(programOf('notifications'), ...flags);
const open = (url, options) => openView(url, {stream: ['/notifications/stream', '/system/status/stream'], ...options});
const demo = 'dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4=';

await run({
  async 'EventSource on each of the four streams, fetch for the posts'() {
    const server = await serve();
    const v = await open(server.url);
    const got = await v.page.evaluate(async token => {
      const listen = (url, event) => new Promise(done => {
        const eventSource = new EventSource(url);
        const heard = new Promise(heard => eventSource.addEventListener(event, e => { eventSource.close(); heard(JSON.parse(e.data)); }));
        // A promise of a promise would be waited for.
        eventSource.onopen = () => done({heard});
      });
      const streams = await Promise.all([
        listen('/notifications/stream?token=' + token, 'notification'),
        listen('/realtime/stream?token=' + token, 'update'),
        listen('/chat/stream?token=' + token + '&room=general', 'message'),
        listen('/system/status/stream', 'status')]);
      const send = (path, body) => fetch(path, {method: 'POST', headers: {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'}, body: JSON.stringify(body)}).then(r => r.json());
      const answer = await send('/notifications/send', {title: 'Test Notification', message: 'Hello World!', type: 'info'});
      await send('/realtime/update', {entityType: 'user', entityId: 'user123', action: 'updated', data: {status: 'online'}});
      await send('/chat/send', {roomId: 'general', message: 'Hello everyone!'});
      return {answer, data: await Promise.all(streams.map(s => s.heard))};
    }, demo);
    equal(got.answer.success, true, 'success');
    equal(got.data[0].id, got.answer.id, 'id of the notification');
    equal(got.data[0].message, 'Hello World!', 'notification');
    equal(got.data[1].data.status, 'online', 'update');
    equal(`${got.data[2].roomId} ${got.data[2].username} ${got.data[2].message}`, 'general testuser Hello everyone!', 'message');
    equal(got.data[3].status, 'healthy', 'status');
    await v.close();
    await server.kill();
  },

  async 'the reconnecting function comes back after a killed server, and when a slot is free again'() {
    let server = await serve();
    const v = await open(server.url);
    v.outage = true;
    await v.page.evaluate(token => {
      const maxDelay = 30000;
      let reconnectDelay = 1000;
      window.seen = {opens: 0, errors: 0, delays: [], titles: []};
      window.connectSSE = () => {
        const eventSource = window.current = new EventSource('/notifications/stream?token=' + token);
        eventSource.onopen = () => { reconnectDelay = 1000; seen.opens++; };
        eventSource.addEventListener('notification', e => seen.titles.push(JSON.parse(e.data).title));
        eventSource.onerror = () => {
          eventSource.close();
          seen.errors++; seen.delays.push(reconnectDelay);
          setTimeout(connectSSE, reconnectDelay);
          reconnectDelay = Math.min(reconnectDelay * 2, maxDelay);
        };
      };
      connectSSE();
    }, demo);
    const seen = () => v.page.evaluate(() => seen);
    const notify = async title => equal((await fetch(`${server.url}notifications/send`, {method: 'POST', headers: {Authorization: `Bearer ${demo}`}, body: JSON.stringify({title, message: 'm'})})).status, 200, 'sent');
    await until('it is open', async () => (await seen()).opens === 1);
    await notify('one');
    await until('the first notification', async () => (await seen()).titles.length === 1);
    await server.kill('SIGKILL');
    await until('two errors', async () => (await seen()).errors >= 2);
    server = await serve('--port', String(server.port));
    await until('it is open again', async () => (await seen()).opens === 2);
    await notify('two');
    await until('the second notification', async () => (await seen()).titles.join() === 'one,two');
    const {delays} = await seen();
    equal(delays.join(), delays.map((_, i) => Math.min(1000 * 2 ** i, 30000)).join(), 'delays');

    // An orderly end resets nothing: the delay begins at 1 s again, since it was open.
    const errors = delays.length;
    await server.kill('SIGTERM');
    await until('an error', async () => (await seen()).errors > errors);
    equal((await seen()).delays[errors], 1000, 'the delay after an open');

    // All five streams of the user are open: 429 is an error like others, and the next try may succeed.
    server = await serve('--port', String(server.port));
    const taken = [];
    for (let i = 0; i < 5; i++) { const stop = new AbortController(); const r = await fetch(`${server.url}chat/stream?token=${encodeURIComponent(demo)}`, {signal: stop.signal}); if (r.status === 200) taken.push(stop); }
    if (taken.length === 5) {
      const before = (await seen()).errors;
      await until('a refusal', async () => (await seen()).errors > before);
      check(/notifications\/stream\?token=\*\*\* 429/.test(server.log()), 'no 429 in the log');
    }
    for (const t of taken.slice(0, 2)) t.abort();
    await until('it is open once more', async () => (await seen()).opens === 3);
    for (const t of taken) t.abort();
    await v.close();
    await server.kill();
  },
});
