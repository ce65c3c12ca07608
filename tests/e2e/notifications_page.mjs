// The notifications page in a real, headless Chromium: signing in, chat between two users, notifications and toasts, the
// system's state, a killed server, a token that ends, hostile texts, a phone's width.
// needs: node chromium npm:playwright-core
// usage: see _browser.mjs
import crypto from 'node:crypto';
import {check, deadline, equal, markup, open as openView, programOf, proxy, run, start, until} from './_browser.mjs';

const serve = (...flags) => start(programOf('notifications'), ...flags);
const openPage = (url, options) => openView(url, {stream: ['/stream', '/system/status/stream', '/session', '/chat/rooms', '/system/connections'], ...options});

const demo = 'dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4=';
const tokenOf = (id, name, roles = 'user') => Buffer.from(`${id}:${name}:${id}@example.com:${roles}`).toString('base64');
const ada = tokenOf('ada', 'Ada'), bob = tokenOf('bob', 'Bob');
const secret = 'a secret of at least thirty-two bytes';
function signed(claims) {
  const b = o => Buffer.from(JSON.stringify(o)).toString('base64url'), head = `${b({alg: 'HS256', typ: 'JWT'})}.${b(claims)}`;
  return `${head}.${crypto.createHmac('sha256', secret).update(head).digest('base64url')}`;
}

async function open(server, how) {
  const v = await openPage(server.url, how), {page} = v;
  v.signIn = async t => {
    if (t) await page.fill('#token', t, {timeout: deadline});
    await page.click('#signin button[type=submit]', {timeout: deadline});
  };
  v.say = async message => { await page.fill('#message', message, {timeout: deadline}); await page.keyboard.press('Enter'); };
  v.has = (selector, what) => until(`${what} in ${selector}`, async () => (await page.locator(selector).allTextContents()).some(t => t.includes(what)));
  v.hasNot = async (selector, what) => check(!(await page.locator(selector).allTextContents()).some(t => t.includes(what)), `${what} in ${selector}`);
  v.notify = async fields => {
    for (const [name, value] of Object.entries(fields)) {
      if (name === 'type') await page.selectOption('#n-type', value, {timeout: deadline});
      else await page.fill(`#n-${name}`, value, {timeout: deadline});
    }
    await page.click('#send button', {timeout: deadline});
  };
  await v.state('live');
  return v;
}
async function post(server, token, path, body) {
  const r = await fetch(server.url + path, {method: 'POST', headers: {Authorization: `Bearer ${token}`, 'Content-Type': 'application/json'}, body: JSON.stringify(body)});
  equal(r.status, 200, path);
}
// Signed in, and the stream of this user is open.
async function join(server, token, how) {
  const v = await open(server, how), opens = (await v.health()).opens;
  await v.signIn(token);
  await until('the stream of the user', async () => { const h = await v.health(); return h.user && h.state === 'live' && h.opens > opens; });
  return v;
}

