// Asks the service. On the service's own pages its cookie says who we are, with the page's XSRF token;
// on the hub's pages a token does: minted by the hub for this user, for this service only, for minutes.

const TOKEN_SECONDS = 900;
const RENEW_SECONDS = 120;
const ASK_SECONDS = 20;

/** An answer that is an error: `code` for scripts, `message` and `hint` for people. */
export class Refused extends Error {
  constructor(status, said) {
    super(said.message || `the service answered with status ${status}`);
    this.status = status;
    this.code = said.code || "";
    this.hint = said.hint || "";
  }
}

/** The service as its own pages see it. */
export function ownService(page = document.documentElement.dataset) {
  return new Service(page.service, async () => ({ "X-XSRFToken": page.xsrf }));
}

/** The service as the hub's pages see it. */
export function fromHub({ service, hub, user }) {
  const pass = new Pass(hub, user);
  return new Service(service, (again) => pass.headers(again));
}

class Service {
  constructor(prefix, headers) {
    this.prefix = prefix;
    this.headers = headers;
  }

  get(path) {
    return this.ask("GET", path);
  }

  post(path, body) {
    return this.ask("POST", path, body);
  }

  async ask(method, path, body) {
    let answer = await this.send(method, path, body, false);
    if (answer.status === 403) answer = await this.send(method, path, body, true);
    const said = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refused(answer.status, said);
    return said;
  }

  async send(method, path, body, again) {
    const headers = await this.headers(again);
    if (body !== undefined) headers["Content-Type"] = "application/json";
    return fetch(this.prefix + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(ASK_SECONDS * 1000),
    });
  }
}

/** A token for this page alone: kept in memory, given back when the page is left. */
class Pass {
  constructor(hub, user) {
    this.tokens = `${hub}api/users/${encodeURIComponent(user)}/tokens`;
    this.token = null;
    this.minting = null;
    addEventListener("pagehide", () => this.giveBack());
  }

  async headers(again) {
    if (again || !this.token || Date.now() > this.renewAt) {
      this.minting = this.minting || this.mint().finally(() => { this.minting = null; });
      await this.minting;
    }
    return { Authorization: `token ${this.token}` };
  }

  async mint() {
    const before = this.id;
    const answer = await fetch(this.tokens, {
      method: "POST",
      headers: this.hubHeaders(),
      body: JSON.stringify({
        note: "live numbers on the hub's pages",
        expires_in: TOKEN_SECONDS,
        scopes: ["access:services!service=enforcer"],
      }),
      credentials: "same-origin",
      signal: AbortSignal.timeout(ASK_SECONDS * 1000),
    });
    if (!answer.ok) throw new Refused(answer.status, { message: "the hub gives no access to the live numbers" });
    const made = await answer.json();
    this.token = made.token;
    this.id = made.id;
    this.renewAt = Date.now() + (TOKEN_SECONDS - RENEW_SECONDS) * 1000;
    if (before) this.revoke(before);
  }

  giveBack() {
    if (this.id) this.revoke(this.id);
    this.token = this.id = null;
  }

  revoke(id) {
    fetch(`${this.tokens}/${encodeURIComponent(id)}`, {
      method: "DELETE", headers: this.hubHeaders(), credentials: "same-origin", keepalive: true,
    }).catch(() => {}); // it expires by itself
  }

  hubHeaders() {
    return { "Content-Type": "application/json", "X-XSRFToken": window.jhdata.xsrf_token };
  }
}

/**
 * Look again and again: every `seconds()`, more slowly after failures, not at all while nobody sees
 * the page, and no more once `signal` is aborted. Returns a function that looks at once.
 */
export function repeat(look, seconds, signal = new AbortController().signal) {
  let timer = null;
  let running = false;
  let failures = 0;
  const again = async () => {
    if (running || signal.aborted) return;
    running = true;
    clearTimeout(timer);
    try {
      failures = (await look()) === false ? failures + 1 : 0;
    } catch (error) {
      failures += 1;
      console.error(error); // a mistake of ours must not stop the numbers for good
    } finally {
      running = false;
    }
    const wait = Math.min(30, seconds() * 2 ** Math.min(failures, 4));
    if (!document.hidden && !signal.aborted) timer = setTimeout(again, wait * 1000);
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) again();
  }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  again();
  return again;
}

/** What to tell people of a failure. */
export function trouble(error) {
  if (error.code === "daemon.unreachable" || error.status === 503) {
    return ["The machine's resource service is down.", "What you see is old. Limits hold, and servers that run go on running; new ones cannot start."];
  }
  if (error instanceof Refused && error.status === 403) {
    return ["You are not logged in any more.", "Load the page again."];
  }
  return ["There are no live numbers right now.", error instanceof Refused ? `${capital(error.message)}.` : "The service behind this page does not answer."];
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
