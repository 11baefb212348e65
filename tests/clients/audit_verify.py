"""Verifies an export of Holdpoint's audit (JSON lines) without Holdpoint: `audit_verify.py FILE [HEAD]`."""

import hashlib
import json
import sys

FIELDS = ["tenant", "project", "seq", "at", "actor", "end_user", "act", "subject", "details", "prev_hash"]


def hash_of(row):
    parts = ["holdpoint.audit.1"] + ["" if row[name] is None else str(row[name]) for name in FIELDS]
    digest = hashlib.sha256()
    for part in (part.encode() for part in parts):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def verify(lines, head=None):
    ends, seen = {}, set()
    for row in map(json.loads, lines):
        chain = (row["tenant"], row["project"])
        seq, before = ends.get(chain, (0, ""))
        if row["seq"] != seq + 1 or row["prev_hash"] != before or row["hash"] != hash_of(row):
            sys.exit(f"{chain}, row {row['seq']} after row {seq} does not fit")
        ends[chain] = (row["seq"], row["hash"])
        seen.add(row["hash"])
    if head and head not in seen:
        sys.exit(f"no row has the hash {head}")
    return ends


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        for (tenant, project), (seq, end) in verify(file, *sys.argv[2:3]).items():
            print(f"{tenant}/{project}: {seq} rows, head {end}")
