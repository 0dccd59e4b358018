/** Words about a run and about one of its regions. */

/** @typedef {import("./region_map.js").RunState} RunState */

const CLASSES = { W: "warm-up", G: "growing", S: "stable", H: "falling", X: "ended" };
const NOW = {
  ".": "waiting",
  a: "sampling",
  w: "warm-up",
  g: "growing: step by step",
  s: "stable: skips steps",
  h: "falling: ends if this goes on",
  x: "ended",
  c: "finished",
  b: "finished: its calls were spent",
};
const EXITS = {
  complete: "finished: reached the last step",
  saturated: "ended early: quality fell",
  budget: "finished: its calls were spent",
};

/**
 * Lines about a region: which, its steps, its classes, why it ended.
 * @param {RunState} state
 * @param {import("./region_map.js").Cell[]} cells
 * @param {number} image
 * @param {number} region
 * @returns {string[]}
 */
export function regionWords(state, cells, image, region) {
  const { row, column } = cells[region];
  const count = state.counts[image]?.[region] ?? 0;
  const exit = state.exits?.[image]?.[region];
  const classes = state.classes?.[image]?.[region];
  return [
    `Region ${region + 1} · row ${row + 1}, column ${column + 1}`,
    `${count} of ${state.steps} ${state.steps === 1 ? "step" : "steps"}`,
    ...(classes ? [classWords(classes)] : []),
    exit ? (EXITS[exit] ?? exit) : (NOW[state.states[image]?.[region] ?? "."] ?? ""),
  ];
}

/**
 * "WGGSSS" -> "warm-up, growing ×2, stable ×3".
 * @param {string} letters
 */
export function classWords(letters) {
  const runs = letters.match(/(.)\1*/g) ?? [];
  return runs.map((run) => (CLASSES[run[0]] ?? run[0]) + (run.length > 1 ? ` ×${run.length}` : "")).join(", ");
}

/**
 * The line below a map: calls, share saved, and how far or how long.
 * @param {RunState} state
 * @param {"running" | "done" | "stopped"} phase
 */
export function totals(state, phase) {
  const seconds = state.report?.seconds;
  const share = `${Math.floor((state.passed ?? 0) * 100)} %`;
  const time = typeof seconds === "number" ? `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : "";
  return {
    calls: `${state.calls} ${state.calls === 1 ? "call" : "calls"}`,
    saved: state.saved ? `${Math.round(state.saved * 100)} % saved` : "",
    progress: phase === "running" && state.tiles > 1 ? progress(state) : "",
    time: phase === "done" ? time : phase === "stopped" ? `stopped at ${share}` : share,
    explained: explained(state),
  };
}

/**
 * "3 of 12 regions done, about 40 s left".
 * @param {RunState} state
 */
function progress(state) {
  const done = `${state.done ?? 0} of ${state.tiles * state.images} regions done`;
  return typeof state.left === "number" ? `${done}, about ${duration(state.left)} left` : done;
}

/** @param {number} seconds */
function duration(seconds) {
  return seconds < 100 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}

/** @param {RunState} state */
function explained(state) {
  const regions = `${state.tiles} ${state.tiles === 1 ? "region" : "regions"}`;
  const of = state.images > 1 ? `${regions} in each of ${state.images} images` : regions;
  const line = `${state.region_calls} steps of ${of} in ${state.calls} model calls`;
  return state.fixed_steps ? `${line}; saved is counted against ${state.fixed_steps} steps in every region` : line;
}
