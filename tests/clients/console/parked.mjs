// Messages that could not be carried out: taken in again while the reason stands and after it is
// mended, refused where that cannot be, left alone and removed. What the page says is held against
// the API.
import { call, given, same, story } from "./desk.mjs";

await story("parked", async (desk) => {
  const { page } = desk;
  const main = page.getByRole("main");
  const dialog = page.getByRole("dialog");
  const button = (name) => main.getByRole("button", { name, exact: true });
  const press = async (locator, what) => {
    await desk.tabTo(locator, what);
    await page.keyboard.press("Enter");
  };
  const parked = async () => (await call("GET", "/v1/parked-messages")).body.parked_messages.map((row) => row.id).sort();
  const all = [given.early, given.huge, given.wrong].sort();
  /** From the list, as a person goes there. */
  const open = async (id) => {
    await desk.visit("#/parked", "Parked messages");
    await page.locator(`a[href="#/parked/${id}"]`).click();
    await page.getByRole("heading", { name: "Parked message", exact: true }).waitFor();
    await main.getByRole("region", { name: "reason" }).waitFor();
  };
  await desk.signIn(given.key);
  same(await parked(), all, "what is parked");

  // Taken in again while its reason stands, it stays; the page says why.
  await open(given.early);
  await press(button("Redrive"), "Redrive");
  await dialog.getByText("Accepted, it is parked no more.").waitFor();
  await desk.holds("the question before a message is taken in again");
  await press(dialog.getByRole("button", { name: "Redrive", exact: true }), "Redrive of the dialog");
  await desk.told("It was rejected again, and stays.");
  await main.getByRole("alert").getByText("unknown_definition").waitFor();
  await desk.holds("a message that was rejected again");
  same(await parked(), all, "what is parked after it was rejected again");

  // Its reason is gone: it is accepted, and leads to its execution.
  same((await call("PUT", "/v1/workflows/later", given.later)).status, 201, "the workflow");
  await press(button("Redrive"), "Redrive");
  await press(dialog.getByRole("button", { name: "Redrive", exact: true }), "Redrive of the dialog");
  await desk.told("It was accepted, and is parked no more.");
  await main.getByText("It was accepted: to its execution").waitFor();
  same(await main.getByRole("alert").count(), 0, "what was said before");
  same([await button("Redrive").count(), await button("Discard").count()], [0, 0], "buttons of what is gone");
  same(await page.evaluate(() => document.activeElement !== document.body), true, "the focus, whose button is gone");
  await desk.holds("a message that was accepted");
  await desk.picture("redriven");
  same((await call("GET", `/v1/parked-messages/${given.early}`)).status, 404, "the message");
  same(await parked(), [given.huge, given.wrong].sort(), "what is parked after one was accepted");
  const runs = (await call("GET", "/v1/executions")).body.executions;
  same(runs.map((run) => run.definition.name), ["later"], "what it started");
  await press(main.getByRole("link", { name: "to its execution" }), "the link to its execution");
  await page.waitForURL((url) => url.hash === `#/executions/${runs[0].id}`);
  await main.getByText("completed", { exact: true }).first().waitFor();

  // One whose body was not kept cannot be taken in again: the question stays, with why.
  desk.expected.push(/status of 409/);
  await open(given.huge);
  await press(button("Redrive"), "Redrive");
  await press(dialog.getByRole("button", { name: "Redrive", exact: true }), "Redrive of the dialog");
  await dialog.getByRole("alert").getByText("its body was not kept").waitFor();
  await desk.holds("a message that cannot be taken in again");
  await press(dialog.getByRole("button", { name: "Leave it" }), "Leave it");
  same(await button("Redrive").evaluate((node) => node === document.activeElement), true, "the focus after the question");

  // Leaving it leaves it; discarding removes it for good.
  await open(given.wrong);
  await press(button("Discard"), "Discard");
  await dialog.getByText("It is removed for good").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  same(await parked(), [given.huge, given.wrong].sort(), "what is parked after it was left");
  await press(button("Discard"), "Discard");
  await press(dialog.getByRole("button", { name: "Discard", exact: true }), "Discard of the dialog");
  await desk.told("It is gone.");
  await page.waitForURL((url) => url.hash === "#/parked");
  same((await call("GET", `/v1/parked-messages/${given.wrong}`)).status, 404, "the message");
  same(await parked(), [given.huge], "what is parked after one was removed");
  await page.locator(`a[href="#/parked/${given.huge}"]`).waitFor();
  same(await page.locator(`a[href="#/parked/${given.wrong}"]`).count(), 0, "its row");
  await desk.holds("what is still parked");

  // The audit names both acts.
  const acts = (await call("GET", "/v1/audit")).body;
  const told = JSON.stringify(acts);
  same([told.includes("parked.redriven"), told.includes("parked.discarded")], [true, true], "the audit");
});
