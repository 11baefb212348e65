// Deciding many at once: each call is shown with its digest and with what will be sent, and
// each answer after it. One bad item stops no other.
import { post, Problem } from "./api.js";
import { bodyOf, DecisionProblem, editedBefore, nameOf } from "./approval.js";
import { useVerified, Verified } from "./digest.js";
import { Dialog } from "./dialog.js";
import { quote } from "./json.js";
import { html, useEffect, useState } from "./lib.js";
import { Field, ProblemBox, Status } from "./parts.js";
import { Bytes, Text } from "./text.js";

const itemOf = (approval, decision) => {
  const edited = decision.approved ? editedBefore(approval) : null;
  const rest = bodyOf({ ...decision, digest: approval.digest, edited }).slice(1);
  return `{"execution_id":${quote(approval.execution_id)},"tool_call_id":${quote(approval.tool_call_id)},${rest}`;
};

function Call({ approval, result, onDiffers }) {
  const verdict = useVerified(approval);
  useEffect(() => {
    if (verdict === "differs") onDiffers();
  }, [verdict]);
  return html`<li class="bulk-item">
    <div class="field-head"><strong><${Text} value=${approval.tool} most=${80} /></strong>
      <span class="muted"><${Text} value=${approval.agent} most=${60} /> · <code>…${approval.execution_id.slice(-8)}</code></span></div>
    <${Bytes} value=${approval.arguments_text} label="stored arguments" />
    <${Verified} digest=${approval.digest} verdict=${verdict} />
    ${editedBefore(approval) && html`<p>Others voted for these edited arguments; to approve is to vote for the same:</p>
      <${Bytes} value=${editedBefore(approval)} label="the arguments voted for" />`}
    ${result?.problem && html`<${DecisionProblem} problem=${new Problem(result.problem)} />`}
    ${result && !result.problem && html`<p><${Status} value=${result.decision} />${result.already_decided ? " before; nothing happened twice" : ""}
      ${result.decision === "pending" ? ` your vote counts; ${result.votes_needed} more needed` : ""}</p>`}
  </li>`;
}

/** The dialog; `approvals` are those that were picked, as they were then. */
export function Bulk({ approvals, onClose, onDone }) {
  const [items] = useState(approvals);
  const [approved, setApproved] = useState(null);
  const [reason, setReason] = useState("");
  const [results, setResults] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [differs, setDiffers] = useState(false);
  const body = `{"decisions":[${items.map((one) => itemOf(one, { approved: approved ?? false, reason })).join(",\n")}]}`;
  const send = async () => {
    setBusy(true);
    setProblem(null);
    try {
      const answer = await post("/v1/approvals/decisions", body);
      setResults(new Map(answer.results.map((result) => [result.index, result])));
      onDone();
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  const words = approved === null ? "Choose approve or deny" : `${approved ? "Approve" : "Deny"} ${items.length}`;
  const taken = results && [...results.values()].filter((result) => !result.problem).length;
  const foot = results
    ? html`<span role="status">${taken} of ${items.length} taken</span><button class="primary" onClick=${onClose}>Close</button>`
    : html`<button onClick=${onClose}>Leave it</button>
      <button class=${approved === false ? "danger" : "primary"} disabled=${approved === null || busy || (approved && differs)} onClick=${send}>${words}</button>`;
  const choice = (value, label) => html`<label class="check"><input type="radio" name="bulk" checked=${approved === value} disabled=${results !== null}
    onChange=${() => setApproved(value)} /> ${label}</label>`;
  return html`<${Dialog} title=${`Decide ${items.length} calls`} onClose=${onClose} foot=${foot} wide>
    <fieldset><legend>Decision</legend><div class="actions">${choice(true, "Approve each")} ${choice(false, "Deny each")}</div></fieldset>
    <${Field} label="Reason" value=${reason} onInput=${setReason} disabled=${results !== null} />
    <${ProblemBox} problem=${problem} />
    <ol class="bulk">${items.map((one, index) => html`<${Call} key=${nameOf(one)} approval=${one} result=${results?.get(index)} onDiffers=${() => setDiffers(true)} />`)}</ol>
    ${approved !== null && html`<details><summary>What will be sent</summary><${Bytes} value=${body} label="the request's body" /></details>`}
  <//>`;
}
