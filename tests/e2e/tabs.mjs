// Ten tabs of one Chromium on each page: a browser opens six connections to a host, and has one stream for all of them. Also when
// there is no SharedWorker, and one of the tabs leads; it is killed, and nothing is lost or doubled for the others. And a proxy
// that stops to forward: the page notices, says so, and connects anew.
// needs: npm:playwright-core
import fs from 'node:fs';
import path from 'node:path';
import {check, equal, open, programOf, proxy, run, scratch, start, until} from './_browser.mjs';

const tabs = 10;
const state = page => page.evaluate(() => document.body.dataset.state);
const metric = async (server, name) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await (await fetch(`${server.url}metrics`)).text())?.[1]);
const post = (server, path, body) => fetch(server.url + path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});

// The first tab and nine more of its browser, all live.
async function ten(server, page = '', before = () => { }) {
  const view = await open(server.url + page, {before});
  const all = [view.page];
  while (all.length < tabs) {
    const next = await view.page.context().newPage();
    next.on('pageerror', e => view.faults.push(`uncaught: ${e.stack}`));
    await next.goto(server.url + page);
    all.push(next);
  }
  for (const p of all) await until('a tab is live', async () => await state(p) === 'live');
  return {view, all};
}
const noWorker = context => context.addInitScript(() => { delete window.SharedWorker; });
const chatTexts = page => page.evaluate(() => [...document.querySelectorAll('#messages .text')].map(e => e.textContent));

const tests = {};
for (const [how, before] of [['with a SharedWorker', undefined], ['without one', noWorker]]) {
  for (const [name, page, type] of [['gateway', '', 'market'], ['logs', '', 'entry'], ['notifications', '', 'status'], ['chat', '', 'chat']]) {
    tests[`${name}: ten tabs have one stream, ${how}`] = async () => {
      const server = await start(programOf(name).replace(/[^/]*$/, name), ...(name === 'logs' ? ['--data', '/tmp'] : []));
      const {view, all} = await ten(server, page, before);
      const sessions = await metric(server, 'sse_sessions');
      check(sessions >= 1 && sessions <= 2, `${sessions} streams for ${tabs} tabs`);
      if (name === 'chat') {
        await post(server, 'chat/send', {user: 'bob', room: 'general', message: 'to all'});
        for (const p of all) await until('each tab has the message', async () => (await chatTexts(p)).includes('to all'));
        for (const p of all) equal((await chatTexts(p)).length, 1, 'messages in a tab');
      }
      await view.close();
      await until('all streams have ended', async () => await metric(server, 'sse_sessions') === 0);
      await server.kill();
    };
  }
  tests[`chat: a tab that is killed is missed by nobody, ${how}`] = async () => {
    const server = await start(programOf('chat').replace(/[^/]*$/, 'chat'));
    const {view, all} = await ten(server, '', before);
    let n = 0, going = true;
    const sending = (async () => { while (going) { await post(server, 'chat/send', {user: 'bob', room: 'general', message: `m${++n}`}).catch(() => { going = false; }); await new Promise(done => setTimeout(done, 20)); } })();
    await until('messages flow', () => n > 20);
    // How long it takes is the machine's; that no page waits for a time to be over is ours: none has a timer from now on.
    for (const p of all) await p.evaluate(() => {
      for (let i = setTimeout(() => { }); i > 0; i--) clearTimeout(i);   // intervals have such numbers too
      window.setTimeout = window.setInterval = () => 0;
    });
    const dead = new Set();
    for (const p of all) p.on('crash', () => dead.add(p));
    const began = Date.now();
    const cdp = await view.page.context().newCDPSession(view.page);   // the first, which leads if any tab does
    cdp.send('Page.crash').catch(() => { });   // its process ends with a signal: nothing in it is asked or told
    await until('the first tab is dead', () => dead.has(view.page));
    const last = `m${n + 5}`, left = all.filter(p => !dead.has(p));
    check(left.length > 4, `${left.length} tabs are left: those that die with the first say nothing`);
    for (const p of left) await until('the others go on', async () => (await chatTexts(p)).includes(last));
    console.log(`        the other ${left.length} went on ${Date.now() - began} ms after the first was killed`);
    going = false;
    await sending;
    const wanted = Array.from({length: n}, (_, i) => `m${i + 1}`).join();
    for (const p of left) await until('every message once, in order', async () => (await chatTexts(p)).join() === wanted).catch(async e => { throw new Error(`${e.message}: ${(await chatTexts(p)).join()}`); });
    await view.close();
    await server.kill();
  };
}
// A worker that dies while it is asked for says nothing, and no lock tells: this alone takes a timer, which the page sets below two
// seconds.
tests['chat: a worker that never answers is asked for anew within two seconds'] = async () => {
  const server = await start(programOf('chat').replace(/[^/]*$/, 'chat'));
  const view = await open(server.url, {before: context => context.addInitScript(() => {
    const Real = window.SharedWorker, wait = window.setTimeout;
    let asked = 0, running = 0;   // the time of the timer that runs
    window.setTimeout = (f, ms = 0) => wait(() => { running = ms; f(); running = 0; }, ms);
    window.SharedWorker = function (...how) {
      if (++asked === 1) return {port: new MessageChannel().port1};
      window.waited ??= running;
      return new Real(...how);
    };
  })});
  await view.state('live');
  const waited = await view.page.evaluate(() => window.waited);
  check(waited > 0 && waited < 2000, `it waited ${waited} ms for the first worker`);
  await post(server, 'chat/send', {user: 'bob', room: 'general', message: 'once'});
  await until('the message is there', async () => (await chatTexts(view.page)).join() === 'once');
  await view.close();
  await server.kill();
};
// --- more different streams than a browser has connections --------------------------------------------------------------------

