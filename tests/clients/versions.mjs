// Imports what package.json names, and prints its versions as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { dependencies } = JSON.parse(readFileSync(new URL("./package.json", import.meta.url)));
const found = {};
for (const name of Object.keys(dependencies)) {
  // A package of programs only has nothing to import.
  const folder = require.resolve.paths(name).map((path) => `${path}/${name}/package.json`);
  const about = JSON.parse(readFileSync(folder.find((path) => exists(path))));
  if (about.main || about.exports) await import(name);
  found[name] = about.version;
}
console.log(JSON.stringify(found));

function exists(path) {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}
