// Drives one page of headless Chromium by JSON lines: a command in, its answer out.
// Usage: node driver.mjs NODE_MODULES_FOLDER CHROMIUM
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/node_modules/`)("playwright-core");
// Without these Chromium looks for hosts of its maker at every start.
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args });
let page, cdp, origin, said, foreign;

const commands = {
  async open({ url, width, height, dark }) {
    await page?.context().close();
    [said, foreign, origin] = [[], [], new URL(url).origin];
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
    page = await context.newPage();
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && said.push(m.text()));
    page.on("pageerror", (e) => said.push(String(e)));
    page.on("request", (r) => new URL(r.url()).origin !== origin && foreign.push(r.url()));
    cdp = await context.newCDPSession(page);
    await page.goto(url);
  },
  // Not page.evaluate: that is refused by a page that forbids eval, as ours does.
  async evaluate({ expression }) {
    const { result, exceptionDetails } = await cdp.send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value ?? null;
  },
  async click({ x, y }) {
    await page.mouse.click(x, y);
  },
  async type({ selector, text }) {
    await page.fill(selector, text);
    await page.keyboard.press("Enter");
  },
  async shot({ path }) {
    await page.screenshot({ path, fullPage: true });
  },
  async complaints() {
    return [...said, ...foreign.map((url) => `asked elsewhere: ${url}`)];
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  try {
    console.log(JSON.stringify({ answer: (await commands[command](rest)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await browser.close();
