// What the tests of several tabs share: the pages, and what they have. Not a test.
import fs from 'node:fs';
import path from 'node:path';
import {check, programOf, scratch, start} from './_browser.mjs';

export const state = page => page.evaluate(() => document.body.dataset.state);
export const metric = async (server, name) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(await (await fetch(`${server.url}metrics`)).text())?.[1]);
export async function post(server, path, body, headers = {}) {
  const r = await fetch(server.url + path, {method: 'POST', headers: {'Content-Type': 'application/json', ...headers}, body: JSON.stringify(body)});
  check(r.ok, `POST ${path} is ${r.status}`);
}
export const noWorker = context => context.addInitScript(() => { delete window.SharedWorker; });

// Each page: how its server starts, how something is said that it shows, and what it has of that.
export const program = (name, ...flags) => start(programOf(name).replace(/[^/]*$/, name), ...flags);
export const texts = selector => page => page.evaluate(s => [...document.querySelectorAll(s)].map(e => e.textContent).filter(t => /^m\d/.test(t)), selector);
const token = (id, name) => Buffer.from(`${id}:${name}:${id}@example.com:user`).toString('base64');
export const pages = {
  gateway: {start: () => program('gateway'), page: ''},
  logs: {
    start: () => program('logs', '--data', scratch), page: '',
    say: (server, message) => post(server, 'api/logs', {level: 'info', component: 'registry', message, agent: 'a'}),
    has: texts('#entries .m'),
  },
  'a log file': {
    start() {
      const data = fs.mkdtempSync(path.join(scratch, 'file-'));
      fs.writeFileSync(this.file = path.join(data, 'app.log'), '');
      return program('logs', '--data', data);
    },
    page: 'deployments/app',
    say(server, message) { fs.appendFileSync(this.file, `${message}\n`); },
    has: texts('#lines li span'),
  },
  notifications: {start: () => program('notifications'), page: ''},
  'notifications, signed in': {
    start: () => program('notifications'), page: '',
    before: context => context.addInitScript(t => sessionStorage.setItem('token', t), token('ada', 'Ada')),
    say: (server, message) => post(server, 'chat/send', {roomId: 'general', message}, {Authorization: `Bearer ${token('bob', 'Bob')}`}),
    has: texts('#messages .text'),
  },
  chat: {
    start: () => program('chat'), page: '',
    say: (server, message) => post(server, 'chat/send', {user: 'bob', room: 'general', message}),
    has: texts('#messages .text'),
  },
};
