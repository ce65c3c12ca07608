// What the pages of all examples share, served as /live.js: small helpers, and live(), an EventSource that begins again also
// after an answer that is final for EventSource, and that tells how the connection is.
'use strict';
const $ = id => document.getElementById(id);
const el = (tag, cls, content) => { const e = document.createElement(tag); if (cls) e.className = cls; if (content !== undefined) e.textContent = content; return e; };
const put = (e, s) => { if (e.textContent !== s) e.textContent = s; };
const pad = (n, w = 2) => String(n).padStart(w, '0');
const long = ms => ms < 120e3 ? `${Math.round(ms / 1000)} s` : ms < 72e5 ? `${Math.round(ms / 6e4)} min` : `${Math.round(ms / 36e5)} h`;

// live({url, types, event, open, state, show}): start() connects.
//   url()               where the stream is now, with what it resumes after
//   types               event types to hear; listen(type) adds one
//   event(type, e)      one came; e.data, e.lastEventId
//   open(), state(s)    connecting, live, reconnecting (it will try again), stopped (it will not)
//   show                false: not in the page's header (body[data-state], #state, #detail, #again)
function live({url, types, event, open = () => { }, state = () => { }, show = true}) {
  const self = {types: [...types], state: 'connecting', start, stop, listen};
  let source = null, opens = 0, attempt = 0, timer = 0, retryAt = 0, downAt = 0, label = '';

  function become(to, text) {
    if (to !== 'live' && self.state === 'live') downAt = Date.now();
    self.state = to;
    label = text;
    if (show) {
      document.body.dataset.state = to;
      put($('state'), text);
      $('again').hidden = to === 'live' || to === 'connecting';
      detail();
    }
    state(to, text);
  }
  function detail() {
    put($('detail'), self.state === 'stopped' || self.state === 'live' ? ''
      : retryAt ? `in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s` : downAt ? `for ${long(Date.now() - downAt)}` : '');
  }
  function hear(type) {
    source.addEventListener(type, e => {
      if (e.target !== source) return;
      if (type === 'error' && e.data === undefined) failed(); else event(type, e);
    });
  }
  function listen(type) {
    if (self.types.includes(type)) return;
    self.types.push(type);
    if (source) hear(type);
  }
  function start() {
    clearTimeout(timer); retryAt = 0;
    if (source) source.close();
    become(opens ? 'reconnecting' : 'connecting', opens ? 'Reconnecting' : 'Connecting');
    source = new EventSource(url());   // its own reconnects send Last-Event-ID, which wins over the query
    source.onopen = () => { attempt = retryAt = 0; opens++; open(); become('live', 'Live'); };
    for (const type of new Set([...self.types, 'error'])) hear(type);
  }
  function stop(text) {
    clearTimeout(timer); retryAt = 0;
    if (source) source.close();
    source = null;
    become('stopped', text);
  }
  function failed() {
    if (source.readyState !== EventSource.CLOSED) return become('reconnecting', 'Reconnecting');
    refused(source);
  }
  // Any status but 200 is final for EventSource, and it does not tell which: ask once, then start over with back-off.
  async function refused(closed) {
    become('reconnecting', 'Reconnecting');
    const abort = new AbortController(), limit = setTimeout(() => abort.abort(), 5000);
    const answer = await fetch(url(), {signal: abort.signal}).catch(() => null);
    const status = answer ? answer.status : 0, after = answer ? Number(answer.headers.get('Retry-After')) : 0;
    clearTimeout(limit); abort.abort();
    if (source !== closed) return;
    if (status === 401 || status === 403) return stop(`Stopped: refused (${status}), the token is missing or not valid`);
    if (status === 204) return stop('Stopped: the server asked not to reconnect');
    const wait = Math.max(after > 0 ? Math.min(after, 30) : 0, Math.min(30, 2 ** attempt++)) * (1 + Math.random() * .3);
    retryAt = Date.now() + wait * 1000;
    timer = setTimeout(start, wait * 1000);
    become('reconnecting', status && status !== 200 ? `Refused (${status}), reconnecting` : 'Reconnecting');
  }

  if (show) {
    $('again').onclick = start;
    setInterval(detail, 1000);
  }
  addEventListener('online', () => { if (source && self.state !== 'live') start(); });
  addEventListener('pageshow', e => { if (e.persisted && source) start(); });
  return self;
}
