// The page: upload, watch, look back, download, delete. State lives in the service; the address keeps the id.

import * as api from "./api.js";
import { BatchView } from "./batch.js";
import { Chart, short } from "./chart.js";
import { UploadForm } from "./form.js";
import { askForKey, useTokenOfAddress } from "./key.js";
import { Player } from "./player.js";

const $ = (id) => document.getElementById(id);
const FINAL = ["succeeded", "failed", "canceled"];
const POLL_MS = 1000;
const BATCH = "batch/"; // before the id in the address

const chart = new Chart($("chart"), () => { $("loss").hidden = false; });
const player = new Player({ box: $("scrub"), scrubber: $("scrubber"), play: $("play"), show: showFrame });
const form = new UploadForm(send);
const several = new BatchView({ gone: (asked) => gone(asked ? null : "This batch is gone"), refused: showProblem });
let current = null; // {id, job, stream, timer}

function showFrame(step, url) {
  $("frame").src = url;
  $("frame").hidden = false;
  $("frame-caption").textContent = `What the network draws, step ${step}`;
  chart.mark(step);
  const loss = chart.lossAt(step);
  $("chart-value").textContent = loss === undefined ? "" : `${short(loss)} at step ${step}`;
}

function showProblem(problem) {
  $("problem-title").textContent = problem.title ?? "Something went wrong on this page";
  $("problem-detail").textContent = problem.detail ?? String(problem);
  $("problem").hidden = false;
  $("problem").scrollIntoView({ block: "nearest" });
}

async function send(data, photos) {
  $("problem").hidden = true;
  try {
    if (photos.length > 1) {
      const batch = await api.submitBatch(data);
      history.pushState(null, "", `#${BATCH}${batch.id}`);
      openBatch(batch, photos);
    } else {
      follow(await api.submit(data));
    }
  } catch (problem) {
    showProblem(problem);
  }
}

function follow(job) {
  history.pushState(null, "", `#${job.id}`);
  open(job);
}

function openBatch(batch, photos) {
  close();
  $("start").hidden = $("work").hidden = true;
  several.open(batch, photos);
}

// ---- one inversion, from its id on

function open(job) {
  close();
  current = { id: job.id, job };
  chart.reset(job.steps);
  $("loss").hidden = true;
  for (const id of ["aligned", "frame"]) { $(id).hidden = true; $(id).removeAttribute("src"); }
  $("frame-caption").textContent = "What the network draws";
  $("chart-value").textContent = "";
  $("start").hidden = true;
  $("work").hidden = false;
  show(job);
  $("status").focus();
  watch(current);
}

function close() {
  several.close();
  if (!current) return;
  current.stream?.close();
  clearTimeout(current.timer);
  current = null;
  player.reset();
}

/** Events bring the frames; the poll beside them brings the queue position, and everything when events fail. */
function watch(own) {
  const frame = ({ step, loss, url }) => { chart.add(step, loss); player.add(step, url); advance(own, step); };
  const soon = () => poll(own);
  const last = () => { own.stream.close(); poll(own); }; // else the browser would connect again
  own.stream = api.follow(own.id, { started: soon, frame, done: last, failed: last, canceled: last, expired: last, deleted: last });
  poll(own);
}

async function poll(own) {
  clearTimeout(own.timer);
  try {
    const job = await api.look(own.id);
    if (own !== current) return;
    own.job = job;
    chart.upTo(job.steps);
    own.failures = 0;
    if (FINAL.includes(job.status)) return await finish(own);
    if (job.step !== null) chart.add(job.step, job.loss);
    show(job);
    if (!own.stream.alive() && job.step !== null) await catchUp(own);
  } catch (problem) {
    if (own !== current) return;
    own.failures = (own.failures ?? 0) + 1;
    if (problem.status === 404 || problem.status === 410) return gone("This inversion is gone");
    if (own.failures === 3) showProblem(problem); // a single lost request is nobody's business
  }
  if (own === current) own.timer = setTimeout(() => poll(own), POLL_MS);
}

async function catchUp(own) {
  const frames = await api.frames(own.id);
  if (own === current) await Promise.all(frames.map(({ step, url }) => player.add(step, url)));
}

/** The end. The stream stays open a moment longer, for events that are still on their way. */
async function finish(own) {
  show(own.job);
  await catchUp(own).catch(() => {});
  setTimeout(() => own.stream.close(), POLL_MS);
  if (own !== current) return;
  const best = player.steps.indexOf(own.job.best_step);
  if (own.job.links.latents && best >= 0) player.seek(best);
}

function advance(own, step) {
  if (own !== current || FINAL.includes(own.job.status)) return;
  own.job = { ...own.job, status: "running", step: Math.max(step, own.job.step ?? 0) };
  show(own.job);
}

/** Back to the form; with a title it says why. */
function gone(title) {
  leave();
  if (title) showProblem({ title, detail: "It was deleted, or its time was up. Photos are never kept for longer." });
  else form.clear();
}

function leave() {
  close();
  history.replaceState(null, "", "/");
  $("work").hidden = true;
  $("start").hidden = false;
  form.load();
}

// ---- what is seen of its state

function headline(job) {
  switch (job.status) {
    case "queued": return job.queue_position ? `Waiting, ${job.queue_position} ahead` : "Waiting for a worker";
    case "running": return job.step === null ? "Looking at the photo" : job.steps === null ? `Step ${job.step}` : `Step ${job.step} of ${job.steps}`;
    case "succeeded": return "Found it";
    case "failed": return "That did not work";
    default: return "Canceled";
  }
}

