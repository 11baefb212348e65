// Keyboard shortcuts. `useShortcut("r", "Load again", act)` is there while its component is;
// `?` shows all of them. They do nothing while one types, or while a dialog is open.
import { html, useEffect, useRef, useState } from "./lib.js";
import { Dialog } from "./dialog.js";

const all = new Map();
const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");
let prefix = null;
let prefixTimer = null;

/** Whether the first of two keys was pressed, so that the next one is no key of a row. */
export const isPending = () => prefix !== null;

/** A shortcut of one key ("r"), or of two, one after the other ("g i"). */
export function useShortcut(keys, words, act) {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    const entry = { words, act: (event) => latest.current(event) };
    all.set(keys, entry);
    return () => all.get(keys) === entry && all.delete(keys);
  }, [keys, words]);
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
  const keys = prefix ? `${prefix} ${event.key}` : event.key;
  prefix = null;
  clearTimeout(prefixTimer);
  const found = all.get(keys);
  if (found) {
    event.preventDefault();
    found.act(event);
  } else if ([...all.keys()].some((known) => known.startsWith(`${event.key} `))) {
    prefix = event.key;
    prefixTimer = setTimeout(() => (prefix = null), 1500);
  }
}

const EVERYWHERE = [["j  k  ↓  ↑", "Move between rows"], ["Enter", "Open the row"], ["x  Space", "Pick the row"], ["Esc", "Close a dialog"]];

/** Listens, and shows the help; once, in the layout. */
export function Shortcuts() {
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  useShortcut("?", "Show the shortcuts", () => setOpen(true));
  if (!isOpen) return null;
  const rows = [...[...all].map(([keys, entry]) => [keys, entry.words]), ...EVERYWHERE];
  return html`<${Dialog} title="Keyboard shortcuts" onClose=${() => setOpen(false)}>
    <dl class="shortcuts">${rows.map(([keys, words]) => html`<div><dt><kbd>${keys}</kbd></dt><dd>${words}</dd></div>`)}</dl>
  <//>`;
}
