(() => {
  "use strict";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Light or dark: the reader's system decides until the button is used.
  const root = document.documentElement;
  const store = (() => { try { return window.localStorage; } catch { return null; } })();
  const read = () => { try { return store?.getItem("harness-theme"); } catch { return null; } };
  if (read()) root.dataset.theme = read();
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const named = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  if (button) {
    button.hidden = false;
    named();
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try { store?.setItem("harness-theme", root.dataset.theme); } catch { /* kept for this page alone */ }
      named();
    });
  }

  const value = (cell) => cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a === "" || b === "") return (a === "") - (b === "");
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };

  const prepare = (table) => {
    const body = table.tBodies[0], heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    const box = table.closest("[data-table]"), status = box.querySelector("[role=status]");
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const numeric = head.classList.contains("n"), was = head.getAttribute("aria-sort");
      const down = was === "none" ? numeric && column > 0 : was === "ascending";
      heads.forEach((each) => each.hasAttribute("aria-sort") && each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row, place) => [value(row.cells[column]), place, row]);
      // What has no value stays at the end in either direction; equal values stay as they were.
      rows.sort(([a, i], [b, j]) => (a === "" || b === "" ? compare(a, b) : (down ? -1 : 1) * compare(a, b)) || i - j);
      body.append(...rows.map(([, , row]) => row));
      filter();
    }));
    const search = box.querySelector("input[type=search]"), kind = box.querySelector("select");
    const every = box.querySelector("[data-all]");
    const words = new Map([...body.rows].map((row) => [row, row.textContent.toLowerCase()]));
    let most = Number(table.dataset.first);
    const filter = () => {
      const wanted = (search?.value || "").toLowerCase().split(/\s+/).filter(Boolean), chosen = kind?.value || "";
      let left = 0;
      for (const row of body.rows) {
        const text = words.get(row);
        row.hidden = !(wanted.every((word) => text.includes(word)) && (!chosen || row.dataset.budget === chosen));
        left += !row.hidden;
        row.classList.toggle("over", left > most);  // fit, but are not shown before the reader asks for all
      }
      if (status) status.textContent = `${Math.min(left, most)} of ${words.size} shown`;
      if (every) every.hidden = left <= most;
    };
    every?.addEventListener("click", () => { most = Infinity; filter(); });
    table.classList.add("ready");
    search?.addEventListener("input", filter);
    kind?.addEventListener("change", filter);
    for (const box_ of all("input[data-column]", box)) {
      const show = () => {
        const column = Number(box_.dataset.column);
        for (const row of [...table.tHead.rows, ...body.rows]) row.cells[column].hidden = !box_.checked;
      };
      box_.addEventListener("change", show);
      show();
    }
    all(".tools,.choose", box).forEach((each) => { each.hidden = false; });
    filter();
  };
  const start = () => all("table.sortable").forEach(prepare);
  start();

  // What the reader has opened stays open, and what the keyboard is at stays so.
  const reached = "a[href],button,input,select,summary,[tabindex]";
  const keyOf = (each) => [each.tagName, each.id, each.getAttribute("href"), each.getAttribute("aria-label"),
    each.closest("figure")?.firstElementChild.textContent, each.tagName === "SUMMARY" && each.textContent].join("\n");
  const replaced = (live, next) => {
    const opened = new Set(all("details[open]>summary", live).map(keyOf));
    const focused = live.contains(document.activeElement) && keyOf(document.activeElement);
    live.replaceWith(next);
    for (const each of all("summary", next)) each.parentElement.open = opened.has(keyOf(each));
    if (focused) all(reached, next).find((each) => keyOf(each) === focused)?.focus({ preventScroll: true });
  };

  // A page of a run that goes on is fetched again from where it came from, and nothing else is.
  const again = async () => {
    const live = document.querySelector("main[data-live]"), pause = document.getElementById("pause");
    if (!live) return;
    if (!pause?.checked && !document.hidden) {
      try {
        const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
        const next = page.querySelector("main");
        if (next) { replaced(live, next); start(); }
      } catch { /* the server has ended; the last state stays */ }
    }
    setTimeout(again, 5000);
  };
  if (document.querySelector("main[data-live]")) setTimeout(again, 5000);
})();
