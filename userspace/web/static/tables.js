// Services, drops and changes.

import { at, count, make, moment, pace, show } from "./dom.js";
import { number } from "./api.js";

const most = 200; // services that are shown at once

// showServices shows those whose name or address has the text of the filter.
export function showServices(services) {
  const wanted = at("filter").value.trim().toLowerCase();
  const fits = (s) => `${s.name} ${s.listen}`.toLowerCase().includes(wanted);
  const all = services.filter(fits);
  const some = all.slice(0, most);
  at("hidden").textContent = all.length > some.length ? `${some.length} of ${all.length}` : "";
  const table = at("services");
  const bodies = new Map([...table.tBodies].map((body) => [body.dataset.service, body]));
  for (const s of some) {
    const body = bodies.get(s.name) ?? make("tbody", { "data-service": s.name });
    bodies.delete(s.name);
    show(body, s, rows);
    table.append(body);
  }
  for (const body of bodies.values()) {
    body.remove();
  }
}

// cell returns one that a name says the field of.
const cell = (field, text, attributes) => make("td", { "data-field": field, ...attributes }, text);
const numeric = { class: "number" };

function rows(service) {
  const backends = service.backends ?? [];
  const flows = backends.reduce((sum, b) => sum + number(b.flows), 0);
  const rung = make("td", { "data-field": "rung" }, service.rung ?? "", why(service.reason));
  const first = make(
    "tr", { class: "service" },
    cell("name", service.name), cell("listen", `${service.listen} ${service.protocol ?? ""}`), rung,
    cell("backends", healths(backends)), cell("serving", service.serving ?? pooled(service.pools ?? [])),
    cell("weight", "", numeric), cell("flows", count(flows), numeric), cell("latency", "", numeric), cell("since", ""), cell("error", ""),
  );
  return [first, ...backends.map(backendRow)];
}

// healths says how many backends are how.
function healths(backends) {
  const counts = ["healthy", "unhealthy", "draining", "unknown"].map((status) => [backends.filter((b) => b.status === status).length, status]);
  return counts.filter(([n]) => n > 0).map(([n, status]) => `${n} ${status}`).join(", ") || "none";
}

// pooled says how full pools are, each by its name if there are several.
const pooled = (pools) => pools.map((p) => (pools.length > 1 ? `${p.name} ${p.status}` : p.status)).join(", ");

const why = (reason) => (reason ? make("span", { class: "why" }, reason) : undefined);

function backendRow(b) {
  const notes = [b.pool && `pool ${b.pool}`, b.name, b.zone && `zone ${b.zone}`, b.backup && "backup"].filter(Boolean).join(", ");
  const share = number(b.sharePercent);
  const weight = share < 100 && b.weight ? `${b.weight} (${share} %)` : count(number(b.weight));
  return make(
    "tr", { class: "backend", "data-backend": b.address, "data-pool": b.pool ?? "" },
    make("td"), make("td"), make("td"),
    make("td", { "data-field": "address" }, b.address, why(notes)),
    cell("status", b.status ?? "", { class: b.status }),
    cell("weight", weight, numeric), cell("flows", count(number(b.flows)), numeric),
    cell("latency", latency(b.latency), numeric), cell("since", moment(b.since)), cell("error", b.lastError ?? ""),
  );
}

// latency returns the median, p95 and p99 of five minutes; what the kernel forwards has
// none.
const latency = (l) => (l ? [l.medianSeconds, l.p95Seconds, l.p99Seconds].map((s) => count(1000 * number(s))).join(", ") + " ms" : "");

let before;

// showDrops shows why packets were dropped, until a time in seconds.
export function showDrops(verdicts, time) {
  const all = Object.entries(verdicts ?? {})
    .filter(([name, n]) => name.startsWith("drop") && number(n) > 0)
    .map(([name, n]) => ({ name, packets: number(n), rate: rate(name, number(n), time) }))
    .sort((a, b) => b.packets - a.packets);
  before = { verdicts: verdicts ?? {}, time };
  at("drops").hidden = all.length === 0;
  at("no-drops").hidden = all.length > 0;
  show(at("drops").tBodies[0], all, (list) =>
    list.map((d) => make(
      "tr", { "data-verdict": d.name },
      cell("verdict", d.name), cell("packets", count(d.packets), numeric), cell("rate", pace(d.rate), numeric),
    )));
}

function rate(name, packets, time) {
  if (!before || time <= before.time) {
    return 0;
  }
  return Math.max(0, packets - number(before.verdicts[name])) / (time - before.time);
}

// showChanges shows revisions, the newest first.
export function showChanges(revisions) {
  at("no-changes").hidden = revisions.length > 0;
  show(at("changes"), revisions, (list) => list.map(change));
}

function change(r) {
  const edits = (r.edits ?? []).map((e) => [e.op, e.pool || e.service, e.match, e.backend, ...(e.backends ?? []), e.weight].filter((x) => x !== undefined && x !== "").join(" "));
  const what = r.rollback ? `rollback to ${r.rollback}` : edits.join("; ") || (Number(r.revision) === 1 ? "the file" : "the file has changed");
  return make(
    "li", { value: r.revision, "data-revision": r.revision },
    make("span", { class: "when" }, moment(r.time)), " ", make("span", { class: "who" }, r.who ?? ""), " ", make("span", { class: "what" }, what),
    r.difference ? make("details", {}, make("summary", {}, "difference"), make("pre", {}, ...difference(r.difference))) : undefined,
  );
}

const difference = (text) =>
  text.split(/(?<=\n)/).map((line) => make("span", { class: line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : undefined }, line));
