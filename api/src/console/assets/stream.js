// Server-Sent Events over `fetch`, because `EventSource` can send no bearer token. After a
// line was lost it goes on behind the last number that came (`Last-Event-ID`).
import { send } from "./api.js";
import { read } from "./json.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15000;

/** The events of a stream, as {id, event, data}; comments are passed over. */
export async function* events(response) {
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const event = fields(block);
      if (event) yield event;
    }
  }
}

function fields(block) {
  const event = { id: null, event: "message", data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (name === "data") event.data.push(value ?? "");
    else if (name === "id" || name === "event") event[name] = value ?? "";
  }
  return event.data.length ? { ...event, data: event.data.join("\n") } : null;
}

/**
 * Follows a stream until it ends or `stop()` is called.
 * `on.event({id, type, data})`, `on.line(true | false)` for whether the line is up, `on.end(status)`.
 */
export function follow(where, on) {
  const aborter = new AbortController();
  let last = null;
  let pause = FIRST_PAUSE;
  const run = async () => {
    while (!aborter.signal.aborted) {
      try {
        const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
        const response = await send("GET", where, { headers, signal: aborter.signal });
        on.line?.(true);
        for await (const event of events(response)) {
          pause = FIRST_PAUSE;
          if (event.id) last = event.id;
          const data = read(event.data);
          if (event.event === "end") return on.end?.(data.status);
          on.event({ id: event.id, type: event.event, data });
        }
      } catch (error) {
        if (aborter.signal.aborted) return;
        // What a second try does not change is told, and no more is asked for.
        if (error.status >= 400 && error.status < 500 && error.status !== 429) return on.fail?.(error);
      }
      on.line?.(false);
      await new Promise((wake) => setTimeout(wake, pause));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  };
  run();
  return () => aborter.abort();
}
