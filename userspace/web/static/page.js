// The page: asks once a second for what it shows.

import { call, seconds } from "./api.js";
import { at, clock, make, moment, show } from "./dom.js";
import { addStats } from "./rates.js";
import { showChanges, showDrops, showServices } from "./tables.js";
import "./explain.js";

const every = 1000; // milliseconds
let services = [];
let revision;

async function refresh() {
  const [status, list, stats] = await Promise.all([call("GetStatus"), call("ListServices"), call("GetStats")]);
  services = await withPools(list.services ?? []);
  showStatus(status);
  showServices(services);
  addStats(stats);
  showDrops(stats.verdicts, seconds(stats.time));
  if (status.revision !== revision) {
    const { revisions = [] } = await call("ListHistory", { limit: 10 });
    showChanges(revisions);
    revision = status.revision;
  }
}

// withPools gives services of HTTP the pools behind their routes: these serve by
// themselves, so the service has no word for who does.
async function withPools(all) {
  if (all.every((s) => s.serving)) {
    return all;
  }
  const behind = new Map(all.map((s) => [s.name, []]));
  for (const pool of (await call("ListPools")).pools ?? []) {
    for (const name of pool.services ?? []) {
      behind.get(name)?.push({ name: pool.name, status: pool.status });
    }
  }
  return all.map((s) => (s.serving ? s : { ...s, pools: behind.get(s.name) }));
}

function showStatus(s) {
  at("agent").textContent = `process ${s.pid}, ready since ${moment(s.started)}, revision ${s.revision ?? 0}, ${s.applied ? "applied in the place of " : ""}${s.config}${s.edits ? `, ${s.edits} ${s.edits === 1 ? "change" : "changes"} on top` : ""}`;
  show(at("xdp"), s.xdp ?? {}, (xdp) => {
    const all = (xdp.interfaces ?? []).map((i) => `${i.name}: ${i.mode || "not attached"}${i.reason ? ` (${i.reason})` : ""}`);
    const state = all.length > 0 ? all.join(", ") : `mode ${xdp.mode}`;
    return [`XDP ${state}`, xdp.reason ? make("span", { class: "why" }, xdp.reason) : ""].filter(Boolean);
  });
  trouble([s.configError && `The newest configuration is not in force: ${s.configError}`, s.certificateError, s.nameError].filter(Boolean).join(" · "));
}

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = text === "";
}

let failed; // since when the agent does not answer

async function loop() {
  try {
    await refresh();
    failed = undefined;
    document.body.classList.remove("stale");
    document.body.dataset.ready = "yes";
  } catch (err) {
    failed ??= clock(new Date());
    document.body.classList.add("stale");
    trouble(`The agent does not answer since ${failed}: ${err.message}`);
  }
  setTimeout(loop, every);
}

at("filter").addEventListener("input", () => showServices(services));
loop();