// Eight tabs, each with a page of its own, of which one can be seen: a headless browser shows all, so the pages are told what is hidden.
const hideable = context => context.addInitScript(() => {
  let hidden = false;
  Object.defineProperty(document, 'hidden', {get: () => hidden});
  Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible'});
  window.hide = is => { hidden = is; document.dispatchEvent(new Event('visibilitychange')); };
  const write = Object.getOwnPropertyDescriptor(Node.prototype, 'textContent').set;   // what a visitor could have read
  window.read = [];
  Object.defineProperty(Node.prototype, 'textContent', {...Object.getOwnPropertyDescriptor(Node.prototype, 'textContent'), set(v) { if (this.id === 'state' && !hidden) window.read.push(v); write.call(this, v); }});
});
const hide = (page, is) => page.evaluate(is => window.hide(is), is);
async function eight(server, pages, before) {
  const view = await open(server.url + pages[0], {before: async c => { await hideable(c); await before?.(c); }});
  const all = [view.page];
  await view.state('live');
  for (const page of pages.slice(1)) {
    await hide(all.at(-1), true);
    const next = await view.page.context().newPage();
    next.on('pageerror', e => view.faults.push(`uncaught: ${e.stack}`));
    await next.goto(server.url + page);
    all.push(next);
    await until(`tab ${all.length} is live`, async () => await state(next) === 'live');
    await fewStreams(server);
  }
  // Looks at a tab, and at no other.
  const look = async at => { for (const p of all) if (p !== at && !p.isClosed()) await hide(p, true); await hide(at, false); };
  return {view, all, look};
}
async function fewStreams(server, most = 4) { const n = await metric(server, 'sse_sessions'); check(n <= most, `${n} streams are open`); }
const lines = page => page.evaluate(() => [...document.querySelectorAll('#lines li span')].map(e => e.textContent));
const neverParked = async page => equal((await page.evaluate(() => window.read)).filter(t => t.startsWith('Parked')).join(), '', 'a page that was looked at says that it is parked');

