/** Our texts in the language of the page. */

import { app } from "../../scripts/app.js";

/**
 * The texts for the page's language; English where we have none.
 * @template T
 * @param {{en: T, [language: string]: T}} texts
 * @returns {T}
 */
export function localized(texts) {
  return texts[String(app.extensionManager?.setting?.get("Comfy.Locale") ?? "en").slice(0, 2)] ?? texts.en;
}
