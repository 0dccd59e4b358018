/**
 * Two pictures with a line between them that follows the pointer, for the host's Compare Images node in the classic renderer,
 * which draws nothing there. Only on nodes of our workflows: others may have an extension of their own for it.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { words } from "./region_words.js";
import { isVue, showOnlyIn } from "./renderers.js";

export const COMPARED = "adaptivesr_comparer"; // property of the nodes, in their files
const NAME = "adaptivesr_comparer";
const TYPE = "ADAPTIVESR_COMPARER"; // of no widget of the page's own, which would be drawn instead
const HOSTS_WIDGET = "compare_view";
const MARGIN = 10;
const HIGHEST = 900;

/** @param {{filename: string, subfolder?: string, type?: string}} file that the server shows */
function addressOf(file) {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "temp" });
  return api.apiURL(`/view?${query}`);
}

export class Comparer {
  /** @param {any} node of the graph; gets one more widget, which is saved neither in files nor in prompts */
  constructor(node) {
    this.node = node;
    this.share = 0.5;
    this.ratio = 0.75; // until there are pictures
    this.root = document.createElement("div");
    this.root.className = "adaptivesr-comparer";
    this.after = this.picture("after");
    this.before = this.picture("before");
    this.line = document.createElement("div");
    this.line.className = "adaptivesr-divider";
    this.hint = document.createElement("div");
    this.hint.className = "adaptivesr-waiting";
    this.hint.textContent = words().waiting;
    this.root.append(this.line, this.hint);
    this.root.addEventListener("pointermove", (event) => this.point(event));
    this.after.addEventListener("load", () => this.fit());
    this.widget = node.addDOMWidget(NAME, TYPE, this.root, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getValue: () => "",
      setValue: () => {},
      getMinHeight: () => this.height() + 2 * MARGIN,
    });
    this.widget.serialize = false;
    showOnlyIn(this.widget, "canvas"); // in Nodes 2.0 the host has a slider of its own
    showOnlyIn(
      node.widgets.find((widget) => widget.name === HOSTS_WIDGET),
      "vueNode",
    );
    this.divide(0.5);
  }

  /** @param {string} name */
  picture(name) {
    const made = document.createElement("img");
    made.className = `adaptivesr-${name}`;
    made.alt = name;
    made.draggable = false;
    this.root.append(made);
    return made;
  }

  /** Pixels that the picture takes at the node's width. */
  height() {
    return Math.min(HIGHEST, (this.node.size[0] - 2 * MARGIN) * this.ratio);
  }

  /** @param {{a_images?: any[], b_images?: any[]}} output of the node */
  show(output) {
    this.hint.remove();
    this.before.src = addressOf(output.a_images[0]);
    this.after.src = addressOf(output.b_images[0]);
  }

  fit() {
    this.ratio = this.after.naturalHeight / (this.after.naturalWidth || 1) || 1;
    const needed = this.node.computeSize?.()[1] ?? 0;
    if (this.node.size[1] < needed) this.node.setSize([this.node.size[0], needed]);
    app.canvas?.setDirty?.(true, true);
  }

  /** @param {number} share of the width that shows the picture before */
  divide(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.before.style.clipPath = `inset(0 ${100 * (1 - this.share)}% 0 0)`;
    this.line.style.left = `${100 * this.share}%`;
  }

  /** @param {PointerEvent} event */
  point(event) {
    const bounds = this.root.getBoundingClientRect(); // in pixels of the screen, the graph's zoom included
    this.divide((event.clientX - bounds.left) / (bounds.width || 1));
  }
}

/** @type {WeakMap<object, Comparer>} */
const comparers = new WeakMap();

/** The comparer of a node of ours, if it has one or may get it here. @param {any} node */
function comparerOf(node) {
  if (!comparers.has(node) && !isVue() && typeof node.addDOMWidget === "function") comparers.set(node, new Comparer(node));
  return comparers.get(node);
}

/**
 * Says on a node of ours what it will show, where the page would draw a widget that does nothing.
 * @param {any} node
 */
export function prepare(node) {
  if (node?.properties?.[COMPARED]) comparerOf(node);
}

/**
 * Draws what a Compare Images node of ours has compared.
 * @param {any} node
 * @param {any} output
 */
export function compare(node, output) {
  if (!node?.properties?.[COMPARED] || !output?.a_images?.length || !output?.b_images?.length) return;
  comparerOf(node)?.show(output);
}
