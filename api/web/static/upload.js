// Sends a zip in pieces (tus): with progress, and going on where it stopped when the line or the page went away.
const form = document.getElementById("upload");
const input = form.elements.file;
const drop = document.getElementById("drop");
const sending = document.getElementById("sending");
const bar = document.getElementById("sending-progress");
const said = document.getElementById("sending-said");
const pause = document.getElementById("sending-pause");
const complaint = document.getElementById("upload-error");
const words = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

const megabytes = (bytes) => `${words.format(bytes / 1e6)} MB`;

function tell(name) {
  document.getElementById("chosen").textContent = name;
}

input.addEventListener("change", () => input.files.length && tell(`${input.files[0].name}, ${megabytes(input.files[0].size)}`));

for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  if (!event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event("change"));
});

function wishes(file) {
  const found = { filename: file.name };
  for (const [name, value] of new FormData(form)) {
    if (name !== "file" && value) found[name] = value;
  }
  return found;
}

function refused(error) {
  sending.hidden = true;
  form.querySelector("[type=submit]").disabled = false;
  complaint.hidden = false;
  let detail = "The connection to the service broke. Press Upload again: it goes on where it stopped.";
  try {
    detail = JSON.parse(error.originalResponse.getBody()).detail;
  } catch {
    // No answer, or one that is no problem of ours.
  }
  complaint.textContent = detail;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = input.files[0];
  complaint.hidden = true;
  if (!file.size) {
    complaint.hidden = false;
    complaint.textContent = "The file is empty.";
    return;
  }
  form.querySelector("[type=submit]").disabled = true;
  const upload = new tus.Upload(file, {
    endpoint: "/v1/uploads",
    metadata: wishes(file),
    chunkSize: Number(form.dataset.piece),
    retryDelays: [0, 1000, 3000, 5000, 10000],
    removeFingerprintOnSuccess: true,
    onProgress(sent, all) {
      bar.value = sent / all;
      said.textContent = `${megabytes(sent)} of ${megabytes(all)}`;
    },
    onError: refused,
    onSuccess() {
      location.assign(`/datasets/${upload.url.split("/").pop()}`);
    },
  });
  sending.hidden = false;
  document.getElementById("sending-name").textContent = `Sending ${file.name}`;
  bar.value = 0;
  let running = true;
  pause.onclick = async () => {
    running = !running;
    pause.textContent = running ? "Pause" : "Go on";
    if (running) upload.start();
    else await upload.abort();
  };
  const earlier = await upload.findPreviousUploads();
  if (earlier.length) upload.resumeFromPreviousUpload(earlier[earlier.length - 1]);
  upload.start();
});
