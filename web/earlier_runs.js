/** What the server knows of runs, and whether a run was made with the inputs that a graph has now. */

import { api } from "../../scripts/api.js";

const LOOKED_THROUGH = 16; // last runs of the server
const KEPT = 8;
const SEEDS = new Set(["seed", "noise_seed"]); // pages change them after a run

/** @typedef {Record<string, {class_type: string, inputs: Record<string, any>}>} Prompt nodes by execution id */
/** @typedef {{id: string, prompt: Prompt, outputs: Record<string, any>}} Run */

/** @type {Map<string, Promise<Prompt | null>>} */
const prompts = new Map();

/** @param {string} route */
async function ask(route) {
  const answer = await api.fetchApi(route);
  return answer.ok ? await answer.json() : {};
}

/** @param {any} entry of the server's queue or history */
function promptIn(entry) {
  return entry?.[2] ?? null;
}

/**
 * The nodes of a run that is going on or has ended.
 * @param {string | null | undefined} id
 * @returns {Promise<Prompt | null>}
 */
export function promptOf(id) {
  if (!id) return Promise.resolve(null);
  if (!prompts.has(id)) {
    prompts.set(id, find(id).catch(() => null));
    if (prompts.size > KEPT) prompts.delete(prompts.keys().next().value);
  }
  return prompts.get(id);
}

/** @param {string} id */
async function find(id) {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const queued = (await ask("/queue")).queue_running ?? [];
    const running = queued.find((entry) => entry[1] === id);
    const found = promptIn(running) ?? promptIn((await ask(`/history/${id}`))[id]?.prompt);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 300)); // it has left the queue, and is not in the history yet
  }
  return null;
}

/**
 * Runs of the server's history, the last one first.
 * @returns {Promise<Run[]>}
 */
export async function finishedRuns() {
  const runs = Object.entries(await ask(`/history?max_items=${LOOKED_THROUGH}`));
  return runs.reverse().map(([id, run]) => ({ id, prompt: promptIn(run.prompt) ?? {}, outputs: run.outputs ?? {} }));
}

/** @param {any} value */
function isLink(value) {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === "string" && typeof value[1] === "number";
}

/**
 * Whether a node and all that it depends on have the same inputs in both prompts, seeds aside.
 * @param {Prompt | null} one
 * @param {Prompt | null} other
 * @param {string} id
 * @param {Set<string>} [seen]
 * @returns {boolean}
 */
export function sameInputs(one, other, id, seen = new Set()) {
  if (seen.has(id)) return true;
  seen.add(id);
  const [mine, yours] = [one?.[id], other?.[id]];
  if (!mine || mine.class_type !== yours?.class_type) return false;
  const names = new Set([...Object.keys(mine.inputs), ...Object.keys(yours.inputs)]);
  return [...names].every((name) => {
    const [a, b] = [mine.inputs[name], yours.inputs[name]];
    if (SEEDS.has(name) && !isLink(a) && !isLink(b)) return true;
    return JSON.stringify(a) === JSON.stringify(b) && (!isLink(a) || sameInputs(one, other, a[0], seen));
  });
}
