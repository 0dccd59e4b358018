/**
 * Our workflows in the page's menu, by names for people and in their order. The template browser shows the files' names of packs,
 * in the host's order, and offers no way to give others.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { localized } from "./language.js";

const PACK = new URL(".", import.meta.url).pathname.split("/").at(-2); // our folder as the host lists it, encoded
const MENU = "AdaptiveSR";

/** @typedef {{en: string, zh: string, part: string, part_zh: string}} Title */

/** In the page's language. @param {Title} title */
function shown(title) {
  return localized(title);
}

/**
 * Opens a file as the template browser does.
 * @param {string} name
 * @param {Title} title
 */
async function open(name, title) {
  const answer = await api.fetchApi(`/workflow_templates/${PACK}/${name}.json`);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  await app.loadGraphData(await answer.json(), true, true, shown(title), { openSource: "template" });
}

try {
  /** @type {[string, Title][]} */
  const titles = Object.entries(await (await fetch(new URL("./template_names.json", import.meta.url))).json());
  const partsInChinese = Object.fromEntries(titles.map(([, title]) => [title.part, title.part_zh]));
  const commands = titles.map(([name, title]) => ({
    id: `${MENU}.Open.${name}`,
    label: () => shown(title),
    function: () => open(name, title),
  }));
  app.registerExtension({
    name: "AdaptiveSR.Templates",
    commands,
    menuCommands: [...new Set(titles.map(([, { part }]) => part))].map((part) => ({
      path: [MENU, localized({ en: part, zh: partsInChinese[part] })],
      commands: commands.filter((_, i) => titles[i][1].part === part).map((command) => command.id),
    })),
  });
} catch (error) {
  console.debug("AdaptiveSR: no menu of templates here.", error);
}
