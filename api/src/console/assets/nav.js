// The pages, in one place.
//
// To add one: write `pages/NAME.js`, which exports one component that takes {params, query};
// add its lines here; and list the file in `api/src/console/mod.rs`, which serves it. A page
// loads by `usePolling` or `useLoaded` (live.js), asks by api.js, shows what comes from outside
// by `Text`, `Bytes` and `Value` (text.js), and offers an act only where `can(right)` (session.js).
import { Executions } from "./pages/executions.js";
import { Inbox, InboxCount } from "./pages/inbox.js";

/**
 * What the menu shows, in order: `right` is what a key needs to see it, `key` is pressed after
 * `g`, `Count` is a component for a number beside the words.
 */
export const nav = [
  { path: "inbox", words: "Inbox", key: "i", right: "read", Count: InboxCount },
  { path: "executions", words: "Executions", key: "e", right: "read" },
];

/** Which page a place has: the first that fits. `name` keeps a page that several places share. */
export const pages = [
  { path: "inbox", page: Inbox, words: "Inbox", name: "inbox" },
  { path: "inbox/:execution/:call", page: Inbox, words: "Inbox", name: "inbox" },
  { path: "executions", page: Executions, words: "Executions" },
];
