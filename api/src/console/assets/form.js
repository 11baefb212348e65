// A form from a JSON schema, over the nodes of json.js: what is not touched keeps its very
// digits and letters, and a number is edited as text, so that none is rounded.
//
//   const [node, setNode] = useState(() => parse(text));      // or startOf(schema) for a new one
//   <${SchemaForm} schema=${schema} node=${node} onChange=${setNode} label="Arguments" />
//   const wrong = badOf(node);                                // the first field that is no JSON
//   send(write(node));
//
// What the schema says beyond types (patterns, ranges, combinations) the API checks.
import { freshId, html, useState } from "./lib.js";
import { nodes, parse, write } from "./json.js";
import { Bytes, hasHidden, Text } from "./text.js";

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const WHOLE = /^-?(?:0|[1-9]\d*)$/;
const LONG = 60;
const DEEPEST = 24;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** The schema that a local `$ref` names; the schema itself where there is none. */
function resolved(schema, root, depth = 0) {
  if (!isObject(schema)) return {};
  const { $ref: ref } = schema;
  if (typeof ref !== "string" || !ref.startsWith("#") || depth > DEEPEST) return schema;
  const names = ref.slice(1).split("/").slice(1).map((name) => decodeURI(name).replaceAll("~1", "/").replaceAll("~0", "~"));
  const target = names.reduce((at, name) => (isObject(at) && Object.hasOwn(at, name) ? at[name] : undefined), root);
  return resolved(target, root, depth + 1);
}

const typesOf = (schema) => (Array.isArray(schema.type) ? schema.type : schema.type ? [schema.type] : []);

const KINDS = { object: "object", array: "array", string: "string", number: "number", integer: "number", boolean: "boolean", null: "null" };
const kindOf = (node) => (node.kind === "true" || node.kind === "false" ? "boolean" : node.kind);

/** Which editor fits both the schema and what stands there; "json" where none does. */
function editorOf(schema, node) {
  if (schema.enum) return "enum";
  if (schema.oneOf || schema.anyOf || schema.allOf || schema.if) return "json";
  const fits = typesOf(schema).map((type) => KINDS[type]).includes(kindOf(node));
  if (node.kind === "bad") return node.editor;
  if (node.kind === "string" && fits && hasHidden(node.value)) return "json";
  if (fits && node.kind !== "null") return kindOf(node);
  if (!schema.type && isObject(schema.properties) && node.kind === "object") return "object";
  return "json";
}

/** A first value for a schema: its default, else the least that has its shape. */
export function startOf(schema, root = schema, depth = 0) {
  const own = resolved(schema, root);
  if (own.default !== undefined) return nodes(own.default);
  if (own.const !== undefined) return nodes(own.const);
  if (Array.isArray(own.enum) && own.enum.length) return nodes(own.enum[0]);
  const type = typesOf(own)[0] ?? (own.properties ? "object" : "null");
  if (type === "object" && depth < DEEPEST) {
    const properties = isObject(own.properties) ? own.properties : {};
    const needed = Object.keys(properties).filter((name) => own.required?.includes(name));
    return { kind: "object", members: needed.map((name) => [name, startOf(properties[name], root, depth + 1)]) };
  }
  const plain = { object: { kind: "object", members: [] }, array: { kind: "array", items: [] }, string: { kind: "string", value: "" } };
  const scalar = { number: { kind: "number", raw: "0" }, integer: { kind: "number", raw: "0" }, boolean: { kind: "false" } };
  return plain[type] ?? scalar[type] ?? { kind: "null" };
}

/** What is wrong with the first field that is no JSON; null where all are. */
export function badOf(node) {
  if (node.kind === "bad") return node.why;
  if (node.kind === "object") return node.members.map(([, member]) => badOf(member)).find(Boolean) ?? null;
  if (node.kind === "array") return node.items.map(badOf).find(Boolean) ?? null;
  return null;
}

/** The form. */
export const SchemaForm = ({ schema, node, onChange, label }) =>
  html`<${Node} schema=${schema ?? {}} root=${schema ?? {}} node=${node} onChange=${onChange} label=${label} depth=${0} />`;

const EDITORS = { object: ObjectEditor, array: ArrayEditor, string: StringEditor, number: NumberEditor, boolean: BooleanEditor, enum: EnumEditor, json: JsonEditor };

