// What agents and workflows have in common: versions, what differs between two of them, a start.
import { post } from "./api.js";
import { Differences } from "./differences.js";
import { Dialog } from "./dialog.js";
import { Exact, parse, write } from "./json.js";
import { html, useEffect, useState } from "./lib.js";
import { useLoaded } from "./live.js";
import { Field, Loading, ProblemBox, Section } from "./parts.js";
import { at, go, Link } from "./router.js";
import { Table } from "./table.js";
import { Digest, Text } from "./text.js";
import { Time } from "./time.js";

/** Columns of a list of definitions below `place`. */
export const definitionColumns = (place) => [
  { name: "name", words: "Name", cell: (row) => html`<${Link} to=${[place, row.name]}><${Text} value=${row.name} /><//>` },
  { name: "version", words: "Version", class: "number", cell: (row) => html`${row.version}${row.label ? html` <span class="muted">(<${Text} value=${row.label} most=${30} />)</span>` : ""}` },
  { name: "by", words: "By", cell: (row) => html`<code class="muted id"><${Text} value=${row.created_by} most=${40} /></code>` },
  { name: "created", words: "Created", class: "narrow", cell: (row) => html`<${Time} value=${row.created_at} />` },
];

const versionColumns = (place, name) => [
  { name: "version", words: "Version", cell: (row) => html`<${Link} to=${[place, name, { version: row.version }]}>${row.version}<//>
      ${row.label ? html`<span class="muted"> (<${Text} value=${row.label} most=${30} />)</span>` : ""}` },
  { name: "digest", words: "Digest", cell: (row) => html`<${Digest} value=${row.digest} />` },
  { name: "by", words: "By", cell: (row) => html`<code class="muted id"><${Text} value=${row.created_by} most=${40} /></code>` },
  { name: "created", words: "Created", class: "narrow", cell: (row) => html`<${Time} value=${row.created_at} />` },
];

/** All versions, and what differs between two; `textOf(number)` loads a version's document. */
export function Versions({ place, name, versions, version, textOf }) {
  const open = (row) => go(at(place, name, { version: row.version }));
  return html`<${Section} title="Versions">
      <${Table} label="versions" columns=${versionColumns(place, name)} rows=${versions} keyOf=${(row) => row.version} onOpen=${open} />
    <//>
    ${versions.length > 1 && html`<${Compare} versions=${versions} version=${version} textOf=${textOf} />`}`;
}

function Compare({ versions, version, textOf }) {
  const numbers = versions.map((row) => row.version);
  const earlier = Math.max(...numbers.filter((number) => number < version));
  const [after, setAfter] = useState(Number.isFinite(earlier) ? version : numbers[0]);
  const [before, setBefore] = useState(Number.isFinite(earlier) ? earlier : version);
  const load = async () => (await Promise.all([textOf(before), textOf(after)])).map(linesOf);
  const { data, problem, loading } = useLoaded(load, [before, after]);
  const pick = (label, value, set) => html`<${Field} label=${label} as="select" value=${value} onInput=${(text) => set(Number(text))}>
    ${numbers.map((number) => html`<option value=${number} selected=${number === value}>${number}</option>`)}<//>`;
  return html`<${Section} title="Differences">
    <div class="filters">${pick("From version", before, setBefore)}${pick("To version", after, setAfter)}</div>
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${data && html`<${Differences} before=${data[0]} after=${data[1]} label=${`from version ${before} to version ${after}`} />`}
  <//>`;
}

/**
 * A document as lines that can be compared: JSON is laid out, and a line ends after each end of a
 * line in its texts too; any other text is as it is.
 */
export function linesOf(text) {
  try {
    const laid = write(parse(text), 2);
    return laid.replace(/^( *)(.*)$/gm, (line, indent) => line.replace(/(?<!\\)((?:\\\\)*\\n)(?=.)/g, `$1\n${indent}    `));
  } catch {
    return text;
  }
}

/** Names and values such as `team=support`, parted by spaces or lines; a value in quotes may have spaces. */
export function pairsOf(text) {
  const found = {};
  for (const [, name, bare, quoted] of text.matchAll(/([^\s=]+)=("([^"]*)"|\S*)/g)) found[name] = quoted ?? bare;
  return found;
}

/** Why a text is no JSON; null where it is, or is empty. */
export function jsonFault(text) {
  if (text.trim() === "") return null;
  try {
    parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** A text of JSON within a body that is written with `show`: passed on as it was written. */
export const asWritten = (text) => new Exact(text.trim());

/** A dialog that starts something: `body()` is what is posted to `to`, `children` are its fields. */
export function StartDialog({ title, to, body, ready = true, words = "Start", onClose, children }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const start = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const answer = await post(to, body());
      onClose();
      go(at("executions", answer.execution_id ?? answer.id));
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  const running = problem?.document?.execution_id ?? problem?.document?.active_execution_id;
  const foot = html`<button onClick=${onClose}>Leave it</button>
    <button class="primary" disabled=${busy || !ready} onClick=${start}>${words}</button>`;
  return html`<${Dialog} title=${title} onClose=${onClose} foot=${foot} wide>
    ${children}
    <${ProblemBox} problem=${problem} />
    ${running && html`<p><${Link} to=${["executions", running]}>To the one that goes on<//></p>`}
  <//>`;
}

/** A field of JSON that says where it is none. */
export function JsonField({ label, value, onInput, hint, rows = 8 }) {
  const fault = jsonFault(value);
  return html`<${Field} label=${label} as="textarea" class="json" rows=${rows} value=${value} onInput=${onInput} spellcheck=${false}
    aria-invalid=${fault ? "true" : undefined} hint=${fault ? `This is no JSON: ${fault}` : hint} />`;
}

/** A select of versions; the first is the latest. */
export const VersionField = ({ versions, value, onInput }) => html`<${Field} label="Version" as="select" value=${value} onInput=${onInput}>
  <option value="">the latest</option>${versions.map((row) => html`<option value=${row.version}>${row.version}</option>`)}<//>`;

/** The versions and one of them whole, by two loads: `load(number or undefined)` and `loadAll()`. */
export function useDefinition(load, loadAll, name, version) {
  const whole = useLoaded((signal) => load(version, { signal }), [name, version]);
  const all = useLoaded((signal) => loadAll({ signal }), [name]);
  useEffect(() => {
    document.title = `${name} · Holdpoint`;
  }, [name]);
  return { whole, all };
}
