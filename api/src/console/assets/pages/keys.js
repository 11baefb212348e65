// API keys: made here, shown once, revoked.
import { Act } from "../act-button.js";
import { del, get, path, post } from "../api.js";
import { Dialog } from "../dialog.js";
import { freshId, html, useRef, useState } from "../lib.js";
import { Listing, useListing } from "../listing.js";
import { Field, ProblemBox, Status } from "../parts.js";
import { useMe } from "../session.js";
import { Text } from "../text.js";
import { Time } from "../time.js";

const ROLES = [
  ["approve", "decides approvals, and reads"],
  ["submit", "starts and steers executions, defines agents and workflows"],
  ["agent", "starts and steers executions, decides nothing"],
  ["read", "reads"],
  ["admin", "may do everything"],
];

const stateOf = (key) => {
  if (key.revoked_at) return "revoked";
  return key.expires_at && Date.parse(key.expires_at) < Date.now() ? "expired" : "active";
};

const columns = (me, reload) => [
  { name: "name", words: "Name", cell: (row) => html`<${Text} value=${row.name || "without a name"} most=${80} />${row.id === me.key_id ? html` <span class="muted">(yours)</span>` : ""}` },
  { name: "role", words: "Role", class: "narrow", cell: (row) => html`<${Text} value=${row.role} />` },
  { name: "groups", words: "Groups", cell: (row) => html`<${Text} value=${(row.groups ?? []).join(", ")} most=${80} />` },
  { name: "user", words: "End user", cell: (row) => html`<${Text} value=${row.end_user ?? "–"} most=${80} />` },
  { name: "state", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${stateOf(row)} />` },
  { name: "expires", words: "Expires", class: "narrow", cell: (row) => (row.expires_at ? html`<${Time} value=${row.expires_at} />` : "never") },
  { name: "created", words: "Created", class: "narrow", cell: (row) => html`<${Time} value=${row.created_at} />` },
  { name: "acts", words: "Acts", cell: (row) => stateOf(row) === "active" && html`<${Act} words="Revoke" danger label=${`Revoke ${row.name || row.id}`}
      title=${html`Revoke <${Text} value=${row.name || row.id} most=${80} />?`} done="It is revoked." onDone=${reload}
      act=${() => del(path`/v1/keys/${row.id}`)}><${Revoking} isMine=${row.id === me.key_id} /><//>` },
];

const Revoking = ({ isMine }) => html`<p>Within a second it is refused everywhere, for good.</p>
  ${isMine && html`<p><strong>It is the key that you are signed in with: you will be signed out.</strong></p>`}`;

export function Keys() {
  const me = useMe();
  const [shows, setShows] = useState(false);
  const [isOpen, setOpen] = useState(false);
  const [made, setMade] = useState(null);
  const list = useListing((asked, options) => get("/v1/keys", {}, options));
  const rows = (data) => data.keys.filter((key) => shows || stateOf(key) === "active").sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  return html`<${Listing} title="Keys" says="Those of this tenant and project. A key's text is shown once, when it is made." list=${list} rowsOf=${rows}
      empty="There is no key like this." columns=${columns(me, list.reload)} keyOf=${(row) => row.id}
      actions=${html`<button class="primary" onClick=${() => setOpen(true)}>Make a key</button>`}>
      <div class="filters"><label class="check"><input type="checkbox" checked=${shows} onChange=${() => setShows(!shows)} /> Revoked and expired ones too</label></div>
    <//>
    ${isOpen && html`<${MakeKey} onClose=${() => setOpen(false)} onMade=${(key) => { setMade(key); list.reload(); }} />`}
    ${made && html`<${Made} made=${made} onClose=${() => setMade(null)} />`}`;
}

function MakeKey({ onClose, onMade }) {
  const [id] = useState(() => freshId("form"));
  const [role, setRole] = useState("approve");
  const [name, setName] = useState("");
  const [groups, setGroups] = useState("");
  const [user, setUser] = useState("");
  const [after, setAfter] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const named = groups.split(/[\s,]+/).filter(Boolean);
  const make = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      const key = await post("/v1/keys", {
        role,
        ...(name && { name }),
        ...(named.length && { groups: named }),
        ...(user.trim() && { end_user: user.trim() }),
        ...(after.trim() && { expires_after: after.trim() }),
      });
      onClose();
      onMade(key);
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const foot = html`<button onClick=${onClose}>Leave it</button><button class="primary" form=${id} disabled=${busy}>Make it</button>`;
  return html`<${Dialog} title="Make a key" onClose=${onClose} foot=${foot}>
    <form id=${id} onSubmit=${make}>
      <${Field} label="Role" as="select" value=${role} onInput=${setRole} hint=${`It ${ROLES.find(([word]) => word === role)[1]}.`}>
        ${ROLES.map(([word]) => html`<option value=${word}>${word}</option>`)}<//>
      <${Field} label="Name" value=${name} onInput=${setName} hint="For people: whose it is, or what for." />
      <${Field} label="Groups" value=${groups} onInput=${setGroups} spellcheck=${false} hint="As approval policies name them, parted by spaces." />
      <${Field} label="End user" value=${user} onInput=${setUser} spellcheck=${false} hint="It then sees and does only what is this end user's." />
      <${Field} label="Expires after" value=${after} onInput=${setAfter} placeholder="30d" spellcheck=${false} hint="Such as 12h or 30d; never, where this is empty." />
    </form>
    <${ProblemBox} problem=${problem} />
  <//>`;
}

function Made({ made, onClose }) {
  const [copied, setCopied] = useState(false);
  const field = useRef(null);
  const copy = async () => {
    field.current.querySelector("input").select();
    await navigator.clipboard?.writeText(made.key).catch(() => {});
    setCopied(true);
  };
  return html`<${Dialog} title="The new key" onClose=${onClose} foot=${html`<button class="primary" onClick=${onClose}>I have kept it</button>`}>
    <p>This is the only time that it is shown.</p>
    <div ref=${field}><${Field} label="Key" class="code" value=${made.key} onInput=${() => {}} readonly autofocus spellcheck=${false} /></div>
    <button onClick=${copy}>${copied ? "Copied" : "Copy"}</button>
  <//>`;
}
