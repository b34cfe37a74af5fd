"use strict";
(() => {
  // Everything that comes from the proxy is put in as text: namespaces, names of commands and
  // of members hold what others chose.
  const PERIOD = 2000, KEPT = 150, RECENT = 30000;
  const SVG = "http://www.w3.org/2000/svg";
  const samples = [];
  let paused = false, last = null, seen = new Map();

  const at = (id) => document.getElementById(id);

  function element(name, attributes, ...children) {
    const node = document.createElement(name);
    return filled(node, attributes, children);
  }

  function drawn(name, attributes, ...children) {
    return filled(document.createElementNS(SVG, name), attributes, children);
  }

  function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  /// Changes the page only where something changed, so that nobody loses their place in it.
  function put(id, value, make) {
    const text = JSON.stringify(value);
    if (seen.get(id) === text) return;
    seen.set(id, text);
    at(id).replaceChildren(...make(value));
  }

  const write = (id, text) => put(id, text, (text) => [String(text)]);

  // Figures.

  const whole = (number) => Math.round(number).toLocaleString("en");
  const digits = (number) => number >= 100 ? whole(number) : number >= 10 ? number.toFixed(1) : number.toFixed(2);
  const percent = (share) => share > 0 && share < 0.01 ? "< 1 %" : share < 1 && share > 0.99 ? "> 99 %" : Math.round(share * 100) + " %";

  function seconds(value) {
    if (value === null || value === undefined) return "–";
    if (value < 0.001) return Math.round(value * 1e6) + " µs";
    if (value < 1) return digits(value * 1000) + " ms";
    return digits(value) + " s";
  }

  function span(value) {
    if (value === null || value === undefined) return "–";
    const units = [[86400, "d"], [3600, "h"], [60, "min"]];
    for (const [size, unit] of units) if (value >= size) return Math.floor(value / size) + " " + unit;
    return Math.max(0, Math.floor(value)) + " s";
  }

  function bytes(value) {
    if (value < 1024) return value + " B";
    if (value < 1048576) return digits(value / 1024) + " KiB";
    return digits(value / 1048576) + " MiB";
  }

  const moment = (time) => new Date(time).toISOString().replace("T", " ").slice(0, 19) + " UTC";
  const day = (time) => new Date(time).toISOString().slice(0, 10);
  const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);

  // Histograms: what lies between two of them, and within how long a share of it was.

  function between(before, after) {
    const earlier = before ? before.buckets : [];
    return {
      buckets: after.buckets.map(([bound, count], index) => [bound, count - (earlier[index] ? earlier[index][1] : 0)]),
      count: after.count - (before ? before.count : 0),
      sum: after.sum - (before ? before.sum : 0),
    };
  }

  function within(times, share) {
    if (times.count <= 0) return null;
    let left = times.count * share, lower = 0;
    for (const [bound, count] of times.buckets) {
      if (count >= left && count > 0) return lower + (bound - lower) * (left / count);
      left -= count;
      lower = bound;
    }
    return lower;
  }

  const commands = (status) => sum(Object.values(status.traffic.outcomes));
  const refused = (status) => status.traffic.outcomes.refused || 0;

  /// A figure a second between two samples.
  function rate(of, before, after) {
    const time = (after.at - before.at) / 1000;
    return time > 0 ? Math.max(0, of(after) - of(before)) / time : 0;
  }

  function recent() {
    const now = samples[samples.length - 1];
    const before = samples.find((sample) => now.at - sample.at <= RECENT);
    return before === now ? null : before;
  }

  // Charts.

  function chart(id, name, lines, format) {
    const most = Math.max(...lines.flatMap((line) => line.points), 0);
    const top = most || 1;
    const width = KEPT - 1;
    const shapes = lines.map((line, index) => {
      const from = KEPT - line.points.length;
      const points = line.points.map((value, at) => (from + at) + "," + (100 - 96 * value / top).toFixed(1));
      return drawn("polyline", { points: points.join(" "), class: "s" + index });
    });
    const latest = lines.map((line) => line.name + " " + format(line.points[line.points.length - 1] || 0));
    const label = name + ": now " + latest.join(", ") + "; most in 5 minutes " + format(most);
    const svg = drawn("svg", { viewBox: "0 0 " + width + " 100", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...shapes);
    const legend = lines.map((line, index) => element("li", {},
      drawn("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" }, drawn("path", { d: "M0 5H32", class: "stroke s" + index })),
      latest[index]));
    at(id).replaceChildren(element("p", { class: "most" }, "top: " + format(top)), svg, element("ul", { class: "legend" }, ...legend));
  }

  function charts() {
    const pairs = samples.slice(1).map((after, index) => [samples[index], after]);
    chart("throughput", "Throughput", [
      { name: "commands", points: pairs.map(([before, after]) => rate(commands, before, after)) },
      { name: "refused", points: pairs.map(([before, after]) => rate(refused, before, after)) },
    ], (value) => digits(value) + "/s");
    const times = samples.slice(1).map((after, index) =>
      between(samples[Math.max(0, index - 4)].traffic.requests, after.traffic.requests));
    chart("latency", "Latency", [["half", 0.5], ["95 %", 0.95], ["99 %", 0.99]].map(([name, share]) => ({
      name: name, points: times.map((times) => within(times, share) || 0),
    })), seconds);
  }

  function bar(parts) {
    let from = 0;
    const shapes = parts.map(([kind, share]) => {
      const shape = drawn("rect", { x: from.toFixed(2), y: 0, width: (share * 100).toFixed(2), height: 10, class: "f-" + kind });
      from += share * 100;
      return shape;
    });
    return element("td", { class: "bar" }, drawn("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, ...shapes));
  }

  // Tables.

  /// Names may be as long as someone likes.
  const classes = (text, kind) => [kind, String(text).length > 30 && kind !== "why" ? "long" : ""].join(" ").trim();
  const cell = (text, kind) => element("td", { class: classes(text, kind) }, text === null || text === undefined || text === "" ? "–" : String(text));
  const head = (text) => element("th", { scope: "row", class: classes(text) }, String(text));
  const empty = (columns, text) => element("tr", {}, element("td", { colspan: columns, class: "quiet" }, text));

  function table(id, list, columns, nothing, make) {
    put(id, list, (list) => list.length ? list.map((item) => element("tr", {}, ...make(item))) : [empty(columns, nothing)]);
  }

  const SIGNS = {
    primary: ["good", "● "], mongos: ["good", "● "], standalone: ["good", "● "], secondary: ["good", "○ "],
    other: ["warn", "◇ "], down: ["bad", "✕ "], active: ["good", "● "], staged: ["warn", "◇ "],
    retired: ["quiet", "○ "], disabled: ["bad", "✕ "], destroyed: ["bad", "✕ "], missing: ["bad", "✕ "],
  };

  function state(word) {
    const [kind, sign] = SIGNS[word] || ["", ""];
    return element("span", { class: kind + " state" }, element("span", { "aria-hidden": "true" }, sign), word);
  }

  function routes(status) {
    const list = status.routes.map((route) => Object.assign({}, route, {
      since: span((status.at - route.since) / 1000), trip: route.round_trip_milliseconds === null ? "–" : seconds(route.round_trip_milliseconds / 1000),
    }));
    list.forEach((route) => delete route.round_trip_milliseconds);
    table("routes", list, 6, "no route", (route) => [
      head(route.advertise), cell(route.upstream),
      element("td", {}, state(route.state), route.fault ? element("div", { class: "quiet" }, route.fault) : null),
      cell(route.since), cell(route.trip, "n"),
      cell((route.name || "–") + (route.set ? " in " + route.set : "")),
    ]);
    const none = status.unrouted;
    at("unrouted").hidden = none.length === 0;
    write("unrouted", none.length ? "Without a route, so that clients are not told of them: " + none.join(", ") : "");
  }

  function phases(status) {
    const before = recent();
    let times = status.traffic.phases.map((phase, index) =>
      [phase.phase, between(before && before.traffic.phases[index], phase)]);
    if (sum(times.map(([, time]) => time.count)) === 0) times = status.traffic.phases.map((phase) => [phase.phase, phase]);
    const all = sum(times.map(([, time]) => time.sum));
    table("phases", times, 5, "nothing was sent yet", ([name, time]) => {
      const share = all > 0 ? time.sum / all : 0;
      return [head(name), cell(seconds(time.count ? time.sum / time.count : null), "n"), cell(seconds(within(time, 0.95)), "n"), cell(percent(share), "n"), bar([["share", share]])];
    });
    table("commands", status.traffic.commands, 5, "nothing was sent yet", (sent) => [
      head(sent.command), cell(sent.namespace), cell(whole((sent.outcomes.ok || 0) + (sent.outcomes.sent || 0)), "n"),
      cell(whole(sent.outcomes.error || 0), "n"), cell(whole(sent.outcomes.refused || 0), "n"),
    ]);
  }

  function coverage(status) {
    const seen = status.coverage;
    const stored = seen.source === "database";
    const when = seen.at ? "seen " + moment(seen.at) : "not seen yet";
    write("coverage-source", !stored
      ? "What this proxy opened for clients since its start. With `database` in [admin] the page shows what is stored."
      : seen.fault ? "MongoDB cannot be looked at: " + seen.fault
      : "What is stored, in a sample of up to " + seen.sample + " documents of each collection, " + when + ".");
    put("jobs", seen.jobs, (jobs) => jobs.map(job));
    const active = (field) => sum(field.versions.filter((version) => version.state === "active").map((version) => version.values));
    table("coverage", seen.fields, 6, stored ? "nothing was looked at yet" : "nothing was opened yet", (field) => {
      const sealed = sum(field.versions.map((version) => version.values));
      const all = sealed + (field.plain || 0) + (field.unreadable || 0);
      const share = (number) => all > 0 ? number / all : 0;
      const versions = field.versions.map((version) => element("div", {}, version.key + " v" + version.version + " ",
        state(version.state), " " + whole(version.values)));
      if (field.unreadable) versions.push(element("div", { class: "bad" }, "unreadable " + whole(field.unreadable)));
      return [head(field.namespace), cell(field.path), cell(field.plain === undefined ? null : whole(field.plain), "n"),
        element("td", {}, ...(versions.length ? versions : ["–"])), cell(all ? percent(share(active(field))) : "–", "n"),
        bar([["active", share(active(field))], ["old", share(sealed - active(field))], ["plain", share((field.plain || 0) + (field.unreadable || 0))]])];
    });
  }

  function job(job, index) {
    const done = Math.min(job.looked_at, job.documents);
    const words = whole(job.looked_at) + " of about " + whole(job.documents) + " documents in pass " + job.pass + ", " + whole(job.changed) + " changed"
      + (job.left ? ", " + whole(job.left) + " left as they are" : "") + (job.updated ? "; noted " + moment(job.updated) : "");
    const id = "job-" + index;
    return element("div", { class: "job" }, element("label", { for: id }, element("code", {}, job.job)),
      element("progress", { id: id, max: Math.max(1, job.documents), value: done }), element("div", { class: "quiet" }, words));
  }

  function sealed(status) {
    const fields = status.sealed.flatMap((collection) => collection.fields.map((field) => [collection, field]));
    table("sealed", fields, 8, "the schema seals nothing", ([collection, field]) => [
      head(collection.namespace), cell(field.path), cell(field.types + (field.elements ? ", by element" : "")), cell(field.queries),
      cell(field.mask), cell(field.key), cell(field.suite || "the key’s"), cell(collection.on_plaintext),
    ]);
  }

  function keys(status) {
    write("keys-caption", "Key versions and index epochs, generation " + status.generation + " of the key file; values sealed are since the start");
    const list = status.keys.map((key) => Object.assign({}, key, { age_seconds: span(key.age_seconds) }));
    table("keys", list, 6, "no key", (key) => [
      head(key.key), cell(key.kind + " " + key.number, "fit"), element("td", {}, state(key.state)), cell(key.age_seconds, "n"),
      cell(key.suite, "fit"), cell(key.sealed === null ? null : whole(key.sealed), "n"),
    ]);
    const sides = { listen: "clients", upstream: "MongoDB", admin: "operators" };
    const ends = status.certificates.map((end) => [sides[end.side] || end.side, day(end.until), Math.floor((end.until - status.at) / 86400000)]);
    table("certificates", ends, 3, "TLS is not used", ([side, until, left]) => [
      head(side), cell(until), element("td", { class: left < 21 ? "n bad" : "n" }, left < 0 ? "ended" : left + " d" + (left < 21 ? ", renew it" : "")),
    ]);
  }

  function refusals(status) {
    table("refusals", status.refusals, 5, "nothing was refused", (refusal) => [
      cell(moment(refusal.at), "time"), cell(refusal.command), cell(refusal.namespace), cell(refusal.reason), cell(refusal.why, "why"),
    ]);
  }

  function tiles(status) {
    const before = recent();
    const times = before ? between(before.traffic.requests, status.traffic.requests) : { buckets: [], count: 0 };
    const connections = status.traffic.connections;
    const away = sum(connections.turned_away.map((turned) => turned.count));
    const list = [
      ["Commands", before ? digits(rate(commands, before, status)) + "/s" : "–"], ["Refused", before ? digits(rate(refused, before, status)) + "/s" : "–"],
      ["Half are within", seconds(within(times, 0.5))], ["95 % within", seconds(within(times, 0.95))], ["99 % within", seconds(within(times, 0.99))],
      ["Connections", whole(connections.open)], ["Turned away", whole(away)],
      ["Large messages in memory", bytes(status.traffic.memory_in_flight)],
      ["Reloads", whole(status.traffic.reloads) + (status.traffic.reloads_refused ? ", " + whole(status.traffic.reloads_refused) + " refused" : "")],
      ["Up for", span((status.at - status.started) / 1000)],
    ];
    put("tiles", list, (list) => list.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  /// Says aloud what changed, and nothing of what only moves.
  function announce(status) {
    const was = last ? new Map(last.routes.map((route) => [route.listen, route.state])) : new Map();
    const changes = status.routes.filter((route) => was.has(route.listen) && was.get(route.listen) !== route.state)
      .map((route) => "The member " + route.upstream + " is now " + route.state + ".");
    if (last && last.ready !== status.ready) changes.push(status.ready ? "The proxy is ready." : "The proxy is not ready: " + status.reasons.join("; ") + ".");
    if (changes.length) at("changes").textContent = changes.join(" ");
  }

  function show(status) {
    announce(status);
    // After a restart the counts begin anew.
    if (last && last.started !== status.started) samples.length = 0;
    samples.push(status);
    if (samples.length > KEPT) samples.shift();
    last = status;
    write("version", status.version);
    const badge = at("ready");
    badge.className = "badge " + (status.ready ? "good" : "bad");
    badge.textContent = status.ready ? "✓ ready" : "✕ not ready: " + status.reasons.join("; ");
    document.title = (status.ready ? "" : "(not ready) ") + "Fieldseal";
    write("age", moment(status.at));
    for (const part of [tiles, charts, routes, phases, coverage, sealed, keys, refusals]) part(status);
  }

  async function ask() {
    const alarm = at("silent");
    try {
      // Not relative: what a browser was given as user and password may stand in the address.
      const path = location.origin + location.pathname.replace(/[^/]*$/, "") + "status.json";
      const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (!answer.ok) throw new Error("it answers " + answer.status);
      show(await answer.json());
      alarm.hidden = true;
    } catch (error) {
      alarm.textContent = "The proxy does not answer; what is shown is old. (" + error.message + ")";
      alarm.hidden = false;
    }
  }

  async function keepAsking() {
    if (!paused && !document.hidden) await ask();
    setTimeout(keepAsking, PERIOD);
  }

  at("pause").addEventListener("click", () => {
    paused = !paused;
    at("pause").setAttribute("aria-pressed", String(paused));
  });
  keepAsking();
})();
