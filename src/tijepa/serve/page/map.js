// An energy map on a canvas over its image: light and strong where the energy is low.

// 17 even steps of the report's ramp: OKLab lightness falls evenly from 0.95 to 0.22.
export const RAMP = [
  [250, 243, 150], [219, 233, 148], [189, 222, 147], [161, 210, 147], [134, 197, 147], [109, 183, 147],
  [86, 169, 145], [63, 155, 143], [41, 140, 140], [18, 125, 136], [0, 109, 131], [0, 94, 125],
  [0, 78, 118], [5, 61, 110], [17, 44, 101], [24, 27, 89], [26, 6, 76],
];
const SIDE = 160; // pixels of the upsampled map
const LEAST = 0.2; // opacity at the highest energy, as a share of that at the lowest

/** Red, green and blue of a level between 0, the lowest energy, and 1. */
export function colour(level) {
  const at = Math.min(Math.max(level, 0), 1) * (RAMP.length - 1);
  const k = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[k].map((value, c) => Math.round(value + (at - k) * (RAMP[k + 1][c] - value)));
}

export function rampGradient() {
  return `linear-gradient(90deg, ${RAMP.map((c) => `rgb(${c})`).join(", ")})`;
}

export class EnergyMap {
  constructor(canvas, image) {
    this.canvas = canvas;
    this.image = image;
    this.found = null;
    this.strength = 0.7;
    this.cell = null;
  }

  /** The map to draw, or null; `size` is that of the upright image. */
  show(found, size) {
    this.found = found;
    this.size = size;
    this.cell = null;
    this.canvas.hidden = found === null;
    if (found === null) return;
    const values = found.energy.flat();
    this.low = Math.min(...values);
    this.high = Math.max(...values);
    this.sheet = this.upsampled();
    this.draw();
  }

  level(value) {
    return this.high > this.low ? (value - this.low) / (this.high - this.low) : 0.5;
  }

  /** The square of the image that the map covers, in pixels of the canvas. */
  square() {
    const { width, height } = this.canvas;
    const side = Math.min(width, height);
    return { side, left: (width - side) / 2, top: (height - side) / 2 };
  }

  draw() {
    if (this.found === null) return;
    const { canvas } = this, box = canvas.getBoundingClientRect(), dense = window.devicePixelRatio;
    canvas.width = Math.max(1, Math.round(box.width * dense));
    canvas.height = Math.max(1, Math.round(box.height * dense));
    const pen = canvas.getContext("2d"), { side, left, top } = this.square();
    if (this.strength > 0) {
      pen.fillStyle = `rgb(0 0 0 / ${0.5 * this.strength})`;
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.clearRect(left, top, side, side);
      pen.globalAlpha = this.strength;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.sheet, left, top, side, side);
      pen.globalAlpha = 1;
    }
    if (this.high > this.low) this.outline(pen, this.found.row, this.found.column, 2.5 * dense, []);
    if (this.cell) this.outline(pen, ...this.cell, 1.5 * dense, [4 * dense, 3 * dense]);
  }

  outline(pen, row, column, width, dashes) {
    const { side, left, top } = this.square(), cell = side / this.found.energy.length;
    const half = width / 2;
    pen.setLineDash([]);
    for (const [style, thick] of [["rgb(0 0 0 / 0.55)", 2 * width], ["#fff", width]]) {
      pen.strokeStyle = style;
      pen.lineWidth = thick;
      if (style === "#fff") pen.setLineDash(dashes);
      pen.strokeRect(left + column * cell + half, top + row * cell + half, cell - width, cell - width);
    }
  }

  /** Bilinear between the centres of cells, as in the report; opacity falls with energy. */
  upsampled() {
    const sheet = document.createElement("canvas");
    sheet.width = sheet.height = SIDE;
    const pen = sheet.getContext("2d"), image = pen.createImageData(SIDE, SIDE);
    const grid = this.found.energy.length;
    const near = Array.from({ length: SIDE }, (_, p) => {
      const at = Math.min(Math.max(((p + 0.5) * grid) / SIDE - 0.5, 0), grid - 1);
      const k = Math.min(Math.floor(at), Math.max(grid - 2, 0));
      return [k, Math.min(k + 1, grid - 1), at - k];
    });
    const of = (row, column) => this.level(this.found.energy[row][column]);
    near.forEach(([a, b, down], y) => near.forEach(([c, d, right], x) => {
      const upper = of(a, c) * (1 - right) + of(a, d) * right;
      const lower = of(b, c) * (1 - right) + of(b, d) * right;
      const level = upper * (1 - down) + lower * down;
      image.data.set([...colour(level), 255 * (1 - (1 - LEAST) * level)], 4 * (y * SIDE + x));
    }));
    pen.putImageData(image, 0, 0);
    return sheet;
  }

  /** Row and column under a point of the window, or null outside the square. */
  under(x, y) {
    const box = this.canvas.getBoundingClientRect(), grid = this.found.energy.length;
    const side = Math.min(box.width, box.height);
    const column = Math.floor(((x - box.left - (box.width - side) / 2) / side) * grid);
    const row = Math.floor(((y - box.top - (box.height - side) / 2) / side) * grid);
    return [row, column].every((one) => one >= 0 && one < grid) ? [row, column] : null;
  }
}
