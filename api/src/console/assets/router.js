// Places within the page: `#/executions/exe_1?tab=json`. A pattern such as `executions/:id`
// gives its page `params.id`; what stands after `?` is `query`, an object of texts.
import { html, useEffect, useMemo, useState } from "./lib.js";

const decode = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

/** Where the page is: {parts, query}. */
export function here() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decode), query: Object.fromEntries(new URLSearchParams(search)) };
}

/** A place as text: `at("executions", id)`, `at("executions", {status: "failed"})`. */
export function at(...parts) {
  const query = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
  return `#/${parts.map((part) => encodeURIComponent(part)).join("/")}${search}`;
}

/** Goes there; `replace` leaves no step in the history. */
export function go(place, { replace = false } = {}) {
  if (replace) {
    history.replaceState(null, "", place);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = place;
  }
}

/** The place, followed. */
export function usePlace() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    addEventListener("hashchange", moved);
    // It may have moved after this was drawn and before anybody listened.
    moved();
    return () => removeEventListener("hashchange", moved);
  }, []);
  return useMemo(here, [hash]);
}

/** The params of a pattern, or null where it does not fit. */
export function fit(pattern, parts) {
  const wanted = pattern.split("/");
  if (wanted.length !== parts.length) return null;
  const params = {};
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(":")) params[part.slice(1)] = parts[index];
    else if (part !== parts[index]) return null;
  }
  return params;
}

/** A link to a place: `<${Link} to=${["executions", id]}>…<//>`. */
export const Link = ({ to, children, ...rest }) => html`<a href=${at(...to)} ...${rest}>${children}</a>`;
