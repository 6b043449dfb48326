// The user's servers on the hub's home page: what they use, what holds them back, what became of the last ones.

import { fromHub, repeat, trouble } from "./api.js";
import { element, notice } from "./dom.js";
import { Panel } from "./panel.js";
import { openResize } from "./resize.js";
import { duration, sentence } from "./words.js";

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
      panel.end();
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
      const title = one.lease.server ? `Server ${one.lease.server}` : "My server";
      const made = new Panel(title, () => resize(one.lease.id, `Resize: ${title}`));
      panels.set(one.lease.id, made);
      place.append(made.element);
    }
    panels.get(one.lease.id).update(one, mine.at);
  }
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
