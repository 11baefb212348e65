// The steps of an execution in their order: each with a bar where it lies in time, its
// attempts and how long it took; opened, with everything that the journal has of it.
import { cls, html, useState } from "./lib.js";
import { show } from "./json.js";
import { Empty, Facts, Status } from "./parts.js";
import { Link } from "./router.js";
import { Bytes, Digest, Text, Value } from "./text.js";
import { span, Time, useNow } from "./time.js";

const KINDS = { model: "model call", tool: "tool call", noop: "constant", task: "task", tools: "list of tools" };
const FIRST = 200;

/** The members of `/steps` that are shown as they were written. */
export const KEPT = ["arguments", "output", "fault"];

const startOf = (step) => Date.parse(step.started_at ?? step.approval?.requested_at ?? "");

/** Where a span lies in the whole, in hundredths. */
function place(start, end, from, to) {
  if (Number.isNaN(start) || to <= from) return null;
  const part = (at) => Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100));
  return { left: `${part(start)}%`, width: `${Math.max(0.6, part(end) - part(start))}%` };
}

const Failure = ({ value }) => value && html`<p class="bad-text"><code><${Text} value=${value.type} /></code> <${Text} value=${value.message} /></p>`;

const Part = ({ words, children }) => html`<div class="step-part"><h3>${words}</h3>${children}</div>`;

const Listed = ({ list }) => html`<${Part} words="Tools that the server listed">
  <p><${Digest} value=${list.digest} whole /></p>
  <p>${list.tools.map((name) => html`<code class="label"><${Text} value=${name} /></code> `)}</p>
  ${list.skipped.map((tool) => html`<p class="muted">left out: <code><${Text} value=${tool.name} /></code>: <${Text} value=${tool.reason} /></p>`)}
<//>`;

function Inside({ step, children }) {
  const { usage, approval } = step;
  return html`<div class="step-inside">
    <${Facts} of=${[
      ["Began", step.started_at && html`<${Time} value=${step.started_at} exact />`],
      ["Ended", step.finished_at && html`<${Time} value=${step.finished_at} exact />`],
      ["Call", step.tool_call_id && html`<code><${Text} value=${step.tool_call_id} /></code>`],
      ["Task", step.task && html`<code><${Text} value=${step.task} /></code>`],
      ["Child", step.child && html`<${Link} to=${["executions", step.child]}><code>${step.child}</code><//>`],
      ["Tokens", usage && `${usage.input_tokens} in, ${usage.output_tokens} out`],
      ["Approval", approval && html`<${Status} value=${approval.status} />`],
      ["Decided by", approval?.decided_by && html`<code><${Text} value=${approval.decided_by} /></code>`],
      ["Reason", approval?.reason && html`<${Text} value=${approval.reason} />`],
    ]} />
    <${Failure} value=${step.error} />
    ${step.arguments_text && approval?.status !== "pending" && html`<${Part} words="Arguments"><${Bytes} value=${step.arguments_text} label="arguments" layOut /><//>`}
    ${step.output_text && html`<${Part} words="Output"><${Value} text=${step.output_text} label="output" /><//>`}
    ${step.fault_text && html`<${Part} words="Fault"><${Value} text=${step.fault_text} label="fault" /><//>`}
    ${step.listed && html`<${Listed} list=${step.listed} />`}
    ${children}
  </div>`;
}

function Step({ step, from, to, extra }) {
  const now = useNow();
  const start = startOf(step);
  const took = Number.isNaN(start) ? "" : span((step.finished_at ? Date.parse(step.finished_at) : now) - start);
  const needsLook = step.status === "unknown" || step.approval?.status === "pending";
  const [isOpen, setOpen] = useState(needsLook);
  return html`<li><details class="step" open=${isOpen} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>
      <span class="step-number">${step.step}</span>
      <span class="step-name"><strong><${Text} value=${step.name ?? KINDS[step.kind] ?? step.kind} most=${80} /></strong>
        <span class="muted"> ${step.name ? (KINDS[step.kind] ?? step.kind) : ""}${step.attempts > 1 ? ` · ${step.attempts} attempts` : ""}</span></span>
      <${Bars} step=${step} from=${from} to=${to} />
      <span class="step-took">${took}</span>
      <${Status} value=${step.status} />
    </summary>
    ${isOpen && html`<${Inside} step=${step}>${extra(step)}<//>`}
  </details></li>`;
}

/** The step's bar, and before it a thinner one for the time in which a person was asked. */
function Bars({ step, from, to }) {
  const start = startOf(step);
  const own = place(start, step.finished_at ? Date.parse(step.finished_at) : to, from, to);
  const asked = Date.parse(step.approval?.requested_at ?? "");
  const wait = asked < start && place(asked, Math.min(Date.parse(step.approval.decided_at ?? "") || start, start), from, to);
  return html`<span class="step-bar" aria-hidden="true">
    ${wait && html`<span class="bar asked" style=${wait}></span>`}${own && html`<span class=${cls("bar", step.status)} style=${own}></span>`}
  </span>`;
}

/** `extra(step)` is what a page adds to an opened step. */
export function Timeline({ steps, from, to, extra }) {
  const [all, setAll] = useState(false);
  const now = useNow();
  if (steps.length === 0) return html`<${Empty}>It has no step yet.<//>`;
  const shown = all ? steps : steps.slice(-FIRST);
  const end = to ?? now;
  return html`<div>
    ${shown.length < steps.length && html`<div class="more"><button onClick=${() => setAll(true)}>Show the ${steps.length - shown.length} steps before</button></div>`}
    <ol class="timeline">${shown.map((step) => html`<${Step} key=${step.step} step=${step} from=${from} to=${end} extra=${extra} />`)}</ol>
  </div>`;
}

/** A value of ours, such as evidence, as JSON. */
export const Json = ({ value, label }) => html`<${Bytes} value=${show(value)} label=${label} />`;
