// What a person with a screen reader, a keyboard or weak eyes would stumble over on this page. Returns sentences.
const found = [];
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const name = (element) => {
  const by = (element.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
  return (element.getAttribute("aria-label") || by.map((id) => document.getElementById(id)?.textContent).join(" ")
    || element.textContent || "").trim();
};
const where = (element) => {
  const text = (element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
  return `${element.tagName.toLowerCase()}#${element.id}.${element.getAttribute("class") || ""} "${text}"`;
};

// Landmarks and headings.
if (!document.documentElement.lang) found.push("the page says no language");
if (!document.title) found.push("the page has no title");
for (const [selector, wanted] of [["main", 1], ["body > header", 1], ["nav", 1], ["h1", 1]]) {
  const count = all(selector).length;
  if (count !== wanted) found.push(`${count} of ${selector}, not ${wanted}`);
}
if (!all("footer").length) found.push("there is no footer");
for (const nav of all("nav, section")) if (!name(nav)) found.push(`${where(nav)} has no name`);
let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6")) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) found.push(`${where(heading)} comes after a heading of level ${level}`);
  if (!heading.textContent.trim()) found.push(`${where(heading)} is empty`);
  level = own;
}
const ids = all("[id]").map((element) => element.id);
for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) found.push(`the id ${id} is there twice`);
for (const link of all('a[href^="#"]')) {
  if (!document.getElementById(link.getAttribute("href").slice(1))) found.push(`${where(link)} leads nowhere`);
}
if (!all('[aria-live="polite"]').length) found.push("nothing announces what is new");

// Tables, pictures, and what is pressed.
for (const table of all("table")) {
  if (!table.caption?.textContent.trim()) found.push(`${where(table)} has no caption`);
  for (const head of all("th", table)) if (!head.scope) found.push(`${where(head)} has no scope`);
  for (const row of all("tbody tr:not(.more)", table)) if (!row.querySelector("th[scope=row]")) found.push(`${where(row)} has no head`);
  for (const cell of all("tbody tr:not(.more) > *", table)) if (!cell.dataset.label) found.push(`${where(cell)} has no label on a phone`);
}
for (const picture of all("img, svg")) {
  if (picture.getAttribute("aria-hidden") !== "true" && !(picture.getAttribute("role") === "img" && name(picture))) {
    found.push(`${where(picture)} has no name`);
  }
}
for (const pressed of all("a[href], button, summary, input, select")) if (!name(pressed)) found.push(`${where(pressed)} has no name`);
if (all("[style]").length) found.push("there is inline style");
if (all("[onclick], [onload], [onerror]").length) found.push("there is inline script");

// Nothing makes the page scroll sideways.
const overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
if (overflow > 0) {
  const wide = all("body *").filter((element) => element.getBoundingClientRect().right > innerWidth + 1).slice(0, 5);
  found.push(`${overflow} px too wide: ${wide.map(where).join("; ")}`);
}

// Contrast of every text that is seen.
const parse = (color) => {
  const parts = (color.match(/[\d.]+/g) || []).map(Number);
  return parts.length >= 3 ? { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 } : { rgb: [0, 0, 0], alpha: 0 };
};
const over = (top, under) => top.rgb.map((value, at) => value * top.alpha + under[at] * (1 - top.alpha));
const ground = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const layer = parse(getComputedStyle(at).backgroundColor);
    layers.push(layer);
    if (layer.alpha === 1) break;
  }
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
};
const luminance = (rgb) => {
  const [r, g, b] = rgb.map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || element.closest(".hidden, script, noscript, title, desc")) continue;
  if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
  const style = getComputedStyle(element);
  const color = parse(element.closest("svg") ? style.fill : style.color);
  const under = ground(element);
  const [light, dark] = [luminance(over(color, under)), luminance(under)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  texts += 1;
  if (ratio < (isLarge ? 3 : 4.5)) found.push(`${where(element)} has a contrast of ${ratio.toFixed(2)}`);
  if (size < 11) found.push(`${where(element)} is ${size} px small`);
}
if (texts < 20) found.push(`only ${texts} texts are seen`);
return found;
