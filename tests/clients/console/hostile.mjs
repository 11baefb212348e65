// Every page (those of people who decide, or of operators), with text in every field that wants to be more than text: it is shown as text, what
// cannot be seen is marked, and the page holds in light and dark, wide and narrow.
import { given, story } from "./desk.mjs";

/** Pages by their place, their heading, and how much of what is marked must be seen there. */
const [waits, denied, approved, asks, failed] = given.executions;
const call = encodeURIComponent("c/1?x=<b>#%2f&");
const MARKS = ["RLO U+202E", "<script>"];
const PEOPLES = [
  ["#/inbox", "Inbox", ["<img"]],
  [`#/inbox/${waits}/${call}`, "pay", ["RLO U+202E", "ZWSP U+200B", "DEL U+007F", ...MARKS]],
  [`#/inbox/${asks}/${encodeURIComponent(given.question)}`, /./, MARKS],
  [`#/executions/${waits}`, /./, MARKS],
  [`#/executions/${denied}`, /./, MARKS],
  [`#/executions/${approved}`, /./, MARKS],
  [`#/executions/${approved}?tab=events`, /./, MARKS],
  [`#/executions/${approved}?tab=json`, /./, MARKS],
  [`#/executions/${asks}`, /./, MARKS],
  [`#/executions/${failed}`, /./, MARKS],
  ["#/executions", "Executions", ["RLO U+202E", "<img", "<b>team</b>"]],
  ["#/audit", "Audit", ["<img"]],
];
const OPERATORS = [
  ["#/attention", "Attention", ["RLO U+202E", "ZWSP U+200B", "BOM U+FEFF", "U+0001", "DEL U+007F", "<script>"]],
  ["#/agents", "Agents", []],
  ["#/agents/hostile", "hostile", ["RLO U+202E", "U+0001", "<script>"]],
  ["#/workflows", "Workflows", []],
  ["#/workflows/failing", "failing", ["RLO U+202E", "U+0001", "<script>"]],
  ["#/schedules", "Schedules", []],
  ["#/schedules/nightly", "nightly", ["RLO U+202E", "\\u0001", "<b>team</b>"]],
  ["#/parked", "Parked messages", []],
  [`#/parked/${given.parked}`, "Parked message", ["RLO U+202E", "DEL U+007F", "<script>"]],
  ["#/sweeps", "Sweeps", []],
  ["#/webhooks", "Webhooks", ["RLO U+202E", "<img"]],
  ["#/keys", "Keys", ["RLO U+202E", "U+0001", "<img"]],
];

/** A grant with such text: refused where it makes no sense, and made where it is a condition's text. */
async function grantWithText(desk) {
  const { page } = desk;
  const main = page.getByRole("main");
  const text = "<img src=x onerror=window.__hit=7>\u202e\u200b<script>window.__hit=8</script>";
  const press = (name) => main.getByRole("button", { name, exact: true }).click();
  desk.expected.push(/status of 400/);
  await desk.visit(`#/inbox/${waits}/${call}`, "pay");
  await press("Also allow the like…");
  await main.getByRole("radio", { name: "in this conversation, talk 0 <img src=x" }).waitFor();
  await main.getByLabel("Reason").fill(text);
  for (const label of ["Lasts", "While"]) {
    await main.getByLabel(label, { exact: true }).fill(text);
    await press("Approve, and allow the like");
    const told = main.getByRole("alert").filter({ hasText: "invalid_body" });
    await told.getByText("RLO U+202E").first().waitFor();
    await desk.holds(`a grant with such text: ${label}`);
    await main.getByLabel(label, { exact: true }).fill(label === "Lasts" ? "1h" : `.end_user != "${text}"`);
  }
  await press("Approve, and allow the like");
  await desk.told("It is approved, and a grant for the like is made.");
  await desk.visit("#/grants", "Grants");
  for (const seen of ["RLO U+202E", "ZWSP U+200B", "<script>window.__hit=8", "<img src=x onerror=window.__hit=7>"]) {
    await main.getByRole("row", { name: /pay/ }).getByText(seen).first().waitFor();
  }
  await desk.holds("grants with such text");
  await desk.picture("hostile-grants");
}

await story("hostile", async (desk) => {
  const { page } = desk;
  await desk.signIn(given.key);
  for (const [number, [place, heading, seen]] of (given.part === "people" ? PEOPLES : OPERATORS).entries()) {
    await desk.visit(place, heading);
    for (const text of seen) await page.getByRole("main").getByText(text, { exact: false }).first().waitFor();
    // What is folded is opened: steps, approvals, evidence.
    const folded = page.getByRole("main").locator("details:not([open]) > summary");
    for (let most = 50; most > 0 && (await folded.count()) > 0; most -= 1) await folded.first().click();
    await desk.holds(place);
    await desk.picture(`hostile-${given.part}-${number}`);
  }
  if (given.part === "people") await grantWithText(desk);
  // A name that is no name and an id that is none lead to a problem that is told, not to a page that breaks.
  const missing = "<img src=x onerror=window.__hit=9>‮/..";
  desk.expected.push(/status of 404/);
  for (const kind of ["agents", "workflows", "schedules", "parked", "executions"]) {
    await page.goto(`${process.env.HOLDPOINT_URL}/#/${kind}/${encodeURIComponent(missing)}`);
    await page.getByRole("alert").first().waitFor();
    await page.getByRole("heading", { level: 1 }).waitFor();
    await desk.unhurt(`a missing one of ${kind}`);
  }
});
