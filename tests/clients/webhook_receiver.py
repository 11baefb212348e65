"""A receiver of webhooks that knows the Standard Webhooks specification and nothing else.

    webhook_receiver.py PORT

It verifies each delivery with the official package. The secrets are put by PUT /secret, one
at a time; GET /seen answers what came: for each delivery its id, type, and whether it was
verified, whether the same with one byte altered was, and whether it was an hour later.
"""

import datetime
import http.server
import json
import sys
import unittest.mock

from standardwebhooks import Webhook, WebhookVerificationError

secret = None
answers = [204]
seen = []


def verified(headers, body, later=0):
    """Whether the package accepts it, so many seconds from now."""
    now = datetime.datetime.now(tz=datetime.timezone.utc) + datetime.timedelta(seconds=later)
    clock = unittest.mock.Mock(wraps=datetime.datetime)
    clock.now.side_effect = lambda tz=None: now
    try:
        with unittest.mock.patch("standardwebhooks.webhooks.datetime", clock):
            Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


class Receiver(http.server.BaseHTTPRequestHandler):
    def body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(seen).encode())

    def do_PUT(self):
        global secret, answers
        told = json.loads(self.body())
        secret = told.get("secret", secret)
        answers = told.get("answers", answers)
        self.answer(204)

    def do_POST(self):
        body = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        altered = body.replace(b"execution", b"executioN", 1)
        # One after the other; the last one for all that come after it.
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        seen.append(
            {
                "id": headers["webhook-id"],
                "signatures": len(headers["webhook-signature"].split(" ")),
                "body": json.loads(body),
                "accepted": verified(headers, body),
                "altered_accepted": verified(headers, altered),
                "old_accepted": verified(headers, body, later=3600),
                "answered": status,
            }
        )
        self.answer(status)

    def log_message(self, *arguments):
        pass


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
