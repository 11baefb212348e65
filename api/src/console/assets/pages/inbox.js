// The inbox: what waits for a decision, oldest first, live. Nothing that is looked at moves:
// new ones come in at the end, and what was decided elsewhere stays in its place, marked, until
// the list is tidied.
import { get, getKeeping } from "../api.js";
import { ApprovalCard, Expiry, nameOf, placeOf } from "../approval.js";
import { Bulk } from "../bulk.js";
import { useShortcut } from "../keys.js";
import { cls, html, useEffect, useRef, useState } from "../lib.js";
import { usePolling, useSettled } from "../live.js";
import { Empty, Field, Loading, PageHead, ProblemBox, Status } from "../parts.js";
import { at, go } from "../router.js";
import { can } from "../session.js";
import { Text } from "../text.js";
import { Time } from "../time.js";

const PAGE = 50;
const MOST = 1000;

/** How many wait, for the menu. */
export function InboxCount() {
  const { data } = usePolling((signal) => get("/v1/approvals", { limit: 10 }, { signal }), [], 5000);
  const count = data?.approvals.length ?? 0;
  if (!count) return null;
  return html`<span class="count">${data.next_cursor ? `${count}+` : count}<span class="hidden"> waiting</span></span>`;
}

/** What is known: the entries in their order, each as it came last, and whether it still waits. */
function merged(known, approvals) {
  const waiting = new Map(approvals.map((one) => [nameOf(one), one]));
  const kept = known.map((entry) => ({ one: waiting.get(nameOf(entry.one)) ?? entry.one, waits: waiting.has(nameOf(entry.one)) }));
  const names = new Set(known.map((entry) => nameOf(entry.one)));
  return [...kept, ...approvals.filter((one) => !names.has(nameOf(one))).map((one) => ({ one, waits: true }))];
}

const has = (one, words) =>
  !words || [one.tool, one.agent, one.arguments_text, one.execution_id, one.tool_call_id, one.conversation_id ?? ""].some((text) => text.toLowerCase().includes(words));

function Item({ entry, isOpen, isPicked, onPick }) {
  const { one, waits } = entry;
  return html`<li class=${cls("item", isOpen && "open", !waits && "gone")}>
    ${can("decide") && html`<input type="checkbox" checked=${isPicked} disabled=${!waits} aria-label=${`pick ${one.tool} ${one.tool_call_id}`} onChange=${onPick} />`}
    <a href=${at("inbox", one.execution_id, one.tool_call_id)} aria-current=${isOpen ? "true" : undefined} data-name=${nameOf(one)}>
      <span class="item-head"><strong><${Text} value=${one.tool} most=${60} /></strong><${Time} value=${one.requested_at} /></span>
      <span class="item-args"><${Text} value=${one.arguments_text} most=${110} /></span>
      <span class="item-foot"><${Text} value=${one.agent} most=${40} />
        ${waits ? html`<span>expires <${Expiry} at=${one.expires_at} /></span>` : html`<span>waits no more</span>`}</span>
    </a>
  </li>`;
}

/** One call, whole: what the list has of it, or what the API says became of it. */
function Detail({ entry, params, onChanged }) {
  const place = placeOf({ execution_id: params.execution, tool_call_id: params.call });
  const [own, setOwn] = useState({ place: null, approval: null, problem: null });
  const box = useRef(null);
  const latest = useRef(place);
  latest.current = place;
  // An answer for a call that is not shown any more is no news of the one that is.
  const keep = (own) => own.place === latest.current && setOwn(own);
  const load = () =>
    getKeeping(place, ["edited_arguments"]).then((approval) => keep({ place, approval, problem: null }), (problem) => keep({ place, approval: null, problem }));
  useEffect(() => {
    if (!entry?.waits) load();
  }, [place, entry?.waits]);
  useEffect(() => {
    // On a narrow page the list gave way, and what had the focus with it.
    const frame = requestAnimationFrame(() => document.activeElement === document.body && box.current?.focus());
    return () => cancelAnimationFrame(frame);
  }, [place]);
  const fresh = own.place === place ? own : { approval: null, problem: null };
  // A call may be asked about anew under its own name: then what is known of the question before is old.
  const isOver = fresh.approval && fresh.approval.status !== "pending" && fresh.approval.id === entry?.one.id;
  const approval = entry?.waits && !isOver ? entry.one : (fresh.approval ?? entry?.one);
  const changed = () => {
    // What had the focus is gone with the form; whoever is elsewhere by then stays there.
    load().then(() => document.activeElement === document.body && box.current?.focus());
    onChanged();
  };
  if (fresh.problem && !entry) return html`<${ProblemBox} problem=${fresh.problem} />`;
  if (!approval) return html`<${Loading} />`;
  return html`<article class="section detail" tabindex="-1" ref=${box} aria-label="the call">
    <header><h2><${Text} value=${approval.tool} most=${120} /></h2><${Status} value=${approval.status} /></header>
    <${ApprovalCard} key=${place} approval=${approval} onDecided=${changed} onStale=${changed} />
  </article>`;
}

