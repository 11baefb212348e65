// The lines in which two texts differ, without a browser: what is told puts both texts together again.
import { readFileSync } from "node:fs";

const url = `data:text/javascript,${encodeURIComponent(readFileSync(process.env.DIFF, "utf8"))}`;
const { differences, shortened } = await import(url);

function told(before, after) {
  const marks = { same: " ", gone: "-", new: "+" };
  return differences(before, after).map(({ kind, text }) => marks[kind] + text);
}

function same(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
}

same(told("a\nb\nc", "a\nb\nc"), [" a", " b", " c"], "the same");
same(told("a\nb\nc", "a\nc"), [" a", "-b", " c"], "one gone");
same(told("a\nc", "a\nb\nc"), [" a", "+b", " c"], "one new");
same(told("a\nb\nc", "a\nB\nc"), [" a", "-b", "+B", " c"], "one changed");
same(told("", "a"), ["-", "+a"], "from nothing");
same(told("x\na\nb", "a\nb\ny"), ["-x", " a", " b", "+y"], "moved");

// Any two texts: what is gone or same is the one, what is new or same is the other.
let seed = 7;
const next = (most) => (seed = (seed * 1103515245 + 12345) % 2147483648) % most;
for (let round = 0; round < 300; round += 1) {
  const text = () => Array.from({ length: next(12) + 1 }, () => "abcd"[next(4)]).join("\n");
  const [before, after] = [text(), text()];
  const lines = differences(before, after);
  const join = (without) => lines.filter(({ kind }) => kind !== without).map((line) => line.text).join("\n");
  same(join("new"), before, "the text before");
  same(join("gone"), after, "the text after");
  for (const { kind, text: line, before: i, after: j } of lines) {
    if (kind !== "new") same(before.split("\n")[i - 1], line, "a line's number before");
    if (kind !== "gone") same(after.split("\n")[j - 1], line, "a line's number after");
  }
}

// Beyond the bound it says that all changed, and does so at once.
const long = (word) => Array.from({ length: 10_000 }, (_, at) => `${word} ${at}`).join("\n");
const bounded = differences(`head\n${long("a")}\ntail`, `head\n${long("b")}\ntail`);
same(bounded.length, 20_002, "a bounded difference");
same([bounded[0].kind, bounded[1].kind, bounded.at(-1).kind], ["same", "gone", "same"], "its ends");

const far = Array.from({ length: 40 }, (_, at) => `line ${at}`);
const brief = shortened(differences(far.join("\n"), far.with(20, "other").join("\n")));
same(brief.map(({ kind }) => kind).filter((kind) => kind === "skipped").length, 2, "what is skipped");
same([brief[0].count, brief.at(-1).count], [17, 16], "how much of it");
console.log("differences: done");
