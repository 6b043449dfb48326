// Amounts and times as people read them; nothing here touches the page.

const KIB = 1024;
const UNITS = ["B", "KiB", "MiB", "GiB"];
export const GIB = KIB ** 3;

/** Three significant digits at most: "1.5 GiB". */
export function memory(amount) {
  let size = amount;
  for (const unit of UNITS) {
    if (Math.abs(size) < 1000) return `${trim(size.toPrecision(3))} ${unit}`;
    size /= KIB;
  }
  return `${trim(size.toPrecision(3))} TiB`;
}

/** "21 of 40 GiB", "495 MiB of 8 GiB". */
export function memoryOf(used, limit) {
  const [said, most] = [memory(used), memory(limit)];
  const [size, unit] = said.split(" ");
  return most.endsWith(` ${unit}`) ? `${size} of ${most}` : `${said} of ${most}`;
}

/** Two decimals at most, one from ten on: "1.5". */
export function number(amount) {
  return trim(amount.toFixed(amount < 10 ? 2 : 1));
}

/** "1 core", "2.5 cores". */
export function cores(amount) {
  const said = number(amount);
  return said === "1" ? "1 core" : `${said} cores`;
}

/** A share of 0 to 1. */
export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** What goes into a number field, never more than the amount; as words.py has it. */
export function field(amount) {
  const decimals = amount >= 1 ? 3 : 6;
  const scale = 10 ** decimals;
  return trim((Math.floor(amount * scale + 1e-6) / scale).toFixed(decimals));
}

/** The time of day in the reader's own zone; with the day if it is not today. */
export function time(seconds, withSeconds = false) {
  const at = new Date(seconds * 1000);
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (withSeconds) options.second = "2-digit";
  const day = at.toDateString() === new Date().toDateString();
  if (!day) Object.assign(options, { month: "short", day: "numeric" });
  return at.toLocaleString(undefined, options);
}

/** "5 min", "3 h", "2 d". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A sentence of the service, with its {at} as a time here. */
export function sentence(text, at) {
  return text.replace("{at}", time(at));
}

function trim(text) {
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}