function useInbox(filters) {
  const [pages, setPages] = useState(1);
  const [known, setKnown] = useState([]);
  const name = JSON.stringify(filters);
  const limit = Math.min(MOST, PAGE * pages);
  // An answer names the filters that it is for: one for others is no news of these.
  const load = async (signal) => ({ name, page: await get("/v1/approvals", { ...filters, limit }, { signal }) });
  const { data, problem, loading, reload } = usePolling(load, [name, limit]);
  const before = useRef(name);
  useEffect(() => {
    const isOther = before.current !== name;
    before.current = name;
    if (isOther) setKnown([]);
    if (data?.name === name) setKnown((known) => merged(isOther ? [] : known, data.page.approvals));
  }, [data, name]);
  const tidy = () => setKnown((known) => known.filter((entry) => entry.waits));
  return { known, problem, loading, reload, tidy, more: data?.page.next_cursor && limit < MOST ? () => setPages(pages + 1) : null };
}

function useMoves(list) {
  const move = (step) => {
    const links = [...(list.current?.querySelectorAll("a[data-name]") ?? [])];
    const now = links.findIndex((link) => link === document.activeElement || (!list.current.contains(document.activeElement) && link.getAttribute("aria-current")));
    (links[now + step] ?? (now < 0 ? links[0] : null))?.focus();
  };
  useShortcut("j", "Next call", () => move(1));
  useShortcut("k", "Call before", () => move(-1));
  useShortcut("a", "To the button Approve", () => document.getElementById("approve")?.focus());
  useShortcut("d", "To the button Deny", () => document.getElementById("deny")?.focus());
}

export function Inbox({ params, query }) {
  const [agent, setAgent] = useState(query.agent ?? "");
  const [tool, setTool] = useState(query.tool ?? "");
  const [words, setWords] = useState("");
  const [picked, setPicked] = useState(new Set());
  const [isBulk, setBulk] = useState(false);
  const list = useRef(null);
  const inbox = useInbox({ agent: useSettled(agent.trim()), tool: useSettled(tool.trim()) });
  const shown = inbox.known.filter((entry) => has(entry.one, words.trim().toLowerCase()));
  const isOpen = params.execution !== undefined;
  const openName = isOpen ? `${params.execution}/${params.call}` : null;
  const chosen = shown.filter((entry) => entry.waits && picked.has(nameOf(entry.one))).map((entry) => entry.one);
  const gone = inbox.known.filter((entry) => !entry.waits).length;
  const waiting = shown.filter((entry) => entry.waits);
  const pick = (name) => setPicked((before) => (before.has(name) ? new Set([...before].filter((one) => one !== name)) : new Set([...before, name])));
  const pickFocused = () => document.activeElement?.dataset?.name && can("decide") && pick(document.activeElement.dataset.name);
  useMoves(list);
  useShortcut("x", "Pick the call", pickFocused);
  useShortcut("u", "Back to the list", () => go(at("inbox")));
  return html`<div class=${cls("inbox", isOpen && "has-open")}>
    <div class="inbox-list">
      <${PageHead} title="Inbox">What waits for a decision, oldest first; live.<//>
      <div class="filters" role="search">
        <${Field} class="wide" label="Text" type="search" value=${words} onInput=${setWords} spellcheck=${false} />
        <${Field} label="Agent" value=${agent} onInput=${setAgent} spellcheck=${false} />
        <${Field} label="Tool" value=${tool} onInput=${setTool} spellcheck=${false} />
      </div>
      <div class="inbox-bar">
        ${can("decide") && waiting.length > 0 && html`<label class="check"><input type="checkbox" checked=${chosen.length === waiting.length}
          onChange=${() => setPicked(new Set(chosen.length === waiting.length ? [] : waiting.map((entry) => nameOf(entry.one))))} /> ${chosen.length ? `${chosen.length} picked` : "Pick all"}</label>`}
        ${chosen.length > 0 && html`<button class="primary small" onClick=${() => setBulk(true)}>Decide ${chosen.length}…</button>`}
        ${gone > 0 && html`<button class="link" onClick=${inbox.tidy}>Tidy away ${gone} that ${gone === 1 ? "waits" : "wait"} no more</button>`}
        <span class="hidden" role="status" aria-live="polite">${inbox.loading ? "" : `${waiting.length} calls wait`}</span>
      </div>
      <${ProblemBox} problem=${inbox.problem} />
      ${inbox.loading && inbox.known.length === 0 && html`<${Loading} />`}
      ${!inbox.loading && shown.length === 0 && html`<${Empty}>Nothing waits for a decision${words || agent || tool ? " that is like this" : ""}.<//>`}
      <ul class="items" ref=${list}>${shown.map((entry) => {
        const name = nameOf(entry.one);
        return html`<${Item} key=${name} entry=${entry} isOpen=${name === openName} isPicked=${picked.has(name)} onPick=${() => pick(name)} />`;
      })}</ul>
      ${inbox.more && html`<div class="more"><button onClick=${inbox.more}>Show more</button></div>`}
    </div>
    <div class="inbox-detail">
      ${isOpen && html`<p class="back"><a href=${at("inbox")}>← Inbox</a></p>`}
      ${isOpen && html`<${Detail} entry=${inbox.known.find((entry) => nameOf(entry.one) === openName)} params=${params} onChanged=${inbox.reload} />`}
      ${!isOpen && shown.length > 0 && html`<${Empty} class="choose">Choose a call: <kbd>j</kbd> <kbd>k</kbd> and <kbd>Enter</kbd>.<//>`}
    </div>
    ${isBulk && html`<${Bulk} approvals=${chosen} onClose=${() => setBulk(false)} onDone=${inbox.reload} />`}
  </div>`;
}
