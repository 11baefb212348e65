// Two texts, line by line: what is gone and what is new.
import { differences, shortened } from "./diff.js";
import { html, useMemo, useState } from "./lib.js";
import { Empty } from "./parts.js";
import { Text } from "./text.js";

/** Lines that are shown at first. */
const FIRST = 1000;
const SIGNS = { same: " ", gone: "−", new: "+" };
const WORDS = { same: "", gone: "gone: ", new: "new: " };

const Line = ({ line: { kind, text, before, after, count } }) =>
  kind === "skipped"
    ? html`<div class="diff-line skipped"><span class="muted">${count} ${count === 1 ? "line" : "lines"} that are the same</span></div>`
    : html`<div class=${`diff-line ${kind}`}>
        <span class="diff-number">${kind === "new" ? "" : before}</span><span class="diff-number">${kind === "gone" ? "" : after}</span>
        <span class="diff-sign" aria-hidden="true">${SIGNS[kind]}</span><span class="hidden">${WORDS[kind]}</span>
        <span class="diff-text"><${Text} value=${text} /></span>
      </div>`;

/** `before` and `after` are texts; `label` says whose. */
export function Differences({ before, after, label }) {
  const [isWhole, setWhole] = useState(false);
  const all = useMemo(() => differences(before, after), [before, after]);
  const lines = useMemo(() => shortened(all), [all]);
  const count = (kind) => all.filter((line) => line.kind === kind).length;
  if (count("gone") + count("new") === 0) return html`<${Empty}>They do not differ in any line.<//>`;
  const shown = isWhole ? lines : lines.slice(0, FIRST);
  return html`<div class="diff">
    <p class="muted">${count("gone")} gone, ${count("new")} new</p>
    <div class="diff-lines" tabindex="0" role="region" aria-label=${label}>${shown.map((line) => html`<${Line} line=${line} />`)}</div>
    ${shown.length < lines.length && html`<button onClick=${() => setWhole(true)}>Show the other ${lines.length - shown.length} lines</button>`}
  </div>`;
}
