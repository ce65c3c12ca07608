// What the tests of the pages share: a program that they start and kill, a proxy that they cut, and a page in a real, headless
// Chromium that watches over itself.
//   import {check, equal, until, start, proxy, open, run} from './_browser.mjs';
// SSEHUB_SHOTS=DIR: screenshots go there. Every wait is for a condition, with a deadline.
import {spawn} from 'node:child_process';
import fs from 'node:fs';
import {createRequire} from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

export const deadline = 30_000;
export const shots = process.env.SSEHUB_SHOTS;
export const markup = '<img src=x onerror=alert(1)>';
const script = path.basename(process.argv[1]);

function skip(what) {
  if (process.env.CI === 'true') { console.error(`FAILED ${script}: ${what}`); process.exit(1); }
  console.error(`SKIPPED ${script}: ${what}`);
  process.exit(77);
}
function load() {
  const require = createRequire(import.meta.url);   // honours NODE_PATH
  for (const name of [process.env.SSEHUB_NODE_MODULES && path.resolve(process.env.SSEHUB_NODE_MODULES, 'playwright-core'), 'playwright-core']) {
    try { if (name) return require(name); } catch { }
  }
  return skip('playwright-core is missing: npm install --prefix build/node playwright-core');
}
const {chromium} = load();
const chrome = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(f => fs.existsSync(f)) || skip('chromium is missing');