function Node(props) {
  const schema = resolved(props.schema, props.root);
  const editor = props.depth > DEEPEST ? "json" : editorOf(schema, props.node);
  return html`<${EDITORS[editor]} ...${props} schema=${schema} />`;
}

function Row({ label, schema, bad, id, control, remove, required }) {
  return html`<div class="field">
    <div class="field-head"><label for=${id}><${Text} value=${schema.title ?? label} most=${120} />${required && html`<span class="muted"> *</span>`}</label>${remove}</div>
    ${control}
    ${schema.description && html`<p class="hint"><${Text} value=${schema.description} most=${400} /></p>`}
    ${bad && html`<p class="hint bad-text" role="alert"><${Text} value=${bad} /></p>`}
  </div>`;
}

function StringEditor({ schema, node, onChange, label, remove, required }) {
  const [id] = useState(freshId);
  const [isLong] = useState(node.value.length > LONG || node.value.includes("\n"));
  const input = (event) => onChange({ kind: "string", value: event.target.value });
  const control = isLong
    ? html`<textarea id=${id} value=${node.value} onInput=${input} rows="4"></textarea>`
    : html`<input id=${id} value=${node.value} onInput=${input} maxlength=${schema.maxLength} spellcheck=${false} />`;
  return html`<${Row} label=${label} schema=${schema} remove=${remove} required=${required} id=${id} control=${control} />`;
}

function NumberEditor({ schema, node, onChange, label, remove, required }) {
  const [id] = useState(freshId);
  const isWhole = typesOf(schema).includes("integer") && !typesOf(schema).includes("number");
  const input = (event) => {
    const raw = event.target.value.trim();
    const fits = NUMBER.test(raw) && (!isWhole || WHOLE.test(raw) || raw === node.raw);
    const why = `${label}: ${isWhole ? "a whole number, such as 12" : "a number, such as 12 or 0.5"}`;
    onChange(fits ? { kind: "number", raw } : { kind: "bad", editor: "number", raw, why });
  };
  const control = html`<input id=${id} class="code" inputmode="decimal" value=${node.raw} onInput=${input}
    aria-invalid=${node.kind === "bad"} spellcheck=${false} autocomplete="off" />`;
  return html`<${Row} label=${label} schema=${schema} bad=${node.why} remove=${remove} required=${required} id=${id} control=${control} />`;
}

function BooleanEditor({ schema, node, onChange, label, remove, required }) {
  const [id] = useState(freshId);
  const control = html`<select id=${id} value=${node.kind} onChange=${(event) => onChange({ kind: event.target.value })}>
    <option value="true">true</option><option value="false">false</option></select>`;
  return html`<${Row} label=${label} schema=${schema} remove=${remove} required=${required} id=${id} control=${control} />`;
}

function EnumEditor({ schema, node, onChange, label, remove, required }) {
  const [id] = useState(freshId);
  const offered = schema.enum.map(nodes);
  const standing = write(node.raw && node.kind === "string" ? { kind: "string", value: node.value } : node);
  const texts = offered.map((one) => write(one));
  const words = (one) => (one.kind === "string" ? one.value : write(one));
  const pick = (event) => onChange(event.target.value === "" ? node : offered[Number(event.target.value)]);
  const at = texts.indexOf(standing);
  const control = html`<select id=${id} value=${at < 0 ? "" : String(at)} onChange=${pick}>
    ${at < 0 && html`<option value="">${standing.slice(0, 200)} (none of those offered)</option>`}
    ${offered.map((one, index) => html`<option value=${String(index)}>${words(one).slice(0, 200)}</option>`)}</select>`;
  return html`<${Row} label=${label} schema=${schema} remove=${remove} required=${required} id=${id} control=${control} />`;
}

/** Where no other editor fits: the JSON itself, with what cannot be seen escaped. */
function JsonEditor({ schema, node, onChange, label, remove, required }) {
  const [id] = useState(freshId);
  const [text, setText] = useState(() => visible(node));
  const input = (event) => {
    setText(event.target.value);
    try {
      onChange(parse(event.target.value));
    } catch (error) {
      onChange({ kind: "bad", editor: "json", raw: event.target.value, why: `${label}: no JSON: ${error.message}` });
    }
  };
  const control = html`<textarea id=${id} class="code" value=${text} onInput=${input} rows=${Math.min(16, text.split("\n").length + 1)}
    spellcheck=${false} aria-invalid=${node.kind === "bad"}></textarea>`;
  const about = { ...schema, description: schema.description ?? "As JSON." };
  return html`<${Row} label=${label} schema=${about} bad=${node.why} remove=${remove} required=${required} id=${id} control=${control} />`;
}

