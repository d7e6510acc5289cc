// The upload form: photos by file dialog, drop or paste, and the options that the live packs offer.

import * as api from "./api.js";
import { Mask } from "./mask.js";

const $ = (id) => document.getElementById(id);

function fill(select, values, first) {
  const options = values.map(([value, text]) => new Option(text, value));
  select.replaceChildren(...(first ? [new Option(first, "")] : []), ...options);
}

const STARTS = { encoder: "the encoder's guess", mean: "the mean face", random: "a random face" };
const OWN = "latents"; // as the API calls a code that comes along
const OPTIMIZERS = {
  adam: "Adam: steady on any picture.",
  adagrad: "Adagrad: its steps grow smaller and smaller.",
  learned: "The paper's network, which corrects each of Adam's updates.",
  "learned-basis": "Adam in directions that were learned for each style layer: fewer steps than Adam.",
  "learned-lbfgs": "L-BFGS in directions that were learned for each style layer: few steps.",
  "learned-lstm": "A recurrent network for each number of the code.",
  "learned-residual": "A network that sees both pictures leads, then L-BFGS goes on in learned directions: the fewest steps.",
  "learned-rgdn": "A recurrent network for the whole code.",
  lbfgs: "L-BFGS: looks at how the slope has changed; strong close to the end.",
  nag: "NAG: gradient descent with momentum that looks ahead.",
  rmsprop: "RMSProp: each number of the code has a pace of its own.",
  sgd: "SGD: plain gradient descent, the slowest.",
};
const MOST = 64; // photos of a batch
const MOST_SEEN = 6;

