/**
 * Painting of a region map: every region in the colour of its steps, with its number and marks for what it is doing.
 * Pure functions of a state and a canvas; nothing here knows the graph.
 */

/**
 * What the server tells about a run; later messages of a run hold some of it only. Regions are [y, x, height, width],
 * `counts` and `states` are by image: calls of every region, and a letter for what it is doing.
 * @typedef {object} RunState
 * @property {[number, number]} canvas height and width
 * @property {number[][]} regions empty where there are too many to draw
 * @property {number} tiles
 * @property {number} images
 * @property {number} steps
 * @property {number | null} fixed_steps
 * @property {number} calls
 * @property {number} region_calls
 * @property {number} passed share of the work that is behind
 * @property {number} [done] regions that have ended, in all images
 * @property {number | null} [left] seconds that the rest takes
 * @property {number | null} saved
 * @property {number[][]} counts
 * @property {string[]} states
 * @property {string[][]} [classes] letters of all calls, where gains decided
 * @property {string[][]} [exits]
 * @property {Record<string, any>} [report]
 */

/** @typedef {{x: number, y: number, width: number, height: number, row: number, column: number}} Cell */

/** Colours from least to most, those of the region_map output. */
export const STOPS = [[26, 31, 92], [33, 107, 158], [51, 168, 135], [204, 209, 69], [250, 237, 153]];
const WAITING = "#2b2c34";
const LIGHT = "#f4f4f2";
const DARK = "#16171c";
const SMALLEST_TEXT = 15;

/**
 * The colour of a number between 0 and `most`.
 * @param {number} value
 * @param {number} most
 * @returns {[number, number, number]}
 */
export function colorOf(value, most) {
  const position = Math.min(1, Math.max(0, value / Math.max(most, 1))) * (STOPS.length - 1);
  const below = Math.min(Math.floor(position), STOPS.length - 2);
  const mix = (i) => Math.round(STOPS[below][i] + (STOPS[below + 1][i] - STOPS[below][i]) * (position - below));
  return [mix(0), mix(1), mix(2)];
}

/**
 * The part of the canvas that belongs to each region: neighbours meet in the middle of their overlap.
 * @param {RunState} state
 * @returns {Cell[]}
 */
export function cellsOf(state) {
  const [height, width] = state.canvas;
  const columns = edges(state.regions.map((r) => [r[1], r[3]]), width);
  const rows = edges(state.regions.map((r) => [r[0], r[2]]), height);
  return state.regions.map((region) => {
    const column = columns.findIndex((edge) => edge.start === region[1]);
    const row = rows.findIndex((edge) => edge.start === region[0]);
    const [x, y] = [columns[column].from, rows[row].from];
    return { x, y, width: columns[column].to - x, height: rows[row].to - y, row, column };
  });
}

/**
 * @param {number[][]} spans [start, length] along one axis, in any order
 * @param {number} length of the axis
 */
function edges(spans, length) {
  const known = [...new Map(spans.map(([start, size]) => [start, start + size])).entries()].sort((a, b) => a[0] - b[0]);
  const middle = (i) => (known[i][1] + known[i + 1][0]) / 2;
  return known.map(([start], i) => ({
    start,
    from: i === 0 ? 0 : middle(i - 1),
    to: i === known.length - 1 ? length : middle(i),
  }));
}

/**
 * Where the map lies in a box of the page, as large as fits and centred.
 * @param {RunState} state
 * @param {number} width
 * @param {number} height
 */
export function fit(state, width, height) {
  const scale = Math.min(width / state.canvas[1], height / state.canvas[0]);
  return {
    scale,
    left: (width - state.canvas[1] * scale) / 2,
    top: (height - state.canvas[0] * scale) / 2,
  };
}

/**
 * The number of the region under a point of the box, -1 beside the map.
 * @param {RunState} state
 * @param {Cell[]} cells
 * @param {{width: number, height: number}} box
 * @param {number} x
 * @param {number} y
 */
export function regionAt(state, cells, box, x, y) {
  const { scale, left, top } = fit(state, box.width, box.height);
  const [cx, cy] = [(x - left) / scale, (y - top) / scale];
  return cells.findIndex((c) => cx >= c.x && cy >= c.y && cx < c.x + c.width && cy < c.y + c.height);
}