await run({
  async 'lives without reload: sign in, chat, notifications, updates, status'() {
    const server = await serve();
    const v = await open(server);
    await v.page.evaluate(() => { window.sameDocument = true; });
    check(/default-src 'none'/.test(v.response.headers()['content-security-policy'] || ''), "GET / has no Content-Security-Policy with default-src 'none'");
    equal(await v.text('#state'), 'Live', 'state shown');
    await until('the status, before anybody signed in', async () => /^\d+ MB$/.test(await v.text('#memory')) && /^\d+ %$/.test(await v.text('#cpu')) && /^\d+$/.test(await v.text('#connections')));
    equal(await v.text('#status'), 'healthy', 'status');
    equal(await v.page.inputValue('#token'), demo, 'the token that is there');
    await v.has('#says-who', 'testuser (test123): user,admin');
    await v.shot('notifications-signin');
    check(!await v.page.locator('#h-chat').isVisible(), 'the chat is shown before signing in');

    await v.signIn();
    await until('signed in', async () => (await v.health()).user === 'test123');
    await until('the combined stream', async () => (await v.health()).opens === 2 && (await v.health()).state === 'live');
    equal(await v.text('#user'), 'testuser', 'user shown');
    equal(await v.text('#roles'), 'user, admin', 'roles shown');
    const other = await join(server, bob);
    await v.has('#people', 'Bob');
    await v.has('#messages .note', 'Bob entered');
    await other.has('#people', 'testuser');
    await other.hasNot('#messages .note', 'Bob entered');

    await v.say('Hello everyone!');
    await other.has('#messages .text', 'Hello everyone!');
    await v.has('#messages .mine .text', 'Hello everyone!');
    await v.hasNot('#messages li:not(.mine) .text', 'Hello everyone!');
    await other.page.type('#message', 'Hi');
    await v.has('#typing', 'Bob is typing');
    await other.page.keyboard.press('Enter');
    await v.has('#messages li:not(.mine) .text', 'Hi');

    await v.notify({title: 'Deploy', message: 'Version 2 is out', type: 'info'});
    for (const x of [v, other]) { await x.has('#list li', 'Version 2 is out'); await x.has('.toast', 'Version 2 is out'); }
    await v.has('#sent', 'Sent to everybody');
    await v.notify({title: 'Only you', message: 'For Bob', to: 'bob', type: 'warning'});
    await other.has('#list li[data-k=warning]', 'For Bob');
    await v.notify({title: 'End', message: 'mark', to: '', type: 'error'});
    await v.has('#list li[data-k=error]', 'mark');
    await v.hasNot('#list li', 'For Bob');
    await v.notify({title: '', message: 'no title'});
    await v.has('#sent', 'title is missing');

    for (const type of ['create', 'update', 'status-change', 'delete']) {
      await v.page.click('#sample', {timeout: deadline});
      await other.has('#updates tr', type);
    }
    await v.page.fill('#m-message', 'Back at noon', {timeout: deadline});
    await v.page.click('#maintain button', {timeout: deadline});
    for (const x of [v, other]) await x.has('#notice', 'Back at noon');
    check(!await other.page.locator('#h-maintenance').isVisible(), 'a user without the role is offered maintenance');

    // Another room: what is said elsewhere is counted; who is there is shown.
    await other.page.fill('#join-room', 'kitchen', {timeout: deadline});
    await other.page.keyboard.press('Enter');
    await v.has('#messages .note', 'Bob left');
    await v.has('#rooms button', 'kitchen');
    await other.say('coffee');
    await until('an unread message', async () => (await v.page.locator('#rooms button', {hasText: 'kitchen'}).locator('.unread').textContent()) === '1');
    await v.hasNot('#messages .text', 'coffee');
    await v.page.click('#rooms button:has-text("kitchen")', {timeout: deadline});
    await v.has('#messages .text', 'coffee');
    await other.has('#people', 'testuser');
    await v.say('two sugars');
    await other.has('#messages .text', 'two sugars');
    await v.page.click('#rooms button:has-text("general")', {timeout: deadline});
    await v.has('#messages .text', 'Hello everyone!');
    equal(await v.page.locator('#messages .text').count(), 2, 'messages in general');

    await until('the streams of both', async () => (await v.page.locator('#open tr').count()) === 2);
    equal(await v.text('#connections'), '2', 'connections');
    const h = await v.health();
    equal(h.duplicates, 0, 'events that came twice');
    equal(h.gaps, 0, 'gaps');
    check(await v.page.evaluate(() => window.sameDocument), 'the page was reloaded');
    check(!server.log().includes(demo.slice(0, 16)) && server.log().includes('token=***'), 'the token stands in the log');
    await v.fits();
    await v.page.evaluate(() => document.getElementById('notice').lastChild.click());
    await v.shot('notifications-desktop');

    // A reload keeps the user, and the server brings back what was said.
    await v.page.reload({timeout: deadline});
    await v.state('live');
    await v.has('#messages .text', 'Hello everyone!');
    await v.has('#list li', 'Version 2 is out');
    equal(await v.page.locator('.toast').count(), 0, 'toasts of old notifications');
    await v.page.click('#signout', {timeout: deadline});
    await until('signed out', async () => !(await v.health()).user);
    await v.state('live');
    check(await v.page.locator('#signin').isVisible(), 'no way to sign in again');
    equal(await v.page.locator('#list li').count(), 0, 'notifications left');
    await v.close();

    const phone = await join(server, ada, {width: 390, height: 844, scale: 2});
    await phone.has('#messages .text', 'Hi');
    await phone.fits();
    await phone.shot('notifications-phone');
    await phone.page.evaluate(() => scrollTo(0, 900));
    await phone.shot('notifications-phone-2');
    await phone.close();
    await other.close();
    const light = await join(server, demo, {colorScheme: 'light'});
    await light.has('#messages .text', 'Hi');
    await light.notify({title: 'In daylight', message: 'A toast on a light page'});
    await light.has('.toast', 'daylight');
    await light.shot('notifications-light');
    await light.close();
    await server.kill();
  },

  async 'comes back after the server was killed, and after cut connections'() {
    let server = await serve();
    const v = await join(server, ada);
    await post(server, bob, 'chat/send', {roomId: 'general', message: 'before'});
    await v.has('#messages .text', 'before');
    v.outage = true;
    await server.kill('SIGKILL');
    await v.state('reconnecting');
    await v.shot('notifications-reconnecting');
    server = await serve('--port', String(server.port));
    await v.state('live');
    await until('the gap is told', async () => (await v.health()).gaps === 1);
    await v.has('#notice', 'lost');
    await v.has('#messages .text', 'before');
    await post(server, bob, 'chat/send', {roomId: 'general', message: 'after'});
    await v.has('#messages .text', 'after');
    equal((await v.health()).duplicates, 0, 'events that came twice');
    await v.close();

    // Cut again and again: what is said meanwhile is there, once and in order.
    const between = await proxy(server.port);
    const w = await join(between, ada);
    w.outage = true;
    for (let i = 0; i < 4; i++) {
      const {opens} = await w.health();
      between.block();
      await w.state('reconnecting');
      for (let k = 0; k < 3; k++) await post(server, bob, 'chat/send', {roomId: 'general', message: `m${i * 3 + k}.`});
      between.unblock();
      await until('connected again', async () => { const h = await w.health(); return h.state === 'live' && h.opens > opens; });
    }
    await w.has('#messages .text', 'm11.');
    const all = (await w.page.locator('#messages .text').allTextContents()).filter(t => /^m\d+\.$/.test(t));
    equal(all.join(''), Array.from({length: 12}, (_, i) => `m${i}.`).join(''), 'messages');
    equal((await w.health()).gaps, 0, 'gaps');
    await w.close();
    between.close();
    await server.kill();
  },

  async 'shows hostile texts as texts'() {
    const server = await serve('--private', 'vault:ada');
    const hostile = Buffer.from(`evil:${markup}:${markup}:user,${markup}`).toString('base64');
    const v = await join(server, hostile);
    equal(await v.text('#user'), markup, 'the user');
    await post(server, hostile, 'chat/send', {roomId: 'general', message: markup});
    await post(server, hostile, 'chat/send', {roomId: markup, message: 'x'});
    await post(server, hostile, 'notifications/send', {title: markup, message: markup, type: markup});
    await post(server, hostile, 'realtime/update', {entityType: markup, entityId: markup, action: markup, data: {[markup]: markup}});
    await post(server, demo, 'system/maintenance', {message: markup});
    await post(server, hostile, 'notifications/send', {title: 'W'.repeat(300), message: 'M'.repeat(4000), type: 'error'});
    await v.has('#messages .text', markup);
    await v.has('#rooms button', markup);
    await v.has('#list li', markup);
    await v.has('.toast', 'WWWW');
    await v.has('#updates tr', markup);
    await v.has('#notice', markup);
    await post(server, hostile, 'chat/send', {roomId: 'general', message: 'M'.repeat(4000)});
    await v.has('#messages .text', 'MMMM');
    equal(await v.page.locator('img').count(), 0, 'elements made from the text');
    await v.page.setViewportSize({width: 390, height: 844});
    equal(await v.page.evaluate(() => document.scrollingElement.scrollWidth), 390, 'width with long words');
    await v.shot('notifications-hostile');
    v.outage = true;   // the browser complains of the 403 that is wanted now
    await v.page.fill('#join-room', 'vault', {timeout: deadline});
    await v.page.keyboard.press('Enter');
    await v.has('#said', 'private');
    await v.close();
    await server.kill();
  },

  async 'says so when a token is refused, or ends'() {
    const server = await serve('--token-secret', secret);
    const v = await open(server);
    v.outage = true;
    await v.signIn();   // the demo's
    await v.has('#refused', 'JSON Web Token');
    await v.shot('notifications-refused');
    const now = Math.floor(Date.now() / 1000);
    await v.signIn(signed({sub: 'ada', exp: now - 1}));
    await v.has('#refused', 'has ended');
    const good = signed({sub: 'ada', name: 'Ada L', roles: ['user'], exp: now + 4});
    await v.page.fill('#token', good, {timeout: deadline});
    await v.has('#says-who', 'Signed token of Ada L: user, until');
    await v.signIn(good.slice(0, -2) + 'AA');
    await v.has('#refused', 'signature');
    await v.signIn(good);
    await until('signed in', async () => (await v.health()).user === 'ada');
    await until('signed out when the token has ended', async () => !(await v.health()).user);
    await v.has('#refused', 'Sign in again');
    await v.state('live');   // the system's stream
    check(!server.log().includes(good.split('.')[2]), 'the token stands in the log');
    await v.close();
    await server.kill();
  },
});