function remark(job) {
  const parts = [];
  if (job.status === "canceled" && job.links.latents) parts.push(`Best by then: step ${job.best_step}, loss ${short(job.best_loss)}.`);
  if (job.status === "succeeded") parts.push(`Best at step ${job.best_step}, loss ${short(job.best_loss)}${job.seconds ? `, ${job.seconds.toFixed(1)} s` : ""}.`);
  if (job.stopped_by === "target_loss") parts.push("Stopped at the loss that was asked for.");
  if (job.stopped_by === "max_seconds") parts.push("Stopped when its time was up.");
  if (job.stopped_by === "request") parts.push("Ended early, as it was asked to.");
  for (const { detail } of job.missing ?? []) parts.push(detail);
  if (job.stopped_by === "plateau") parts.push("Stopped when more steps gained nothing.");
  if (job.face?.found > 1) {
    const which = job.face_index ? `number ${job.face_index}, counted from 0, is taken` : "the largest is taken; Options, Face chooses another";
    parts.push(`${job.face.found} faces in the photo; ${which}.`);
  }
  for (const warning of job.warnings ?? []) parts.push(warning.detail);
  if (job.masked) parts.push("What was painted over is the network's own.");
  if (job.pack) parts.push(`Pack ${job.pack.name} ${job.pack.version}.`);
  return parts.join(" ");
}

function show(job) {
  const final = FINAL.includes(job.status);
  if ($("status").textContent !== headline(job)) $("status").textContent = headline(job);
  $("status-note").textContent = remark(job);
  showProgress(job, final);
  $("aligned-word").textContent = job.options.align ? "aligned" : "cropped";
  if (job.links.aligned && $("aligned").hidden) {
    $("aligned").src = job.links.aligned;
    $("aligned").hidden = false;
  }
  $("pictures").hidden = final && !job.links.aligned;
  $("to-batch").hidden = !job.batch;
  if (job.batch) $("to-batch").firstElementChild.href = `#${BATCH}${job.batch}`;
  $("cancel").hidden = final;
  $("retry").hidden = !job.links.retry;
  $("go-on").hidden = !final || !job.links.latents;
  $("again").hidden = !final;
  $("expiry").hidden = !final; // until then nobody knows
  $("expiry").textContent = `Photo and results are deleted on ${new Date(job.expires_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}.`;
  showDownloads(job, final);
  if (job.error) showProblem(job.error);
  document.title = `${headline(job)} · StyleGAN inversion`;
}

function showProgress(job, final) {
  $("progress").hidden = final;
  if (job.status === "running" && job.step !== null) $("progress").value = job.steps ? job.step / job.steps : 1;
  else $("progress").removeAttribute("value");
}

function showDownloads(job, final) {
  $("downloads").hidden = !final || !job.links.latents;
  if ($("downloads").hidden) return;
  $("get-npy").href = job.links.latents;
  $("get-json").href = `${job.links.latents}?format=json`;
  for (const name of ["image", "aligned", "pasted", "animation"]) {
    $(`get-${name}`).hidden = !job.links[name];
    if (job.links[name]) $(`get-${name}`).href = name === "image" ? `${job.links.image}?format=png` : job.links[name];
  }
}

// ---- what can be done

$("problem-close").addEventListener("click", () => { $("problem").hidden = true; });
$("again").addEventListener("click", () => { $("problem").hidden = true; form.clear(); leave(); $("photo").focus(); });
$("batch-again").addEventListener("click", () => { $("problem").hidden = true; form.clear(); leave(); $("photo").focus(); });
$("retry").addEventListener("click", async () => {
  $("problem").hidden = true;
  $("retry").disabled = true;
  try { follow(await api.retry(current.id)); } catch (problem) { showProblem(problem); } finally { $("retry").disabled = false; }
});
$("go-on").addEventListener("click", async () => {
  const { job } = current;
  try {
    const code = await api.file(job.links.latents, `of step ${job.best_step}`);
    leave();
    form.startFrom(code);
    $(form.photos.length ? "submit" : "photo").focus();
  } catch (problem) { showProblem(problem); }
});
$("cancel").addEventListener("click", async () => {
  const own = current;
  $("cancel").disabled = true;
  try { await api.cancel(own.id); await poll(own); } catch (problem) { showProblem(problem); } finally { $("cancel").disabled = false; }
});
$("delete").addEventListener("click", async () => {
  if (!window.confirm("Delete the photo and everything made of it?")) return;
  try { await api.remove(current.id); $("problem").hidden = true; form.clear(); leave(); } catch (problem) { showProblem(problem); }
});
window.addEventListener("popstate", route);

/** Show what the address names: an inversion by its id, or the empty form. */
async function route() {
  const id = location.hash.slice(1);
  if (!id) return leave();
  const isBatch = id.startsWith(BATCH);
  try {
    if (isBatch) openBatch(await api.lookBatch(id.slice(BATCH.length)));
    else open(await api.look(id));
  } catch (problem) {
    if (problem.status === 404 || problem.status === 410) gone(isBatch ? "This batch is gone" : "This inversion is gone");
    else { leave(); showProblem(problem); }
  }
}

await useTokenOfAddress(showProblem);
askForKey({ again: route, refused: showProblem });
route();
