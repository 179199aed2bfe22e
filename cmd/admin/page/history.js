// What was seen in the last minutes: rates are the difference of two counters.

const longest = 310; // seconds

export class History {
  constructor() {
    this.seen = [];
    this.started = "";
  }

  // add remembers a status; a daemon that has started anew counts from 0.
  add(status) {
    if (status.started !== this.started) {
      this.started = status.started;
      this.seen = [];
    }
    const t = new Date(status.at).getTime() / 1000;
    if (this.seen.length > 0 && t <= this.seen.at(-1).t) return;
    const sinks = new Map(status.sinks.map((s) => [s.name, { lag: s.lag_seconds, ...s.work }]));
    this.seen.push({ t, changes: status.changes, sinks });
    while (this.seen[0].t < t - longest) this.seen.shift();
  }

  get now() { return this.seen.at(-1)?.t ?? 0; }

  lag(sink) { return this.seen.map(({ t, sinks }) => ({ t, v: sinks.get(sink)?.lag ?? null })); }

  changes() { return this.rates((s) => s.changes); }

  purges(sink) { return this.rates((s) => s.sinks.get(sink)?.purged); }

  // rates are per second, each over the few seconds before it.
  rates(of) {
    return this.seen.map((now, i) => {
      const then = this.seen[Math.max(0, i - 3)];
      const [a, b] = [of(then), of(now)];
      return { t: now.t, v: i === 0 || a === undefined || b === undefined ? null : Math.max(0, b - a) / (now.t - then.t) };
    });
  }

  // latency is the mean time from commit to purge in the last minute, null
  // without a purge.
  latency(sink) {
    const last = this.seen.at(-1)?.sinks.get(sink);
    const first = this.seen.find((s) => s.t >= this.now - 60)?.sinks.get(sink);
    const n = last && first ? last.latency_count - first.latency_count : 0;
    return n > 0 ? (last.latency_seconds - first.latency_seconds) / n : null;
  }
}