const kinds = {
  'chat: eight rooms': {
    start: () => start(programOf('chat').replace(/[^/]*$/, 'chat')),
    page: i => `#room${i}`,
    say: (server, i, what) => post(server, 'chat/send', {user: 'bob', room: `room${i}`, message: what}),
    has: chatTexts,
  },
  'logs: eight files': {
    async start() {
      this.data = fs.mkdtempSync(path.join(scratch, 'eight-'));
      for (let i = 0; i < 8; i++) fs.writeFileSync(path.join(this.data, `f${i}.log`), '');
      return start(programOf('logs').replace(/[^/]*$/, 'logs'), '--data', this.data);
    },
    page: i => `deployments/f${i}`,
    say(server, i, what) { fs.appendFileSync(path.join(this.data, `f${i}.log`), `${what}\n`); },
    has: lines,
  },
};
for (const [how, before] of [['with a SharedWorker', undefined], ['without one', noWorker]]) {
  for (const [name, kind] of Object.entries(kinds)) {
    tests[`${name} in eight tabs, ${how}`] = async () => {
      const server = await kind.start(), {view, all, look} = await eight(server, Array.from({length: 8}, (_, i) => kind.page(i)), before);
      const wanted = Array.from({length: 8}, () => []);
      let n = 0;
      const sayToAll = async () => { n++; for (let i = 0; i < 8; i++) { await kind.say(server, i, `m${n} to ${i}`); wanted[i].push(`m${n} to ${i}`); } };
      const hasAll = async i => until(`tab ${i} has all`, async () => (await kind.has(all[i])).join() === wanted[i].join()).catch(async e => { throw new Error(`${e.message}: ${(await kind.has(all[i])).join()}`); });
      await sayToAll();
      await until('four are parked', async () => (await Promise.all(all.map(state))).filter(s => s === 'parked').length === 4);
      for (const round of [1, 2]) {
        for (const i of round === 1 ? [0, 1, 2, 3, 4, 5, 6, 7] : [3, 0, 6, 1]) {
          await look(all[i]);
          await sayToAll();
          await hasAll(i);
          equal(await state(all[i]), 'live', 'the state of a tab that is looked at');
          await fewStreams(server);
          check(await all[i].evaluate(() => fetch('/health').then(r => r.ok)), 'a page can fetch');
        }
      }
      // The tab that leads, if any does, is closed; the others go on where they were, parked or not.
      await all[0].close();
      await sayToAll();
      for (const i of [7, 2, 1, 3, 4, 5, 6]) { await look(all[i]); await hasAll(i); }
      for (const p of all.slice(1)) await neverParked(p);
      await view.close();
      await until('all streams have ended', async () => await metric(server, 'sse_sessions') === 0);
      await server.kill();
    };
    tests[`${name}, all to be seen, ${how}`] = async () => {
      const server = await kind.start(), {view, all} = await eight(server, Array.from({length: 8}, (_, i) => kind.page(i)), before);
      for (const p of all) await hide(p, false);   // the last is the one that was looked at last
      await until('three are parked', async () => (await Promise.all(all.map(state))).join() === 'parked,parked,parked,live,live,live,live,live');
      await fewStreams(server, 5);
      check((await all[0].textContent('#state')).startsWith('Parked'), 'the page says so');
      await all[0].click('#again');
      await until('what is clicked is live', async () => await state(all[0]) === 'live');
      await kind.say(server, 0, 'here');
      await until('it has what comes', async () => (await kind.has(all[0])).join() === 'here');
      await fewStreams(server, 5);
      await view.close();
      await server.kill();
    };
  }
}
// Entries have no ids: a page that comes back takes the last ones anew, and shows those.
tests['logs: a connection that is cut neither loses nor doubles an entry'] = async () => {
  const server = await start(programOf('logs').replace(/[^/]*$/, 'logs'), '--data', scratch), way = await proxy(server.port);
  const view = await open(way.url), second = await view.page.context().newPage();
  await second.goto(way.url);
  const say = message => post(server, 'api/logs', {level: 'info', component: 'registry', message, agent: 'a'});
  const entries = page => page.evaluate(() => [...document.querySelectorAll('#entries .m')].map(e => e.textContent).filter(t => /^m\d$/.test(t)).join());
  for (const p of [view.page, second]) await until('both are live', async () => await state(p) === 'live');
  await say('m1');
  for (const p of [view.page, second]) await until('both have it', async () => await entries(p) === 'm1');
  view.outage = true;
  way.block();
  for (const p of [view.page, second]) await until('both notice', async () => await state(p) === 'reconnecting');
  await say('m2');
  way.unblock();
  for (const p of [view.page, second]) await until('both are live', async () => await state(p) === 'live');
  await say('m3');
  const third = await view.page.context().newPage();
  await third.goto(way.url);
  for (const p of [view.page, second, third]) await until('each has all once', async () => await entries(p) === 'm1,m2,m3').catch(async e => { throw new Error(`${e.message}: ${await entries(p)}`); });
  await view.close();
  way.close();
  await server.kill();
};
for (const name of ['gateway', 'logs', 'notifications', 'chat']) {
  tests[`${name}: a stream that fell silent is noticed, and made anew`] = async () => {
    const server = await start(programOf(name).replace(/[^/]*$/, name), '--heartbeat', '0.5', ...(name === 'logs' ? ['--data', '/tmp'] : []));
    const way = await proxy(server.port);
    const view = await open(way.url);
    await view.state('live');
    await until('the page knows the period', async () => await view.page.evaluate(() => stream.every > 0));
    view.outage = true;
    way.stall();
    await until('the page says so', async () => (await view.text('#state')) === 'No signal');
    equal((await view.health()).state, 'reconnecting', 'the state');
    way.flow();   // what is open stays dead, what is opened now is not
    await view.state('live');
    await view.close();
    way.close();
    await server.kill();
  };
}
await run(tests);
