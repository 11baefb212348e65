// Limits: how much of what may run at a time, and begin in a span of time.
import { Act } from "../act-button.js";
import { del, get, path, put } from "../api.js";
import { Dialog } from "../dialog.js";
import { freshId, html, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Field, ProblemBox } from "../parts.js";
import { can } from "../session.js";
import { Text } from "../text.js";
import { Time } from "../time.js";
import { toast } from "../toast.js";

const KINDS = ["tenant", "agent", "workflow", "tool"];
/** A tenant's limit has no other name. */
const TENANT = "default";
const placeOf = (row) => path`/v1/limits/${row.kind}/${row.name}`;

const columns = (reload, change) => [
  { name: "kind", words: "Of", class: "narrow", cell: (row) => row.kind },
  { name: "name", words: "Name", cell: (row) => html`<${Text} value=${row.name} most=${80} />` },
  { name: "concurrency", words: "At a time", class: "number", cell: (row) => row.concurrency ?? "–" },
  { name: "rate", words: "In a span", class: "narrow", cell: (row) => (row.rate ? `${row.rate.count} in ${row.rate.per}` : "–") },
  { name: "backlog", words: "May wait", class: "number", cell: (row) => row.backlog ?? "–" },
  { name: "changed", words: "Changed", class: "narrow", cell: (row) => html`<${Time} value=${row.updated_at} />` },
  can("admin") && { name: "acts", words: "Acts", cell: (row) => html`<span class="actions">
      <button class="small" aria-label=${`Change ${row.kind} ${row.name}`} onClick=${() => change(row)}>Change</button>
      <${Act} words="Remove" danger label=${`Remove ${row.kind} ${row.name}`} title=${html`Remove the limit of ${row.kind} <${Text} value=${row.name} />?`}
        done="The limit is removed." onDone=${reload} act=${() => del(placeOf(row))}><p>What waited for it goes on.</p><//>
    </span>` },
].filter(Boolean);

export function Limits() {
  const [changed, change] = useState(null);
  const list = useListing((asked, options) => get("/v1/limits", {}, options));
  return html`<${Listing} title="Limits" says="What is over a limit waits; nothing is lost." list=${list} rowsOf=${(data) => data.limits}
      empty="Nothing is limited." columns=${columns(list.reload, change)} keyOf=${(row) => `${row.kind}/${row.name}`}
      actions=${can("admin") && html`<button class="primary" onClick=${() => change({})}>Set a limit</button>`} />
    ${changed && html`<${SetLimit} row=${changed} onClose=${() => change(null)} onDone=${list.reload} />`}`;
}

const number = (text) => (text.trim() === "" ? undefined : Number(text));

function SetLimit({ row, onClose, onDone }) {
  const isNew = !row.kind;
  const [id] = useState(() => freshId("form"));
  const [kind, setKind] = useState(row.kind ?? "agent");
  const [name, setName] = useState(row.name ?? "");
  const [concurrency, setConcurrency] = useState(String(row.concurrency ?? ""));
  const [count, setCount] = useState(String(row.rate?.count ?? ""));
  const [per, setPer] = useState(row.rate?.per ?? "1m");
  const [backlog, setBacklog] = useState(String(row.backlog ?? ""));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const isTenant = kind === "tenant";
  const set = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const rate = number(count);
    try {
      await put(placeOf({ kind, name: isTenant ? TENANT : name.trim() }), {
        ...(number(concurrency) !== undefined && { concurrency: number(concurrency) }),
        ...(rate !== undefined && { rate: { count: rate, per: per.trim() } }),
        ...(isTenant && number(backlog) !== undefined && { backlog: number(backlog) }),
      });
      toast("The limit is set.");
      onClose();
      onDone();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const foot = html`<button onClick=${onClose}>Leave it</button><button class="primary" form=${id} disabled=${busy}>Set it</button>`;
  return html`<${Dialog} title=${isNew ? "Set a limit" : "Change the limit"} onClose=${onClose} foot=${foot}>
    <form id=${id} onSubmit=${set}>
      ${isNew
        ? html`<${Field} label="Of" as="select" value=${kind} onInput=${setKind}>${KINDS.map((one) => html`<option value=${one}>${one}</option>`)}<//>
            ${!isTenant && html`<${Field} label="Name" value=${name} onInput=${setName} required spellcheck=${false} />`}`
        : html`<p>Of ${kind} <strong><${Text} value=${name} /></strong></p>`}
      <${Field} label="At a time" type="number" min="1" value=${concurrency} onInput=${setConcurrency} hint="Executions that a worker holds; of a tool, calls under way. No limit, where this is empty." />
      <${Field} label="In a span" type="number" min="1" value=${count} onInput=${setCount} hint="Executions that begin; of a tool, its calls." />
      ${number(count) !== undefined && html`<${Field} label="The span" value=${per} onInput=${setPer} spellcheck=${false} hint="100ms to 7d." />`}
      ${isTenant && html`<${Field} label="May wait" type="number" min="1" value=${backlog} onInput=${setBacklog} hint="Starts beyond it are answered 429." />`}
    </form>
    <${ProblemBox} problem=${problem} />
  <//>`;
}
