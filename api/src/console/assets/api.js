// The public `/v1` API, with the key as bearer token, and nothing else of the network.
//
//   const page = await get("/v1/executions", {status: "failed", limit: 50});
//   await post(path`/v1/executions/${id}/cancel`);          // path`` encodes what it is given
//   await put("/v1/agents/demo", rawJsonText);               // a text is sent as it is
//
// An answer that is no 2xx throws a `Problem`. Numbers that a double would change arrive as
// `Exact` (json.js). A 401 ends the session (session.js shows the sign-in again).
import { read, show } from "./json.js";

const KEY = "holdpoint.key";
let key = sessionStorage.getItem(KEY);
let onUnauthorized = () => {};
let skew = 0;

/** The key that is sent, if there is one. */
export const currentKey = () => key;

/** Sends this key from now on; none where it is null. Kept until the tab is closed. */
export function keepKey(text) {
  key = text;
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** Calls this when a key is not, or no longer, taken. */
export const whenUnauthorized = (act) => (onUnauthorized = act);

/** The server's time in milliseconds: relative times do not trust this machine's clock. */
export const serverNow = () => Date.now() + skew;

/** An answer that is no 2xx, as RFC 9457 has it; `status` 0 where there was none. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail ?? document.title ?? "no answer");
    this.document = document;
    this.status = document.status ?? 0;
    this.code = document.code ?? "no_answer";
  }
}

/** A path whose holes are encoded. */
export const path = (texts, ...holes) =>
  texts.reduce((whole, text, at) => whole + encodeURIComponent(String(holes[at - 1])) + text);

/** Parameters of a query; what is empty is left out. */
export function query(parameters = {}) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}

/** One request; the response as it is. A body that is a text is sent byte for byte. */
export async function send(method, where, { body, headers, signal } = {}) {
  const init = { method, signal, headers: { ...headers }, cache: "no-store", credentials: "omit", redirect: "error" };
  if (key) init.headers.authorization = `Bearer ${key}`;
  if (body !== undefined) {
    init.headers["content-type"] ??= "application/json";
    init.body = typeof body === "string" || body instanceof Blob ? body : show(body, 0);
  }
  const sentWith = key;
  const response = await fetch(where, init).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "There is no answer from the server", detail: "It is away, or the network is.", code: "no_answer" });
  });
  const at = Date.parse(response.headers.get("date") ?? "");
  // The header has whole seconds: half of one is the best guess.
  if (!Number.isNaN(at) && Math.abs(at + 500 - serverNow()) > 1500) skew = at + 500 - Date.now();
  if (response.status === 401 && sentWith && sentWith === key) onUnauthorized();
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response) {
  const text = await response.text().catch(() => "");
  let document = {};
  try {
    document = read(text);
  } catch {
    // No JSON: the status says it.
  }
  return new Problem({ title: response.statusText || "Refused", ...document, status: response.status });
}

/** The same, with the answer's text. */
export const text = async (method, where, options) => (await send(method, where, options)).text();

async function json(method, where, options) {
  const answer = await text(method, where, options);
  return answer === "" ? null : read(answer);
}

export const get = (where, parameters, options) => json("GET", where + query(parameters), options);
/** The answer's text as it came: what is shown as the JSON of something. */
export const getText = (where, parameters, options) => text("GET", where + query(parameters), options);
/** The same as values; the members that `keep` names have their JSON as text beside them. */
export const getKeeping = async (where, keep, options) => read(await getText(where, {}, options), keep);
export const post = (where, body, options) => json("POST", where, { body, ...options });
export const put = (where, body, options) => json("PUT", where, { body, ...options });
export const del = (where, options) => json("DELETE", where, options);
