// JSON without loss. `JSON.parse` rounds long numbers and sorts keys that look like numbers;
// here a document becomes nodes that keep each number and string as it was written.
//
//   {kind: "object", members: [[key, node]]}   {kind: "array", items: [node]}
//   {kind: "string", value, raw}   {kind: "number", raw}   {kind: "true" | "false" | "null"}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SPACE = /[ \t\r\n]*/y;
const DEEPEST = 512;

/** A number that a double cannot hold as it was written. */
export class Exact {
  constructor(text) {
    this.text = text;
  }

  toString() {
    return this.text;
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.depth = 0;
  }

  fail(what) {
    const lines = this.text.slice(0, this.at).split("\n");
    throw new SyntaxError(`line ${lines.length}, column ${lines.at(-1).length + 1}: ${what}`);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  peek() {
    this.match(SPACE);
    return this.text[this.at];
  }

  take(sign) {
    if (this.peek() !== sign) this.fail(`\`${sign}\` is missing`);
    this.at += 1;
  }

  value() {
    const first = this.peek();
    if (first === "{") return this.nested(() => this.object());
    if (first === "[") return this.nested(() => this.array());
    if (first === '"') return this.string();
    for (const word of ["true", "false", "null"]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return { kind: word };
      }
    }
    const number = this.match(NUMBER);
    if (!number) this.fail(first === undefined ? "the text ends too early" : "no value begins here");
    return { kind: "number", raw: number[0] };
  }

  nested(read) {
    if ((this.depth += 1) > DEEPEST) this.fail("nested too deep");
    const node = read();
    this.depth -= 1;
    return node;
  }

  /** The text up to the first quote that is not escaped; the browser's own reader judges what is in it. */
  string() {
    let end = this.text.indexOf('"', this.at + 1);
    while (end > 0 && this.escaped(end)) end = this.text.indexOf('"', end + 1);
    const raw = this.text.slice(this.at, end + 1);
    try {
      const value = JSON.parse(raw);
      this.at = end + 1;
      return { kind: "string", value, raw };
    } catch {
      return this.fail("this text does not end, or has a character that must be escaped");
    }
  }

  escaped(at) {
    let first = at;
    while (this.text[first - 1] === "\\") first -= 1;
    return (at - first) % 2 === 1;
  }

  object() {
    const members = [];
    this.take("{");
    while (this.peek() !== "}") {
      if (members.length) this.take(",");
      if (this.peek() !== '"') this.fail("a key in quotes is missing");
      const key = this.string();
      this.take(":");
      members.push([key.value, this.value(), key.raw]);
    }
    this.at += 1;
    return { kind: "object", members };
  }

  array() {
    const items = [];
    this.take("[");
    while (this.peek() !== "]") {
      if (items.length) this.take(",");
      items.push(this.value());
    }
    this.at += 1;
    return { kind: "array", items };
  }
}

/** The nodes of a text; throws a SyntaxError that says where it is no JSON. */
export function parse(text) {
  const reader = new Reader(text);
  const node = reader.value();
  if (reader.peek() !== undefined) reader.fail("something stands after the end");
  return node;
}

/** Whether it is JSON. */
export function isJson(text) {
  try {
    parse(text);
    return true;
  } catch {
    return false;
  }
}

/** A node as text: on one line, or laid out with so many spaces. Numbers and strings as they were. */
export function write(node, indent = 0, level = 0) {
  const open = indent ? `\n${" ".repeat(indent * (level + 1))}` : "";
  const close = indent ? `\n${" ".repeat(indent * level)}` : "";
  const list = (signs, items) =>
    items.length ? `${signs[0]}${open}${items.join(`,${open}`)}${close}${signs[1]}` : signs;
  switch (node.kind) {
    case "object": {
      const colon = indent ? ": " : ":";
      const member = ([key, value, raw]) => `${raw ?? quote(key)}${colon}${write(value, indent, level + 1)}`;
      return list("{}", node.members.map(member));
    }
    case "array":
      return list("[]", node.items.map((item) => write(item, indent, level + 1)));
    case "string":
      return node.raw ?? quote(node.value);
    case "number":
      return node.raw;
    default:
      return node.kind;
  }
}

/** A string of JSON; what cannot be seen in it is escaped. */
export const quote = (text) =>
  JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029]/g, (sign) =>
    `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

/**
 * Nodes as plain values. A number that a double would change becomes an `Exact`. A member that
 * `keep` names has its JSON beside it, as it was written: `output` and `output_text`.
 */
export function plain(node, keep = []) {
  switch (node.kind) {
    case "object": {
      const value = {};
      // A key `__proto__` is a key like any other.
      const put = (key, it) => Object.defineProperty(value, key, { value: it, enumerable: true, writable: true, configurable: true });
      for (const [key, member] of node.members) {
        const isKept = keep.includes(key);
        put(key, plain(member, isKept ? [] : keep));
        if (isKept) put(`${key}_text`, member.kind === "null" ? null : write(member));
      }
      return value;
    }
    case "array":
      return node.items.map((item) => plain(item, keep));
    case "string":
      return node.value;
    case "number":
      return keeps(node.raw) ? Number(node.raw) : new Exact(node.raw);
    case "true":
      return true;
    case "false":
      return false;
    default:
      return null;
  }
}

const keeps = (raw) => String(Number(raw)) === raw;

/** Plain values, `Exact`s among them, as nodes. */
export function nodes(value) {
  if (value instanceof Exact) return { kind: "number", raw: value.text };
  if (value === null || value === undefined) return { kind: "null" };
  if (Array.isArray(value)) return { kind: "array", items: value.map(nodes) };
  switch (typeof value) {
    case "object":
      return { kind: "object", members: Object.entries(value).map(([key, member]) => [key, nodes(member)]) };
    case "string":
      return { kind: "string", value };
    case "number":
      return { kind: "number", raw: String(value) };
    default:
      return { kind: String(value) };
  }
}

/** A text of JSON as plain values without loss; what `keep` names also as text. */
export const read = (text, keep = []) => plain(parse(text), keep);

/** Plain values as text. */
export const show = (value, indent = 2) => write(nodes(value), indent);
