// The log server's two pages in a real, headless Chromium: live without reload, follow and pause, filter, links to lines, a
// killed server, hostile texts, a phone's width.
// needs: node chromium npm:playwright-core
// usage: logs_page.mjs [LOGS [PART OF A NAME]]   else LOGS_PROGRAM, else $PROGRAMS/logs.
// SSEHUB_SHOTS=DIR: screenshots go there.
// Exit code: 0 ok, 1 failed, 77 skipped. Every wait is for a condition, with a deadline.
import fs from 'node:fs';
import path from 'node:path';
import {check, deadline, equal, markup, open, programOf, run, scratch, start, until} from './_browser.mjs';

const program = programOf('logs');
let made = 0;

// A server over a directory of its own: {url, port, log(), kill(), file(name), append(name, text)}.
async function logs(flags = [], directory = path.join(scratch, `data-${++made}`)) {
  fs.mkdirSync(directory, {recursive: true});
  const file = name => path.join(directory, name);
  const server = await start(program, '--data', directory, ...flags);
  return {...server, directory, file, append: (name, text) => fs.appendFileSync(file(name), text)};
}
const post = (server, entry, headers = {}) => fetch(`${server.url}api/logs`, {method: 'POST', headers, body: JSON.stringify({level: 'info', component: 'registry', message: 'm', ...entry})});
const numbered = (from, to, text = '') => Array.from({length: to - from + 1}, (_, i) => `line ${from + i}${text}\n`).join('');
const shown = v => v.page.evaluate(() => [...document.querySelectorAll('#lines li:not(.out) span')].map(e => e.textContent));
const holds = (v, what, condition) => until(what, async () => condition(await shown(v)));
const newest = v => v.page.evaluate(() => { const l = document.getElementById('lines'); return l.scrollHeight - l.scrollTop - l.clientHeight < 3; });

