// Workflows: those that there are, and one with its state, versions, a start and a test run.
import { Act } from "../act-button.js";
import { get, path, post } from "../api.js";
import { badOf, SchemaForm, startOf } from "../form.js";
import { asWritten, definitionColumns, JsonField, jsonFault, pairsOf, StartDialog, useDefinition, VersionField, Versions } from "../definition.js";
import { parse, show, write } from "../json.js";
import { html, useLayoutEffect, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Facts, Field, Loading, PageHead, ProblemBox, Section, Status, Tabs } from "../parts.js";
import { at, go } from "../router.js";
import { can } from "../session.js";
import { Bytes, Digest, Text } from "../text.js";
import { Time } from "../time.js";

const COLUMNS = [
  ...definitionColumns("workflows"),
  { name: "state", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${row.state} />${row.schedule_stopped && html` <span class="muted">schedule stopped</span>`}` },
];

export function Workflows({ query }) {
  const list = useListing((asked, options) => get("/v1/workflows", asked, options), query);
  return html`<${Listing} title="Workflows" says="The latest version of each, by name." list=${list} rowsOf=${(data) => data.workflows}
    place=${["workflows"]} query=${query} empty="There is no workflow." columns=${COLUMNS}
    keyOf=${(row) => row.name} onOpen=${(row) => go(at("workflows", row.name))} />`;
}

const documentOf = (name, version, options) => get(path`/v1/workflows/${name}`, { version }, options);

export function Workflow({ params: { name }, query }) {
  const version = query.version && Number(query.version);
  const { whole, all } = useDefinition(
    (number, options) => documentOf(name, number, options),
    (options) => get(path`/v1/workflows/${name}/versions`, {}, options),
    name,
    version,
  );
  const [begun, begin] = useState(null);
  const workflow = whole.data;
  const buttons = workflow && html`
    ${can("define") && html`<${StateActs} name=${name} state=${workflow.state} stopped=${workflow.schedule_stopped} onDone=${whole.reload} />`}
    ${can("submit") && html`<button onClick=${() => begin("test")}>Test run</button>
      <button class="primary" onClick=${() => begin("start")}>Start</button>`}`;
  return html`<div>
    <${PageHead} title=${html`<${Text} value=${name} />`} actions=${buttons}>Workflow${workflow ? ` · version ${workflow.version}` : ""}<//>
    <${ProblemBox} problem=${whole.problem ?? all.problem} />
    ${whole.loading && html`<${Loading} />`}
    ${workflow && html`<${Whole} workflow=${workflow} />`}
    ${workflow && all.data && html`<${Versions} key=${`${name} ${workflow.version}`} place="workflows" name=${name} versions=${all.data.versions}
      version=${workflow.version} textOf=${async (number) => (await documentOf(name, number)).source} />`}
    ${begun && html`<${Start} workflow=${workflow} isTest=${begun === "test"} versions=${all.data?.versions ?? []} version=${version} onClose=${() => begin(null)} />`}
  </div>`;
}

const STATES = {
  pause: ["Pause", "Nothing of it is started or scheduled until it is resumed. A run that goes on ends at its next step as cancelled, reason paused.", "paused"],
  resume: ["Resume", null, "active"],
  archive: ["Archive", "As pausing, for good: until it is resumed.", "archived"],
};

function StateActs({ name, state, stopped, onDone }) {
  const acts = state === "active" ? [...(stopped ? ["resume"] : []), "pause", "archive"] : state === "archived" ? ["resume"] : ["resume", "archive"];
  return acts.map((act) => {
    const [words, means, becomes] = STATES[act];
    const change = () => post(`${path`/v1/workflows/${name}`}/${act}`);
    return html`<${Act} key=${act} words=${words} title=${means && html`${words} <${Text} value=${name} />?`} danger=${act === "archive"} act=${change}
      done=${`The workflow is ${becomes}.`} onDone=${onDone}><p>${means}</p><//>`;
  });
}

