// The simulated exchange trades by itself, and the dashboard draws its order book: seen to move, and used from the keyboard.
// needs: npm:playwright-core
import {check, equal, open, programOf, run, start, until} from './_browser.mjs';

const program = programOf('gateway');
const read = view => view.page.evaluate(() => {
  const side = name => [...document.querySelectorAll(`#book .${name} tr`)].filter(r => !r.hidden).map(r => [...r.cells].map(c => Number(c.textContent.replace(/,/g, ''))));
  return {asks: side('asks'), bids: side('bids'), spread: document.querySelector('#spread').textContent, orders: document.querySelectorAll('#orders tr').length, fills: document.querySelectorAll('#fills tr').length};
});

await run({
  async 'orders and fills come by themselves, and the book moves'() {
    const server = await start(program, '--trades');
    const view = await open(server.url);
    await view.state('live');
    const first = await until('a book', async () => { const b = await read(view); return b.asks.length === 10 && b.bids.length === 10 && b; });
    check(first.asks.at(-1)[0] > first.bids[0][0], `the lowest ask ${first.asks.at(-1)[0]} is not above the highest bid ${first.bids[0][0]}`);
    check([...first.asks, ...first.bids].every((l, i, all) => i === 0 || l[0] < all[i - 1][0]), 'prices do not fall from row to row');
    equal(first.bids[9][2], Number(first.bids.reduce((n, l) => n + l[1], 0).toFixed(4)), 'the sum of the bids');
    check(first.spread.startsWith('Spread '), `the spread is ${first.spread}`);
    await until('other prices', async () => (await read(view)).bids[0][0] !== first.bids[0][0]);
    await until('other quantities', async () => { const b = await read(view); return b.asks.every((l, i) => l[1] !== first.asks[i][1]); });
    await until('an order', async () => (await read(view)).orders > 0);
    await until('a fill', async () => (await read(view)).fills > 0);
    equal((await view.health()).missing, 0, 'holes');
    await view.close();
    await server.kill();
  },
  async 'a price goes into the order, by mouse and by keyboard'() {
    const server = await start(program, '--trades');
    const view = await open(server.url);
    await view.state('live');
    await until('a book', async () => (await read(view)).bids.length === 10);
    equal(await view.page.evaluate(() => document.querySelectorAll('#book button[tabindex="0"]').length), 1, 'prices that Tab reaches');
    await view.page.focus('#book button[tabindex="0"]');
    for (const key of ['ArrowUp', 'ArrowUp', 'End', 'Home', 'ArrowDown']) await view.page.keyboard.press(key);
    equal(await view.page.evaluate(() => [...document.querySelectorAll('#book button')].indexOf(document.activeElement)), 1, 'the row with the focus');
    await view.page.fill('#o-price', '1');
    await view.page.focus('#book button[tabindex="0"]');
    await view.page.keyboard.press('Enter');
    const price = Number(await view.page.inputValue('#o-price'));
    check(price > 40000, `the limit is ${price}`);
    equal(await view.page.evaluate(() => document.activeElement.closest('#book') !== null), true, 'the focus stays');
    await view.page.fill('#o-price', '1');
    await view.page.click('#book .bids tr:nth-child(3) button');
    check(Number(await view.page.inputValue('#o-price')) > 40000, 'the click');
    await view.close();
    await server.kill();
  },
  async 'an order that waits is marked in the book'() {
    const server = await start(program, '--trades');
    const view = await open(server.url);
    await view.state('live');
    await until('a book', async () => (await read(view)).bids.length === 10);
    await until('one of them waits', () => view.page.evaluate(() => document.querySelector('#book .mine') !== null));
    await view.close();
    await server.kill();
  },
  async 'without --trades there is no book, and nothing trades'() {
    const server = await start(program);
    const view = await open(server.url);
    await view.state('live');
    await until('prices', async () => (await view.health()).events > 10);
    const now = await view.page.evaluate(() => ({depth: document.querySelector('#depth').hidden, orders: document.querySelectorAll('#orders tr').length}));
    equal(now.depth, true, 'the book is hidden');
    equal(now.orders, 0, 'orders');
    await view.close();
    await server.kill();
  },
});
