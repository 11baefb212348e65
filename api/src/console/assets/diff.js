// The lines in which two texts differ: a longest common subsequence, of a bounded size.

/** The most cells of the table; above it, all that is between the common ends counts as changed. */
const MOST_CELLS = 4_000_000;

/**
 * Lines of both texts in order, each `{kind, text, before, after}`: `kind` is `same`, `gone` or `new`,
 * `before` and `after` are the line's numbers from 1 in the text that has it.
 */
export function differences(before, after) {
  const [old, now] = [before.split("\n"), after.split("\n")];
  const head = commonHead(old, now);
  const tail = commonTail(old, now, head);
  const lines = [];
  const add = (kind, i, j) => lines.push({ kind, text: kind === "new" ? now[j] : old[i], before: i + 1, after: j + 1 });
  for (let i = 0; i < head; i += 1) add("same", i, i);
  middle(old.slice(head, old.length - tail), now.slice(head, now.length - tail), (kind, i, j) => add(kind, head + i, head + j));
  for (let k = tail; k > 0; k -= 1) add("same", old.length - k, now.length - k);
  return lines;
}

function commonHead(old, now) {
  const most = Math.min(old.length, now.length);
  let head = 0;
  while (head < most && old[head] === now[head]) head += 1;
  return head;
}

function commonTail(old, now, head) {
  const most = Math.min(old.length, now.length) - head;
  let tail = 0;
  while (tail < most && old[old.length - 1 - tail] === now[now.length - 1 - tail]) tail += 1;
  return tail;
}

function middle(old, now, add) {
  const table = old.length * now.length <= MOST_CELLS ? lengths(old, now) : null;
  const width = now.length + 1;
  let [i, j] = [0, 0];
  while (table && i < old.length && j < now.length) {
    if (old[i] === now[j]) add("same", i++, j++);
    else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) add("gone", i++, j);
    else add("new", i, j++);
  }
  while (i < old.length) add("gone", i++, j);
  while (j < now.length) add("new", i, j++);
}

// Cell (i, j): the length of the longest common subsequence of what begins at i and at j.
function lengths(old, now) {
  const width = now.length + 1;
  const table = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      table[i * width + j] =
        old[i] === now[j]
          ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  return table;
}

/** Runs of more than `around * 2` same lines become one `{kind: "skipped", count}`. */
export function shortened(lines, around = 3) {
  const near = lines.map(() => false);
  lines.forEach(({ kind }, at) => {
    if (kind === "same") return;
    for (let i = Math.max(0, at - around); i <= Math.min(lines.length - 1, at + around); i += 1) near[i] = true;
  });
  const shown = [];
  for (let at = 0; at < lines.length; at += 1) {
    if (near[at]) shown.push(lines[at]);
    else if (shown.at(-1)?.kind === "skipped") shown.at(-1).count += 1;
    else shown.push({ kind: "skipped", count: 1 });
  }
  return shown;
}
