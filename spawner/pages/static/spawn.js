// Adds to the spawn form: the chosen profile's numbers, sliders, and what fits and is free right now.

import { fromHub, repeat } from "./api.js";
import { setBar, say } from "./dom.js";
import { Pair } from "./numbers.js";
import { field, time } from "./words.js";

const FIELDS = ["cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee"];
const EVERY_SECONDS = 5;

const form = document.getElementById("enforcer-form");
if (form) start(form, document.querySelector("script[data-service]").dataset);

function start(form, page) {
  const radios = [...form.querySelectorAll("input[name=profile]")];
  const pairs = new Map();
  for (const name of FIELDS) {
    const row = form.querySelector(`[data-field=${name}]`);
    if (row) pairs.set(name, new Pair(row.querySelector("input[type=number]"), row.querySelector(".enf-slider"), () => bound(), { positive: name.endsWith("limit") }));
  }
  const chosen = () => radios.find((one) => one.checked);
  const own = (name) => Number(chosen().dataset[camel(name)]);
  const setMost = (name, most) => {
    pairs.get(name)?.setMost(most);
    const shown = form.querySelector(`[data-field=${name}] .enf-most`);
    if (shown) say(shown, field(most));
  };
  const bound = () => {
    for (const what of ["cpu", "mem"]) {
      const limit = pairs.get(`${what}_limit`);
      setMost(`${what}_limit`, own(`${what}_limit`));
      setMost(`${what}_guarantee`, Math.min(own(`${what}_guarantee`), limit?.value ?? own(`${what}_limit`)));
    }
  };
  const take = (onlyEmpty) => {
    if (!chosen()) return;
    for (const [name, pair] of pairs) {
      pair.most = own(name);
      if (!onlyEmpty || pair.value === null) pair.set(own(name));
    }
    bound();
  };
  radios.forEach((one) => one.addEventListener("change", () => take(false)));
  take(true);
  form.closest("form")?.addEventListener("formdata", (event) => leaveOut(event.formData, pairs));
  if (form.dataset.user === page.user) live(form, fromHub(page));
}

/**
 * All that the profile has is what an empty field asks for: the card's sentence is about that. The
 * same number, sent, would ask also for what the user's other servers hold.
 */
function leaveOut(sent, pairs) {
  for (const [name, pair] of pairs) if (pair.isAll) sent.delete(name);
}

function live(form, service) {
  const server = new URLSearchParams({ server: serverName() });
  const radios = [...form.querySelectorAll("input[name=profile]")];
  repeat(async () => {
    let now;
    try {
      now = await service.get(`api/catalogue?${server}`);
    } catch {
      return false; // the form is as it was when the page was made; a start says what is wrong
    }
    for (const profile of now.profiles) {
      const radio = radios.find((one) => one.value === profile.name);
      const fits = radio && document.getElementById(radio.getAttribute("aria-describedby"));
      if (!fits) continue;
      fits.dataset.fits = profile.fits ? "yes" : "no";
      say(fits, profile.since === null ? profile.sentence : `${profile.sentence}. It has been so since ${time(profile.since)} at least.`);
    }
    for (const bar of now.bars) {
      const place = form.querySelector(`[data-bar=${bar.key}]`);
      if (!place) continue;
      say(place.querySelector(".enf-bar-sentence"), bar.sentence);
      setBar(place.querySelector("svg"), [bar.promised, bar.used].map((one) => parseFloat(one) / 100));
    }
    return true;
  }, () => EVERY_SECONDS);
}

/** The named server that is being started: /hub/spawn/USER/SERVER. */
function serverName() {
  const [, , server] = location.pathname.split("/spawn")[1]?.split("/") || [];
  try {
    return decodeURIComponent(server || "");
  } catch {
    return "";
  }
}

function camel(name) {
  return name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}
