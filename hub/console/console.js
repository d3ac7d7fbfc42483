// Keeps a page up to date. Everything that is shown is put in as text, never as markup.
"use strict";

const page = document.body.dataset;
const RETRY_MS = 3000;
const POLL_MS = 5000;

// --- times, in the zone of this browser ----------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    time.title = whole.format(at);
    if (time.closest(".lines")) time.textContent = clock.format(at);
    else if ("short" in time.dataset) time.textContent = short(at);
    else time.textContent = date.format(at);
  }
}

function short(at) {
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return clock.format(at);
  return now.getFullYear() === at.getFullYear() ? day.format(at) : date.format(at);
}

function dayLines(list) {
  for (const old of list.querySelectorAll(".day")) old.remove();
  let before = "";
  for (const line of [...list.children]) {
    const at = new Date(line.dataset.at);
    if (at.toDateString() !== before) {
      before = at.toDateString();
      const sameYear = at.getFullYear() === new Date().getFullYear();
      list.insertBefore(make("li", "day", (sameYear ? day : date).format(at)), line);
    }
  }
}

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

// --- the feed ------------------------------------------------------------------------------------

// Follows the feed for ever; calls `news` when something happened, `state` when the line changes.
// Only that something happened matters here, so the events are not taken apart.
async function follow(query, cursor, news, state) {
  for (;;) {
    try {
      const url = `${page.base}/feed/v1/stream?${query}&cursor=${encodeURIComponent(cursor)}`;
      const answer = await fetch(url, { headers: { Accept: "text/event-stream" } });
      if (answer.status === 401) return state("off", "Signed out: sign in again");
      if (answer.status === 403) return poll(news);
      if (answer.status === 410 || answer.status === 400) cursor = "tail";
      if (answer.ok) {
        state("on", "Live");
        cursor = await readAll(answer.body.getReader(), cursor, news);
      }
    } catch (error) {
      console.debug("the stream ended", error);
    }
    state("off", "Connecting …");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

async function readAll(reader, cursor, news) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) return cursor;
    const rows = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = rows.pop();
    for (const row of rows) {
      if (row.startsWith("id: ")) cursor = row.slice(4);
      else if (row.startsWith("data: ")) news();
    }
  }
}

function poll(news) {
  setInterval(news, POLL_MS);
}

function showState(kind, text) {
  const live = document.getElementById("live");
  if (!live) return;
  live.hidden = false;
  live.className = `live ${kind}`;
  live.textContent = text;
}

// --- a customer's page ---------------------------------------------------------------------------

const list = document.getElementById("lines");
const scroll = document.getElementById("scroll");
let latest = page.latest;
let asking = null;
let again = false;
let atEnd = true; // the reader follows what is new; also while pictures arrive
let chosen = false; // the agent picked an address: it stays

// Brings the page up to date; calls that come meanwhile are answered by one more round.
function refresh() {
  if (asking) {
    again = true;
    return asking;
  }
  asking = update()
    .catch((error) => console.debug("not refreshed", error))
    .finally(() => {
      asking = null;
      if (again) {
        again = false;
        refresh();
      }
    });
  return asking;
}

async function update() {
  const answer = await fetch(`${page.base}/console/customers/${page.customer}/lines`);
  if (answer.status === 410 || answer.status === 404) return location.reload();
  if (!answer.ok) return;
  const told = await answer.json();
  latest = told.latest;
  showLines(told.lines);
  showDealings(told.dealings);
  followSpeaker(told.speaks);
}

function keepEnd() {
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
}

// An answer goes where the customer spoke last, unless the agent chose or has begun to write.
function followSpeaker(address) {
  const form = document.getElementById("answer");
  if (!form || chosen || form.elements.text.value) return;
  const usual = [...form.elements.address.options].filter((each) => !each.dataset.account);
  const option = usual.find((each) => each.value === address);
  if (option) option.selected = true;
}

// Lines that are older than what was told stay; within it, what is not told any more goes.
function showLines(lines) {
  const held = new Map([...list.querySelectorAll(".line")].map((line) => [line.dataset.id, line]));
  const since = lines.length ? Date.parse(lines[0].at) : Infinity;
  const told = new Set(lines.map((line) => line.id));
  for (const [id, line] of held) {
    if (!told.has(id) && Date.parse(line.dataset.at) >= since) line.remove();
  }
  for (const old of list.querySelectorAll(".day")) old.remove();
  let next = null;
  for (const line of [...lines].reverse()) {
    let element = held.get(line.id);
    if (!element || element.dataset.version !== line.version) {
      const fresh = makeLine(line);
      if (element) element.replaceWith(fresh);
      else fresh.classList.add("fresh");
      element = fresh;
    }
    if (element.parentNode !== list || element.nextElementSibling !== next) {
      list.insertBefore(element, next);
    }
    next = element;
  }
  const empty = document.getElementById("empty");
  if (empty && lines.length) empty.remove();
  localTimes(list);
  dayLines(list);
}

function makeLine(line) {
  const item = make("li", `line ${line.kind} ${line.side || ""}`);
  item.dataset.id = line.id;
  item.dataset.version = line.version;
  item.dataset.at = line.at;
  const card = make("div", "card");
  const meta = make("div", "meta");
  if (line.channel) meta.append(make("span", `badge h${line.hue || 0}`, line.channel));
  if (line.kind === "note") meta.append(make("span", "badge note", "Note"));
  if (line.who) meta.append(make("span", "who", line.who));
  const time = make("time");
  time.dateTime = line.at;
  meta.append(time);
  for (const flag of line.flags || []) meta.append(make("span", "flag", flag));
  card.append(meta);
  if (line.subject) card.append(worded("p", "subject", line.subject));
  const body = make("div", "body");
  for (const block of line.blocks || []) body.append(makeBlock(block));
  card.append(body);
  if (line.state) {
    const state = make("div", `state ${line.tone || ""}`, line.state);
    if (line.why) state.append(make("span", "why", line.why));
    card.append(state);
  }
  item.append(card);
  return item;
}

