"""A worker that has a broker, a key, and the documentation: it takes tasks from a queue and
reports what came of them, all by message. What a task asks for is in its input, so that one
worker shows every end that there is. It prints what it did and was answered."""

import json
import os
import time
import uuid

import pika

EXCHANGE = os.environ["EXCHANGE"]
KEY = os.environ["HOLDPOINT_KEY"]
QUEUE = os.environ["QUEUE"]
TASKS = int(os.environ["TASKS"])
DEADLINE = time.monotonic() + 170

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
answers = channel.queue_declare("", exclusive=True).method.queue
log = []


def say(kind, task, **what):
    """Sends a report and waits for its answer: only then is it known to be taken."""
    message_id = str(uuid.uuid4())
    data = {"api_key": KEY, "execution_id": task["execution_id"], "step": task["step"], "attempt": task["attempt"]}
    event = {
        "specversion": "1.0",
        "id": message_id,
        "source": "/python/worker",
        "type": f"holdpoint.task.{kind}.v1",
        "data": {**data, **what},
    }
    properties = pika.BasicProperties(
        content_type="application/cloudevents+json",
        delivery_mode=2,
        reply_to=answers,
        correlation_id=message_id,
    )
    channel.basic_publish(EXCHANGE, "worker", json.dumps(event), properties)
    while time.monotonic() < DEADLINE:
        method, properties, body = channel.basic_get(answers, auto_ack=True)
        if method is None:
            connection.sleep(0.02)
            continue
        if properties.correlation_id == message_id:
            answer = json.loads(body)
            word = answer["type"].removeprefix("holdpoint.command.").removesuffix(".v1")
            return word if word == "accepted" else answer["data"]["problem"]["code"]
    raise TimeoutError(f"no answer to {kind}")


def work(task):
    wanted = task["input"]["do"]
    if wanted == "add":
        return [say("complete", task, output={"sum": task["input"]["a"] + task["input"]["b"]})]
    if wanted == "refuse":
        return [say("fail", task, error={"type": "logic", "message": "this cannot be done"})]
    if wanted == "stumble" and task["attempt"] == 1:
        return [say("fail", task, error={"type": "network", "message": "the line is bad"})]
    if wanted == "fall silent" and task["attempt"] == 1:
        return []
    if wanted == "take long":
        beats = []
        begun = time.monotonic()
        while time.monotonic() < begun + 1.5 * task["heartbeat_seconds"]:
            beats.append(say("heartbeat", task))
            connection.sleep(task["heartbeat_seconds"] / 4)
        assert set(beats) == {"accepted"}, beats
    if wanted == "say it twice":
        said = [say("complete", task, output=1), say("complete", task, output=1), say("complete", task, output=2)]
        return said + [say("heartbeat", task)]
    return [say("complete", task, output="done")]


while len(log) < TASKS:
    assert time.monotonic() < DEADLINE, log
    method, properties, body = channel.basic_get(QUEUE)
    if method is None:
        connection.sleep(0.02)
        continue
    event = json.loads(body)
    task = event["data"]
    assert properties.type == event["type"] == "holdpoint.task.v1", properties
    assert properties.delivery_mode == 2 and properties.message_id == task["key"], properties
    # What was confirmed late is sent again: an attempt that is carried out already is not one more.
    if any((line["key"], line["attempt"]) == (task["key"], task["attempt"]) for line in log):
        channel.basic_ack(method.delivery_tag)
        continue
    answered = work(task)
    channel.basic_ack(method.delivery_tag)
    log.append({"do": task["input"]["do"], "attempt": task["attempt"], "key": task["key"], "answered": answered})

print(json.dumps(log))
connection.close()
