// Signing in with a key. It is kept in this tab's session storage, and goes when the tab does.
import { html, useState } from "../lib.js";
import { Field, ProblemBox } from "../parts.js";
import { signIn } from "../session.js";

export function SignIn({ message }) {
  const [key, setKey] = useState("");
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      // What no header can carry is no key, and is told as the API would tell it.
      await signIn(key.trim().replace(/[^\x21-\x7e]/g, "?"));
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  return html`<main class="signin">
    <h1><span class="brand-sign" aria-hidden="true"></span>Holdpoint</h1>
    ${message && html`<p role="status">${message}</p>`}
    <form onSubmit=${submit}>
      <${Field} label="API key" type="password" value=${key} onInput=${setKey} autocomplete="off" spellcheck=${false}
        required autofocus placeholder="hp_…" hint="It is kept in this tab only, until you sign out or close it." />
      <button class="primary" disabled=${busy || !key.trim()}>Sign in</button>
    </form>
    ${problem?.status === 401
      ? html`<div class="problem" role="alert"><strong>This key is not taken.</strong>
          <p>It may be mistyped, expired or revoked. An administrator makes one with <code>holdpoint keys create</code>.</p></div>`
      : html`<${ProblemBox} problem=${problem} />`}
  </main>`;
}
