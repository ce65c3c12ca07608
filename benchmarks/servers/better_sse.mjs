// Node's better-sse: one channel, broadcast. The command line and the frames of servers/common.hpp.
import fs from 'node:fs';
import http from 'node:http';
import {createRequire} from 'node:module';

const {createSession, createChannel} = createRequire(import.meta.url)('better-sse');  // honours NODE_PATH
const option = (name, otherwise) => {
  const at = process.argv.indexOf('--' + name);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const [port, connections, rate] = [option('port', 0), option('connections', 1), option('rate', 100)];
const [size, seconds] = [option('size', 180), option('seconds', 1)];

const channel = createChannel();
const responses = new Set();
const pad = 'x'.repeat(Math.max(0, size - 45 - 60));
let start = 0n;
let n = 0;
let ended = false;

const publish = (name, at) => {
  ++n;
  channel.broadcast(`{"n":${n},"t":${at},"pad":"${pad}"}`, name, {eventId: String(1795257600000000 + n)});
};
const turn = () => {
  const now = process.hrtime.bigint();
  const end = start + BigInt(Math.round(seconds * 1e9));
  if (rate > 0) {
    for (;;) {
      const at = start + BigInt(Math.round((n + 1) * 1e9 / rate));
      if (at > now || at > end) break;
      publish('tick', at);
    }
  } else if ([...responses].every(r => r.writableLength === 0)) {
    publish('tick', now);
  }
  if (now > end) {
    ended = true;
    publish('end', now);
    return;
  }
  if (rate > 0 && rate < 500) setTimeout(turn, 1); else setImmediate(turn);
};
const report = () => {
  const used = process.resourceUsage();
  const peak = /VmHWM:\s*(\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1];
  console.log(JSON.stringify({published: n - 1, writes: 0, user_s: used.userCPUTime / 1e6, system_s: used.systemCPUTime / 1e6,
                              peak_kb: Number(peak)}));
  process.exit(0);
};

const server = http.createServer(async (request, response) => {
  request.socket.setNoDelay(true);
  responses.add(response);
  response.on('close', () => {
    responses.delete(response);
    if (ended && responses.size === 0) report();
  });
  const session = await createSession(request, response, {serializer: s => s, keepAlive: null, retry: null});
  channel.register(session);
  if (start === 0n && channel.sessionCount >= connections) {
    start = process.hrtime.bigint();
    setImmediate(turn);
  }
});
server.listen({port, host: '127.0.0.1', backlog: 4096}, () => console.log(server.address().port));
