// A decision that allows the like too: by keyboard, refused with what was written kept, used by the
// next call of the conversation, and offered only where there can be a grant.
import { call, given, NARROW, same, story, until } from "./desk.mjs";

const { HOLDPOINT_URL } = process.env;

await story("grants", async (desk) => {
  const { page } = desk;
  const main = page.getByRole("main");
  const button = (name) => main.getByRole("button", { name, exact: true });
  const press = async (locator, what) => {
    await desk.tabTo(locator, what);
    await page.keyboard.press("Enter");
  };
  const write = async (locator, text, what) => {
    await desk.tabTo(locator, what);
    await page.keyboard.press("Control+A");
    await page.keyboard.type(text);
  };
  const open = async (id, tool = "c1") => {
    await page.goto(`${HOLDPOINT_URL}/#/inbox/${id}/${encodeURIComponent(tool)}`);
    await main.getByText("digest verified in this browser").waitFor();
  };
  const approval = async (id) => (await call("GET", `/v1/executions/${id}/approvals`)).body.approvals[0];
  const grants = async () => (await call("GET", "/v1/grants")).body.grants;
  const unfold = button("Also allow the like…");
  const theCall = main.getByRole("article", { name: "the call" });
  const [lasts, uses, condition] = ["Lasts", "At most so often", "While"].map((label) => main.getByLabel(label, { exact: true }));
  await desk.signIn(given.key);

  // Not with a workflow's question, nor where several people must agree; the API says the same.
  const grant = { for: "agent", expires_after: "1h", max_uses: 1 };
  desk.expected.push(/status of (400|409)/);
  for (const [id, name, kind] of [[given.question, given.asked, "workflow"], [given.several, "c1", "agent"]]) {
    await open(id, name);
    await button("Approve").waitFor();
    same(await unfold.count(), 0, "a grant is offered where there can be none");
    const refused = await call("POST", `/v1/executions/${id}/approvals/${encodeURIComponent(name)}`, { approved: true, grant });
    same([refused.status, refused.body.code], [409, "grant_not_possible"], "the API's answer");
    const waiting = await approval(id);
    same([waiting.status, waiting.kind], ["pending", kind], "what was refused");
  }

  // It opens by keyboard, and says what the button will do.
  await open(given.talk);
  same(await unfold.getAttribute("aria-expanded"), "false", "folded");
  await press(unfold, "Also allow the like");
  same(await button("Only this call").getAttribute("aria-expanded"), "true", "unfolded");
  await button("Approve, and allow the like").waitFor();
  same(await button("Approve").count(), 0, "the button for this call only");
  same(await main.getByRole("radio", { name: "in this conversation, talk" }).isChecked(), true, "for the conversation");
  await main.getByText("30m, 8h or 7d").waitFor();
  await desk.holds("a decision with a grant");
  await button("Deny").scrollIntoViewIfNeeded();
  await desk.picture("grant");
  await page.setViewportSize(NARROW);
  await desk.picture("grant-narrow");
  await page.setViewportSize({ width: 1280, height: 900 });

  // What is no span, no number or no condition is refused, and nothing that was written is lost.
  await write(main.getByLabel("Reason"), "and the like", "the reason");
  await write(uses, "2", "how often");
  await write(condition, ".arguments.amount_cents <= 7000", "the condition");
  const wrong = [[lasts, "tomorrow", "not a duration", "1h"], [uses, "0", "max_uses", "2"], [condition, ".a b", "when", ".arguments.amount_cents <= 7000"]];
  for (const [field, text, said, right] of wrong) {
    await write(field, text, said);
    await press(button("Approve, and allow the like"), "Approve");
    await main.getByText("Nothing was decided.").waitFor();
    await main.getByRole("alert").filter({ hasText: said }).waitFor();
    same([(await approval(given.talk)).status, (await grants()).length], ["pending", 0], `after ${said}`);
    same([await main.getByLabel("Reason").inputValue(), await field.inputValue()], ["and the like", text], "what was written");
    await write(field, right, said);
  }
  await desk.holds("a grant that was refused");

  // Folded it goes nowhere, and is as it was when it is opened again.
  await press(button("Only this call"), "Only this call");
  await button("Approve").waitFor();
  await press(unfold, "Also allow the like");
  same([await lasts.inputValue(), await uses.inputValue()], ["1h", "2"], "what was written");
  await press(button("Approve, and allow the like"), "Approve");
  await desk.told("It is approved, and a grant for the like is made.");
  same((await approval(given.talk)).status, "approved", "the decision");
  const [made, ...others] = await grants();
  same(others, [], "other grants");
  same([made.conversation_id, made.tool, made.when, made.max_uses, made.reason, made.agent], ["talk", "refund", ".arguments.amount_cents <= 7000", 2, "and the like", null], "the grant");
  const hours = (Date.parse(made.expires_at) - Date.parse(made.created_at)) / 3_600_000;
  same(Math.round(hours * 10), 10, "how long it lasts");

  // The next call of the conversation is not asked about, and the page of grants says so.
  await until("the execution ends", async () => (await call("GET", `/v1/executions/${given.talk}`)).body.status === "completed");
  const messages = [{ role: "user", content: "3002" }];
  const next = (await call("POST", "/v1/executions", { agent: "shop", messages, conversation_id: "talk" })).body.id;
  await until("the next one ends", async () => (await call("GET", `/v1/executions/${next}`)).body.status === "completed");
  same((await approval(next)).decided_by, made.id, "who decided");
  await desk.visit("#/grants", "Grants");
  await page.getByRole("row", { name: /refund conversation talk .arguments.amount_cents <= 7000 ?and the like 1 of 2 active/ }).waitFor();
  await desk.holds("the grants");
  await desk.picture("grants");

  // A denial takes no grant along; the like of an agent's calls may be allowed too.
  await open(given.denied);
  await press(unfold, "Also allow the like");
  await press(button("Deny"), "Deny");
  await desk.told("It is denied.");
  await desk.focused(theCall, "what became of the call has the focus");
  same((await grants()).length, 1, "grants after a denial");
  await open(given.agents);
  await press(unfold, "Also allow the like");
  await main.getByRole("radio", { name: "by the agent shop, in whichever execution" }).check();
  await press(button("Approve, and allow the like"), "Approve");
  await desk.told("It is approved, and a grant for the like is made.");
  same((await grants()).length, 2, "grants after that for an agent");
  const [forAgent] = await grants();
  same([forAgent.agent, forAgent.conversation_id, forAgent.when, forAgent.max_uses], ["shop", null, null, 5], "the grant for an agent");

  // A page that offers what cannot be is told so by the API.
  const list = (url) => url.pathname === "/v1/approvals";
  await page.route(list, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: (await response.text()).replaceAll('"quorum":2', '"quorum":1') });
  });
  await page.goto(`${HOLDPOINT_URL}/#/inbox`);
  await page.reload();
  await open(given.several);
  await press(unfold, "Also allow the like");
  await press(button("Approve, and allow the like"), "Approve");
  await main.getByText("There can be no grant for the like of this call. Nothing was decided.").waitFor();
  same((await approval(given.several)).votes, [], "votes of what was refused");
  same((await grants()).length, 2, "grants");
  await desk.unroute();
});
