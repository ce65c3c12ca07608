// What the pages of all examples share, served as /live.js: small helpers; live(), an EventSource that begins again also after an
// answer that is final for EventSource, that notices silence, and that tells how the connection is; and what lets all tabs of a
// browser have one stream between them, since it opens six connections to a host and no more. As a SharedWorker it is that alone.
// Where the tabs have more different streams than that, those that nobody looks at are parked.
'use strict';
const $ = id => document.getElementById(id);
const el = (tag, cls, content) => { const e = document.createElement(tag); if (cls) e.className = cls; if (content !== undefined) e.textContent = content; return e; };
const put = (e, s) => { if (e.textContent !== s) e.textContent = s; };
const pad = (n, w = 2) => String(n).padStart(w, '0');
const long = ms => ms < 120e3 ? `${Math.round(ms / 1000)} s` : ms < 72e5 ? `${Math.round(ms / 6e4)} min` : `${Math.round(ms / 36e5)} h`;

// --- what a visitor may choose, and the browser remembers -------------------------------------------------------------------

const chosen = (key, value) => { try { if (value === undefined) return localStorage.getItem(key); localStorage.setItem(key, value); } catch { } return null; };
function addSwitch(sign, name) {
  const b = el('button', 'switch', sign);
  b.type = 'button'; b.title = name; b.setAttribute('aria-label', name);
  document.querySelector('header .link')?.append(b);
  return b;
}
// Light or dark: at first as the system says. Pages that paint by themselves hear `themechange`.
if (typeof document !== 'undefined') {
  const root = document.documentElement, known = chosen('ssehub-theme');
  const system = matchMedia('(prefers-color-scheme: light)'), isLight = () => root.dataset.theme ? root.dataset.theme === 'light' : system.matches;
  if (known === 'light' || known === 'dark') root.dataset.theme = known;
  const tell = () => dispatchEvent(new Event('themechange'));
  system.addEventListener('change', tell);
  addSwitch('\u25d0', 'Light or dark').onclick = () => { chosen('ssehub-theme', root.dataset.theme = isLight() ? 'dark' : 'light'); tell(); };
}
// A sound and a desktop notification, off until asked for: say(title, body), once for all tabs.
function alerts() {
  const b = addSwitch('\u266a', 'Sound and desktop notifications');
  let on = chosen('ssehub-alerts') === 'on', audio = null;
  const show = () => b.setAttribute('aria-pressed', String(on));
  show();
  b.onclick = () => {
    on = !on;
    chosen('ssehub-alerts', on ? 'on' : 'off');
    show();
    if (on && typeof Notification !== 'undefined' && Notification.permission === 'default') Notification.requestPermission().catch(() => { });
  };
  async function give(title, body) {
    document.body.dataset.alerts = Number(document.body.dataset.alerts || 0) + 1;
    try {
      audio ??= new AudioContext();
      const tone = audio.createOscillator(), volume = audio.createGain();
      tone.frequency.value = 660;
      volume.gain.setValueAtTime(.08, audio.currentTime);
      volume.gain.exponentialRampToValueAtTime(.0001, audio.currentTime + .25);
      tone.connect(volume).connect(audio.destination);
      tone.start(); tone.stop(audio.currentTime + .25);
    } catch { }
    try { if (document.hidden && Notification.permission === 'granted') new Notification(title, {body, tag: title + body}); } catch { }
  }
  return (title, body) => {
    if (!on) return;
    if (!navigator.locks) return void give(title, body);
    navigator.locks.request('ssehub-alert', {ifAvailable: true}, async lock => { if (lock) { give(title, body); await new Promise(done => setTimeout(done, 400)); } });
  };
}

// --- one stream for all tabs ------------------------------------------------------------------------------------------------

// How many different streams are open at once, all tabs together; and how many if all of those can be seen: that leaves a connection
// for everything else.
const mostOpen = 4, mostSeen = 5;

