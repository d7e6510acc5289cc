// Several photos at once: a tile for each, which leads to its own page. They are looked at together.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 1000;
const WORDS = { queued: "Waiting", running: "Looking at the photo", succeeded: "Found it", failed: "Did not work", canceled: "Canceled" };
const ENDED = ["succeeded", "failed", "canceled"];

export class BatchView {
  /** `gone()` is called when the batch is there no longer, `refused(problem)` when something does not work. */
  constructor({ gone, refused }) {
    Object.assign(this, { gone, refused });
    this.previews = [];
    $("batch-cancel").addEventListener("click", () => this.attempt(async () => this.show(await api.cancelBatch(this.id))));
    $("batch-delete").addEventListener("click", () => {
      if (!window.confirm("Delete all of these photos and everything made of them?")) return;
      this.attempt(async () => { await api.removeBatch(this.id); this.gone(true); });
    });
  }

  /** `photos` are the files, where this page has sent them: they are seen until there is something better. */
  open(batch, photos = []) {
    this.close();
    this.id = batch.id;
    this.previews = photos.map((photo) => URL.createObjectURL(photo));
    $("tiles").replaceChildren(...batch.inversions.map((_, index) => tile(index)));
    $("batch").hidden = false;
    this.show(batch);
    $("batch-status").focus();
    this.later(batch);
  }

  close() {
    clearTimeout(this.timer);
    for (const url of this.previews) URL.revokeObjectURL(url);
    this.previews = [];
    this.id = null;
    $("batch").hidden = true;
  }

  later(batch) {
    if (!ENDED.includes(batch.status)) this.timer = setTimeout(() => this.poll(this.id), POLL_MS);
  }

  async poll(id) {
    let batch;
    try {
      batch = await api.lookBatch(id);
    } catch (problem) {
      if (id !== this.id) return;
      if (problem.status === 404 || problem.status === 410) return this.gone(false);
      this.timer = setTimeout(() => this.poll(id), 3 * POLL_MS); // a lost request is nobody's business
      return;
    }
    if (id !== this.id) return;
    this.show(batch);
    this.later(batch);
  }

  async attempt(what) {
    try { await what(); } catch (problem) { this.refused(problem); }
  }

  show(batch) {
    const { total, counts } = batch;
    const ended = total - counts.queued - counts.running;
    const over = ENDED.includes(batch.status);
    const headline = over ? `${counts.succeeded} of ${total} found` : `${ended} of ${total} done`;
    if ($("batch-status").textContent !== headline) $("batch-status").textContent = headline;
    const others = ["failed", "canceled", "deleted"].filter((state) => counts[state]).map((state) => `${counts[state]} ${state}`);
    $("batch-note").textContent = others.join(", ");
    $("batch-progress").hidden = over;
    $("batch-progress").value = total ? ended / total : 0;
    $("batch-cancel").hidden = over;
    $("batch-again").hidden = !over;
    $("batch-expiry").textContent = `Photos and results are deleted on ${new Date(batch.expires_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}.`;
    batch.inversions.forEach((inversion, index) => this.fill($("tiles").children[index], inversion, index));
    document.title = `${headline} · StyleGAN inversion`;
  }

  fill(item, inversion, index) {
    const link = item.firstElementChild;
    const [picture, text] = link.children;
    const said = inversion ? word(inversion) : "Deleted";
    if (text.textContent !== said) text.textContent = said;
    const source = inversion?.links.image ?? inversion?.links.aligned ?? (inversion ? this.previews[index] : null);
    if (inversion) link.href = `#${inversion.id}`; else link.removeAttribute("href");
    picture.hidden = !source;
    if (source && picture.getAttribute("src") !== source) picture.src = source;
  }
}

function word({ status, step, steps, error }) {
  if (error) return error.title;
  return status === "running" && step !== null ? steps === null ? `Step ${step}` : `Step ${step} of ${steps}` : WORDS[status];
}

function tile(index) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const picture = Object.assign(document.createElement("img"), { alt: `Photo ${index + 1}`, hidden: true });
  picture.addEventListener("error", () => { picture.hidden = true; }); // a format that this browser cannot show
  link.append(picture, document.createElement("span"));
  item.append(link);
  return item;
}
