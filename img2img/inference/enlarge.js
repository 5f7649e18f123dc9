// Cards that fill the width of the page: one at a time, by a button (`.enlarge`) and back by Escape.
function enlarge(card) {
  for (const other of document.querySelectorAll(".zoomed")) if (other !== card) set(other, false);
  set(card, !card.classList.contains("zoomed"));
  card.scrollIntoView({ block: "nearest" });
  function set(one, large) {
    one.classList.toggle("zoomed", large);
    one.querySelector(".enlarge").setAttribute("aria-pressed", large);
  }
}
document.addEventListener("click", event => {
  const button = event.target.closest(".enlarge");
  if (button) enlarge(button.closest(".card"));
});
document.addEventListener("keydown", event => {
  const card = event.key === "Escape" && document.querySelector(".zoomed");
  if (card) enlarge(card);
});
