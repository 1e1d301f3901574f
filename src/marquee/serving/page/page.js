"use strict";
// The page that tries a run: it asks the same endpoints as everybody else, and puts texts in as texts.

const byId = (id) => document.getElementById(id);
let token = "";
let run = null;
const liked = [];

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.suggestions = error.suggestions || [];
  }
}

async function ask(path, body, type) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers };
  if (body !== undefined) {
    options.method = "POST";
    options.body = type ? body : JSON.stringify(body);
    headers["Content-Type"] = type || "application/json";
  }
  let answer, told;
  try {
    answer = await fetch(path, options);
    told = await answer.json();
  } catch (error) {
    throw new Refused(0, { message: "The service does not answer. Is it running?" });
  }
  if (answer.status === 401) showDoor();
  if (!answer.ok) throw new Refused(answer.status, told.error || { message: `Status ${answer.status}` });
  return told;
}

function showDoor() {
  byId("door").hidden = false;
  byId("token").focus();
}

function complain(error, use) {
  const place = byId("trouble");
  place.hidden = !error;
  place.replaceChildren();
  if (!error) return;
  if (error.status === 401) return (place.textContent = token ? "That is not the token." : "");
  place.append(error.message || String(error));
  if (use && error.suggestions && error.suggestions.length) {
    const row = make("div");
    for (const name of error.suggestions) {
      const button = make("button", String(name));
      button.type = "button";
      button.addEventListener("click", () => use(name));
      row.append(button);
    }
    place.append(row);
  }
}

async function trying(action, use) {
  complain(null);
  try {
    await action();
  } catch (error) {
    complain(error, use);
  }
}

function onSubmit(form, action, use) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    trying(action, use);
  });
}

// Recommend: titles with suggestions, chips, and reasons ------------------------------------------------------------

function setUpTitles() {
  const input = byId("title"), list = byId("suggestions");
  let chosen = -1, found = [], latest = 0, timer;

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    chosen = -1;
  }
  function mark(number) {
    chosen = number;
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === number)));
    if (number >= 0) {
      input.setAttribute("aria-activedescendant", list.children[number].id);
      list.children[number].scrollIntoView({ block: "nearest" });
    }
  }
  function take(item) {
    input.value = "";
    close();
    if (!liked.some((own) => own.item_id === item.item_id)) liked.push(item);
    showLiked();
  }
  async function suggest() {
    const text = input.value.trim(), number = ++latest;
    if (!text) return close();
    await trying(async () => {
      const told = await ask(`v1/items?n=8&q=${encodeURIComponent(text.slice(0, 300))}`);
      if (number !== latest) return; // a later letter was faster
      found = told.items;
      list.replaceChildren(...found.map((item, place) => {
        const option = make("li", item.title);
        option.id = `option-${place}`;
        option.setAttribute("role", "option");
        option.setAttribute("aria-selected", "false");
        option.addEventListener("mousedown", (event) => { event.preventDefault(); take(item); });
        return option;
      }));
      list.hidden = !found.length;
      input.setAttribute("aria-expanded", String(!!found.length));
      chosen = -1;
    });
  }
  input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(suggest, 80); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const open = !list.hidden && found.length;
    if (event.key === "Escape") return close();
    if (event.key === "ArrowDown" && open) { event.preventDefault(); mark((chosen + 1) % found.length); }
    if (event.key === "ArrowUp" && open) { event.preventDefault(); mark((chosen - 1 + found.length) % found.length); }
    if (event.key === "Enter") {
      event.preventDefault();
      if (open) take(found[Math.max(chosen, 0)]);
    }
  });
  byId("by-title").addEventListener("submit", (event) => event.preventDefault());
}

function showLiked() {
  byId("liked").replaceChildren(...liked.map((item, place) => {
    const entry = make("li"), button = make("button", item.title);
    button.type = "button";
    button.setAttribute("aria-label", `Remove ${item.title}`);
    button.addEventListener("click", () => {
      liked.splice(place, 1);
      showLiked();
      byId("title").focus();
    });
    entry.append(button);
    return entry;
  }));
  if (!liked.length) return byId("items").replaceChildren();
  trying(() => recommend({ history: liked.map((item) => item.item_id) }));
}

async function recommend(who) {
  const told = await ask("v1/recommend", { ...who, k: 10, explain: true });
  byId("items").replaceChildren(...told.answers[0].items.map((item) => {
    const entry = make("li", item.title);
    if (item.because && item.because.length) {
      const names = item.because.map((reason) => reason.title).join("; ");
      entry.append(make("span", `because of ${names}`, "because"));
    }
    return entry;
  }));
  if (!told.answers[0].items.length) throw new Error("There is nothing left to recommend.");
}

function setUpRecommend() {
  byId("by-title").hidden = !run.reads_histories;
  if (run.reads_histories) setUpTitles();
  const user = () => recommend({ user: byId("user").value.trim() });
  onSubmit(byId("by-user"), user, (name) => { byId("user").value = name; trying(user); });
  const columns = run.user_features || [];
  byId("by-features").hidden = !columns.length;
  for (const name of columns) {
    const label = make("label", `${name} `), input = make("input");
    input.name = name;
    input.size = 10;
    label.append(input);
    byId("columns").append(label);
  }
  onSubmit(byId("by-features"), () => {
    const given = {};
    for (const input of byId("columns").querySelectorAll("input")) if (input.value) given[input.name] = input.value;
    return recommend({ features: given });
  });
}

// The other kinds of runs -------------------------------------------------------------------------------------------

function place(id) {
  return byId(id).querySelector(".told");
}

