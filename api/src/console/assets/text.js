// How text from outside is shown. Names, labels, reasons, arguments, outputs and messages go
// through `Text` (within a line) or `Bytes` (a block), never into markup by themselves.
//
// What cannot be seen is made visible: control characters, NUL, bidirectional marks, zero-width
// and other invisible characters, odd spaces, lone surrogates become marks with their code point.
// Runs of right-to-left letters are isolated, so that they cannot move what stands around them.
import { cls, html, useEffect, useMemo, useState } from "./lib.js";
import { isJson, parse, write } from "./json.js";

// In order: lines' ends and tabs; what Unicode calls other, a separator, or to be ignored; right-to-left letters.
const SPECIAL = new RegExp(
  "([\\n\\t])" +
    "|([\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}\\u2800]|(?! )\\p{Zs})" +
    "|([\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufefc\\u{10800}-\\u{10fff}\\u{1e800}-\\u{1efff}]+)",
  "gu",
);

const NAMES = {
  0x00: "NUL", 0x08: "BS", 0x09: "TAB", 0x0a: "LF", 0x0b: "VT", 0x0c: "FF", 0x0d: "CR", 0x1b: "ESC", 0x7f: "DEL",
  0x85: "NEL", 0xa0: "NBSP", 0xad: "SHY", 0x61c: "ALM", 0x200b: "ZWSP", 0x200c: "ZWNJ", 0x200d: "ZWJ", 0x200e: "LRM",
  0x200f: "RLM", 0x2028: "LS", 0x2029: "PS", 0x202a: "LRE", 0x202b: "RLE", 0x202c: "PDF", 0x202d: "LRO", 0x202e: "RLO",
  0x2060: "WJ", 0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xfeff: "BOM",
};

const codePoint = (sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A text as pieces: {text}, {mark, count} for what cannot be seen, {rtl} for right-to-left letters. */
export function pieces(text, { block = false } = {}) {
  const found = [];
  const say = (words) => {
    const last = found.at(-1);
    if (last?.text !== undefined) last.text += words;
    else if (words) found.push({ text: words });
  };
  let at = 0;
  for (const match of text.matchAll(SPECIAL)) {
    say(text.slice(at, match.index));
    at = match.index + match[0].length;
    const [sign, plainSpace, hidden, rtl] = match;
    const last = found.at(-1);
    if (rtl) found.push({ rtl });
    else if (plainSpace && block) say(sign);
    else if (last?.mark === (hidden ?? sign)) last.count += 1;
    else found.push({ mark: sign, count: 1 });
  }
  say(text.slice(at));
  return found;
}

/** Whether something in it cannot be seen. */
export const hasHidden = (text) => pieces(text, { block: true }).some((piece) => piece.mark !== undefined);

const Mark = ({ sign, count }) => {
  const code = codePoint(sign);
  const name = NAMES[sign.codePointAt(0)];
  const label = `${name ? `${name} ` : ""}${code}${count > 1 ? ` ×${count}` : ""}`;
  return html`<span class="mark" title=${`a character that cannot be seen: ${label}`}>${label}</span>`;
};

const marked = (text, options) =>
  pieces(text, options).map((piece) => {
    if (piece.text !== undefined) return piece.text;
    if (piece.rtl) return html`<bdi>${piece.rtl}</bdi>`;
    return html`<${Mark} sign=${piece.mark} count=${piece.count} />`;
  });

const textOf = (value) => (value === null || value === undefined ? "" : String(value));

/** A text within a line; `most` characters of it, the whole in its title. */
export function Text({ value, most = 0, class: name }) {
  const whole = textOf(value);
  const cut = most && whole.length > most;
  const shown = cut ? whole.slice(0, most).replace(/[\ud800-\udbff]$/, "") : whole;
  const title = cut ? `${whole.slice(0, 1000).replace(/[\p{C}\p{Default_Ignorable_Code_Point}]/gu, "�")}` : undefined;
  return html`<bdi class=${cls("text", name)} title=${title}>${marked(shown)}${cut ? "…" : ""}</bdi>`;
}

const FIRST = 64 * 1024;
const bytesOf = (text) => new TextEncoder().encode(text).length;

const size = (bytes) =>
  bytes < 1024 ? `${bytes} bytes` : bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1048576).toFixed(1)} MiB`;

/** A text as a block, exactly: a bounded height that scrolls, with lines and bytes counted.
 * `layOut` offers JSON with line breaks; `laid` begins with them. */
export function Bytes({ value, label, layOut = false, laid = false, class: name }) {
  const exact = textOf(value);
  const [laidOut, setLaidOut] = useState(laid);
  const [whole, setWhole] = useState(false);
  const canLayOut = useMemo(() => layOut && exact.length < 1 << 20 && isJson(exact), [exact, layOut]);
  const text = useMemo(() => (laidOut && canLayOut ? write(parse(exact), 2) : exact), [exact, laidOut, canLayOut]);
  const cut = !whole && text.length > FIRST;
  const shown = useMemo(() => marked(cut ? text.slice(0, FIRST).replace(/[\ud800-\udbff]$/, "") : text, { block: true }), [text, cut]);
  const lines = useMemo(() => text.split("\n").length, [text]);
  const bytes = useMemo(() => bytesOf(exact), [exact]);
  const hidden = useMemo(() => hasHidden(text), [text]);
  const long = lines > 1 || bytes > 200;
  return html`<div class=${cls("bytes", name)}>
    <pre tabindex="0" role="region" aria-label=${label ?? "text"}>${shown}</pre>
    ${(long || hidden || canLayOut) && html`<div class="bytes-foot">
      <span>${lines.toLocaleString("en")} ${lines === 1 ? "line" : "lines"} · ${size(bytes)}</span>
      ${hidden && html`<span class="warn">has characters that cannot be seen</span>`}
      ${cut && html`<button class="link" onClick=${() => setWhole(true)}>Show the rest (${size(bytesOf(text.slice(FIRST)))})</button>`}
      ${canLayOut && html`<button class="link" aria-pressed=${laidOut} onClick=${() => setLaidOut(!laidOut)}>
        ${laidOut ? "Show the exact bytes" : "Lay out"}
      </button>`}
    </div>`}
  </div>`;
}

/** A value that came as JSON, laid out; a string alone as its text. */
export function Value({ text, label }) {
  const laid = useMemo(() => {
    try {
      const node = parse(text);
      return node.kind === "string" ? node.value : write(node, 2);
    } catch {
      return text;
    }
  }, [text]);
  return html`<${Bytes} value=${laid} label=${label} />`;
}

/** A digest: its first characters, the whole in its title, copied by a click. */
export function Digest({ value, whole = false }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(value).catch(() => {});
    setCopied(true);
  };
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  const shown = whole ? value : `${textOf(value).slice(0, 12)}…`;
  return html`<button class="digest" title=${`${value} (copy)`} onClick=${copy}>
    ${copied ? "copied" : html`<${Text} value=${shown} /><span class="hidden"> copy the digest</span>`}
  </button>`;
}

/** An id: whole, in figures of one width, copied by a click. */
export const Id = ({ value }) => html`<code class="id"><${Text} value=${value} /></code>`;
