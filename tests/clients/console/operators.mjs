// What an operator does, by keyboard alone where it is a decision: workflows, schedules, attention,
// sweeps, keys. What the page says is held against the API.
import { call, given, same, story, until } from "./desk.mjs";

await story("operators", async (desk) => {
  const { page } = desk;
  const main = page.getByRole("main");
  const button = (name) => page.getByRole("button", { name, exact: true });

  /** Tab to a button and press it. */
  async function press(locator, what) {
    await desk.tabTo(locator, what);
    await page.keyboard.press("Enter");
  }

  /** Tab to a button, press it, and press the one of the dialog that opens. */
  async function decide(name, yes = name) {
    await press(button(name), name);
    const dialog = page.getByRole("dialog");
    await press(dialog.getByRole("button", { name: yes, exact: true }), `${yes} of the dialog`);
    await dialog.waitFor({ state: "detached" });
  }

  await desk.signIn(given.key);

  // Its last run failed for good: that stopped what starts it by itself.
  same((await call("PUT", "/v1/schedules/weekly", { workflow: "failing", cron: "0 7 * * MON" })).body.stopped, "workflow_failed", "the schedule");
  await desk.visit("#/schedules/weekly", "weekly");
  await main.getByText("None while it is stopped: the last run of its workflow failed for good").waitFor();
  await desk.visit("#/workflows", "Workflows");
  await main.getByText("schedule stopped").waitFor();

  // A workflow is held, goes on, and is put away.
  await desk.visit("#/workflows/failing", "failing");
  await main.getByText("no: its last run failed for good").waitFor();
  for (const [act, state] of [["Pause", "paused"], ["Resume", "active"], ["Archive", "archived"], ["Resume", "active"]]) {
    if (act === "Resume") await press(button(act), act);
    else await decide(act);
    await main.getByText(state, { exact: true }).first().waitFor();
    await until(`the workflow is ${state}`, async () => (await call("GET", "/v1/workflows/failing")).body.state === state);
  }

  // Two versions differ in a line.
  const lines = page.getByRole("region", { name: "from version 1 to version 2" });
  await lines.getByText('"summary": "as before",').waitFor();
  await lines.getByText('"summary": "as after",').waitFor();
  same(await lines.locator(".gone .diff-text").allInnerTexts(), ['    "summary": "as before",', '    "version": "1.0.0"'], "what is gone");
  same(await lines.locator(".new .diff-text").allInnerTexts(), ['    "summary": "as after",', '    "version": "1.0.1"'], "what is new");
  await page.getByLabel("To version", { exact: true }).selectOption("1");
  await page.getByText("They do not differ in any line.").waitFor();
  await desk.picture("workflow");

  // A test run, whose input must be JSON; and a start.
  await press(button("Test run"), "Test run");
  await page.getByLabel("Input").fill("{nonsense");
  await page.getByText("This is no JSON").waitFor();
  await until("a test run with no JSON cannot be begun", () => button("Begin the test run").isDisabled());
  await page.getByLabel("Input").fill('{"n": 12345678901234567}');
  await press(button("Begin the test run"), "Begin the test run");
  await page.waitForURL(/#\/executions\/exe_/);
  const tried = page.url().split("/").at(-1);
  const run = (await call("GET", `/v1/executions/${tried}`)).body;
  same([run.run_type, run.definition.name], ["test", "failing"], "the test run");
  await desk.visit("#/agents/shop", "shop");
  await press(button("Start"), "Start");
  await page.getByRole("textbox", { name: "Message" }).fill("1001");
  await page.getByRole("textbox", { name: "Labels" }).fill('team=support note="two words"');
  await desk.holds("the start of an agent");
  await press(page.getByRole("dialog").getByRole("button", { name: "Start", exact: true }), "Start of the dialog");
  await page.waitForURL(/#\/executions\/exe_/);
  const begun = (await call("GET", `/v1/executions/${page.url().split("/").at(-1)}`)).body;
  same([begun.labels, begun.messages[0].content], [{ note: "two words", team: "support" }, "1001"], "the start");

  // What needs a person is acknowledged.
  await desk.visit("#/attention", "Attention");
  await desk.picture("attention");
  await decide("Acknowledge failing", "Acknowledge");
  await page.getByText("Nothing needs you.").waitFor();
  same((await call("GET", "/v1/attention")).body.total, 0, "attention");

  // A schedule is held, goes on, and is removed.
  await desk.visit("#/schedules/nightly", "nightly");
  const ticks = page.getByRole("region", { name: "Next ticks" }).getByRole("listitem");
  await until("five ticks are shown", async () => (await ticks.count()) === 5);
  await desk.picture("schedule");
  await decide("Pause");
  await main.getByText("None while it is paused.").waitFor();
  same((await call("GET", "/v1/schedules/nightly")).body.paused, true, "the schedule");
  await press(button("Resume"), "Resume");
  await button("Pause").waitFor();
  // The page may ask for it once more before it leads away.
  desk.expected.push(/status of 404 .*\/v1\/schedules\/nightly\)/);
  await decide("Delete");
  await page.waitForURL(/#\/schedules$/);
  same((await call("GET", "/v1/schedules/nightly")).status, 404, "the schedule");

  // A sweep is counted before it is run.
  await desk.visit("#/sweeps", "Sweeps");
  await press(button("Run stale…"), "Run stale");
  const sweep = page.getByRole("dialog");
  same(await button("Run the sweep").isDisabled(), true, "a sweep that was not counted");
  await press(button("Count only"), "Count only");
  await sweep.getByText("Counted; nothing was changed:").waitFor();
  same((await call("GET", `/v1/executions/${given.stale}`)).body.status, "suspended", "what was only counted");
  await desk.picture("sweep");
  await press(button("Run the sweep"), "Run the sweep");
  await desk.told("The sweep ended 1 of 1 executions.");
  same((await call("GET", `/v1/executions/${given.stale}`)).body.reason, "approval_timeout", "what was swept");
  await page.getByRole("row", { name: /only counted/ }).waitFor();

  // A grant is made, and taken back.
  await desk.visit("#/grants", "Grants");
  await main.getByText("There is no such grant.").waitFor();
  await button("Make a grant").click();
  const grant = page.getByRole("dialog");
  await grant.getByLabel("Tool").fill("refund");
  await grant.getByLabel("Agent", { exact: true }).fill("shop");
  await grant.getByLabel("While").fill(".arguments.amount_cents <= 5000");
  await grant.getByLabel("At most so often").fill("3");
  await grant.getByRole("button", { name: "Make it" }).click();
  await page.getByRole("row", { name: /refund agent shop .arguments.amount_cents <= 5000 0 of 3 active/ }).waitFor();
  await desk.holds("grants");
  await button("Take back the grant for refund").click();
  await grant.getByRole("button", { name: "Take back", exact: true }).click();
  await page.getByRole("row", { name: /refund agent shop .arguments.amount_cents <= 5000 0 of 3 revoked/ }).waitFor();

  // A limit is set, changed and removed.
  await desk.visit("#/limits", "Limits");
  await main.getByText("Nothing is limited.").waitFor();
  await button("Set a limit").click();
  const limit = page.getByRole("dialog");
  await limit.getByLabel("Name").fill("shop");
  await limit.getByLabel("At a time").fill("5");
  await limit.getByLabel("In a span").fill("10");
  await limit.getByLabel("The span").fill("1m");
  await limit.getByRole("button", { name: "Set it" }).click();
  await page.getByRole("row", { name: /agent shop 5 10 in 1m/ }).waitFor();
  await desk.holds("limits");
  await button("Change agent shop").click();
  await limit.getByLabel("At a time").fill("7");
  await limit.getByRole("button", { name: "Set it" }).click();
  await page.getByRole("row", { name: /agent shop 7/ }).waitFor();
  await button("Remove agent shop").click();
  await limit.getByRole("button", { name: "Remove", exact: true }).click();
  await main.getByText("Nothing is limited.").waitFor();

  // A key is made, shown once, and revoked.
  await desk.visit("#/keys", "Keys");
  await press(button("Make a key"), "Make a key");
  const made = page.getByRole("dialog");
  await made.getByLabel("Role").selectOption("read");
  await made.getByLabel("Name").fill("the night shift");
  await desk.holds("making a key");
  await press(button("Make it"), "Make it");
  const field = page.getByRole("dialog", { name: "The new key" }).getByLabel("Key", { exact: true });
  await field.waitFor();
  const text = await field.inputValue();
  same((await call("GET", "/v1/executions", undefined, text)).status, 200, "the new key");
  await press(button("I have kept it"), "I have kept it");
  await page.getByRole("row", { name: /the night shift/ }).waitFor();
  same((await page.content()).includes(text), false, "a key's text after it was shown");
  await decide("Revoke the night shift", "Revoke");
  await page.getByRole("row", { name: /the night shift/ }).waitFor({ state: "detached" });
  await until("the key is refused", async () => (await call("GET", "/v1/executions", undefined, text)).status === 401);
  await page.getByLabel("Revoked and expired ones too").check();
  await page.getByRole("row", { name: /the night shift.*revoked/ }).waitFor();
});
