"""Chats with agents by the official `openai` package, unchanged.

Holdpoint is at HOLDPOINT_URL, with the key HOLDPOINT_KEY; SIGNAL_URL is called where the test
has to go on.
"""

import json
import os
import urllib.request

import openai

URL, KEY = os.environ["HOLDPOINT_URL"], os.environ["HOLDPOINT_KEY"]
client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)


def user(text):
    return [{"role": "user", "content": text}]


def decide(requested, approved, reason=None):
    """What an approver's program does: one call beside the chat."""
    path = f"/v1/executions/{requested['execution_id']}/approvals/{requested['tool_call_id']}"
    body = {"approved": approved, "digest": requested["digest"]}
    if reason:
        body["reason"] = reason
    request = urllib.request.Request(
        URL + path,
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def extra(model, name):
    return (model.model_extra or {}).get(f"holdpoint.{name}")


def gather(stream):
    """Joins a stream as any client would."""
    text, calls, own, reason, usage = "", {}, {}, None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                joined = calls.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
                joined["arguments"] += call.function.arguments or ""
            for name, value in (choice.delta.model_extra or {}).items():
                own.setdefault(name, []).append(value)
            reason = choice.finish_reason or reason
    return text, calls, own, reason, usage


# The agents are the models.
assert "clerk" in [model.id for model in client.models.list()]
assert client.models.retrieve("clerk").object == "model"
assert client.models.retrieve("clerk@1").id == "clerk@1"

# A chat, whole.
raw = client.chat.completions.with_raw_response.create(model="clerk", messages=user("hello"), temperature=0.3)
answer = raw.parse()
assert answer.choices[0].message.content == "Hello there, how are you?", answer
assert answer.choices[0].finish_reason == "stop"
assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 5, 15)
assert raw.headers["x-workflow-run-id"].startswith("exe_")
assert raw.headers["x-holdpoint-conversation-id"] == answer.model_extra["conversation_id"]
print("whole:", answer.choices[0].message.content)

# A chat, streamed.
text, calls, own, reason, usage = gather(
    client.chat.completions.create(
        model="clerk@1", messages=user("hello"), stream=True, stream_options={"include_usage": True}
    )
)
assert (text, calls, own, reason) == ("Hello there, how are you?", {}, {}, "stop"), (text, calls, own, reason)
assert usage.total_tokens == 15, usage
print("streamed:", text)

# The agent's own tool.
text, calls, own, reason, usage = gather(
    client.chat.completions.create(model="clerk", messages=user("look"), stream=True)
)
assert (calls[0]["name"], json.loads(calls[0]["arguments"])) == ("look", {"n": 7}), calls
result = own["holdpoint.tool_result"][0]
assert (result["tool_call_id"], result["status"]) == (calls[0]["id"], "completed"), result
assert json.loads(result["output"]) == {"ok": True}
assert (text, reason, usage) == ('Told: {"ok":true}', "stop", None), (text, reason)
print("tool:", calls[0], "->", result["output"])

# An approval, granted.
talk = dict(model="clerk", messages=user("pay"), extra_body={"conversation_id": "python granted"})
text, calls, own, reason, _ = gather(client.chat.completions.create(stream=True, **talk))
assert (text, reason) == ("", "approval_required"), (text, reason)
requested = own["holdpoint.approval_requested"][0]
assert requested["tool_call_id"] == calls[0]["id"] and requested["arguments"] == calls[0]["arguments"], requested
assert decide(requested, True)["decision"] == "approved"
text, calls, own, reason, _ = gather(client.chat.completions.create(stream=True, **talk))
assert (text, calls, reason) == ('Told: {"ok":true}', {}, "stop"), (text, calls, reason)
assert own["holdpoint.approval_decided"][0]["approved"] is True, own
print("granted:", requested["tool"], requested["arguments"], "->", text)

# An approval, denied with a reason; not streamed, and the package's own accumulator after it.
talk = dict(model="clerk", messages=user("pay"), extra_headers={"x-holdpoint-conversation-id": "python-denied"})
answer = client.chat.completions.create(**talk)
assert answer.choices[0].finish_reason == "approval_required", answer
requested = extra(answer.choices[0].message, "approval_requested")[0]
assert decide(requested, False, "too much")["decision"] == "denied"
answer = client.chat.completions.create(**talk)
told = answer.choices[0].message.content
assert answer.choices[0].finish_reason == "stop" and "too much" in told, answer
assert extra(answer.choices[0].message, "tool_result")[0]["status"] == "denied"
with client.chat.completions.stream(model="clerk", messages=user("look")) as events:
    final = events.get_final_completion()
assert final.choices[0].message.content == 'Told: {"ok":true}', final
with client.chat.completions.stream(model="clerk", messages=user("pay both")) as events:
    final = events.get_final_completion()
assert (final.choices[0].finish_reason, len(final.choices[0].message.tool_calls)) == ("approval_required", 2), final
print("denied:", told)

# A connection that drops, and the request sent again.
talk = dict(model="clerk", messages=user("slowly"), stream=True, extra_body={"conversation_id": "python-dropped"})
stream = client.chat.completions.create(**talk)
seen = next(chunk for chunk in stream if chunk.choices[0].delta.content).choices[0].delta.content
stream.close()
urllib.request.urlopen(os.environ["SIGNAL_URL"]).close()
text, _, _, reason, _ = gather(client.chat.completions.create(**talk))
assert (text, reason) == ("a long text that takes its time", "stop"), (text, reason)
assert text.startswith(seen)
print("resumed:", repr(seen), "->", repr(text))

# The next turn has what was said before, whether the client sends it along or not.
talk = dict(model="clerk", extra_body={"conversation_id": "python-dropped"})
answer = client.chat.completions.create(messages=user("what did I say?"), **talk)
assert answer.choices[0].message.content == "You said: slowly | what did I say?", answer
history = user("slowly") + [{"role": "assistant", "content": text}] + user("what did I say?")
history += [{"role": "assistant", "content": answer.choices[0].message.content}]
answer = client.chat.completions.create(messages=history + user("and now?"), **talk)
assert answer.choices[0].message.content == "You said: slowly | what did I say? | and now?", answer
print("next:", answer.choices[0].message.content)


# What is wrong is an error of the package, and is not tried again.
def refused(kind, by=client, **changed):
    try:
        by.chat.completions.create(**(dict(model="clerk", messages=user("hello")) | changed))
    except kind as error:
        return error
    raise AssertionError(f"no {kind}: {changed}")


assert refused(openai.NotFoundError, model="nobody").code == "unknown_definition"
assert refused(openai.AuthenticationError, by=client.with_options(api_key="hp_wrong")).code == "unauthorized"
picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]
assert refused(openai.BadRequestError, messages=picture).param == "messages[0].content[0]"
assert refused(openai.BadRequestError, tools=[{"type": "function", "function": {"name": "x"}}]).param == "tools"
client.chat.completions.create(model="clerk", messages=user("pay"), extra_body={"conversation_id": "python-busy"})
busy = refused(openai.ConflictError, extra_body={"conversation_id": "python-busy"})
assert busy.code == "conversation_busy" and busy.body["active_execution_id"].startswith("exe_"), busy.body
failed = refused(openai.APIStatusError, messages=user("fail"))
assert (failed.status_code, failed.code) == (502, "auth"), (failed.status_code, failed.body)
try:
    gather(client.chat.completions.create(model="clerk", messages=user("fail"), stream=True))
    raise AssertionError("a failure ends the stream with an error")
except openai.APIError as error:
    assert error.code == "auth", error
print("refused:", busy.code, failed.code)
