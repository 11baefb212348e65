// What the console's scripts stand on: Debian's Chromium, one page that is watched from its first
// byte, and checks that hold for every page. Nothing here sleeps: Playwright waits for conditions.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const { CONSOLE_PACKAGES, CONSOLE_FAILURES, HOLDPOINT_PICTURES, HOLDPOINT_URL } = process.env;
const require = createRequire(`${CONSOLE_PACKAGES}/`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take: the machine may be busy. */
const PATIENCE = Number(process.env.CONSOLE_PATIENCE ?? 60_000);
const WIDE = { width: 1280, height: 900 };
/** A small phone. */
export const NARROW = { width: 390, height: 844 };
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];

/** What the test prepared: JSON in HOLDPOINT_GIVEN. */
export const given = JSON.parse(process.env.HOLDPOINT_GIVEN ?? "{}");

/** Runs a script's story with a watched page; where it fails, the message ends with a picture's path. */
export async function story(name, tell) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  const desk = await open(browser);
  try {
    await tell(desk);
    desk.nothingWrong("at the end");
    console.log(`${name}: done`);
  } catch (error) {
    console.error(`${name}: failed at ${desk.page.url()}\n${error.stack}`);
    if (desk.faults.length > 0) console.error(`faults: ${desk.faults.join("\n")}`);
    console.error(await failurePicture(desk.page, name));
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

async function failurePicture(page, name) {
  const path = join(CONSOLE_FAILURES, `${name}.png`);
  try {
    mkdirSync(CONSOLE_FAILURES, { recursive: true });
    await page.screenshot({ path, fullPage: true });
    return `picture: ${path}`;
  } catch (error) {
    return `no picture: ${error.message}`;
  }
}

/** A browser's context of its own with one page: a person at a screen. */
export async function open(browser) {
  const context = await browser.newContext({ viewport: WIDE, locale: "en-GB", reducedMotion: "reduce" });
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(watchInside);
  // As a debugger adds it: the page's own policy refuses it from everybody else.
  await context.addInitScript({ content: AXE });
  const page = await context.newPage();
  return new Desk(browser, context, page);
}

// Runs in the page before its own scripts: what its policy refuses is told on the console, and short
// news, which goes away by itself, is kept as it came.
function watchInside() {
  window.__hit = 0;
  window.__news = [];
  const kept = ({ target, addedNodes }) => {
    if (!target.matches?.("[role=status][aria-live]")) return;
    for (const node of addedNodes) {
      if (node instanceof Element && node.checkVisibility()) window.__news.push(node.textContent);
    }
  };
  new MutationObserver((changes) => changes.forEach(kept)).observe(document, { childList: true, subtree: true });
  document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
}

class Desk {
  constructor(browser, context, page) {
    Object.assign(this, { browser, context, page });
    /** What went wrong without anybody asking. */
    this.faults = [];
    /** Faults that the story is about: patterns. */
    this.expected = [];
    this.#watch();
  }

  #watch() {
    const { page } = this;
    const note = (text) => {
      if (!this.expected.some((pattern) => pattern.test(text))) this.faults.push(text);
    };
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) {
        note(`console: ${message.text()} (${message.location().url})`);
      }
    });
    page.on("pageerror", (error) => note(`error: ${error.stack}`));
    page.on("dialog", (dialog) => {
      note(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.origin !== HOLDPOINT_URL && url.protocol !== "data:") note(`request to ${url.href}`);
    });
  }

  /** No error, refusal, dialog or foreign request so far. */
  nothingWrong(where) {
    if (this.faults.length > 0) throw new Error(`${where}: ${this.faults.join("\n")}`);
  }

  /** Opens the console and signs in with a key. */
  async signIn(key) {
    const { page } = this;
    await page.goto(`${HOLDPOINT_URL}/`);
    await page.getByLabel(/key/i).first().fill(key);
    await page.getByRole("button", { name: /sign in/i }).click();
    await page.getByRole("navigation").first().waitFor();
    // It goes to the inbox by itself, a frame after it is drawn.
    await page.waitForURL((url) => url.hash !== "");
  }

  /** Waits until the page has told this short news once, also where it is gone from the page by now. */
  async told(text) {
    const times = await until(`the page tells “${text}”`, () =>
      this.page.evaluate((text) => {
        const found = window.__news.filter((news) => news.includes(text)).length;
        if (found > 0) window.__news = [];
        return found;
      }, text),
    );
    same(times, 1, `how often the page tells “${text}”`);
  }

  /** Ends all that was routed. What is under way ends first: a handler that is overtaken throws, for all to see. */
  async unroute() {
    await this.page.unrouteAll({ behavior: "wait" });
  }

  /** Opens a page by its place, such as `#/inbox`, and waits for its heading. */
  async visit(place, heading) {
    await this.page.goto(`${HOLDPOINT_URL}/${place}`);
    await this.page.getByRole("heading", { name: heading }).first().waitFor();
  }

  /** Light and wide, dark and at 390 px: no violation that axe finds, nothing that scrolls sideways. */
  async holds(where) {
    this.nothingWrong(where);
    await this.#axe(`${where}, light and wide`);
    await this.page.emulateMedia({ colorScheme: "dark" });
    await this.page.setViewportSize(NARROW);
    await this.#fits(where);
    await this.#axe(`${where}, dark and narrow`);
    await this.page.emulateMedia({ colorScheme: "light" });
    await this.page.setViewportSize(WIDE);
    await this.unhurt(where);
    console.log(`holds: ${where}`);
  }

  /** No script from outside has run. */
  async unhurt(where) {
    const hit = await this.page.evaluate(() => window.__hit);
    if (hit !== 0) throw new Error(`${where}: a script from outside ran`);
    this.nothingWrong(where);
  }

  async #axe(where) {
    const found = await this.page.evaluate(
      (rules) => window.axe.run(document, { runOnly: rules, resultTypes: ["violations"] }),
      RULES,
    );
    const told = found.violations.map(
      ({ id, help, nodes }) => `${id}: ${help}\n${nodes.map((node) => `  ${node.html}\n  ${node.failureSummary}`).join("\n")}`,
    );
    if (told.length > 0) throw new Error(`axe, ${where}:\n${told.join("\n")}`);
  }

  /** The page is not wider than the screen; what is wide scrolls inside its own box. */
  async #fits(where) {
    const wide = await this.page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width) return null;
      const beyond = [...document.querySelectorAll("body *")].filter(
        (node) => node.getBoundingClientRect().right > width + 1,
      );
      return beyond.slice(0, 5).map((node) => node.outerHTML.slice(0, 200));
    });
    if (wide) throw new Error(`${where}: scrolls sideways at ${NARROW.width} px:\n${wide.join("\n")}`);
  }

  /** Saves a picture where HOLDPOINT_PICTURES says. */
  async picture(name) {
    if (!HOLDPOINT_PICTURES) return;
    mkdirSync(HOLDPOINT_PICTURES, { recursive: true });
    await this.page.screenshot({ path: join(HOLDPOINT_PICTURES, `${name}.png`), fullPage: true });
  }

  /** Presses Tab until the element has the focus: it can be reached by keyboard alone. */
  async tabTo(locator, what) {
    await locator.waitFor();
    // Another page takes the focus when it is drawn, a frame later: that is over first.
    await this.page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn))));
    for (let pressed = 0; pressed < 200; pressed += 1) {
      if (await locator.evaluate((node) => node === document.activeElement)) return;
      await this.page.keyboard.press("Tab");
    }
    throw new Error(`${what} cannot be reached by Tab`);
  }

  /** Waits until an element has the focus without a key. */
  async focused(locator, what) {
    await until(what, () => locator.evaluate((node) => node === document.activeElement));
  }
}

/** Calls the API beside the page, as somebody else: status and body. */
export async function call(method, path, body, key = given.key) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const response = await fetch(`${HOLDPOINT_URL}${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : null };
}

/** Looks until something is found, within the patience of everything here. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Fails with both sides where they differ. */
export function same(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, not ${b}`);
}
