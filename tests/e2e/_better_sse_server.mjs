// A stream of better-sse: ids 1 to COUNT, from Last-Event-ID on; 204 after the last. Its first line is its port.
// usage: _better_sse_server.mjs COUNT [PORT]
import http from 'node:http';
import {createRequire} from 'node:module';

const {createSession} = createRequire(import.meta.url)('better-sse');  // honours NODE_PATH
const count = Number(process.argv[2]);

const server = http.createServer(async (request, response) => {
  const session = await createSession(request, response, {retry: 10, keepAlive: 1000});
  for (let id = Number(session.lastId || 0) + 1; id <= count && session.isConnected; ++id) {
    session.push({n: id, text: 'grüße\n'.repeat(id % 4)}, id % 2 ? 'odd' : 'even', String(id));
    if (id % 50 === 0) await new Promise(done => setImmediate(done));
  }
});
server.listen(Number(process.argv[3] || 0), '127.0.0.1', () => console.log(server.address().port));
