/**
 * The pack's part of the page: a live map of regions on the nodes that sample them, and a line of text on nodes that have run.
 *
 * Messages of the server go to the node that they name. The end of a run comes with the node's executed output, from which map
 * and line are restored. Nothing here may disturb the page: on a frontend that lacks something, there is neither.
 */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { hideAdvanced } from "./advanced_inputs.js";
import { compare, prepare } from "./comparer.js";
import { finishedRuns, promptOf, sameInputs } from "./earlier_runs.js";
import { RegionOverlay } from "./region_overlay.js";
import { ResultLine } from "./result_line.js";

const EVENT = "adaptivesr.regions";
const OUTPUT = "adaptivesr_regions";
const LINE = "adaptivesr_line";
const OURS = "AdaptiveSR"; // how the ids of our nodes begin
const COMPARES = "ImageCompare"; // the host's node, which our workflows have
const NO_ID = "00000000-0000-0000-0000-000000000000";
const REMEMBERED = 64;

/** @type {WeakMap<object, RegionOverlay>} */
const overlays = new WeakMap();
/** @type {WeakMap<object, ResultLine>} */
const lines = new WeakMap();
/** The last message that draws a map, by workflow and node: graphs are made anew on undo and when a tab is opened. */
const remembered = new Map();
/** The run that last drew something on a node. @type {WeakMap<object, string | null>} */
const drawnBy = new WeakMap();
/** The last run that this page queued, and the tab that was open. @type {{id: string | null, tab: any}} */
let last = { id: null, tab: undefined };

/**
 * Runs work that the page can do without.
 * @template {any[]} A
 * @param {(...args: A) => void | Promise<void>} work
 * @returns {(...args: A) => void}
 */
function harmless(work) {
  const tell = (error) => console.debug("AdaptiveSR: nothing to show here.", error);
  return (...args) => {
    try {
      Promise.resolve(work(...args)).catch(tell);
    } catch (error) {
      tell(error);
    }
  };
}

/** @param {any} node */
function isOurs(node) {
  return Boolean(node?.comfyClass?.startsWith(OURS));
}

/** The graph that is open, subgraphs entered or not. */
function rootGraph() {
  return app.rootGraph ?? app.graph;
}

/**
 * The node of an execution id, "4" or in subgraphs "4:2", if it is one of ours.
 * @param {string} id
 */
function nodeOf(id) {
  const path = String(id).split(":");
  const last = path.pop();
  let graph = rootGraph();
  for (const part of path) graph = graph?.subgraphs?.get(part) ?? graph?.getNodeById(Number(part))?.subgraph;
  const node = graph?.getNodeById(Number(last)) ?? graph?.getNodeById(last);
  return isOurs(node) || node?.comfyClass === COMPARES ? node : null;
}

/**
 * @param {string | null | undefined} id of a workflow, zeros where the page has not given one
 */
function known(id) {
  return Boolean(id) && id !== NO_ID;
}

/** @param {string | null | undefined} workflow a message without a known one is for the open graph */
function isOpen(workflow) {
  const id = rootGraph()?.id;
  return !known(workflow) || !known(id) || workflow === id;
}

/** @param {any} node */
function overlayOf(node) {
  if (!overlays.has(node) && typeof node.addDOMWidget === "function") overlays.set(node, new RegionOverlay(node));
  return overlays.get(node);
}

/** @param {any} node */
function lineOf(node) {
  if (!lines.has(node) && typeof node.addDOMWidget === "function") lines.set(node, new ResultLine(node));
  return lines.get(node);
}

/** Whether something of a run is drawn on a node. @param {any} node */
function isShown(node) {
  return Boolean(overlays.get(node)?.state) || lines.has(node);
}

/** The tab that is open, undefined on pages that do not tell. */
function openTab() {
  return app.extensionManager?.workflow?.activeWorkflow;
}

/** @param {any} message */
function remember(message) {
  promptOf(message.prompt_id); // while the server still knows it
  const key = `${message.workflow ?? rootGraph()?.id}/${message.node}`;
  remembered.delete(key);
  remembered.set(key, message);
  if (remembered.size > REMEMBERED) remembered.delete(remembered.keys().next().value);
}

/**
 * Map and line of a node's executed output.
 * @param {any} node
 * @param {any} output
 * @param {{missing?: boolean, earlier?: boolean}} [how] missing: only what the node does not show yet; earlier: of a run before
 */
