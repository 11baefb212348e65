// A button that acts, after it asked.
import { html, useState } from "./lib.js";
import { Confirm } from "./dialog.js";
import { toast } from "./toast.js";

/**
 * `<${Act} words="Pause" title="Pause nightly?" act=${() => post(…)} done="It is paused."
 * onDone=${reload}>what it means<//>`. Without `title` it acts at once, and a problem is told as a toast.
 */
export function Act({ words, title, yes = words, danger = false, act, done, onDone, children, label, class: name }) {
  const [isAsking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const finish = (answer) => {
    if (done) toast(typeof done === "function" ? done(answer) : done);
    onDone?.(answer);
  };
  const atOnce = async () => {
    setBusy(true);
    try {
      finish(await act());
    } catch (problem) {
      toast(`${problem.document?.title ?? "It was refused"}: ${problem.message}`, "bad");
    } finally {
      setBusy(false);
    }
  };
  return html`<button class=${name ?? (danger ? "danger" : "")} disabled=${busy} aria-label=${label}
      onClick=${title ? () => setAsking(true) : atOnce}>${words}</button>
    ${isAsking && html`<${Confirm} title=${title} yes=${yes} danger=${danger} act=${act} onClose=${() => setAsking(false)} onDone=${finish}>
      ${children}<//>`}`;
}
