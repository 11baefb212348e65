// Times: relative, with the exact one in the title, by the server's clock.
import { serverNow } from "./api.js";
import { html, useEffect, useState } from "./lib.js";

const tickers = new Set();
setInterval(() => tickers.forEach((tick) => tick()), 1000);

/** The server's time in milliseconds, anew each second. */
export function useNow() {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    const tick = () => setNow(serverNow());
    tickers.add(tick);
    return () => tickers.delete(tick);
  }, []);
  return now;
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Milliseconds in two units at most: "2 h 5 min", "350 ms". */
export function span(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(1)} s`;
  let seconds = Math.floor(ms / 1000);
  const parts = [];
  for (const [length, unit] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count && parts.length < 2) parts.push(`${count} ${unit}`);
    else if (parts.length) break;
    seconds -= count * length;
  }
  return parts.join(" ");
}

/** A moment from now: "3 min ago", "in 12 min". */
export function relative(at, now) {
  const away = at - now;
  if (Math.abs(away) < 1000) return "now";
  const whole = Math.floor(Math.abs(away) / 1000) * 1000;
  // Seconds count while a minute is not over, and shortly before something ends.
  const seconds = whole < 60000 || (away > 0 && whole < 300000) ? whole : Math.floor(whole / 60000) * 60000;
  const words = seconds < 10000 ? `${seconds / 1000} s` : span(seconds);
  return away < 0 ? `${words} ago` : `in ${words}`;
}

/** A time of the API (RFC 3339); a dash where there is none. */
export function Time({ value, exact = false }) {
  const now = useNow();
  const at = Date.parse(value ?? "");
  if (Number.isNaN(at)) return html`<span class="muted">–</span>`;
  const words = exact ? `${new Date(at).toISOString().replace("T", " ").slice(0, 23)} UTC` : relative(at, now);
  return html`<time dateTime=${value} title=${value}>${words}</time>`;
}