function showOutput(node, output, { missing = false, earlier = false } = {}) {
  if (!node || !output) return;
  if (!isOurs(node)) return void compare(node, output);
  const text = output[OUTPUT]?.[0];
  if (text && !(missing && overlays.get(node)?.state)) overlayOf(node)?.show({ phase: "end", ...JSON.parse(text) }, earlier);
  if (output[LINE]?.length && !(missing && lines.has(node))) lineOf(node)?.show(output[LINE].join("\n"), earlier);
  if (!earlier) drawnBy.set(node, last.id);
}

const onMessage = harmless((event) => {
  const message = event.detail;
  if (message.phase !== "step") remember(message);
  const node = isOpen(message.workflow) ? nodeOf(message.node) : null;
  if (!node) return;
  overlayOf(node)?.show(message);
  drawnBy.set(node, message.prompt_id);
});

/**
 * @param {any} node
 * @param {boolean} earlier
 */
function setEarlier(node, earlier) {
  overlays.get(node)?.setEarlier(earlier);
  lines.get(node)?.setEarlier(earlier);
}

/** A run begins: what its nodes show is of an earlier one, unless the server has kept their results. */
const onCached = harmless(async (event) => {
  const { prompt_id: id, nodes } = event.detail;
  last = { id, tab: openTab() };
  for (const key of nodes) setEarlier(nodeOf(key), false);
  const prompt = await promptOf(id);
  for (const [key, value] of Object.entries(prompt ?? {})) {
    const node = nodeOf(key);
    const reached = drawnBy.get(node) === id || nodes.includes(key);
    if (node?.comfyClass === value.class_type && !reached) setEarlier(node, true);
  }
  if (nodes.length) await restore(nodes);
});

const onStop = harmless(() => {
  for (const [key, message] of [...remembered]) if (message.phase === "start") remembered.delete(key);
  for (const node of ownNodes(rootGraph())) overlays.get(node)?.stop();
});

/**
 * Our nodes of a graph, in its subgraphs as well.
 * @param {any} graph
 * @returns {any[]}
 */
function ownNodes(graph) {
  const nodes = [...(graph?.nodes ?? []), ...[...(graph?.subgraphs?.values() ?? [])].flatMap((inner) => inner.nodes)];
  return nodes.filter(isOurs);
}

/**
 * Maps and lines that this page or the server's history remembers, on nodes that have the same inputs again.
 * @param {string[]} [cached] nodes whose results the server has kept for the run that begins
 */
async function restore(cached = []) {
  const bare = ownNodes(rootGraph()).filter((node) => !isShown(node));
  if (!bare.length) return;
  const runs = await finishedRuns();
  const kept = [...remembered.values()].filter((message) => isOpen(message.workflow));
  if (!runs.length && !kept.length) return;
  const { output: now } = await app.graphToPrompt();
  const isEarlier = (id, node) => !(id === last.id && last.tab === openTab()) && !cached.includes(node);
  for (const message of kept) {
    const [node, prompt] = [nodeOf(message.node), await promptOf(message.prompt_id)];
    if (!bare.includes(node) || isShown(node) || !sameInputs(prompt, now, message.node)) continue;
    overlayOf(node)?.show(message, message.phase === "end" && isEarlier(message.prompt_id, message.node));
  }
  for (const run of runs)
    for (const [id, output] of Object.entries(run.outputs)) {
      const node = nodeOf(id);
      if (!bare.includes(node) || !sameInputs(run.prompt, now, id)) continue;
      showOutput(node, output, { missing: true, earlier: isEarlier(run.id, id) });
    }
}

api.addEventListener(EVENT, onMessage);
api.addEventListener("execution_cached", onCached);
api.addEventListener("execution_error", onStop);
api.addEventListener("execution_interrupted", onStop);

app.registerExtension({
  name: "AdaptiveSR.Results",

  setup: harmless(() => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("./adaptivesr.css", import.meta.url).href;
    document.head.append(style);
  }),

  nodeCreated: harmless((node) => {
    if (!isOurs(node) && node.comfyClass !== COMPARES) return;
    const before = node.onExecuted;
    const show = harmless((output) => showOutput(node, output));
    node.onExecuted = function (output, ...rest) {
      before?.call(this, output, ...rest);
      show(output);
    };
    if (isOurs(node)) hideAdvanced(node);
  }),

  loadedGraphNode: harmless((node) => {
    if (node.comfyClass === COMPARES) prepare(node);
  }),

  onNodeOutputsUpdated: harmless((outputs) => {
    for (const [id, output] of Object.entries(outputs ?? {})) showOutput(nodeOf(id), output);
  }),

  afterConfigureGraph: harmless(() => restore()),
});
