// Rates per second, made of sums that are asked for once a second, and of the times
// for which the agent tells them.

import { at, clock, count, pace } from "./dom.js";
import { number, seconds } from "./api.js";

const kept = 300; // samples, and seconds that are shown

const plots = [
  {
    id: "packets",
    at: (stats) => seconds(stats.time),
    of: (stats) => ["forward", "pass", "drop", "answer"].map((kind) => number(stats.kinds?.[kind])),
    names: ["forwarded", "passed", "dropped", "answered"],
  },
  {
    id: "proxy",
    at: (stats) => seconds(stats.proxyTime),
    of: ({ proxy = {} }) => [
      number(proxy.http?.requests),
      number(proxy.tcp?.accepted),
      number(proxy.udp?.toBackendsDatagrams) + number(proxy.udp?.toClientsDatagrams),
    ],
    names: ["HTTP requests", "TCP connections", "UDP datagrams"],
  },
];
const colours = ["--one", "--two", "--three", "--four"];

for (const plot of plots) {
  plot.rows = [[], ...plot.names.map(() => [])];
}

// between returns the rates between two sums, by their time in seconds; none after a
// restart.
const between = (before, now, seconds) =>
  now.map((sum, i) => (sum < before[i] || seconds <= 0 ? null : (sum - before[i]) / seconds));

// addStats takes what was counted.
export function addStats(stats) {
  for (const plot of plots) {
    add(plot, { at: plot.at(stats), sums: plot.of(stats) });
    draw(plot);
  }
}

// add adds rates to a plot, unless nothing was counted since the last ones.
function add(plot, now) {
  if (Number.isNaN(now.at) || now.at === plot.last?.at) {
    return;
  }
  if (plot.last) {
    const rates = between(plot.last.sums, now.sums, now.at - plot.last.at);
    [now.at, ...rates].forEach((value, i) => {
      plot.rows[i].push(value);
      if (plot.rows[i].length > kept) {
        plot.rows[i].shift();
      }
    });
  }
  plot.last = now;
}

// newest has the legend tell the newest rates while nobody points at others.
function newest(chart) {
  if (chart.cursor.idx === null || chart.cursor.idx === undefined) {
    chart.setLegend({ idx: chart.data[0].length - 1 }, false);
  }
}

function draw(plot) {
  if (plot.chart) {
    plot.chart.setData(plot.rows);
  } else if (plot.rows[0].length > 0) {
    plot.chart = chart(plot);
  }
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chart(plot) {
  const box = at(plot.id);
  const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 } };
  const series = plot.names.map((label, i) => ({
    label,
    stroke: style(colours[i]),
    width: 2,
    value: (_, rate) => (rate === null || rate === undefined ? "–" : pace(rate)),
  }));
  return new uPlot(
    {
      width: Math.max(box.clientWidth, 200),
      height: 220,
      hooks: { ready: [newest], setData: [newest], setLegend: [newest] },
      series: [{ value: (_, time) => (time ? clock(new Date(time * 1000)) : "–") }, ...series],
      axes: [{ ...axis, space: 80, values: (_, ticks) => ticks.map((t) => clock(new Date(t * 1000))) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(count) }],
      scales: {
        x: { range: (_, low, high) => [high - kept, high] },
        y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.05] },
      },
    },
    plot.rows,
    box,
  );
}

// redraw makes the plots anew, with other colours.
function redraw() {
  for (const plot of plots) {
    plot.chart?.destroy();
    plot.chart = undefined;
    draw(plot);
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => {
  for (const plot of plots) {
    plot.chart?.setSize({ width: Math.max(at(plot.id).clientWidth, 200), height: 220 });
  }
});
