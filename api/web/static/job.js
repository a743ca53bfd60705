// Looks at a job again whenever the server tells of news (SSE), and every two seconds while it cannot tell.
const EVERY = 1000;
const WITHOUT_NEWS = 2000;

const live = document.getElementById("live");
let wanted = false;
let asked = Date.now();
let stream = null;

const open = () => stream?.readyState === EventSource.OPEN;

function listen() {
  stream = new EventSource(live.dataset.events);
  for (const kind of ["progress", "item", "state"]) stream.addEventListener(kind, () => (wanted = true));
  stream.onerror = () => {
    wanted = true;
    // A browser comes again by itself after a broken line, and not after an answer that was no stream.
    if (stream.readyState === EventSource.CLOSED) stream = null;
  };
}

const timer = setInterval(() => {
  if (!live.dataset.events) {
    // The job is over: what is on show is the last of it.
    stream?.close();
    clearInterval(timer);
    return;
  }
  const now = Date.now();
  if (!wanted && (open() || now - asked < WITHOUT_NEWS)) return;
  if (document.hidden) return;
  [wanted, asked] = [false, now];
  if (stream === null) listen();
  live.dispatchEvent(new CustomEvent("news"));
}, EVERY);

listen();
