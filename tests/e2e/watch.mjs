// The watch list: 500 symbols over one EventSource, whose keys are chosen and changed while it lives, at a pace of its own.
// needs: npm:playwright-core
import {check, equal, open, programOf, proxy, run, start, until} from './_browser.mjs';

const program = programOf('gateway');
const stream = '/api/stream';
const rows = view => view.page.evaluate(() => [...document.querySelectorAll('#rows tr')].map(r => [...r.cells].slice(0, 5).map(c => c.textContent)));
const priced = async view => (await view.health()).priced;   // rows that have a price
const all = async ({url}, n) => until(`${n} symbols known`, async () => { const {items} = await (await fetch(`${url}api/symbols`)).json(); return items.length === n && items; });
// A symbol that is not among the rows.
const another = async (server, view, n) => { const shown = (await rows(view)).map(r => r[0]); return (await all(server, n)).find(s => !shown.includes(s)); };
const sessions = async ({url}) => Number(/^sse_sessions (\d+)$/m.exec(await (await fetch(`${url}metrics`)).text())[1]);

async function watching(flags, how = {}) {
  const server = await start(program, ...flags);
  const view = await open(`${server.url}watch`, {stream, ...how});
  await view.state('live');
  return {server, view};
}

await run({
  async 'rows are added and taken away over one connection, by mouse and by keyboard'() {
    const {server, view} = await watching(['--symbols', '50']);
    await until('twelve rows with prices', async () => await priced(view) === 12);
    const more = await another(server, view, 50);
    await view.page.keyboard.press('/');
    await view.page.keyboard.type(more.toLowerCase());
    await view.page.keyboard.press('Enter');
    await view.page.keyboard.press('Escape');
    await until('a price of what was added', async () => await priced(view) === 13 && (await rows(view)).some(r => r[0] === more && r[1] !== '–'));
    await view.page.keyboard.press('ArrowDown');
    await view.page.keyboard.press('ArrowDown');
    const second = (await rows(view))[1][0];
    equal(await view.page.evaluate(() => document.querySelector('#rows [aria-selected=true]').firstChild.textContent), second, 'the chosen row');
    await view.page.keyboard.press('Delete');
    check(!(await rows(view)).some(r => r[0] === second), `${second} is still there`);
    equal((await view.health()).rows, 12, 'rows');
    await view.page.click('#rows tr:first-child button');
    equal((await view.health()).rows, 11, 'rows');
    equal((await view.health()).opens, 1, 'streams that began');
    equal(await sessions(server), 1, 'streams that the server has');
    await until('a price of the others', async () => { const {values} = await view.health(); return until('more', async () => (await view.health()).values > values); });
    await view.close();
    await server.kill();
  },
  async 'five hundred symbols, all of them at once'() {
    const {server, view} = await watching(['--symbols', '500']);
    await all(server, 500);
    await view.page.click('#all');
    await until('500 rows with prices', async () => await priced(view) === 500);
    equal((await view.health()).opens, 1, 'streams that began');
    await until('bids and asks in sight', async () => (await rows(view)).slice(0, 12).every(r => r[3] !== '–' && r[4] !== '–'));
    await view.shot('watch-500');
    await view.page.click('#none');
    equal((await view.health()).rows, 0, 'rows');
    await view.close();
    await server.kill();
  },
  async 'on a slow line prices stay fresh, and orders and fills come all'() {
    const {server, view} = await watching(['--symbols', '500', '--trades']);
    await all(server, 500);
    await view.page.click('#all');
    await until('500 rows', async () => await priced(view) === 500);
    await view.page.check('#slow');
    await until('the slow stream', async () => (await view.health()).opens === 2);
    const began = (await view.health()).values;
    await until('all again', async () => (await view.health()).values > began + 500);
    // At 20 kB/s a pass over prices and books of 500 symbols takes about 8 s; what is written is the newest at that moment.
    await until('fresh prices', async () => { const {p99} = await view.health(); return p99 !== '' && p99 < 3000; });
    const placed = [];
    for (let i = 0; i < 20; ++i) {
      placed.push(`slow-${i}`);
      await fetch(`${server.url}api/order`, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({side: 'BUY', symbol: 'BTCUSDT', qty: 0.001, price: 1e6, client_order_id: `slow-${i}`})});
    }
    await until('all fills', async () => (await view.health()).fills >= 20);
    const shown = await view.text('#fills');
    for (const id of placed) check(shown.includes(id), `${id} is not shown`);
    await view.close();
    await server.kill();
  },
  async 'a reconnect has what the page shows, and the orders that were missed'() {
    const server = await start(program, '--symbols', '30');
    const line = await proxy(server.port);
    const view = await open(`${line.url}watch`, {stream});
    view.outage = true;
    await view.state('live');
    await until('prices', async () => await priced(view) === 12);
    const more = await another(server, view, 30);
    await view.page.fill('#name', more);
    await view.page.keyboard.press('Enter');
    await until('a price', async () => await priced(view) === 13);
    line.block();
    await view.state('connecting');
    await fetch(`${server.url}api/order`, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({side: 'BUY', symbol: 'BTCUSDT', qty: 0.001, price: 1e6, client_order_id: 'missed'})});
    await until('the fill', async () => JSON.stringify(await (await fetch(`${server.url}api/orders`)).json()).includes('"fill"'));
    line.unblock();
    await view.state('live');
    const {values} = await view.health();
    await until('prices again', async () => (await view.health()).values > values + 13);
    check((await rows(view)).some(r => r[0] === more), 'the row is gone');
    await until('what was missed', async () => (await view.text('#fills')).includes('missed'));
    equal((await view.health()).fills, 1, 'fills');
    line.close();
    await view.close();
    await server.kill();
  },
  async 'the list is remembered, and a token is asked for'() {
    const server = await start(program, '--symbols', '30', '--token', 'secret');
    const view = await open(`${server.url}watch?token=secret`, {stream});
    await view.state('live');
    await until('prices', async () => await priced(view) === 12);
    await view.page.click('#rows tr:first-child button');
    const left = (await rows(view)).map(r => r[0]);
    await view.page.reload();
    await until('the same rows', async () => JSON.stringify((await rows(view)).map(r => r[0])) === JSON.stringify(left) && await priced(view) === 11);
    equal((await fetch(`${server.url}api/stream?symbols=BTCUSDT`)).status, 401, 'without a token');
    equal((await fetch(`${server.url}api/stream`, {method: 'POST', body: new URLSearchParams({token: 'x', add: 'BTCUSDT'})})).status, 401, 'a change without a token');
    await view.close();
    await server.kill();
  },
});
