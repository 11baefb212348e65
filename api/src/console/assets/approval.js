// One approval, as the inbox and an execution's page show it, and the forms that decide it.
// What is sent names the digest of what is shown.
import { get, path, post } from "./api.js";
import { useVerified, Verified } from "./digest.js";
import { badOf, SchemaForm, startOf } from "./form.js";
import { useGrant } from "./grant.js";
import { parse, quote, show, write } from "./json.js";
import { cls, html, useEffect, useLayoutEffect, useState } from "./lib.js";
import { Facts, Field, ProblemBox, Status, Tabs } from "./parts.js";
import { Link } from "./router.js";
import { can, useMe } from "./session.js";
import { Bytes, Text } from "./text.js";
import { Time, useNow } from "./time.js";
import { toast } from "./toast.js";

const LEVEL = { object: true };

/** Where an approval is in the API. */
export const placeOf = ({ execution_id, tool_call_id }) => path`/v1/executions/${execution_id}/approvals/${tool_call_id}`;

/** One name for it, within the page. */
export const nameOf = ({ execution_id, tool_call_id }) => `${execution_id}/${tool_call_id}`;

/** The body of a decision; `edited` is JSON text that is sent byte for byte. A grant goes along with a yes only. */
export function bodyOf({ approved, reason, digest, edited, grant }) {
  const members = [`"approved":${approved}`];
  if (digest) members.push(`"digest":${quote(digest)}`);
  if (reason) members.push(`"reason":${quote(reason)}`);
  if (edited !== null && edited !== undefined) members.push(`"arguments":${edited}`);
  if (approved && grant) members.push(`"grant":${show(grant, 0)}`);
  return `{${members.join(",")}}`;
}

const PLAIN = {
  approval_conflict: (document) => `It was decided otherwise before: ${document.decision ?? "decided"}${document.decided_by ? ` by ${document.decided_by}` : ""}. Yours changed nothing.`,
  approval_closed: (document) => `It can no longer be decided: it is ${document.approval_status ?? "closed"}. Nothing was sent on.`,
  digest_mismatch: () => "The arguments are not those that you saw. Nothing was decided: look again.",
  arguments_invalid: () => "The edited arguments do not fit what the tool takes. Nothing was decided.",
  not_an_approver: () => "You are not among those who may decide this call.",
  grant_not_possible: () => "There can be no grant for the like of this call. Nothing was decided.",
  invalid_body: () => "Something of what was sent is not as it must be. Nothing was decided.",
  self_approval: () => "You asked for this call, and its policy wants somebody else to decide.",
  not_found: () => "It is not there any more, or not yours to see.",
};

/** A decision's problem, with what it means for the decision said first. */
export function DecisionProblem({ problem }) {
  if (!problem) return null;
  const plain = PLAIN[problem.code]?.(problem.document);
  return html`<div>${plain && html`<p class="problem-lead" role="alert"><${Text} value=${plain} /></p>`}<${ProblemBox} problem=${problem} /></div>`;
}

const people = ({ roles = [], groups = [] } = {}) =>
  [roles.length ? `role ${roles.join(" or ")}` : "", groups.length ? `group ${groups.join(" or ")}` : ""].filter(Boolean).join(", or ");

const isAmong = (approvers, me) => (approvers.roles ?? []).includes(me.role) || (approvers.groups ?? []).some((group) => me.groups?.includes(group));

/** Whether the policy counts this key's decisions; what it says of the person, only the API knows. */
function mayDecide({ policy, escalated_at: escalated }, me) {
  if (!policy?.approvers) return true;
  const further = policy.on_timeout?.escalate?.approvers;
  return isAmong(policy.approvers, me) || Boolean(escalated && further && isAmong(further, me));
}

/** Whether a decision of this key may come with a grant that would count. Further approvers answer what is escalated only. */
export const mayGrant = ({ kind, policy }, me) =>
  kind === "agent" && !(policy?.quorum > 1) && (!policy?.approvers || isAmong(policy.approvers, me));

const ENDS = { fail: "the execution fails", deny: "the call is denied" };

function afterwards({ escalate } = {}) {
  if (!escalate) return null;
  return `${people(escalate.approvers)} may decide too, for ${escalate.expires_after}; then ${ENDS[escalate.then ?? "fail"]}`;
}

function policyFacts({ policy, votes_needed: needed, votes, escalated_at: escalated }) {
  if (!policy) return [];
  const end = afterwards(policy.on_timeout) ?? (policy.on_timeout === "deny" && ENDS.deny);
  const text = (words) => words && html`<${Text} value=${words} />`;
  return [
    ["Who may decide", text(policy.approvers && people(policy.approvers))],
    ["People needed", policy.quorum > 1 && `${policy.quorum}: ${votes?.length ?? 0} voted, ${needed} more needed`],
    ["Own request", policy.no_self_approval && "somebody else must decide"],
    ["If nobody decides", text(end)],
    ["Escalated", escalated && html`<${Time} value=${escalated} />`],
    ["Why it is asked", text(policy.when_failed && `its condition could not be judged: ${policy.when_failed}`)],
  ];
}

