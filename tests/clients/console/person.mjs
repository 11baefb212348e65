// A person's path: sign in, see what waits, read it, edit an amount and approve, deny another with a
// reason, see both executions end, see the audit. Decisions by keyboard alone.
import { given, same, story, until, call } from "./desk.mjs";

await story("person", async (desk) => {
  const { page } = desk;
  const main = page.getByRole("main");
  const press = async (locator, what) => {
    await desk.tabTo(locator, what);
    await page.keyboard.press("Enter");
  };
  const button = (name) => main.getByRole("button", { name, exact: true });

  // A key that is none is refused, and told so.
  desk.expected.push(/status of 401/);
  await page.goto(`${process.env.HOLDPOINT_URL}/`);
  await page.getByLabel("API key").fill("hp_nonsense");
  await page.keyboard.press("Enter");
  await page.getByText("This key is not taken.").waitFor();
  await desk.holds("signing in");
  await desk.picture("1-sign-in");
  desk.expected.length = 0;
  await desk.signIn(given.key);

  // Two calls wait, the older one first.
  await desk.visit("#/inbox", "Inbox");
  const items = main.getByRole("listitem").filter({ hasText: "refund" });
  await items.nth(1).waitFor();
  same(await items.count(), 2, "calls that wait");
  await desk.holds("the inbox");
  await desk.picture("2-inbox");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.hash.includes(given.first));

  // It reads the very bytes that will be sent, and their digest.
  const stored = main.getByRole("region", { name: "stored arguments" });
  const waiting = (await call("GET", `/v1/executions/${given.first}/approvals`)).body.approvals[0];
  await stored.getByText(waiting.arguments_text, { exact: true }).waitFor();
  await main.getByText(waiting.digest).first().waitFor();
  await main.getByText("digest verified in this browser").waitFor();
  await desk.holds("a call");
  await desk.picture("3-a-call");

  // It edits the amount by the form of the tool's schema, sees what will be sent, and approves.
  await press(button("Edit arguments"), "Edit arguments");
  const amount = main.getByLabel("amount_cents");
  await desk.tabTo(amount, "the amount");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("4200");
  const sent = main.getByRole("region", { name: "what will be sent" });
  await sent.getByText('"amount_cents":4200').waitFor();
  await desk.holds("edited arguments");
  await desk.picture("4-edited");
  await press(button("Approve the edited call"), "Approve");
  await desk.told("It is approved.");
  await desk.focused(main.getByRole("article", { name: "the call" }), "what became of the call has the focus");
  const decided = (await call("GET", `/v1/executions/${given.first}/approvals`)).body.approvals[0];
  same([decided.status, decided.edited_arguments.amount_cents], ["approved", 4200], "the decision");

  // It denies the other one, with a reason.
  await page.goto(`${process.env.HOLDPOINT_URL}/#/inbox/${given.second}/c1`);
  await stored.getByText("1002").waitFor();
  await desk.tabTo(main.getByLabel("Reason"), "the reason");
  await page.keyboard.type("not this month");
  await press(button("Deny"), "Deny");
  await desk.told("It is denied.");

  // Both executions end, and say what came of it.
  for (const [id, words, name] of [[given.first, "Told: ", "5-approved"], [given.second, "not this month", "6-denied"]]) {
    await desk.visit(`#/executions/${id}`, /./);
    await main.getByText("completed", { exact: true }).first().waitFor();
    await main.getByText(words).first().waitFor();
    await desk.holds(`execution ${name}`);
    await desk.picture(name);
  }
  await desk.visit("#/executions", "Executions");
  await until("both are shown as completed", async () => (await main.getByRole("row").filter({ hasText: "completed" }).count()) === 2);
  await desk.holds("the executions");
  await desk.picture("7-executions");

  // One that is not there says so, and leads back.
  desk.expected.push(/status of 404/);
  await desk.visit("#/executions/exe_01h455vb4pex5vsknk084sn02q", "There is no such execution");
  await desk.holds("an execution that is not there");
  await desk.picture("no-execution");
  await press(main.getByRole("link", { name: "To the executions" }), "the way back");
  await page.getByRole("heading", { name: "Executions", exact: true }).waitFor();
  desk.expected.length = 0;

  // The audit has both decisions and who made them.
  await desk.visit("#/audit", "Audit");
  await until("both decisions are in the audit", async () => (await main.getByRole("row").filter({ hasText: "approval.decided" }).count()) >= 2);
  await main.getByText("The rows of this page fit together").waitFor();
  await desk.holds("the audit");
  await desk.picture("8-audit");
});