export class UploadForm {
  /** `submit(formData, photos)` is awaited when the form is sent. */
  constructor(submit) {
    this.photos = [];
    this.code = null; // to start from, where it did not come by the file field
    this.mask = new Mask();
    this.packs = [];
    this.submitting = false;
    $("photo").addEventListener("change", (event) => this.take(event.target.files));
    $("pack").addEventListener("change", () => this.offer());
    $("optimizer").addEventListener("change", () => this.tell());
    $("start-kind").addEventListener("change", () => { this.code = null; this.tell(); });
    $("start").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!this.photos.length || this.submitting) return;
      this.busy(true);
      try { await submit(await this.data(), this.photos); } finally { this.busy(false); }
    });
    this.listenForDrops();
    this.offer();
  }

  listenForDrops() {
    const drop = $("drop"), shown = () => !$("start").hidden;
    document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.toggle("over", shown()); });
    document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
    document.addEventListener("drop", (event) => {
      event.preventDefault(); // a photo dropped beside the field must not replace the page
      drop.classList.remove("over");
      if (shown()) this.take(event.dataTransfer.files);
    });
    document.addEventListener("paste", (event) => { if (shown()) this.take(event.clipboardData.files); });
  }

  take(files) {
    if (!files.length) return;
    this.photos = [...files].slice(0, MOST);
    const [first, ...others] = this.photos;
    this.forget();
    const url = URL.createObjectURL(first);
    $("preview").hidden = others.length > 0;
    $("preview").src = url;
    $("preview").onerror = () => { $("preview").hidden = true; };
    this.mask.show(others.length ? null : url);
    this.showSeveral(others.length ? this.photos : []);
    $("photo-name").textContent = others.length ? `${this.photos.length} photos` : first.name || "Pasted photo";
    $("photo-hint").textContent = files.length > MOST
      ? `The first ${MOST} of ${files.length}: that is as many as go at once.`
      : `Choose, drop or paste ${others.length ? "others to replace them" : "another to replace it"}.`;
    this.tell();
    this.busy(false);
  }

  showSeveral(photos) {
    const seen = photos.slice(0, MOST_SEEN).map((photo) => {
      const picture = Object.assign(document.createElement("img"), { alt: "", src: URL.createObjectURL(photo) });
      picture.addEventListener("error", () => picture.remove());
      return picture;
    });
    $("previews").replaceChildren(...seen);
    $("previews").hidden = !photos.length;
  }

  forget() {
    for (const picture of [$("preview"), ...$("previews").children]) URL.revokeObjectURL(picture.src);
  }

  clear() {
    this.forget();
    this.photos = [];
    this.code = null;
    $("photo").value = $("code").value = "";
    $("preview").hidden = true;
    this.showSeveral([]);
    this.mask.show(null);
    $("photo-name").textContent = "Choose a photo";
    $("photo-hint").textContent = "or drop it here, or paste it; several go together. JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.";
    if ($("start-kind").value === OWN) this.offer();
    this.busy(false);
  }

  busy(submitting) {
    this.submitting = submitting;
    $("submit").disabled = submitting || !this.photos.length;
    $("submit").textContent = submitting ? "Uploading …" : "Start";
  }

  /** Start from this code the next time; the photo stays, where this page still has it. */
  startFrom(code) {
    this.code = code;
    this.mask.show(this.photos.length === 1 ? $("preview").src : null);
    this.offer();
    $("start").querySelector("details").open = true;
    this.tell();
  }

  async data() {
    const data = new FormData($("start"));
    data.delete("image");
    for (const photo of this.photos) data.append("image", photo, photo.name || "photo");
    data.set("align", $("align").checked ? "true" : "false");
    if (!$("align").checked) data.delete("face");
    for (const name of ["pack", "optimizer", "start"]) if (!data.get(name)) data.delete(name);
    if (data.get("start") === OWN) data.set("latents", this.code ?? $("code").files[0]);
    const mask = this.photos.length === 1 ? await this.mask.picture() : null;
    if (mask) data.set("mask", mask, mask.name ?? "mask.png");
    return data;
  }

  /** What belongs to the choices at hand: a code and a mask are of one photo. */
  tell() {
    const several = this.photos.length > 1;
    const own = [...$("start-kind").options].find((option) => option.value === OWN);
    if (own) own.disabled = several;
    if (several && $("start-kind").value === OWN) $("start-kind").selectedIndex = 0;
    const file = $("start-kind").value === OWN;
    $("code-box").hidden = !file;
    $("code").required = file && !this.code;
    $("code").disabled = Boolean(this.code);
    $("optimizer-note").textContent = OPTIMIZERS[$("optimizer").value || this.pack()?.default_optimizer] ?? "";
  }

  /** Ask which packs are there; without an answer the fields stay at the service's defaults. */
  async load() {
    try { this.packs = await api.packs(); } catch { this.packs = []; }
    const chosen = $("pack").value;
    fill($("pack"), this.packs.map(({ name, resolution }) => [name, `${name}, ${resolution} px`]), this.packs.length ? null : "The default");
    const standard = this.packs.find((pack) => pack.default);
    $("pack").value = this.packs.some(({ name }) => name === chosen) ? chosen : standard?.name ?? $("pack").value;
    this.offer();
  }

  pack() {
    return this.packs.find(({ name }) => name === $("pack").value);
  }

  offer() {
    const pack = this.pack();
    fill($("optimizer"), (pack?.optimizers ?? []).map((name) => [name, name]), pack ? `the pack’s default, ${pack.default_optimizer}` : "The default");
    const starts = (pack?.starts ?? []).map((kind) => [kind, STARTS[kind] ?? kind]);
    fill($("start-kind"), [...starts, [OWN, this.code ? `the code ${this.code.name}` : "a code of mine …"]], "the pack’s default");
    if (this.code) $("start-kind").value = OWN;
    const detail = pack?.detail;
    $("steps").placeholder = detail ? `the pack’s, ${detail.steps ? detail.after : 100}` : "the pack’s";
    $("detail-steps").placeholder = detail ? `the pack’s, ${detail.steps}` : "the pack’s";
    $("focus").placeholder = pack ? `the pack’s, ${pack.focus ?? 0}` : "the pack’s";
    $("pack-note").textContent = pack
      ? `${pack.description.replace(/[^.!?]$/, "$&.")} Licence: ${pack.licence}.`
      : "No worker is running at the moment; photos wait until one is.";
    this.tell();
  }
}
