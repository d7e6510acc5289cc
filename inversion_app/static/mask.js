// The mask: painted over the photo, or a picture of one's own. White must agree with the photo, black need not.

const $ = (id) => document.getElementById(id);
const WIDTH_PX = 1200; // of the canvas that is painted on; the mask itself is drawn again in the photo's own size

export class Mask {
  constructor() {
    this.canvas = $("mask-canvas");
    this.photo = $("mask-photo");
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.goOn(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { this.stroke = null; });
    $("mask-undo").addEventListener("click", () => { this.strokes.pop(); this.draw(); });
    $("mask-clear").addEventListener("click", () => this.clear());
    $("mask-file").addEventListener("change", (event) => this.take(event.target.files[0]));
    this.photo.addEventListener("load", () => this.fit());
    this.photo.addEventListener("error", () => { this.photo.hidden = true; this.tell(); });
    this.clear();
  }

  /** Another photo, by its address, or none: what was painted belongs to the one before. */
  show(url) {
    this.clear();
    $("mask-box").hidden = !url;
    if (!url) $("mask-box").open = false;
    this.photo.hidden = !url;
    if (url) this.photo.src = url; else this.photo.removeAttribute("src");
  }

  /** A Blob to send; null where everything must agree. */
  async picture() {
    if (this.file) return this.file;
    if (!this.strokes.length) return null;
    const { naturalWidth: width, naturalHeight: height } = this.photo;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, width, height);
    for (const stroke of this.strokes) trace(pen, stroke, width, "black");
    return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  }

  clear() {
    this.strokes = [];
    this.stroke = this.file = null;
    $("mask-file").value = "";
    this.draw();
  }

  take(file) {
    if (!file) return;
    this.clear();
    this.file = file;
    this.draw();
  }

  fit() {
    this.canvas.width = WIDTH_PX;
    this.canvas.height = Math.max(1, Math.round((WIDTH_PX * this.photo.naturalHeight) / this.photo.naturalWidth));
    this.draw();
  }

  begin(event) {
    if (this.file || event.button) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.stroke = { width: Number($("mask-brush").value) / 100, points: [this.place(event)] };
    this.strokes.push(this.stroke);
    this.draw();
  }

  goOn(event) {
    if (!this.stroke) return;
    this.stroke.points.push(this.place(event));
    this.draw();
  }

  /** Both in widths of the photo, so that it fits at any size. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const colour = getComputedStyle(this.canvas).color;
    for (const stroke of this.strokes) trace(pen, stroke, this.canvas.width, colour);
    this.tell();
  }

  tell() {
    $("mask-undo").disabled = !this.strokes.length;
    $("mask-clear").disabled = !this.strokes.length && !this.file;
    $("easel").hidden = this.photo.hidden || Boolean(this.file);
    $("mask-state").textContent = this.file ? this.file.name : this.strokes.length ? "painted" : "";
    $("mask-note").textContent = this.file
      ? "Sent as it is: as large as the photo, white where the face must agree with it."
      : this.photo.hidden ? "This browser cannot show the photo, so it cannot be painted on." : "";
  }
}

function trace(pen, { width, points }, scale, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = width * scale;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(points[0][0] * scale, points[0][1] * scale);
  for (const [x, y] of points) pen.lineTo(x * scale, y * scale);
  pen.stroke();
}
