"use strict";
// No library, no request to another server. Text of files and models is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const state = { models: [], notice: "", limits: { images: 16, bytes: 2 ** 24 }, looks: {}, samples: [], rows: [], token: "", busy: false };
const drawn = new WeakSet(); // files that are samples

function add(parent, tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return parent.appendChild(made);
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const chosen = () => state.models.find((m) => m.name === $("model").value);
const words = (model, name) => model.classes.find((c) => c.name === name)?.words ?? name;
const wait = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function ask(path, options = {}, read = (answer) => answer.json()) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  for (;;) {
    const answer = await fetch(path, { ...options, headers }).catch(() => {
      throw new Error("No answer: the server has stopped, or a chosen file has changed.");
    });
    if (answer.status === 429) {
      await wait(Number(answer.headers.get("Retry-After")) || 1);
      continue;
    }
    if (answer.ok) return read(answer);
    if (answer.status === 401) {
      $("access").hidden = false;
      $("token").focus();
    }
    const told = await answer.json().catch(() => ({}));
    throw new Error(typeof told.detail === "string" ? told.detail : `The server answered ${answer.status}.`);
  }
}

async function start() {
  try {
    const told = await ask("v1/models");
    Object.assign(state, told);
    $("access").hidden = true;
    $("model").replaceChildren(...told.models.map((m) => new Option(m.name, m.name)));
    describe();
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function bars(parent, model, probabilities, below) {
  const list = add(parent, "dl", undefined, "bars");
  for (const { name, words: text, colour } of model.classes) {
    const p = probabilities[name];
    add(list, "dt", text);
    const svg = drawing(list, "0 0 100 1");
    rectangle(svg, { width: Math.max(100 * p, 0.4), height: 1, fill: visible(colour) });
    if (below) rectangle(svg, { x: 100 * below, width: 0.5, height: 1, fill: "currentColor" });
    add(list, "dd", percent(p));
  }
}

function shape(parent, tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
}

const drawing = (parent, viewBox) => shape(parent, "svg", { viewBox, preserveAspectRatio: "none", "aria-hidden": "true" });
const rectangle = (svg, attributes) => shape(svg, "rect", attributes);

function visible(colour) {
  return colour.toLowerCase() === "#000000" ? "currentColor" : colour; // black would vanish in dark mode
}

async function predict(files) {
  files = [...files].filter((f) => f.size || f.type);
  await started;
  const model = chosen();
  if (!model || !files.length) return;
  if (state.busy) return say("Wait until the images before these are predicted.", true);
  state.busy = true;
  let done = 0, failed = 0;
  try {
    for (const batch of batches(files)) {
      say(`Predicting ${done + 1} to ${done + batch.length} of ${files.length} …`);
      const form = new FormData();
      batch.forEach((f) => form.append("images", f, f.name));
      const told = await ask(`v1/predict?model=${encodeURIComponent(model.name)}`, { method: "POST", body: form });
      told.predictions.forEach((row, i) => show({ ...row, model: model.name }, batch[i], model));
      done += batch.length;
      failed += told.predictions.filter((row) => row.error).length;
    }
    say(`${done} ${done === 1 ? "image" : "images"} done${failed ? `, ${failed} without a prediction: see the reason at each` : ""}.`, failed > 0);
  } catch (error) {
    say(`${error.message} ${files.length - done} of ${files.length} images have no prediction.`, true);
  } finally {
    state.busy = false;
  }
}

async function sample() {
  await started; // a press before the models are known waits for them
  const model = chosen(), name = state.samples[0];
  if (!model || !name) return;
  say("Drawing a sample image …");
  try {
    const path = `v1/sample?sample=${encodeURIComponent(name)}&model=${encodeURIComponent(model.name)}`;
    const file = new File([await ask(path, {}, (answer) => answer.blob())], `drawn-${name}.png`, { type: "image/png" });
    state.samples = [...state.samples.slice(1), name]; // another one the next time
    drawn.add(file);
    await predict([file]);
  } catch (error) {
    say(error.message, true);
  }
}

function* batches(files) {
  let batch = [], bytes = 0;
  for (const file of files) {
    if (batch.length && (batch.length >= Math.min(16, state.limits.images) || bytes + file.size > 0.9 * state.limits.bytes)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) yield batch;
}

function show(row, file, model) {
  state.rows.push(row);
  const item = add($("results"), "li");
  const picture = new Image();
  picture.alt = "";
  picture.onload = () => URL.revokeObjectURL(picture.src);
  picture.onerror = () => { URL.revokeObjectURL(picture.src); const blank = document.createElement("span"); blank.className = "blank"; blank.textContent = row.error ? "" : "no preview"; picture.replaceWith(blank); };
  picture.src = URL.createObjectURL(file);
  item.append(picture);
  const text = add(item, "div");
  if (row.error) add(text, "p", "no prediction", "says");
  else add(text, "p", words(model, row.predicted), "says");
  add(text, "div", row.image || "pasted image", "name");
  if (state.models.length > 1) add(text, "div", row.model, "name");
  if (drawn.has(file)) add(text, "div", model.synthetic ? "a drawing by this server, like those the model was trained on" : "a drawing by this server, not tissue: what the model says of it means nothing", model.synthetic ? "small" : "caution");
  if (row.in_training) add(text, "div", "a training or validation image of this model, which does better on it than on new ones", "caution");
  if (row.error) add(text, "div", row.error, "error");
  else {
    if (row.unlike_training?.length) add(text, "div", `unlike the training images in ${row.unlike_training.map((name) => state.looks[name] ?? name).join("; ")}: the prediction may be unreliable`, "caution");
    if (row.abstain) add(text, "div", unsure(model.unsure_below.image), "caution");
    bars(item, model, row.probabilities, model.unsure_below.image);
    if (row.similar) alike(item, row, model);
    offer(item, row, file, model, model.explains[0]);
  }
  $("outcome").hidden = false;
  summarise(model);
}

const unsure = (below) => `Unsure: no class reaches ${percent(below)} (the line). Take it as no answer.`;

function alike(item, row, model) {
  const details = add(item, "details", undefined, "alike");
  add(details, "summary", "Most similar training images");
  const list = add(details, "ol");
  for (const { image, class: name, distance, picture } of row.similar) {
    const one = add(list, "li");
    if (picture) Object.assign(add(one, "img"), { src: picture, alt: "" });
    add(one, "div", `${words(model, name)}, distance ${distance.toFixed(2)}`);
    add(one, "div", image, "name");
  }
}

const ASKED = {
  activation: ["Where does the model look?", "Asking the model once …"],
  occlusion: ["Where does the model look?", "Hiding one place after the other. This takes as long as some 140 predictions …"],
};

function offer(item, row, file, model, method, words = ASKED[method][0]) {
  const button = add(item, "button", words, "why");
  button.type = "button";
  add(button, "span", ` ${row.image || "pasted image"}`, "hidden");
  button.addEventListener("click", async () => {
    button.disabled = true;
    say(ASKED[method][1]);
    try {
      const form = new FormData();
      form.append("images", file, file.name);
      const told = await ask(`v1/explain?picture=true&method=${method}&model=${encodeURIComponent(model.name)}`, { method: "POST", body: form });
      const [found] = told.explanations;
      if (found.error) throw new Error(found.error);
      const slider = look(item, found, told.scale);
      const kept = document.activeElement === button || document.activeElement === document.body;
      button.remove();
      if (method === "activation") offer(item, row, file, model, "occlusion", "Check it by hiding places");
      if (kept) slider.focus();
      say(`Map of ${row.image || "pasted image"}: ${found.verdict}`);
    } catch (error) {
      button.disabled = false;
      say(error.message, true);
    }
  });
}

function look(item, found, scale) {
  const figure = add(item, "figure", undefined, "look");
  const layers = zoomable(figure, "The image and its map");
  const picture = add(layers, "img");
  picture.alt = "The image";
  picture.src = found.picture;
  const map = add(layers, "img", undefined, "map");
  const { x, y, lost } = found.peak;
  const most = scale.method === "activation" ? `the largest value, ${lost.toFixed(2)}, is` : `most probability, ${lost.toFixed(2)}, is lost`;
  map.alt = found.flat ? "A flat map: no region stands out" : `The map: ${most} at ${Math.round(100 * x)} % from the left and ${Math.round(100 * y)} % from the top`;
  map.src = found.overlay;
  const label = add(figure, "label", "Opacity of the map ");
  const slider = add(label, "input");
  Object.assign(slider, { type: "range", min: 0, max: 100, step: 5, value: 60 });
  const fade = () => { map.style.opacity = slider.value / 100; slider.setAttribute("aria-valuetext", `${slider.value} %`); };
  slider.addEventListener("input", fade);
  fade();
  const legend = add(figure, "div", undefined, "legend small");
  add(legend, "span", `\u2212${scale.limit}`);
  const svg = drawing(legend, `0 0 ${scale.colours.length} 1`);
  scale.colours.forEach((fill, i) => rectangle(svg, { x: i, width: 1.05, height: 1, fill }));
  add(legend, "span", `+${scale.limit}`);
  add(figure, "figcaption", `Yellow: ${scale.words}. ${scale.method === "activation" ? `Blue: against it. ${found.verdict}` : `Blue: probability gained. ${found.verdict} Check: ${found.scores}.`}`, "small");
  return slider;
}

function summarise(model) {
  const rows = state.rows.filter((r) => r.model === model.name);
  const good = rows.filter((r) => !r.error);
  const box = $("summary");
  box.replaceChildren();
  const counts = model.classes.map((c) => [c.words, good.filter((r) => r.predicted === c.name).length]).filter(([, n]) => n);
  const parts = counts.map(([text, n]) => `${n} ${text}`);
  if (rows.length > good.length) parts.push(`${rows.length - good.length} without a prediction`);
  add(box, "p", `${model.name}, ${rows.length} ${rows.length === 1 ? "image" : "images"}: ${parts.join(", ")}.`, "says");
  if (model.synthetic) add(box, "div", "This model was trained on drawn images, so its answers about real tissue mean nothing.", "caution");
  const learnt = good.filter((r) => r.in_training).length;
  if (learnt) add(box, "div", `Training or validation images of this model: ${learnt} of ${good.length}. It does better on them than on new ones.`, "caution");
  const unlike = good.filter((r) => r.unlike_training?.length).length;
  if (unlike) add(box, "div", `Unlike the training images: ${unlike} of ${good.length}. Predictions of these may be unreliable.`, "caution");
  if (good.length > 1) {
    add(box, "div", "The mean of these images. It describes a patient only if all images are of that patient.", "small");
    const mean = Object.fromEntries(model.classes.map((c) => [c.name, good.reduce((sum, r) => sum + r.probabilities[c.name], 0) / good.length]));
    const below = model.unsure_below.case, sets = model.case_sets;
    if (below && Math.max(...Object.values(mean)) < below) add(box, "div", unsure(below), "caution");
    if (sets) {
      const kept = model.classes.filter((c) => mean[c.name] >= sets.at_least - 1e-6).map((c) => c.words);
      add(box, "div", `Possible: ${kept.join(", ") || "none of the classes"}. The true class is among these for ${+(100 * sets.share).toFixed(1)} % of new patients like those of the validation.`, "small");
    }
    bars(box, model, mean, below);
  }
}

function describe() {
  const model = chosen();
  if (!model) return;
  const list = document.createElement("dl");
  list.className = "facts";
  const fact = (name, text) => { add(list, "dt", name); add(list, "dd", text); };
  fact("Classes", model.classes.map((c) => c.words).join(", "));
  fact("Trained on", model.synthetic ? "a synthetic sample: drawn images, so its answers about real tissue mean nothing" : "real images");
  fact("Protocol", `${model.protocol}${model.members ? `, for each of its ${model.members} models alone` : ""}: ${model.protocol_means}`);
  const figures = model.figures;
  if (figures) {
    const interval = (key) => Array.isArray(figures.intervals?.[key]) ? ` (${figures.intervals[key].map((v) => v.toFixed(3)).join(" to ")})` : "";
    const names = { accuracy: "accuracy", macro_f1: "macro-F1", balanced_accuracy: "balanced accuracy", bal_acc: "balanced accuracy", roc_auc: "ROC-AUC", case_f1: "F1 by case" };
    const long = { bal_acc: "balanced_accuracy" };
    const told = Object.entries(names).filter(([k]) => typeof figures.test[k] === "number");
    fact("Test", `${told.map(([k, text]) => `${text} ${figures.test[k].toFixed(3)}${interval(long[k] ?? k)}`).join("; ")}; ${figures.images} images of ${figures.cases} cases${told.some(([k]) => interval(long[k] ?? k)) ? "; in brackets, 95 % intervals" : ""}`);
  } else fact("Test", model.members ? `none of the mean of ${model.members} models: those of a cross-validation have together learnt from all images` : "no figures are known to this file");
  if (model.threshold !== null) fact("Threshold", `${model.threshold} on the probability of ${model.classes[1].words}`);
  fact("Network", `${model.backbone ?? "unknown"}, ${model.size} x ${model.size} pixels`);
  fact("Use", model.notice);
  $("about").replaceChildren(list);
}

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function cell(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // no formula in a spreadsheet
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function asCsv() {
  const classes = [...new Set(state.rows.flatMap((r) => state.models.find((m) => m.name === r.model).classes.map((c) => c.name)))];
  const head = ["image", "model", "predicted", ...classes.map((c) => `p_${c}`), "error", "abstain", "in_training", "unlike_training", "notice"];
  const lines = state.rows.map((r) => [r.image, r.model, r.predicted, ...classes.map((c) => r.probabilities?.[c]), r.error, r.abstain, r.in_training, r.unlike_training?.join(" "), state.notice]);
  return [head, ...lines].map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

$("choose").addEventListener("click", () => $("files").click());
$("sample").addEventListener("click", sample);
$("files").addEventListener("change", () => { predict($("files").files); $("files").value = ""; });
$("model").addEventListener("change", describe);
$("access").addEventListener("submit", (event) => { event.preventDefault(); state.token = $("token").value; started = start(); });
$("clear").addEventListener("click", () => { state.rows = []; $("results").replaceChildren(); $("outcome").hidden = true; say(""); $("choose").focus(); });
$("csv").addEventListener("click", () => save("predictions.csv", "text/csv", asCsv()));
$("json").addEventListener("click", () => save("predictions.json", "application/json", JSON.stringify({ notice: state.notice, predictions: state.rows }, null, 1)));
document.addEventListener("paste", (event) => predict(event.clipboardData?.files ?? []));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); predict(event.dataTransfer.files); });
let started = start();
