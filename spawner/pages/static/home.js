// The user's servers on the hub's home page: what they use, what holds them back, what became of the last ones.

import { fromHub, repeat, trouble } from "./api.js";
import { Chart, Columns, MEMORY_STEPS } from "./chart.js";
import { element, notice, say } from "./dom.js";
import { openResize } from "./resize.js";
import { cores, duration, memory, memoryOf, number, percent, sentence, time } from "./words.js";

const KEYS = ["at", "cpu", "memory", "throttled", "cpu_pressure", "memory_pressure", "io_pressure", "cpu_limit", "mem_limit"];
const STATES = { queued: "waiting in the queue", pending: "starting", bound: "running", released: "ended" };

const page = document.getElementById("enforcer-home");
if (page) start(page);

function start(page) {
  const service = fromHub(page.dataset);
  const place = document.getElementById("enforcer-notice");
  const servers = document.getElementById("enforcer-servers");
  const panels = new Map();
  let seconds = 2;
  let first = true;
  const look = repeat(async () => {
    const known = [...panels.values()].map((one) => one.columns.last);
    const since = known.length && known.every(Boolean) ? Math.min(...known) : 0;
    let mine;
    try {
      mine = await service.get(`api/mine?since=${since}`);
    } catch (error) {
      notice(place, "bad", ...trouble(error));
      page.classList.add("enf-old");
      if (first) servers.replaceChildren();
      return false;
    }
    notice(place, "info", "");
    page.classList.remove("enf-old");
    seconds = Math.max(1, mine.tick_seconds);
    show(mine, servers, panels, (lease, title) => openResize(service, lease, title, look).catch((error) => notice(place, "bad", ...trouble(error))));
    showReceipts(mine.receipts);
    first = false;
    return true;
  }, () => seconds);
}

function show(mine, place, panels, resize) {
  const ids = new Set(mine.servers.map((one) => one.lease.id));
  for (const [id, panel] of panels) {
    if (!ids.has(id)) {
      panel.element.remove();
      panels.delete(id);
    }
  }
  if (!mine.servers.length) {
    if (!place.querySelector(".enf-none")) place.replaceChildren(element("p", { class: "enf-hint enf-none" }, "You have no server running. When you have, you see here what it uses."));
    return;
  }
  for (const one of mine.servers) {
    if (!panels.has(one.lease.id)) {
      if (!panels.size) place.replaceChildren();
      const made = new Panel(one.lease, resize);
      panels.set(one.lease.id, made);
      place.append(made.element);
    }
    panels.get(one.lease.id).update(one, mine.at);
  }
}

/** One server: its state in words, two charts, and what can be done. */
class Panel {
  constructor(lease, resize) {
    this.columns = new Columns(KEYS);
    const title = lease.server ? `Server ${lease.server}` : "My server";
    this.state = element("span", { class: "enf-badge" });
    this.about = element("p", { class: "enf-hint" });
    this.slowed = element("p", { class: "enf-slowed", hidden: true });
    this.warning = element("div", { "aria-live": "polite" });
    this.events = element("ul", { class: "enf-events" });
    this.facts = Object.fromEntries(["CPU", "Memory", "Held back", "Waiting for CPU", "Waiting for memory"].map((name) => [name, element("dd")]));
    this.cpu = new Chart({
      title: "CPU, cores",
      format: number,
      series: [
        { label: "used", color: "mine", fill: true },
        { label: "limit", color: "limit", dash: true, step: true },
        { label: "held back", color: "bad", fill: true, scale: "share", format: percent },
      ],
    });
    this.memory = new Chart({
      title: "Memory",
      format: memory,
      steps: MEMORY_STEPS,
      series: [
        { label: "used", color: "mine", fill: true },
        { label: "limit", color: "limit", dash: true, step: true },
        { label: "guaranteed", color: "good", dash: true },
      ],
    });
    this.button = element("button", { type: "button", class: "enf-button", onclick: () => resize(lease.id, `Resize: ${title}`) }, "Resize");
    this.element = element("section", { class: "enf-panel", "aria-label": title },
      element("header", {}, element("h2", {}, title), this.state, this.button),
      this.about, this.slowed, this.warning, this.events,
      this.factList = element("dl", { class: "enf-facts" }, ...Object.entries(this.facts).map(([name, value]) => element("div", {}, element("dt", {}, name), value))),
      this.charts = element("div", { class: "enf-charts" }, this.cpu.element, this.memory.element));
  }

  update({ lease, summary, slowed_by, held_back, warning, notes, events, samples }, now) {
    // a sample knows of its own quota; that one above ran out is known of the last tick
    if (samples.at.length) samples.throttled[samples.at.length - 1] = held_back;
    this.columns.add(samples);
    const running = lease.state === "bound";
    say(this.state, STATES[lease.state] || lease.state);
    this.state.dataset.state = lease.state;
    const until = lease.resized_until ? ` Resized until ${time(lease.resized_until)}.` : "";
    const queue = lease.queue ? ` Number ${lease.queue.place} in line: ${lease.queue.sentence}.` : "";
    say(this.about, `Profile ${lease.profile}, image ${lease.image}: up to ${cores(lease.cpu_limit)} and ${memory(lease.mem_limit)}${promised(lease)}.${until}${queue} ${notes.map((one) => `${capital(one)}.`).join(" ")}`.trim());
    this.slowed.hidden = !slowed_by;
    say(this.slowed, slowed_by ? `Slowed by: ${slowed_by}` : "");
    this.slowed.title = summary;
    notice(this.warning, "warn", warning && "Memory is running out.", warning);
    this.events.replaceChildren(...events.map((one) => element("li", {}, sentence(one.sentence, one.at))));
    this.charts.hidden = this.button.hidden = this.factList.hidden = !running;
    this.showFacts(lease);
    if (running) this.draw(lease, now);
  }

  showFacts(lease) {
    const last = (key) => this.columns.of(key).at(-1) ?? 0;
    say(this.facts.CPU, `${number(last("cpu"))} of ${cores(lease.cpu_limit)}`);
    say(this.facts.Memory, memoryOf(last("memory"), lease.mem_limit));
    say(this.facts["Held back"], percent(last("throttled")));
    say(this.facts["Waiting for CPU"], percent(last("cpu_pressure")));
    say(this.facts["Waiting for memory"], percent(last("memory_pressure")));
  }

  draw(lease, now) {
    const at = this.columns.of("at");
    const flat = (value) => at.map(() => value);
    this.cpu.update([at, this.columns.of("cpu"), this.columns.of("cpu_limit"), this.columns.of("throttled")], now);
    this.memory.update([at, this.columns.of("memory"), this.columns.of("mem_limit"), flat(lease.mem_guarantee || null)], now);
  }
}

function promised(lease) {
  if (!lease.cpu_guarantee && !lease.mem_guarantee) return "";
  return `, ${cores(lease.cpu_guarantee)} and ${memory(lease.mem_guarantee)} of it guaranteed`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function showReceipts(receipts) {
  const place = document.getElementById("enforcer-receipts");
  const key = receipts.map((one) => one.id).join();
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.hidden = !receipts.length;
  place.replaceChildren(
    element("h2", {}, "Servers that ended"),
    element("ul", { class: "enf-receipts" }, ...receipts.map((one) =>
      element("li", { class: one.bad ? "enf-receipt enf-receipt-bad" : "enf-receipt" },
        element("strong", {}, sentence(one.sentence, one.ended_at)),
        element("span", { class: "enf-hint" }, one.memory_peak ? `${one.detail} It ran for ${duration(one.ended_at - one.started_at)}.` : one.detail)))));
}
