// The gateway's page in a real, headless Chromium: live without reload, orders, cut connections, a killed server, hostile
// texts, a phone's width.
// needs: node chromium npm:playwright-core
// usage: dashboard.mjs [GATEWAY [PART OF A NAME]]   else GATEWAY_PROGRAM, else $PROGRAMS/gateway.
// SSEHUB_SHOTS=DIR: screenshots go there.
// Exit code: 0 ok, 1 failed, 77 skipped. Every wait is for a condition, with a deadline.
import fs from 'node:fs';
import path from 'node:path';
import {check, deadline, equal, markup, open as openPage, programOf, proxy, run, scratch, start, until} from './_browser.mjs';

const program = programOf('gateway');

// --- helpers --------------------------------------------------------------------------------------------------------

const gateway = (...flags) => start(program, ...flags);

// The ids that the stream has kept, read without a browser: from the one after `after` up to the head.
async function kept(url, after) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), deadline);
  const answer = await fetch(`${url}api/stream?last_id=${after}`, {signal: stop.signal});
  let all = '';
  for await (const chunk of answer.body) {
    all += Buffer.from(chunk).toString();
    if (/^id: \d+\nevent: (?!gap)/m.test(all) && all.endsWith('\n\n')) break;
  }
  clearTimeout(timer);
  stop.abort();
  return [...all.matchAll(/^id: (\d+)\nevent: (?!gap)/gm)].map(m => Number(m[1]));
}

async function open(url, options = {}) {
  const view = await openPage(url, {stream: '/api/stream', ...options}), {page} = view;
  view.row = (table, needle) => page.locator(`${table} tr`).filter({hasText: needle}).first();
  view.order = async fields => {
    for (const [name, value] of Object.entries(fields)) {
      if (name === 'side') await page.check(`input[name=side][value=${value}]`, {timeout: deadline});
      else await page.fill(`input[name=${name}]`, String(value), {timeout: deadline});
    }
    await page.click('#send', {timeout: deadline});
  };
  view.gaps = () => page.evaluate(() => [...document.querySelectorAll('#gaps li')].map(li => ({...li.dataset, kind: li.className, text: li.textContent})));
  view.feed = () => page.evaluate(() => [...document.querySelectorAll('#feed li')].map(li => ({id: Number(li.querySelector('.i').textContent), type: li.querySelector('.k').textContent, data: li.querySelector('.d').textContent})));
  return view;
}

// Nothing lost, nothing doubled: every id from the first to the last came once, but for those that gaps announced.
async function unbroken(view, skipped = 0) {
  const h = await until('holes are settled', async () => { const h = await view.health(); return h.missing === 0 && h.events === h.last - h.first + 1 - skipped ? h : null; }, 5000)
    .catch(async e => { throw new Error(`${e.message}: ${JSON.stringify(await view.health())}, ${skipped} announced as lost`); });
  equal(h.duplicates, 0, 'events that came twice');
  equal(await view.text('#missing'), '0', 'holes shown');
  equal(await view.text('#duplicates'), '0', 'duplicates shown');
  return h;
}

function engine(name, body) {
  const file = path.join(scratch, `${name}.mjs`);
  fs.writeFileSync(file, `const emit = o => process.stdout.write(JSON.stringify(o) + '\\n');\nprocess.stdin.on('end', () => process.exit()).resume();\n${body}`);
  return `${process.execPath} ${file}`;
}
// Counts upwards in the price, 50 times a second: a lost or doubled event shows in the numbers themselves.
const counter = engine('counter', `let n = 0;
setInterval(() => emit({type: 'market', symbol: 'COUNT', ts_ns: Date.now() * 1e6, price: ++n}), 20);`);

// --- what is checked ------------------------------------------------------------------------------------------------

