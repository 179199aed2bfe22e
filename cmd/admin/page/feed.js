// Brings status documents: as events while the daemon sends them, else by asking.

const overdue = 4000;   // milliseconds without an event until it is asked
const askEvery = 2000;
const again = 30000;    // until events are tried anew after the daemon refused them

export class Feed {
  // take is given each document, tell how they come: live, polling or lost.
  constructor(take, tell) {
    this.take = take;
    this.tell = tell;
    this.last = performance.now();
    this.asked = 0;
    this.listen();
    setInterval(() => this.check(), 500);
  }

  listen() {
    const source = new EventSource("/api/v1/events");
    source.addEventListener("message", (event) => this.got(JSON.parse(event.data), "live"));
    source.addEventListener("error", () => {
      // Otherwise the browser tries again by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.listen(), again);
    });
  }

  got(document, how) {
    this.last = performance.now();
    if (how === "live") this.live = this.last;
    this.tell(how, 0);
    this.take(document);
  }

  check() {
    const now = performance.now();
    if (now - (this.live ?? 0) > overdue && now - this.asked > askEvery) {
      this.asked = now;
      this.ask();
    }
    if (now - this.last > overdue + askEvery) this.tell("lost", (now - this.last) / 1000);
  }

  async ask() {
    try {
      const response = await fetch("/api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (response.ok) this.got(await response.json(), "polling");
    } catch {
      // check says so when it has lasted.
    }
  }
}