function showLabel(where, prediction) {
  const chances = make("div", undefined, "chances");
  const rows = Object.entries(prediction.probabilities).sort((one, other) => other[1] - one[1]).slice(0, 12);
  for (const [label, value] of rows) {
    const meter = make("meter");
    meter.value = value ?? 0;
    meter.setAttribute("aria-label", label);
    chances.append(make("span", label), meter, make("span", (value ?? 0).toFixed(3)));
  }
  where.replaceChildren(make("p", prediction.label || "none of the labels", "label"), chances);
  if (prediction.slots) where.append(make("p", prediction.slots, "soft"));
  if (prediction.words && prediction.words.length) {
    where.append(make("h3", "Words that spoke for it, and against it"));
    const words = make("ul", undefined, "words");
    for (const { word, share } of prediction.words) {
      const entry = make("li", word, share >= 0 ? "for" : "against");
      entry.append(" ", make("span", `${share >= 0 ? "+" : "\u2212"}${Math.abs(share).toFixed(2)}`, "number"));
      words.append(entry);
    }
    where.append(words);
  }
}

function setUpText() {
  onSubmit(byId("predict-text").querySelector("form"), async () => {
    const told = await ask("v1/predict", { texts: [byId("text").value], explain: true });
    showLabel(place("predict-text"), told.predictions[0]);
  });
}

function setUpImage() {
  const drop = byId("drop"), picture = byId("picture");
  const look = (file) => file && trying(async () => {
    if (picture.src) URL.revokeObjectURL(picture.src);
    picture.hidden = true;
    place("predict-image").replaceChildren();
    const told = await ask("v1/predict", file, file.type.startsWith("image/") ? file.type : "image/unknown");
    picture.src = URL.createObjectURL(file);
    picture.alt = `The picture that was labelled ${told.predictions[0].label}`;
    picture.hidden = false;
    showLabel(place("predict-image"), told.predictions[0]);
  });
  byId("image").addEventListener("change", (event) => look(event.target.files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") look(event.dataTransfer.files[0]);
    });
  }
}

function setUpGenerate() {
  const fields = {};
  for (const [name, value] of Object.entries(run.takes)) {
    if (Array.isArray(value)) continue;
    const label = make("label", `${name} `), input = fields[name] = make("input");
    input.value = name === "tokens" ? 200 : value;
    input.size = typeof value === "string" ? 24 : 7;
    label.append(input);
    byId("settings").append(label);
  }
  onSubmit(byId("generate").querySelector("form"), async () => {
    const settings = {};
    for (const [name, input] of Object.entries(fields)) {
      settings[name] = typeof run.takes[name] === "number" ? Number(input.value) : input.value;
    }
    const shown = run.formats.find((own) => ["text", "abc", "png"].includes(own)) || run.formats[0];
    const told = await ask("v1/generate", { seed: Number(byId("seed").value), settings, format: shown });
    if (told.made.content !== undefined) return place("generate").replaceChildren(make("pre", told.made.content));
    const bytes = Uint8Array.from(atob(told.made.content_base64), (letter) => letter.charCodeAt(0));
    const image = make("img");
    image.alt = "What was made";
    image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    place("generate").replaceChildren(image);
  });
}

function lines(id) {
  return byId(id).value.split("\n").map((line) => line.trim()).filter(Boolean);
}

function setUpReply() {
  onSubmit(byId("reply").querySelector("form"), async () => {
    const told = await ask("v1/reply", { to: lines("to"), candidates: lines("candidates") });
    const list = make("ol");
    for (const one of told.replies) list.append(make("li", `${one.reply} (${one.score.toFixed(3)})`));
    place("reply").replaceChildren(list);
  });
}

function setUpAdvise() {
  onSubmit(byId("advise").querySelector("form"), async () => {
    const told = await ask("v1/advise", { position: byId("position").value });
    const list = make("ol");
    for (const one of told.moves) list.append(make("li", `${one.move}: ${one.probability.toFixed(3)}`));
    place("advise").replaceChildren(list);
  });
}

function setUpChat() {
  const messages = [];
  onSubmit(byId("chat").querySelector("form"), async () => {
    const message = byId("message").value.trim();
    if (!message) return;
    const told = await ask("v1/chat", { messages: [...messages, message].slice(-50) });
    messages.push(message);
    byId("message").value = "";
    place("chat").append(make("p", message, "soft"), make("p", told.turn.reply));
  });
}

async function begin() {
  run = await ask("v1/run");
  byId("door").hidden = true;
  document.title = `Marquee: ${run.run}`;
  byId("name").textContent = run.run;
  byId("does").textContent = `${run.model || "This run"} ${run.does}${run.data ? `, trained on ${run.data}` : ""}.`;
  const [metric] = Object.keys(run.metrics).filter((name) => name === `test/${run.monitor}`);
  const facts = { protocol: run.protocol, fingerprint: run.fingerprint.slice(0, 16) };
  if (metric) facts[metric] = run.metrics[metric].toFixed(4);
  byId("facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value).map(([name, value]) => {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    return pair;
  }));
  if (!run.ready) complain(new Error("The run is not ready yet: its golden requests have not come out."));
  const kinds = { recommend: setUpRecommend, generate: setUpGenerate, reply: setUpReply, advise: setUpAdvise, chat: setUpChat };
  for (const [name, setUp] of Object.entries(kinds)) {
    if (!run.endpoints.includes(`/v1/${name}`) || !byId(name).hidden) continue;
    byId(name).hidden = false;
    setUp();
  }
  if (run.endpoints.includes("/v1/predict")) {
    const section = byId(`predict-${run.takes}`);
    if (section && section.hidden) {
      section.hidden = false;
      (run.takes === "text" ? setUpText : setUpImage)();
    }
  }
}

onSubmit(byId("door"), () => {
  token = byId("token").value;
  return begin();
});
trying(begin);
