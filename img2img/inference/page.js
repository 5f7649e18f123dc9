// What the scripts of all pages do alike. A page's own script, around this one, has the functions
//   prepare(view): adds controls to a picture whose images are there;
//   admitted(card): whether the page's own choices show a card;
//   chosen(shown): called with the cards that are shown, whenever that changes.
document.documentElement.classList.add("js");
const cards = Array.from(document.querySelectorAll(".card"), card =>
  ({ card, name: card.querySelector("bdi").textContent.toLowerCase() }));
const controls = document.getElementById("controls").content;

// A browser loads `data:` pictures at once, whatever `loading` says. In <noscript> they are mere text until they come near.
const near = new IntersectionObserver(seen => seen.forEach(({ isIntersecting, target }) => {
  if (!isIntersecting) return;
  near.unobserve(target);
  show(target);
}), { rootMargin: "100% 0px" });
document.querySelectorAll(".view:not(.none)").forEach(view => near.observe(view));

function show(view) {
  const pictures = view.querySelector(".pictures"), held = pictures.querySelector("noscript");
  const images = new DOMParser().parseFromString(held.textContent, "text/html").images;
  const { width, height } = images[0];
  pictures.style.setProperty("--ratio", width / height);
  Array.from(images).forEach(image => image.classList.toggle("small", Math.max(width, height) < 100));
  held.replaceWith(...images);
  prepare(view);
}

/* enlarge.js */

const filter = document.getElementById("filter"), count = document.getElementById("shown");
const choices = Array.from(document.querySelectorAll(".choice button"));
function choice() {
  const pressed = choices.find(one => one.getAttribute("aria-pressed") === "true");
  return pressed ? pressed.value : "";
}
function choose() {
  const words = filter.value.toLowerCase().split(" ").filter(Boolean), shown = [];
  for (const { card, name } of cards) {
    card.hidden = !admitted(card) || !words.every(word => name.includes(word));
    if (!card.hidden) shown.push(card);
  }
  count.textContent = shown.length === cards.length ? ""
    : shown.length ? shown.length + " of " + cards.length + " images" : "No image matches";
  chosen(shown);
}
filter.addEventListener("input", choose);
document.addEventListener("click", event => {
  const pressed = event.target.closest(".choice button");
  if (!pressed) return;
  for (const one of choices) one.setAttribute("aria-pressed", one === pressed);
  choose();
});
