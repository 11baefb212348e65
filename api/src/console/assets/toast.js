// Short news at the edge of the page, told to screen readers too.
import { html, useEffect, useState } from "./lib.js";
import { Text } from "./text.js";

const SHOWN = 6000;
let show = () => {};
let numbered = 0;

/** Tells `text` (from anywhere); `kind` is "good" or "bad". */
export const toast = (text, kind = "good") => show({ id: (numbered += 1), text, kind });

/** Where they appear; once, in the layout. */
export function Toasts() {
  const [all, setAll] = useState([]);
  const close = (id) => setAll((before) => before.filter((one) => one.id !== id));
  useEffect(() => {
    show = (one) => {
      setAll((before) => [...before.slice(-3), one]);
      setTimeout(() => close(one.id), SHOWN);
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
    ${all.map((one) => html`<div key=${one.id} class=${`toast ${one.kind}`}>
      <${Text} value=${one.text} most=${300} />
      <button class="link" aria-label="Close this message" onClick=${() => close(one.id)}>✕</button>
    </div>`)}
  </div>`;
}