const children = new Set();
export const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'ssehub-e2e-'));
process.on('exit', () => {
  for (const c of children) c.kill('SIGKILL');
  fs.rmSync(scratch, {recursive: true, force: true});
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export function check(holds, what) { if (!holds) throw new Error(what); }
export function equal(a, b, what) { check(a === b, `${what}: ${JSON.stringify(a)}, expected ${JSON.stringify(b)}`); }

export async function until(what, condition, ms = deadline) {
  for (const end = Date.now() + ms; ;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s in vain: ${what}`);
    await new Promise(done => setTimeout(done, 40));
  }
}

// Of the command line NAME.mjs [PROGRAM [PART OF A NAME]]: the program, else NAME_PROGRAM, else $PROGRAMS/name.
export function programOf(name) {
  return process.argv[2] || process.env[`${name.toUpperCase()}_PROGRAM`] || path.join(process.env.PROGRAMS || 'build/dev/bin', name);
}

// A running program: {url, port, log(), kill()}. The first line on its stdout says where it listens.
export async function start(program, ...flags) {
  const child = spawn(program, flags.includes('--port') ? flags : ['--port', '0', ...flags], {stdio: ['ignore', 'pipe', 'pipe']});
  children.add(child);
  let out = '', log = '', gone = null;
  child.stdout.on('data', d => { out += d; });
  child.stderr.on('data', d => { log = (log + d).slice(-200_000); });
  child.on('error', e => { gone = e.message; });
  const ended = new Promise(done => child.on('exit', (code, signal) => { gone ??= `ended with ${signal || code}`; children.delete(child); done(); }));
  await until(`${program} ${flags.join(' ')} says where it listens`, () => {
    check(!gone, `${program} ${flags.join(' ')}: ${gone}\n${log}`);
    return out.includes('\n');
  });
  const url = /^listening on (http:\/\/[^/]+\/)$/.exec(out.split('\n')[0]);
  check(url, `the first line on stdout is ${JSON.stringify(out.split('\n')[0])}`);
  return {url: url[1], port: Number(new URL(url[1]).port), log: () => log, kill: async (signal = 'SIGKILL') => { child.kill(signal); await ended; }};
}

// A TCP proxy whose connections can be reset or fall silent, and which can refuse new ones.
export async function proxy(port) {
  const sockets = new Set();
  let blocked = false, silent = false;
  const server = net.createServer(client => {
    if (blocked) return client.resetAndDestroy();
    const upstream = net.connect(port, '127.0.0.1');
    for (const [a, b] of [[client, upstream], [upstream, client]]) {
      sockets.add(a);
      a.on('error', () => { });
      a.on('close', () => { sockets.delete(a); b.destroy(); });
      a.on('data', d => { if (!a.dead) b.write(d); });
      a.on('end', () => b.end());
      a.dead = silent;
    }
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  const cut = () => { for (const s of sockets) s.resetAndDestroy(); };
  const stall = () => { silent = true; for (const s of sockets) s.dead = true; };
  return {url: `http://127.0.0.1:${server.address().port}/`, cut, stall, flow: () => { silent = false; }, block: () => { blocked = true; cut(); }, unblock: () => { blocked = false; },
    close: () => { server.close(); cut(); }};
}

const browser = await chromium.launch({executablePath: chrome, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-quic',
  '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage']});

// A page that watches over itself: `outage` allows the browser's own lines about requests under `stream` (one or several) that did not get through.
const views = [];
export async function open(url, {width = 1280, height = 800, colorScheme = 'dark', scale = 1, stream = '/', before = () => { }} = {}) {
  const context = await browser.newContext({viewport: {width, height}, colorScheme, deviceScaleFactor: scale});
  await before(context);
  const page = await context.newPage(), home = new URL(url).origin, faults = [];
  const view = {page, faults, outage: false};
  views.push(view);
  page.on('console', m => {
    if (m.type() !== 'error' && m.type() !== 'warning') return;
    if (view.outage && m.text().startsWith('Failed to load resource: ') && [stream].flat().some(s => m.location().url.startsWith(home + s))) return;
    faults.push(`console ${m.type()}: ${m.text()} (${m.location().url})`);
  });
  page.on('pageerror', e => faults.push(`uncaught: ${e.stack}`));
  page.on('dialog', d => { faults.push(`dialog: ${d.message()}`); d.dismiss(); });
  context.on('request', r => { const u = new URL(r.url()); if (u.origin !== home && u.protocol !== 'data:') faults.push(`request to ${r.url()}`); });
  view.response = await page.goto(url, {timeout: deadline});
  // What the page says of itself; numbers as numbers.
  view.health = () => page.evaluate(() => Object.fromEntries(Object.entries(document.body.dataset).map(([k, v]) => [k, /^\d+$/.test(v) ? Number(v) : v])));
  view.text = selector => page.locator(selector).first().textContent({timeout: deadline});
  view.state = want => until(`the page says ${want}`, async () => (await view.health()).state === want);
  view.flows = async (n = 5) => { const {events} = await view.health(); await until(`${n} more events`, async () => (await view.health()).events >= events + n); };
  view.row = (table, needle) => page.locator(`${table} tr`).filter({hasText: needle}).first();
  view.fits = async () => { const wide = await page.evaluate(() => document.scrollingElement.scrollWidth); check(wide <= width, `the page is ${wide} pixels wide on a screen of ${width}`); };
  // Each control, heading and toast can be seen where it stands: nothing else lies over its middle.
  view.overlapsNothing = async () => {
    const covered = await page.evaluate(() => {
      const found = [], named = e => `${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ''}${typeof e.className === 'string' && e.className ? `.${e.className.replace(/ +/g, '.')}` : ''}`;
      const at = [window.scrollX, window.scrollY];
      for (const e of document.querySelectorAll('button, input, select, textarea, a, h1, h2, .toast, li, td')) {
        if (!e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
        e.scrollIntoView({block: 'center', inline: 'nearest', behavior: 'instant'});
        const b = e.getBoundingClientRect();
        if (b.width < 2 || b.height < 2) continue;  // hidden, but for those who hear the page
        const top = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2);
        if (top && !e.contains(top) && !top.contains(e) && !top.labels?.length && !top.closest('label')?.contains(e)) found.push(`${named(top)} over ${named(e)}`);
      }
      window.scrollTo(...at);
      return found;
    });
    equal(covered.join('\n'), '', `what lies over something at ${width} pixels`);
  };
  view.shot = async name => { if (shots) { fs.mkdirSync(shots, {recursive: true}); await page.screenshot({path: path.join(shots, `${name}.png`), timeout: deadline}); } };
  view.close = async () => { equal(faults.join('\n'), '', 'what the browser complained of'); await context.close(); };
  return view;
}

// Runs those tests whose name has `part` in it, says how each went, and ends the process: 0 ok, 1 failed.
export async function run(tests, part = process.argv[3] ?? '') {
  let failed = 0;
  const chosen = Object.entries(tests).filter(([name]) => name.includes(part));
  check(chosen.length > 0, `no test has ${part} in its name`);
  for (const [name, test] of chosen) {
    const began = Date.now();
    views.length = 0;
    try {
      await test();
      console.log(`ok      ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    } catch (e) {
      failed++;
      console.error(`FAILED  ${name}: ${e.stack}`);
      for (const v of views) for (const fault of v.faults) console.error(`        the browser: ${fault}`);
      for (const context of browser.contexts()) {
        for (const page of context.pages()) await page.screenshot({path: path.join(shots || os.tmpdir(), `failed-${failed}.png`)}).catch(() => { });
        await context.close();
      }
      for (const child of children) child.kill('SIGKILL');
    }
  }
  await browser.close();
  process.exit(failed ? 1 : 0);
}