const tests = {
  async 'lives without reload, trades, fits a phone'() {
    const server = await gateway();
    const v = await open(server.url);
    await v.page.evaluate(() => { window.sameDocument = true; });
    check(/default-src 'none'/.test(v.response.headers()['content-security-policy'] || ''), "GET / has no Content-Security-Policy with default-src 'none'");
    await v.state('live');
    equal(await v.text('#state'), 'Live', 'state shown');
    await until('a price', async () => /^[\d,]+\.\d+$/.test(await v.text('#price')));
    const price = await v.text('#price'), {events} = await v.health();
    await until('another price', async () => await v.text('#price') !== price);
    await until('more events', async () => (await v.health()).events >= events + 5);
    equal(Number(await v.text('#last-id')) > 0, true, 'last id shown');
    await until('a latency', async () => /^[\d.]+ ms$/.test(await v.text('#latency')));
    check(await v.page.evaluate(() => { const c = document.getElementById('chart'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some((x, i) => i % 4 === 3 && x > 0); }), 'the chart is empty');

    const last = Number((await v.text('#price')).replace(/,/g, ''));
    await v.order({side: 'BUY', qty: 0.25, price: Math.ceil(last * 1.01), client_order_id: 'e2e-buy'});
    await until('the order is sent', async () => await v.text('#answer') === 'Order sent: e2e-buy');
    await until('the order is filled', async () => /FILLED/.test(await v.row('#orders', 'e2e-buy').textContent().catch(() => '')));
    await until('its fill', async () => /e2e-buy.*0\.25/.test(await v.row('#fills', 'e2e-buy').textContent().catch(() => '')));
    await until('the bought BTC', async () => /^BTC0\.25/.test(await v.row('#balances', 'BTC').textContent().catch(() => '')));
    check(Number((await v.page.locator('#balances tr', {hasText: 'USDT'}).locator('td').nth(1).textContent()).replace(/,/g, '')) < 100000, 'the USDT are still all there');

    await v.order({side: 'SELL', qty: 0.1, price: Math.floor(last * 0.99), client_order_id: 'e2e-sell'});
    await until('the sale is filled', async () => /FILLED/.test(await v.row('#orders', 'e2e-sell').textContent().catch(() => '')));
    await v.order({side: 'BUY', qty: 0.1, price: Math.floor(last / 2), client_order_id: 'e2e-wait'});
    await until('a live order', async () => /ACCEPTED/.test(await v.row('#orders', 'e2e-wait').textContent().catch(() => '')));
    await v.row('#orders', 'e2e-wait').getByRole('button', {name: 'Cancel'}).click({timeout: deadline});
    await until('it is cancelled', async () => /CANCELLED/.test(await v.row('#orders', 'e2e-wait').textContent()));
    equal(await v.row('#orders', 'e2e-wait').getByRole('button').count(), 0, 'cancel buttons of a cancelled order');
    await v.order({side: 'BUY', qty: 1000, price: Math.ceil(last), client_order_id: 'e2e-rich'});
    await until('too little money is refused', async () => /REJECTED.*insufficient_funds/.test(await v.row('#orders', 'e2e-rich').textContent().catch(() => '')));
    await v.order({side: 'BUY', qty: 0, price: Math.ceil(last)});
    await until('a quantity of 0 is refused', async () => /quantity/i.test(await v.text('#answer')));
    await v.order({side: 'BUY', qty: 0.2, price: Math.floor(last * 0.9), client_order_id: 'e2e-open'});
    await until('a live order again', async () => /ACCEPTED/.test(await v.row('#orders', 'e2e-open').textContent().catch(() => '')));
    await unbroken(v);
    check(await v.page.evaluate(() => window.sameDocument), 'the page was reloaded');
    await v.fits();
    await v.shot('desktop');

    // A new reader sees what happened before: from the history and the snapshots.
    const before = await v.health();
    await v.page.reload({timeout: deadline});
    await v.state('live');
    await until('history after a reload', async () => (await v.health()).last > before.last);
    check((await v.health()).first <= before.last, 'a reload shows no history');
    check(/FILLED/.test(await v.row('#orders', 'e2e-buy').textContent({timeout: deadline})), 'a reload forgets the orders');
    equal(await v.page.locator('#fills tr').count(), 2, 'fills after a reload');
    equal((await unbroken(v)).gaps, 0, 'gaps');
    await v.close();

    const phone = await open(server.url, {width: 390, height: 844, scale: 2});
    await phone.state('live');
    await phone.row('#orders', 'e2e-open').waitFor({timeout: deadline});
    await phone.flows();
    await phone.fits();
    await phone.shot('phone');
    await phone.close();
    const light = await open(server.url, {colorScheme: 'light'});
    await light.state('live');
    await light.flows();
    await light.shot('desktop-light');
    await light.close();
    await server.kill();
  },

  async 'comes back after the server was killed'() {
    let server = await gateway();
    const v = await open(server.url);
    await v.state('live');
    await v.flows(10);
    await v.order({side: 'BUY', qty: 0.1, price: 1000, client_order_id: 'e2e-old'});
    await v.row('#orders', 'e2e-old').waitFor({timeout: deadline});
    v.outage = true;
    await server.kill('SIGKILL');
    await v.state('reconnecting');
    const before = await unbroken(v);
    server = await gateway('--port', String(server.port));
    await v.state('live');
    await until('the gap is shown', async () => (await v.health()).gaps === 1);
    v.outage = false;
    await v.flows(10);
    const [gap] = await v.gaps(), h = await unbroken(v, Number(gap.first) - 1 - before.last);
    equal(Number(gap.requested), before.last, 'asked for what follows');
    equal(gap.lost, 'null', 'how many were lost in another run');
    equal(Number(gap.first), (await kept(server.url, 0))[0], 'continues at');
    check(/restarted/.test(gap.text) && /restarted/.test(await v.text('#notice')), `the gap reads ${gap.text}`);
    check(h.opens === 2 && h.gaps === 1, `reconnects and gaps: ${JSON.stringify(h)}`);
    await until('the old run is over', async () => await v.page.locator('#orders tr').count() === 0);
    await v.order({side: 'BUY', qty: 0.1, price: 1000, client_order_id: 'e2e-new'});
    await v.row('#orders', 'e2e-new').waitFor({timeout: deadline});
    await v.shot('restarted');
    await v.close();
    await server.kill();
  },

  async 'loses and doubles nothing when the connection is cut'() {
    const server = await gateway('--engine', counter), wire = await proxy(server.port);
    const v = await open(wire.url);
    await v.state('live');
    v.outage = true;
    for (let cuts = 1; cuts <= 4; cuts++) {
      await v.flows(7 * cuts);
      wire.cut();
      await until(`reconnect ${cuts}`, async () => (await v.health()).opens > cuts);
    }
    v.outage = false;
    await v.flows(10);
    const h = await unbroken(v);
    equal(h.gaps, 0, 'gaps');
    const rows = await v.feed();
    check(rows.length > 50, `only ${rows.length} events are listed`);
    rows.forEach((row, i) => {
      if (i > 0) equal(row.id, rows[i - 1].id - 1, 'the next id in the list');
      if (i > 0) equal(JSON.parse(row.data).price, JSON.parse(rows[i - 1].data).price - 1, 'the next number in the list');
    });
    await v.close();
    wire.close();
    await server.kill();
  },

  async 'shows the gap when the cut outlives the history'() {
    const server = await gateway('--keep', '5', '--engine', counter), wire = await proxy(server.port);
    const v = await open(wire.url);
    await v.state('live');
    await v.flows(10);
    v.outage = true;
    wire.block();
    await v.state('reconnecting');
    const before = await unbroken(v);
    await until('30 events without a reader', async () => (await kept(server.url, 0))[0] > before.last + 30);
    wire.unblock();
    await v.state('live');
    await until('the gap is shown', async () => (await v.health()).gaps === 1);
    v.outage = false;
    await v.flows(10);
    const [gap] = await v.gaps(), lost = Number(gap.lost);
    equal(Number(gap.requested), before.last, 'asked for what follows');
    equal(lost, Number(gap.first) - 1 - before.last, 'lost');
    check(lost >= 30 && gap.text.includes(`${lost} events lost`), `the gap reads ${gap.text}`);
    equal(await v.text('#lost'), String(lost), 'lost, shown');
    equal(await v.text('#gap-count'), '1', 'gaps, shown');
    await unbroken(v, lost);
    check((await v.feed()).some(row => row.type === 'gap'), 'the list of events does not show the gap');
    await v.fits();
    await v.shot('gap');
    await v.close();
    wire.close();
    await server.kill();
  },

  async 'knows after a gap what was traded meanwhile'() {
    const server = await gateway('--keep', '5'), wire = await proxy(server.port);
    const v = await open(wire.url);
    await v.state('live');
    await v.flows();
    const order = (price, client_order_id) => v.page.request.post(`${server.url}api/order`, {data: {side: 'BUY', symbol: 'BTCUSDT', qty: 0.5, price, client_order_id}});
    await order(1000, 'e2e-cancelled');
    await v.row('#orders', 'e2e-cancelled').waitFor({timeout: deadline});
    v.outage = true;
    wire.block();
    await v.state('reconnecting');
    await order(90000, 'e2e-meanwhile');
    await v.page.request.post(`${server.url}api/cancel`, {data: {client_order_id: 'e2e-cancelled'}});
    await until('a fill without a reader', async () => (await (await fetch(`${server.url}api/order_state?client_order_id=e2e-meanwhile`)).json()).status === 'FILLED');
    const {last} = await v.health();
    await until('it is no longer kept', async () => (await kept(server.url, 0))[0] > last + 12);
    wire.unblock();
    await until('the gap is shown', async () => (await v.health()).gaps === 1);
    v.outage = false;
    await until('the order', async () => /FILLED/.test(await v.row('#orders', 'e2e-meanwhile').textContent().catch(() => '')));
    await until('the cancelled one', async () => /CANCELLED/.test(await v.row('#orders', 'e2e-cancelled').textContent().catch(() => '')));
    await until('the fill', async () => /0\.5/.test(await v.row('#fills', 'e2e-meanwhile').textContent().catch(() => '')));
    await until('the balance', async () => /^BTC0\.50/.test(await v.row('#balances', 'BTC').textContent().catch(() => '')));
    await v.close();
    wire.close();
    await server.kill();
  },

  async 'starts over when it is refused for a while'() {
    const server = await gateway('--total', '1', '--engine', counter), wire = await proxy(server.port);
    const v = await open(wire.url), taken = new AbortController();
    await v.state('live');
    await v.flows(10);
    v.outage = true;
    wire.block();
    await v.state('reconnecting');
    await until('the only place to be taken', async () => {
      const answer = await fetch(`${server.url}api/stream`, {signal: taken.signal});
      return answer.status === 200 || answer.body.cancel().then(() => false);
    });
    wire.unblock();
    await until('the refusal is shown', async () => /^Refused \(429\)/.test(await v.text('#state')));
    await until('the wait is shown', async () => /^in \d+ s$/.test(await v.text('#detail')));
    taken.abort();
    await v.state('live');
    v.outage = false;
    await v.flows(10);
    equal((await unbroken(v)).gaps, 0, 'gaps');
    await v.close();
    wire.close();
    await server.kill();
  },

  async 'counts the lines of the engine that cannot be read'() {
    const server = await gateway('--engine', engine('unreadable', `emit({type: 'market', symbol: 'PLAIN', ts_ns: 1e18, price: 5});
process.stdout.write('{"type":"market","price":NaN}\\n');
process.stdout.write(Buffer.from('{"type":"note","text":"caf\\xe9"}\\n', 'latin1'));
process.stdout.write('no event, but what an engine says for people\\n');
process.stdin.on('data', () => process.stdout.write('{"type":\\n'));`));
    const v = await open(server.url);
    await v.state('live');
    await until('two are shown', async () => await v.text('#unreadable') === '2');
    equal(await v.page.locator('#c-unreadable').getAttribute('class'), 'bad', 'how it is shown');
    await fetch(`${server.url}api/cancel`, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"client_order_id":"nobody"}'});
    await until('the next is shown without a reload', async () => await v.text('#unreadable') === '3');
    check(/a line of the engine could not be read: .* so far/.test(server.log()), 'its log does not say so');
    await v.close();
    await server.kill();
  },

  async 'escapes what it shows, knows types that it never heard of'() {
    const server = await gateway('--engine', engine('hostile', `const x = ${JSON.stringify(markup)};
setInterval(() => {
  const ts_ns = Date.now() * 1e6;
  emit({type: 'market', symbol: x, ts_ns, price: 1});
  emit({type: x, note: x});
  emit({type: 'order_update', ts_ns, client_order_id: x, status: 'REJECTED', symbol: x, side: x, qty: x, price: x, reason: x});
  emit({type: 'order_state', client_order_id: x + 2, status: x, symbol: x, executed_qty: 0, avg_price: 0, last_ts_ns: ts_ns});
  emit({type: 'heat', degrees: 21});
  emit({type: 'market', symbol: 'PLAIN', ts_ns, price: 5});
  emit({type: 'fill', ts_ns, client_order_id: x, symbol: x, qty: 1, price: 2});
  emit({type: 'account', ts_ns, balances: [{asset: x, free: 1, locked: x}, null, 7]});
  emit({type: 'error', ts_ns, message: x});
  for (const odd of [{type: 'market'}, {type: 'market', symbol: 7, price: 'high'}, {type: 'fill', qty: null}, {type: 'account', balances: 5}, {type: 'gap', first: 1}]) emit(odd);
}, 200);`));
    const v = await open(server.url);
    await v.state('live');
    await v.flows(60);
    for (const place of ['#orders', '#fills', '#balances', '#feed']) await until(`the text in ${place}`, async () => (await v.page.locator(place).textContent()).includes(markup));
    check((await v.page.locator('#symbol option').allTextContents()).includes(markup), 'the symbol cannot be selected');
    for (const type of [markup, 'heat']) await until(`type ${type} in the list`, async () => (await v.feed()).some(row => row.type === type));
    await v.page.selectOption('#symbol', 'PLAIN', {timeout: deadline});
    await until('the price of the other symbol', async () => await v.text('#price') === '5.00');
    equal(await v.page.locator('img').count(), 0, 'elements made from the text');
    equal((await v.health()).missing, 0, 'events of unknown types taken for lost');

    await v.order({symbol: 'BTCUSDT', side: 'BUY', qty: 1, price: 1, client_order_id: markup});
    await until('the form refuses it', async () => /client id/i.test(await v.text('#answer')));
    const answer = await v.page.request.post(`${server.url}api/order`, {data: {side: 'BUY', symbol: 'BTCUSDT', qty: 1, price: 1, client_order_id: markup}});
    equal(`${answer.status()} ${(await answer.text()).trim()}`, '400 {"error":"bad_params"}', 'the server refuses it');
    await v.page.setViewportSize({width: 390, height: 844});
    equal(await v.page.evaluate(() => document.scrollingElement.scrollWidth), 390, 'width with long words');
    await v.shot('hostile');
    await v.close();
    await server.kill();
  },

  async 'says so when it is refused, and carries the token'() {
    const server = await gateway('--token', 'open-sesame-7');
    const v = await open(`${server.url}?token=open-sesame-7`);
    await v.state('live');
    await v.flows();
    await v.order({side: 'BUY', qty: 0.01, price: 1000, client_order_id: 'e2e-token'});
    await v.row('#orders', 'e2e-token').waitFor({timeout: deadline});
    check(!(await v.page.content()).includes('open-sesame-7'), 'the token stands in the page');
    check(!server.log().includes('open-sesame-7'), 'the token stands in the log');
    await unbroken(v);
    await v.close();
    const stranger = await open(server.url);
    await stranger.state('stopped');
    check(/refused \(401\)/.test(await stranger.text('#state')), `it says ${await stranger.text('#state')}`);
    check(await stranger.page.locator('#again').isVisible(), 'no way to try again');
    await stranger.page.context().close();   // the browser itself complains of each 401
    await server.kill();
  },
};

await run(tests);
