// The loss curve: a small SVG, logarithmic upwards, one point for each step whose loss is known.

const WIDTH = 640, HEIGHT = 200, LEFT = 52, RIGHT = 12, TOP = 14, BOTTOM = 26;
const SVG = "http://www.w3.org/2000/svg";

function draw(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
}

export const short = (loss) => loss == null ? "–" : loss >= 0.001 ? loss.toPrecision(3) : loss.toExponential(2);

/** Two to seven round numbers between 10**low and 10**high. */
function ticks(low, high) {
  for (const digits of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const digit of digits) found.push(Number((digit * 10 ** power).toPrecision(3)));
    }
    const inside = found.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
    if (inside.length >= 3) return inside.filter((_, i) => i % Math.ceil(inside.length / 7) === 0);
  }
  return [0, 0.5, 1].map((part) => Number((10 ** (low + (high - low) * part)).toPrecision(3)));
}

export class Chart {
  /** `begun()` is called when there is something to see. */
  constructor(svg, begun) {
    this.svg = svg;
    this.begun = begun;
    this.reset(1);
  }

  /** `steps` may be null: nobody knows yet. */
  reset(steps) {
    this.losses = new Map();
    this.steps = Math.max(1, steps ?? 1);
    this.marked = null;
    this.render();
  }

  /** So many steps are to come in all, as a worker says when it starts. */
  upTo(steps) {
    if (!steps || steps === this.steps) return;
    this.steps = steps;
    this.render();
  }

  add(step, loss) {
    if (!Number.isFinite(loss) || loss <= 0 || this.losses.get(step) === loss) return;
    this.losses.set(step, loss);
    if (this.losses.size === 1) this.begun();
    this.render();
  }

  /** Show where `step` lies; the nearest earlier point is taken when its own loss is not known. */
  mark(step) {
    this.marked = step;
    this.render();
  }

  lossAt(step) {
    return this.losses.get(step);
  }

  render() {
    this.svg.replaceChildren();
    const points = [...this.losses].sort((a, b) => a[0] - b[0]);
    if (points.length === 0) return;
    const logs = points.map(([, loss]) => Math.log10(loss));
    const low = Math.min(...logs) - 0.05, high = Math.max(Math.max(...logs) + 0.05, low + 0.2);
    const x = (step) => LEFT + (WIDTH - LEFT - RIGHT) * step / Math.max(this.steps, ...this.losses.keys());
    const y = (log) => TOP + (HEIGHT - TOP - BOTTOM) * (high - log) / (high - low);
    this.axes(x, y, low, high);
    const path = points.map(([step, loss], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(Math.log10(loss)).toFixed(1)}`);
    draw(this.svg, "path", { class: "curve", d: path.join("") });
    if (this.marked !== null) this.marker(x, y, points);
    const last = points.at(-1);
    this.svg.setAttribute("aria-label", `Loss by step: ${short(points[0][1])} at step ${points[0][0]}, ${short(last[1])} at step ${last[0]}`);
  }

  axes(x, y, low, high) {
    for (const value of ticks(low, high)) {
      const at = y(Math.log10(value));
      draw(this.svg, "line", { class: "gridline", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at });
      draw(this.svg, "text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, String(value));
    }
    for (const step of [0, Math.round(this.steps / 2), this.steps]) {
      const anchor = step === 0 ? "start" : step === this.steps ? "end" : "middle";
      draw(this.svg, "text", { x: x(step), y: HEIGHT - 6, "text-anchor": anchor }, step === this.steps ? `${step} steps` : step);
    }
  }

  marker(x, y, points) {
    const [step, loss] = points.findLast(([at]) => at <= this.marked) ?? points[0];
    draw(this.svg, "line", { class: "marker", x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM });
    draw(this.svg, "circle", { class: "dot", cx: x(step), cy: y(Math.log10(loss)), r: 5 });
  }
}