const idOf = text => /^\d+$/.test(text ?? '') ? Number(text) : null, lastIdOf = url => idOf(new URL(url, location).searchParams.get('last_id'));

// The end that has the streams, one EventSource for each key; post(m) reaches every tab. It keeps what came lately for tabs that
// come later. Where that is not enough it opens the stream again at the id that the tab has: the others know the rest by its ids.
// That takes streams whose every event has an id of its own, or none has: not those that bring passes over the values of keys.
function exchange(post) {
  const streams = new Map(), tabs = new Map();   // tabs: which can be seen, and when each was last looked at
  let serials = 0;

  function begin(key, s, url) {
    s.source?.close();
    Object.assign(s, {source: null, waits: true, url, serial: ++serials, from: lastIdOf(url), last: '', bare: false, past: [], size: 0, live: false});
    post({key, what: 'again', serial: s.serial, from: s.from});
  }
  function open(key, s) {
    const url = new URL(s.url, location);
    if (s.last) url.searchParams.set('last_id', s.last);
    Object.assign(s, {waits: false, serial: ++serials, heard: new Set()});
    post({key, what: 'taken', serial: s.serial});
    const source = s.source = new EventSource(url);   // its own reconnects send Last-Event-ID, which wins over the query
    source.onopen = () => {
      if (source !== s.source) return;
      if (s.bare) Object.assign(s, {past: [], size: 0});   // without ids it begins anew
      s.live = true;
      post({key, what: 'open', serial: s.serial});
    };
    for (const type of s.types) hear(key, s, type);
  }
  function park(key, s) {
    s.source.close();
    Object.assign(s, {source: null, waits: true, live: false});
    post({key, what: 'parked', serial: s.serial, seen: s.seen});
  }
  // What can be seen comes first, then what would lose events since they have no ids, then what was looked at last.
  function arrange() {
    const all = [];
    for (const [key, s] of streams) {
      if (!s.source && !s.waits) continue;   // ended; its tabs are about to leave
      const at = [...s.members.values()].map(tab => tabs.get(tab)), seen = s.seen = at.some(t => t.visible);
      all.push({key, s, seen, rank: (seen ? 2 : s.bare ? 1 : 0) * 1e15 + Math.max(...at.filter(t => t.visible === seen).map(t => t.at))});
    }
    all.sort((a, b) => b.rank - a.rank);
    all.forEach((a, i) => { a.wanted = i < (a.seen ? mostSeen : mostOpen); });
    for (const {key, s, wanted} of all) if (s.source && !wanted) park(key, s);
    for (const {key, s, wanted} of all) if (s.waits && wanted) open(key, s);
  }
  function hear(key, s, type) {
    if (s.heard.has(type)) return;
    s.heard.add(type);
    const source = s.source;
    source.addEventListener(type, e => {
      if (source !== s.source) return;
      if (type === 'error' && e.data === undefined) {
        s.live = false;
        const closed = source.readyState === EventSource.CLOSED;
        if (closed) s.source = null;
        return post({key, what: closed ? 'closed' : 'lost', serial: s.serial});
      }
      const event = [type, e.data, e.lastEventId];
      s.last = e.lastEventId || s.last;
      s.bare = !s.last;
      s.from ??= idOf(e.lastEventId);
      s.past.push(event);
      s.size += e.data.length + 100;
      while (s.size > 8e6 || s.past.length > 5000) {
        const [, data, id] = s.past.shift();
        s.size -= data.length + 100;
        s.from = idOf(id) ?? s.from;
      }
      post({key, what: 'event', event});
    });
  }
  function leave(id) {
    for (const [key, s] of streams) {
      if (!s.members.delete(id) || s.members.size) continue;
      s.source?.close();
      streams.delete(key);
    }
    arrange();
  }
  // A tab that is gone lets its lock go, however it went.
  function see({tab, visible, at}) {
    const known = tabs.has(tab);
    tabs.set(tab, {visible, at});
    if (!known) navigator.locks.request(tab, () => { for (const s of [...streams.values()]) for (const [id, of] of [...s.members]) if (of === tab) leave(id); tabs.delete(tab); });
  }
  return m => {
    if (m.what === 'leave') return leave(m.id);
    if (m.what === 'seen' && tabs.has(m.tab)) { see(m); return arrange(); }
    if (m.what !== 'join') return;
    see(m);
    let s = streams.get(m.key);
    if (!s) streams.set(m.key, s = {types: new Set(), members: new Map(), source: null, waits: false, serial: 0});
    for (const type of m.types) s.types.add(type);
    const had = lastIdOf(m.url);
    const covered = had === null || (s.from !== null && had >= s.from);
    if (!(s.source || s.waits) || m.renew === s.serial || !covered) begin(m.key, s, m.url);
    else if (s.source) for (const type of s.types) hear(m.key, s, type);
    s.members.set(m.id, m.tab);
    arrange();
    const past = s.past.filter(([, , id]) => had === null ? m.fresh : idOf(id) === null || idOf(id) > had);
    post({to: m.id, what: 'joined', joins: m.joins, serial: s.serial, from: s.from, live: s.live, parked: s.waits, seen: s.seen, past});
  };
}

