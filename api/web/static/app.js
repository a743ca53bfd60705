// Every page: times of day as the reader's clock has them. All else works without this file.
function tellTimes(root) {
  const style = { dateStyle: "medium", timeStyle: "short" };
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(undefined, style);
  }
}

tellTimes(document);
document.addEventListener("htmx:after:swap", () => tellTimes(document));

// A page of the server's that says what went wrong does not take the place of what is on show.
document.addEventListener("htmx:before:swap", (event) => {
  if (event.detail.ctx?.response?.status >= 400) event.preventDefault();
});
