// Small helpers around the document. Text is never parsed as HTML.

// make returns an element with attributes and children, which are elements or text.
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== false) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

// at returns the element of an id.
export const at = (id) => document.getElementById(id);

const shown = new WeakMap();

// show replaces the children of an element by what draw returns, but only when the
// data has changed: a selection or an opened part stays.
export function show(element, data, draw) {
  const text = JSON.stringify(data);
  if (shown.get(element) === text) {
    return;
  }
  shown.set(element, text);
  element.replaceChildren(...draw(data));
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

// count returns a number for people.
export const count = (n) => grouped.format(n);

// pace returns a rate for people.
export const pace = (n) => count(n >= 10 ? Math.round(n) : n);

const pad = (n) => String(n).padStart(2, "0");

// clock returns the time of day, in the reader's zone.
export const clock = (time) => [time.getHours(), time.getMinutes(), time.getSeconds()].map(pad).join(":");

// moment returns a time of the API, with its day if that is not today.
export function moment(text) {
  if (!text) {
    return "";
  }
  const time = new Date(text);
  const day = [time.getFullYear(), time.getMonth() + 1, time.getDate()].map(pad).join("-");
  return time.toDateString() === new Date().toDateString() ? clock(time) : `${day} ${clock(time)}`;
}
