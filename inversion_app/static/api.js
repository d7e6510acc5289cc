// The API as this page uses it. Everything the page can do, any other client can do the same way.

const ROOT = "/v1/inversions";
const BATCHES = "/v1/batches";

/** An answer that is not a success: the problem document's title and detail, fit to be shown. */
export class Problem extends Error {
  constructor({ title, detail, status, type }) {
    super(detail);
    Object.assign(this, { title, detail, status, type });
  }
}

async function call(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Problem({ title: "The service does not answer", detail: "Check the connection, then try again.", status: 0 });
  }
  if (response.ok) return response;
  if (response.status === 401) document.dispatchEvent(new Event("key-needed"));
  const known = response.headers.get("content-type")?.includes("problem+json");
  throw new Problem(known ? await response.json() : {
    title: `The service answered ${response.status}`, detail: "Try again in a moment.", status: response.status,
  });
}

const json = async (url, options) => (await call(url, options)).json();

export const packs = async () => (await json("/v1/packs")).packs;
export const useKey = (key) => call("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${key}` } });
export const forgetKey = () => call("/v1/session", { method: "DELETE" });
export const submit = (form) => json(ROOT, { method: "POST", body: form });
export const look = (id) => json(`${ROOT}/${encodeURIComponent(id)}`);
export const frames = async (id) => (await json(`${ROOT}/${id}/frames`)).frames;
export const cancel = (id) => json(`${ROOT}/${id}/cancel`, { method: "POST" });
export const remove = (id) => call(`${ROOT}/${id}`, { method: "DELETE" });
export const retry = (id) => json(`${ROOT}/${id}/retry`, { method: "POST" });
export const submitBatch = (form) => json(BATCHES, { method: "POST", body: form });
export const lookBatch = (id) => json(`${BATCHES}/${encodeURIComponent(id)}`);
export const cancelBatch = (id) => json(`${BATCHES}/${id}/cancel`, { method: "POST" });
export const removeBatch = (id) => call(`${BATCHES}/${id}`, { method: "DELETE" });
export const file = async (url, name) => new File([await (await call(url)).blob()], name);
export const picture = async (url) => URL.createObjectURL(await (await call(url)).blob());

/** Follow an inversion's events: `on[kind](data)`. Returns {alive(), close()}; the browser reconnects by itself. */
export function follow(id, on) {
  const source = new EventSource(`${ROOT}/${id}/events`);
  for (const kind of Object.keys(on)) {
    source.addEventListener(kind, (event) => on[kind](JSON.parse(event.data)));
  }
  return { alive: () => source.readyState === EventSource.OPEN, close: () => source.close() };
}