if (typeof SharedWorkerGlobalScope !== 'undefined') {
  const ports = new Set(), lock = `ssehub-worker-${Math.random().toString(36).slice(2)}`;
  const held = new Promise(done => navigator.locks.request(lock, () => { done(); return new Promise(() => { }); }));
  const take = exchange(m => { for (const p of ports) p.postMessage(m); });
  onconnect = ({ports: [port]}) => {
    ports.add(port);
    port.onmessage = e => e.data.what === 'bye' ? ports.delete(port) : take(e.data);
    held.then(() => port.postMessage({what: 'lives', lock}));
  };
}

// The end of a tab: tell(m) reaches the exchange, wherever it is; null: there is none, every stream is this tab's own. A lock says
// that the exchange lives, and whoever waits for it hears at once that it does not. That of a SharedWorker dies with the process of
// the tab that made it: each tab asks for another, which is one for all. Without SharedWorker one of the tabs has it; when it goes,
// the next takes its place and says hello.
const shared = (() => {
  if (typeof document === 'undefined' || !navigator.locks) return null;
  const tab = `ssehub-tab-${Math.random().toString(36).slice(2)}-`, sources = new Set();
  const held = new Promise(done => navigator.locks.request(tab, () => { done(); return new Promise(() => { }); }));
  const hear = m => { for (const s of [...sources]) s.hear(m); };
  let tell = null, at = Date.now();
  const seen = () => ({tab, visible: !document.hidden, at});
  if (typeof SharedWorker !== 'undefined') {
    let port = null, patience = 1500;
    const begin = () => {
      const worker = new SharedWorker('/live.js', 'ssehub streams 3'), mine = port = worker.port;
      const anew = () => {
        if (port !== mine) return;
        mine.onmessage = null;
        mine.postMessage({what: 'bye'});
        begin();
        hear({what: 'hello'});
      };
      const late = setTimeout(anew, patience);   // it died while it was asked for; if it is only slow, it is the same one again
      patience = Math.min(2 * patience, 12000);
      worker.onerror = () => setTimeout(anew, 1000);   // its script was not to be had
      mine.onmessage = e => {
        if (e.data.what !== 'lives') return hear(e.data);
        clearTimeout(late);
        patience = 1500;
        navigator.locks.request(e.data.lock, anew);
      };
    };
    begin();
    tell = m => port.postMessage(m);
  } else if (typeof BroadcastChannel !== 'undefined') {
    const asks = new BroadcastChannel('ssehub asks'), answers = new BroadcastChannel('ssehub answers');
    answers.onmessage = e => hear(e.data);
    tell = m => asks.postMessage(m);
    navigator.locks.request('ssehub exchange', () => {
      const out = new BroadcastChannel('ssehub answers'), take = exchange(m => out.postMessage(m)), own = new BroadcastChannel('ssehub asks');
      own.onmessage = e => take(e.data);
      out.postMessage({what: 'hello'});
      return new Promise(() => { });
    });
  }
  const look = () => { at = Date.now(); tell?.({what: 'seen', ...seen()}); };
  document.addEventListener('visibilitychange', look);
  addEventListener('focus', look);
  addEventListener('pagehide', e => { for (const s of sources) s.leave(); if (tell && !e.persisted) tell({what: 'bye'}); });
  return tell && {tab, sources, tell, held, seen, look};
})();

