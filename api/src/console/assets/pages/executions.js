// The list of executions: filters that stand in the place's query, so that a list can be
// linked to; newest first, live while one looks at its first page.
import { get } from "../api.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { useShortcut } from "../keys.js";
import { usePolling, useSettled } from "../live.js";
import { Empty, Field, Labels, Loading, PageHead, ProblemBox, Status } from "../parts.js";
import { at, go, Link } from "../router.js";
import { can } from "../session.js";
import { Table } from "../table.js";
import { Text } from "../text.js";
import { Time, span, useNow } from "../time.js";

const PAGE = 50;
const STATUSES = ["queued", "running", "suspended", "completed", "failed", "cancelled"];
const EXECUTION = /^exe_[0-9a-z]{26}$/;

/** `key=value` pairs of the search, as parameters of the API. A value in quotes may have spaces. */
export function labelsOf(search) {
  const found = [...search.matchAll(/([^\s=]+)=("([^"]*)"|\S*)/g)];
  return Object.fromEntries(found.map(([, key, bare, quoted]) => [`label.${key}`, quoted ?? bare]));
}

const filtersOf = ({ status, agent, workflow, run_type, labels }) => ({ status, agent, workflow, run_type, ...labelsOf(labels ?? "") });

function Duration({ row }) {
  const now = useNow();
  const from = Date.parse(row.started_at ?? row.created_at);
  const to = row.finished_at ? Date.parse(row.finished_at) : now;
  return row.started_at ? span(to - from) : html`<span class="muted">–</span>`;
}

const COLUMNS = [
  { name: "status", words: "Status", cell: (row) => html`<${Status} value=${row.status} reason=${row.reason} />` },
  { name: "what", words: "What", cell: (row) => html`<span>
      <${Link} to=${["executions", row.id]}><${Text} value=${row.definition.name} most=${60} /><//>
      <span class="muted nowrap"> ${row.kind} v${row.definition.version}${row.run_type === "test" ? " · test" : ""}${row.attempt > 1 ? ` · attempt ${row.attempt}` : ""}</span>
    </span>` },
  { name: "labels", words: "Labels", cell: (row) => html`<${Labels} of=${row.labels} />` },
  { name: "id", words: "Id", cell: (row) => html`<code class="muted" title=${row.id}>…${row.id.slice(-8)}</code>` },
  { name: "created", words: "Created", class: "narrow", cell: (row) => html`<${Time} value=${row.created_at} />` },
  { name: "took", words: "Took", class: "narrow number", cell: (row) => html`<${Duration} row=${row} />` },
];

function Filters({ query }) {
  const change = (name) => (value) => go(at("executions", { ...query, [name]: value, cursor: "" }), { replace: true });
  const [search, setSearch] = useState(query.labels ?? "");
  const settled = useSettled(search.trim());
  const box = useRef(null);
  useShortcut("/", "Search", () => box.current.querySelector("input[type=search]").focus());
  useEffect(() => {
    if (EXECUTION.test(settled)) go(at("executions", settled));
    else if (settled !== (query.labels ?? "")) change("labels")(settled);
  }, [settled]);
  return html`<div class="filters" role="search" ref=${box}>
    <${Field} class="wide" label="Search" type="search" value=${search} onInput=${setSearch} placeholder="exe_… or label=value" spellcheck=${false}
      hint=${settled && !settled.includes("=") && !EXECUTION.test(settled) ? "An id (exe_…), or labels as key=value." : undefined} />
    <${Field} label="Status" as="select" value=${query.status ?? ""} onInput=${change("status")}>
      <option value="">all</option>${STATUSES.map((status) => html`<option value=${status}>${status}</option>`)}<//>
    <${Typed} label="Agent" value=${query.agent} onInput=${change("agent")} />
    <${Typed} label="Workflow" value=${query.workflow} onInput=${change("workflow")} />
    <${Field} label="Runs" as="select" value=${query.run_type ?? ""} onInput=${change("run_type")}>
      <option value="">all</option><option value="production">production</option><option value="test">test</option><//>
  </div>`;
}

/** A filter that is typed: it counts after a pause. */
function Typed({ label, value = "", onInput }) {
  const [typed, setTyped] = useState(value);
  const settled = useSettled(typed.trim());
  useEffect(() => {
    if (settled !== value) onInput(settled);
  }, [settled]);
  return html`<${Field} label=${label} value=${typed} onInput=${setTyped} spellcheck=${false} />`;
}

export function Executions({ query }) {
  const { cursor } = query;
  const filters = filtersOf(query);
  const load = (signal) => get("/v1/executions", { ...filters, limit: PAGE, cursor }, { signal });
  const { data, problem, loading, reload } = usePolling(load, [JSON.stringify(filters), cursor], cursor ? 0 : 2000);
  useShortcut("r", "Load again", reload);
  const open = (row) => go(at("executions", row.id));
  return html`<div>
    <${PageHead} title="Executions" actions=${html`
      ${can("submit") && html`<span class="muted">Start:</span> <a class="button" href=${at("agents")}>an agent</a> <a class="button" href=${at("workflows")}>a workflow</a>`}
      <button onClick=${reload}>Load again</button>`}>
      Newest first; ${cursor ? "an older page." : "live."}
    <//>
    <${Filters} query=${query} />
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${data && data.executions.length === 0 && html`<${Empty}>No execution is like this.<//>`}
    ${data && data.executions.length > 0 && html`<${Table} label="executions" columns=${COLUMNS} rows=${data.executions} keyOf=${(row) => row.id} onOpen=${open} />`}
    <div class="more actions">
      ${cursor && html`<a class="button" href=${at("executions", { ...query, cursor: "" })}>Newest</a>`}
      ${data?.next_cursor && html`<a class="button" href=${at("executions", { ...query, cursor: data.next_cursor })}>Older</a>`}
    </div>
  </div>`;
}