const Votes = ({ votes }) => votes?.length > 0 && html`<ul class="votes">${votes.map((vote) => html`<li>
  <${Status} value=${vote.approved ? "approved" : "denied"} /> <code><${Text} value=${vote.by} /></code> <${Time} value=${vote.at} />
  ${vote.reason && html` “<${Text} value=${vote.reason} />”`}
  ${vote.arguments_text && html`<p class="muted">for these edited arguments:</p><${Bytes} value=${vote.arguments_text} label="the arguments voted for" />`}
</li>`)}</ul>`;

/** How it ended, where it did. */
export const Decided = ({ approval: one }) => one.status !== "pending" && html`<div class="decided">
  <p><${Status} value=${one.status} />${one.decided_by && html` by <code><${Text} value=${one.decided_by} /></code>`}
    ${one.decided_at && html` <${Time} value=${one.decided_at} />`}${one.used_at && html`, performed <${Time} value=${one.used_at} />`}</p>
  ${one.reason && html`<p>Reason: <${Text} value=${one.reason} /></p>`}
  ${one.edited_digest && html`<div><p>Sent with edited arguments:</p><${Bytes} value=${one.edited_arguments_text} label="edited arguments" />
    <p class="verified"><span class="muted">SHA-256</span> <code>${one.edited_digest}</code></p></div>`}
</div>`;

