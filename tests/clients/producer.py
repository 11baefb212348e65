"""A producer that has a broker, a key, and the documentation: it starts an execution three times
by one message, approves its tool call, hears of its end, and starts and cancels another, all by
message."""

import json
import os
import time
import urllib.request
import uuid

import pika

EXCHANGE = os.environ["EXCHANGE"]
KEY = os.environ["HOLDPOINT_KEY"]
DEADLINE = time.monotonic() + 170

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
answers = channel.queue_declare("", exclusive=True).method.queue


def send(kind, data, message_id=None, **attributes):
    message_id = message_id or str(uuid.uuid4())
    event = {
        "specversion": "1.0",
        "id": message_id,
        "source": "/python/shop",
        "type": kind,
        "data": {"api_key": KEY, **data},
        **attributes,
    }
    properties = pika.BasicProperties(
        content_type="application/cloudevents+json",
        delivery_mode=2,
        reply_to=answers,
        correlation_id=message_id,
    )
    channel.basic_publish(EXCHANGE, kind, json.dumps(event), properties)
    return message_id


waiting = []
seen = set()


def reply(message_id, kind):
    """The next answer to this message, which must be of this kind; others wait for their turn."""
    while time.monotonic() < DEADLINE:
        for place, (correlation, event) in enumerate(waiting):
            if correlation == message_id:
                del waiting[place]
                assert event["type"] == f"holdpoint.command.{kind}.v1", event
                return event["data"]
        method, properties, body = channel.basic_get(answers, auto_ack=True)
        if method is None:
            connection.sleep(0.02)
            continue
        assert properties.content_type == "application/cloudevents+json", properties
        event = json.loads(body)
        # What was confirmed late is sent again, under its id.
        if event["id"] not in seen:
            seen.add(event["id"])
            waiting.append((properties.correlation_id, event))
    raise TimeoutError(f"no answer to {message_id}")


def pending(execution):
    """Waits until the execution has a tool call to decide on, as a console would show it."""
    url = f"{os.environ['HOLDPOINT_URL']}/v1/executions/{execution}/approvals"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {KEY}"})
    while time.monotonic() < DEADLINE:
        with urllib.request.urlopen(request, timeout=10) as answer:
            approvals = json.load(answer)
        if approvals["has_pending"]:
            return approvals["approvals"][0]["tool_call_id"]
        connection.sleep(0.02)
    raise TimeoutError("nothing to decide")


def start():
    return {"agent": "clerk", "messages": [{"role": "user", "content": "go"}]}


same = str(uuid.uuid4())
accepted = []
for _ in range(3):
    send("holdpoint.execution.start.v1", start(), same, reply="finished")
    accepted.append(reply(same, "accepted")["execution_id"])
started = accepted[0]

decision = {"execution_id": started, "tool_call_id": pending(started), "approved": True}
message = send("holdpoint.approval.decide.v1", decision)
assert reply(message, "accepted") == {"execution_id": started}
finished = reply(same, "finished")
assert (finished["execution_id"], finished["status"]) == (started, "completed"), finished

message = send("holdpoint.execution.start.v1", start())
second = reply(message, "accepted")["execution_id"]
message = send("holdpoint.execution.cancel.v1", {"execution_id": second})
assert reply(message, "accepted") == {"execution_id": second}

message = send("holdpoint.execution.cancel.v1", {"execution_id": "exe_00000000000000000000000000"})
problem = reply(message, "rejected")["problem"]
assert problem["status"] == 404, problem

print(json.dumps({"started": started, "accepted": accepted, "finished": finished["status"], "cancelled": second}))
assert not waiting, waiting
connection.close()
