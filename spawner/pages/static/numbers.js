// Number fields with a slider beside each: the two say the same, and a guarantee never more than its limit.

import { element } from "./dom.js";
import { field } from "./words.js";

const STEPS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8];

/** A step that divides a range into forty to a hundred, on a number people like. */
export function step(most) {
  return STEPS.findLast((one) => most / one >= 40) || STEPS[0];
}

/**
 * One number with its slider. `most` may change: a value above it comes down to it, and goes up again
 * as far as it was wanted. positive: nothing is too little.
 */
export class Pair {
  constructor(number, slider, onchange = () => {}, { positive = false } = {}) {
    this.number = number;
    this.slider = slider;
    this.positive = positive;
    slider.hidden = false;
    slider.addEventListener("input", () => {
      // the slider's last stop is all there is, whatever the step
      const value = Number(slider.value);
      this.set(value + Number(slider.step) / 2 > this.most ? this.most : value);
      onchange(this);
    });
    number.addEventListener("input", () => {
      this.wanted = this.value;
      this.follow();
      onchange(this);
    });
    this.wanted = this.value;
  }

  get value() {
    return this.number.value === "" ? null : Number(this.number.value);
  }

  /** Whether it says as much as there is, as an empty field does. */
  get isAll() {
    return this.value === null || field(this.value) === field(this.most);
  }

  setMost(most) {
    this.most = most;
    this.number.max = field(most);
    this.slider.step = step(most);
    this.slider.min = this.positive ? step(most) : 0;
    this.slider.max = Math.ceil(most / step(most)) * step(most);
    if (this.wanted !== null && document.activeElement !== this.number) this.number.value = field(Math.min(this.wanted, most));
    this.follow();
  }

  set(value) {
    this.wanted = value;
    this.number.value = field(value);
    this.follow();
  }

  follow() {
    this.slider.value = this.value ?? this.most;
    this.slider.setAttribute("aria-valuetext", this.number.value || field(this.most));
  }
}

/** Make a labelled field with number and slider. */
export function numberField({ id, label, unit }) {
  const number = element("input", { type: "number", id, name: id, min: "0", step: "any", inputmode: "decimal", required: true, autocomplete: "off" });
  const slider = element("input", { type: "range", class: "enf-slider", "aria-label": `${label}, slider` });
  const row = element("div", { class: "enf-field" },
    element("label", { for: id }, label), slider,
    element("span", { class: "enf-number" }, number, element("span", { class: "enf-unit" }, unit)));
  return { row, number, slider };
}
