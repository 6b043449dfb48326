// The machine view: the machine, everybody's servers together, and mine. Nobody else has a name here.

import { ownService, repeat, trouble } from "./api.js";
import { Chart, Columns, MEMORY_STEPS } from "./chart.js";
import { bar, element, notice, say, svg } from "./dom.js";
import { cores, memory, memoryOf, number, percent, time } from "./words.js";

const KEYS = ["at", "machine_cpu", "hub_cpu", "mine_cpu", "machine_memory", "hub_memory", "mine_memory"];
const service = ownService();
const columns = new Columns(KEYS);
const place = document.getElementById("enforcer-notice");
const view = document.getElementById("enforcer-machine");
const lines = [
  { label: "machine", color: "machine" },
  { label: "all servers", color: "hub", fill: true },
  { label: "mine", color: "mine", fill: true },
  { label: "capacity", color: "limit", dash: true, quiet: true },
];
const cpu = new Chart({ title: "CPU, cores", format: number, series: lines });
const mem = new Chart({ title: "Memory", format: memory, steps: MEMORY_STEPS, series: lines });
document.getElementById("enforcer-charts").append(cpu.element, mem.element);
let seconds = 2;

repeat(async () => {
  let now;
  try {
    now = await service.get(`api/machine?since=${columns.last}`);
  } catch (error) {
    old(error);
    return false;
  }
  if (now.trouble) old(now.trouble);
  else {
    notice(place, "info", "");
    view.classList.remove("enf-old");
  }
  seconds = now.poll_seconds;
  columns.add(now.series);
  if (now.machine) show(now);
  return true;
}, () => seconds);

function old(error) {
  const [title, text] = trouble(error);
  notice(place, "bad", title, columns.last ? `${text} Last seen at ${time(columns.last, true)}.` : text);
  view.classList.add("enf-old");
}

function show({ at, machine, groups, mine, others, waiting }) {
  const times = columns.of("at");
  cpu.update([times, ...["machine_cpu", "hub_cpu", "mine_cpu"].map((key) => columns.of(key)), times.map(() => machine.capacity.cpu)], at);
  mem.update([times, ...["machine_memory", "hub_memory", "mine_memory"].map((key) => columns.of(key)), times.map(() => machine.capacity.memory)], at);
  tile("cpu", `${number(machine.used.cpu)} of ${cores(machine.capacity.cpu)}`, "", machine.used.cpu / machine.capacity.cpu);
  tile("memory", memoryOf(machine.used.memory, machine.capacity.memory), "", machine.used.memory / machine.capacity.memory);
  tile("promised", `${cores(machine.promised.cpu)} and ${memory(machine.promised.memory)}`, "promised", Math.max(machine.promised.cpu / machine.workload.cpu, machine.promised.memory / machine.workload.memory));
  tile("pressure", `${percent(machine.pressure.cpu)} CPU, ${percent(machine.pressure.memory)} memory`, "", Math.max(machine.pressure.cpu, machine.pressure.memory));
  const running = mine.length + others.length;
  say(document.getElementById("enforcer-sentence"), `${machine.sentence}. ${running} ${running === 1 ? "server runs" : "servers run"}, ${mine.length} of them yours${waiting ? `; ${waiting} in the queue` : ""}.`);
  strip("cpu", mine, others, (one) => one.cpu, machine.workload.cpu, cores);
  strip("memory", mine, others, (one) => one.memory, machine.workload.memory, memory);
  showGroups(groups);
}

function tile(name, text, fixed, share) {
  const tile = document.querySelector(`[data-tile=${name}]`);
  say(tile.querySelector("dd"), text);
  const track = tile.querySelector("svg");
  const kind = fixed || (share > 0.95 ? "bad" : share > 0.8 ? "warn" : "used");
  const fresh = bar([{ share, kind }], 6);
  if (track) track.replaceWith(fresh);
  else tile.append(fresh);
}

/** Every server as a piece of one bar: mine first, then the others, the largest first. */
function strip(name, mine, others, amount, whole, format) {
  const row = document.querySelector(`[data-strip=${name}]`);
  const pieces = [...mine.map((one) => [amount(one), "mine"]), ...[...others].map((one) => [amount(one), "hub"]).sort((a, b) => b[0] - a[0])];
  let left = 0;
  const drawn = svg("svg", { width: "100%", height: 26, class: "enf-strip", "aria-hidden": "true" },
    svg("rect", { class: "enf-bar-whole", width: "100%", height: 26, rx: 4 }),
    ...pieces.map(([size, kind]) => {
      const share = (100 * size) / whole;
      const piece = svg("rect", { class: `enf-piece enf-piece-${kind}`, x: `${left.toFixed(2)}%`, width: `${Math.max(0, Math.min(share, 100 - left)).toFixed(2)}%`, height: 26 },
        svg("title", {}, `${kind === "mine" ? "mine" : "somebody's"}: ${format(size)}`));
      left = Math.min(100, left + share);
      return piece;
    }));
  row.querySelector("svg")?.remove();
  row.append(drawn);
  const sum = (list) => list.reduce((total, one) => total + amount(one), 0);
  say(row.querySelector(".enf-bar-sentence"), `mine ${format(sum(mine))} · others ${format(sum(others))} · of ${format(whole)}`);
}

function showGroups(groups) {
  const body = document.getElementById("enforcer-groups");
  body.closest("section").hidden = !groups.length;
  body.replaceChildren(...groups.map((one) => element("tr", {},
    element("th", { scope: "row", "data-label": "Profile" }, one.title.replace(/^profile /, "")),
    ...(one.untold ? [element("td", { "data-label": "In use", colspan: 3 }, one.untold)] : used(one)))));
}

function used(one) {
  return [
    element("td", { "data-label": "CPU" }, one.cpu_limit === null ? cores(one.used.cpu) : `${number(one.used.cpu)} of ${cores(one.cpu_limit)}`),
    element("td", { "data-label": "Memory" }, one.mem_limit === null ? memory(one.used.memory) : memoryOf(one.used.memory, one.mem_limit)),
    element("td", { "data-label": "Held back" }, percent(one.throttled)),
  ];
}
