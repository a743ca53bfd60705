// A slider beside each bound; at its open end there is no bound.
for (const slider of document.querySelectorAll("#filters input[type=range]")) {
  const number = document.getElementById(slider.dataset.for);
  slider.addEventListener("input", () => {
    number.value = slider.value === slider.dataset.open ? "" : Number(Number(slider.value).toPrecision(4));
  });
  number.addEventListener("input", () => (slider.value = number.value === "" ? slider.dataset.open : number.value));
}
