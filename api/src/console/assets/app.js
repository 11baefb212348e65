// The console's frame: the session, the menu, the page that the place names.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./lib.js";
import { Shortcuts, useShortcut } from "./keys.js";
import { nav, pages } from "./nav.js";
import { ProblemBox } from "./parts.js";
import { at, fit, go, here, usePlace } from "./router.js";
import { again, can, resume, signOut, useSession } from "./session.js";
import { SignIn } from "./pages/signin.js";
import { Text } from "./text.js";
import { Toasts } from "./toast.js";

const HOME = "inbox";

function found(parts) {
  for (const entry of pages) {
    const params = fit(entry.path, parts);
    if (params) return { ...entry, params };
  }
  return null;
}

/** A fault in a page leaves the menu as it is. */
function Page({ entry, query }) {
  const [error, forget] = useErrorBoundary();
  if (error) {
    return html`<div><${ProblemBox} problem=${error} /><button onClick=${forget}>Try again</button></div>`;
  }
  if (!entry) return html`<div><h1>There is no such page</h1><p><a href=${at(HOME)}>To the inbox</a></p></div>`;
  return html`<${entry.page} params=${entry.params} query=${query} />`;
}

const Go = ({ entry }) => {
  useShortcut(`g ${entry.key}`, `Go to ${entry.words}`, () => go(at(entry.path)));
  return null;
};

function Menu({ place, me }) {
  const [isOpen, setOpen] = useState(false);
  const shown = nav.filter((entry) => can(entry.right));
  useEffect(() => setOpen(false), [place]);
  return html`<header class="side">
    <div class="side-top">
      <a class="brand" href=${at(HOME)}><span class="brand-sign" aria-hidden="true"></span>Holdpoint</a>
      <button class="menu-button" aria-expanded=${isOpen} aria-controls="menu" onClick=${() => setOpen(!isOpen)}>Menu</button>
    </div>
    <div id="menu" class=${isOpen ? "menu open" : "menu"}>
      <nav aria-label="Pages"><ul>
        ${shown.map((entry) => html`<li key=${entry.path}><${Go} entry=${entry} />
          <a href=${at(entry.path)} aria-current=${place.parts[0] === entry.path ? "page" : undefined}>${entry.words}
            ${entry.Count && html`<${entry.Count} />`}</a></li>`)}
      </ul></nav>
      <div class="who">
        <p><strong><${Text} value=${me.name || me.key_id} most=${60} /></strong> <span class="role"><${Text} value=${me.role} /></span></p>
        <p class="muted"><${Text} value=${me.tenant} most=${40} /> / <${Text} value=${me.project} most=${40} /></p>
        ${me.end_user && html`<p class="muted">for <${Text} value=${me.end_user} most=${60} /></p>`}
        <button onClick=${signOut}>Sign out</button>
      </div>
    </div>
  </header>`;
}

function Console({ me }) {
  const place = usePlace();
  const main = useRef(null);
  const entry = found(place.parts);
  const name = entry?.words ?? "Nothing here";
  useEffect(() => {
    // It may have been left since it was drawn.
    if (here().parts.length === 0) go(at(HOME), { replace: true });
  }, [place]);
  useEffect(() => {
    document.title = `${name} · Holdpoint`;
  }, [name]);
  const shown = entry?.name ?? entry?.path;
  const before = useRef(shown);
  useEffect(() => {
    // Another page is read from its beginning, by screen readers too.
    if (before.current !== shown && before.current !== undefined) {
      scrollTo(0, 0);
      main.current.focus({ preventScroll: true });
    }
    before.current = shown;
  }, [shown]);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <${Menu} place=${place} me=${me} />
    <main id="main" tabindex="-1" ref=${main}>
      <${Page} key=${shown} entry=${entry} query=${place.query} />
    </main>
    <${Toasts} /><${Shortcuts} />
  </div>`;
}

function App() {
  const session = useSession();
  useEffect(() => {
    resume();
  }, []);
  if (session.stage === "in") return html`<${Console} me=${session.me} />`;
  if (session.stage === "out") return html`<${SignIn} message=${session.message} />`;
  if (session.stage === "away") {
    return html`<main class="signin"><h1>Holdpoint</h1><p role="alert"><${Text} value=${session.message} /></p>
      <button class="primary" onClick=${again}>Try again</button></main>`;
  }
  return html`<main class="signin"><p role="status">One moment…</p></main>`;
}

render(html`<${App} />`, document.getElementById("app"));
