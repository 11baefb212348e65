// The `ai` package as it is used in a browser, without one: the same transport and the same
// chat, with a state that is a plain object. Reads a plan from the variable PLAN, prints what
// the chat holds in the end as JSON.
import {
  AbstractChat,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
} from "ai";

const { base, key, chat: id, agent, steps } = JSON.parse(process.env.PLAN);

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, structuredClone(message)));
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor(init) {
    super({ ...init, state: new State() });
  }
}

let cut; // Text after which the next answer's connection breaks.
const requests = [];
async function fetchAndCount(url, init) {
  const response = await fetch(url, init);
  requests.push({ method: init.method, status: response.status });
  if (!cut || !response.body) return response;
  const needle = cut;
  cut = undefined;
  const decoder = new TextDecoder();
  let seen = "";
  const broken = response.body.pipeThrough(
    new TransformStream({
      transform(bytes, controller) {
        const before = seen.length;
        seen += decoder.decode(bytes, { stream: true });
        const found = seen.indexOf(needle);
        // What came after that event in the same piece is not told: the next events may be in it.
        const end = found < 0 ? -1 : seen.indexOf("\n\n", found);
        if (end < 0) return controller.enqueue(bytes);
        controller.enqueue(new TextEncoder().encode(seen.slice(before, end + 2)));
        controller.error(new TypeError("network error: cut by the test"));
      },
    }),
  );
  return new Response(broken, { status: response.status, headers: response.headers });
}

const streamed = [];
const data = [];
const finishes = [];
const chat = new Chat({
  id,
  transport: new DefaultChatTransport({
    api: `${base}/api/chat`,
    headers: { authorization: `Bearer ${key}` },
    body: { agent },
    fetch: fetchAndCount,
  }),
  onData: (part) => data.push(part),
  onFinish: ({ isError, isDisconnect, finishReason }) => finishes.push({ isError, isDisconnect, finishReason }),
  onError: (error) => streamed.push(error.message),
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
});

const until = async (what, condition) => {
  const deadline = Date.now() + 170_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}; ${JSON.stringify(chat.messages)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const open = () =>
  (chat.lastMessage?.parts ?? []).filter((part) => part.state === "approval-requested");

for (const step of steps) {
  if (step.cut) cut = step.cut;
  if (step.send) await chat.sendMessage({ text: step.send });
  if (step.resume) await chat.resumeStream();
  if (step.regenerate) await chat.regenerate();
  if (step.decide) {
    const before = requests.length;
    const parts = open();
    for (const [at, part] of parts.entries()) {
      await chat.addToolApprovalResponse({ id: part.approval.id, ...step.decide[at] });
    }
    await until("the decisions are sent", () => requests.length > before);
    await until("the chat is ready", () => chat.status === "ready" || chat.status === "error");
  }
}
console.log(JSON.stringify({ messages: chat.messages, status: chat.status, errors: streamed, data, finishes, requests }));
