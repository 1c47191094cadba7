// Print the licences of what package.json names for the bundle: some of these packages hold others in one file.
import { existsSync, readFileSync, readdirSync } from "node:fs";

const { dependencies, overrides } = JSON.parse(readFileSync("package.json", "utf8"));
const nested = Object.entries(overrides).flatMap(([name, others]) => Object.keys(others).map((other) => `${name}/node_modules/${other}`));
const folders = [...Object.keys(dependencies), ...nested].map((name) => `node_modules/${name}`).filter(existsSync);
for (const folder of folders.sort()) {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : "(the package holds no licence text)";
  console.log(`${"=".repeat(80)}\n${name} ${version}: ${license}\n\n${text}\n`);
}
