// The form of a new expansion: shows what belongs to the choices made, sliders, and the mask as it would be.
const form = document.getElementById("spec");
const sample = document.getElementById("sample");
const picture = document.getElementById("mask");
const said = document.getElementById("mask-said");
const explained = said?.innerHTML;

function unfold() {
  // Outer choices come first in the document, so that what is inside one that is not taken is off as well.
  for (const group of form.querySelectorAll("fieldset.of")) {
    const chosen = document.getElementById(group.dataset.of).value === group.dataset.kind;
    group.hidden = group.disabled = !chosen;
  }
}

for (const slider of form.querySelectorAll("input[type=range]")) {
  const number = document.getElementById(slider.dataset.for);
  slider.addEventListener("input", () => {
    number.value = slider.value;
    number.dispatchEvent(new Event("input", { bubbles: true }));
  });
  number.addEventListener("input", () => (slider.value = number.value));
}

let asking = null;
let waiting = 0;

async function look() {
  asking?.abort();
  asking = new AbortController();
  const asked = new URLSearchParams(new FormData(form));
  asked.set("image", sample.value);
  try {
    const answer = await fetch(`${form.dataset.mask}?${asked}`, { signal: asking.signal });
    picture.classList.toggle("stale", !answer.ok);
    if (!answer.ok) {
      said.textContent = (await answer.json()).detail;
      return;
    }
    const old = picture.src;
    picture.src = URL.createObjectURL(await answer.blob());
    picture.dataset.drawn = String(Number(picture.dataset.drawn ?? 0) + 1);
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    said.innerHTML = explained;
  } catch (error) {
    if (error.name !== "AbortError") said.textContent = "The service does not answer. The mask shown is the last one.";
  }
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(look, 150);
}

form.addEventListener("change", unfold);
unfold();
if (sample) {
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  look();
}
