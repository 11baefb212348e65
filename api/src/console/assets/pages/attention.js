// Workflows whose latest production run failed so that a person has to look.
import { Act } from "../act-button.js";
import { get, path, post } from "../api.js";
import { html } from "../lib.js";
import { Older, useListing } from "../listing.js";
import { Empty, Loading, PageHead, ProblemBox, Section, Status } from "../parts.js";
import { at, go, Link } from "../router.js";
import { can } from "../session.js";
import { Table } from "../table.js";
import { Bytes, Text } from "../text.js";
import { Time } from "../time.js";

const load = (asked, options) => get("/v1/attention", asked, options);

/** How many there are, beside the menu's words. */
export function AttentionCount() {
  const { data } = useListing(load, {}, { limit: 1 }, 15000);
  if (!data?.total) return null;
  return html`<span class="count">${data.total}<span class="hidden"> workflows</span></span>`;
}

const columns = (reload) => [
  { name: "workflow", words: "Workflow", cell: (row) => html`<${Link} to=${["workflows", row.workflow]}><${Text} value=${row.workflow} /><//>` },
  { name: "state", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${row.state} />` },
  { name: "run", words: "Failed run", cell: (row) => html`<${Link} to=${["executions", row.execution_id]}>…${row.execution_id.slice(-8)}<//>
      <span class="muted"> ${row.attempts > 1 ? `after ${row.attempts} attempts` : ""}</span>` },
  { name: "error", words: "Error", class: "grow", cell: (row) => html`<${Bytes} value=${row.error.message} label=${`error of ${row.workflow}`} />` },
  { name: "failed", words: "Failed", class: "narrow", cell: (row) => html`<${Time} value=${row.failed_at} />` },
  can("submit") && { name: "acts", words: "Acts", cell: (row) => html`<${Act} words="Acknowledge" label=${`Acknowledge ${row.workflow}`} class="small"
      title=${html`Acknowledge <${Text} value=${row.workflow} />?`} done="It is off the list." onDone=${reload}
      act=${() => post(path`/v1/attention/${row.workflow}/acknowledge`)}><p>It leaves this list until its next failure. Nothing is repeated.</p><//>` },
].filter(Boolean);

export function Attention({ query }) {
  const { data, problem, loading, reload } = useListing(load, query);
  return html`<div>
    <${PageHead} title="Attention" actions=${html`<button onClick=${reload}>Load again</button>`}>
      Workflows whose latest production run failed so that a person has to look.<//>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${data?.attention.length === 0 && html`<${Empty}>Nothing needs you.<//>`}
    ${data?.attention.map(({ error_type: type, workflows }) => html`<${Section} key=${type} title=${`${type.replaceAll("_", " ")} (${workflows.length})`}>
      <${Table} label=${`failed for ${type}`} columns=${columns(reload)} rows=${workflows} keyOf=${(row) => row.workflow}
        onOpen=${(row) => go(at("executions", row.execution_id))} />
    <//>`)}
    <${Older} place=${["attention"]} query=${query} next=${data?.next_cursor} />
  </div>`;
}