/** What is asked: who, when, until when, the exact bytes and their digest. */
export function Question({ approval: one, verdict, showExecution = true }) {
  return html`<div class="stack">
    <${Facts} of=${[
      ["Agent or workflow", html`<span><${Text} value=${one.agent} /> <span class="muted">v${one.version}</span></span>`],
      showExecution && ["Execution", html`<${Link} to=${["executions", one.execution_id]}><code>…${one.execution_id.slice(-8)}</code><//> <${Status} value=${one.execution_status} />`],
      ["Call", html`<code><${Text} value=${one.tool_call_id} /></code>`],
      ["Asked", html`<${Time} value=${one.requested_at} />`],
      one.status === "pending" && ["Expires", html`<${Expiry} at=${one.expires_at} />`],
      ["Conversation", one.conversation_id && html`<code><${Text} value=${one.conversation_id} most=${40} /></code>`],
      one.delegated_by && ["Asked by a child", html`<${Link} to=${["executions", one.delegated_by.execution_id]}><code>…${one.delegated_by.execution_id.slice(-8)}</code><//>`],
      ...policyFacts(one),
    ].filter(Boolean)} />
    <${Votes} votes=${one.votes} />
    <div><h3>Arguments, exactly as stored</h3>
      <${Bytes} value=${one.arguments_text} label="stored arguments" layOut />
      <${Verified} digest=${one.digest} verdict=${verdict} /></div>
  </div>`;
}

export function Expiry({ at }) {
  const now = useNow();
  const left = Date.parse(at) - now;
  return html`<span class=${cls(left < 300000 && "warn", left <= 0 && "bad-text")}>${left <= 0 ? "expired " : ""}<${Time} value=${at} /></span>`;
}

/** The edited arguments: a form from the schema, or the text. `onText` gets JSON text, or null while it is none. */
function Editor({ approval, begin, onText }) {
  const [schema, setSchema] = useState(undefined);
  const [problem, setProblem] = useState(null);
  const [mode, setMode] = useState("form");
  const [node, setNode] = useState(() => nodeOf(begin));
  const [text, setText] = useState(begin);
  useEffect(() => {
    get(placeOf(approval)).then((whole) => setSchema(whole.arguments_schema), setProblem);
  }, [nameOf(approval)]);
  const wrong = mode === "form" ? badOf(node) : textProblem(text);
  const sent = wrong ? null : mode === "form" ? write(node) : text;
  // What is not touched keeps its spaces too.
  const same = mode === "form" && write(node) === write(nodeOf(begin));
  // Before it is seen: who presses Approve sends what is shown.
  useLayoutEffect(() => onText(same ? begin : sent), [sent, same]);
  const turn = (to) => {
    if (to === mode || wrong) return;
    if (to === "text") setText(same ? begin : write(node, 2));
    else setNode(parse(text));
    setMode(to);
  };
  if (problem) return html`<${ProblemBox} problem=${problem} />`;
  if (schema === undefined) return html`<p class="muted" role="status">Loading the schema…</p>`;
  const usable = schema && typeof schema === "object" ? schema : LEVEL;
  return html`<div>
    <${Tabs} label="how to edit" of=${[["form", "Form"], ["text", "JSON text"]]} value=${mode} onPick=${turn} />
    ${mode === "form"
      ? html`<${SchemaForm} schema=${usable.type ? usable : { type: "object", ...usable }} node=${node} onChange=${setNode} label="Arguments" />`
      : html`<${Field} label="Arguments as JSON" as="textarea" class="code-field" rows="10" spellcheck=${false} value=${text} onInput=${setText} />`}
    ${wrong && mode === "text" && html`<p class="bad-text" role="alert"><${Text} value=${wrong} /></p>`}
    <h3>What will be sent</h3>
    ${sent !== null && html`<${Bytes} value=${same ? begin : sent} label="what will be sent" />`}
    ${sent !== null && (same ? begin : sent) === approval.arguments_text && html`<p class="muted">Nothing is changed: the stored bytes are sent.</p>`}
  </div>`;
}

const nodeOf = (text) => {
  try {
    return parse(text);
  } catch {
    return startOf(LEVEL);
  }
};

function textProblem(text) {
  try {
    parse(text);
    return null;
  } catch (error) {
    return `No JSON: ${error.message}`;
  }
}

/** The edited arguments that others voted for. Votes count for the same bytes only: whoever comes later begins with them. */
export const editedBefore = (approval) => approval.votes?.find((vote) => vote.approved)?.arguments_text ?? null;

/** Approve, deny, or approve with edited arguments. */
function DecisionForm({ approval, verdict, problem, setProblem, onDecided, onStale }) {
  const [reason, setReason] = useState("");
  const [isEditing, setEditing] = useState(false);
  const votedFor = editedBefore(approval);
  const begin = votedFor ?? approval.arguments_text;
  const [edited, setEdited] = useState(null);
  const me = useMe();
  const grant = useGrant(approval, Boolean(me) && mayGrant(approval, me));
  const [busy, setBusy] = useState(false);
  const now = useNow();
  if (!can("decide")) return html`<p class="muted">Your key's role may look, and not decide.</p>`;
  if (!mayDecide(approval, me)) return html`<p class="muted">Your key is not among those who may decide this call.</p>`;
  const isOver = Date.parse(approval.expires_at) <= now;
  const decide = async (approved) => {
    setBusy(true);
    setProblem(null);
    const chosen = isEditing ? edited : begin;
    const changed = approved && chosen !== approval.arguments_text ? chosen : null;
    try {
      const answer = await post(placeOf(approval), bodyOf({ approved, reason, digest: approval.digest, edited: changed, grant: grant.sent }));
      tell(answer, approved && grant.sent !== null);
      onDecided(answer);
    } catch (error) {
      setProblem(error);
      if (["approval_conflict", "approval_closed", "digest_mismatch", "not_found"].includes(error.code)) onStale?.();
    }
    setBusy(false);
  };
  const mayEdit = approval.policy?.allow_edit !== false && !approval.votes?.length;
  const isEdited = (isEditing ? edited : begin) !== approval.arguments_text;
  const blocked = busy || verdict === "differs" || (isEditing && edited === null);
  return html`<div class="decide">
    ${isEditing && html`<${Editor} approval=${approval} begin=${begin} onText=${setEdited} />`}
    ${votedFor && html`<p class="note">Those before you voted for the edited arguments above. To approve is to vote for the same bytes.</p>`}
    <${Field} label="Reason" as="textarea" rows="2" value=${reason} onInput=${setReason} hint="Kept with the decision; the model is told why it was denied." />
    ${grant.fields}
    <${DecisionProblem} problem=${problem} />
    ${isOver && html`<p class="warn">Its time is over: a decision will be refused.</p>`}
    <div class="actions">
      <button class="primary" id="approve" disabled=${blocked} onClick=${() => decide(true)}>
        ${isEdited ? "Approve the edited call" : "Approve"}${grant.sent && ", and allow the like"}</button>
      <button class="danger" id="deny" disabled=${busy} onClick=${() => decide(false)}>Deny</button>
      ${mayEdit && html`<button aria-expanded=${isEditing} onClick=${() => setEditing(!isEditing)}>${isEditing ? "Drop the edits" : "Edit arguments"}</button>`}
      ${grant.button}
    </div>
  </div>`;
}

function tell({ decision, already_decided: already, votes_needed: needed, grant }, isGrantAsked) {
  if (decision === "pending") toast(`Your vote counts; ${needed} more ${needed === 1 ? "is" : "are"} needed.`);
  else if (already) toast(`It was ${decision} before; nothing happened twice${isGrantAsked ? ", and no further grant was made" : ""}.`);
  else toast(grant ? `It is ${decision}, and a grant for the like is made.` : `It is ${decision}.`);
}

/** A question with its form, or with what became of it. What went wrong with a decision stays to be read. */
export function ApprovalCard({ approval, onDecided, onStale, showExecution }) {
  const verdict = useVerified(approval);
  const [problem, setProblem] = useState(null);
  return html`<div class="stack">
    <${Question} approval=${approval} verdict=${verdict} showExecution=${showExecution} />
    ${approval.status === "pending"
      ? html`<${DecisionForm} key=${nameOf(approval) + approval.digest} approval=${approval} verdict=${verdict} problem=${problem} setProblem=${setProblem}
          onDecided=${onDecided} onStale=${onStale} />`
      : html`<div><${DecisionProblem} problem=${problem} /><${Decided} approval=${approval} /></div>`}
  </div>`;
}
