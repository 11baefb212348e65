// The audit: who decided, granted and changed what; and whether its rows fit together.
import { get } from "../api.js";
import { chainOf } from "../chain.js";
import { html, useEffect, useState } from "../lib.js";
import { useSettled } from "../live.js";
import { Listing, useListing } from "../listing.js";
import { Facts, Field, Loading } from "../parts.js";
import { at, go } from "../router.js";
import { Dialog } from "../dialog.js";
import { Bytes, Digest, Text } from "../text.js";
import { Time } from "../time.js";

const COLUMNS = [
  { name: "seq", words: "No.", class: "number", cell: (row) => row.seq },
  { name: "at", words: "When", class: "narrow", cell: (row) => html`<${Time} value=${row.at} />` },
  { name: "act", words: "Act", class: "narrow", cell: (row) => html`<${Text} value=${row.act} />` },
  { name: "actor", words: "Actor", cell: (row) => html`<code class="id"><${Text} value=${row.actor} most=${60} /></code>${row.end_user ? html` <span class="muted">for <${Text} value=${row.end_user} most=${60} /></span>` : ""}` },
  { name: "subject", words: "Subject", cell: (row) => html`<${Subject} row=${row} />` },
  { name: "details", words: "Details", class: "grow", cell: (row) => html`<${Text} value=${row.details} most=${140} />` },
];

const EXECUTION = /^exe_[0-9a-z]{26}$/;

const Subject = ({ row: { subject } }) =>
  EXECUTION.test(subject) ? html`<a href=${at("executions", subject)}>…${subject.slice(-8)}</a>` : html`<${Text} value=${subject} most=${80} />`;

/** The filters that stand in the place's query, typed into it after a pause. */
function Filters({ query }) {
  const [typed, setTyped] = useState({ act: query.act ?? "", actor: query.actor ?? "", subject: query.subject ?? "" });
  const settled = useSettled(JSON.stringify(typed));
  useEffect(() => {
    const wanted = JSON.parse(settled);
    const isOther = Object.entries(wanted).some(([name, value]) => value.trim() !== (query[name] ?? ""));
    if (isOther) go(at("audit", Object.fromEntries(Object.entries(wanted).map(([name, value]) => [name, value.trim()]))), { replace: true });
  }, [settled]);
  const field = (name, label, hint) => html`<${Field} label=${label} value=${typed[name]} placeholder=${hint} spellcheck=${false}
    onInput=${(value) => setTyped({ ...typed, [name]: value })} />`;
  return html`<div class="filters" role="search">
    ${field("act", "Act", "approval.decided")}${field("actor", "Actor", "key_…")}${field("subject", "Subject", "exe_…")}
  </div>`;
}

const SAID = {
  fits: ["good-text", "✓ The rows of this page fit together: each carries the hash of the one before it, and its own is that of its fields."],
  alone: ["good-text", "✓ The hash of each row of this page is that of its fields. With filters, rows between them are not seen."],
  linked: ["muted", "Each row of this page carries the hash of the one before it. This browser computes no hashes over plain HTTP."],
  cannot: ["muted", "Not checked: this browser computes no hashes over plain HTTP."],
};

function Chain({ rows, head, isFiltered }) {
  const [verdict, setVerdict] = useState(null);
  useEffect(() => {
    let isOld = false;
    chainOf(rows, isFiltered).then((found) => !isOld && setVerdict(found));
    return () => {
      isOld = true;
    };
  }, [rows]);
  if (!verdict) return html`<${Loading} />`;
  const [tone, words] = SAID[verdict.kind] ?? ["bad-text", `✗ Row ${verdict.seq} does not fit: ${verdict.fault}. Run holdpoint audit verify.`];
  return html`<div class="note chain" role="status">
    <p class=${tone}>${words}</p>
    ${head && html`<p class="muted">The chain has ${head.seq} rows; the last one's hash is <${Digest} value=${head.hash} />.</p>`}
  </div>`;
}

export function Audit({ query }) {
  const { act, actor, subject } = query;
  const list = useListing((asked, options) => get("/v1/audit", asked, options), query, { act, actor, subject });
  const [opened, open] = useState(null);
  const { data } = list;
  return html`<${Listing} title="Audit" says="Who decided, granted and changed what, newest first." list=${list} rowsOf=${(page) => page.audit}
      place=${["audit"]} query=${query} empty="There is no row like this." columns=${COLUMNS} keyOf=${(row) => row.seq} onOpen=${open}>
      <${Filters} query=${query} />
      ${data && html`<${Chain} rows=${data.audit} head=${data.head} isFiltered=${Boolean(act || actor || subject)} />`}
    <//>
    ${opened && html`<${Row} row=${opened} onClose=${() => open(null)} />`}`;
}

const Row = ({ row, onClose }) => html`<${Dialog} title=${`Row ${row.seq}`} onClose=${onClose} wide>
  <${Facts} of=${[
    ["Act", html`<${Text} value=${row.act} />`],
    ["When", html`<${Text} value=${row.at} />`],
    ["Actor", html`<code class="id"><${Text} value=${row.actor} /></code>`],
    ["End user", row.end_user && html`<${Text} value=${row.end_user} />`],
    ["Subject", html`<span class="id"><${Text} value=${row.subject} /></span>`],
    ["Hash", html`<${Digest} value=${row.hash} whole />`],
    ["Hash of the row before", row.prev_hash ? html`<${Digest} value=${row.prev_hash} whole />` : "none: it is the first"],
  ]} />
  <h3>Details</h3>
  <${Bytes} value=${row.details} label="details" layOut />
<//>`;
