/** The line of text that a node's run left: a DOM widget, which both renderers of the page know. */

import { words } from "./region_words.js";

const NAME = "adaptivesr_line";
const TYPE = "ADAPTIVESR_RESULT_LINE"; // of no widget of the page's own, which would be drawn instead
const MARGIN = 10;
const PADDING = 6;
const LINE_HEIGHT = 15;
const HIGHEST = 12 * LINE_HEIGHT; // longer texts scroll
/** What the style sheet puts before the text of an earlier run; there is always room for it. */
const mark = () => `${words().earlier}: `;
const FONT = "500 11px ui-sans-serif, system-ui, sans-serif";

/** @type {CanvasRenderingContext2D | null} */
let ruler = null;

/**
 * Lines that a text takes at a width, words kept whole.
 * @param {string} text
 * @param {number} width
 */
function linesOf(text, width) {
  ruler ??= document.createElement("canvas").getContext("2d");
  if (!ruler) return text.split("\n").length;
  ruler.font = FONT;
  const space = ruler.measureText(" ").width;
  let lines = 0;
  for (const paragraph of text.split("\n")) {
    let at = 0;
    lines += 1;
    for (const word of paragraph.split(" ")) {
      const long = ruler.measureText(word).width;
      if (at && at + space + long > width) {
        lines += 1;
        at = 0;
      }
      lines += Math.floor(long / width); // the browser breaks what is longer than a line
      at += (at ? space : 0) + (long % width);
    }
  }
  return lines;
}

export class ResultLine {
  /** @param {any} node of the graph; gets one more widget, which is saved neither in files nor in prompts */
  constructor(node) {
    this.node = node;
    this.text = "";
    this.root = document.createElement("div");
    this.root.className = "adaptivesr-result";
    this.root.setAttribute("role", "status");
    this.widget = node.addDOMWidget(NAME, TYPE, this.root, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getValue: () => "",
      setValue: () => {},
      getMinHeight: () => this.height() + 2 * MARGIN,
      getMaxHeight: () => this.height() + 2 * MARGIN,
    });
    this.widget.serialize = false;
  }

  /** Pixels that the text takes at the node's width. */
  height() {
    const inside = Math.max(60, this.node.size[0] - 2 * MARGIN - 2 * PADDING - 4);
    return Math.min(HIGHEST, LINE_HEIGHT * linesOf(`${mark()}${this.text}`, inside)) + 2 * PADDING;
  }

  /**
   * @param {string} text
   * @param {boolean} [earlier] whether it is of a run before the next one
   */
  show(text, earlier = false) {
    this.text = text;
    this.root.textContent = text;
    this.root.dataset.mark = mark();
    this.root.classList.toggle("adaptivesr-of-earlier", earlier);
    this.root.style.minHeight = `${this.height()}px`;
    const needed = this.node.computeSize?.()[1] ?? 0;
    if (this.node.size[1] < needed) this.node.setSize([this.node.size[0], needed]);
    this.node.setDirtyCanvas?.(true, true);
  }

  /** @param {boolean} earlier whether another run has begun, which has not come to this node */
  setEarlier(earlier) {
    this.root.classList.toggle("adaptivesr-of-earlier", earlier);
  }
}
