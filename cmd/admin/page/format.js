// Numbers for people.

// bytes writes a size; null is one that is not known.
export function bytes(n) {
  if (n === null || n === undefined) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return (i === 0 ? String(n) : n.toFixed(n < 10 ? 1 : 0)) + " " + units[i];
}

// seconds writes a time; null is one that is not known.
export function seconds(s) {
  if (s === null || s === undefined) return "unknown";
  if (s === 0) return "0 s";
  if (s < 1) return (s * 1000).toFixed(s < 0.01 ? 1 : 0) + " ms";
  if (s < 60) return s.toFixed(1) + " s";
  const whole = Math.round(s);
  const [d, h, m] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (d > 0) return d + " d " + h + " h";
  if (h > 0) return h + " h " + m + " min";
  return m + " min " + (whole % 60) + " s";
}

export function rate(n) {
  if (n === null || n === undefined) return "–";
  if (n >= 10000) return (n / 1000).toFixed(0) + "k";
  if (n >= 1000) return (n / 1000).toFixed(1) + "k";
  return n >= 100 || n === 0 ? n.toFixed(0) : n.toFixed(1);
}

export const count = (n) => n.toLocaleString("en");

// clock writes a moment by the reader's clock, with the date if it is not today's.
export function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime()) || at.getTime() <= 0) return "–";
  const time = at.toTimeString().slice(0, 8);
  return at.toDateString() === new Date().toDateString() ? time : at.toLocaleDateString("sv") + " " + time;
}

export const ago = (iso, now) => seconds(Math.max(0, Math.floor((now - new Date(iso)) / 1000)));
