// Standing grants: decisions that were made before they are asked for.
import { Act } from "../act-button.js";
import { del, get, path, post } from "../api.js";
import { Dialog } from "../dialog.js";
import { Terms, termsOf } from "../grant.js";
import { freshId, html, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Field, ProblemBox, Status } from "../parts.js";
import { at, go } from "../router.js";
import { can } from "../session.js";
import { Text } from "../text.js";
import { Time } from "../time.js";
import { toast } from "../toast.js";

const STATUSES = ["active", "used_up", "expired", "revoked"];

const forWhom = (row) =>
  row.agent ? html`agent <${Text} value=${row.agent} most=${80} />` : html`conversation <${Text} value=${row.conversation_id} most=${80} />`;

const columns = (reload) => [
  { name: "tool", words: "Tool", class: "name", cell: (row) => html`<${Text} value=${row.tool} most=${80} />` },
  { name: "for", words: "For", cell: forWhom },
  { name: "when", words: "While", class: "grow", cell: (row) => html`${row.when ? html`<code><${Text} value=${row.when} most=${160} /></code>` : "always"}${row.reason ? html`<br /><span class="muted"><${Text} value=${row.reason} most=${160} /></span>` : ""}` },
  { name: "uses", words: "Used", class: "number", cell: (row) => `${row.uses} of ${row.max_uses}` },
  { name: "status", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${row.status} />` },
  { name: "ends", words: "Ends", class: "narrow", cell: (row) => html`<${Time} value=${row.expires_at} />` },
  { name: "by", words: "By", class: "by", cell: (row) => html`<code class="id"><${Text} value=${row.created_by} most=${60} /></code>` },
  can("decide") && { name: "acts", words: "Acts", cell: (row) => row.status === "active" && html`<span class="actions">
      <${Act} words="Take back" danger label=${`Take back the grant for ${row.tool}`} title=${html`Take back the grant for <${Text} value=${row.tool} />?`}
        done="The grant is taken back." onDone=${reload} act=${() => del(path`/v1/grants/${row.id}`)}><p>Further calls are asked about. What it approved stays approved.</p><//>
    </span>` },
].filter(Boolean);

export function Grants({ query }) {
  const [isMaking, setMaking] = useState(false);
  const list = useListing((asked, options) => get("/v1/grants", asked, options), query, { status: query.status });
  return html`<${Listing} title="Grants" says="Calls that were approved before they are asked for." list=${list} rowsOf=${(data) => data.grants} place=${["grants"]} query=${query}
      empty="There is no such grant." columns=${columns(list.reload)} keyOf=${(row) => row.id}
      actions=${can("decide") && html`<button class="primary" onClick=${() => setMaking(true)}>Make a grant</button>`}>
      <div class="filters" role="search">
        <${Field} label="State" as="select" value=${query.status ?? ""} onInput=${(status) => go(at("grants", { status }))}>
          <option value="">any</option>${STATUSES.map((one) => html`<option value=${one}>${one}</option>`)}<//>
      </div>
    <//>
    ${isMaking && html`<${MakeGrant} onClose=${() => setMaking(false)} onDone=${list.reload} />`}`;
}

function MakeGrant({ onClose, onDone }) {
  const [id] = useState(() => freshId("form"));
  const [of, setOf] = useState("agent");
  const [given, setGiven] = useState({ name: "", tool: "", when: "", lasts: "8h", uses: "10", reason: "" });
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const field = (name, label, more = {}) =>
    html`<${Field} label=${label} value=${given[name]} onInput=${(value) => setGiven({ ...given, [name]: value })} spellcheck=${false} ...${more} />`;
  const make = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      await post("/v1/grants", {
        [of === "agent" ? "agent" : "conversation_id"]: given.name.trim(),
        tool: given.tool.trim(),
        ...termsOf(given),
        ...(given.reason.trim() && { reason: given.reason.trim() }),
      });
      toast("The grant is made.");
      onClose();
      onDone();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const foot = html`<button onClick=${onClose}>Leave it</button><button class="primary" form=${id} disabled=${busy}>Make it</button>`;
  return html`<${Dialog} title="Make a grant" onClose=${onClose} foot=${foot}>
    <form id=${id} onSubmit=${make}>
      ${field("tool", "Tool", { required: true })}
      <${Field} label="For" as="select" value=${of} onInput=${setOf}><option value="agent">an agent</option><option value="conversation">a conversation</option><//>
      ${field("name", of === "agent" ? "Agent" : "Conversation", { required: true })}
      <${Terms} given=${given} onInput=${setGiven} />
      ${field("reason", "Reason", { spellcheck: true })}
    </form>
    <${ProblemBox} problem=${problem} />
  <//>`;
}
