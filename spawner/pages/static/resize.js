// A dialog that gives a running server other numbers, for good or for a while.

import { element, say } from "./dom.js";
import { numberField, Pair } from "./numbers.js";
import { GIB } from "./words.js";

const FIELDS = [
  { key: "cpu_limit", label: "CPU limit", unit: "cores", scale: 1 },
  { key: "mem_limit", label: "Memory limit", unit: "GiB", scale: GIB },
  { key: "cpu_guarantee", label: "CPU guaranteed", unit: "cores", scale: 1 },
  { key: "mem_guarantee", label: "Memory guaranteed", unit: "GiB", scale: GIB },
];
const WHILES = [["", "until it stops"], ["3600", "for 1 hour"], ["14400", "for 4 hours"], ["86400", "for 1 day"], ["604800", "for 1 week"]];

/** Open the dialog for a lease; `done` is called with the new lease. */
export async function openResize(service, leaseId, title, done) {
  const { lease, bounds } = await service.get(`api/leases/${leaseId}`);
  const fields = FIELDS.map((one) => ({ ...one, ...numberField({ id: `enf-resize-${one.key}`, label: one.label, unit: one.unit }) }));
  const pairs = Object.fromEntries(fields.map((one) => [one.key, new Pair(one.number, one.slider, () => bound(), { positive: one.key.endsWith("limit") })]));
  const now = (key) => fields.find((one) => one.key === key);
  const bound = () => {
    for (const what of ["cpu", "mem"]) {
      const { scale } = now(`${what}_limit`);
      pairs[`${what}_limit`].setMost(bounds[`${what}_limit`] / scale);
      const limit = pairs[`${what}_limit`].value ?? 0;
      pairs[`${what}_guarantee`].setMost(Math.min(bounds[`${what}_guarantee`] / scale, limit));
    }
  };
  for (const one of fields) {
    pairs[one.key].most = bounds[one.key] / one.scale;
    pairs[one.key].set(lease[one.key] / one.scale);
    one.before = one.number.value;
    one.row.hidden = bounds[one.key] === 0;
  }
  bound();
  const duration = element("select", { id: "enf-resize-while" },
    ...WHILES.map(([value, text]) => element("option", { value }, text)));
  const problem = element("p", { class: "enf-notice enf-notice-bad", role: "alert", hidden: true });
  const apply = element("button", { type: "submit", class: "enf-button enf-button-main" }, "Apply");
  const cancel = element("button", { type: "button", class: "enf-button", onclick: () => dialog.close() }, "Cancel");
  const form = element("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); send(); } },
    element("h2", { id: "enf-resize-title" }, title),
    element("p", { class: "enf-hint" }, "Its kernels go on running. A memory limit below what is in use is applied once less is used."),
    element("div", { class: "enf-fields" }, ...fields.map((one) => one.row),
      element("div", { class: "enf-field" }, element("label", { for: "enf-resize-while" }, "How long"), duration)),
    problem,
    element("p", { class: "enf-buttons" }, cancel, apply));
  const dialog = element("dialog", { class: "enf enf-dialog", "aria-labelledby": "enf-resize-title", onclose: () => dialog.remove() }, form);

  async function send() {
    apply.disabled = true;
    problem.hidden = true;
    const wanted = duration.value ? { seconds: Number(duration.value) } : {};
    for (const one of fields) {
      // what was not touched is not sent: a field shows three decimals of it
      if (one.number.value !== one.before) wanted[one.key] = one.scale === GIB ? `${one.number.value} GiB` : Number(one.number.value);
    }
    try {
      const changed = await service.post(`api/leases/${leaseId}`, wanted);
      dialog.close();
      done(changed.lease);
    } catch (error) {
      say(problem, [error.message, error.hint].filter(Boolean).join(": "));
      problem.hidden = false;
    } finally {
      apply.disabled = false;
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  fields[0].number.focus();
}

