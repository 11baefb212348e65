// Past passes of the sweeps, and one by hand: counted first, then run.
import { get, post } from "../api.js";
import { Dialog } from "../dialog.js";
import { html, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Facts, Field, ProblemBox } from "../parts.js";
import { toast } from "../toast.js";
import { Text } from "../text.js";
import { Time, span } from "../time.js";

const COLUMNS = [
  { name: "kind", words: "Sweep", class: "narrow", cell: (row) => html`<${Text} value=${row.kind} />${row.dry_run ? html` <span class="muted">(only counted)</span>` : ""}` },
  { name: "source", words: "By", cell: (row) => html`<${Text} value=${row.source} />` },
  { name: "scanned", words: "Scanned", class: "number", cell: (row) => row.scanned },
  { name: "acted", words: "Cleaned up", class: "number", cell: (row) => row.cleaned_up },
  { name: "failed", words: "Failed", class: "number", cell: (row) => row.failed },
  { name: "skipped", words: "Skipped", class: "number", cell: (row) => row.skipped },
  { name: "at", words: "Begun", class: "narrow", cell: (row) => html`<${Time} value=${row.started_at} />` },
  { name: "took", words: "Took", class: "narrow number", cell: (row) => (row.finished_at ? span(Date.parse(row.finished_at) - Date.parse(row.started_at)) : "not finished") },
];

export function Sweeps() {
  const list = useListing((asked, options) => get("/v1/sweeps", asked, options));
  const [isOpen, setOpen] = useState(false);
  return html`<${Listing} title="Sweeps" says="Past passes, newest first: those of this project, and those over all." list=${list}
      rowsOf=${(data) => data.sweeps} empty="No pass is recorded." columns=${COLUMNS} keyOf=${(row) => row.sweep_id}
      actions=${html`<button class="primary" onClick=${() => setOpen(true)}>Run stale…</button>`} />
    ${isOpen && html`<${RunStale} onClose=${() => setOpen(false)} onDone=${list.reload} />`}`;
}

const reportFacts = (report) => [["Scanned", String(report.scanned)], ["Cleaned up", String(report.cleaned_up)], ["Failed", String(report.failed)], ["Skipped", String(report.skipped)]];

function RunStale({ onClose, onDone }) {
  const [timeout, setTimeout] = useState("");
  const [limit, setLimit] = useState("100");
  const [counted, setCounted] = useState(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const body = { limit: Number(limit), ...(timeout.trim() && { timeout: timeout.trim() }) };
  // What was counted with other bounds says nothing of this pass.
  const change = (set) => (value) => {
    set(value);
    setCounted(null);
  };
  const run = async (isDry) => {
    setBusy(true);
    setProblem(null);
    try {
      const report = await post("/v1/sweeps/stale", { ...body, dry_run: isDry });
      onDone();
      if (isDry) setCounted(report);
      else {
        toast(`The sweep ended ${report.cleaned_up} of ${report.scanned} executions.`);
        onClose();
      }
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const foot = html`<button onClick=${onClose}>Leave it</button>
    <button disabled=${busy} onClick=${() => run(true)}>Count only</button>
    <button class="danger" disabled=${busy || !counted} onClick=${() => run(false)}>Run the sweep</button>`;
  return html`<${Dialog} title="Run the sweep stale" onClose=${onClose} foot=${foot}>
    <p>It fails executions whose approval expired without a decision. Count first what it would do.</p>
    <${Field} label="Timeout" value=${timeout} onInput=${change(setTimeout)} placeholder="1h" spellcheck=${false}
      hint="For approvals whose definition names no expiry; as the server has it, where this is empty." />
    <${Field} label="At most" type="number" min="1" max="1000" value=${limit} onInput=${change(setLimit)} hint="1 to 1000 executions." />
    <div role="status">${counted && html`<p>Counted; nothing was changed:</p><${Facts} of=${reportFacts(counted)} />`}</div>
    <${ProblemBox} problem=${problem} />
  <//>`;
}