/**
 * Paints one image's map into a canvas that fills its box.
 * @param {HTMLCanvasElement} canvas
 * @param {RunState} state
 * @param {Cell[]} cells
 * @param {{image: number, running: boolean, fresh: Set<number>, hover: number}} view
 */
export function paint(canvas, state, cells, view) {
  const box = { width: canvas.clientWidth, height: canvas.clientHeight };
  const density = 2 * Math.max(1, window.devicePixelRatio || 1); // the graph may be zoomed in
  canvas.width = Math.round(box.width * density);
  canvas.height = Math.round(box.height * density);
  const context = canvas.getContext("2d");
  if (!context || !box.width || !box.height) return;
  context.scale(density, density);
  const { scale, left, top } = fit(state, box.width, box.height);
  const counts = state.counts[view.image] ?? [];
  const letters = state.states[view.image] ?? "";
  cells.forEach((cell, i) => {
    const gap = Math.min(1, (cell.width * scale) / 12);
    const place = {
      x: left + cell.x * scale + gap / 2,
      y: top + cell.y * scale + gap / 2,
      width: cell.width * scale - gap,
      height: cell.height * scale - gap,
    };
    paintCell(context, place, counts[i] ?? 0, letters[i] ?? ".", state, {
      fresh: view.running && view.fresh.has(i),
      running: view.running,
      hover: view.hover === i,
    });
  });
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{x: number, y: number, width: number, height: number}} place
 * @param {number} count
 * @param {string} letter
 * @param {RunState} state
 * @param {{fresh: boolean, running: boolean, hover: boolean}} marks
 */
function paintCell(context, place, count, letter, state, marks) {
  const color = colorOf(count, state.steps);
  const { x, y, width, height } = place;
  context.fillStyle = count ? `rgb(${color.join(" ")})` : WAITING;
  context.beginPath();
  context.roundRect(x, y, width, height, Math.min(3, width / 6, height / 6));
  context.fill();
  const bright = count > 0 && 0.2126 * color[0] + 0.7152 * color[1] + 0.0722 * color[2] > 128;
  const ink = bright ? DARK : LIGHT;
  const endedEarly = letter === "x" || letter === "b";
  if (endedEarly) hatch(context, place, ink);
  const done = marks.running && (letter === "c" || endedEarly);
  if (done) frame(context, place, ink, 1, []);
  if (marks.running && letter === "h") frame(context, place, ink, 1.5, [3, 3]);
  if (marks.fresh) frame(context, place, LIGHT, 2, []);
  if (marks.hover) frame(context, place, ink, 1.5, []);
  if (count && Math.min(width, height) >= SMALLEST_TEXT) label(context, place, count, ink, endedEarly);
  const corner = done ? "✓" : marks.running && letter === "s" ? "»" : "";
  if (corner && Math.min(width, height) >= 2 * SMALLEST_TEXT) cornerMark(context, place, corner, ink);
}

/** Thin diagonals: the region was left alone before the last step. */
function hatch(context, { x, y, width, height }, ink) {
  context.save();
  context.clip();
  context.globalAlpha = 0.3;
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.beginPath();
  for (let start = x - height; start < x + width; start += 6) {
    context.moveTo(start, y + height);
    context.lineTo(start + height, y);
  }
  context.stroke();
  context.restore();
}

function frame(context, { x, y, width, height }, color, thickness, dashes) {
  context.save();
  context.strokeStyle = color;
  context.lineWidth = thickness;
  context.setLineDash(dashes);
  context.strokeRect(x + thickness / 2, y + thickness / 2, width - thickness, height - thickness);
  context.restore();
}

function label(context, { x, y, width, height }, count, ink, plate) {
  const size = Math.max(9, Math.min(16, Math.min(width, height) / 2.4));
  context.font = `600 ${size}px ui-sans-serif, system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (plate) {
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = ink === DARK ? "rgb(255 255 255 / 0.55)" : "rgb(0 0 0 / 0.55)";
    context.strokeText(String(count), x + width / 2, y + height / 2);
  }
  context.fillStyle = ink;
  context.fillText(String(count), x + width / 2, y + height / 2);
}

function cornerMark(context, { x, y, width }, mark, ink) {
  context.font = "700 11px ui-sans-serif, system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "top";
  context.fillStyle = ink;
  context.fillText(mark, x + width - 4, y + 3);
}
