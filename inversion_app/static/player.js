// The frames: fetched once each as they come, shown as they come, scrubbed and played afterwards.

import * as api from "./api.js";

const PLAY_MS = 120;

export class Player {
  /** `show(step, url)` is called whenever another frame is to be seen. */
  constructor({ box, scrubber, play, show }) {
    Object.assign(this, { box, scrubber, playButton: play, show });
    this.reset();
    scrubber.addEventListener("input", () => { this.stop(); this.seek(Number(scrubber.value)); });
    play.addEventListener("click", () => (this.timer ? this.stop() : this.play()));
  }

  reset() {
    this.stop();
    for (const url of this.urls?.values() ?? []) URL.revokeObjectURL(url);
    this.urls = new Map();
    this.asked = new Set();
    this.steps = [];
    this.following = true;
    this.generation = (this.generation ?? 0) + 1;
    this.box.hidden = true;
  }

  /** Fetch the frame of `step`, once; while following, the newest is shown. */
  async add(step, url) {
    if (this.asked.has(step)) return;
    this.asked.add(step);
    const generation = this.generation;
    try {
      const picture = await api.picture(url);
      if (generation !== this.generation) return URL.revokeObjectURL(picture);
      this.urls.set(step, picture);
    } catch {
      if (generation === this.generation) this.asked.delete(step); // asked for again with the next list
      return;
    }
    const shown = this.steps[Number(this.scrubber.value)];
    this.steps = [...this.urls.keys()].sort((a, b) => a - b);
    this.scrubber.max = this.steps.length - 1;
    this.box.hidden = this.steps.length < 2;
    this.seek(this.following ? this.steps.length - 1 : Math.max(0, this.steps.indexOf(shown)));
  }

  seek(index) {
    const step = this.steps[index];
    if (step === undefined) return;
    this.scrubber.value = index;
    this.scrubber.setAttribute("aria-valuetext", `Step ${step}`);
    this.following = index === this.steps.length - 1;
    this.show(step, this.urls.get(step));
  }

  play() {
    this.seek(0);
    this.playButton.textContent = "Pause";
    this.playButton.setAttribute("aria-pressed", "true");
    this.timer = setInterval(() => {
      const next = Number(this.scrubber.value) + 1;
      if (next < this.steps.length) this.seek(next);
      if (next >= this.steps.length - 1) this.stop();
    }, PLAY_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = "Play";
    this.playButton.setAttribute("aria-pressed", "false");
  }
}
