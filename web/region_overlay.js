/** The map on a node: a DOM widget, which both renderers of the page know, and what moves in it. */

import { STOPS, cellsOf, paint, regionAt } from "./region_map.js";
import { regionWords, totals, words } from "./region_words.js";

/** @typedef {import("./region_map.js").RunState} RunState */

const NAME = "adaptivesr_regions";
const TYPE = "ADAPTIVESR_REGION_MAP"; // of no widget of the page's own, which would be drawn instead
const MARGIN = 10;
const BELOW_MAP = 66; // pixels of totals, scale and padding
const TOTALS_ONLY = 40; // one region is no map
const LOWEST = 90;
const HIGHEST = 320;

/**
 * @param {string} name class
 * @param {HTMLElement} [parent]
 * @param {string} [tag]
 */
function element(name, parent, tag = "div") {
  const made = document.createElement(tag);
  made.className = `adaptivesr-${name}`;
  parent?.append(made);
  return made;
}

export class RegionOverlay {
  /** @param {any} node of the graph; gets one more widget, which is saved neither in files nor in prompts */
  constructor(node) {
    this.node = node;
    /** @type {RunState | null} */
    this.state = null;
    this.phase = "done";
    this.cells = [];
    this.fresh = new Set();
    this.image = 0;
    this.hover = -1;
    this.waiting = false;
    this.build();
    this.widget = node.addDOMWidget(NAME, TYPE, this.root, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getValue: () => "",
      setValue: () => {},
      getMinHeight: () => this.wantedHeight() + 2 * MARGIN,
    });
    this.widget.serialize = false;
    new ResizeObserver(() => this.redraw()).observe(this.map);
  }

  build() {
    this.root = element("regions");
    this.map = element("map", this.root);
    this.canvas = /** @type {HTMLCanvasElement} */ (element("canvas", this.map, "canvas"));
    this.canvas.setAttribute("role", "img");
    this.hint = element("hint", this.map);
    this.bar = element("done", element("bar", this.root));
    this.line = element("line", this.root);
    this.calls = element("calls", this.line, "span");
    this.saved = element("saved", this.line, "span");
    this.pager = element("pager", this.line, "button");
    this.time = element("time", this.line, "span");
    this.earlier = element("earlier", this.line, "span");
    this.earlier.textContent = words().earlier;
    this.progress = element("line adaptivesr-progress", this.root);
    this.scale = element("line adaptivesr-scale", this.root);
    element("least", this.scale, "span").textContent = "0";
    element("colors", this.scale).style.background = `linear-gradient(to right, ${STOPS.map((c) => `rgb(${c.join(" ")})`).join(", ")})`;
    this.most = element("most", this.scale, "span");
    this.map.addEventListener("pointermove", (event) => this.point(event));
    this.map.addEventListener("pointerleave", () => this.point(null));
    this.pager.addEventListener("click", () => this.turn());
  }

  /** Pixels that map and totals take at the node's width. */
  wantedHeight() {
    if (this.state?.tiles === 1) return TOTALS_ONLY;
    if (!this.state?.regions.length) return BELOW_MAP + 24;
    const inside = this.node.size[0] - 2 * MARGIN - 12;
    const [height, width] = this.state.canvas;
    return BELOW_MAP + Math.max(LOWEST, Math.min(HIGHEST, (inside * height) / width));
  }

  /**
   * A message of the server: the start of a run, how far it has come, or its end.
   * @param {{phase: "start" | "step" | "end"} & Partial<RunState>} message
   * @param {boolean} [earlier] whether it is of a run before the next one
   */
  show(message, earlier = false) {
    if (message.phase !== "step") this.begin(message);
    if (!this.state) return; // the page was opened in the middle of a run; the end brings everything
    if (message.phase !== "start") this.update(message);
    this.phase = message.phase === "end" ? "done" : "running";
    this.earlier.hidden = !earlier;
    this.write();
    this.redraw();
  }

  /** The run was cancelled or failed: what was reached stays. */
  stop() {
    if (this.phase !== "running") return;
    this.phase = "stopped";
    this.write();
    this.redraw();
  }

  /** @param {boolean} earlier whether another run has begun, which has not come to this node */
  setEarlier(earlier) {
    this.earlier.hidden = !earlier;
  }

  begin(message) {
    const none = message.regions.map(() => 0);
    this.state = { calls: 0, region_calls: 0, passed: 0, saved: null, counts: [none], states: [""], ...message };
    this.cells = cellsOf(this.state);
    this.fresh.clear();
    this.image = Math.max(0, Math.min(this.image, this.state.counts.length - 1));
    this.grow();
  }

  update(message) {
    const before = this.state.counts;
    Object.assign(this.state, message);
    const changed = (counts, image) => counts.some((count, i) => count !== before[image]?.[i]);
    const busy = this.state.counts.findLastIndex(changed);
    if (busy >= 0 && message.phase === "step") this.image = busy;
    const shown = this.state.counts[this.image] ?? [];
    this.fresh = new Set(shown.flatMap((count, i) => (count !== (before[this.image]?.[i] ?? 0) ? [i] : [])));
  }

  /** Room for the map below the node's other widgets. */
  grow() {
    this.root.style.minHeight = `${this.wantedHeight()}px`;
    const needed = this.node.computeSize?.()[1] ?? 0;
    if (this.node.size[1] < needed) this.node.setSize([this.node.size[0], needed]);
    this.node.setDirtyCanvas?.(true, true);
  }

  write() {
    const total = totals(this.state, this.phase);
    this.root.dataset.phase = this.phase;
    this.line.title = total.explained;
    this.canvas.setAttribute("aria-label", [total.calls, total.saved, total.explained].filter(Boolean).join(", "));
    this.bar.style.width = `${this.phase === "done" ? 100 : Math.round(this.state.passed * 100)}%`;
    this.calls.textContent = total.calls;
    this.saved.textContent = total.saved;
    this.time.textContent = total.time;
    this.progress.textContent = total.progress;
    this.progress.hidden = !total.progress;
    this.most.textContent = words().most(this.state.steps);
    this.scale.hidden = this.state.steps === 1 || this.state.tiles === 1; // a region has its step, or waits for it
    const drawn = this.state.counts.length;
    this.pager.hidden = drawn < 2 || this.state.tiles === 1;
    this.pager.textContent = words().image(this.image + 1, drawn);
    this.map.hidden = this.cells.length < 2;
    this.describe();
  }

  /** Paints with the page's next frame, once however many messages have come. */
  redraw() {
    if (this.waiting || !this.state) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      const view = { image: this.image, running: this.phase === "running", fresh: this.fresh, hover: this.hover };
      paint(this.canvas, this.state, this.cells, view);
    });
  }

  turn() {
    this.image = (this.image + 1) % this.state.counts.length;
    this.fresh.clear();
    this.write();
    this.redraw();
  }

  /** @param {PointerEvent | null} event */
  point(event) {
    const box = { width: this.map.clientWidth, height: this.map.clientHeight };
    const bounds = this.map.getBoundingClientRect(); // in pixels of the screen, the graph's zoom included
    const zoom = bounds.width / (box.width || 1) || 1;
    const y = event ? (event.clientY - bounds.top) / zoom : 0;
    const x = event ? (event.clientX - bounds.left) / zoom : 0;
    this.hover = event && this.state ? regionAt(this.state, this.cells, box, x, y) : -1;
    const low = y > box.height / 2; // away from the pointer
    this.hint.style.top = low ? "0" : "";
    this.hint.style.bottom = low ? "" : "0";
    this.describe();
    this.redraw();
  }

  describe() {
    const known = this.hover >= 0 && this.hover < this.cells.length;
    this.hint.textContent = known ? regionWords(this.state, this.cells, this.image, this.hover).join("\n") : "";
  }
}
