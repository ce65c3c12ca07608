// The chat's page in a real, headless Chromium: messages, presence and typing between pages, other events on the same
// connection, cut connections, a killed server, hostile texts, a phone's width.
// needs: node chromium npm:playwright-core
// usage: chat_page.mjs [CHAT [PART OF A NAME]]   else CHAT_PROGRAM, else $PROGRAMS/chat.
// SSEHUB_SHOTS=DIR: screenshots go there.
// Exit code: 0 ok, 1 failed, 77 skipped.
import path from 'node:path';
import {check, deadline, equal, markup, open as openPage, programOf, proxy, run, start, until} from './_browser.mjs';

const program = programOf('chat');
const chat = (...flags) => start(program, ...flags);

async function open(url, name, options = {}) {
  const view = await openPage(url, options), {page} = view;
  view.name = async to => { await page.fill('#name', to, {timeout: deadline}); await page.press('#name', 'Enter'); };
  view.say = async what => { await page.fill('#text', what, {timeout: deadline}); await page.press('#text', 'Enter'); };
  view.said = () => page.locator('#messages .text').allTextContents();
  view.hears = what => until(`the message ${what}`, async () => (await view.said()).includes(what));
  view.people = () => page.locator('#people .name').allTextContents();
  view.meets = (...who) => until(`${who} in the room`, async () => (await view.people()).join() === who.join());
  view.enter = room => page.click(`#rooms button[data-room="${room}"]`, {timeout: deadline});
  view.others = () => page.locator('#others li').allTextContents();
  if (name) { await view.name(name); await view.state('live'); await until('the new name', async () => (await view.people()).includes(name)); }
  return view;
}
const post = async (url, target, body) => {
  const r = await fetch(url + target, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
  equal(r.status, 200, target);
};

const tests = {
  async 'is a chat: messages, presence, typing, rooms'() {
    const server = await chat();
    const ann = await open(server.url, 'ann');
    check(/default-src 'none'/.test(ann.response.headers()['content-security-policy'] || ''), "GET / has no Content-Security-Policy with default-src 'none'");
    await ann.page.evaluate(() => { window.sameDocument = true; });
    equal(await ann.text('#state'), 'Live', 'state shown');
    const bob = await open(server.url, 'bob');
    await ann.meets('ann', 'bob'); await bob.meets('ann', 'bob');
    await ann.say('Good morning. The new build is on staging.');
    await bob.hears('Good morning. The new build is on staging.');
    await bob.page.locator('#text').pressSequentially('Looks', {delay: 20});
    await until('that bob is typing', async () => await ann.text('#typing') === 'bob is typing');
    equal(await bob.text('#typing'), '', 'bob sees himself typing');
    await bob.say('Looks good.\nI will try the import next.');
    await ann.hears('Looks good.\nI will try the import next.');
    equal(await ann.text('#typing'), '', 'typing is over with the message');

    await bob.enter('random');
    await bob.meets('bob'); await ann.meets('ann');
    equal((await bob.said()).length, 0, 'messages of another room');
    await bob.say('Lunch at twelve?');
    await bob.hears('Lunch at twelve?');
    await until('a hint at the other room', async () => await ann.page.locator('#rooms button[data-room=random] .unread').textContent().catch(() => '') === '1');
    equal((await ann.said()).length, 2, 'messages from another room');
    await ann.enter('random');
    await ann.hears('Lunch at twelve?');   // from the history, with this room's filter
    equal((await ann.said()).length, 1, 'messages in the room');
    await ann.meets('ann', 'bob');
    await ann.enter('general');
    await until('the history again', async () => (await ann.said()).length === 2);

    for (const b of ['trigger', 'alert', 'metrics', 'action']) await ann.page.click(`.try button[data-t=${b}]`);
    await until('the other events', async () => (await ann.others()).length === 5);
    check((await ann.others()).join().includes('ann tries an alert'), `other events: ${await ann.others()}`);
    await ann.enter('help'); await ann.enter('general'); await ann.state('live');
    await post(server.url, 'send', {data: {plain: 1}, path: '/chat', filter: {user: 'ann'}});
    await until('a filtered event', async () => (await ann.others()).some(t => t.includes('{"plain":1}')));
    equal((await ann.others()).length, 6, 'other events after the room was entered again');
    equal(await ann.text('#reconnects'), '0', 'reconnects');
    check(!(await bob.others()).some(t => t.includes('plain')), 'the filter let it through to bob');
    check(await ann.page.evaluate(() => window.sameDocument), 'the page was reloaded');
    for (const [who, what] of [['bob', 'The import took 40 s, half of what it was. Numbers are in the usual place, and I left the old run beside it so that we can compare.'],
      ['cem', 'Nice. Does it still lock the table?'], ['bob', 'No.'], ['bob', 'That was the point :)']]) await post(server.url, 'chat/send', {user: who, room: 'general', message: what});
    await ann.hears('That was the point :)');
    await ann.fits();
    await ann.shot('chat');
    const light = await open(server.url, 'dora', {colorScheme: 'light'});
    await light.hears('That was the point :)');
    await light.shot('chat-light');
    await light.close();
    await ann.meets('ann');
    await bob.close(); await ann.close();

    const phone = await open(server.url, 'emil', {width: 390, height: 844, scale: 2});
    await phone.hears('That was the point :)');
    await phone.fits();
    await phone.shot('chat-phone');
    await phone.page.evaluate(() => scrollTo(0, 1e6));
    await phone.shot('chat-phone-end');
    await phone.close();
    await server.kill();
  },

  async 'comes back after the server was killed'() {
    let server = await chat();
    const v = await open(server.url, 'ann');
    await v.say('before');
    await v.hears('before');
    v.outage = true;
    await server.kill('SIGKILL');
    await v.state('reconnecting');
    await v.shot('chat-reconnecting');
    await v.say('lost');
    await until('that it may be lost', async () => /no answer/.test(await v.text('#trouble')));
    equal(await v.page.inputValue('#text'), 'lost', 'the text stays');
    server = await chat('--port', String(server.port));
    await v.state('live');
    v.outage = false;
    await v.meets('ann');
    await until('the gap is told', async () => (await v.health()).gaps === 1);
    check(/restarted/.test(await v.text('#messages .gap')), `the gap reads ${await v.text('#messages .gap')}`);
    await v.page.press('#text', 'Enter');
    await v.hears('lost');
    equal((await v.said()).join(), 'before,lost', 'messages');
    await v.close();
    await server.kill();
  },

  async 'loses and doubles nothing when the connection is cut'() {
    const server = await chat(), wire = await proxy(server.port);
    const v = await open(wire.url, 'ann');
    v.outage = true;
    const all = [];
    for (let n = 0; n < 40; n++) {
      await post(server.url, 'chat/send', {user: 'bob', room: 'general', message: `m${n}`});
      all.push(`m${n}`);
      if (n % 10 === 5) wire.cut();
      if (n % 10 === 9) await v.hears(`m${n}`);
    }
    wire.block();
    await v.state('reconnecting');
    await post(server.url, 'chat/send', {user: 'bob', room: 'general', message: 'meanwhile'});
    await post(server.url, 'chat/send', {user: 'bob', room: 'random', message: 'elsewhere'});
    wire.unblock();
    await v.hears('meanwhile');
    equal((await v.said()).join(), [...all, 'meanwhile'].join(), 'messages');
    equal((await v.health()).gaps, 0, 'gaps');
    await v.close();
    wire.close();
    await server.kill();
  },

  async 'escapes what it shows'() {
    const server = await chat();
    const v = await open(server.url, markup);
    await v.say(markup);
    await v.hears(markup);
    await v.page.fill('#newname', markup); await v.page.press('#newname', 'Enter');
    await until('the room', async () => (await v.health()).room === markup);
    await v.say(`${markup} ${'long'.repeat(200)}`);
    await until('the message', async () => (await v.said()).length === 1);
    await post(server.url, 'send-alert', {type: markup, message: markup, priority: markup});
    await post(server.url, 'chat/typing', {user: markup + 2, room: markup});
    for (const odd of [{}, {type: 7}, {type: markup}, {type: 'presence', rooms: 5}, {type: 'presence', rooms: [null, 7, {room: 1}]}, {type: 'presence', changes: [null, 7, {room: 1}]}, {type: 'presence', changes: 5}, {type: 'typing'}, {type: 'chat_message'},
      {type: 'activity', room: {}}, {type: 'constructor'}, {type: 'metrics'}, {type: 'alert', timestamp: 'never'}]) await post(server.url, 'send', {data: odd});
    await until('the list', async () => (await v.others()).length >= 8);
    check((await v.others()).some(t => t.includes(markup)), 'the alert is not shown');
    equal(await v.page.locator('img').count(), 0, 'elements made from the text');
    await v.page.setViewportSize({width: 390, height: 844});
    equal(await v.page.evaluate(() => document.scrollingElement.scrollWidth), 390, 'width with long words');
    await v.shot('chat-hostile');
    await v.close();
    await server.kill();
  },

  async 'works from the keyboard, and follows only who reads the end'() {
    const server = await chat();
    const v = await open(server.url, 'ann');
    for (let n = 0; n < 60; n++) await post(server.url, 'chat/send', {user: 'bob', room: 'general', message: `m${n}`});
    await v.hears('m59');
    const place = () => v.page.evaluate(() => { const m = document.getElementById('messages'); return m.scrollHeight - m.scrollTop - m.clientHeight; });
    await until('the end', async () => await place() < 5);
    await v.page.evaluate(() => { document.getElementById('messages').scrollTop = 0; });
    await post(server.url, 'chat/send', {user: 'bob', room: 'general', message: 'below'});
    await v.hears('below');
    check(await place() > 100, 'the list jumped');
    await v.page.locator('#newer').click({timeout: deadline});
    check(await place() < 5, 'the button does not lead to the end');
    await v.page.focus('#name');
    const seen = new Set();
    for (let i = 0; i < 20; i++) { await v.page.keyboard.press('Tab'); seen.add(await v.page.evaluate(() => document.activeElement.id || document.activeElement.dataset.room || document.activeElement.textContent)); }
    for (const stop of ['general', 'random', 'newname', 'people', 'messages', 'text', 'Send', 'Alert']) check(seen.has(stop), `Tab does not reach ${stop}: ${[...seen]}`);
    await v.page.focus('#rooms button[data-room=random]');
    await v.page.keyboard.press('Enter');
    await until('the room', async () => (await v.health()).room === 'random');
    const focused = () => v.page.evaluate(() => document.activeElement.id);
    equal(await focused(), 'text', 'focus after a room was chosen');
    await v.page.fill('#newname', 'third');
    await v.page.keyboard.press('Enter');
    await until('the new room', async () => (await v.health()).room === 'third');
    equal(await focused(), 'text', 'focus after a room was made');
    await v.page.fill('#name', 'eve');
    await v.page.keyboard.press('Enter');
    equal(await focused(), 'text', 'focus after a name was given');
    await v.page.keyboard.type('typed at once');
    await v.page.keyboard.press('Enter');
    await v.hears('typed at once');
    equal(await focused(), 'text', 'focus after a message was sent');
    await v.close();
    await server.kill();
  },
};

await run(tests);
