// What can be done to an execution, each behind a question.
import { path, post } from "./api.js";
import { Confirm } from "./dialog.js";
import { isJson } from "./json.js";
import { html, useState } from "./lib.js";
import { Field } from "./parts.js";
import { at, go } from "./router.js";
import { can } from "./session.js";
import { toast } from "./toast.js";

const ENDED = ["completed", "failed", "cancelled"];

/** Whether nothing more happens to it. */
export const isEnded = ({ status }) => ENDED.includes(status);

const ACTS = {
  cancel: { title: "Cancel this execution?", yes: "Cancel it", danger: true,
    about: "It ends now, or in a moment where a worker has it. A call that is under way is given up, and may have happened.", said: "It is cancelled, or will be in a moment." },
  pause: { title: "Pause this execution?", yes: "Pause it", about: "A call that is under way may end; then it holds before its next step until it is resumed.", said: "It holds before its next step." },
  resume: { title: "Let it go on?", yes: "Resume it", about: "It goes on where it was held.", said: "It goes on." },
  retry: { title: "Repeat this execution?", yes: "Repeat it", said: "It is repeated.",
    about: "A new execution begins from this one's journal: finished steps are taken over, unknown outcomes stay unknown, and calls keep their keys. Each attempt can be made once." },
};

const offered = (execution) => {
  if (isEnded(execution)) return execution.status === "completed" ? [] : ["retry"];
  return [execution.reason === "paused" ? "resume" : "pause", "cancel"];
};

/** The buttons for what fits this moment, and the key's role. */
export function Acts({ execution, onDone }) {
  const [name, setName] = useState(null);
  if (!can("submit")) return null;
  const act = name && ACTS[name];
  const done = (answer) => {
    toast(act.said);
    if (name === "retry") go(at("executions", answer.id));
    else onDone();
  };
  return html`<div class="actions">
    ${offered(execution).map((one) => html`<button class=${ACTS[one].danger ? "danger" : ""} onClick=${() => setName(one)}>${one[0].toUpperCase() + one.slice(1)}</button>`)}
    ${act && html`<${Confirm} title=${act.title} yes=${act.yes} danger=${act.danger} onClose=${() => setName(null)} onDone=${done}
      act=${() => post(path`/v1/executions/${execution.id}/` + name, {})}><p>${act.about}</p><//>`}
  </div>`;
}

/** Answers an unknown outcome: it happened, with a result or without, or it did not. */
export function Resolve({ execution, step, onDone }) {
  const [isOpen, setOpen] = useState(false);
  const [outcome, setOutcome] = useState("happened");
  const [result, setResult] = useState("");
  const text = result.trim();
  const wrong = outcome === "happened" && text !== "" && !isJson(text);
  const send = () => {
    // The result goes as it was typed: its numbers are nobody's to round.
    const body = outcome === "happened" && text ? `{"outcome":"happened","result":${text}}` : `{"outcome":"${outcome}"}`;
    return post(path`/v1/executions/${execution.id}/steps/${step.step}/resolve`, body);
  };
  const choice = (value, words) => html`<label class="check"><input type="radio" name="outcome" checked=${outcome === value} onChange=${() => setOutcome(value)} /> ${words}</label>`;
  if (!can("decide")) return html`<p class="warn">Nobody knows whether this call happened. Somebody who may decide must find out.</p>`;
  return html`<div class="note">
    <p><strong>Nobody knows whether this call happened.</strong> Find out where it went, then say so here. Nothing is called again by itself.</p>
    <button class="primary" onClick=${() => setOpen(true)}>Resolve…</button>
    ${isOpen && html`<${Confirm} title="Did this call happen?" yes=${outcome === "happened" ? "It happened" : "It did not happen"} act=${send} ready=${!wrong}
      onClose=${() => setOpen(false)} onDone=${() => { toast("The outcome is resolved."); onDone(); }}>
      <fieldset><legend>Outcome</legend>${choice("happened", "It happened: take the result below")}${choice("did_not_happen", "It did not happen: call it again, under the same approval and key")}</fieldset>
      ${outcome === "happened" && html`<${Field} label="Result, as JSON (may be empty)" as="textarea" rows="5" class="code-field" value=${result} onInput=${setResult} spellcheck=${false} />`}
      ${wrong && html`<p class="bad-text" role="alert">This is no JSON.</p>`}
    <//>`}
  </div>`;
}
