// Small parts of pages.
import { cls, freshId, html, useState } from "./lib.js";
import { show } from "./json.js";
import { Bytes, Text } from "./text.js";

const TONES = {
  completed: "good", approved: "good", active: "good", happened: "good", accepted: "good",
  failed: "bad", denied: "bad", expired: "bad", digest_mismatch: "bad", revoked: "bad", unknown: "bad", rejected: "bad",
  running: "busy", calling: "busy",
  suspended: "wait", pending: "wait", waiting: "wait", retrying: "wait", paused: "wait", maintenance: "wait",
};

/** A status as a word with a colour, and the reason beside it. */
export const Status = ({ value, reason }) => html`<span class=${cls("status", TONES[value] ?? "quiet")}>
  <span class="dot" aria-hidden="true"></span><span><${Text} value=${String(value).replaceAll("_", " ")} />
  ${reason && reason !== value && html` · <span class="reason"><${Text} value=${String(reason).replaceAll("_", " ")} /></span>`}</span>
</span>`;

const KNOWN = ["type", "title", "status", "detail", "code"];

/** A problem of the API (RFC 9457), or any error, said plainly; nothing where there is none. */
export function ProblemBox({ problem }) {
  if (!problem) return null;
  const document = problem.document ?? { title: "Something went wrong in this page", detail: String(problem.message ?? problem) };
  const more = Object.fromEntries(Object.entries(document).filter(([name]) => !KNOWN.includes(name)));
  return html`<div class="problem" role="alert">
    <strong><${Text} value=${document.title} /></strong>
    ${document.detail && html`<p><${Text} value=${document.detail} /></p>`}
    ${Object.keys(more).length > 0 && html`<${Bytes} value=${show(more)} label="what else the answer says" />`}
    <p class="muted">${document.status ? `${document.status} ` : ""}<code><${Text} value=${document.code} /></code></p>
  </div>`;
}

/** The head of a page: its title, what is said of it, and buttons. */
export const PageHead = ({ title, children, actions }) => html`<header class="page-head">
  <div><h1>${title}</h1>${children && html`<p class="muted">${children}</p>`}</div>
  ${actions && html`<div class="actions">${actions}</div>`}
</header>`;

/** A part of a page with a heading. */
export function Section({ title, actions, children, class: name }) {
  const [id] = useState(() => freshId("section"));
  return html`<section class=${cls("section", name)} aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</header>
    ${children}
  </section>`;
}

/** Names and values: `<${Facts} of=${[["Agent", name], …]} />`; what is null is left out. */
export const Facts = ({ of }) => html`<dl class="facts">
  ${of.filter(([, value]) => value !== null && value !== undefined && value !== false)
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

/** A field with its label. `as` is input, select or textarea; `onInput` gets the value. */
export function Field({ label, as = "input", value, onInput, hint, children, class: name, ...rest }) {
  const [id] = useState(() => freshId("field"));
  const change = (event) => onInput(event.target.value);
  const on = as === "select" ? { onChange: change } : { onInput: change };
  return html`<div class=${cls("field", name)}>
    <label for=${id}>${label}</label>
    <${as} id=${id} value=${value} ...${on} aria-describedby=${hint ? `${id}-hint` : undefined} ...${rest}>${children}</${as}>
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
  </div>`;
}

/** Labels as small texts. */
export const Labels = ({ of }) => html`<span class="labels">${Object.entries(of ?? {}).map(([name, value]) =>
  html`<span class="label"><${Text} value=${name} most=${40} />=<${Text} value=${value} most=${60} /></span>`)}</span>`;

/** What stands where there is nothing. */
export const Empty = ({ children, class: name }) => html`<p class=${cls("empty", name)}>${children}</p>`;

/** What stands while the first answer is awaited. */
export const Loading = () => html`<p class="empty" role="status">Loading…</p>`;

/** Tabs: `of` is [[name, words]]. */
export const Tabs = ({ of, value, onPick, label }) => html`<div class="tabs" role="group" aria-label=${label}>
  ${of.map(([name, words]) => html`<button aria-pressed=${name === value} onClick=${() => onPick(name)}>${words}</button>`)}
</div>`;
