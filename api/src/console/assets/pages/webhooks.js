// Webhooks: whom the project's events are sent to, and how that goes.
import { Act } from "../act-button.js";
import { get, path, post } from "../api.js";
import { Dialog } from "../dialog.js";
import { html, useState } from "../lib.js";
import { useLoaded } from "../live.js";
import { Listing, useListing } from "../listing.js";
import { Empty, Loading, ProblemBox, Status } from "../parts.js";
import { Table } from "../table.js";
import { Text } from "../text.js";
import { Time } from "../time.js";

const columns = (reload, open) => [
  { name: "url", words: "URL", class: "grow", cell: (row) => html`<${Text} value=${row.url} most=${120} />${row.description ? html`<br /><span class="muted"><${Text} value=${row.description} most=${160} /></span>` : ""}` },
  { name: "types", words: "Events", cell: (row) => html`<${Text} value=${row.types.length ? row.types.join(", ") : "all"} most=${120} />` },
  { name: "state", words: "State", class: "narrow", cell: (row) => html`<${Status} value=${row.enabled ? "active" : "disabled"} reason=${row.disabled_reason} />` },
  { name: "failing", words: "Failing since", class: "narrow", cell: (row) => html`<${Time} value=${row.failing_since} />` },
  { name: "acts", words: "Acts", cell: (row) => html`<span class="actions">
      <button class="small" aria-label=${`Deliveries of ${row.id}`} onClick=${() => open(row)}>Deliveries</button>
      ${row.enabled
        ? html`<${Act} key="test" words="Test" label=${`Test ${row.id}`} class="small" done="A test event is on its way." act=${() => post(path`/v1/webhooks/${row.id}/test`)} />`
        : html`<${Act} key="enable" words="Enable" label=${`Enable ${row.id}`} class="small" done="It is called again." onDone=${reload} act=${() => post(path`/v1/webhooks/${row.id}/enable`)} />`}
    </span>` },
];

export function Webhooks() {
  const [opened, open] = useState(null);
  const list = useListing((asked, options) => get("/v1/webhooks", {}, options));
  return html`<${Listing} title="Webhooks" says="Whom the project's lifecycle events are sent to." list=${list} rowsOf=${(data) => data.webhooks}
      empty="There is no webhook." columns=${columns(list.reload, open)} keyOf=${(row) => row.id} />
    ${opened && html`<${Deliveries} webhook=${opened} onClose=${() => open(null)} />`}`;
}

const DELIVERIES = [
  { name: "type", words: "Event", cell: (row) => html`<${Text} value=${row.type} most=${80} />` },
  { name: "status", words: "Status", class: "narrow", cell: (row) => html`<${Status} value=${row.status} />` },
  { name: "attempts", words: "Attempts", class: "number", cell: (row) => row.attempts },
  { name: "answer", words: "Answer", cell: (row) => html`<${Text} value=${[row.response_status, row.error].filter((one) => one !== null && one !== undefined).join(" ") || "–"} most=${200} />` },
  { name: "created", words: "Created", class: "narrow", cell: (row) => html`<${Time} value=${row.created_at} />` },
];

function Deliveries({ webhook, onClose }) {
  const { data, problem, loading } = useLoaded((signal) => get(path`/v1/webhooks/${webhook.id}/deliveries`, {}, { signal }), [webhook.id]);
  return html`<${Dialog} title="Deliveries" onClose=${onClose} wide>
    <p class="muted"><${Text} value=${webhook.url} most=${200} /></p>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${data?.deliveries.length === 0 && html`<${Empty}>Nothing was sent yet.<//>`}
    ${data?.deliveries.length > 0 && html`<${Table} label="deliveries" columns=${DELIVERIES} rows=${data.deliveries} keyOf=${(row) => row.event_id} />`}
  <//>`;
}
