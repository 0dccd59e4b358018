/**
 * Advanced inputs of our nodes in the classic renderer, which would show them all: hidden until the node's button asks for them.
 * Nodes 2.0 hides them itself; both read and write `showAdvanced` of the node, which files keep.
 */

import { app } from "../../scripts/app.js";
import { localized } from "./language.js";
import { setHiddenOnCanvas } from "./renderers.js";

const NAME = "adaptivesr_advanced";
const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets"; // the page's setting
const WORDS = {
  en: { show: (/** @type {number} */ count) => `Show ${count} more setting${count > 1 ? "s" : ""}`, hide: "Show fewer settings" },
  zh: { show: (/** @type {number} */ count) => `显示其余 ${count} 项设置`, hide: "收起高级设置" },
};

/** @param {string} id of a setting of the page */
function setting(id) {
  return app.extensionManager?.setting?.get(id);
}

/**
 * @param {any} node
 * @param {any} widget
 */
function isLinked(node, widget) {
  return node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null) ?? false;
}

/** With what the page adds behind them, as a seed's control. @param {any} node @returns {any[]} */
function advancedOf(node) {
  const marked = (node.widgets ?? []).filter((widget) => widget.options?.advanced);
  return [...new Set(marked.flatMap((widget) => [widget, ...(widget.linkedWidgets ?? [])]))];
}

/** Brings widgets and button to what the node's flag says. @param {any} node */
export function arrangeAdvanced(node) {
  const button = node.widgets?.find((widget) => widget.name === NAME);
  if (!button) return;
  const always = Boolean(setting(ALWAYS));
  const hidden = advancedOf(node).filter((widget) => !(always || node.showAdvanced || isLinked(node, widget)));
  for (const widget of advancedOf(node)) setHiddenOnCanvas(widget, hidden.includes(widget));
  setHiddenOnCanvas(button, always || !(hidden.length || node.showAdvanced));
  button.label = hidden.length ? localized(WORDS).show(hidden.length) : localized(WORDS).hide;
  node.setDirtyCanvas?.(true, true);
}

/** As high as what it shows needs. @param {any} node */
function fit(node) {
  node.setSize([node.size[0], node.computeSize()[1]]);
}

/**
 * Gives a new node its button, if it has inputs to hide. The button is saved neither in files nor in prompts.
 * @param {any} node
 */
export function hideAdvanced(node) {
  if (!advancedOf(node).length || typeof node.addWidget !== "function") return;
  const toggle = () => {
    node.showAdvanced = !node.showAdvanced;
    arrangeAdvanced(node);
    fit(node);
  };
  const button = node.addWidget("button", NAME, null, toggle, { serialize: false, canvasOnly: true });
  button.serialize = false;
  const [linked, configured] = [node.onConnectionsChange, node.onConfigure];
  node.onConnectionsChange = function (...args) {
    const result = linked?.apply(this, args);
    arrangeAdvanced(this);
    return result;
  };
  node.onConfigure = function (...args) {
    const result = configured?.apply(this, args);
    arrangeAdvanced(this);
    return result;
  };
  arrangeAdvanced(node);
  fit(node);
}
