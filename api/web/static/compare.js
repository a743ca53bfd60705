// Lays the new image over its source and draws a curtain between them.
const box = document.getElementById("compare");

if (box) {
  const slide = box.querySelector("input");
  const after = document.getElementById("after");
  const draw = () => (after.style.clipPath = `inset(0 0 0 ${slide.value}%)`);
  slide.addEventListener("input", draw);
  draw();
}

// The arrow keys go from image to image, unless they move something.
document.addEventListener("keydown", (event) => {
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (rel && event.target.tagName !== "INPUT" && !event.altKey && !event.ctrlKey && !event.metaKey) {
    document.querySelector(`a[rel=${rel}]`)?.click();
  }
});
