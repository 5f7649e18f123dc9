"use strict";
// The page: sends pictures, asks for their restoration, shows what became of them. Names come from anywhere and are only
// ever text. What the server holds is the truth: the page asks for its state and can be loaded again at any time.
document.documentElement.classList.add("js");
const $ = id => document.getElementById(id);
const gallery = document.querySelector(".gallery"), template = $("card").content;
const cards = new Map(); // by the picture's id; those still to be sent by a number
const toSend = [], toRestore = [];
let models = [], megabytes = Infinity, suffixes = [], count = 0;

const model = () => models.find(one => one.name === $("model").value) || models[0];
const strength = () => Number($("strength").value) / 100;
const pause = milliseconds => new Promise(go => setTimeout(go, milliseconds));

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    complain("The server does not answer. If it has ended, start img2img serve again and open its new address.");
    throw new Error("no answer");
  }
  if (answer.ok || answer.status === 503) return answer;
  const said = await answer.json().then(found => found.error, () => answer.statusText);
  throw Object.assign(new Error(said), { status: answer.status });
}
function complain(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}
// Waits while the server is busy.
async function insist(path, options) {
  for (;;) {
    const answer = await ask(path, options);
    if (answer.status !== 503) return answer;
    await pause(1000 * Number(answer.headers.get("retry-after") || 1));
  }
}

// Pictures come in ------------------------------------------------------------------------------------------------

function take(files) { // [file, name with folders]
  let others = 0;
  for (const [file, name] of files) {
    const hidden = name.split("/").some(part => part.startsWith("."));
    if (hidden || !suffixes.some(suffix => name.toLowerCase().endsWith(suffix))) { others++; continue; }
    const card = newCard("sending-" + count++, { name, state: "sending" });
    if (file.size > megabytes * 1e6) {
      update(card, { name, state: "failed", reason: `${name} is larger than ${megabytes} MB, the limit of this server` });
    } else {
      toSend.push({ file, card });
    }
  }
  complain(others ? `${others} ${others > 1 ? "files are" : "file is"} not named like a picture and passed over.` : "");
  send();
  tell();
}
let sending = 0;
async function send() {
  while (sending < 2 && toSend.length) {
    const { file, card } = toSend.shift();
    if (!card.element.isConnected) continue; // removed meanwhile
    sending++;
    const name = card.about.name;
    insist("pictures?name=" + encodeURIComponent(name), { method: "POST", body: file })
      .then(answer => answer.json())
      .then(about => {
        cards.delete(card.id);
        if (!card.element.isConnected) return ask("pictures/" + about.id, { method: "DELETE" });
        cards.set(card.id = about.id, card);
        update(card, about);
        if (!model().mask) restore(card);
      })
      .catch(error => update(card, { name, state: "failed", reason: error.message }))
      .finally(() => { sending--; send(); tell(); });
  }
}
function restore(card) {
  toRestore.push(card);
  update(card, { ...card.about, state: "waiting", share: 0 });
  feed();
}
let feeding = false;
async function feed() {
  if (feeding) return;
  feeding = true;
  while (toRestore.length) {
    const card = toRestore.shift();
    if (!cards.has(card.id)) continue;
    const choices = new URLSearchParams({ model: model().name });
    if (model().uncertainty && $("uncertain").querySelector("input").checked) choices.set("uncertainty", "1");
    try {
      const answer = await insist(`pictures/${card.id}/restore?${choices}`, { method: "POST" });
      update(card, await answer.json());
    } catch (error) {
      update(card, { ...card.about, state: "failed", reason: error.message });
    }
    watch();
  }
  feeding = false;
}
const busy = () => Array.from(cards.values()).some(card => ["waiting", "running"].includes(card.about.state));
let watching = false;
async function watch() {
  if (watching) return;
  watching = true;
  while (busy()) {
    await pause(300 + cards.size);
    try {
      (await state()).pictures.forEach(about => {
        const card = cards.get(about.id);
        if (card && !toRestore.includes(card)) update(card, about);
      });
    } catch {
      await pause(3000);
    }
  }
  watching = false;
}
const state = async () => (await ask("state")).json();

