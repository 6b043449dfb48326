// Everyone, for admins: sorted as they like, with what can be done about it.

import { ownService, repeat, trouble } from "./api.js";
import { bar, element, notice, say, setBar } from "./dom.js";
import { openFollow } from "./follow.js";
import { openResize } from "./resize.js";
import { cores, duration, memory, memoryOf, number, percent, sentence, time } from "./words.js";

const COLUMNS = {
  user: (lease) => lease.user,
  server: (lease) => lease.server,
  profile: (lease) => lease.profile,
  state: (lease) => lease.state,
  cpu: (lease) => lease.usage?.cpu ?? -1,
  memory: (lease) => lease.usage?.memory ?? -1,
  guarantee: (lease) => lease.mem_guarantee,
  throttled: (lease) => lease.usage?.throttled ?? -1,
  since: (lease) => -lease.created_at,
};
const NUMBERS = new Set(["cpu", "memory", "guarantee", "throttled"]);
const STATES = { queued: "queued", pending: "starting", bound: "running" };

const service = ownService();
const place = document.getElementById("enforcer-notice");
const outcome = document.getElementById("enforcer-outcome");
const view = document.getElementById("enforcer-admin");
const body = document.getElementById("enforcer-leases");
const filter = document.getElementById("enforcer-filter");
const rows = new Map();
let leases = [];
let at = 0;
let seconds = 2;
let order = { key: "memory", descending: true };

for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const key = button.dataset.sort;
    order = { key, descending: order.key === key ? !order.descending : NUMBERS.has(key) };
    arrange();
  });
}
filter.addEventListener("input", () => arrange());

const look = repeat(async () => {
  let now;
  try {
    now = await service.get("api/everyone");
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
  at = now.at;
  leases = now.leases;
  showLeases();
  if (!now.trouble) showReceipts(now.receipts);
  showDrift(now.drift, now.repairs);
  if (now.machine) say(document.getElementById("enforcer-sentence"), `${now.machine.sentence}.`);
  return true;
}, () => seconds);

function old(error) {
  const [title, text] = trouble(error);
  notice(place, "bad", title, at ? `${text} Last seen at ${time(at, true)}.` : text);
  view.classList.add("enf-old");
}

function showLeases() {
  const ids = new Set(leases.map((one) => one.id));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.element.remove();
      rows.delete(id);
    }
  }
  for (const lease of leases) {
    if (!rows.has(lease.id)) rows.set(lease.id, new Row(lease));
    rows.get(lease.id).update(lease);
  }
  document.getElementById("enforcer-none").hidden = leases.length > 0;
  arrange();
}

function arrange() {
  const value = COLUMNS[order.key];
  const sign = order.descending ? -1 : 1;
  const wanted = filter.value.trim().toLowerCase();
  const sorted = [...leases].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    const first = typeof a === "string" ? a.localeCompare(b) : a - b;
    return sign * first || one.user.localeCompare(other.user) || one.server.localeCompare(other.server);
  });
  sorted.forEach((lease, index) => {
    const { element: row } = rows.get(lease.id);
    row.hidden = wanted !== "" && ![lease.user, lease.server, lease.profile].some((one) => one.toLowerCase().includes(wanted));
    // moved only if it is elsewhere: a row that is moved loses the focus
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] || null);
  });
  for (const button of document.querySelectorAll("[data-sort]")) {
    const mine = button.dataset.sort === order.key;
    button.closest("th").setAttribute("aria-sort", mine ? (order.descending ? "descending" : "ascending") : "none");
  }
}

/** One lease, made once and updated, so that a button keeps the focus. */
class Row {
  constructor(lease) {
    const who = lease.server ? `${lease.user}'s server ${lease.server}` : `${lease.user}'s server`;
    this.cells = Object.fromEntries(["State", "CPU", "Memory", "Guaranteed", "Held back", "Since"].map((name) => [name, element("td", { "data-label": name })]));
    this.bars = { CPU: bar([{ share: 0, kind: "used" }], 5), Memory: bar([{ share: 0, kind: "used" }], 5) };
    this.texts = { CPU: element("span"), Memory: element("span") };
    for (const name of ["CPU", "Memory"]) this.cells[name].append(this.texts[name], this.bars[name]);
    this.charts = element("button", { type: "button", class: "enf-button", "aria-label": `Charts of ${who}`, "aria-haspopup": "dialog", "aria-expanded": "false", onclick: () => follow(lease, who, this.charts) }, "Charts");
    this.resize = element("button", { type: "button", class: "enf-button", "aria-label": `Resize ${who}`, onclick: () => resize(lease, who) }, "Resize");
    this.stop = element("button", { type: "button", class: "enf-button enf-button-bad", "aria-label": `Stop ${who}`, onclick: () => stop(lease, who, this.stop) }, "Stop");
    this.element = element("tr", {},
      element("th", { scope: "row", "data-label": "User" }, lease.user),
      element("td", { "data-label": "Server" }, lease.server || "default"),
      element("td", { "data-label": "Profile" }, lease.profile),
      ...Object.values(this.cells),
      element("td", { "data-label": "Actions", class: "enf-actions" }, this.charts, this.resize, this.stop, this.resized = element("span", { class: "enf-resized", title: "resized, then back to what it had" })));
  }

