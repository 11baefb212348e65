// The digest of a call, made here as docs/approving.md says, from what the page shows: so that
// a person need not believe that text and digest belong together.
import { cls, html, useEffect, useState } from "./lib.js";
import { Digest } from "./text.js";

function part(text) {
  const bytes = new TextEncoder().encode(text);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes.length));
  return [length, bytes];
}

/** SHA-256 over tool, version, arguments and a list's digest, each after its length; null where the browser cannot. */
export async function digestOf({ tool, version, arguments_text, list_digest }) {
  if (!globalThis.crypto?.subtle) return null;
  const parts = [tool, String(version), arguments_text, ...(list_digest ? [list_digest] : [])];
  const whole = await new Blob(parts.flatMap(part)).arrayBuffer();
  const made = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  return [...made].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What the check says: "checking", "verified", "differs" or "cannot". */
export function useVerified(approval) {
  const [seen, setSeen] = useState({ of: null, verdict: "checking" });
  const { tool, version, arguments_text: text, list_digest: list, digest } = approval;
  useEffect(() => {
    let isOld = false;
    const tell = (verdict) => !isOld && setSeen({ of: digest + text, verdict });
    digestOf(approval).then((made) => tell(made === null ? "cannot" : made === digest ? "verified" : "differs"), () => tell("cannot"));
    return () => {
      isOld = true;
    };
  }, [tool, version, text, list, digest]);
  return seen.of === digest + text ? seen.verdict : "checking";
}

const WORDS = {
  checking: ["muted", "checking the digest…"],
  verified: ["good-text", "✓ digest verified in this browser"],
  differs: ["bad-text", "✗ this digest is not that of the text above: do not approve it"],
  cannot: ["muted", "not checked: this browser does it only over HTTPS or on this machine's own address"],
};

/** The digest and the check's verdict. */
export const Verified = ({ digest, verdict }) => html`<p class="verified">
  <span class="muted">SHA-256</span> <${Digest} value=${digest} whole />
  <span class=${cls("verdict", WORDS[verdict][0])}>${WORDS[verdict][1]}</span>
</p>`;