$("choose").addEventListener("click", () => $("files").click());
$("choose-folder").addEventListener("click", () => $("folder").click());
for (const input of [$("files"), $("folder")]) {
  input.addEventListener("change", () => {
    take(Array.from(input.files, file => [file, file.webkitRelativePath || file.name]));
    input.value = "";
  });
}
document.addEventListener("paste", event => take(Array.from(event.clipboardData.files, file => [file, file.name])));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    document.documentElement.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
  });
}
document.addEventListener("drop", async event => {
  const entries = Array.from(event.dataTransfer.items, item => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  take(found);
});
async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push([file, entry.fullPath.replace(/^\//, "")]);
    return;
  }
  const reader = entry.createReader();
  for (;;) { // a folder is read in portions
    const portion = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!portion.length) return;
    for (const each of portion) await walk(each, found);
  }
}

// Cards -----------------------------------------------------------------------------------------------------------

function newCard(id, about) {
  const element = document.importNode(template, true).firstElementChild;
  const part = name => element.querySelector(name);
  const [folder, file] = about.name.includes("/") ? about.name.split(/\/(?=[^/]*$)/) : ["", about.name];
  if (folder) part("bdi").append(Object.assign(document.createElement("span"), { className: "folder", textContent: folder + "/" }));
  part("bdi").append(file);
  part(".pair input").setAttribute("aria-label", "Divider between before and after: " + about.name);
  part(".enlarge").setAttribute("aria-label", "Enlarge " + about.name);
  part("progress").setAttribute("aria-label", "Progress of " + about.name);
  const card = { id, element, part, about: {}, near: false };
  part(".remove").addEventListener("click", () => remove(card));
  part(".actions .again").addEventListener("click", () => restore(card));
  part(".holes").addEventListener("click", () => paint(card));
  part(".show-sigma").addEventListener("click", event => {
    const shown = event.target.getAttribute("aria-pressed") !== "true";
    event.target.setAttribute("aria-pressed", shown);
    draw(card);
  });
  element.card = card;
  gallery.append(element);
  cards.set(id, card);
  near.observe(element);
  update(card, about);
  return card;
}

// Shows what is known of a picture.
function update(card, about) {
  const { part, element } = card, before = card.about;
  card.about = about;
  if (JSON.stringify(before) === JSON.stringify(about)) return;
  const { state } = about, done = state === "restored", working = ["sending", "waiting", "running"].includes(state);
  element.dataset.state = state;
  part("progress").hidden = !working;
  if (state === "running" && about.share) part("progress").value = about.share;
  else part("progress").removeAttribute("value");
  part(".reason").textContent = about.reason || "";
  part(".reason").hidden = state !== "failed";
  const size = about.width ? `${about.width}×${about.height}` : "";
  const facts = [size, about.bits === undefined ? "" : about.bits ? `${about.bits} bits` : "floats",
    about.pages > 1 ? `${about.pages} pages` : "", { sending: "is sent", waiting: "waits", running: "is restored" }[state],
    done ? `${about.seconds} s` : "", done ? about.model : "", ...(about.losses || [])];
  part(".details").replaceChildren(...facts.filter(Boolean).map(text =>
    Object.assign(document.createElement("li"), { textContent: text })));
  part("bdi").title = about.name;
  if (done) aim(card);
  part(".download").hidden = !done;
  part(".show-sigma").hidden = part(".map").hidden = !(done && about.uncertainty);
  if (!(done && about.uncertainty)) part(".show-sigma").setAttribute("aria-pressed", false);
  if (about.version !== before.version || about.id !== before.id) card.loaded = null;
  offer(card);
  if (card.near) load(card);
  tell();
}
// Says which buttons make sense with the model that is chosen.
function offer({ part, about }) {
  const rests = about.id && ["stored", "failed", "restored"].includes(about.state), chosen = model();
  part(".holes").hidden = !(rests && chosen.mask);
  const other = about.state !== "restored" || about.model !== chosen.name || (wantsSigma() && !about.uncertainty);
  part(".actions .again").hidden = !(rests && other && (!chosen.mask || about.masked));
  part(".actions .again").textContent = about.state === "restored" ? "Restore again" : "Restore";
}
const wantsSigma = () => model().uncertainty && $("uncertain").querySelector("input").checked;
function aim(card) {
  card.part(".download").href = `pictures/${card.id}/download?strength=${strength()}`;
  card.part(".map").href = `pictures/${card.id}/download?uncertainty=1`;
}
async function remove(card) {
  cards.delete(card.id);
  card.element.remove();
  tell();
  if (card.about.id) await ask("pictures/" + card.id, { method: "DELETE" }).catch(error => complain(error.message));
}

// Counts, and what concerns all pictures.
function tell() {
  const states = Array.from(cards.values(), card => card.about.state), of = state => states.filter(one => one === state).length;
  const done = of("restored"), failed = of("failed"), waits = model() && model().mask && of("stored");
  document.documentElement.classList.toggle("some", cards.size > 0);
  $("shown").textContent = !cards.size ? "" : `${done} of ${cards.size} restored` + (failed ? `, ${failed} failed` : "")
    + (waits ? `; paint what should be filled in ${waits > 1 ? "the others" : "the other one"}` : "");
  $("all").hidden = done < 2;
  $("all").textContent = `Download all ${done}`;
  $("all").href = `pictures.zip?strength=${strength()}`;
  $("clear").hidden = !cards.size;
  const others = Array.from(cards.values()).some(card => !card.part(".actions .again").hidden && card.about.state === "restored");
  $("again").hidden = !others;
}
$("clear").addEventListener("click", async () => {
  toSend.length = toRestore.length = 0;
  for (const card of cards.values()) card.element.remove();
  cards.clear();
  tell();
  await ask("pictures", { method: "DELETE" }).catch(error => complain(error.message));
});
$("again").addEventListener("click", () => {
  for (const card of cards.values()) if (!card.part(".actions .again").hidden) restore(card);
});
function changed() {
  $("about").textContent = model().summary;
  $("uncertain").hidden = !model().uncertainty;
  for (const card of cards.values()) offer(card);
  tell();
}
$("model").addEventListener("change", changed);
$("uncertain").addEventListener("change", changed);

// Before and after ------------------------------------------------------------------------------------------------

// Only pictures near the window are held, so that the browser's memory does not grow with their number.
const near = new IntersectionObserver(seen => seen.forEach(({ isIntersecting, target }) => {
  const { card } = target;
  card.near = isIntersecting;
  if (isIntersecting) load(card);
  else if (!target.classList.contains("zoomed")) unload(card);
}), { rootMargin: "100% 0px" });

function load(card) {
  const { about } = card, version = about.state === "restored" ? about.version : "";
  if (about.id && card.loaded !== version) {
    card.loaded = version;
    card.loading = fetchPictures(card, version);
  }
  return card.loading;
}
async function fetchPictures(card, version) {
  const { part } = card;
  try {
    const before = await picture(`pictures/${card.id}/before`);
    const after = version ? await picture(`pictures/${card.id}/after?${version}`) : null;
    if (card.loaded !== version) return;
    const { naturalWidth: width, naturalHeight: height } = after || before;
    const pair = part(".pair");
    pair.style.setProperty("--ratio", width / height);
    part(".before").src = before.src;
    part(".before").hidden = false;
    for (const kind of [".before", ".after", ".paint", ".sigma"]) part(kind).classList.toggle("small", Math.max(width, height) < 100);
    card.images = { before, after };
    card.element.querySelector(".view").classList.toggle("two", Boolean(after));
    for (const control of [".pair input", ".divider", ".view figcaption", ".after"]) part(control).hidden = !after;
    if (after) place(pair, Number(part(".pair input").value));
    else pair.style.setProperty("--at", "100%"); // all of it is before
    draw(card);
  } catch (error) {
    if (card.about.state === "failed") return; // which says more
    part(".reason").textContent = error.message;
    part(".reason").hidden = false;
  }
}
function unload(card) {
  card.loaded = card.images = null;
  card.part(".before").removeAttribute("src");
  card.part(".sigma").removeAttribute("src");
  card.part(".after").width = card.part(".after").height = 0;
}
async function picture(address) {
  const image = new Image();
  image.src = address;
  await image.decode().catch(() => { throw new Error("the picture cannot be shown"); });
  return image;
}

// Draws the picture at the strength that is chosen, as the server will make it.
function draw(card) {
  if (!card.images || !card.images.after) return;
  const { before, after } = card.images, canvas = card.part(".after"), s = strength();
  const sigma = card.part(".show-sigma").getAttribute("aria-pressed") === "true";
  const address = `pictures/${card.id}/uncertainty?${card.about.version}`;
  if (sigma && !card.part(".sigma").src.endsWith(address)) card.part(".sigma").src = address;
  card.part(".sigma").hidden = !sigma;
  canvas.hidden = sigma;
  card.part("figcaption .right").textContent = sigma ? "σ, white from 0.125" : s === 1 ? "after" : `after, ${Math.round(s * 100)} %`;
  mix(canvas, before, after, s);
}
let drawing = 0;
$("strength").addEventListener("input", () => {
  $("percent").textContent = $("strength").value + " %";
  $("strength").setAttribute("aria-valuetext", $("strength").value + " percent");
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(() => {
    for (const card of cards.values()) {
      if (card.about.state === "restored") aim(card);
      draw(card);
    }
    tell();
  });
});
function pressed(view) { // without dragging, see divider.js
  enlarge(view.closest(".card"));
}

// Painting what should be filled ----------------------------------------------------------------------------------

async function paint(card) {
  const { part, element } = card, canvas = part(".paint"), cursor = part(".cursor"), view = part(".view");
  await load(card);
  if (!card.images) return;
  if (!element.classList.contains("zoomed")) enlarge(element);
  const { naturalWidth: width, naturalHeight: height } = card.images.before, pen = canvas.getContext("2d");
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  canvas.setAttribute("aria-label", "What should be filled in " + card.about.name + ": arrows move the brush, Space paints");
  const size = part(".size");
  size.max = Math.max(8, Math.round(Math.max(width, height) / 3));
  size.value = Math.round(Math.max(width, height) / 25);
  let at = [width / 2, height / 2], last = null;
  const hide = [".after", ".divider", ".pair input", ".view figcaption", ".actions", ".sigma"];
  for (const each of hide) part(each).hidden = true;
  for (const each of [".paint", ".cursor", ".brush"]) part(each).hidden = false;
  view.classList.remove("two");
  part(".pair").style.setProperty("--at", "100%");
  move(at);
  canvas.focus({ preventScroll: true });

  function move(to) {
    at = [Math.min(width, Math.max(0, to[0])), Math.min(height, Math.max(0, to[1]))];
    cursor.style.left = at[0] / width * 100 + "%";
    cursor.style.top = at[1] / height * 100 + "%";
    cursor.style.width = size.value / width * 100 + "%";
    cursor.style.aspectRatio = "1";
  }
  function stroke(from, to) {
    pen.strokeStyle = "#f0f";
    pen.lineWidth = size.value;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(to[0] + 0.01, to[1]); // a line without length would draw nothing
    pen.stroke();
  }
  const where = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
  };
  canvas.onpointerdown = event => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    move(last = where(event));
    stroke(last, last);
  };
  canvas.onpointermove = event => {
    move(where(event));
    if (last) stroke(last, last = where(event));
  };
  canvas.onpointerup = canvas.onpointercancel = () => { last = null; };
  canvas.onkeydown = event => {
    const step = (event.shiftKey ? 3 : 0.5) * size.value, way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (way[event.key]) move(at.map((value, axis) => value + step * way[event.key][axis]));
    else if (event.key === " ") stroke(at, at);
    else return;
    event.preventDefault();
  };
  size.oninput = () => move(at);
  part(".wipe").onclick = () => pen.clearRect(0, 0, width, height);
  part(".leave").onclick = () => leave();
  part(".fill").onclick = async () => {
    const mask = document.createElement("canvas"), dark = mask.getContext("2d");
    mask.width = width;
    mask.height = height;
    dark.fillRect(0, 0, width, height);
    dark.drawImage(canvas, 0, 0);
    const body = await new Promise(done => mask.toBlob(done, "image/png"));
    try {
      const answer = await insist(`pictures/${card.id}/mask`, { method: "PUT", body });
      leave();
      update(card, await answer.json());
      restore(card);
    } catch (error) {
      part(".reason").textContent = error.message;
      part(".reason").hidden = false;
    }
  };
  function leave() {
    for (const each of [".paint", ".cursor", ".brush"]) part(each).hidden = true;
    part(".actions").hidden = false;
    part(".reason").hidden = card.about.state !== "failed";
    card.loaded = null;
    load(card);
  }
}

// Beginning -------------------------------------------------------------------------------------------------------

(async () => {
  const found = await state();
  ({ models, megabytes, suffixes } = found);
  $("files").accept = suffixes.join();
  $("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
  changed();
  found.pictures.forEach(about => newCard(about.id, about));
  watch();
  tell();
})().catch(error => complain(error.message));