const tests = {
  async 'the index: files, entries, a new deployment, all live'() {
    const server = await logs();
    server.append('older.log', 'x\n');
    fs.utimesSync(server.file('older.log'), 1e9, 1e9);
    server.append('newer.log', 'x\n');
    server.append(`${markup.replace(/[/]/g, '')}.log`, 'x\n');
    await post(server, {message: 'before the page', agent: 'a'});
    const v = await open(server.url);
    await v.page.evaluate(() => { window.sameDocument = true; });
    check(/default-src 'none'/.test(v.response.headers()['content-security-policy'] || ''), 'GET / has no Content-Security-Policy');
    await v.state('live');
    equal(await v.page.locator('#files a').last().textContent(), 'older', 'the oldest file');
    equal(await v.page.locator('#files a').count(), 3, 'files');
    const entries = () => v.page.locator('#entries .m').allTextContents();
    await until('the entry of before', async () => (await entries()).includes('before the page'));
    await until('an agent is online', async () => await v.text('#agents') === '1');
    for (const level of ['debug', 'info', 'warn', 'error']) await post(server, {level, message: `${level} of ${markup}\nsecond line`, agent: 'b'});
    await until('four entries', async () => (await entries()).filter(m => m.includes(markup)).length === 4);
    equal(await v.page.locator('img').count(), 0, 'elements made from the text');
    await v.page.click('#least [data-least=error]');
    await until('errors alone', async () => (await v.page.locator('#entries li:visible').count()) === 1);
    await v.page.click('#least [data-least=debug]');
    await v.shot('logs-index');
    await v.fits();

    // A deployment of somebody else appears by itself; one's own leads to its page.
    await fetch(`${server.url}deployments`, {method: 'POST', redirect: 'manual'});
    await until('a fourth file', async () => await v.page.locator('#files a').count() === 4);
    check(await v.page.evaluate(() => window.sameDocument), 'the page was reloaded');
    await v.page.click('#deploy button');
    await v.page.waitForURL(/\/deployments\/[0-9a-f]{32}$/, {timeout: deadline});
    await v.state('live');
    await holds(v, 'its lines', lines => lines.length >= 3 && /accepted$/.test(lines[0]));
    await v.close();
    const phone = await open(server.url, {width: 390, height: 844, scale: 2});
    await phone.state('live');
    await until('entries', async () => await phone.page.locator('#entries li').count() > 3);
    await phone.fits();
    await phone.shot('logs-index-phone');
    await phone.close();
    const light = await open(server.url, {colorScheme: 'light'});
    await light.state('live');
    await until('entries', async () => await light.page.locator('#entries li').count() > 3);
    await light.shot('logs-index-light');
    await light.close();
    await server.kill();
  },

  async 'the viewer: lines as they come, levels, filter, escapes'() {
    const server = await logs();
    const kinds = ['2025-09-21T10:30:15.123456: INFO  rollout: instance 3: ready', '2025-09-21T10:30:15.623456: DEBUG rollout: old process ended',
      '2025-09-21T10:30:16.123456: WARN  registry: push timed out, second attempt', '2025-09-21T10:30:16.623456: ERROR health: connection refused',
      '[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok', '[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6',
      `INFO hostile ${markup} \x1b[31mred\x1b[0m`, '  indented\twith a tab', '', '10%\r20%\r30%'];
    server.append('app.log', kinds.join('\n') + '\n');
    const v = await open(`${server.url}deployments/app`);
    check(/default-src 'none'/.test(v.response.headers()['content-security-policy'] || ''), 'the viewer has no Content-Security-Policy');
    await v.state('live');
    await holds(v, 'all lines', lines => lines.length === kinds.length);
    const lines = await shown(v);
    equal(lines[6], `INFO hostile ${markup} red`, 'the hostile line');
    equal(lines[7], kinds[7], 'the indented line');
    equal(lines[9], '10%\n20%\n30%', 'the line with CRs');
    equal(await v.page.locator('img').count(), 0, 'elements made from the text');
    equal(await v.page.locator('#lines .error').count(), 2, 'errors');
    equal(await v.page.locator('#lines .warn').count(), 1, 'warnings');
    server.append('app.log', 'half a ');
    server.append('app.log', 'line\n');
    await holds(v, 'the line whole', l => l.length === kinds.length + 1 && l.at(-1) === 'half a line');
    await v.page.fill('#filter', 'WORKERENV');
    await holds(v, 'the filter', l => l.length === 2);
    check((await v.text('#count')).startsWith('2 of 11 lines'), `it counts ${await v.text('#count')}`);
    server.append('app.log', 'another workerenv\nand another\n');
    await holds(v, 'the filter holds for new lines', l => l.length === 3);
    await v.page.fill('#filter', '');
    await v.page.click('#least [data-least="3"]');
    await holds(v, 'errors alone', l => l.length === 2);
    await v.page.click('#least [data-least="0"]');
    await holds(v, 'all again', l => l.length === 13);
    await v.fits();
    await v.shot('logs-viewer');
    fs.renameSync(server.file('app.log'), server.file('app.log.1'));
    server.append('app.log', 'INFO after the rotation\n');
    await holds(v, 'the next file', l => l.at(-1) === 'INFO after the rotation');
    equal(await v.text('#lines .mark'), 'The log was rotated.', 'the rotation is told');
    await v.close();

    const phone = await open(`${server.url}deployments/app`, {width: 390, height: 844, scale: 2});
    await phone.state('live');
    await holds(phone, 'lines', l => l.length >= 13);
    await phone.fits();
    await phone.shot('logs-viewer-phone');
    await phone.close();
    const light = await open(`${server.url}deployments/app`, {colorScheme: 'light'});
    await holds(light, 'lines', l => l.length >= 13);
    await light.shot('logs-viewer-light');
    await light.close();
    await server.kill();
  },

  async 'the gutter says when, the search takes a regular expression, several files are on one page'() {
    const server = await logs();
    server.append('app.log', '2025-09-21T10:30:15.123456: INFO request 17 took 3 ms\n[Sun Dec 04 04:47:44 2005] [notice] request 4 took 1500 ms\nno time here\n');
    server.append('other.log', '10:31:00 from the other file\n');
    const v = await open(`${server.url}deployments/app`);
    await holds(v, 'lines', l => l.length === 3);
    equal((await v.page.locator('#lines a').allTextContents()).join(), '10:30:15,04:47:44,#', 'the gutter');
    const contrast = await v.page.evaluate(() => {
      const lum = c => { const [r, g, b] = c.match(/[\d.]+/g).slice(0, 3).map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
      const a = document.querySelector('#lines a'), style = getComputedStyle(a);
      const [x, y] = [lum(style.color), lum(getComputedStyle(document.documentElement).backgroundColor)].sort((p, q) => q - p);
      return (x + .05) / (y + .05) * Number(style.opacity);
    });
    check(contrast >= 4.5, `the gutter's contrast is ${contrast}`);
    await v.page.fill('#filter', 'took \\d{4,} ms');
    await holds(v, 'nothing has these characters', l => l.length === 0);
    await v.page.click('#form');
    await holds(v, 'the slow one', l => l.length === 1 && l[0].includes('1500'));
    await v.page.fill('#filter', '(');
    equal(await v.page.getAttribute('#filter', 'aria-invalid'), 'true', 'half an expression');
    await v.page.fill('#filter', '');
    await until('the other file can be chosen', async () => await v.page.locator('#more option').count() === 2);
    await v.page.selectOption('#more', 'other');
    await holds(v, 'its lines', l => l.at(-1) === 'other10:31:00 from the other file');
    server.append('app.log', 'one more\n');
    server.append('other.log', 'and another\n');
    await holds(v, 'both are live', l => l.includes('appone more') && l.includes('otherand another'));
    await v.fits();
    await v.shot('logs-viewer-two');
    const shared = await open(v.page.url(), {width: 390, height: 844, scale: 2});
    await holds(shared, 'a link has both', l => l.some(x => x.startsWith('other')) && l.some(x => x.startsWith('app')));
    await shared.fits();
    await shared.shot('logs-viewer-two-phone');
    await shared.close();
    const [download] = await Promise.all([v.page.waitForEvent('download', {timeout: deadline}), v.page.click('#save')]);
    equal(fs.readFileSync(await download.path(), 'utf8'), fs.readFileSync(server.file('app.log'), 'utf8'), 'what was downloaded');
    await v.close();
    await server.kill();
  },

  async 'keeps the last 1000 lines, follows, pauses, jumps to the newest'() {
    const server = await logs();
    server.append('app.log', numbered(1, 3000));
    const v = await open(`${server.url}deployments/app`);
    await holds(v, 'the last thousand', l => l.length === 1000 && l[0] === 'line 2001' && l.at(-1) === 'line 3000');
    check(await newest(v), 'it does not show the newest line');
    server.append('app.log', numbered(3001, 3500));
    await holds(v, 'the new ones push the old ones out', l => l.length === 1000 && l.at(-1) === 'line 3500');
    check(await newest(v), 'it does not follow');

    await v.page.click('#pause');
    const before = (await shown(v)).join();
    server.append('app.log', numbered(3501, 3520));
    await until('it counts what is new', async () => await v.text('#jump') === '20 new lines');
    equal((await shown(v)).join(), before, 'what a paused page shows');
    await v.shot('logs-viewer-paused');
    await v.page.click('#jump');
    await holds(v, 'the newest', l => l.at(-1) === 'line 3520');
    check(await newest(v), 'the jump does not lead to the newest line');
    equal((await v.health()).follow, 'true', 'follows again');

    // Scrolling up is a pause; End goes on.
    await v.page.hover('#lines');
    await v.page.mouse.wheel(0, -400);
    await until('it is paused', async () => (await v.health()).follow === 'false');
    server.append('app.log', numbered(3521, 3522));
    await until('new ones wait', async () => await v.text('#jump') === '2 new lines');
    await v.page.focus('#lines');
    await v.page.keyboard.press('End');
    await holds(v, 'the newest again', l => l.at(-1) === 'line 3522');

    // A long pause lets the stream go, and loses nothing.
    await v.page.click('#pause');
    server.append('app.log', numbered(3523, 9522));
    await until('the stream is let go', async () => (await v.health()).state === 'stopped');
    equal(await v.text('#state'), 'Paused', 'state');
    await v.page.click('#follow');
    await v.state('live');
    await holds(v, 'the newest after all', l => l.length === 1000 && l.at(-1) === 'line 9522');
    equal((await shown(v)).join(), Array.from({length: 1000}, (_, i) => `line ${8523 + i}`).join(), 'the lines');
    await v.close();
    await server.kill();
  },

  async 'a link leads to its line'() {
    const server = await logs();
    server.append('app.log', numbered(1, 5000));
    const v = await open(`${server.url}deployments/app`);
    await holds(v, 'lines', l => l.length === 1000);
    await v.page.locator('#lines li', {hasText: 'line 4990'}).locator('a').click();
    const link = await v.page.evaluate(() => location.href);
    check(/#L\d+$/.test(link), `the link is ${link}`);
    check(await v.page.locator('#lines .target', {hasText: 'line 4990'}).isVisible(), 'the line is not marked');
    await v.close();
    server.append('app.log', numbered(5001, 12000));  // by now it is far back
    const other = await open(link);
    await until('the line', async () => await other.page.locator('#lines .target').count() === 1);
    equal(await other.page.locator('#lines .target span').textContent(), 'line 4990', 'the line');
    await until('it is in view', async () => other.page.evaluate(() => { const r = document.querySelector('.target').getBoundingClientRect(); return r.top > 90 && r.bottom < innerHeight; }));
    equal((await shown(other))[0], 'line 4791', 'what is before it');
    equal((await other.health()).follow, 'false', 'a linked page stands still');
    await other.shot('logs-viewer-link');
    await other.page.click('#follow');
    await holds(other, 'the newest', l => l.at(-1) === 'line 12000');
    await other.close();
    await server.kill();
  },

  async 'comes back after the server was killed, and misses nothing'() {
    let server = await logs();
    server.append('app.log', numbered(1, 5));
    const v = await open(`${server.url}deployments/app`, {stream: '/logs/'}), home = await open(server.url, {stream: '/api/'});
    await holds(v, 'lines', l => l.length === 5);
    await home.state('live');
    v.outage = home.outage = true;
    await server.kill('SIGKILL');
    await v.state('reconnecting');
    await home.state('reconnecting');
    server.append('app.log', numbered(6, 7));
    fs.renameSync(server.file('app.log'), server.file('app.log.1'));
    server.append('app.log', numbered(8, 9));
    server = {...server, ...await logs(['--port', String(server.port)], server.directory)};
    await v.state('live');
    await home.state('live');
    v.outage = home.outage = false;
    server.append('app.log', numbered(10, 10));
    await holds(v, 'every line once', l => l.join() === numbered(1, 10).trim().split('\n').join());
    const before = (await home.health()).entries;
    await post(server, {message: 'again'});
    await until('new entries', async () => (await home.health()).entries > before);
    await v.close();
    await home.close();
    await server.kill();
  },

  async 'carries the token, says so when it is refused'() {
    const server = await logs(['--token', 'open-sesame-7']);
    server.append('app.log', numbered(1, 3));
    const v = await open(`${server.url}?token=open-sesame-7`);
    await v.state('live');
    check(!v.page.url().includes('open-sesame-7'), 'the token stays in the address bar');
    await v.page.click('#files a');
    await v.state('live');
    await holds(v, 'lines', l => l.length === 3);
    await v.page.goBack({timeout: deadline});
    await v.page.click('#deploy button');
    await v.page.waitForURL(/\/deployments\/[0-9a-f]{32}/, {timeout: deadline});
    await v.state('live');
    check(!server.log().includes('open-sesame-7'), 'the token stands in the log');
    await v.close();
    const stranger = await open(server.url);
    await stranger.state('stopped');
    check(/refused \(401\)/.test(await stranger.text('#state')), `it says ${await stranger.text('#state')}`);
    equal(await stranger.page.locator('#files a').count(), 0, 'files shown to a stranger');
    await stranger.page.context().close();   // the browser itself complains of each 401
    await server.kill();
  },
};

await run(tests);
