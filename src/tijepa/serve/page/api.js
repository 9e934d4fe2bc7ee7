// Requests to the server that this page came from; an error carries the server's own line.

const KEY = "tijepa.key";

export class Trouble extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** JSON of a GET. `query` leaves out what is null or empty. */
export function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  const words = new URLSearchParams(given).toString();
  return answer(words ? `${path}?${words}` : path, { signal });
}

/** JSON of a POST of form fields; arrays repeat their field. */
export function post(path, fields, signal = undefined) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== "") body.append(name, one);
    }
  }
  return answer(path, { method: "POST", body, signal });
}

/** Show an item's image in `image`; with a key it has to be fetched, as no header can be set. */
export async function showImage(image, row, side) {
  const url = `/items/${row}/image?side=${side}`;
  if (sessionStorage.getItem(KEY) === null) {
    image.src = url;
    return;
  }
  const response = await send(url, {});
  image.src = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
}

/** An item's image as a file, to be sent back. */
export async function imageFile(row) {
  const response = await send(`/items/${row}/image?side=1280`, {});
  return new File([await response.blob()], `item ${row}`);
}

async function answer(path, options) {
  return (await send(path, options)).json();
}

async function send(path, options) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Trouble(0, "The server does not answer. Is it still running?");
    }
    if (response.status === 401) {
      await askForKey(key !== null);
      continue;
    }
    if (response.ok) return response;
    const told = await response.json().catch(() => ({}));
    throw new Trouble(response.status, told.error ?? `The server answered ${response.status}.`);
  }
}

let asking = null;

/** One dialog, however many requests wait for the key. */
function askForKey(wrong) {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("key");
    const field = document.getElementById("key-value");
    document.getElementById("key-about").textContent = wrong
      ? "The server did not take that key. Try again."
      : "This server asks for its key. It is kept until you close this tab.";
    field.value = "";
    dialog.addEventListener("close", () => {
      if (field.value) sessionStorage.setItem(KEY, field.value.trim());
      asking = null;
      done();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
