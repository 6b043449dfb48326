// One server as its user sees it on the hub's home page, and an admin for everybody.

import { Chart, Columns, MEMORY_STEPS } from "./chart.js";
import { element, notice, say } from "./dom.js";
import { cores, memory, memoryOf, number, percent, sentence, time } from "./words.js";

const KEYS = ["at", "cpu", "memory", "throttled", "cpu_pressure", "memory_pressure", "io_pressure", "cpu_limit", "mem_limit"];
const STATES = { queued: "waiting in the queue", pending: "starting", bound: "running", released: "ended" };

/** Its state in words, two charts, and what can be done: `resize` is called by a button, if it is given. */
export class Panel {
  constructor(title, resize = null) {
    this.columns = new Columns(KEYS);
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
    this.button = resize && element("button", { type: "button", class: "enf-button", onclick: resize }, "Resize");
    this.header = element("header", {}, this.title = element("h2", {}, title), this.state, this.button);
    this.element = element("section", { class: "enf-panel", "aria-label": title }, this.header,
      this.about, this.slowed, this.warning, this.events,
      this.factList = element("dl", { class: "enf-facts" }, ...Object.entries(this.facts).map(([name, value]) => element("div", {}, element("dt", {}, name), value))),
      this.charts = element("div", { class: "enf-charts" }, this.cpu.element, this.memory.element));
  }

  update({ lease, summary, slowed_by, held_back, warning, notes, events, samples }, now) {
    // a sample knows of its own quota; that one above ran out is known of the last tick
    if (samples.at.length) samples.throttled[samples.at.length - 1] = held_back;
    this.columns.add(samples);
    const running = lease.state === "bound";
    this.showState(lease.state);
    const until = lease.resized_until ? ` Resized until ${time(lease.resized_until)}.` : "";
    const queue = lease.queue ? ` Number ${lease.queue.place} in line: ${lease.queue.sentence}.` : "";
    say(this.about, `Profile ${lease.profile}, image ${lease.image}: up to ${cores(lease.cpu_limit)} and ${memory(lease.mem_limit)}${promised(lease)}.${until}${queue} ${notes.map((one) => `${capital(one)}.`).join(" ")}`.trim());
    this.slowed.hidden = !slowed_by;
    say(this.slowed, slowed_by ? `Slowed by: ${slowed_by}` : "");
    this.slowed.title = summary;
    notice(this.warning, "warn", warning && "Memory is running out.", warning);
    this.events.replaceChildren(...events.map((one) => element("li", {}, sentence(one.sentence, one.at))));
    this.charts.hidden = this.factList.hidden = !running;
    if (this.button) this.button.hidden = !running;
    this.showFacts(lease);
    if (running) this.draw(lease, now);
  }

  showState(state) {
    say(this.state, STATES[state] || state);
    this.state.dataset.state = state;
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

  /** Nobody looks at it any more. */
  end() {
    this.cpu.end();
    this.memory.end();
  }
}

function promised(lease) {
  if (!lease.cpu_guarantee && !lease.mem_guarantee) return "";
  return `, ${cores(lease.cpu_guarantee)} and ${memory(lease.mem_guarantee)} of it guaranteed`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
