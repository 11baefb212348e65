// Messages that could not be carried out: what they were, and what becomes of them.
import { Act } from "../act-button.js";
import { del, get, path, post } from "../api.js";
import { show } from "../json.js";
import { html, useState } from "../lib.js";
import { useLoaded, useSettled } from "../live.js";
import { Listing, useListing } from "../listing.js";
import { Empty, Facts, Field, Loading, PageHead, ProblemBox, Section } from "../parts.js";
import { at, go, Link } from "../router.js";
import { Bytes, Digest, Id, Text } from "../text.js";
import { Time } from "../time.js";
import { toast } from "../toast.js";

const COLUMNS = [
  { name: "kind", words: "Message", cell: (row) => html`<${Link} to=${["parked", row.id]}><${Text} value=${row.kind ?? "of no kind"} most=${60} /><//>` },
  { name: "code", words: "Code", class: "narrow", cell: (row) => html`<code><${Text} value=${row.code} /></code>` },
  { name: "reason", words: "Reason", class: "grow", cell: (row) => html`<${Text} value=${row.reason} most=${160} />` },
  { name: "bytes", words: "Bytes", class: "number", cell: (row) => row.body_bytes },
  { name: "parked", words: "Parked", class: "narrow", cell: (row) => html`<${Time} value=${row.parked_at} />` },
];

export function ParkedMessages({ query }) {
  const [code, setCode] = useState(query.code ?? "");
  const settled = useSettled(code.trim());
  const list = useListing((asked, options) => get("/v1/parked-messages", asked, options), query, { code: settled });
  return html`<${Listing} title="Parked messages" says="Commands by message that could not be carried out, newest first." list=${list}
      rowsOf=${(data) => data.parked_messages} place=${["parked"]} query=${{ ...query, code: settled }} empty="No message is parked." columns=${COLUMNS}
      keyOf=${(row) => row.id} onOpen=${(row) => go(at("parked", row.id))}>
    <div class="filters" role="search"><${Field} label="Code" value=${code} onInput=${setCode} placeholder="undecodable" spellcheck=${false} /></div>
  <//>`;
}

export function ParkedMessage({ params: { id } }) {
  const where = path`/v1/parked-messages/${id}`;
  const { data: message, problem, loading } = useLoaded((signal) => get(where, {}, { signal }), [id]);
  const [outcome, setOutcome] = useState(null);
  const redriven = (answer) => {
    setOutcome(answer);
    if (answer.outcome === "accepted") toast("It was accepted, and is parked no more.");
    else toast("It was rejected again, and stays.", "bad");
  };
  const isGone = outcome?.outcome === "accepted";
  const actions = message && !isGone && html`
    <${Act} words="Discard" danger title="Discard this message?" done="It is gone." act=${() => del(where)} onDone=${() => go(at("parked"))}>
      <p>It is removed for good; its producer is told nothing.</p><//>
    <${Act} words="Redrive" class="primary" title="Take it in again?" act=${() => post(`${where}/redrive`)} onDone=${redriven}>
      <p>As if it came now, with the key that it was sent with. Accepted, it is parked no more.</p><//>`;
  return html`<div>
    <${PageHead} title="Parked message" actions=${actions}><${Id} value=${id} /><//>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    <div role="status">${isGone && html`<p class="note">It was accepted: <${Link} to=${["executions", outcome.execution_id]}>to its execution<//></p>`}</div>
    ${outcome?.problem && html`<${ProblemBox} problem=${{ document: outcome.problem }} />`}
    ${message && html`<${Whole} message=${message} />`}
  </div>`;
}

const Whole = ({ message }) => html`
  <${Section} title="Why">
    <${Facts} of=${[
      ["Code", html`<code><${Text} value=${message.code} /></code>`],
      ["Parked", html`<${Time} value=${message.parked_at} />`],
      ["Queue", html`<${Text} value=${message.queue} />`],
      ["Kind", html`<${Text} value=${message.kind ?? "–"} most=${120} />`],
      ["Message id", html`<${Text} value=${message.message_id ?? "–"} most=${255} />`],
      ["Key", html`<${Text} value=${message.key_id ?? "none that was good"} />`],
      ["Digest of the body", html`<${Digest} value=${message.body_digest} />`],
    ]} />
    <${Bytes} value=${message.reason} label="reason" />
  <//>
  <${Section} title="Body">
    ${message.body === undefined
      ? html`<${Empty}>${message.body_bytes} bytes that were not kept, or are no text.<//>`
      : html`<${Bytes} value=${message.body} label="body" layOut />`}
  <//>
  <${Section} title="Headers"><${Bytes} value=${show(message.headers)} label="headers" /><//>
  <${Section} title="Properties"><${Bytes} value=${show(message.properties)} label="properties" /><//>`;
