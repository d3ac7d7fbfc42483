/*
 * Omniline's chat widget: one plain script without dependencies.
 *
 *   <script src="https://HUB/site/ACCOUNT/widget.js" async
 *           data-locale="zh-CN" data-open="false"></script>
 *
 * Optional, before the script: window.OmnilineConfig = { identity: async () => "<token>" };
 * the callback asks the site's own server for a fresh identity token.
 *
 * Nothing that comes over the wire is ever put into the page as markup: text only.
 */
(function () {
  "use strict";
  if (window.Omniline) return;

  const script = document.currentScript || document.querySelector('script[src*="/widget.js"]');
  const settings = Object.assign({}, window.OmnilineConfig);
  const data = (script && script.dataset) || {};
  const base = data.base || String(script && script.src).replace(/\/widget\.js(\?.*)?$/, "");
  const locale = data.locale || settings.locale || document.documentElement.lang || navigator.language;
  const NAME = "omniline-widget";
  const VERSION = "1.0";

  const RESEND_MS = [5000, 10000, 20000];
  const BACKOFF_FIRST_MS = 500;
  const BACKOFF_MAX_MS = 30000;
  const STABLE_MS = 60000;
  const FAILURES_TO_POLL = 3;
  const FAILURES_WITHIN_MS = 60000;
  const SOCKET_AGAIN_MS = 120000;
  const PONG_MS = 5000;
  const READ_AFTER_MS = 1000;
  const RECEIPT_EVERY_MS = 2000;
  const TYPING_EVERY_MS = 3000;
  const PAGE = 100;

  // --- words -------------------------------------------------------------------------------------

  const WORDS = {
    zh: {
      title: "在线客服", open: "打开客服对话", close: "关闭", send: "发送", attach: "发送文件",
      placeholder: "请输入消息…", connecting: "正在连接…", offline: "网络已断开，恢复后将自动发送",
      memory: "此浏览器不允许保存数据，关闭页面后将无法恢复本次对话", typing: "对方正在输入…",
      edited: "已编辑", recalled: "消息已撤回", recall: "撤回", sending: "发送中", sent: "已发送",
      delivered: "已送达", read: "已读", failed: "发送失败", retry: "重试", away: "客服暂时离开，请留言",
      away_offline: "现在是非工作时间，请留言，我们会尽快回复", closed: "对话已结束", agent: "客服",
      system: "系统", bot: "智能客服", file: "文件", image: "图片", inbox: "站内信", back: "返回",
      no_items: "暂无站内信", agree: "同意并开始", refused: "客服暂时无法使用", uploading: "正在上传…",
      uploaded_not: "文件无法发送", too_fast: "发送太频繁，稍后自动重试", location: "位置",
    },
    en: {
      title: "Chat with us", open: "Open chat", close: "Close", send: "Send", attach: "Send a file",
      placeholder: "Write a message…", connecting: "Connecting…",
      offline: "You are offline; messages will be sent when you are back",
      memory: "This browser does not let us keep data: the chat cannot be restored after closing",
      typing: "is typing…", edited: "edited", recalled: "Message recalled", recall: "Recall",
      sending: "Sending", sent: "Sent", delivered: "Delivered", read: "Read", failed: "Not sent",
      retry: "Try again", away: "We are away for a moment; leave a message",
      away_offline: "We are closed; leave a message and we will come back to you",
      closed: "The conversation was closed", agent: "Agent", system: "System", bot: "Assistant",
      file: "File", image: "Image", inbox: "Messages", back: "Back", no_items: "No messages",
      agree: "Agree and start", refused: "Chat is not available", uploading: "Uploading…",
      uploaded_not: "The file cannot be sent", too_fast: "Too fast; it will be sent shortly",
      location: "Location",
    },
  };
  const words = WORDS[/^zh/i.test(locale || "") ? "zh" : "en"];

  // --- what is kept in the browser ------------------------------------------------------------------

  const store = (function () {
    const prefix = "omniline:" + base + ":";
    const memory = new Map();
    let local = null;
    try {
      local = window.localStorage;
      local.setItem(prefix + "probe", "1");
      local.removeItem(prefix + "probe");
    } catch (error) {
      local = null; // private mode, a partitioned frame: the visit works, its memory does not
    }
    return {
      persistent: local !== null,
      get(name) {
        if (!local) return memory.get(name);
        try { return JSON.parse(local.getItem(prefix + name) || "null"); } catch (error) { return null; }
      },
      set(name, value) {
        memory.set(name, value);
        if (!local) return;
        try { local.setItem(prefix + name, JSON.stringify(value)); } catch (error) { /* full: memory has it */ }
      },
      clear() {
        memory.clear();
        if (!local) return;
        Object.keys(local).filter((key) => key.startsWith(prefix)).forEach((key) => local.removeItem(key));
      },
    };
  })();

  function uuid7() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    let now = Date.now();
    for (let index = 5; index >= 0; index -= 1) { bytes[index] = now % 256; now = Math.floor(now / 256); }
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  // --- the session ----------------------------------------------------------------------------------

  class Refused extends Error {
    constructor(status, body) {
      super((body && body.message) || "HTTP " + status);
      this.status = status;
      this.code = (body && body.code) || "internal";
      this.retryMs = (body && body.retry_after_ms) || 0;
    }
  }

  async function http(method, path, options) {
    const given = options || {};
    const headers = Object.assign({}, given.headers);
    if (given.token) headers.Authorization = "Bearer " + given.token;
    let body = given.raw;
    if (given.json !== undefined) { headers["Content-Type"] = "application/json"; body = JSON.stringify(given.json); }
    const url = path.startsWith("http") ? path : base + path;
    const response = await fetch(url, { method, headers, body, credentials: "omit", signal: given.signal });
    const text = await response.text();
    let told = null;
    try { told = text ? JSON.parse(text) : null; } catch (error) { told = null; }
    if (!response.ok) throw new Refused(response.status, told);
    return told;
  }

  const session = {
    token: "", visitor: "", user: null, cursor: "", limits: {}, conversations: [],
    identity: settings.identity || null, refreshing: null, timer: 0,

    async open() {
      const body = {
        visitor_token: store.get("visitor_token") || "",
        page: { url: location.href, title: document.title, referrer: document.referrer },
        locale: locale || "",
        tz: Intl.DateTimeFormat().resolvedOptions().timeZone || "",
        consent_version: store.get("consent") || "",
      };
      if (this.identity) body.identity_token = (await this.identity()) || "";
      let told;
      try {
        told = await http("POST", "/sessions", { json: body });
      } catch (error) {
        // The site's token was over already: one more, made just now.
        if (error.code !== "identity_expired" || !this.identity) throw error;
        body.identity_token = (await this.identity()) || "";
        told = await http("POST", "/sessions", { json: body });
      }
      this.take(told);
      this.limits = told.limits || {};
      this.cursor = this.cursor || told.cursor;
      return told;
    },

    take(told) {
      if (told.access_token) this.token = told.access_token;
      if (told.visitor_token) store.set("visitor_token", told.visitor_token);
      if (told.visitor_id) {
        // A cursor belongs to its visitor: another one starts afresh.
        if (this.visitor && this.visitor !== told.visitor_id) this.cursor = told.cursor || "";
        this.visitor = told.visitor_id;
      }
      this.user = told.user || null;
      if (told.conversations) this.conversations = told.conversations;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.refresh().catch(() => {}), 12 * 60 * 1000);
      if (view.root) view.badge(); // who is logged in has an inbox
    },

    refresh() {
      if (!this.refreshing) {
        this.refreshing = this.open()
          .then((told) => { link.refreshed(); return told; })
          .finally(() => { this.refreshing = null; });
      }
      return this.refreshing;
    },

    primary() {
      const found = this.conversations.find((each) => each.primary);
      return found ? found.conversation_id : "";
    },

    async call(method, path, options) {
      try {
        return await http(method, path, Object.assign({ token: this.token }, options));
      } catch (error) {
        if (error.status !== 401) throw error;
        await this.refresh();
        return http(method, path, Object.assign({}, options, { token: this.token }));
      }
    },
  };

  // --- the wire: a socket, or long polls while sockets do not get through -------------------------------

  const link = {
    ws: null, mode: "socket", ready: false, tries: 0, failures: [], stopped: false, timer: 0,
    stable: 0, pong: 0, awaiting: 0, polling: null, frame: 0,

    start() { this.stopped = false; this.connect(); },

    stop() {
      this.stopped = true;
      clearTimeout(this.timer);
      if (this.ws) this.ws.close(1000);
      if (this.polling) this.polling.abort();
    },

    connect() {
      clearTimeout(this.timer);
      if (this.stopped || this.ws) return;
      if (navigator.onLine === false) { view.notice(words.offline); return; }
      let ws;
      try {
        ws = new WebSocket(base.replace(/^http/, "ws") + "/ws", ["omniline.v1"]);
      } catch (error) { this.failed(); return; }
      this.ws = ws;
      ws.onopen = () => this.put({
        t: "hello", access_token: session.token, cursor: session.cursor,
        client: { name: NAME, version: VERSION }, caps: [],
      });
      ws.onmessage = (event) => {
        let frame;
        try { frame = JSON.parse(event.data); } catch (error) { return; }
        this.alive();
        if (frame.t === "welcome") this.welcomed();
        chat.hear(frame);
      };
      ws.onclose = (event) => this.closed(ws, event.code);
    },

    put(frame) {
      if (!this.ws || this.ws.readyState !== WebSocket.OPEN) return "";
      this.frame += 1;
      const id = "f" + this.frame;
      this.ws.send(JSON.stringify(Object.assign({ v: 1, id }, frame)));
      return id;
    },

    welcomed() {
      this.ready = true;
      this.mode = "socket";
      if (this.polling) this.polling.abort();
      clearTimeout(this.stable);
      this.stable = setTimeout(() => { this.tries = 0; this.failures = []; }, STABLE_MS);
      view.notice("");
      outbox.flush();
    },

    closed(ws, code) {
      if (this.ws !== ws) return;
      this.ws = null;
      const wasReady = this.ready;
      this.ready = false;
      clearTimeout(this.stable);
      clearTimeout(this.pong);
      if (this.stopped) return;
      if (code === 4403) { this.stopped = true; view.notice(words.refused); return; }
      if (code === 4409 && document.hidden) return; // comes back when the tab is looked at
      if (code === 4401) {
        session.refresh().then(() => this.again(0), (error) => this.lost(error));
        return;
      }
      if (wasReady) this.again(); else this.failed();
    },

    lost(error) {
      if (error.code === "visitor_blocked" || error.code === "site_disabled" || error.code === "origin_forbidden") {
        this.stopped = true;
        view.notice(words.refused);
        return;
      }
      this.again(Math.max(error.retryMs || 0, 2000));
    },

    failed() {
      const now = Date.now();
      this.failures = this.failures.filter((at) => now - at < FAILURES_WITHIN_MS).concat(now);
      if (this.failures.length >= FAILURES_TO_POLL && this.mode === "socket") {
        this.mode = "poll";
        this.poll();
      }
      this.again(this.mode === "poll" ? SOCKET_AGAIN_MS : undefined);
    },

    again(afterMs) {
      clearTimeout(this.timer);
      let wait = afterMs;
      if (wait === undefined) {
        const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * Math.pow(2, this.tries));
        this.tries += 1;
        wait = Math.random() * most; // full jitter: a restart must not bring all at once
      }
      if (this.mode === "socket") view.notice(words.connecting);
      this.timer = setTimeout(() => this.connect(), wait);
    },

    refreshed() { if (this.ready) this.put({ t: "auth.refresh", access_token: session.token }); },

    alive() { clearTimeout(this.pong); this.pong = 0; },

    // A phone freezes tabs: the socket may look open and be dead for minutes.
    check() {
      if (!this.ws) { if (!this.stopped) { this.tries = 0; this.connect(); } return; }
      if (this.ready && !this.pong) {
        this.put({ t: "ping" });
        this.pong = setTimeout(() => {
          const dead = this.ws;
          this.pong = 0;
          if (dead) { dead.onclose = null; dead.close(); this.closed(dead, 1006); }
        }, PONG_MS);
      }
    },

    async poll() {
      view.notice("");
      outbox.flush();
      while (this.mode === "poll" && !this.stopped) {
        this.polling = new AbortController();
        try {
          const query = "/events?wait=25&cursor=" + encodeURIComponent(session.cursor);
          const told = await session.call("GET", query, { signal: this.polling.signal });
          session.cursor = told.cursor;
          told.events.forEach((frame) => chat.hear(frame));
        } catch (error) {
          if (error.name === "AbortError") return;
          await new Promise((done) => setTimeout(done, Math.max(error.retryMs || 0, 3000)));
        }
      }
    },
  };

  // --- what is still to be sent -----------------------------------------------------------------------

  const outbox = {
    items: store.get("outbox") || [], waiting: {}, sending: false,

    add(parts) {
      const item = { id: uuid7(), parts, at: Date.now(), tries: 0 };
      this.items.push(item);
      this.keep();
      chat.pending(item);
      this.send(item);
    },

    keep() { store.set("outbox", this.items); },

    find(id) { return this.items.find((item) => item.id === id); },

    done(id) {
      clearTimeout(this.waiting[id]);
      delete this.waiting[id];
      this.items = this.items.filter((item) => item.id !== id);
      this.keep();
    },

    // In order: everything that was not acknowledged, after every reconnect.
    flush() { this.items.filter((item) => !item.failed).forEach((item) => this.send(item)); },

    retry(id) {
      const item = this.find(id);
      if (!item) return;
      item.failed = false; item.tries = 0;
      chat.pending(item);
      this.send(item);
    },

    later(item, afterMs) {
      clearTimeout(this.waiting[item.id]);
      const wait = afterMs || RESEND_MS[Math.min(item.tries, RESEND_MS.length - 1)];
      item.tries += 1;
      this.waiting[item.id] = setTimeout(() => { if (this.find(item.id)) this.send(item); }, wait);
    },

    send(item) {
      if (link.ready) {
        item.frame = link.put({ t: "msg.send", client_msg_id: item.id, parts: item.parts });
        this.later(item);
      } else if (link.mode === "poll") {
        this.post(item);
      }
    },

    async post(item) {
      if (item.posting) return;
      item.posting = true;
      try {
        const told = await session.call("POST", "/conversations/new/messages", {
          json: { parts: item.parts }, headers: { "Idempotency-Key": item.id },
        });
        if (told.t === "msg.new") chat.hear(told); else chat.acked(item.id);
      } catch (error) {
        if (error.status >= 400 && error.status < 500 && error.status !== 429 && error.status !== 401) {
          chat.rejected(item.id);
        } else {
          this.later(item, error.retryMs);
        }
      } finally { item.posting = false; }
    },
  };
  outbox.items.forEach((item) => { delete item.frame; delete item.posting; });

  // --- the conversation ---------------------------------------------------------------------------------

  const chat = {
    messages: new Map(), // "thread/seq" -> frame
    mine: new Map(), // client_msg_id -> what is not in the thread yet
    delivered: {}, read: {}, told: {}, receipts: {}, receiptTimer: 0, agentRead: {}, agentDelivered: {},
    typingAt: 0, typingTimer: 0, unread: 0, availability: "online",

    hear(frame) {
      if (frame.cursor) session.cursor = frame.cursor;
      switch (frame.t) {
        case "welcome": this.available(frame.availability); break;
        case "availability": this.available(frame.state); break;
        case "reset": this.refetch(); break;
        case "ack": this.heardAck(frame); break;
        case "msg.rejected": this.rejected(frame.client_msg_id); break;
        case "msg.new": case "msg.edited": case "msg.recalled": this.show(frame, true); break;
        case "receipt": this.heardReceipt(frame); break;
        case "typing": this.heardTyping(frame); break;
        case "conv.state": if (frame.state === "closed") view.notice(words.closed); break;
        case "inbox.count": inbox.count(frame.unread || 0); break;
        case "error": this.heardError(frame); break;
        case "going_away": link.tries = 0; break;
        default: break; // a newer hub
      }
    },

    available(state) {
      this.availability = state || "online";
      view.status(state === "offline" ? words.away_offline : state === "away" ? words.away : "");
    },

    heardAck(frame) {
      if (frame.visitor_id) { session.take(frame); this.refetch(); return; }
      const item = outbox.items.find((each) => each.frame === frame.re);
      if (item) this.acked(item.id);
    },

    heardError(frame) {
      const item = outbox.items.find((each) => each.frame && each.frame === frame.re);
      if (item) {
        outbox.later(item, frame.retry_after_ms);
        if (frame.code === "rate_limited") view.notice(words.too_fast);
      }
      if (frame.code === "identity_expired") session.refresh().catch(() => {});
    },

    pending(item) {
      this.mine.set(item.id, { client_msg_id: item.id, parts: item.parts, state: "sending" });
      view.draw();
    },

    acked(id) {
      outbox.done(id);
      const held = this.mine.get(id);
      if (held) { held.state = "sent"; view.draw(); }
    },

    rejected(id) {
      const item = outbox.find(id);
      if (item) { item.failed = true; clearTimeout(outbox.waiting[id]); outbox.keep(); }
      const held = this.mine.get(id);
      if (held) { held.state = "failed"; view.draw(); }
    },

    // Duplicates are dropped by (conversation, seq, rev); a recall is the last word on a message.
    show(frame, live) {
      const key = frame.conversation_id + "/" + frame.seq;
      const held = this.messages.get(key);
      if (held && (held.recalled || (!frame.recalled && Number(held.rev) >= Number(frame.rev)))) {
        this.settle(frame);
        return;
      }
      this.messages.set(key, frame);
      this.settle(frame);
      if (!session.conversations.some((each) => each.conversation_id === frame.conversation_id)) {
        session.conversations.forEach((each) => { each.primary = false; });
        session.conversations.push({ conversation_id: frame.conversation_id, last_seq: frame.seq, primary: true });
      }
      if (frame.sender.kind !== "visitor" && !held) {
        this.receipt(frame.conversation_id, "delivered_seq", frame.seq);
        if (live && frame.t === "msg.new" && (!view.opened || document.hidden)) {
          this.unread += 1;
          view.badge();
        }
        this.heardTyping({ on: false });
      }
      if (live) view.draw();
    },

    settle(frame) {
      if (!frame.client_msg_id) return;
      outbox.done(frame.client_msg_id);
      this.mine.delete(frame.client_msg_id);
    },

    heardReceipt(frame) {
      if (frame.by !== "agent") return;
      const higher = (table, seq) => {
        const held = table[frame.conversation_id] || 0;
        table[frame.conversation_id] = Math.max(held, Number(seq || 0));
      };
      higher(this.agentDelivered, frame.delivered_seq);
      higher(this.agentRead, frame.read_seq);
      view.draw();
    },

    heardTyping(frame) {
      clearTimeout(this.typingTimer);
      view.typing(Boolean(frame.on));
      if (frame.on) this.typingTimer = setTimeout(() => view.typing(false), frame.ttl_ms || 6000);
    },

    receipt(thread, name, seq) {
      const held = (this.told[thread] = this.told[thread] || {});
      if (Number(held[name] || 0) >= Number(seq)) return;
      held[name] = seq;
      const waiting = (this.receipts[thread] = this.receipts[thread] || {});
      waiting[name] = seq;
      if (!this.receiptTimer) this.receiptTimer = setTimeout(() => this.sendReceipts(), RECEIPT_EVERY_MS);
    },

    sendReceipts() {
      this.receiptTimer = 0;
      const waiting = this.receipts;
      this.receipts = {};
      Object.keys(waiting).forEach((thread) => {
        if (link.ready) {
          link.put(Object.assign({ t: "receipt", conversation_id: thread }, waiting[thread]));
        } else if (link.mode === "poll") {
          session.call("POST", "/conversations/" + thread + "/receipts", { json: waiting[thread] }).catch(() => {});
        }
      });
    },

    typed(on) {
      const now = Date.now();
      if (on && now - this.typingAt < TYPING_EVERY_MS) return;
      if (!on && !this.typingAt) return;
      this.typingAt = on ? now : 0;
      if (link.ready) link.put({ t: "typing", conversation_id: session.primary(), on });
    },

    recall(frame) {
      const place = { conversation_id: frame.conversation_id, seq: frame.seq };
      if (link.ready) link.put(Object.assign({ t: "msg.recall" }, place));
      else session.call("POST", "/conversations/" + place.conversation_id + "/messages/" + place.seq + "/recall").catch(() => {});
    },

    async refetch() {
      try {
        const told = await session.call("GET", "/conversations");
        session.conversations = told.conversations;
      } catch (error) { return; }
      const threads = new Set(session.conversations.map((each) => each.conversation_id));
      Array.from(this.messages.keys()).forEach((key) => { if (!threads.has(key.split("/")[0])) this.messages.delete(key); });
      await this.history();
    },

    async history() {
      for (const each of session.conversations) {
        let after = Math.max(0, Number(each.last_seq) - PAGE);
        for (let more = true; more;) {
          let page;
          try {
            page = await session.call("GET", "/conversations/" + each.conversation_id + "/messages?limit=" + PAGE + "&after_seq=" + after);
          } catch (error) { break; }
          page.messages.forEach((frame) => this.show(frame, false));
          more = page.more && page.messages.length > 0;
          if (more) after = page.messages[page.messages.length - 1].seq;
        }
      }
      view.draw();
    },

    // Order is the hub's: threads one after the other, the primary one last, places inside.
    ordered() {
      const rank = {};
      session.conversations.forEach((each, index) => { rank[each.conversation_id] = each.primary ? 1e6 : index; });
      return Array.from(this.messages.values()).sort((a, b) =>
        (rank[a.conversation_id] || 0) - (rank[b.conversation_id] || 0) || Number(a.seq) - Number(b.seq));
    },

    state(frame) {
      const seq = Number(frame.seq);
      if ((this.agentRead[frame.conversation_id] || 0) >= seq || frame.state === "read") return "read";
      if ((this.agentDelivered[frame.conversation_id] || 0) >= seq || frame.state === "delivered") return "delivered";
      return "sent";
    },
  };

  // --- files ---------------------------------------------------------------------------------------------

  const files = {
    async send(file) {
      view.notice(words.uploading);
      try {
        const mime = file.type || "application/octet-stream";
        const begun = await session.call("POST", "/uploads", { json: { name: file.name || "file", mime, bytes: file.size } });
        const done = await http("PUT", begun.put_url, { raw: file, headers: { "Content-Type": mime } });
        view.notice("");
        outbox.add([{ type: done.kind, upload_id: done.upload_id, name: file.name }]);
      } catch (error) {
        view.notice(words.uploaded_not);
      }
    },
  };

  // --- in-app messages ---------------------------------------------------------------------------------------

  const inbox = {
    unread: 0, items: [],

    count(unread) { this.unread = unread; view.badge(); if (view.page === "inbox") this.load(); },

    async load() {
      try {
        const page = await session.call("GET", "/inbox");
        this.items = page.items;
        this.unread = page.unread;
      } catch (error) { this.items = []; }
      view.drawInbox();
      view.badge();
    },

    async readAll() {
      const newest = this.items[0];
      if (!newest || !this.unread) return;
      try { await session.call("POST", "/inbox/read-all", { json: { up_to_id: newest.id } }); } catch (error) { return; }
      this.unread = 0;
      view.badge();
    },
  };

  // --- what is seen ----------------------------------------------------------------------------------------------

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    Object.entries(attributes || {}).forEach(([key, value]) => {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value);
    });
    children.flat().forEach((child) => { if (child !== null && child !== undefined) made.append(child); });
    return made;
  }

  function safeUrl(text, schemes) {
    try {
      const url = new URL(text); // absolute only: what is relative would lead into the page
      return schemes.includes(url.protocol) ? url.href : "";
    } catch (error) { return ""; }
  }

  function anchor(url, label) {
    const href = safeUrl(url, ["http:", "https:", "mailto:", "tel:"]);
    if (!href) return document.createTextNode(label);
    return element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
  }

  // Text stays text; only what surely is a web address becomes a link.
  function linked(text) {
    const nodes = [];
    let from = 0;
    for (const found of text.matchAll(/https?:\/\/[^\s<>"'，。；！？、（）]+/g)) {
      nodes.push(document.createTextNode(text.slice(from, found.index)), anchor(found[0], found[0]));
      from = found.index + found[0].length;
    }
    nodes.push(document.createTextNode(text.slice(from)));
    return nodes;
  }

  const STYLE = `
    :host { all: initial; }
    * { box-sizing: border-box; font: 14px/1.5 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
    .button { position: fixed; right: 20px; bottom: 20px; width: 56px; height: 56px; border: 0; border-radius: 28px;
      background: var(--color); color: #fff; cursor: pointer; box-shadow: 0 4px 14px rgba(0,0,0,.25); z-index: 2147483000; }
    .button svg { width: 26px; height: 26px; vertical-align: middle; fill: none; stroke: #fff; stroke-width: 2; }
    .badge { position: absolute; top: -4px; right: -4px; min-width: 20px; padding: 0 5px; border-radius: 10px;
      background: #dc2626; color: #fff; font-size: 12px; line-height: 20px; text-align: center; }
    .panel { position: fixed; right: 20px; bottom: 88px; width: 360px; max-width: calc(100vw - 24px); height: 540px;
      max-height: calc(100vh - 110px); display: flex; flex-direction: column; background: #fff; border-radius: 14px;
      overflow: hidden; box-shadow: 0 10px 40px rgba(0,0,0,.25); z-index: 2147483000; }
    [hidden] { display: none !important; }
    header { display: flex; align-items: center; gap: 8px; padding: 12px 14px; background: var(--color); color: #fff; }
    header h1 { flex: 1; margin: 0; font-size: 16px; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    header button { border: 0; background: none; color: #fff; cursor: pointer; padding: 4px 6px; }
    .notice { padding: 6px 14px; background: #fef3c7; color: #78350f; font-size: 12px; }
    .list { flex: 1; overflow-y: auto; padding: 14px; background: #f3f4f6; display: flex; flex-direction: column; gap: 10px; }
    .row { display: flex; flex-direction: column; align-items: flex-start; max-width: 82%; }
    .row.mine { align-self: flex-end; align-items: flex-end; }
    .who, .state { font-size: 11px; color: #6b7280; margin: 0 4px; }
    .state button { border: 0; background: none; color: #2563eb; font-size: 11px; cursor: pointer; padding: 0 2px; }
    .bubble { padding: 8px 12px; border-radius: 12px; background: #fff; color: #111827; white-space: pre-wrap;
      overflow-wrap: anywhere; box-shadow: 0 1px 2px rgba(0,0,0,.08); }
    .mine .bubble { background: var(--color); color: #fff; }
    .mine .bubble a { color: #fff; }
    .bubble.gone { background: none; color: #6b7280; font-style: italic; box-shadow: none; }
    .bubble img, .bubble video { display: block; max-width: 100%; max-height: 240px; border-radius: 8px; }
    .bubble a { color: #2563eb; }
    .card b { display: block; }
    .quick { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }
    .quick button { border: 1px solid var(--color); border-radius: 14px; background: #fff; color: var(--color); padding: 3px 10px; cursor: pointer; }
    .typing { padding: 2px 16px; min-height: 20px; font-size: 12px; color: #6b7280; background: #f3f4f6; }
    form { display: flex; align-items: flex-end; gap: 6px; padding: 10px; border-top: 1px solid #e5e7eb; background: #fff; }
    textarea { flex: 1; resize: none; border: 1px solid #d1d5db; border-radius: 10px; padding: 8px 10px; max-height: 110px; color: #111827; background: #fff; }
    textarea:focus, button:focus-visible { outline: 2px solid var(--color); outline-offset: 1px; }
    form button { border: 0; border-radius: 10px; padding: 8px 12px; cursor: pointer; background: #f3f4f6; color: #374151; }
    form button.send { background: var(--color); color: #fff; }
    .item { background: #fff; border-radius: 10px; padding: 10px 12px; white-space: pre-wrap; overflow-wrap: anywhere; }
    .item.unread { border-left: 3px solid var(--color); }
    .item b { display: block; }
    .consent { padding: 16px; overflow-y: auto; flex: 1; white-space: pre-wrap; }
    .consent button { margin-top: 12px; border: 0; border-radius: 10px; padding: 10px 16px; background: var(--color); color: #fff; cursor: pointer; }
    @media (max-width: 480px) { .panel { right: 0; bottom: 0; width: 100vw; max-width: none; height: 100vh; max-height: none; border-radius: 0; } }
  `;

  const view = {
    opened: false, page: "chat", root: null, nodes: {}, observer: null, timers: new Map(), composing: false,

    build(config) {
      const host = element("div", { id: "omniline-widget" });
      this.root = host.attachShadow({ mode: "open" });
      const theme = config.theme || {};
      host.style.setProperty("--color", data.color || theme.color || "#1a56db");
      try {
        const sheet = new CSSStyleSheet(); // works under a strict content security policy as well
        sheet.replaceSync(STYLE);
        this.root.adoptedStyleSheets = [sheet];
      } catch (error) {
        this.root.append(element("style", {}, STYLE));
      }
      const nodes = this.nodes;
      nodes.badge = element("span", { class: "badge", hidden: "" });
      nodes.button = element("button", { class: "button", type: "button", "aria-label": words.open, onclick: () => this.toggle() },
        icon(), nodes.badge);
      nodes.title = element("h1", {}, data.title || theme.title || words.title);
      nodes.inbox = element("button", { type: "button", hidden: "", onclick: () => this.turn() }, words.inbox);
      nodes.notice = element("div", { class: "notice", role: "status", hidden: "" });
      nodes.status = element("div", { class: "notice", hidden: "" });
      nodes.list = element("div", { class: "list", role: "log", "aria-live": "polite" });
      nodes.items = element("div", { class: "list", hidden: "" });
      nodes.typing = element("div", { class: "typing" });
      nodes.text = element("textarea", { rows: "1", placeholder: words.placeholder, "aria-label": words.placeholder });
      nodes.file = element("input", { type: "file", hidden: "", onchange: () => this.picked() });
      nodes.form = element("form", { onsubmit: (event) => { event.preventDefault(); this.submit(); } },
        element("button", { type: "button", "aria-label": words.attach, title: words.attach, onclick: () => nodes.file.click() }, "＋"),
        nodes.file, nodes.text, element("button", { class: "send", type: "submit" }, words.send));
      nodes.panel = element("section", { class: "panel", role: "dialog", "aria-label": nodes.title.textContent, hidden: "" },
        element("header", {}, nodes.title, nodes.inbox,
          element("button", { type: "button", "aria-label": words.close, onclick: () => this.toggle(false) }, "✕")),
        nodes.status, nodes.notice, nodes.list, nodes.items, nodes.typing, nodes.form);
      this.listen();
      this.root.append(nodes.panel, nodes.button);
      document.body.append(host);
      if (theme.greeting) this.greeting = theme.greeting;
      if (!store.persistent) this.notice(words.memory);
    },

    listen() {
      const text = this.nodes.text;
      // Enter while an input method composes picks a word; it must not send half a sentence.
      text.addEventListener("compositionstart", () => { this.composing = true; });
      text.addEventListener("compositionend", () => { this.composing = false; });
      text.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || event.shiftKey) return;
        if (event.isComposing || event.keyCode === 229 || this.composing) return;
        event.preventDefault();
        this.submit();
      });
      text.addEventListener("input", () => {
        text.style.height = "auto";
        text.style.height = Math.min(text.scrollHeight, 110) + "px";
        chat.typed(Boolean(text.value.trim()));
      });
      text.addEventListener("paste", (event) => {
        const pasted = event.clipboardData && event.clipboardData.files;
        if (pasted && pasted.length) { event.preventDefault(); Array.from(pasted).forEach((file) => files.send(file)); }
      });
    },

    toggle(open) {
      this.opened = open === undefined ? !this.opened : open;
      this.nodes.panel.hidden = !this.opened;
      if (this.opened) {
        chat.unread = 0;
        this.badge();
        this.draw();
        this.nodes.text.focus();
        if (!session.token) begin();
      }
    },

    turn() {
      this.page = this.page === "chat" ? "inbox" : "chat";
      const chatting = this.page === "chat";
      this.nodes.list.hidden = this.nodes.form.hidden = this.nodes.typing.hidden = !chatting;
      this.nodes.items.hidden = chatting;
      this.nodes.inbox.textContent = chatting ? words.inbox : words.back;
      if (chatting) this.badge(); else inbox.load().then(() => inbox.readAll());
    },

    notice(text) { this.nodes.notice.textContent = text; this.nodes.notice.hidden = !text; },
    status(text) { this.nodes.status.textContent = text; this.nodes.status.hidden = !text; },
    typing(on) { this.nodes.typing.textContent = on ? words.typing : ""; },

    badge() {
      const count = chat.unread + inbox.unread;
      this.nodes.badge.textContent = count > 99 ? "99+" : String(count);
      this.nodes.badge.hidden = count === 0;
      this.nodes.inbox.hidden = !session.user;
      if (this.page === "chat") this.nodes.inbox.textContent = inbox.unread ? words.inbox + " (" + (inbox.unread > 99 ? "99+" : inbox.unread) + ")" : words.inbox;
    },

    submit() {
      const text = this.nodes.text.value.trim();
      if (!text) return;
      this.nodes.text.value = "";
      this.nodes.text.style.height = "auto";
      chat.typed(false);
      outbox.add([{ type: "text", text }]);
    },

    picked() {
      Array.from(this.nodes.file.files).forEach((file) => files.send(file));
      this.nodes.file.value = "";
    },

    draw() {
      if (!this.opened) return;
      const list = this.nodes.list;
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
      if (this.observer) this.observer.disconnect();
      this.observer = new IntersectionObserver((seen) => this.seen(seen), { root: list, threshold: 0.6 });
      const rows = chat.ordered().map((frame) => this.row(frame));
      chat.mine.forEach((held) => rows.push(this.waiting(held)));
      if (this.greeting) rows.unshift(this.frame("system", "", [element("div", { class: "bubble" }, this.greeting)]));
      list.replaceChildren(...rows);
      if (atEnd) list.scrollTop = list.scrollHeight;
    },

    frame(kind, name, children) {
      const mine = kind === "visitor";
      return element("div", { class: mine ? "row mine" : "row" },
        mine ? null : element("div", { class: "who" }, name || words[kind] || words.agent), children);
    },

    row(frame) {
      const mine = frame.sender.kind === "visitor";
      const children = [];
      if (frame.recalled) children.push(element("div", { class: "bubble gone" }, words.recalled));
      else (frame.parts || []).forEach((part) => children.push(bubble(part)));
      const notes = [];
      if (frame.edited && !frame.recalled) notes.push(words.edited);
      if (mine && !frame.recalled) notes.push(words[chat.state(frame)]);
      const state = element("div", { class: "state" }, notes.join(" · "));
      const age = (Date.now() - Date.parse(frame.ts)) / 1000;
      if (mine && !frame.recalled && age < (session.limits.recall_s || 0)) {
        state.append(" ", element("button", { type: "button", onclick: () => chat.recall(frame) }, words.recall));
      }
      children.push(state);
      const row = this.frame(frame.sender.kind, frame.sender.name, children);
      if (!mine) {
        row.omnilineFrame = frame;
        this.observer.observe(row);
      }
      return row;
    },

    waiting(held) {
      const state = element("div", { class: "state" }, words[held.state] || "");
      if (held.state === "failed") {
        state.append(" ", element("button", { type: "button", onclick: () => outbox.retry(held.client_msg_id) }, words.retry));
      }
      return this.frame("visitor", "", held.parts.map(bubble).concat(state));
    },

    // Read is what was in view for a second in a tab that is looked at.
    seen(entries) {
      entries.forEach((entry) => {
        const frame = entry.target.omnilineFrame;
        const key = frame.conversation_id + "/" + frame.seq;
        if (!entry.isIntersecting) { clearTimeout(this.timers.get(key)); this.timers.delete(key); return; }
        if (this.timers.has(key)) return;
        this.timers.set(key, setTimeout(() => {
          this.timers.delete(key);
          if (this.opened && !document.hidden) chat.receipt(frame.conversation_id, "read_seq", frame.seq);
        }, READ_AFTER_MS));
      });
    },

    drawInbox() {
      const rows = inbox.items.map((item) => element("div", { class: item.state === "unread" ? "item unread" : "item" },
        element("b", {}, item.title), linked(item.body || ""),
        element("div", {}, (item.actions || []).map((action) => [anchor(action.url, action.label), " "]).flat()),
        element("div", { class: "state" }, new Date(item.created_at).toLocaleString(locale || undefined))));
      this.nodes.items.replaceChildren(...(rows.length ? rows : [element("div", { class: "state" }, words.no_items)]));
    },

    consent(config) {
      const box = element("div", { class: "consent" }, config.consent.text || "",
        element("div", {}, element("button", { type: "button", onclick: () => {
          store.set("consent", config.consent.version);
          box.remove();
          this.nodes.list.hidden = this.nodes.form.hidden = false;
          begin();
        } }, words.agree)));
      this.nodes.list.hidden = this.nodes.form.hidden = true;
      this.nodes.panel.append(box);
    },
  };

  function icon() {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", "M4 5h16v11H9l-5 4z");
    svg.append(path);
    return svg;
  }

  function bubble(part) {
    const box = element("div", { class: "bubble" });
    const web = ["http:", "https:"];
    switch (part.type) {
      case "text": box.append(...linked(part.text || "")); break;
      case "image": {
        const src = safeUrl(part.url || "", web);
        box.append(src ? element("img", { src, alt: part.name || words.image }) : "[" + words.image + "]");
        break;
      }
      case "audio": case "video": {
        const src = safeUrl(part.url || "", web);
        box.append(src ? element(part.type, { src, controls: "" }) : "[" + (part.name || words.file) + "]");
        break;
      }
      case "file": box.append("📎 ", part.url ? anchor(part.url, part.name || words.file) : part.name || words.file); break;
      case "location": box.append("📍 " + (part.label || words.location) + " " + Number(part.lat).toFixed(5) + ", " + Number(part.lon).toFixed(5)); break;
      case "link": box.append(anchor(part.url, part.title || part.url)); break;
      case "card":
        box.classList.add("card");
        if (part.image && safeUrl(part.image.url || "", web)) box.append(element("img", { src: part.image.url, alt: "" }));
        box.append(element("b", {}, part.title || ""), ...linked(part.text || ""), choices(part.buttons || []));
        break;
      case "quick_replies": box.append(choices(part.replies || [])); break;
      case "form": box.append(Object.entries(part.answers || {}).map(([name, value]) => name + ": " + value).join("\n") || "…"); break;
      default: box.append("[" + part.type + "]");
    }
    return box;
  }

  function choices(buttons) {
    return element("div", { class: "quick" }, buttons.map((button) => button.url
      ? anchor(button.url, button.label || button.url)
      : element("button", { type: "button", onclick: () => outbox.add([{ type: "text", text: button.value || button.label }]) }, button.label || "")));
  }

  // --- begin -----------------------------------------------------------------------------------------------------

  let config = {};
  let beginning = null;

  function begin() {
    if (!beginning) {
      beginning = start().catch((error) => {
        if (error.code === "consent_required") { store.set("consent", ""); view.consent(config); return; }
        link.lost(error);
        if (!link.stopped) setTimeout(begin, Math.max(error.retryMs || 0, 5000));
      }).finally(() => { beginning = null; });
    }
    return beginning;
  }

  async function start() {
    const consent = config.consent || {};
    if (consent.version && store.get("consent") !== consent.version) { if (view.opened) view.consent(config); return; }
    view.notice(words.connecting);
    const told = await session.open();
    if (told.inbox) inbox.count(told.inbox.unread || 0);
    chat.available(told.availability);
    outbox.items.forEach((item) => chat.pending(item));
    link.start();
    await chat.history();
    view.badge();
  }

  async function load() {
    try {
      config = await http("GET", "/config");
    } catch (error) {
      setTimeout(load, 30000);
      return;
    }
    if (!config.enabled) return;
    view.build(config);
    // Nobody is counted who only looks at the page; those who came before are greeted at once.
    if (store.get("visitor_token") || session.identity) begin();
    if (data.open === "true") view.toggle(true);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !session.token) return;
    if (view.opened) { chat.unread = 0; view.badge(); view.draw(); }
    link.check();
  });
  window.addEventListener("online", () => { if (session.token) { link.tries = 0; link.check(); } });
  window.addEventListener("offline", () => { if (view.nodes.notice) view.notice(words.offline); });
  window.addEventListener("pageshow", (event) => { if (event.persisted && session.token) link.check(); });

  window.Omniline = {
    open: () => view.toggle(true),
    close: () => view.toggle(false),
    /* Log the visitor in: `identity` returns (a promise of) a fresh token of the site's server. */
    identify(identity) {
      session.identity = async () => identity();
      if (!session.token) return begin();
      return session.refresh().then(() => chat.refetch());
    },
    /* Log out: everything that this browser kept is forgotten. */
    async logout() {
      session.identity = null;
      try { if (session.token) await http("POST", "/logout", { token: session.token, json: {} }); } finally {
        link.stop();
        store.clear();
        session.token = session.visitor = session.cursor = "";
        session.conversations = [];
        session.user = null;
        chat.messages.clear();
        chat.mine.clear();
        outbox.items = [];
        inbox.items = [];
        inbox.unread = chat.unread = 0;
        view.draw();
        view.badge();
      }
      return begin();
    },
  };

  if (document.body) load(); else document.addEventListener("DOMContentLoaded", load);
})();
