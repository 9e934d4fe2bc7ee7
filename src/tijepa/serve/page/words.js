// Numbers as people read them, and small pieces of document.

const MINUS = "\u2212";
const THIN = "\u00a0";

/** An energy with its unit: 12.3 nats; 0.812 (cosine). */
export function energy(value, form) {
  return form === "calibrated" ? `${fixed(value, form)}${THIN}nats` : `${fixed(value, form)}${THIN}(${unit(form)})`;
}

/** 1 decimal for nats, 2 below ten, 3 for the other forms. */
export function fixed(value, form) {
  const digits = form !== "calibrated" ? 3 : Math.abs(value) < 9.995 ? 2 : 1;
  const shown = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(shown) !== 0 ? MINUS : "") + shown;
}

export function unit(form) {
  return { calibrated: "nats", cosine: "cosine", squared_l2: "squared L2" }[form];
}

export function percent(share) {
  if (share > 0.9995 && share < 1) return `>${THIN}99.9${THIN}%`;
  if (share < 0.0005 && share > 0) return `<${THIN}0.1${THIN}%`;
  return `${(100 * share).toFixed(1)}${THIN}%`;
}

export function count(value) {
  return value.toLocaleString("en-US");
}

export function seconds(value) {
  return value < 1 ? `${Math.max(1, Math.round(1000 * value))}${THIN}ms` : `${value.toFixed(1)}${THIN}s`;
}

/** An element with properties and children; text is never read as markup. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** A meter of a probability with a mark at its base rate, grey up to there; its number stands beside it. */
export function bar(share, rate) {
  const inner = element("span"), mark = element("i");
  inner.style.width = `${100 * share}%`;
  mark.style.left = `${100 * rate}%`;
  const outer = element("span", { className: share > rate ? "bar" : "bar low" }, inner, mark);
  outer.setAttribute("aria-hidden", "true");
  return outer;
}

/** Images of the store as links to look into them; `show` puts an item's image into an image. */
export function mosaic(examples, show) {
  return examples.map(({ row, caption }) => {
    const image = element("img", { alt: caption, loading: "lazy", decoding: "async" });
    show(image, row, 320).catch(() => image.remove());
    return element("li", {}, element("a", { href: `#/look?row=${row}` }, image));
  });
}

/** Say in `place` what went wrong, and offer `again`. */
export function complain(place, error, again = null) {
  const notice = element("div", { className: "notice", role: "alert" },
    element("span", {}, sentence(error.message)));
  if (again) notice.append(element("button", { type: "button", onclick: again }, "Try again"));
  place.replaceChildren(notice);
}

function sentence(text) {
  const shown = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.?!]$/.test(shown) ? shown : `${shown}.`;
}
