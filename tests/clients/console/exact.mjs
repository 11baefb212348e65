// The console's modules without a browser: no digit or letter is lost between what the API
// answers, what is shown and edited, and what is sent; and what cannot be seen is told.
import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// Browsers take each file as a module; Node asks a package.json.
const folder = mkdtempSync(join(tmpdir(), "console-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
cpSync(process.env.ASSETS, folder, { recursive: true });
writeFileSync(join(folder, "package.json"), '{"type": "module"}');
globalThis.sessionStorage = { getItem: () => null, setItem() {}, removeItem() {} };
globalThis.location = { hash: "" };
const load = (name) => import(pathToFileURL(join(folder, name)).href);

function same(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
}

const { Exact, isJson, parse, quote, read, show, write } = await load("json.js");

const KEPT = [
  "{}", "[]", '{"a":1}', '[1,2,{"b":[]}]', "12345678901234567890123", "1.50", "-0", "1e5", "1E+05", '"\\u202e"', '"\\ud800"',
  '"a\\\\"', '"a\\"b"', '"\\\\\\""', '{"10":1,"2":2,"__proto__":{"x":1},"constructor":null}', '{"a":1,"a":2}', "true", "null",
];
for (const text of KEPT) same(write(parse(text)), text, "written as it was read");
same(write(parse(' { "a" : [ 1 , 2.0 ] , "b" : { } } '), 2), '{\n  "a": [\n    1,\n    2.0\n  ],\n  "b": {}\n}', "laid out");
const REFUSED = [
  "", "{", "[1,]", '{"a":1,}', "01", "1.", ".5", "+1", "nul", "[1] 2", "{'a':1}", '"', '"a', '"a\\', '"a\\"', '"a\nb"', '"\u0001"',
  '"\\x"', "\u00a01", "{1:2}", "[".repeat(600), "NaN",
];
for (const text of REFUSED) same(isJson(text), false, text);
const values = read('{"n":9007199254740993,"m":1.50,"k":7,"__proto__":{"polluted":true}}');
same([values.n instanceof Exact, String(values.n), values.m.text, values.k], [true, "9007199254740993", "1.50", 7], "numbers");
same({}.polluted, undefined, "a key is no prototype");
same(show(values, 0), '{"n":9007199254740993,"m":1.50,"k":7,"__proto__":{"polluted":true}}', "as it came");
const kept = read('{"steps":[{"output":{"a":1.50}},{"output":null}]}', ["output"]);
same(kept.steps.map((step) => step.output_text), ['{"a":1.50}', null], "texts beside values");
same(quote("a\u2028\u007f\u0000\ud800\"\\"), '"a\\u2028\\u007f\\u0000\\ud800\\"\\\\"', "a string of JSON");

const { hasHidden, pieces } = await load("text.js");
const HIDDEN = [0, 1, 8, 0x1b, 0x7f, 0x85, 0xa0, 0xad, 0x61c, 0x115f, 0x180e, 0x200b, 0x200d, 0x200e, 0x202a, 0x202e, 0x2066, 0x2028, 0x2800, 0x3164, 0xd800, 0xdfff, 0xe000, 0xfe0f, 0xfeff, 0xfff9, 0xffff, 0xe0041, 0xe0100, 0x10ffff];
for (const code of HIDDEN) {
  const sign = String.fromCodePoint(code);
  same(pieces(`a${sign}b`), [{ text: "a" }, { mark: sign, count: 1 }, { text: "b" }], `U+${code.toString(16)}`);
}
same(hasHidden("plain, ünïcode, 漢字, 🙂\n\tmore"), false, "what can be seen");
same(pieces("\0\0\0x\r\n"), [{ mark: "\0", count: 3 }, { text: "x" }, { mark: "\r", count: 1 }, { mark: "\n", count: 1 }], "within a line");
same(pieces("a\n\tb", { block: true }), [{ text: "a\n\tb" }], "in a block");
same(pieces("אב 12 גד").map((piece) => piece.rtl ?? piece.text), ["אב", " 12 ", "גד"], "right-to-left words stand alone");
for (const text of ["a\u202e\u202e<b>אב</b>\0", "\ud800\udc00\ud800", ""]) {
  const again = pieces(text).map((piece) => piece.text ?? piece.rtl ?? piece.mark.repeat(piece.count)).join("");
  same(again, text, "nothing is lost");
}

const { digestOf } = await load("digest.js");
const sized = (text) => {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(bytes.length));
  return Buffer.concat([length, bytes]);
};
for (const list of [null, "ab12"]) {
  const call = { tool: "päy", version: 12, arguments_text: '{"n": 1.50, "t": "ü\u202e🙂"}', list_digest: list };
  const wanted = createHash("sha256");
  for (const part of [call.tool, "12", call.arguments_text, ...(list ? [list] : [])]) wanted.update(sized(part));
  same(await digestOf(call), wanted.digest("hex"), "the digest");
}

const { bodyOf, editedBefore, mayGrant, placeOf } = await load("approval.js");
same(bodyOf({ approved: true, digest: "d", reason: "", edited: null }), '{"approved":true,"digest":"d"}', "as it is");
const edited = '{ "n": 12345678901234567890.10 }';
same(bodyOf({ approved: true, digest: "d", reason: 'no "\u2028"', edited }), `{"approved":true,"digest":"d","reason":"no \\"\\u2028\\"","arguments":${edited}}`, "edited");
const grant = { for: "agent", expires_after: "1h", max_uses: 5, when: '.a == "\u2028"' };
same(bodyOf({ approved: true, digest: "d", grant }), `{"approved":true,"digest":"d","grant":{"for":"agent","expires_after":"1h","max_uses":5,"when":".a == \\"\\u2028\\""}}`, "with a grant");
same(bodyOf({ approved: false, digest: "d", grant }), '{"approved":false,"digest":"d"}', "a denial has no grant");
same(placeOf({ execution_id: "exe_1", tool_call_id: "a/../b?c#d e" }), "/v1/executions/exe_1/approvals/a%2F..%2Fb%3Fc%23d%20e", "a path");
const votes = [{ approved: false }, { approved: true, arguments_text: "{}" }];
same([editedBefore({ votes }), editedBefore({ votes: [] }), editedBefore({})], ["{}", null, null], "what was voted for");

const me = { role: "approve", groups: ["finance"] };
const rule = (policy, kind = "agent") => mayGrant({ kind, policy }, me);
same([rule({}), rule({ quorum: 1 }), rule({ quorum: 2 }), rule({}, "workflow")], [true, true, false, false], "where there can be a grant");
const board = { roles: [], groups: ["board"] };
const later = { on_timeout: { escalate: { approvers: { groups: ["finance"] } } }, approvers: board };
same([rule({ approvers: { groups: ["finance"] } }), rule({ approvers: board }), rule(later)], [true, false, false], "whose grant would count");
const { conversationOf, termsOf } = await load("grant.js");
same([conversationOf({ conversation_id: "a" }), conversationOf({ conversation_id: "a", delegated_by: {} })], ["a", null], "the conversation of a grant");
same(termsOf({ when: " ", lasts: " 1h ", uses: "5" }), { expires_after: "1h", max_uses: 5 }, "what a grant says");

const { badOf, startOf } = await load("form.js");
const schema = {
  type: "object", required: ["a", "b", "c", "d", "e"], $defs: { n: { type: ["integer", "null"] } },
  properties: { a: { $ref: "#/$defs/n" }, b: { enum: ["x", "y"] }, c: { type: "array" }, d: { default: { k: [1] } }, e: { $ref: "#/$defs/none" }, f: { type: "string" } },
};
same(write(startOf(schema)), '{"a":0,"b":"x","c":[],"d":{"k":[1]},"e":null}', "a first value");
const endless = { type: "object", required: ["me"], properties: { me: { $ref: "#" } } };
same(isJson(write(startOf(endless))), true, "a schema without an end has a first value all the same");
same([badOf(parse("[1]")), badOf({ kind: "array", items: [{ kind: "bad", why: "so" }] })], [null, "so"], "what is no JSON");

const { events } = await load("stream.js");
const bytes = new TextEncoder().encode(': hello\n\nid: 1\nevent: a\ndata: {"t":"ü🙂"}\n\nid:2\r\ndata: x\r\ndata: y\r\n\r\nevent: end\ndata: {}\n\ndata: cut');
for (const step of [1, 3, 7, bytes.length]) {
  const chunks = [];
  for (let at = 0; at < bytes.length; at += step) chunks.push(bytes.slice(at, at + step));
  const seen = [];
  for await (const event of events(new Response(ReadableStream.from(chunks)))) seen.push([event.id, event.event, event.data]);
  same(seen, [["1", "a", '{"t":"ü🙂"}'], ["2", "message", "x\ny"], [null, "end", "{}"]], `pieces of ${step} bytes`);
}

const { at, fit } = await load("router.js");
same(at("inbox", "a/b", { q: "1&2", none: "" }), "#/inbox/a%2Fb?q=1%262", "a place");
same([fit("a/:b", ["a", "x"]), fit("a/:b", ["a"]), fit("a", ["b"])], [{ b: "x" }, null, null], "patterns");
const { labelsOf } = await load("pages/executions.js");
same(labelsOf('team=support order="42 a" loose'), { "label.team": "support", "label.order": "42 a" }, "labels in a search");
const { relative, span } = await load("time.js");
same([span(350), span(9500), span(65000), span(90061000)], ["350 ms", "9.5 s", "1 min 5 s", "1 d 1 h"], "spans");
same([relative(0, 0), relative(0, 125000), relative(125000, 0), relative(720000, 0)], ["now", "2 min ago", "in 2 min 5 s", "in 12 min"], "from now");

console.log("exact: done");
// The pages' clock would go on.
process.exit(0);
