// The upload form: a photo by file dialog, drop or paste, and the options that the live packs offer.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);

function fill(select, values, first) {
  const options = values.map(([value, text]) => new Option(text, value));
  select.replaceChildren(...(first ? [new Option(first, "")] : []), ...options);
}

const STARTS = { encoder: "the encoder's guess", mean: "the mean face", random: "a random face" };

export class UploadForm {
  /** `submit(formData)` is awaited when the form is sent. */
  constructor(submit) {
    this.photo = null;
    this.packs = [];
    this.submitting = false;
    $("photo").addEventListener("change", (event) => this.take(event.target.files[0]));
    $("pack").addEventListener("change", () => this.offer());
    $("start").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!this.photo || this.submitting) return;
      this.busy(true);
      try { await submit(this.data()); } finally { this.busy(false); }
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
      if (shown()) this.take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => { if (shown()) this.take(event.clipboardData.files[0]); });
  }

  take(file) {
    if (!file) return;
    this.photo = file;
    URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(file);
    $("preview").hidden = false;
    $("preview").onerror = () => { $("preview").hidden = true; };
    $("photo-name").textContent = file.name || "Pasted photo";
    $("photo-hint").textContent = "Choose, drop or paste another one to replace it.";
    this.busy(false);
  }

  clear() {
    this.photo = null;
    $("photo").value = "";
    $("preview").hidden = true;
    URL.revokeObjectURL($("preview").src);
    $("photo-name").textContent = "Choose a photo";
    $("photo-hint").textContent = "or drop it here, or paste it. JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.";
    this.busy(false);
  }

  busy(submitting) {
    this.submitting = submitting;
    $("submit").disabled = submitting || !this.photo;
    $("submit").textContent = submitting ? "Uploading …" : "Start";
  }

  data() {
    const data = new FormData($("start"));
    data.set("image", this.photo, this.photo.name || "photo");
    data.set("align", $("align").checked ? "true" : "false");
    for (const name of ["pack", "optimizer", "start"]) if (!data.get(name)) data.delete(name);
    return data;
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

  offer() {
    const pack = this.packs.find(({ name }) => name === $("pack").value);
    fill($("optimizer"), (pack?.optimizers ?? []).map((name) => [name, name]), "The default");
    fill($("start-kind"), (pack?.starts ?? []).map((kind) => [kind, STARTS[kind] ?? kind]), "the pack’s default");
    $("pack-note").textContent = pack
      ? `${pack.description} Licence: ${pack.licence}.`
      : "No worker is running at the moment; photos wait until one is.";
  }
}