function visible(node) {
  if (node.kind === "bad") return node.raw;
  const escaped = (text) =>
    text.replace(/[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu, (sign) =>
      sign === "\n" ? sign : [...Array(sign.length)].map((_, at) => `\\u${sign.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""));
  return escaped(write(node, 2));
}

const Button = ({ words, name, act }) => html`<button type="button" class="link" aria-label=${`${words}: ${name}`} onClick=${act}>${words}</button>`;

function ObjectEditor({ schema, root, node, onChange, label, remove, depth }) {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const there = new Set(node.members.map(([name]) => name));
  const missing = Object.keys(properties).filter((name) => !there.has(name));
  const change = (at, value) => onChange({ ...node, members: node.members.map((member, index) => (index === at ? [member[0], value, member[2]] : member)) });
  const without = (at) => onChange({ ...node, members: node.members.filter((_, index) => index !== at) });
  const add = (name) => onChange({ ...node, members: [...node.members, [name, startOf(properties[name], root)]] });
  const schemaOf = (name) => (Object.hasOwn(properties, name) ? properties[name] : isObject(schema.additionalProperties) ? schema.additionalProperties : {});
  const isFixed = (name) => schema.additionalProperties === false && !Object.hasOwn(properties, name);
  return html`<fieldset>
    <legend><${Text} value=${schema.title ?? label} most=${120} /> ${remove}</legend>
    ${schema.description && html`<p class="hint muted"><${Text} value=${schema.description} most=${400} /></p>`}
    ${node.members.map(([name, value], at) => isFixed(name) ? html`<${Fixed} key=${name} name=${name} node=${value} act=${() => without(at)} />` : html`<${Node} key=${name} schema=${schemaOf(name)} root=${root} node=${value} label=${name}
      depth=${depth + 1} onChange=${(next) => change(at, next)} required=${required.has(name)}
      remove=${!required.has(name) && html`<${Button} words="Leave out" name=${name} act=${() => without(at)} />`} />`)}
    ${missing.length > 0 && html`<p class="actions">${missing.map((name) => html`<button type="button" class="small" onClick=${() => add(name)}>Add <${Text} value=${name} most=${60} /></button>`)}</p>`}
    ${node.members.length === 0 && missing.length === 0 && html`<p class="muted">{}</p>`}
  </fieldset>`;
}

/** A member that the schema does not have: shown, not edited. */
const Fixed = ({ name, node, act }) => html`<div class="field">
  <div class="field-head"><span class="label-like"><${Text} value=${name} most=${120} /></span><${Button} words="Leave out" name=${name} act=${act} /></div>
  <${Bytes} value=${write(node, 2)} label=${name} />
</div>`;

function ArrayEditor({ schema, root, node, onChange, label, remove, depth }) {
  const items = isObject(schema.items) ? schema.items : {};
  const [keys] = useState(() => ({ of: node.items.map(() => freshId()) }));
  while (keys.of.length < node.items.length) keys.of.push(freshId());
  const change = (at, value) => onChange({ kind: "array", items: node.items.map((item, index) => (index === at ? value : item)) });
  const without = (at) => {
    keys.of.splice(at, 1);
    onChange({ kind: "array", items: node.items.filter((_, index) => index !== at) });
  };
  const add = () => onChange({ kind: "array", items: [...node.items, startOf(items, root)] });
  return html`<fieldset>
    <legend><${Text} value=${schema.title ?? label} most=${120} /> ${remove}</legend>
    ${node.items.map((item, at) => html`<${Node} key=${keys.of[at]} schema=${items} root=${root} node=${item} label=${`${at + 1}`} depth=${depth + 1}
      onChange=${(next) => change(at, next)} remove=${html`<${Button} words="Remove" name=${`${label} ${at + 1}`} act=${() => without(at)} />`} />`)}
    <button type="button" class="small" onClick=${add}>Add one</button>
  </fieldset>`;
}

