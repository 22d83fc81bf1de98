/**
 * Shows the client at work: messages, the transport that carries them and why, and a network to break. The client comes from
 * the broker itself. `?broker=` says where that is, `?topic=` what to listen to, `?tabs` shares one connection among tabs.
 */
import { BreakableNetwork, FAULTS } from "./network.js";

const query = new URLSearchParams(location.search);
const broker = new URL(query.get("broker") ?? "http://localhost:8245/", location.href).href.replace(/\/?$/, "/");
const topic = query.get("topic") ?? "example/chat";
const at = (id) => document.getElementById(id);
const network = new BreakableNetwork();

try {
  await run();
} catch (error) {
  note(at("why"), `No broker at ${broker}: start one that lets this page in, by tailwire serve --allow-origin ${location.origin}. (${error.message})`);
}

async function run() {
  const { connect } = await import(`${broker}client.mjs`);
  const sharing = query.has("tabs") && (await import(`${broker}client-tabs.mjs`)).tabs();
  const hub = connect(broker, { fetch: network.fetch, WebSocket: network.WebSocket, tabs: sharing || undefined });
  showLadder(hub);
  showMessages(hub);
  showFaults();
  at("sharing").textContent = sharing ? "· shared with the other tabs of this browser" : "";
}

function showLadder(hub) {
  const transports = new Map(["websocket", "stream", "long-poll", "poll"].map((name) => [name, line(at("transports"), name)]));
  const results = new Map([...transports].map(([name, item]) => [name, item.appendChild(document.createElement("span"))]));
  hub.on("state", (state) => {
    at("state").textContent = at("state").dataset.state = state;
  });
  hub.on("transport", ({ from, to, why }) => {
    for (const [name, item] of transports) item.classList.toggle("now", name === to);
    note(at("why"), `${from ? `${from} → ` : ""}${to}: ${why}`);
  });
  at("probe").onclick = async () => {
    for (const result of results.values()) result.textContent = "…";
    for (const [name, { ok, ms, why }] of Object.entries(await hub.probe())) results.get(name).textContent = ok ? `${Math.round(ms)} ms` : why;
  };
}

function showMessages(hub) {
  at("topic").textContent = topic;
  const messages = hub.subscribe(topic, { last: 20 });
  const counts = { messages: 0, twice: 0, gaps: 0 };
  let last = "";
  const count = (what) => {
    counts[what]++;
    at("count").textContent = `${counts.messages} messages; ${counts.twice} came twice, ${counts.gaps} gaps`;
  };
  messages.on("message", ({ data, time, cursor }) => {
    note(at("messages"), typeof data === "string" ? data : JSON.stringify(data), new Date(time));
    count(cursor > last ? "messages" : "twice");
    last = cursor;
  });
  messages.on("gap", ({ from, reason }) => {
    note(at("messages"), `Messages are gone: ${reason}`).classList.add("note");
    count("gaps");
    last = from;
  });
  messages.on("error", (error) => note(at("messages"), error.message).classList.add("note"));

  const publish = (text) => hub.publish(topic, text, { type: "text/plain" }).catch((error) => note(at("messages"), `Not published: ${error.message}`).classList.add("note"));
  at("publish").onsubmit = (event) => {
    event.preventDefault();
    const { text } = event.target.elements;
    if (text.value) void publish(text.value);
    text.value = "";
  };
  let timer;
  let ticks = 0;
  at("chatter").onchange = ({ target }) => {
    clearInterval(timer);
    if (target.checked) timer = setInterval(() => publish(`tick ${++ticks}`), 1000);
  };
}

function showFaults() {
  for (const [part, faults] of Object.entries(FAULTS)) {
    const set = at("faults").appendChild(document.createElement("fieldset"));
    set.appendChild(document.createElement("legend")).textContent = { websocket: "WebSocket", stream: "Streams", http: "All requests" }[part];
    for (const fault of faults) {
      const label = set.appendChild(document.createElement("label"));
      const input = label.appendChild(document.createElement("input"));
      Object.assign(input, { type: "radio", name: part, value: fault, checked: fault === faults[0] });
      input.onchange = () => {
        network[part] = fault;
        network.cut();
      };
      label.append(` ${fault}`);
    }
  }
  at("cut").onclick = () => network.cut();
}

/** A line at the end of a list. */
function line(list, text) {
  const item = list.appendChild(document.createElement("li"));
  item.append(text);
  return item;
}

/** The same with the time of day, in sight; a list keeps the newest hundred. */
function note(list, text, time = new Date()) {
  const item = line(list, text);
  const stamp = document.createElement("time");
  stamp.textContent = time.toLocaleTimeString();
  item.prepend(stamp);
  if (list.childElementCount > 100) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
  return item;
}
