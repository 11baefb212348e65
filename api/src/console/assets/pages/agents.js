// Agents: those that there are, and one with its versions, what differs between them, and a start.
import { get, path } from "../api.js";
import { asWritten, definitionColumns, JsonField, jsonFault, pairsOf, StartDialog, useDefinition, VersionField, Versions } from "../definition.js";
import { show } from "../json.js";
import { html, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Facts, Field, Loading, PageHead, ProblemBox, Section, Tabs } from "../parts.js";
import { at, go } from "../router.js";
import { can } from "../session.js";
import { Table } from "../table.js";
import { Bytes, Digest, Text } from "../text.js";
import { Time } from "../time.js";

export function Agents({ query }) {
  const list = useListing((asked, options) => get("/v1/agents", asked, options), query);
  return html`<${Listing} title="Agents" says="The latest version of each, by name." list=${list} rowsOf=${(data) => data.agents}
    place=${["agents"]} query=${query} empty="There is no agent." columns=${definitionColumns("agents")}
    keyOf=${(row) => row.name} onOpen=${(row) => go(at("agents", row.name))} />`;
}

const documentOf = (name, version, options) => get(path`/v1/agents/${name}`, { version }, options);

export function Agent({ params: { name }, query }) {
  const version = query.version && Number(query.version);
  const { whole, all } = useDefinition(
    (number, options) => documentOf(name, number, options),
    (options) => get(path`/v1/agents/${name}/versions`, {}, options),
    name,
    version,
  );
  const [isStarting, setStarting] = useState(false);
  const agent = whole.data;
  const actions = can("submit") && agent && html`<button class="primary" onClick=${() => setStarting(true)}>Start</button>`;
  return html`<div>
    <${PageHead} title=${html`<${Text} value=${name} />`} actions=${actions}>Agent${agent ? ` · version ${agent.version}` : ""}<//>
    <${ProblemBox} problem=${whole.problem ?? all.problem} />
    ${whole.loading && html`<${Loading} />`}
    ${agent && html`<${Whole} agent=${agent} />`}
    ${agent && all.data && html`<${Versions} key=${`${name} ${agent.version}`} place="agents" name=${name} versions=${all.data.versions}
      version=${agent.version} textOf=${async (number) => show((await documentOf(name, number)).document)} />`}
    ${isStarting && html`<${Start} name=${name} versions=${all.data?.versions ?? []} version=${version} onClose=${() => setStarting(false)} />`}
  </div>`;
}

const kindOf = (tool) => (tool.mcp ? "MCP server" : tool.agent ? "agent" : "HTTP");
const approvalOf = ({ approval }) => (approval === undefined || approval === "never" ? "never" : approval === "always" ? "always" : show(approval, 0));
const TOOLS = [
  { name: "name", words: "Tool", class: "narrow", cell: (tool) => html`<${Text} value=${tool.name} />` },
  { name: "kind", words: "Kind", class: "narrow", cell: kindOf },
  { name: "effect", words: "Effect", class: "narrow", cell: (tool) => html`<${Text} value=${tool.effect ?? "–"} />` },
  { name: "approval", words: "Approval", cell: (tool) => html`<${Text} value=${approvalOf(tool)} most=${120} />` },
  { name: "about", words: "What it does", class: "grow", cell: (tool) => html`<${Text} value=${tool.description} most=${200} />` },
];

function Whole({ agent }) {
  const { document } = agent;
  const tools = document.tools ?? [];
  return html`<${Section} title="What it is">
      <${Facts} of=${[
        ["Description", document.description && html`<${Text} value=${document.description} most=${500} />`],
        ["Execution mode", html`<${Text} value=${document.execution_mode ?? "durable"} />`],
        ["Model", html`<${Text} value=${document.model?.name} most=${120} />`],
        ["At", html`<${Text} value=${document.model?.base_url} most=${120} />`],
        ["Turns at most", document.max_turns === undefined ? null : String(document.max_turns)],
        ["Transfers to", document.transfers?.length ? html`<${Text} value=${document.transfers.map((one) => one.agent ?? show(one, 0)).join(", ")} most=${300} />` : null],
        ["Digest", html`<${Digest} value=${agent.digest} />`],
        ["Created", html`<${Time} value=${agent.created_at} />`],
      ]} />
    <//>
    ${document.instructions && html`<${Section} title="Instructions"><${Bytes} value=${document.instructions} label="instructions" /><//>`}
    ${tools.length > 0 && html`<${Section} title="Tools"><${Table} label="tools" columns=${TOOLS} rows=${tools} keyOf=${(tool) => tool.name} /><//>`}
    <${Section} title="Document"><${Bytes} value=${show(document)} label="document" /><//>`;
}

function Start({ name, versions, version, onClose }) {
  const [kind, setKind] = useState("message");
  const [message, setMessage] = useState("");
  const [input, setInput] = useState("");
  const [conversation, setConversation] = useState("");
  const [labels, setLabels] = useState("");
  const [picked, setPicked] = useState(version ? String(version) : "");
  const body = () => ({
    agent: name,
    ...(picked && { version: Number(picked) }),
    ...(kind === "message" ? { messages: [{ role: "user", content: message }] } : { input: asWritten(input) }),
    ...(conversation && { conversation_id: conversation }),
    ...(labels.trim() && { labels: pairsOf(labels) }),
  });
  const ready = kind === "message" ? message.trim() !== "" : input.trim() !== "" && !jsonFault(input);
  return html`<${StartDialog} title=${html`Start <${Text} value=${name} />`} to="/v1/executions" body=${body} ready=${ready} onClose=${onClose}>
    <${Tabs} label="What it is started with" of=${[["message", "A message"], ["input", "Input"]]} value=${kind} onPick=${setKind} />
    ${kind === "message"
      ? html`<${Field} label="Message" as="textarea" value=${message} onInput=${setMessage} hint="As the user says it." />`
      : html`<${JsonField} label="Input" value=${input} onInput=${setInput} hint="Any JSON." />`}
    <${Field} label="Conversation" value=${conversation} onInput=${setConversation} hint="Its id; a new one where this is empty." spellcheck=${false} />
    <${Field} label="Labels" value=${labels} onInput=${setLabels} placeholder="team=support" spellcheck=${false} hint="name=value, parted by spaces." />
    <${VersionField} versions=${versions} value=${picked} onInput=${setPicked} />
  <//>`;
}
