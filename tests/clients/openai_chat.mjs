// Chats with agents by the official `openai` package, unchanged.
//
// Holdpoint is at HOLDPOINT_URL, with the key HOLDPOINT_KEY; SIGNAL_URL is called where the test
// has to go on.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { HOLDPOINT_URL: url, HOLDPOINT_KEY: key, SIGNAL_URL: signal } = process.env;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const user = (text) => [{ role: "user", content: text }];

// What an approver's program does: one call beside the chat.
async function decide(requested, approved, reason) {
  const path = `/v1/executions/${requested.execution_id}/approvals/${requested.tool_call_id}`;
  const answer = await fetch(url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ approved, reason, digest: requested.digest }),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).decision;
}

// Joins a stream as any client would.
async function gather(stream) {
  const all = { text: "", calls: [], own: {}, reason: null, usage: null };
  for await (const chunk of stream) {
    all.usage = chunk.usage ?? all.usage;
    for (const { delta, finish_reason } of chunk.choices) {
      all.text += delta.content ?? "";
      for (const call of delta.tool_calls ?? []) {
        all.calls[call.index] ??= { id: call.id, name: call.function.name, arguments: "" };
        all.calls[call.index].arguments += call.function.arguments ?? "";
      }
      for (const [name, value] of Object.entries(delta)) {
        if (name.startsWith("holdpoint.")) (all.own[name] ??= []).push(value);
      }
      all.reason = finish_reason ?? all.reason;
    }
  }
  return all;
}

// The agents are the models.
const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.ok(models.includes("clerk"));
assert.equal((await client.models.retrieve("clerk@1")).id, "clerk@1");

// A chat, whole and streamed.
const whole = await client.chat.completions.create({ model: "clerk", messages: user("hello"), seed: 1 });
assert.equal(whole.choices[0].message.content, "Hello there, how are you?");
assert.equal(whole.choices[0].finish_reason, "stop");
assert.equal(whole.usage.total_tokens, 15);
let got = await gather(
  await client.chat.completions.create({
    model: "clerk",
    messages: user("hello"),
    stream: true,
    stream_options: { include_usage: true },
  }),
);
assert.deepEqual([got.text, got.reason, got.usage.total_tokens], ["Hello there, how are you?", "stop", 15]);
console.log("streamed:", got.text);

// The agent's own tool, joined here and by the package.
got = await gather(await client.chat.completions.create({ model: "clerk", messages: user("look"), stream: true }));
assert.deepEqual([got.calls[0].name, JSON.parse(got.calls[0].arguments)], ["look", { n: 7 }]);
assert.equal(got.own["holdpoint.tool_result"][0].tool_call_id, got.calls[0].id);
assert.deepEqual([got.text, got.reason], ['Told: {"ok":true}', "stop"]);
const joined = await client.chat.completions.stream({ model: "clerk", messages: user("look") }).finalChatCompletion();
assert.equal(joined.choices[0].message.content, 'Told: {"ok":true}');
assert.deepEqual(JSON.parse(joined.choices[0].message.tool_calls[0].function.arguments), { n: 7 });
console.log("tool:", got.calls[0], "->", got.own["holdpoint.tool_result"][0].output);

// An approval, granted.
let talk = { model: "clerk", messages: user("pay"), conversation_id: "node granted" };
got = await gather(await client.chat.completions.create({ ...talk, stream: true }));
assert.deepEqual([got.text, got.reason], ["", "approval_required"]);
let requested = got.own["holdpoint.approval_requested"][0];
assert.equal(requested.arguments, got.calls[0].arguments);
assert.equal(await decide(requested, true), "approved");
got = await gather(await client.chat.completions.create({ ...talk, stream: true }));
assert.deepEqual([got.text, got.calls, got.reason], ['Told: {"ok":true}', [], "stop"]);
assert.equal(got.own["holdpoint.approval_decided"][0].approved, true);
console.log("granted:", requested.tool, requested.arguments, "->", got.text);

// An approval, denied with a reason.
talk = { model: "clerk", messages: user("pay"), conversation_id: "node-denied" };
const asked = await client.chat.completions.stream(talk).finalChatCompletion();
assert.equal(asked.choices[0].finish_reason, "approval_required");
requested = asked.choices[0].message["holdpoint.approval_requested"];
assert.equal(await decide(requested, false, "too much"), "denied");
const denied = await client.chat.completions.create(talk);
assert.ok(denied.choices[0].message.content.includes("too much"));
assert.equal(denied.choices[0].message["holdpoint.tool_result"][0].status, "denied");
console.log("denied:", denied.choices[0].message.content);

// A connection that drops, and the request sent again.
talk = { model: "clerk", messages: user("slowly"), stream: true, conversation_id: "node-dropped" };
let seen = "";
for await (const chunk of await client.chat.completions.create(talk)) {
  seen += chunk.choices[0].delta.content ?? "";
  if (seen) break;
}
await fetch(signal);
got = await gather(await client.chat.completions.create(talk));
assert.deepEqual([got.text, got.reason], ["a long text that takes its time", "stop"]);
assert.ok(got.text.startsWith(seen));
console.log("resumed:", seen, "->", got.text);

// What is wrong is an error of the package.
const refused = async (changed, by = client) =>
  by.chat.completions.create({ model: "clerk", messages: user("hello"), ...changed }).then(
    () => assert.fail("it was taken"),
    (error) => error,
  );
assert.ok((await refused({ model: "nobody" })) instanceof OpenAI.NotFoundError);
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "hp_wrong" });
assert.ok((await refused({}, stranger)) instanceof OpenAI.AuthenticationError);
assert.equal((await refused({ n: 2 })).param, "n");
await client.chat.completions.create({ model: "clerk", messages: user("pay"), conversation_id: "node-busy" });
const busy = await refused({ conversation_id: "node-busy" });
assert.ok(busy instanceof OpenAI.ConflictError && busy.error.active_execution_id.startsWith("exe_"));
assert.equal((await refused({ messages: user("fail") })).code, "auth");
console.log("refused:", busy.code);
