// What a standing grant says, in both forms that make one: by itself, and with a decision.
import { freshId, html, useState } from "./lib.js";
import { Field } from "./parts.js";
import { Text } from "./text.js";

/** The fields of what a grant says, but not of whom; `given` is {when, lasts, uses}, as texts. */
export function Terms({ given, onInput }) {
  const field = (name, label, more) =>
    html`<${Field} label=${label} value=${given[name]} onInput=${(value) => onInput({ ...given, [name]: value })} spellcheck=${false} ...${more} />`;
  return html`<div class="terms">
    ${field("lasts", "Lasts", { required: true, hint: "30m, 8h or 7d; within 30 days, unless the server is set otherwise." })}
    ${field("uses", "At most so often", { required: true, type: "number", min: "1", hint: "1 to 10,000, unless the server is set otherwise." })}
    ${field("when", "While", { class: "wide code-field", hint: "A jq condition over .tool, .arguments, .end_user, .agent; any call, where this is empty.", placeholder: ".arguments.amount <= 50" })}
  </div>`;
}

/** The same as members of a request's body. */
export const termsOf = ({ when, lasts, uses }) => ({ ...(when.trim() && { when: when.trim() }), expires_after: lasts.trim(), max_uses: Number(uses) });

/** The conversation that a grant may be for: a delegated execution is in none of its own. */
export const conversationOf = ({ conversation_id: id, delegated_by: by }) => (by ? null : id);

/** The part of a decision's form that allows the like too. `given` is {on, when, lasts, uses}. */
function GrantFields({ approval, given, onInput }) {
  const [name] = useState(() => freshId("grant"));
  const conversation = conversationOf(approval);
  const choice = (on, words) => html`<label class="check"><input type="radio" name=${name} checked=${given.on === on} onChange=${() => onInput({ ...given, on })} /> <span>${words}</span></label>`;
  return html`<fieldset class="grant"><legend>Allow the like too</legend>
    <p class="muted">Further calls of <${Text} value=${approval.tool} most=${80} /> are approved in your name, and nobody is asked:</p>
    ${conversation && choice("conversation", html`in this conversation, <code><${Text} value=${conversation} most=${60} /></code>`)}
    ${choice("agent", html`by the agent <${Text} value=${approval.agent} most=${80} />, in whichever execution`)}
    <${Terms} given=${given} onInput=${onInput} />
  </fieldset>`;
}

/**
 * A grant that goes along with a decision: its fields and the button that unfolds them, both nothing
 * where there can be none, and `sent`, what the body says of it while they are open. What was written
 * stays when they are folded.
 */
export function useGrant(approval, isPossible) {
  const [isOpen, setOpen] = useState(false);
  const [given, setGiven] = useState({ on: conversationOf(approval) ? "conversation" : "agent", when: "", lasts: "1h", uses: "5" });
  if (!isPossible) return { fields: null, button: null, sent: null };
  return {
    fields: isOpen && html`<${GrantFields} approval=${approval} given=${given} onInput=${setGiven} />`,
    button: html`<button aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>${isOpen ? "Only this call" : "Also allow the like…"}</button>`,
    sent: isOpen ? { for: given.on, ...termsOf(given) } : null,
  };
}
