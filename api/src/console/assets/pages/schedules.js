// Schedules: what starts by itself, when next, and what came of it before.
import { Act } from "../act-button.js";
import { del, get, path, post } from "../api.js";
import { show } from "../json.js";
import { html } from "../lib.js";
import { usePolling } from "../live.js";
import { Listing, useListing } from "../listing.js";
import { Empty, Facts, Labels, Loading, PageHead, ProblemBox, Section, Status } from "../parts.js";
import { at, go, Link } from "../router.js";
import { can } from "../session.js";
import { Bytes, Text } from "../text.js";
import { Time } from "../time.js";

/** When it ticks, in words. */
const timingOf = (row) => {
  if (row.cron !== undefined) return `${row.cron} (${row.time_zone})`;
  return row.every !== undefined ? `every ${row.every}` : `${row.after} after the end of the last`;
};

const STOPPED = {
  workflow_failed: "the last run of its workflow failed for good: resume the workflow, or put a new version",
  workflow_paused: "its workflow is paused",
  workflow_maintenance: "its workflow is in maintenance",
  workflow_archived: "its workflow is archived",
  unknown_definition: "its workflow was deleted",
};
const stateOf = (row) => (row.paused ? "paused" : row.stopped ? "stopped" : "active");

const Target = ({ row }) => html`<${Link} to=${[`${row.kind}s`, row.definition.name]}><${Text} value=${row.definition.name} /><//>
  <span class="muted"> ${row.kind}${row.definition.version ? ` v${row.definition.version}` : ""}</span>`;

const COLUMNS = [
  { name: "name", words: "Name", cell: (row) => html`<${Link} to=${["schedules", row.name]}><${Text} value=${row.name} /><//>` },
  { name: "starts", words: "Starts", cell: (row) => html`<${Target} row=${row} />` },
  { name: "when", words: "When", cell: (row) => html`<${Text} value=${timingOf(row)} most=${80} />` },
  { name: "next", words: "Next tick", class: "narrow", cell: (row) => html`<${Time} value=${row.paused ? null : row.next_ticks[0] ?? null} />` },
  { name: "state", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${stateOf(row)} />` },
];

export function Schedules({ query }) {
  const list = useListing((asked, options) => get("/v1/schedules", asked, options), query);
  return html`<${Listing} title="Schedules" says="What starts by itself; those of workflows too." list=${list} rowsOf=${(data) => data.schedules}
    place=${["schedules"]} query=${query} empty="There is no schedule." columns=${COLUMNS}
    keyOf=${(row) => row.name} onOpen=${(row) => go(at("schedules", row.name))} />`;
}

export function Schedule({ params: { name } }) {
  const where = path`/v1/schedules/${name}`;
  const { data: row, problem, loading, reload } = usePolling((signal) => get(where, {}, { signal }), [name], 5000);
  const actions = can("define") && row && html`
    ${!row.owner_version && html`<${Act} words="Delete" danger title=${html`Delete <${Text} value=${name} />?`} done="It is gone." act=${() => del(where)}
      onDone=${() => go(at("schedules"))}><p>It starts nothing more. Its runs go on.</p><//>`}
    ${row.paused
      ? html`<${Act} key="resume" words="Resume" class="primary" done="It goes on with the next tick." act=${() => post(`${where}/resume`)} onDone=${reload} />`
      : html`<${Act} key="pause" words="Pause" title=${html`Pause <${Text} value=${name} />?`} done="It is paused." act=${() => post(`${where}/pause`)} onDone=${reload}>
          <p>It starts nothing until it is resumed. A tick that waits is dropped; those of the pause are not made up for.</p><//>`}`;
  return html`<div>
    <${PageHead} title=${html`<${Text} value=${name} />`} actions=${actions}>Schedule<//>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${row && html`<${Whole} row=${row} />`}
  </div>`;
}

const run = (id) => id && html`<${Link} to=${["executions", id]}>…${id.slice(-8)}<//>`;

const Whole = ({ row }) => html`
  <${Section} title="What it is">
    <${Facts} of=${[
      ["State", html`<${Status} value=${stateOf(row)} />`],
      ["Stopped", row.stopped && (STOPPED[row.stopped] ?? row.stopped)],
      ["Starts", html`<${Target} row=${row} />`],
      ["When", html`<${Text} value=${timingOf(row)} />`],
      ["Overlap", row.overlap],
      ["Made up for", `the latest ${row.catch_up.limit}, up to ${row.catch_up.window} late`],
      ["Brought by", row.owner_version ? `version ${row.owner_version} of the workflow` : null],
      ["Labels", Object.keys(row.labels).length ? html`<${Labels} of=${row.labels} />` : null],
      ["Changed", html`<${Time} value=${row.updated_at} />`],
    ]} />
  <//>
  <${Section} title="Next ticks">
    ${row.paused && html`<p>None while it is paused.</p>`}
    ${!row.paused && row.stopped && html`<p>None while it is stopped: ${STOPPED[row.stopped] ?? row.stopped}.</p>`}
    ${!row.paused && !row.stopped && row.next_ticks.length === 0 && html`<${Empty}>None is known.<//>`}
    ${!row.paused && row.next_ticks.length > 0 && html`<ol class="ticks">${row.next_ticks.map((tick) => html`<li key=${tick}><${Time} value=${tick} exact /> <span class="muted">(<${Time} value=${tick} />)</span></li>`)}</ol>`}
  <//>
  <${Section} title="What came of it">
    <${Facts} of=${[
      ["Started", String(row.runs)],
      ["Last tick", row.last_tick && html`<${Time} value=${row.last_tick} /> ${run(row.last_execution_id)}`],
      ["Goes on", run(row.active_execution_id)],
      ["A tick that waits", row.waiting_tick && html`<${Time} value=${row.waiting_tick} />`],
      ["Missed", String(row.missed)],
      ["Skipped", row.last_skipped_for ? html`${row.skipped}, the last for <${Text} value=${row.last_skipped_for.replaceAll("_", " ")} /> <${Time} value=${row.last_skipped_tick} />` : String(row.skipped)],
    ]} />
  <//>
  ${row.input !== null && row.input !== undefined && html`<${Section} title="Input"><${Bytes} value=${show(row.input)} label="input" /><//>`}
  <${Section} title="Metadata"><${Bytes} value=${show(row.metadata)} label="metadata" /><//>`;