function makeBlock(block) {
  if (block.kind === "image") {
    const link = makeLink("pic", "", block.url);
    const image = make("img");
    image.src = block.thumb || block.url;
    image.alt = block.text;
    link.append(image);
    return link;
  }
  if (block.kind === "link" && block.url) return makeLink("out", block.text, block.url);
  if (block.kind === "quoted") {
    const folded = make("details", "quoted");
    folded.append(make("summary", "", "Quoted text"), worded("p", "", block.text));
    return folded;
  }
  return worded("p", block.kind === "hint" ? "hint" : "", block.text);
}

function makeLink(name, text, url) {
  const link = make("a", name, text);
  if (/^(https?:\/\/|\/)/.test(url)) link.href = url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

function worded(tag, name, text) {
  const element = make(tag, name, text);
  element.dir = "auto";
  return element;
}

function showDealings(dealings) {
  const items = dealings.map((each) => {
    const item = make("li");
    item.append(make("span", `pill ${each.state}`, each.state));
    item.append(make("span", "what", each.subject || "Conversation"));
    for (const fact of each.facts) item.append(make("span", "fact", fact));
    for (const ticket of each.tickets) {
      const shown = make("span", "ticket", ticket.url ? "" : ticket.text);
      if (ticket.url) shown.append(makeLink("", ticket.text, ticket.url));
      item.append(shown);
    }
    return item;
  });
  document.getElementById("dealings").replaceChildren(...items);
}

// --- answering -----------------------------------------------------------------------------------

function prepareAnswer(form) {
  const { text, address } = form.elements;
  const button = form.querySelector("button");
  const problem = document.getElementById("problem");
  const count = document.getElementById("count");
  let key = "";
  let sending = false;
  let anyway = false;

  // Returns whether the text may be sent as it is.
  function weigh() {
    const most = Number(address.selectedOptions[0].dataset.most);
    const length = [...text.value].length;
    const over = most > 0 && length > most;
    count.textContent = most && length > most * 0.8 ? `${length} of ${most}` : "";
    count.classList.toggle("over", over);
    button.disabled = sending || over;
    return !over && text.value.trim() !== "";
  }

  // Returns by which account an answer leaves, where that was chosen: to text a caller.
  function way(option) {
    const { channel, account } = option.dataset;
    return account ? { channel, account } : {};
  }

  function say(what) {
    problem.textContent = what;
    problem.hidden = !what;
  }

  async function send() {
    if (sending || !weigh()) return;
    sending = true;
    key = key || newKey(); // the same for every try, so that a lost answer sends nothing twice
    weigh();
    say("");
    try {
      const answer = await fetch(`${page.base}/api/v1/customers/${page.customer}/replies`, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          "Idempotency-Key": key,
          "X-Omniline-Request": "console",
        },
        body: JSON.stringify({
          address: address.value,
          ...way(address.selectedOptions[0]),
          parts: [{ type: "text", text: text.value }],
          seen_up_to: latest,
          ...(anyway ? { anyway } : {}),
          agent_name: page.me,
        }),
      });
      if (answer.ok) {
        text.value = "";
        key = "";
        anyway = false;
        atEnd = true;
        await refresh();
        keepEnd();
      } else {
        await refused(answer);
      }
    } catch (error) {
      console.debug("not sent", error);
      say("The hub cannot be reached. Your text is still here: try again.");
    } finally {
      sending = false;
      weigh();
    }
  }

  async function refused(answer) {
    const told = await answer.json().catch(() => ({}));
    const kind = String(told.type || "").split("/").pop();
    if (answer.status < 500) key = "";
    if (kind === "conversation-moved-on") {
      await refresh();
      say("Somebody wrote in the meantime. Read it above, then send again.");
    } else if (told.gone_at) {
      anyway = true; // from now on it is this person's decision
      say(`What was sent to this address came back (${told.gone_at.slice(0, 10)}). Send again to try all the same.`);
    } else if (answer.status === 401) {
      say("You are signed out. Sign in again; your text is still here.");
    } else {
      say(told.detail ? `Not sent: ${told.detail}.` : "Not sent. Try again.");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) send();
  });
  text.addEventListener("input", () => {
    key = "";
    weigh();
  });
  address.addEventListener("change", () => {
    chosen = true;
    key = "";
    anyway = false;
    weigh();
  });
  weigh();
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- start ---------------------------------------------------------------------------------------

localTimes(document);
if (page.page === "customer") {
  dayLines(list);
  atEnd = page.cursor !== "";
  keepEnd();
  scroll.addEventListener("scroll", () => {
    atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  });
  new ResizeObserver(keepEnd).observe(list);
  const side = document.querySelector(".side details");
  if (matchMedia("(max-width: 860px)").matches) side.open = false;
  const form = document.getElementById("answer");
  if (form) prepareAnswer(form);
  const state = (kind, text) => {
    showState(kind, text);
    if (kind === "on") refresh(); // what happened while nobody listened
  };
  if (page.cursor) follow(`customer=${page.customer}`, page.cursor, refresh, state);
}
if (page.page === "customers" && page.cursor) {
  const news = document.getElementById("news");
  const tell = () => {
    news.hidden = false;
  };
  follow("types=message.*", page.cursor, tell, () => {});
}
