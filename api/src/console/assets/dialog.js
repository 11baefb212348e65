// A dialog over the page: the browser's own, which keeps the focus inside, closes with Esc,
// and hides the rest from screen readers. The focus goes back to where it was.
import { cls, freshId, html, useEffect, useRef, useState } from "./lib.js";
import { ProblemBox } from "./parts.js";

/** `<${Dialog} title="…" onClose=${close} foot=${buttons}>…<//>`: there while it is rendered. */
export function Dialog({ title, onClose, children, foot, wide = false }) {
  const box = useRef(null);
  const [id] = useState(() => freshId("dialog"));
  useEffect(() => {
    const before = document.activeElement;
    const dialog = box.current;
    dialog.showModal();
    dialog.querySelector("[autofocus]")?.focus();
    return () => {
      dialog.close();
      const isThere = before instanceof HTMLElement && before.isConnected;
      (isThere ? before : document.getElementById("main"))?.focus();
    };
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${box} class=${cls("dialog", wide && "wide")} aria-labelledby=${id} onCancel=${cancelled}>
    <header><h2 id=${id}>${title}</h2>
      <button class="link" aria-label="Close" onClick=${onClose}>✕</button></header>
    <div class="dialog-body">${children}</div>
    ${foot && html`<footer>${foot}</footer>`}
  </dialog>`;
}

/** Asks before an act. `act` is awaited; its problem is shown, and the dialog stays. Not while it is not `ready`. */
export function Confirm({ title, children, yes, danger = false, ready = true, act, onClose, onDone }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const run = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const answer = await act();
      onClose();
      onDone?.(answer);
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const foot = html`<button onClick=${onClose}>Leave it</button>
    <button class=${danger ? "danger" : "primary"} disabled=${busy || !ready} onClick=${run}>${yes}</button>`;
  return html`<${Dialog} title=${title} onClose=${onClose} foot=${foot}>
    ${children}
    <${ProblemBox} problem=${problem} />
  <//>`;
}
