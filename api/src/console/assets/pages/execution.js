// One execution: where it stands and why, its steps in time, what it writes as it comes, its
// approvals with their decisions, and the JSON of everything.
import { get, getKeeping, getText, path } from "../api.js";
import { ApprovalCard, nameOf } from "../approval.js";
import { Acts, isEnded, Resolve } from "../acts.js";
import { useShortcut } from "../keys.js";
import { html, useEffect, useState } from "../lib.js";
import { useLoaded, usePolling } from "../live.js";
import { Facts, Labels, Loading, PageHead, ProblemBox, Section, Status, Tabs } from "../parts.js";
import { at, go, Link } from "../router.js";
import { Story, useStory, Writing } from "../story.js";
import { Bytes, Id, Text, Value } from "../text.js";
import { span, Time, useNow } from "../time.js";
import { Json, KEPT, Timeline } from "../timeline.js";

const LIVE = 4000;
const EVENTS = 1000;
const TABS = [["steps", "Steps"], ["events", "Events"], ["json", "JSON"]];

/** The execution, its steps and approvals: read again when an event came, and now and then. */
function useExecution(id, last, ended) {
  const where = path`/v1/executions/${id}`;
  const load = async (signal) => {
    const [execution, steps, approvals, diagnosis] = await Promise.all([
      getKeeping(where, ["input", "messages", "output", "metadata"], { signal }),
      getKeeping(`${where}/steps`, KEPT, { signal }),
      getKeeping(`${where}/approvals`, ["edited_arguments"], { signal }),
      get(`${where}/diagnosis`, {}, { signal }),
    ]);
    return { execution, steps: steps.steps, approvals: approvals.approvals, diagnosis };
  };
  const polled = usePolling(load, [id], ended ? 0 : LIVE);
  useEffect(() => {
    if (last === 0) return undefined;
    const timer = setTimeout(polled.reload, 250);
    return () => clearTimeout(timer);
  }, [last]);
  return polled;
}

function Took({ execution }) {
  const now = useNow();
  if (!execution.started_at) return "not begun";
  return span((execution.finished_at ? Date.parse(execution.finished_at) : now) - Date.parse(execution.started_at));
}

const short = (id) => html`<code>…${id.slice(-8)}</code>`;

/** In the unit of the agent's prices. */
const money = (micros) => (Number(micros) / 1e6).toFixed(6).replace(/0{1,4}$/, "");

/** Its name, as a link to the agent's or workflow's page; what is built in has none. */
const Definition = ({ of: { kind, definition } }) => {
  const name = html`<${Text} value=${definition.name} most=${100} />`;
  return definition.name.startsWith("holdpoint.") ? name : html`<${Link} class="plain" to=${[`${kind}s`, definition.name]}>${name}<//>`;
};

function Head({ execution: one, onDone }) {
  const { usage } = one;
  return html`<div>
    <${PageHead} title=${html`<${Definition} of=${one} />`} actions=${html`<${Acts} execution=${one} onDone=${onDone} />`}>
      ${one.kind} v${one.definition.version} · <${Id} value=${one.id} />
    <//>
    <div class="section"><${Facts} of=${[
      ["Status", html`<${Status} value=${one.status} reason=${one.reason} />`],
      ["Created", html`<${Time} value=${one.created_at} />`],
      ["Took", html`<${Took} execution=${one} />`],
      ["Run", `${one.run_type}${one.attempt > 1 ? `, attempt ${one.attempt}` : ""}`],
      ["Repeat of", one.retry_of && html`<${Link} to=${["executions", one.retry_of]}>${short(one.retry_of)}<//>`],
      ["Parent", one.parent && html`<${Link} to=${["executions", one.parent]}>${short(one.parent)}<//>`],
      ["Conversation", one.conversation_id && html`<code><${Text} value=${one.conversation_id} most=${60} /></code>`],
      ["End user", one.end_user && html`<${Text} value=${one.end_user} most=${80} />`],
      ["Tokens", usage.input_tokens + usage.output_tokens > 0 && `${usage.input_tokens} in, ${usage.output_tokens} out`],
      ["Cost", usage.cost_micros > 0 && money(usage.cost_micros)],
      ["Labels", Object.keys(one.labels).length > 0 && html`<${Labels} of=${one.labels} />`],
      ["Files", one.files.length > 0 && one.files.map((file) => html`<code>${file}</code> `)],
    ]} /></div>
  </div>`;
}

const Why = ({ diagnosis }) => html`<div class="note why">
  <p><strong><${Text} value=${diagnosis.summary} /></strong></p>
  ${diagnosis.advice && html`<p><${Text} value=${diagnosis.advice} /></p>`}
  <details><summary>Evidence</summary><${Json} value=${diagnosis.evidence} label="evidence" /></details>
</div>`;

const Failure = ({ error }) => error && html`<div class="problem"><strong>It failed: <code><${Text} value=${error.type} /></code></strong>
  <${Bytes} value=${error.message} label="the error's message" /></div>`;

const Texts = ({ execution: one }) => html`<div class="two">
  <${Section} title=${one.messages_text ? "Messages" : "Input"}><${Value} text=${one.messages_text ?? one.input_text ?? "null"} label="input" /><//>
  <${Section} title="Output">${one.output_text ? html`<${Value} text=${one.output_text} label="output" />` : html`<p class="muted">${isEnded(one) ? "None." : "Not yet."}</p>`}<//>
