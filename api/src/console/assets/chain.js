// The audit's chain, checked in the browser as docs/audit.md says.
const FORMAT = "holdpoint.audit.1";

const fieldsOf = (row) => [FORMAT, row.tenant, row.project, String(row.seq), row.at, row.actor, row.end_user ?? "", row.act, row.subject, row.details, row.prev_hash];

function part(text) {
  const bytes = new TextEncoder().encode(text);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(bytes.length));
  return [length, bytes];
}

/** SHA-256 over the row's fields, each after its length. */
async function hashOf(row) {
  const whole = await new Blob(fieldsOf(row).flatMap(part)).arrayBuffer();
  const made = new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  return [...made].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The first row, newest first, that does not carry the hash of the next one here. */
const unlinked = (rows) => rows.slice(0, -1).find((row, index) => row.seq !== rows[index + 1].seq + 1 || row.prev_hash !== rows[index + 1].hash);

/**
 * What rows, newest first, say of their chain: {kind} is `fits`, `alone` (each fits its own hash;
 * with filters rows are missing between them), `linked` or `cannot` (no hashes here), or `broken`
 * with {seq, fault}.
 */
export async function chainOf(rows, isFiltered) {
  const loose = !isFiltered && unlinked(rows);
  if (loose) return { kind: "broken", seq: loose.seq, fault: "it does not carry the hash of the row before it" };
  if (!globalThis.crypto?.subtle) return { kind: isFiltered ? "cannot" : "linked" };
  for (const row of rows) {
    if ((await hashOf(row)) !== row.hash) return { kind: "broken", seq: row.seq, fault: "its hash is not that of its fields" };
  }
  return { kind: isFiltered ? "alone" : "fits" };
}
