// Exchanges the page's sections for newer ones as the daemon sends them. The page is whole without it.
"use strict";

(() => {
  const main = document.getElementById("main");
  const said = document.getElementById("said");
  const link = document.getElementById("link");
  /** The HTML of each section as the daemon sent it: what people opened since does not count as a difference. */
  const sent = new Map();
  const known = new Set();
  let retryIn = 5000;

  const parts = (root) => [...root.children].filter((part) => part.id);
  const storms = (root) => [...root.querySelectorAll("[data-storm]")];

  function show(state, text) {
    link.dataset.state = state;
    if (link.textContent !== text) link.textContent = text;
  }

  /** What is open, focused and scrolled stays so. */
  function exchange(old, part) {
    for (const open of old.querySelectorAll("details[open][id]")) {
      const same = part.querySelector("#" + CSS.escape(open.id));
      if (same) same.open = true;
    }
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id ? "#" + CSS.escape(focused.id)
      : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : null);
    const scrolled = [...old.querySelectorAll(".box")].map((box) => box.scrollLeft);
    old.replaceWith(part);
    part.querySelectorAll(".box").forEach((box, at) => { box.scrollLeft = scrolled[at] || 0; });
    const again = key && part.querySelector(key);
    if (again) again.focus({ preventScroll: true });
  }

  /** A section that somebody marks text in waits for the next state. */
  function isMarked(part) {
    const marked = window.getSelection();
    return marked && !marked.isCollapsed && marked.containsNode(part, true);
  }

  function apply(html) {
    const next = new DOMParser().parseFromString(`<main>${html}</main>`, "text/html").querySelector("main");
    if (!next) return;
    const fresh = storms(next).filter((storm) => !known.has(storm.dataset.storm));
    const now = new Set(storms(next).map((storm) => storm.dataset.storm));
    known.clear();
    now.forEach((id) => known.add(id));
    for (const part of parts(next)) {
      const old = document.getElementById(part.id);
      const text = part.outerHTML;
      if (sent.get(part.id) === text || (old && isMarked(old))) continue;
      if (old) exchange(old, part); else main.append(part);
      sent.set(part.id, text);
    }
    const title = document.getElementById("verdict")?.dataset.title;
    if (title) document.title = title;
    if (fresh.length > 3) said.textContent = `${fresh.length} new storms`;
    else if (fresh.length) said.textContent = "New: " + fresh.map((storm) => storm.dataset.said).join("; ");
  }

  function listen() {
    const source = new EventSource("/events");
    source.addEventListener("open", () => { retryIn = 5000; show("live", "live"); });
    source.addEventListener("status", (event) => { show("live", "live"); apply(event.data); });
    source.addEventListener("stale", (event) => show("stale", `nothing new for ${Number(event.data)} s`));
    source.addEventListener("error", () => {
      show("lost", "connection lost, trying again");
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(listen, retryIn);
      retryIn = Math.min(retryIn * 2, 60000);
    });
  }

  for (const part of parts(main)) sent.set(part.id, part.outerHTML);
  for (const storm of storms(main)) known.add(storm.dataset.storm);
  show("wait", "connecting");
  listen();
})();