  update(lease) {
    const used = lease.usage;
    say(this.cells.State, lease.queue ? `queued, number ${lease.queue.place}` : STATES[lease.state] || lease.state);
    this.cells.State.title = lease.queue ? lease.queue.sentence : lease.sentence;
    say(this.texts.CPU, used ? `${number(used.cpu)} of ${number(lease.cpu_limit)}` : `– of ${number(lease.cpu_limit)}`);
    say(this.texts.Memory, used ? memoryOf(used.memory, lease.mem_limit) : `– of ${memory(lease.mem_limit)}`);
    this.level("CPU", used ? used.cpu / lease.cpu_limit : 0);
    this.level("Memory", used ? used.memory / lease.mem_limit : 0);
    say(this.cells.Guaranteed, lease.cpu_guarantee || lease.mem_guarantee ? `${cores(lease.cpu_guarantee)}, ${memory(lease.mem_guarantee)}` : "–");
    say(this.cells["Held back"], used ? percent(used.throttled) : "–");
    this.cells["Held back"].classList.toggle("enf-hot", (used?.throttled ?? 0) >= 0.2);
    say(this.cells.Since, duration(at - lease.created_at));
    say(this.resized, lease.resized_until ? `until ${time(lease.resized_until)}` : "");
    this.charts.hidden = this.resize.hidden = lease.state === "queued";
  }

  level(name, share) {
    setBar(this.bars[name], [share]);
    this.bars[name].lastChild.setAttribute("class", `enf-bar-${share > 0.9 ? "bad" : share > 0.75 ? "warn" : "used"}`);
  }
}

function follow(lease, who, button) {
  button.setAttribute("aria-expanded", "true");
  openFollow(service, lease.id, who, () => {
    button.setAttribute("aria-expanded", "false");
    // the dialog gives the focus back to the button, unless that has gone with its server
    if (!button.isConnected) document.getElementById("enforcer-servers").focus();
  });
}

function resize(lease, who) {
  openResize(service, lease.id, `Resize: ${who}`, () => {
    notice(outcome, "info", `Resized: ${who}.`);
    look();
  }).catch((error) => notice(outcome, "bad", `Not resized: ${who}.`, `${error.message}.`));
}

async function stop(lease, who, button) {
  if (!(await confirmed(`Stop ${who}?`, "What runs in it ends, and what is only in its memory is lost."))) return;
  button.disabled = true;
  notice(outcome, "info", `Stopping ${who} …`);
  try {
    await service.post("api/stop", { user: lease.user, server: lease.server });
    notice(outcome, "info", `The hub is stopping ${who}.`);
    look();
  } catch (error) {
    notice(outcome, "bad", `Not stopped: ${who}.`, [error.message, error.hint].filter(Boolean).join(": "));
  } finally {
    button.disabled = false;
  }
}

function confirmed(question, consequence) {
  return new Promise((resolve) => {
    const dialog = element("dialog", { class: "enf enf-dialog", "aria-labelledby": "enf-confirm", onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      element("form", { method: "dialog" },
        element("h2", { id: "enf-confirm" }, question), element("p", {}, consequence),
        element("p", { class: "enf-buttons" },
          element("button", { class: "enf-button", value: "" }, "Cancel"),
          element("button", { class: "enf-button enf-button-bad", value: "yes" }, "Stop it"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

function showReceipts(receipts) {
  const list = document.getElementById("enforcer-receipts");
  const key = receipts.map((one) => one.id).join();
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.closest("section").hidden = !receipts.length;
  list.replaceChildren(...receipts.map((one) => element("li", { class: one.bad ? "enf-receipt enf-receipt-bad" : "enf-receipt" },
    element("strong", {}, sentence(one.sentence, one.ended_at)),
    element("span", { class: "enf-hint" }, one.detail))));
}

function showDrift(drift, repairs) {
  const section = document.getElementById("enforcer-drift");
  section.hidden = !drift.length && !repairs.length;
  section.querySelector("ul").replaceChildren(
    ...drift.map((one) => one.command
      ? element("li", { class: "enf-receipt enf-receipt-bad" }, element("strong", {}, one.message), element("code", {}, one.command))
      : element("li", { class: "enf-receipt" }, element("strong", {}, one.message))),
    ...repairs.slice(0, 20).map((one) => element("li", { class: one.seconds === null ? "enf-receipt enf-receipt-bad" : "enf-receipt" },
      element("span", {}, repaired(one)))));
}

function repaired(one) {
  const found = `${time(one.at)}: ${one.what.replaceAll("_", " ")} of ${one.subject} was ${one.found}, `;
  return one.seconds === null ? `${found}and could not be set to ${one.wanted}` : `${found}is ${one.wanted} again (after ${number(one.seconds)} s)`;
}
