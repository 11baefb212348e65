// The stream of an execution as it comes: the text that the model writes, and the list of
// events. Deltas of one step are one row, so that a long answer is no thousand rows.
import { path } from "./api.js";
import { show } from "./json.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { Empty, ProblemBox } from "./parts.js";
import { follow } from "./stream.js";
import { Bytes, Text } from "./text.js";
import { Time } from "./time.js";

const SHOWN = 200;
const PAUSE = 120;
const NOTHING = { rows: [], line: false, ended: null, problem: null, last: 0, texts: new Map() };

/** One more event: a row of its own, or more of the row before. */
function added(state, event) {
  const { type, data } = event.data;
  const seq = Number(event.id ?? state.last);
  const texts = new Map(state.texts);
  const rows = [...state.rows];
  const before = rows.at(-1);
  if (type === "model.restarted") texts.delete(data.step);
  if (type === "message.delta") texts.set(data.step, (texts.get(data.step) ?? "") + (data.text ?? ""));
  if (type === "message.completed") texts.delete(data.step);
  if (type === "message.delta" && before?.type === type && before.data.step === data.step) {
    const text = (before.data.text ?? "") + (data.text ?? "");
    rows[rows.length - 1] = { ...before, count: before.count + 1, to: seq, data: { ...before.data, text } };
  } else {
    rows.push({ key: `${seq}-${type}`, seq, to: seq, type: type ?? event.type, at: event.data.at, data: data ?? event.data, count: 1 });
  }
  return { ...state, rows, texts, last: seq };
}

/** Follows the stream: {rows, line, ended, problem, last, texts}. */
export function useStory(id) {
  const [state, setState] = useState(NOTHING);
  useEffect(() => {
    setState(NOTHING);
    let waiting = [];
    let timer = null;
    const flush = () => {
      timer = null;
      const events = waiting;
      waiting = [];
      setState((before) => events.reduce(added, before));
    };
    const change = (part) => {
      clearTimeout(timer);
      flush();
      setState((before) => ({ ...before, ...part }));
    };
    const stop = follow(path`/v1/executions/${id}/stream`, {
      event: (event) => {
        waiting.push(event);
        timer ??= setTimeout(flush, PAUSE);
      },
      line: (line) => change({ line }),
      end: (ended) => change({ ended, line: false }),
      fail: (problem) => change({ problem, line: false }),
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [id]);
  return state;
}

const brief = ({ type, data, count }) => {
  if (type === "message.delta") return `${count > 1 ? `×${count} ` : ""}${data.text ?? ""}`;
  return data.tool ?? data.text ?? data.reason ?? data.name ?? data.error?.message ?? data.to ?? "";
};

const Row = ({ row }) => {
  const [isOpen, setOpen] = useState(false);
  return html`<li><details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary><span class="event-seq">${row.to > row.seq ? `${row.seq}–${row.to}` : row.seq}</span>
      <code class="event-type"><${Text} value=${row.type} /></code>
      <span class="event-brief"><${Text} value=${brief(row)} most=${120} /></span><${Time} value=${row.at} /></summary>
    ${isOpen && html`<${Bytes} value=${show(row.data)} label="the event's data" />`}
  </details></li>`;
};

/** What the model writes at this moment. */
export function Writing({ story }) {
  const box = useRef(null);
  const texts = [...story.texts].filter(([, text]) => text);
  return texts.length > 0 && html`<div class="writing" ref=${box} aria-label="what the model writes">
    ${texts.map(([step, text]) => html`<div key=${step}><p class="muted">step ${step}, as it comes</p><${Bytes} value=${text} label="the model's text" /></div>`)}
  </div>`;
}

/** The events, the newest last. */
export function Story({ story }) {
  const [all, setAll] = useState(false);
  const shown = all ? story.rows : story.rows.slice(-SHOWN);
  const state = story.ended ? `ended: ${story.ended}` : story.line ? "live" : "connecting…";
  return html`<div>
    <p class="muted" role="status">${story.last} ${story.last === 1 ? "event" : "events"}, ${state}</p>
    <${ProblemBox} problem=${story.problem} />
    ${story.rows.length === 0 && !story.problem && html`<${Empty}>No event yet.<//>`}
    ${shown.length < story.rows.length && html`<div class="more"><button onClick=${() => setAll(true)}>Show the ${story.rows.length - shown.length} rows before</button></div>`}
    <ol class="events">${shown.map((row) => html`<${Row} key=${row.key} row=${row} />`)}</ol>
  </div>`;
}
