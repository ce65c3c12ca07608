// More different streams than a browser has connections: eight tabs with eight rooms, or log files. Those that nobody looks at are
// parked, and lose nothing; every tab can fetch. And what tabs lose or show twice where they are not as far as each other.
// needs: npm:playwright-core
import fs from 'node:fs';
import path from 'node:path';
import {check, equal, open, proxy, run, scratch, until} from './_browser.mjs';
import {metric, noWorker, pages, post, program, state} from './_tabs.mjs';

const tests = {};
// Eight tabs, each with a page of its own, of which one can be seen: a headless browser shows all, so the pages are told what is hidden.
const hideable = context => context.addInitScript(() => {
  let hidden = false;
  Object.defineProperty(document, 'hidden', {get: () => hidden});
  Object.defineProperty(document, 'visibilityState', {get: () => hidden ? 'hidden' : 'visible'});
  window.hide = is => { hidden = is; document.dispatchEvent(new Event('visibilitychange')); };
  const text = Object.getOwnPropertyDescriptor(Node.prototype, 'textContent');
  window.read = [];   // what a visitor could have read
  const set = function (v) { if (this.id === 'state' && !hidden) window.read.push(v); text.set.call(this, v); };
  Object.defineProperty(Node.prototype, 'textContent', {...text, set});
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
// The server hears of an end later than the browser.
const fewStreams = (server, most = 4) => until(`no more than ${most} streams are open`, async () => await metric(server, 'sse_sessions') <= most);
async function neverParked(page) {
  const read = await page.evaluate(() => window.read);
  check(!read.some(t => t.startsWith('Parked')), `a page that was looked at said: ${read}`);
}
const numbers = [0, 1, 2, 3, 4, 5, 6, 7];
async function hasOnly(page, has, wanted) {
  await until('a page has all, once and in order', async () => (await has(page)).join() === wanted.join())
    .catch(async e => { throw new Error(`${e.message}: ${(await has(page)).join()}`); });
}

const kinds = {
  'chat: eight rooms': {
    start: () => program('chat'),
    page: i => `#room${i}`,
    say: (server, i, what) => post(server, 'chat/send', {user: 'bob', room: `room${i}`, message: what}),
    has: pages.chat.has,
  },
  'logs: eight files': {
    async start() {
      this.data = fs.mkdtempSync(path.join(scratch, 'eight-'));
      for (let i = 0; i < 8; i++) fs.writeFileSync(path.join(this.data, `f${i}.log`), '');
      return program('logs', '--data', this.data);
    },
    page: i => `deployments/f${i}`,
    say(server, i, what) { fs.appendFileSync(path.join(this.data, `f${i}.log`), `${what}\n`); },
    has: pages['a log file'].has,
  },
};
for (const [how, before] of [['with a SharedWorker', undefined], ['without one', noWorker]]) {
  for (const [name, kind] of Object.entries(kinds)) {
    tests[`${name} in eight tabs, ${how}`] = async () => {
      const server = await kind.start(), {view, all, look} = await eight(server, numbers.map(kind.page), before);
      const wanted = numbers.map(() => []);
      let n = 0;
      const sayToAll = async () => { n++; for (const i of numbers) { await kind.say(server, i, `m${n} to ${i}`); wanted[i].push(`m${n} to ${i}`); } };
      const hasAll = i => hasOnly(all[i], kind.has, wanted[i]);
      await sayToAll();
      await until('four are parked', async () => (await Promise.all(all.map(state))).filter(s => s === 'parked').length === 4);
      for (const round of [1, 2]) {
        for (const i of round === 1 ? numbers : [3, 0, 6, 1]) {
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
      const server = await kind.start(), {view, all} = await eight(server, numbers.map(kind.page), before);
      for (const p of all) await hide(p, false);   // the last is the one that was looked at last
      await until('three are parked', async () => (await Promise.all(all.map(state))).join() === 'parked,parked,parked,live,live,live,live,live');
      await fewStreams(server, 5);
      check((await all[0].textContent('#state')).startsWith('Parked'), 'the page says so');
      await all[0].setViewportSize({width: 390, height: 800});
      check(await all[0].evaluate(() => document.scrollingElement.scrollWidth) <= 390, 'it has no room for that on a phone');
      await view.overlapsNothing();
      await all[0].click('#again');
      await until('what is clicked is live', async () => await state(all[0]) === 'live');
      await kind.say(server, 0, 'm1');
      await until('it has what comes', async () => (await kind.has(all[0])).join() === 'm1');
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
  const server = await program('logs', '--data', scratch), way = await proxy(server.port);
  const view = await open(way.url), second = await view.page.context().newPage();
  await second.goto(way.url);
  const say = message => pages.logs.say(server, message);
  const entries = async page => (await pages.logs.has(page)).join();
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
  for (const p of [view.page, second, third]) await hasOnly(p, pages.logs.has, ['m1', 'm2', 'm3']);
  await view.close();
  way.close();
  await server.kill();
};
await run(tests);
