/**
 * Names for people in the page's template browser, which shows the file names of packs in any order. The files keep their names:
 * what the page asks for by a title is fetched by the file's name.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2) ?? ""); // our folder, as the host lists it
const LIST = new URL("./template_names.json", import.meta.url);
const ROUTE = `/workflow_templates/${PACK}/`;

/** File names by title. @type {Map<string, string>} */
const files = new Map();

/**
 * Titles in the order of our list, then what is not listed.
 * @param {string[]} names of files, as the host gives them
 * @param {Record<string, {en: string, zh: string}>} titles
 */
function titled(names, titles) {
  const language = String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en").startsWith("zh") ? "zh" : "en";
  const listed = Object.keys(titles).filter((name) => names.includes(name));
  for (const name of listed) files.set(titles[name][language], name);
  return [...listed.map((name) => titles[name][language]), ...names.filter((name) => !listed.includes(name))];
}

/**
 * The path of the file that a title stands for.
 * @param {string} route
 */
function byFile(route) {
  if (!route.startsWith(ROUTE)) return route;
  const [, title, ending] = route.slice(ROUTE.length).match(/^(.*?)(\.json)?$/) ?? []; // the page adds .jpg itself
  return files.has(title) ? `${ROUTE}${files.get(title)}${ending ?? ""}` : route;
}

/** Lets the page list our templates by their titles; where anything fails it lists the files. */
export function nameTemplates() {
  const [list, address] = [api.getWorkflowTemplates, api.apiURL];
  if (typeof list !== "function" || typeof address !== "function") return;
  api.getWorkflowTemplates = async function (...args) {
    const listed = await list.apply(this, args);
    try {
      if (listed?.[PACK]) return { ...listed, [PACK]: titled(listed[PACK], await (await fetch(LIST)).json()) };
    } catch (error) {
      console.debug("AdaptiveSR: templates keep the names of their files.", error);
    }
    return listed;
  };
  api.apiURL = function (route, ...rest) {
    return address.call(this, typeof route === "string" ? byFile(route) : route, ...rest);
  };
}
