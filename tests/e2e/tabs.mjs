// Ten tabs of one Chromium on each page: a browser opens six connections to a host, and has one stream for all of them. Also when
// there is no SharedWorker, and one of the tabs leads; it is killed, and nothing is lost or doubled for the others. And a proxy
// that stops to forward: the page notices, says so, and connects anew.
// needs: npm:playwright-core
import fs from 'node:fs';
import path from 'node:path';
import {check, equal, open, programOf, proxy, run, scratch, start, until} from './_browser.mjs';

const tabs = 10, patience = 60_000;
const state = page => page.evaluate(() => document.body.dataset.state);
const metric = async (server, name) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await (await fetch(`${server.url}metrics`)).text())?.[1]);
async function post(server, path, body, headers = {}) {
  const r = await fetch(server.url + path, {method: 'POST', headers: {'Content-Type': 'application/json', ...headers}, body: JSON.stringify(body)});
  check(r.ok, `POST ${path} is ${r.status}`);
}

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

// Each page: how its server starts, how something is said that it shows, and what it has of that.
const program = (name, ...flags) => start(programOf(name).replace(/[^/]*$/, name), ...flags);
const texts = selector => page => page.evaluate(s => [...document.querySelectorAll(s)].map(e => e.textContent).filter(t => /^m\d+$/.test(t)), selector);
const token = (id, name) => Buffer.from(`${id}:${name}:${id}@example.com:user`).toString('base64');
const pages = {
  gateway: {start: () => program('gateway'), page: ''},
  logs: {
    start: () => program('logs', '--data', scratch), page: '',
    say: (server, message) => post(server, 'api/logs', {level: 'info', component: 'registry', message, agent: 'a'}),
    has: texts('#entries .m'),
  },
  'a log file': {
    start() {
      const data = fs.mkdtempSync(path.join(scratch, 'file-'));
      fs.writeFileSync(this.file = path.join(data, 'app.log'), '');
      return program('logs', '--data', data);
    },
    page: 'deployments/app',
    say(server, message) { fs.appendFileSync(this.file, `${message}\n`); },
    has: texts('#lines li span'),
  },
  notifications: {start: () => program('notifications'), page: ''},
  'notifications, signed in': {
    start: () => program('notifications'), page: '',
    before: context => context.addInitScript(t => sessionStorage.setItem('token', t), token('ada', 'Ada')),
    say: (server, message) => post(server, 'chat/send', {roomId: 'general', message}, {Authorization: `Bearer ${token('bob', 'Bob')}`}),
    has: texts('#messages .text'),
  },
  chat: {
    start: () => program('chat'), page: '',
    say: (server, message) => post(server, 'chat/send', {user: 'bob', room: 'general', message}),
    has: texts('#messages .text'),
  },
};

// The process of the first tab, which leads if any does, ends with a signal: nothing in it is asked or told. How long the others take
// is the machine's; that none waits for a time to be over is ours: they have no timer from now on.
async function killFirst(view, all) {
  for (const p of all) await p.evaluate(() => {
    for (let i = setTimeout(() => { }); i > 0; i--) clearTimeout(i);   // intervals have such numbers too
    window.setTimeout = window.setInterval = () => 0;
  });
  const dead = new Set();
  for (const p of all) p.on('crash', () => dead.add(p));
  const began = Date.now();
  const cdp = await view.page.context().newCDPSession(view.page);
  cdp.send('Page.crash').catch(() => { });
  await until('the first tab is dead', () => dead.has(view.page));
  const left = all.filter(p => !dead.has(p));
  check(left.length > 4, `${left.length} tabs are left: those that die with the first say nothing`);
  return {left, began};
}
async function wentOn(left, began, has) {
  const took = [];
  await Promise.all(left.map(async p => { await until('the others go on', () => has(p), patience); took.push(Date.now() - began); }));
  console.log(`        the other ${left.length} went on ${Math.min(...took)} to ${Math.max(...took)} ms after the first was killed, 2000 are asked`);
}

const tests = {};
for (const [how, without] of [['with a SharedWorker', undefined], ['without one', noWorker]]) {
  for (const [name, page] of Object.entries(pages)) {
    const before = async context => { await without?.(context); await page.before?.(context); };
    tests[`${name}: ten tabs have one stream, ${how}`] = async () => {
      const server = await page.start(), {view, all} = await ten(server, page.page, before);
      const sessions = await metric(server, 'sse_sessions');
      check(sessions >= 1 && sessions <= 2, `${sessions} streams for ${tabs} tabs`);
      if (page.say) {
        await page.say(server, 'm1');
        for (const p of all) await until('each tab has the message', async () => (await page.has(p)).join() === 'm1');
      }
      await view.close();
      await until('all streams have ended', async () => await metric(server, 'sse_sessions') === 0);
      await server.kill();
    };
    if (!page.has) continue;
    tests[`${name}: a tab that is killed is missed by nobody, ${how}`] = async () => {
      const server = await page.start(), {view, all} = await ten(server, page.page, before);
      let n = 0, going = true;
      const sending = (async () => { while (going) { await page.say(server, `m${++n}`); await new Promise(done => setTimeout(done, 20)); } })();
      await until('messages flow', () => n > 20);
      const {left, began} = await killFirst(view, all), last = `m${n + 5}`;
      await wentOn(left, began, async p => (await page.has(p)).includes(last));
      going = false;
      await sending;
      const wanted = Array.from({length: n}, (_, i) => `m${i + 1}`).join();
      for (const p of left) await until('every message once, in order', async () => (await page.has(p)).join() === wanted).catch(async e => { throw new Error(`${e.message}: ${(await page.has(p)).join()}`); });
      await view.close();
      await server.kill();
    };
  }
  tests[`gateway: a tab that is killed is missed by nobody, ${how}`] = async () => {
    const server = await pages.gateway.start(), {view, all} = await ten(server, '', without);
    const {left, began} = await killFirst(view, all), id = await left[0].evaluate(() => last + 2);
    await wentOn(left, began, p => p.evaluate(id => last > id, id));
    for (const p of left) equal(JSON.stringify(await p.evaluate(() => [health.gaps, health.lost, health.missing, health.duplicates])), '[0,0,0,0]', 'gaps, lost, missing, duplicates');
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
// A tab that is further behind has the stream opened again for it: the other has what comes then, and gets the rest.
tests['a log file: a tab that is further behind doubles nothing for another'] = async () => {
  const page = pages['a log file'], server = await page.start(), view = await open(server.url), other = await view.page.context().newPage();
  await other.goto(server.url);
  const hear = (p, last) => p.evaluate(last => {
    window.heard = [];
    new SharedSource(`/logs/app?last_id=${last}`, new Set(['message'])).addEventListener('message', e => heard.push([e.data, e.lastEventId]));
  }, last);
  const heard = (p, wanted) => until(`it heard ${wanted}`, async () => await p.evaluate(() => heard.map(([data]) => data).join()) === wanted)
    .catch(async e => { throw new Error(`${e.message}: ${await p.evaluate(() => JSON.stringify(heard))}`); });
  await page.say(server, 'm1\nm2\nm3');
  await hear(view.page, 0);
  await heard(view.page, 'm1,m2,m3');
  const second = await view.page.evaluate(() => heard[1][1]);
  await view.page.reload();
  await hear(view.page, second);
  await heard(view.page, 'm3');
  await hear(other, 0);
  await heard(other, 'm1,m2,m3');
  await page.say(server, 'm4');
  await heard(other, 'm1,m2,m3,m4');
  await heard(view.page, 'm3,m4');
  await view.close();
  await server.kill();
};
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
