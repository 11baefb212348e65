// What goes wrong when people decide is told, and does no harm: decided elsewhere meanwhile, expired,
// bytes that are not those that were seen, a role without the right, a key that is revoked in the
// middle, many at once, and an API that goes and comes back.
import { call, given, same, story, until } from "./desk.mjs";

const { HOLDPOINT_URL } = process.env;

await story("decisions", async (desk) => {
  const { page } = desk;
  const main = page.getByRole("main");
  const button = (name) => main.getByRole("button", { name, exact: true });
  const open = async (id) => {
    await page.goto(`${HOLDPOINT_URL}/#/inbox/${id}/c1`);
    await main.getByRole("region", { name: "stored arguments" }).waitFor();
  };
  const decision = (id) => call("GET", `/v1/executions/${id}/approvals`).then(({ body }) => body.approvals[0]);
  await desk.signIn(given.key);

  // Somebody else denies what is open here. The page shows it as it came in before it knows.
  desk.expected.push(/status of (409|410|403|404)/);
  await open(given.conflict);
  desk.expected.push(/ERR_FAILED/);
  await page.route(/\/v1\/approvals\?/, (route) => route.abort());
  // A question that was under way is over when one is refused: the list is asked for one by one.
  await main.getByText("There is no answer from the server").first().waitFor();
  same((await call("POST", `/v1/executions/${given.conflict}/approvals/c1`, { approved: false, reason: "mine was first" })).status, 200, "the other's decision");
  await button("Approve").click();
  await main.getByText("It was decided otherwise before: denied").first().waitFor();
  await main.getByText("mine was first").first().waitFor();
  await desk.picture("conflict");
  same((await decision(given.conflict)).status, "denied", "what was decided first");
  await desk.unroute();

  // Its time is over: nothing is offered; and a page that does not know it yet is refused.
  await until("it has expired", async () => Date.parse((await decision(given.expired)).expires_at) < Date.now());
  await open(given.expired);
  await main.getByText("expired", { exact: true }).first().waitFor();
  same(await button("Approve").count(), 0, "buttons of an expired call");
  const asked = (url) => url.pathname.endsWith(`/${given.expired}/approvals/c1`);
  await page.route(asked, async (route) => {
    if (route.request().method() !== "GET") return route.continue();
    const response = await route.fetch();
    return route.fulfill({ response, body: (await response.text()).replace('"status":"expired"', '"status":"pending"') });
  });
  await page.reload();
  await main.getByText("Its time is over: a decision will be refused.").waitFor();
  await button("Approve").click();
  await main.getByText("It can no longer be decided").first().waitFor();
  await desk.holds("an expired call");
  await desk.picture("expired");
  await desk.unroute();

  // What is sent names what was seen: the API refuses another digest.
  await open(given.mismatch);
  const act = (url) => url.pathname.endsWith(`/${given.mismatch}/approvals/c1`);
  await page.route(act, (route) => {
    const request = route.request();
    if (request.method() !== "POST") return route.continue();
    const body = JSON.parse(request.postData());
    return route.continue({ postData: JSON.stringify({ ...body, digest: "0".repeat(64) }) });
  });
  await button("Approve").click();
  await main.getByText("The arguments are not those that you saw.").first().waitFor();
  await desk.unroute();
  same((await decision(given.mismatch)).status, "pending", "nothing was decided");

  // Bytes that were changed on their way are seen by the page itself.
  await page.route(/\/v1\/approvals\?/, async (route) => {
    const response = await route.fetch();
    // Nothing but the amount: ids may have the same digits.
    await route.fulfill({ response, body: (await response.text()).replaceAll('amount_cents\\":6100', 'amount_cents\\":9900') });
  });
  await page.goto(`${HOLDPOINT_URL}/#/inbox`);
  await page.reload();
  await open(given.mismatch);
  await main.getByText("this digest is not that of the text above").waitFor();
  same(await button("Approve").isDisabled(), true, "approving what was changed");
  await desk.holds("a call that was changed on its way");
  await desk.picture("changed");
  await desk.unroute();
  await page.reload();

  // Many at once, with a preview; one of them was decided meanwhile.
  await page.goto(`${HOLDPOINT_URL}/#/inbox`);
  const rows = main.getByRole("listitem");
  await until("the calls are there", async () => (await rows.filter({ hasText: "bulk" }).count()) === given.bulk.length);
  await main.getByLabel("Text").fill("bulk");
  await until("only those are shown", async () => (await rows.count()) === given.bulk.length);
  await main.getByLabel("Pick all").check();
  await main.getByRole("button", { name: `Decide ${given.bulk.length}…` }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Deny each").check();
  await dialog.getByLabel("Reason").fill("all of them");
  await dialog.getByText("What will be sent").click();
  await dialog.getByRole("region", { name: "the request's body" }).getByText(given.bulk[0]).waitFor();
  await desk.holds("deciding many");
  await desk.picture("many");
  same((await call("POST", `/v1/executions/${given.bulk[1]}/approvals/c1`, { approved: true })).status, 200, "the other's decision");
  await dialog.getByRole("button", { name: `Deny ${given.bulk.length}` }).click();
  await dialog.getByText(`${given.bulk.length - 1} of ${given.bulk.length} taken`).waitFor();
  await dialog.getByText("It was decided otherwise before: approved").first().waitFor();
  await dialog.getByRole("button", { name: "Close", exact: true }).last().click();
  const decided = await Promise.all(given.bulk.map(decision));
  same(decided.map((one) => one.status), given.bulk.map((_, at) => (at === 1 ? "approved" : "denied")), "what was decided");
  same(decided[0].reason, "all of them", "the reason");

  // A role that may not decide is offered nothing to decide with, nor pages that it may not see.
  // Its place is changed when the pages are drawn, before any of them can have begun to listen.
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.goto(`${HOLDPOINT_URL}/`);
  await page.getByLabel("API key").fill(given.reader);
  await page.evaluate((place) => {
    const move = (_, observer) => {
      if (!document.querySelector(".frame")) return;
      observer.disconnect();
      location.hash = place;
    };
    new MutationObserver(move).observe(document.getElementById("app"), { childList: true, subtree: true });
  }, `#/inbox/${given.mismatch}/c1`);
  await page.keyboard.press("Enter");
  await main.getByText("Your key's role may look, and not decide.").waitFor();
  same(await button("Approve").count(), 0, "buttons for a reader");
  same(await page.getByRole("navigation").getByRole("link", { name: "Keys" }).count(), 0, "the keys' page for a reader");
  await desk.visit("#/keys", "Keys");
  await page.getByRole("alert").filter({ hasText: "forbidden" }).waitFor();
  await desk.holds("a page that a role may not see");
  await desk.visit("#/workflows/failing", "failing");
  same(await main.getByRole("button", { name: /Pause|Start|Test run/ }).count(), 0, "a workflow's acts for a reader");

  // The key is revoked in the middle: the page asks for another, and goes on where it was.
  await open(given.mismatch);
  desk.expected.push(/status of 401/);
  const reader = (await call("GET", "/v1/keys")).body.keys.find((key) => key.name === "reader");
  same((await call("DELETE", `/v1/keys/${reader.id}`)).status, 204, "revoking");
  await page.getByText("The key is no longer taken.").waitFor();
  same(await page.evaluate(() => Object.keys(sessionStorage).length), 0, "what is kept of a key");
  await page.getByLabel("API key").fill(given.key);
  await page.keyboard.press("Enter");
  await button("Approve").waitFor();
  await main.getByText("digest verified in this browser").waitFor();

  // The API goes and comes back: the page goes on by itself, with what it has not sent.
  desk.expected.push(/ERR_(CONNECTION|EMPTY|SOCKET|CONTENT_LENGTH|INCOMPLETE)/);
  await main.getByLabel("Reason").fill("a reason that I am writing");
  await fetch(given.restart, { method: "POST" });
  await main.getByText("There is no answer from the server").first().waitFor();
  await fetch(given.restart, { method: "POST" });
  await main.getByText("after the restart").first().waitFor();
  await main.getByText("There is no answer from the server").first().waitFor({ state: "detached" });
  same(await main.getByLabel("Reason").inputValue(), "a reason that I am writing", "what was being written");
  await button("Deny").click();
  await desk.told("It is denied.");
  same((await decision(given.mismatch)).reason, "a reason that I am writing", "the reason");

  // What is sent is what is shown, however soon after the edit: before the page is painted again.
  const waiting = (await call("GET", "/v1/approvals")).body.approvals;
  const { execution_id: late } = waiting.find((one) => one.arguments_text.includes("after the restart"));
  await open(late);
  await button("Edit arguments").click();
  await main.getByLabel("amount_cents").evaluate(async (input) => {
    input.value = "4200";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    for (let drawn = 0; drawn < 20; drawn += 1) await null;
    document.getElementById("approve").click();
  });
  await desk.told("It is approved.");
  const { status, edited_arguments: edited } = await decision(late);
  same([status, edited?.amount_cents], ["approved", 4200], "what was sent");
});
