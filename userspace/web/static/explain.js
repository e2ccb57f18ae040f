// What would become of a packet.

import { at, make } from "./dom.js";
import { call } from "./api.js";

at("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const text = (name) => form.get(name).trim();
  const protocol = text("protocol");
  const request = { protocol, from: text("from"), to: text("to"), interface: text("interface") };
  if (protocol === "tcp") {
    request.flags = text("flags").split(" ");
  }
  const box = at("explanation");
  try {
    box.replaceChildren(describe(await call("Explain", request)));
  } catch (err) {
    box.replaceChildren(make("p", { class: "fault" }, err.message));
  }
});

at("explain").elements.protocol.addEventListener("change", (event) => {
  at("explain").elements.flags.disabled = event.target.value !== "tcp";
});

function describe(x) {
  const lines = [
    ["Verdict", x.verdict, "verdict"],
    ["Service", service(x)],
    ["Client", client(x.client)],
    ["Zone", x.clientZone],
    ["Flow", flow(x.flow)],
    ["Backend", choice(x.choice)],
    ["Others", (x.choice?.notChosen ?? []).map((o) => `${o.backend}: ${o.why}`).join("; ")],
    ["Comes in", packet(x.packet)],
    ["Leaves", packet(x.out)],
  ];
  const list = make("dl");
  for (const [name, text, kind] of lines) {
    if (text) {
      list.append(make("dt", {}, name), make("dd", { class: kind, "data-field": name.toLowerCase() }, text));
    }
  }
  return list;
}

function service({ service: s, nearby = [] }) {
  if (!s) {
    const others = nearby.map((n) => `${n.name} on ${n.listen} ${n.protocol}`).join(", ");
    return others ? `none; the address has ${others}` : "none";
  }
  return `${s.name} on ${s.listen} ${s.protocol}, served by ${s.rung}${s.reason ? ` (${s.reason})` : ""}`;
}

function client(c) {
  if (!c) {
    return "";
  }
  const limit = c.limit ? `, at most ${c.limit.rate} flows a second for its network (/${c.limit.prefix})` : "";
  return `${c.allowed ? "allowed" : "denied"}${c.rule ? ` by ${c.rule}` : ""}${limit}`;
}

function flow(f) {
  if (!f) {
    return "none";
  }
  const age = `silent for ${(f.idleSeconds ?? 0).toFixed(1)} of ${(f.limitSeconds ?? 0).toFixed(0)} s`;
  return [f.state, f.direction, f.backend || "its backend is gone", age, f.check].filter(Boolean).join(", ");
}

function choice(c) {
  const tries = (c?.tries ?? []).map((t) => [t.backend, t.verdict].filter(Boolean).join(": "));
  return c ? [c.balance, ...tries].filter(Boolean).join("; ") : "";
}

function packet(p) {
  if (!p) {
    return "";
  }
  const flags = p.flags?.length ? ` ${p.flags.join("+")}` : "";
  return `${p.source} → ${p.destination}${flags}, ttl ${p.ttl ?? 0}${p.interface ? `, at ${p.interface}` : ""}`;
}
