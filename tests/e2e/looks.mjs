// Every page at 1280 and at 390 pixels, light and dark, with something on it: nothing is wider than the screen or lies over
// something else, and axe-core finds nothing serious. SSEHUB_SHOTS=DIR: screenshots go there, to be looked at.
// needs: npm:playwright-core npm:axe-core
import fs from 'node:fs';
import path from 'node:path';
import {check, equal, open, programOf, run, scratch, start, until} from './_browser.mjs';

const axe = fs.readFileSync(path.join(process.env.NODE_PATH, 'axe-core/axe.min.js'), 'utf8');
const post = (url, body, headers = {}) => fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json', ...headers}, body: JSON.stringify(body)});
const token = Buffer.from('ann:ann:ann@example.com:user,admin').toString('base64');
const asAnn = {Authorization: `Bearer ${token}`};

const pages = {
  gateway: {
    flags: () => ['--trades'],
    async shown(view) { await until('a book and a fill', () => view.page.evaluate(() => !document.querySelector('#depth').hidden && document.querySelector('#fills tr') !== null)); },
    async fill({url}) { for (const price of [1, 1e6]) await post(`${url}api/order`, {side: 'BUY', symbol: 'BTCUSDT', qty: 0.01, price}); },
  },
  'watch list': {
    program: 'gateway', path: 'watch', flags: () => ['--trades', '--symbols', '40'], async fill() { },
    async shown(view) { await until('courses', () => view.page.evaluate(() => Number(document.body.dataset.values) > 100)); },
  },
  logs: {
    flags: () => { fs.writeFileSync(path.join(scratch, 'app.log'), Array.from({length: 60}, (_, i) => `2026-01-01 12:00:${i} INFO line ${i} of a log\n`).join('')); return ['--data', scratch]; },
    async fill({url}) { for (const level of ['info', 'warn', 'error']) await post(`${url}api/logs`, {level, component: 'api', message: `something ${level}`, agent: 'a1'}); },
  },
  viewer: {program: 'logs', path: 'deployments/app', flags: () => ['--data', scratch], async fill() { } },
  chat: {
    async fill({url}) { for (const [user, message] of [['bob', 'hello'], ['eve', 'a longer message that has to be broken somewhere, at 390 pixels at any rate']]) await post(`${url}chat/send`, {user, room: 'general', message}); },
    async shown(view, {url}) { await post(`${url}send-alert`, {type: 'disk', message: 'full', priority: 'high'}); await until('messages', () => view.page.evaluate(() => document.querySelectorAll('#messages .text').length >= 2)); },
  },
  'notifications sign-in': {program: 'notifications', async fill() { } },
  notifications: {
    async fill() { },
    async shown(view, {url}) {
      await view.page.fill('#token', token);
      await view.page.click('#signin button[type=submit]');
      await until('signed in', () => view.page.evaluate(() => document.body.dataset.user === 'ann' && document.body.dataset.state === 'live'));
      for (let i = 0; i < 3; ++i) await post(`${url}notifications/broadcast`, {title: `Title ${i}`, message: 'Something that one should know happened.'}, asAnn);
      await post(`${url}chat/send`, {roomId: 'general', message: 'hello'}, asAnn);
      await until('a notification', () => view.page.evaluate(() => document.body.textContent.includes('Title 2')));
    },
  },
};

