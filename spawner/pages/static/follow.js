// A dialog that follows one server while it is open: the panel that its user has on the hub's home page.

import { repeat, trouble } from "./api.js";
import { element, notice } from "./dom.js";
import { Panel } from "./panel.js";
import { time } from "./words.js";

/** Open the dialog for a lease; `closed` is called when it has been closed. */
export function openFollow(service, leaseId, title, closed) {
  const open = new AbortController();
  const panel = new Panel(title);
  const place = element("div", { "aria-live": "polite" }, element("p", { class: "enf-hint" }, "The last 15 minutes are on their way."));
  const close = element("button", { type: "button", class: "enf-button", onclick: () => dialog.close() }, "Close");
  // out of the panel, which may have to be scrolled, and is grey when it is old
  panel.header.append(close);
  panel.title.id = "enf-follow-title";
  panel.element.hidden = true;
  const dialog = element("dialog", { class: "enf enf-dialog enf-follow", "aria-labelledby": panel.title.id, onclose: leave }, panel.header, place, panel.element);
  let at = 0;
  let seconds = 2;

  async function look() {
    let now;
    try {
      now = await service.get(`api/leases/${leaseId}/server?since=${panel.columns.last}`);
    } catch (error) {
      if (!open.signal.aborted) old(error);
      return false;
    }
    if (open.signal.aborted) return true;
    notice(place, "info", "");
    dialog.classList.remove("enf-old");
    panel.element.hidden = false;
    panel.update(now.server, now.at);
    at = now.at;
    seconds = Math.max(1, now.tick_seconds);
    return true;
  }

  function old(error) {
    dialog.classList.add("enf-old");
    if (error.code === "lease.not-found") {
      open.abort();
      panel.showState("released");
      notice(place, "info", "This server has ended.", `What became of it is told under “Servers that ended”.${seen()}`);
      return;
    }
    const [title, text] = trouble(error);
    notice(place, "bad", title, `${text}${seen()}`);
  }

  function seen() {
    return at ? ` Last seen at ${time(at, true)}.` : "";
  }

  function leave() {
    open.abort();
    panel.end();
    dialog.remove();
    closed();
  }

  document.body.append(dialog);
  dialog.showModal();
  repeat(look, () => seconds, open.signal);
}
