// Elements by hand. Text goes in as text, so that no name is ever taken for markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes, then children (text or elements; null is left out). */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

/** Set an element's text, only if it is another: a screen reader reads what changes. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Show a notice in a place, or nothing. kind: "bad", "warn" or "info". */
export function notice(place, kind, title, text = "") {
  const key = `${kind}|${title}|${text}`;
  if (place.dataset.notice === key) return;
  place.dataset.notice = key;
  place.replaceChildren();
  if (!title && !text) return;
  place.append(
    element("div", { class: `enf-notice enf-notice-${kind}` },
      element("strong", {}, title), element("span", {}, text)),
  );
}

/** A bar of parts: [{share, kind}], each a share of the whole, drawn over one another. */
export function bar(parts, height = 8) {
  return svg("svg", { class: "enf-bar-track", width: "100%", height, "aria-hidden": "true" },
    svg("rect", { class: "enf-bar-whole", width: "100%", height, rx: height / 2 }),
    ...parts.map(({ share, kind }) =>
      svg("rect", { class: `enf-bar-${kind}`, width: width(share), height, rx: height / 2 })));
}

/** Draw a bar's parts anew. */
export function setBar(track, shares) {
  const parts = [...track.children].slice(1);
  shares.forEach((share, index) => parts[index].setAttribute("width", width(share)));
}

function width(share) {
  return `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(1)}%`;
}
