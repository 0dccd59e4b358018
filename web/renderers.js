/** Which of the page's two renderers shows a widget: the classic one draws on a canvas, Nodes 2.0 with elements. */

/** Whether nodes are drawn as in Nodes 2.0. */
export function isVue() {
  return Boolean(globalThis.LiteGraph?.vueNodesMode);
}

/**
 * Hides a widget on the canvas alone, or shows it there.
 * @param {any} widget
 * @param {boolean} hide
 */
export function setHiddenOnCanvas(widget, hide) {
  const surfaces = widget?.visibility?.surfaces; // newer pages: what `hidden` says there is for Nodes 2.0 as well
  if (surfaces) surfaces.canvas = hide ? "never" : "shown";
  else if (widget) widget.hidden = hide;
}

/**
 * Shows a widget in one of the renderers, whichever is chosen later.
 * @param {any} widget
 * @param {"canvas" | "vueNode"} renderer
 */
export function showOnlyIn(widget, renderer) {
  const surfaces = widget?.visibility?.surfaces;
  if (surfaces) Object.assign(surfaces, { canvas: "never", vueNode: "never", [renderer]: "shown" });
  else if (widget)
    Object.defineProperty(widget, "hidden", {
      get: () => isVue() !== (renderer === "vueNode"),
      set() {},
      configurable: true,
    });
}
