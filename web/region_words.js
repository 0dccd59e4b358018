/** Words about a run and about one of its regions. */

import { localized } from "./language.js";

/** @typedef {import("./region_map.js").RunState} RunState */

const EN = {
  classes: { W: "warm-up", G: "growing", S: "stable", H: "falling", X: "ended" },
  now: {
    ".": "waiting",
    a: "sampling",
    w: "warm-up",
    g: "growing: step by step",
    s: "stable: skips steps",
    h: "falling: ends if this goes on",
    x: "ended",
    c: "finished",
    b: "finished: its calls were spent",
  },
  exits: {
    complete: "finished: reached the last step",
    saturated: "ended early: quality fell",
    budget: "finished: its calls were spent",
  },
  /** @param {number} number @param {number} row @param {number} column */
  region: (number, row, column) => `Region ${number} · row ${row}, column ${column}`,
  /** @param {number} made @param {number} all */
  stepsOf: (made, all) => `${made} of ${counted(all, "step")}`,
  joined: ", ",
  /** @param {number} count */
  calls: (count) => counted(count, "call"),
  /** @param {number} percent */
  saved: (percent) => `${percent} % saved`,
  /** @param {string} share */
  stopped: (share) => `stopped at ${share}`,
  /** @param {number} done @param {number} all @param {string} left */
  done: (done, all, left) => `${done} of ${all} regions done${left ? `, about ${left} left` : ""}`,
  /** @param {number | string} count */
  seconds: (count) => `${count} s`,
  /** @param {number} count */
  minutes: (count) => `${count} min`,
  /** @param {number} regions @param {number} images */
  regions: (regions, images) =>
    images > 1 ? `${counted(regions, "region")} in each of ${images} images` : counted(regions, "region"),
  /** @param {number} steps @param {string} regions @param {number} calls @param {number} fixed */
  explained: (steps, regions, calls, fixed) =>
    `${steps} steps of ${regions} in ${calls} model calls` +
    (fixed ? `; saved is counted against ${fixed} steps in every region` : ""),
  /** @param {number} count */
  most: (count) => `${count} steps`,
  /** @param {number} number @param {number} all */
  image: (number, all) => `image ${number} of ${all}`,
  earlier: "earlier run",
  waiting: "after a run: both pictures, and a line that follows the mouse",
};
/** @type {typeof EN} */
const ZH = {
  classes: { W: "预热", G: "增长", S: "稳定", H: "下降", X: "已结束" },
  now: {
    ".": "等待中",
    a: "采样中",
    w: "预热",
    g: "增长：逐步进行",
    s: "稳定：跳过若干步",
    h: "下降：若持续则结束",
    x: "已结束",
    c: "已完成",
    b: "已完成：调用次数已用尽",
  },
  exits: { complete: "已完成：到达最后一步", saturated: "提前结束：质量下降", budget: "已完成：调用次数已用尽" },
  region: (number, row, column) => `区域 ${number} · 第 ${row} 行，第 ${column} 列`,
  stepsOf: (made, all) => `${made} / ${all} 步`,
  joined: "，",
  calls: (count) => `${count} 次调用`,
  saved: (percent) => `节省 ${percent} %`,
  stopped: (share) => `停在 ${share}`,
  done: (done, all, left) => `已完成 ${done} / ${all} 个区域${left ? `，约剩 ${left}` : ""}`,
  seconds: (count) => `${count} 秒`,
  minutes: (count) => `${count} 分钟`,
  regions: (regions, images) => (images > 1 ? `${images} 张图像各 ${regions} 个区域` : `${regions} 个区域`),
  explained: (steps, regions, calls, fixed) =>
    `${regions}共 ${steps} 步，模型调用 ${calls} 次` + (fixed ? `；节省量与每个区域 ${fixed} 步相比` : ""),
  most: (count) => `${count} 步`,
  image: (number, all) => `第 ${number} / ${all} 张图像`,
  earlier: "先前的运行",
  waiting: "运行之后：两张图像，以及跟随鼠标的分界线",
};

/** In the page's language. */
export function words() {
  return localized({ en: EN, zh: ZH });
}

/** @param {number} count @param {string} noun */
function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Lines about a region: which, its steps, its classes, why it ended.
 * @param {RunState} state
 * @param {import("./region_map.js").Cell[]} cells
 * @param {number} image
 * @param {number} region
 * @returns {string[]}
 */
export function regionWords(state, cells, image, region) {
  const said = words();
  const { row, column } = cells[region];
  const exit = state.exits?.[image]?.[region];
  const classes = state.classes?.[image]?.[region];
  return [
    said.region(region + 1, row + 1, column + 1),
    said.stepsOf(state.counts[image]?.[region] ?? 0, state.steps),
    ...(classes ? [classWords(classes)] : []),
    exit ? (said.exits[exit] ?? exit) : (said.now[state.states[image]?.[region] ?? "."] ?? ""),
  ];
}

/**
 * "WGGSSS" -> "warm-up, growing ×2, stable ×3".
 * @param {string} letters
 */
export function classWords(letters) {
  const said = words();
  const runs = letters.match(/(.)\1*/g) ?? [];
  return runs
    .map((run) => (said.classes[run[0]] ?? run[0]) + (run.length > 1 ? ` ×${run.length}` : ""))
    .join(said.joined);
}

/**
 * The line below a map: calls, share saved, and how far or how long.
 * @param {RunState} state
 * @param {"running" | "done" | "stopped"} phase
 */
export function totals(state, phase) {
  const said = words();
  const seconds = state.report?.seconds;
  const share = `${Math.floor((state.passed ?? 0) * 100)} %`;
  const time = typeof seconds === "number" ? said.seconds(seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)) : "";
  return {
    calls: said.calls(state.calls),
    saved: state.saved ? said.saved(Math.round(state.saved * 100)) : "",
    progress: phase === "running" && state.tiles > 1 ? progress(state) : "",
    time: phase === "done" ? time : phase === "stopped" ? said.stopped(share) : share,
    explained: said.explained(
      state.region_calls,
      said.regions(state.tiles, state.images),
      state.calls,
      state.fixed_steps ?? 0,
    ),
  };
}

/**
 * "3 of 12 regions done, about 40 s left".
 * @param {RunState} state
 */
function progress(state) {
  const left = typeof state.left === "number" ? duration(state.left) : "";
  return words().done(state.done ?? 0, state.tiles * state.images, left);
}

/** @param {number} seconds */
function duration(seconds) {
  const said = words();
  return seconds < 100 ? said.seconds(Math.max(1, Math.round(seconds))) : said.minutes(Math.round(seconds / 60));
}