</div>`;

/** The approval of a step, decided in place; the step knows its approval's id only. */
const inPlace = (data, reload) => (step) => {
  const approval = step.approval && data.approvals.find((one) => one.id === step.approval.id);
  return html`<div>
    ${approval?.status === "pending" && html`<div class="step-part"><h3>Approval</h3>
      <${ApprovalCard} key=${nameOf(approval)} approval=${approval} showExecution=${false} onDecided=${reload} onStale=${reload} /></div>`}
    ${step.status === "unknown" && html`<${Resolve} execution=${data.execution} step=${step} onDone=${reload} />`}
  </div>`;
};

/** Approvals that no step of this execution shows: decided ones, and those of children. */
function Approvals({ data, reload }) {
  const own = new Set(data.steps.filter((step) => step.approval?.status === "pending").map((step) => step.approval.id));
  const others = data.approvals.filter((one) => !own.has(one.id));
  if (others.length === 0) return null;
  return html`<${Section} title="Approvals"><ul class="approvals">${others.map((one) => html`<li key=${one.id}>
    <details open=${one.status === "pending"}><summary><strong><${Text} value=${one.tool} most=${80} /></strong> <code><${Text} value=${one.tool_call_id} most=${60} /></code> <${Status} value=${one.status} />
      ${one.reason && html` <span class="muted">“<${Text} value=${one.reason} most=${120} />”</span>`}</summary>
      <${ApprovalCard} approval=${one} showExecution=${false} onDecided=${reload} onStale=${reload} /></details></li>`)}</ul><//>`;
}

const sources = (id) => ({
  execution: path`/v1/executions/${id}`, steps: path`/v1/executions/${id}/steps`, events: path`/v1/executions/${id}/events`,
  approvals: path`/v1/executions/${id}/approvals`, diagnosis: path`/v1/executions/${id}/diagnosis`,
});

function Everything({ id }) {
  const [name, setName] = useState("execution");
  const [after, setAfter] = useState(0);
  const parameters = name === "events" ? { after, limit: EVENTS } : {};
  const { data, problem, loading, reload } = useLoaded((signal) => getText(sources(id)[name], parameters, { signal }), [id, name, after]);
  const pick = (next) => {
    setAfter(0);
    setName(next);
  };
  return html`<div class="stack">
    <div class="actions"><${Tabs} label="what to show" of=${Object.keys(sources(id)).map((one) => [one, one])} value=${name} onPick=${pick} />
      <button onClick=${reload}>Load again</button>
      ${name === "events" && html`<button disabled=${after === 0} onClick=${() => setAfter(Math.max(0, after - EVENTS))}>Before</button>
        <button onClick=${() => setAfter(after + EVENTS)}>After ${after + EVENTS}</button>`}</div>
    <p class="muted"><code>GET ${sources(id)[name]}</code></p>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${data !== null && html`<${Bytes} class="tall" value=${data} label=${`JSON: ${name}`} layOut laid />`}
  </div>`;
}

/** What stands in the execution's place where it cannot be shown. */
function NotShown({ id, problem }) {
  if (problem.status !== 404) return html`<div><${PageHead} title="Execution"><${Id} value=${id} /><//><${ProblemBox} problem=${problem} /></div>`;
  return html`<div>
    <${PageHead} title="There is no such execution"><${Id} value=${id} /><//>
    <p role="alert">It never was, was removed after its time, or is not yours to see.</p>
    <p><a href=${at("executions")}>To the executions</a></p>
  </div>`;
}

export function Execution({ params, query }) {
  const { id } = params;
  const story = useStory(id);
  const { data, problem, loading, reload } = useExecution(id, story.last, story.ended);
  const tab = query.tab ?? "steps";
  const pick = (name) => go(at("executions", id, { tab: name === "steps" ? "" : name }), { replace: true });
  useShortcut("u", "Back to the list", () => go(at("executions")));
  useShortcut("r", "Load again", reload);
  if (!data) return html`<div><p class="crumb"><a href=${at("executions")}>← Executions</a></p>${problem && html`<${NotShown} id=${id} problem=${problem} />`}${loading && html`<${Loading} />`}</div>`;
  const { execution } = data;
  return html`<div>
    <p class="crumb"><a href=${at("executions")}>← Executions</a></p>
    <${Head} execution=${execution} onDone=${reload} />
    <${ProblemBox} problem=${problem} />
    <${Why} diagnosis=${data.diagnosis} />
    <${Failure} error=${execution.error} />
    <div class="tab-bar"><${Tabs} label="parts of the execution" of=${TABS} value=${tab} onPick=${pick} /></div>
    ${tab === "steps" && html`<div>
      <${Writing} story=${story} />
      <${Section} title="Steps"><${Timeline} steps=${data.steps} from=${Date.parse(execution.created_at)} extra=${inPlace(data, reload)}
        to=${execution.finished_at ? Date.parse(execution.finished_at) : undefined} /><//>
      <${Approvals} data=${data} reload=${reload} />
      <${Texts} execution=${execution} />
      ${execution.metadata_text !== "{}" && html`<${Section} title="Metadata"><${Value} text=${execution.metadata_text} label="metadata" /><//>`}
    </div>`}
    ${tab === "events" && html`<${Section} title="Events"><${Story} story=${story} /><//>`}
    ${tab === "json" && html`<${Section} title="JSON"><${Everything} id=${id} /><//>`}
  </div>`;
}