// What live() asks of an EventSource, over a stream that the tabs share. `renew`: the serial of one that is no good any more;
// onpark(is, seen): it is parked or no more, and whether a visitor can see that.
class SharedSource extends EventTarget {
  constructor(url, types, renew) {
    super();
    const key = new URL(url, location);
    const last = lastIdOf(key);
    key.searchParams.delete('last_id');
    Object.assign(this, {url, types, renew, key: key.pathname + key.search, id: shared.tab + Math.random().toString(36).slice(2), serial: 0, readyState: 0, last, before: '', again: false, wanted: [], joins: 0});
    shared.sources.add(this);
    shared.held.then(() => this.join());
  }
  join() {
    if (this.readyState === 2) return;
    const url = new URL(this.url, location);
    if (this.last !== null) url.searchParams.set('last_id', this.last);
    shared.tell({what: 'join', ...shared.seen(), id: this.id, key: this.key, url: url.pathname + url.search, types: [...this.types], renew: this.renew, fresh: !this.serial, joins: this.joins});
    this.renew = 0;
  }
  hear(m) {
    if (m.what === 'hello') { this.serial = 0; this.joins++; this.lost(); return void shared.held.then(() => this.join()); }
    if (m.to === this.id) {
      if (m.joins !== this.joins) return;   // asked of an exchange before this one
      this.serial = m.serial;
      this.again = this.knows(m.from);
      for (const then of this.wanted.splice(0)) then();
      this.park(m.parked, m.seen);
      if (m.live) this.opened();
      for (const e of m.past) this.give(e);
    } else if (m.key === this.key && this.serial) {   // before it joined, what came is in `past`
      if (m.serial) this.serial = m.serial;
      if (m.what === 'again') this.again = this.knows(m.from);
      else if (m.what === 'open') this.opened();
      else if (m.what === 'lost') this.lost();
      else if (m.what === 'parked' || m.what === 'taken') this.park(m.what === 'parked', m.seen);
      else if (m.what === 'closed') { this.close(); this.dispatchEvent(new Event('error')); }
      else if (m.what === 'event') this.give(m.event);
    }
  }
  park(is, seen) { if (is) this.readyState = 0; this.onpark?.(is, seen); }
  opened() { this.readyState = 1; this.dispatchEvent(new Event('open')); this.onopen?.(); }
  lost() { if (this.readyState === 1) { this.readyState = 0; this.dispatchEvent(new Event('error')); } }
  knows(from) { return from !== null && this.last > from; }
  give([type, data, lastEventId]) {
    const id = idOf(lastEventId), own = id !== null && lastEventId !== this.before;
    this.before = lastEventId;
    if (this.again && own) {   // opened for a tab that is further behind: this one has what comes first
      if (type !== 'gap' && id <= this.last) return;
      this.again = false;
    }
    if (!this.types.has(type) || this.readyState === 2) return;
    this.last = id ?? this.last;
    this.dispatchEvent(new MessageEvent(type, {data, lastEventId}));
  }
  also(type, then) { this.types.add(type); this.wanted.push(then); this.join(); }   // then(): it is heard from now on
  leave() { shared.tell({what: 'leave', id: this.id}); }
  close() { this.readyState = 2; shared.sources.delete(this); this.leave(); }
}