function Whole({ workflow }) {
  const about = workflow.document?.document ?? {};
  return html`<${Section} title="What it is">
      <${Facts} of=${[
        ["State", html`<${Status} value=${workflow.state} />`],
        ["Scheduled", workflow.schedule_stopped && "no: its last run failed for good; resume it, or put a new version"],
        ["Its author's version", html`<${Text} value=${workflow.label} most=${60} />`],
        ["Title", about.title && html`<${Text} value=${about.title} most=${300} />`],
        ["Summary", about.summary && html`<${Text} value=${about.summary} most=${500} />`],
        ["Execution mode", "durable"],
        ["Schedule", workflow.document?.schedule && html`<${Text} value=${show(workflow.document.schedule, 0)} most=${200} />`],
        ["Digest", html`<${Digest} value=${workflow.digest} />`],
        ["Created", html`<${Time} value=${workflow.created_at} />`],
      ]} />
    <//>
    <${Section} title="Document"><${Bytes} value=${workflow.source} label="document" layOut /><//>`;
}

/** What the input must be, where the document says so. */
const schemaOf = (workflow) => workflow.document?.input?.schema?.document ?? null;

/** The input: a form where the document says what it must be, else its text. `onText` gets JSON, or null while it is none. */
function Input({ schema, onText }) {
  const [mode, setMode] = useState(schema ? "form" : "text");
  const [node, setNode] = useState(() => startOf(schema ?? { type: "object" }));
  const [text, setText] = useState("{}");
  const wrong = mode === "form" ? badOf(node) : jsonFault(text);
  const given = wrong ? null : mode === "form" ? write(node) : text;
  // Before it is seen: what starts is what is shown.
  useLayoutEffect(() => onText(given), [given]);
  const turn = (to) => {
    if (to === mode || wrong || (to === "form" && text.trim() === "")) return;
    if (to === "text") setText(write(node, 2));
    else setNode(parse(text));
    setMode(to);
  };
  return html`${schema && html`<${Tabs} label="how to write the input" of=${[["form", "Form"], ["text", "JSON text"]]} value=${mode} onPick=${turn} />`}
    ${mode === "form"
      ? html`<${SchemaForm} schema=${schema} node=${node} onChange=${setNode} label="Input" />`
      : html`<${JsonField} label="Input" value=${text} onInput=${setText} hint="Any JSON." />`}
    ${mode === "form" && wrong && html`<p class="bad-text" role="alert"><${Text} value=${wrong} /></p>`}`;
}

function Start({ workflow, isTest, versions, version, onClose }) {
  const { name } = workflow;
  const [input, setInput] = useState("{}");
  const [labels, setLabels] = useState("");
  const [picked, setPicked] = useState(version ? String(version) : "");
  const given = () => ({ ...(picked && { version: Number(picked) }), ...(input.trim() && { input: asWritten(input) }) });
  const body = () => (isTest ? given() : { workflow: name, ...given(), ...(labels.trim() && { labels: pairsOf(labels) }) });
  const to = isTest ? path`/v1/workflows/${name}/test-runs` : "/v1/executions";
  return html`<${StartDialog} title=${html`${isTest ? "Test run of" : "Start"} <${Text} value=${name} />`} to=${to} body=${body}
      words=${isTest ? "Begin the test run" : "Start"} ready=${input !== null} onClose=${onClose}>
    ${isTest && html`<p class="note">A test run counts for nothing in the workflow's state and its schedule; its effects are real. One goes on at a time, for ten minutes at most.</p>`}
    <${Input} schema=${schemaOf(workflow)} onText=${setInput} />
    ${!isTest && html`<${Field} label="Labels" value=${labels} onInput=${setLabels} placeholder="team=support" spellcheck=${false} hint="name=value, parted by spaces." />`}
    <${VersionField} versions=${versions} value=${picked} onInput=${setPicked} />
  <//>`;
}