const tests = {};
for (const [name, page] of Object.entries(pages)) {
  tests[name] = async () => {
    const server = await start(programOf(name).replace(/[^/]*$/, page.program || name), ...(page.flags?.() || []));
    await page.fill(server);
    const found = [];
    for (const width of [1280, 390]) {
      for (const colorScheme of ['light', 'dark']) {
        const view = await open(server.url + (page.path || ''), {width, height: width === 390 ? 844 : 800, colorScheme});
        await view.state('live');
        await page.shown?.(view, server);
        await until('something is there', async () => (await view.health()).state === 'live');
        await view.shot(`${name}-${width}-${colorScheme}`.replace(/ /g, '-'));
        await view.fits();
        await view.overlapsNothing();
        await view.page.evaluate(axe);
        const {violations} = await view.page.evaluate(() => axe.run(document, {resultTypes: ['violations']}));
        for (const v of violations) {
          if (v.impact !== 'serious' && v.impact !== 'critical') continue;
          for (const n of v.nodes.slice(0, 3)) found.push(`${width} ${colorScheme}: ${v.impact} ${v.id}: ${n.target.join(' ')}: ${n.any.concat(n.all, n.none).map(c => c.message).join('; ').slice(0, 160)}`);
        }
        await view.close();
      }
    }
    await server.kill();
    check(!found.length, `axe-core found\n        ${found.join('\n        ')}`);
  };
}
tests['light and dark by choice, remembered'] = async () => {
  const server = await start(programOf('chat').replace(/[^/]*$/, 'chat'));
  const view = await open(server.url, {colorScheme: 'dark'});
  await view.state('live');
  const back = () => view.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await back();
  await view.page.click('button[aria-label="Light or dark"]');
  const light = await back();
  check(light !== dark, `it stays ${dark}`);
  await view.page.reload();
  await view.state('live');
  check(await back() === light, 'it is forgotten');
  await view.page.click('button[aria-label="Light or dark"]');
  check(await back() === dark, 'no way back');
  await view.close();
  await server.kill();
};
// What a page gives: tones, and desktop notifications while nobody looks at it. The browser's own are replaced, since a headless
// one shows none.
const listening = context => context.addInitScript(() => {
  window.tones = 0; window.told = []; window.asked = 0; window.away = false;
  const start = OscillatorNode.prototype.start;
  OscillatorNode.prototype.start = function (...a) { window.tones++; return start.apply(this, a); };
  window.Notification = class {
    static permission = 'default';
    static async requestPermission() { window.asked++; return window.Notification.permission = 'granted'; }
    constructor(title, {body}) { window.told.push(`${title}: ${body}`); }
  };
  Object.defineProperty(document, 'hidden', {get: () => window.away});
});
const alertsOf = view => view.page.evaluate(() => ({tones: window.tones, told: window.told.join().replace(/ at [0-9.]+/g, ' at a price'), asked: window.asked}));
const quiet = view => until('the last alert is over', () => view.page.evaluate(async () => !(await navigator.locks.query()).held.some(l => l.name === 'ssehub-alert')));
const leave = view => view.page.evaluate(() => { window.away = true; });

async function ringsWhenAsked(view, send, told) {   // told: what a desktop notification has to say
  const press = () => view.page.click('button[aria-label="Sound and desktop notifications"]');
  const given = async (what, want) => { const got = await until(what, async () => { const g = await alertsOf(view); return g.tones >= want.tones && g; }); equal(JSON.stringify(got), JSON.stringify(want), what); await quiet(view); };
  await send('first');
  equal(JSON.stringify(await alertsOf(view)), JSON.stringify({tones: 0, told: '', asked: 0}), 'before it was asked for');
  await press();
  await send('second');
  await given('a tone, and nothing on the desktop of who looks at the page', {tones: 1, told: '', asked: 1});
  await leave(view);
  await send('third');
  await given('both', {tones: 2, told, asked: 1});
  await press();
  await send('fourth');
  await quiet(view);
  equal(JSON.stringify(await alertsOf(view)), JSON.stringify({tones: 2, told, asked: 1}), 'after it was turned off');
}
tests['alerts of notifications, when they were asked for and not before'] = async () => {
  const server = await start(programOf('notifications').replace(/[^/]*$/, 'notifications'));
  const view = await open(server.url, {before: listening});
  await view.state('live');
  await view.page.fill('#token', token);
  await view.page.click('#signin button[type=submit]');
  await until('signed in', () => view.page.evaluate(() => document.body.dataset.user === 'ann' && document.body.dataset.state === 'live'));
  await ringsWhenAsked(view, async title => {
    await post(`${server.url}notifications/broadcast`, {title, message: 'm'}, asAnn);
    await until('it came', () => view.page.evaluate(t => document.querySelector('#list')?.textContent.includes(t), title));
  }, 'third: m');
  await view.close();
  await server.kill();
};
tests['alerts of fills, when they were asked for and not before'] = async () => {
  const server = await start(programOf('gateway').replace(/[^/]*$/, 'gateway'));
  const view = await open(server.url, {before: listening});
  await view.state('live');
  await ringsWhenAsked(view, async client_order_id => {
    await post(`${server.url}api/order`, {side: 'BUY', symbol: 'BTCUSDT', qty: 0.01, price: 60000, client_order_id});
    await until('it was filled', () => view.page.evaluate(id => document.querySelector('#fills').textContent.includes(id), client_order_id));
  }, 'Fill: 0.01 BTCUSDT at a price');
  await view.close();
  await server.kill();
};
await run(tests);