// --- a stream ---------------------------------------------------------------------------------------------------------------

// live({url, types, event, open, state, show}): start() connects.
//   url()               where the stream is now, with what it resumes after
//   types               event types to hear; listen(type) adds one
//   event(type, e)      one came; e.data, e.lastEventId
//   open(), state(s)    connecting, live, parked (until it is looked at), reconnecting (it will try again), stopped (it will not)
//   show                false: not in the page's header (body[data-state], #state, #detail, #again)
// It asks for heartbeats that a page can see (beat=1) and, after two and a half of them without a word, connects anew.
function live({url, types, event, open = () => { }, state = () => { }, show = true}) {
  const self = {types: [...types], state: 'connecting', start, stop, listen, get every() { return every; }};
  let source = null, opens = 0, attempt = 0, timer = 0, retryAt = 0, downAt = 0, label = '', every = 0, heardAt = 0, late = 0;

  const address = () => { const u = url(); return u + (u.includes('?') ? '&' : '?') + 'beat=1'; };
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
    put($('detail'), ['stopped', 'live', 'parked'].includes(self.state) ? ''
      : retryAt ? `in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s` : downAt ? `for ${long(Date.now() - downAt)}` : '');
  }
  function hear(type) {
    source.addEventListener(type, e => {
      if (e.target !== source) return;
      heardAt = Date.now(); late = 0;
      if (type === 'error' && e.data === undefined) return failed();
      if (type === 'heartbeat' && beat(e.data)) return;
      if (self.types.includes(type)) event(type, e);
    });
  }
  function beat(data) {
    let d = null;
    try { d = JSON.parse(data); } catch { }
    if (!(d?.every > 0)) return false;   // a heartbeat of the program's own
    every = d.every * 1000;
    return true;
  }
  function listen(type) {
    if (self.types.includes(type) || source?.types?.has(type)) return;
    if (source) hear(type);
    if (source?.also) source.also(type, () => self.types.push(type));
    else self.types.push(type);
  }
  function connect() {
    clearTimeout(timer); retryAt = late = 0;
    const stale = self.state === 'live' ? 0 : source?.serial ?? 0, heard = new Set([...self.types, 'error', 'heartbeat']);
    if (source) source.close();
    heardAt = Date.now();
    source = shared ? new SharedSource(address(), heard, stale) : new EventSource(address());   // its own reconnects send Last-Event-ID, which wins over the query
    source.onopen = () => {
      heardAt = Date.now(); attempt = retryAt = late = 0;
      if (self.state === 'live') return;   // another tab had it made anew
      opens++; open(); become('live', 'Live');
    };
    source.onpark = (is, seen) => {
      if (is) return become('parked', !seen ? label : 'Parked: too many pages');
      if (self.state !== 'parked') return;
      heardAt = Date.now();
      become('reconnecting', 'Reconnecting');
    };
    for (const type of heard) hear(type);
  }
  function start() {
    connect();
    become(opens ? 'reconnecting' : 'connecting', opens ? 'Reconnecting' : 'Connecting');
  }
  // A proxy that stopped to forward, a machine that slept: the connection is there, and nothing comes.
  function watch() {
    if (!every || !source || retryAt || self.state === 'stopped' || self.state === 'parked') return;
    if (Date.now() - heardAt < 2.5 * every) return void (late = 0);
    if (++late < 2) return;   // what waits for a page that was asleep comes first
    become('reconnecting', 'No signal');
    connect();
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
    $('again').onclick = () => self.state === 'parked' ? shared.look() : start();
    setInterval(detail, 1000);
  }
  setInterval(watch, 250);
  addEventListener('online', () => { if (source && self.state !== 'live') start(); });
  addEventListener('pageshow', e => { if (e.persisted && source) start(); });
  return self;
}
