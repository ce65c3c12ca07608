// Ten tabs of one Chromium on each page: a browser opens six connections to a host, and has one stream for all of them. Also when
// there is no SharedWorker, and one of the tabs leads; it is killed, and nothing is lost or doubled for the others. And a proxy
// that stops to forward: the page notices, says so, and connects anew.
// needs: npm:playwright-core
import {check, equal, open, proxy, run, until} from './_browser.mjs';
import {metric, noWorker, pages, post, program, state} from './_tabs.mjs';

const tabs = 10, patience = 60_000;

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
  const server = await program('chat');
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
  await post(server, 'chat/send', {user: 'bob', room: 'general', message: 'm1'});
  await until('the message is there', async () => (await pages.chat.has(view.page)).join() === 'm1');
  await view.close();
  await server.kill();
};
for (const name of ['gateway', 'logs', 'notifications', 'chat']) {
  tests[`${name}: a stream that fell silent is noticed, and made anew`] = async () => {
    const server = await program(name, '--heartbeat', '0.5', ...(name === 'logs' ? ['--data', '/tmp'] : []));
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
