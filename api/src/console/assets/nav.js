// The pages, in one place.
//
// To add one: write `pages/NAME.js`, which exports one component that takes {params, query};
// add its lines here; and list the file in `api/src/console/mod.rs`, which serves it. A page
// loads by `usePolling` or `useLoaded` (live.js), asks by api.js, shows what comes from outside
// by `Text`, `Bytes` and `Value` (text.js), and offers an act only where `can(right)` (session.js).
import { Agent, Agents } from "./pages/agents.js";
import { Attention, AttentionCount } from "./pages/attention.js";
import { Audit } from "./pages/audit.js";
import { Execution } from "./pages/execution.js";
import { Executions } from "./pages/executions.js";
import { Grants } from "./pages/grants.js";
import { Inbox, InboxCount } from "./pages/inbox.js";
import { Keys } from "./pages/keys.js";
import { Limits } from "./pages/limits.js";
import { ParkedMessage, ParkedMessages } from "./pages/parked.js";
import { Schedule, Schedules } from "./pages/schedules.js";
import { Sweeps } from "./pages/sweeps.js";
import { Webhooks } from "./pages/webhooks.js";
import { Workflow, Workflows } from "./pages/workflows.js";

/**
 * What the menu shows, in order: `right` is what a key needs to see it, `key` is pressed after
 * `g`, `Count` is a component for a number beside the words.
 */
export const nav = [
  { path: "inbox", words: "Inbox", key: "i", right: "read", Count: InboxCount },
  { path: "executions", words: "Executions", key: "e", right: "read" },
  { path: "attention", words: "Attention", key: "n", right: "read", Count: AttentionCount },
  { path: "agents", words: "Agents", key: "a", right: "read" },
  { path: "workflows", words: "Workflows", key: "w", right: "read" },
  { path: "schedules", words: "Schedules", key: "s", right: "read" },
  { path: "parked", words: "Parked messages", key: "p", right: "admin" },
  { path: "sweeps", words: "Sweeps", key: "x", right: "admin" },
  { path: "grants", words: "Grants", key: "t", right: "read" },
  { path: "limits", words: "Limits", key: "l", right: "read" },
  { path: "audit", words: "Audit", key: "u", right: "admin" },
  { path: "webhooks", words: "Webhooks", key: "h", right: "admin" },
  { path: "keys", words: "Keys", key: "k", right: "admin" },
];

/** Which page a place has: the first that fits. `name` keeps a page that several places share. */
export const pages = [
  { path: "inbox", page: Inbox, words: "Inbox", name: "inbox" },
  { path: "inbox/:execution/:call", page: Inbox, words: "Inbox", name: "inbox" },
  { path: "executions", page: Executions, words: "Executions" },
  { path: "executions/:id", page: Execution, words: "Execution" },
  { path: "attention", page: Attention, words: "Attention" },
  { path: "agents", page: Agents, words: "Agents" },
  { path: "agents/:name", page: Agent, words: "Agent" },
  { path: "workflows", page: Workflows, words: "Workflows" },
  { path: "workflows/:name", page: Workflow, words: "Workflow" },
  { path: "schedules", page: Schedules, words: "Schedules" },
  { path: "schedules/:name", page: Schedule, words: "Schedule" },
  { path: "parked", page: ParkedMessages, words: "Parked messages" },
  { path: "parked/:id", page: ParkedMessage, words: "Parked message" },
  { path: "sweeps", page: Sweeps, words: "Sweeps" },
  { path: "grants", page: Grants, words: "Grants" },
  { path: "limits", page: Limits, words: "Limits" },
  { path: "audit", page: Audit, words: "Audit" },
  { path: "webhooks", page: Webhooks, words: "Webhooks" },
  { path: "keys", page: Keys, words: "Keys" },
];
