// Print the licences of what package-lock.json installs for the bundle: some of these packages hold others in one file.
import { existsSync, readFileSync, readdirSync } from "node:fs";

const packages = JSON.parse(readFileSync("package-lock.json", "utf8")).packages;
const folders = Object.keys(packages).filter((folder) => folder && !packages[folder].dev && existsSync(folder));
for (const folder of folders.sort()) {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : "(the package holds no licence text)";
  console.log(`${"=".repeat(80)}\n${name} ${version}: ${license}\n\n${text}\n`);
}
