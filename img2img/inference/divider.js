// The divider between two pictures (`.view.two` with a `.pair` that holds them, a range and the divider): dragging moves it,
// from anywhere in the picture, and so do keys. A page has pressed(view): what a press without movement does.
function place(pair, percent) {
  const at = Math.min(100, Math.max(0, percent)), range = pair.querySelector("input");
  pair.style.setProperty("--at", at + "%");
  range.value = Math.round(at);
  range.setAttribute("aria-valuetext", range.value + " % before");
}

let drag = null;
document.addEventListener("pointerdown", event => {
  const view = event.target.closest(".view.two");
  if (!view || event.button || drag || event.target.closest("button")) return;
  drag = { view, pair: view.querySelector(".pair"), from: event.clientX, id: event.pointerId, moved: false };
  view.setPointerCapture(event.pointerId);
});
document.addEventListener("pointermove", event => {
  if (!drag || event.pointerId !== drag.id) return;
  if (!drag.moved && Math.abs(event.clientX - drag.from) < 4) return;
  drag.moved = true;
  drag.view.classList.add("sliding");
  const box = drag.pair.getBoundingClientRect();
  place(drag.pair, (event.clientX - box.left) / box.width * 100);
});
function release(event) {
  if (!drag || event.pointerId !== drag.id) return;
  const { view, moved } = drag;
  drag = null;
  view.classList.remove("sliding");
  if (!moved && event.type === "pointerup") pressed(view);
}
document.addEventListener("pointerup", release);
document.addEventListener("pointercancel", release);
document.addEventListener("input", event => {
  if (event.target.matches(".pair input")) place(event.target.parentElement, Number(event.target.value));
});
