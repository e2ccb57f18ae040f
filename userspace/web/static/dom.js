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

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

// count returns a number for people.
export const count = (n) => grouped.format(n);

// moment returns a time for people, in their zone.
export function moment(text) {
  if (!text) {
    return "";
  }
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}
